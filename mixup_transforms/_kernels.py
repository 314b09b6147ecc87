"""How a mix runs over memory: the work of the kernels, without their checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import get_worker_info

from mixup_transforms import _checks

# Dtypes that some versions of torch can hold but not index, and what has as many bits.
_INDEXABLE = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64} | {
    getattr(torch, name): torch.uint8 for name in dir(torch) if name.startswith("float8_")
}

# From this many elements a sample is worth a call of its own.
LARGE_SAMPLE = 16_384

# paint(i, own, other, out) writes the mix of sample i into out, which may be own itself.
_Paint = Callable[[int, Tensor, Tensor, Tensor], object]
# painter(samples, weights) returns the paint of a batch.
_Painter = Callable[[Sequence[Tensor], Tensor], _Paint]
# whole(own, views, weights, out) mixes samples with their gathered partners, into out where given.
_Whole = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def blend(
    values: Tensor, partner: Tensor, lam: Tensor, *, others: Tensor | None, inplace: bool
) -> Tensor:
    """Weigh each sample by ``lam``, and its partner by the rest."""
    # Read now, since a look at λ on a device would wait for it.
    whole = partial(_lerp_whole, pure=_pure_rows(lam))
    return _mix(
        values, partner, lam, others=others, inplace=inplace, painter=_lerp_painter, whole=whole
    )


def blend_classes(
    labels: Tensor, partner: Tensor, lam: Tensor, num_classes: int, *, others: Tensor | None
) -> Tensor:
    """Weigh each sample's class by ``lam`` and its partner's by the rest, as rows ``(B, C)``.

    To the bit what :func:`blend` makes of one-hot rows, of which it needs none.
    """
    rows, share = _moved(labels.device, partner.long(), lam.float())
    own = labels.long().unsqueeze(1)
    other = take(labels if others is None else others, rows).long().unsqueeze(1)
    share = share.unsqueeze(1)
    mixed = share.new_zeros(own.shape[0], num_classes)
    if _checks.readable(labels):
        return mixed.scatter_(1, own, share).scatter_add_(1, other, 1 - share)
    mixed.scatter_(1, own.clamp(0, num_classes - 1), share)
    mixed.scatter_add_(1, other.clamp(0, num_classes - 1), 1 - share)
    outside = (own < 0) | (own >= num_classes) | (other < 0) | (other >= num_classes)
    return mixed.masked_fill_(outside, torch.nan)


def paste(
    images: Tensor, partner: Tensor, box: Tensor, *, others: Tensor | None, inplace: bool
) -> Tensor:
    """Show the partner inside the box, cut out at the same place."""
    return _mix(
        images,
        partner,
        box,
        others=others,
        inplace=inplace,
        painter=partial(_box_painter, view=_cut_out),
        whole=_box_whole,
    )


def paste_resized(
    images: Tensor,
    partner: Tensor,
    box: Tensor,
    *,
    others: Tensor | None,
    inplace: bool,
    nearest: bool,
) -> Tensor:
    """Show the whole partner inside the box, resized to fit."""
    return _mix(
        images,
        partner,
        box,
        others=others,
        inplace=inplace,
        painter=partial(_box_painter, view=partial(_resized, nearest=nearest)),
        whole=partial(_resized_whole, nearest=nearest),
        by_sample=True,
    )


def select(
    images: Tensor, partner: Tensor, mask: Tensor, *, others: Tensor | None, inplace: bool
) -> Tensor:
    """Show the partner where the mask is false."""
    return _mix(
        images,
        partner,
        mask,
        others=others,
        inplace=inplace,
        painter=_mask_painter,
        whole=_mask_whole,
    )


def _mix(
    values: Tensor,
    partner: Tensor,
    weights: Tensor,
    *,
    others: Tensor | None,
    inplace: bool,
    painter: _Painter,
    whole: _Whole,
    by_sample: bool = False,
) -> Tensor:
    """Mix in the way that suits size, device and autograd: the one place that chooses.

    On the CPU large samples are painted one by one: each result is written once, and in place one
    spare sample is enough. Small ones are gathered, for few calls. Autograd and ``torch.compile``
    get an expression that writes into nothing. ``by_sample`` is for a ``whole`` that does more work
    than the painter.
    """
    inplace = inplace and not isinstance(values, Unstacked)
    pool = values if others is None else others
    known = _checks.readable(partner) and _checks.readable(weights)
    if torch.is_grad_enabled() and (values.requires_grad or pool.requires_grad):
        known = False
    large = by_sample or values.numel() >= LARGE_SAMPLE * values.shape[0]
    if known and large and values.is_cpu:
        return _walk(values, partner.tolist(), weights, painter, pool, inplace=inplace)
    rows, weights = _moved(values.device, partner.long(), weights)
    views = take(pool, rows)
    if known:
        return whole(values, views, weights, values if inplace else views)
    mixed = whole(values, views, weights, None)
    return values.copy_(mixed) if inplace else mixed


def _walk(
    values: Tensor,
    partner: list[int],
    weights: Tensor,
    painter: _Painter,
    pool: Tensor,
    *,
    inplace: bool,
) -> Tensor:
    """Paint sample by sample, so that each sees its partner's original values."""
    own = _samples(values)
    paint = painter(own, weights)
    if not inplace or pool is not values:
        mixed = values if inplace else _empty_like(values)
        others = own if pool is values else _samples(pool)
        for i, (j, out) in enumerate(zip(partner, mixed.unbind(), strict=True)):
            paint(i, own[i], others[j], out)
        return mixed
    cycles = _cycles(partner)
    if cycles is None:
        mixed = _walk(values, partner, weights, painter, pool, inplace=False)
        return values.copy_(mixed)
    for members in cycles:
        # The last of a cycle needs the first, which by then is overwritten.
        first = own[members[0]].clone()
        for i in members[:-1]:
            paint(i, own[i], own[partner[i]], own[i])
        paint(members[-1], own[members[-1]], first, own[members[-1]])
    return values


