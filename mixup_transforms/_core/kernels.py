"""How a mix runs over memory: the work of the kernels, without their checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from mixup_transforms._core import checks, resize
from mixup_transforms._core.arithmetic import rounded, working_dtype
from mixup_transforms._core.memory import bits, moved, take, where
from mixup_transforms._core.unstacked import Unstacked, empty_like, samples_of

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
        painter=partial(_box_painter, view=partial(resize.resized, nearest=nearest)),
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
    known = checks.readable(partner) and checks.readable(weights)
    if torch.is_grad_enabled() and (values.requires_grad or pool.requires_grad):
        known = False
    large = by_sample or values.numel() >= LARGE_SAMPLE * values.shape[0]
    if known and large and values.is_cpu:
        return _walk(values, partner.tolist(), weights, painter, pool, inplace=inplace)
    rows, weights = moved(values.device, partner.long(), weights)
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
    own = samples_of(values)
    paint = painter(own, weights)
    if not inplace or pool is not values:
        mixed = values if inplace else empty_like(values)
        others = own if pool is values else samples_of(pool)
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
        dtype = working_dtype(samples[0].dtype)
        x, y = (torch.empty_like(samples[0], dtype=dtype) for _ in range(2))

        def blended(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
            mixed = torch.lerp(x.copy_(other), y.copy_(own), lams[i], out=x)
            return out.copy_(rounded(mixed, out.dtype))

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
        if 0 < lams[i] < 1:
            return blended(i, own, other, out)
        source = own if lams[i] else other
        return out if source is out else out.copy_(source)

    return paint


def _lerp_whole(
    own: Tensor, views: Tensor, lam: Tensor, out: Tensor | None, *, pure: Tensor | None
) -> Tensor:
    dtype = working_dtype(own.dtype)
    weight = lam.to(dtype).view(-1, *[1] * (own.ndim - 1))
    if out is None:
        mixed = torch.lerp(views.to(dtype), own.to(dtype), weight)
        mixed = rounded(mixed, own.dtype).to(own.dtype)
        return where(weight == 1, own, where(weight == 0, views, mixed))
    if pure is not None:
        (pure,) = moved(own.device, pure)
        kept = where(weight[pure] == 1, take(own, pure), take(views, pure))
    if dtype == own.dtype:
        torch.lerp(views, own, weight, out=out)
    else:
        # Through a small float copy, which the CPU's caches can hold.
        rows = max(1, LARGE_SAMPLE * len(own) // max(1, own.numel())) if own.is_cpu else len(own)
        for part in zip(*(torch.split(t, rows) for t in (views, own, weight, out)), strict=True):
            other, mine, share, target = part
            mixed = torch.lerp(other.to(dtype), mine.to(dtype), share)
            target.copy_(rounded(mixed, own.dtype))
    if pure is not None:
        bits(out)[pure] = bits(kept)
    return out


def _pure_rows(lam: Tensor) -> Tensor | None:
    """Return the samples that stay or become another bit for bit; None for none or unknown."""
    if not checks.readable(lam):
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


def _resized_whole(
    own: Tensor, views: Tensor, box: Tensor, out: Tensor | None, *, nearest: bool
) -> Tensor:
    return _box_whole(own, resize.resized_into(views, box, nearest=nearest), box, out)


def _mask_painter(samples: Sequence[Tensor], mask: Tensor) -> _Paint:
    masks = mask.unbind()

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
        return torch.where(masks[i], bits(own), bits(other), out=bits(out))

    return paint


def _mask_whole(own: Tensor, views: Tensor, mask: Tensor, out: Tensor | None) -> Tensor:
    mask = mask.view(len(own), *[1] * (own.ndim - 3), *own.shape[-2:])
    if out is None:
        return where(mask, own, views)
    torch.where(mask, bits(own), bits(views), out=bits(out))
    return out