def _cycles(partner: list[int]) -> list[list[int]] | None:
    """Split a permutation into its cycles; None where two samples share a partner."""
    if len(set(partner)) < len(partner):
        return None
    cycles, seen = [], [False] * len(partner)
    for start in range(len(partner)):
        members, i = [], start
        while not seen[i]:
            seen[i] = True
            members.append(i)
            i = partner[i]
        if members:
            cycles.append(members)
    return cycles


def _lerp_painter(samples: Sequence[Tensor], lam: Tensor) -> _Paint:
    lams = lam.tolist()
    if not samples or samples[0].is_floating_point():

        def blended(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
            return torch.lerp(other, own, lams[i], out=out)

    else:
        # One float copy of a sample at a time, never of the batch.
        dtype = _working_dtype(samples[0].dtype)
        x, y = (torch.empty_like(samples[0], dtype=dtype) for _ in range(2))

        def blended(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
            mixed = torch.lerp(x.copy_(other), y.copy_(own), lams[i], out=x)
            return out.copy_(_rounded(mixed, out.dtype))

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
        if 0 < lams[i] < 1:
            return blended(i, own, other, out)
        source = own if lams[i] else other
        return out if source is out else out.copy_(source)

    return paint


def _lerp_whole(
    own: Tensor, views: Tensor, lam: Tensor, out: Tensor | None, *, pure: Tensor | None
) -> Tensor:
    dtype = _working_dtype(own.dtype)
    weight = lam.to(dtype).view(-1, *[1] * (own.ndim - 1))
    if out is None:
        mixed = torch.lerp(views.to(dtype), own.to(dtype), weight)
        mixed = _rounded(mixed, own.dtype).to(own.dtype)
        return _where(weight == 1, own, _where(weight == 0, views, mixed))
    if pure is not None:
        (pure,) = _moved(own.device, pure)
        kept = _where(weight[pure] == 1, take(own, pure), take(views, pure))
    if dtype == own.dtype:
        torch.lerp(views, own, weight, out=out)
    else:
        # Through a small float copy, which the CPU's caches can hold.
        rows = max(1, LARGE_SAMPLE * len(own) // max(1, own.numel())) if own.is_cpu else len(own)
        for part in zip(*(torch.split(t, rows) for t in (views, own, weight, out)), strict=True):
            other, mine, share, target = part
            mixed = torch.lerp(other.to(dtype), mine.to(dtype), share)
            target.copy_(_rounded(mixed, own.dtype))
    if pure is not None:
        _bits(out)[pure] = _bits(kept)
    return out


def _pure_rows(lam: Tensor) -> Tensor | None:
    """Return the samples that stay or become another bit for bit; None for none or unknown."""
    if not _checks.readable(lam):
        return None
    pure = [i for i, share in enumerate(lam.tolist()) if share in (0, 1)]
    return torch.tensor(pure, device="cpu") if pure else None


def _box_painter(
    samples: Sequence[Tensor], box: Tensor, *, view: Callable[[Tensor, list[int]], Tensor]
) -> _Paint:
    boxes = box.tolist()

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor) -> None:
        x1, y1, x2, y2 = boxes[i]
        if out is not own:
            out.copy_(own)
        if x1 < x2 and y1 < y2:
            out[..., y1:y2, x1:x2] = view(other, boxes[i])

    return paint


def _cut_out(image: Tensor, box: list[int]) -> Tensor:
    x1, y1, x2, y2 = box
    return image[..., y1:y2, x1:x2]


def _box_whole(own: Tensor, views: Tensor, box: Tensor, out: Tensor | None) -> Tensor:
    height, width = own.shape[-2:]
    x1, y1, x2, y2 = box.view(-1, 4, 1, 1).unbind(1)
    x = torch.arange(width, device=box.device)
    y = torch.arange(height, device=box.device)[:, None]
    outside = ~((x1 <= x) & (x < x2) & (y1 <= y) & (y < y2))
    return _mask_whole(own, views, outside, out)


def _mask_painter(samples: Sequence[Tensor], mask: Tensor) -> _Paint:
    masks = mask.unbind()

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
        return torch.where(masks[i], _bits(own), _bits(other), out=_bits(out))

    return paint


def _mask_whole(own: Tensor, views: Tensor, mask: Tensor, out: Tensor | None) -> Tensor:
    mask = mask.view(len(own), *[1] * (own.ndim - 3), *own.shape[-2:])
    if out is None:
        return _where(mask, own, views)
    torch.where(mask, _bits(own), _bits(views), out=_bits(out))
    return out


def _resized(image: Tensor, box: list[int], *, nearest: bool) -> Tensor:
    """Resize an image ``(…, H, W)`` in at least float32."""
    x1, y1, x2, y2 = box
    height, width = y2 - y1, x2 - x1
    pixels = image.to(_working_dtype(image.dtype)).reshape(1, -1, *image.shape[-2:])
    resize = partial(
        F.interpolate, mode="nearest-exact" if nearest else "bilinear", antialias=not nearest
    )
    # To a width of 1, unlike a height of 1, torch's antialiased resize repeats the first row.
    narrow = width == 1
    resized = resize(pixels.mT, (width, height)).mT if narrow else resize(pixels, (height, width))
    resized = _rounded(resized.reshape(*image.shape[:-2], height, width), image.dtype)
    return resized.to(image.dtype)


def _resized_whole(
    own: Tensor, views: Tensor, box: Tensor, out: Tensor | None, *, nearest: bool
) -> Tensor:
    """Resize the partners into their boxes as matrix products, whatever the boxes hold."""
    x1, y1, x2, y2 = box.unbind(1)
    height, width = own.shape[-2:]
    inner = [1] * (own.ndim - 3)
    if nearest:
        down = _nearest(y1, y2, height).view(-1, *inner, height, 1)
        across = _nearest(x1, x2, width).view(-1, *inner, 1, width)
        placed = torch.take_along_dim(torch.take_along_dim(_bits(views), down, -2), across, -1)
        placed = _retyped(placed, own.dtype)
    else:
        pixels = views.to(_working_dtype(own.dtype))
        down = _triangles(y1, y2, height, pixels.dtype).view(-1, *inner, height, height)
        across = _triangles(x1, x2, width, pixels.dtype).view(-1, *inner, width, width)
        placed = _rounded(down @ pixels @ across.mT, own.dtype).to(own.dtype)
    return _box_whole(own, placed, box, out)


def _centres(low: Tensor, high: Tensor, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return where each pixel of a box lies in the partner, and how many pixels it stands for."""
    scale = length / (high - low).clamp(min=1).unsqueeze(1).to(dtype)
    pixel = torch.arange(length, device=low.device, dtype=dtype)
    return (pixel - low.unsqueeze(1) + 0.5) * scale, scale


def _nearest(low: Tensor, high: Tensor, length: int) -> Tensor:
    centre, _ = _centres(low, high, length, torch.float32)
    return centre.long().clamp(0, length - 1)


def _triangles(low: Tensor, high: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Return the weights ``(B, length, length)`` of an antialiased bilinear resize into a box."""
    centre, scale = _centres(low, high, length, dtype)
    source = torch.arange(length, device=low.device, dtype=dtype) + 0.5
    weights = 1 - (source - centre.unsqueeze(2)).abs() / scale.unsqueeze(2)
    weights = weights.clamp(min=0)
    return weights / weights.sum(2, keepdim=True).clamp(min=1e-6)


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Gather rows of a batch in its memory format."""
    (rows,) = _moved(values.device, rows)
    bits = _bits(values)
    # The faster of the two does not keep other memory formats.
    taken = bits.index_select(0, rows) if bits.is_contiguous() else bits[rows]
    return _retyped(taken, values.dtype)


def _where(mask: Tensor, own: Tensor, other: Tensor) -> Tensor:
    return _retyped(torch.where(mask, _bits(own), _bits(other)), own.dtype)


def _bits(values: Tensor) -> Tensor:
    """Return the same bits in a dtype that torch can index and select in all its versions."""
    return _retyped(values, _INDEXABLE.get(values.dtype, values.dtype))


def _retyped(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values if values.dtype == dtype else values.view(dtype)


def _working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that values are averaged in: float32 overflows with 32 bits."""
    if dtype.is_floating_point:
        return torch.promote_types(dtype, torch.float32)
    return torch.float64 if dtype.itemsize > 2 else torch.float32


def _rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Round values that are to be written as integers, ties to even."""
    if dtype.is_floating_point:
        return values
    values = values.round_()
    # Through int16, since torch turns floats into 8 bits one by one.
    return values.to(torch.int16) if dtype.itemsize == 1 else values


def _moved(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Move tensors of falling item size to a device in one copy that nothing waits for."""
    if tensors[-1].device == device:
        return tensors
    parts = [tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors]
    moved = torch.cat(parts).to(device, non_blocking=True)
    return tuple(
        part.view(tensor.dtype).view(tensor.shape)
        for part, tensor in zip(torch.split(moved, [*map(len, parts)]), tensors, strict=True)
    )


class Unstacked(Tensor):
    """A batch that is still its samples, so that a mixer can stack and mix it in one pass.

    Any other operation stacks it first.
    """

    samples: list[Tensor]
    whole: Tensor | None

    @staticmethod
    def __new__(cls: type[Unstacked], samples: list[Tensor]) -> Unstacked:
        """Take samples of one shape and dtype, on the CPU."""
        shape = (len(samples), *samples[0].shape)
        batch: Unstacked = Tensor._make_wrapper_subclass(cls, shape, dtype=samples[0].dtype)
        batch.samples, batch.whole = samples, None
        return batch

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map_only(Unstacked, Unstacked.stacked, (args, kwargs or {}))
        return func(*args, **kwargs)

    def empty(self) -> Tensor:
        """Allocate the batch; in a DataLoader worker in memory that its reader shares."""
        if get_worker_info() is None:
            return torch.empty(self.shape, dtype=self.dtype, device="cpu")
        storage = torch.UntypedStorage._new_shared(self.numel() * self.element_size())  # type: ignore[no-untyped-call]
        flat = torch.empty(0, dtype=self.dtype, device="cpu").set_(storage)
        return flat.view(self.shape)

    def stacked(self) -> Tensor:
        """Stack the samples as they are."""
        if self.whole is None:
            self.whole = torch.stack(self.samples, out=self.empty())
        return self.whole


def _samples(values: Tensor) -> Sequence[Tensor]:
    return values.samples if isinstance(values, Unstacked) else values.unbind()


def _empty_like(values: Tensor) -> Tensor:
    return values.empty() if isinstance(values, Unstacked) else torch.empty_like(values)
