"""How a mix runs over memory: the work of the kernels, without their checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor

from mixup_transforms._core import checks, ragged, resize, small, tiles
from mixup_transforms._core.arithmetic import autocasts, blended, uncast, working_dtype
from mixup_transforms._core.memory import (
    alike,
    bits,
    moved,
    overlap,
    retyped,
    select_bits,
    take,
    where,
)
from mixup_transforms._core.ragged import AnyImages, Ragged
from mixup_transforms._core.regions import Size
from mixup_transforms._core.unstacked import Unstacked, empty_like, samples_of, wanted

# So many elements in float32, of two parents and their blend, fit into the caches of a CPU's core.
CHUNK = 393_216

# paint(i, own, other, out) writes the mix of sample i into out, which may be own itself.
_Paint = Callable[[int, Tensor, Tensor, Tensor], object]


@dataclass(frozen=True)
class _Kernel:
    """How samples and partners become a mix.

    Attributes:
        painter: takes the samples and the weights of a batch, and returns its paint.
        gathered: mixes samples with partners gathered row by row, into ``out`` where given.
        by_sample: whether to paint small samples too, since to gather them takes more work.
    """

    painter: Callable[[Sequence[Tensor], Tensor], _Paint]
    gathered: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
    by_sample: bool = False


def blend(
    values: AnyImages, partner: Tensor, lam: Tensor, *, others: AnyImages | None, inplace: bool
) -> AnyImages:
    """Weigh each sample by ``lam``, and its partner by the rest."""
    if isinstance(values, Ragged):
        return ragged.blend(values, partner, lam, others=others, inplace=inplace)
    pool = values if others is None else others
    if small.fits(values, pool, partner, lam) and not autocasts(values.device.type):
        partners = take(pool, partner.long())
        # A λ that was given may lie in what is about to be written.
        weight, out = (lam.clone(), values) if inplace else (lam, partners)
        return _lerp_gathered(values, partners, weight, out, pure=_pure_rows(lam))
    # Read now, since a look at λ on a device would wait for it.
    kernel = _Kernel(_lerp_painter, partial(_lerp_gathered, pure=_pure_rows(lam)))
    return _run(values, partner, lam, kernel, others=others, inplace=inplace)


def paste(
    images: AnyImages, partner: Tensor, box: Tensor, *, others: AnyImages | None, inplace: bool
) -> AnyImages:
    """Show the partner inside the box, cut out at the same place."""
    if isinstance(images, Ragged):
        return ragged.paste(images, partner, box, _cut_out, others=others, inplace=inplace)
    pool = images if others is None else others
    if _copies_fast(images, pool, partner, box):
        return small.paste(images, partner.tolist(), box.tolist(), pool, inplace=inplace)
    kernel = _Kernel(_box_painter, _box_gathered)
    return _copy(images, partner, box, kernel, others=others, inplace=inplace)


def paste_resized(
    images: AnyImages,
    partner: Tensor,
    box: Tensor,
    *,
    others: AnyImages | None,
    inplace: bool,
    nearest: bool,
) -> AnyImages:
    """Show the whole partner inside the box, resized to fit."""
    if isinstance(images, Ragged):
        shown = _nearest if nearest else _resized
        return ragged.paste(images, partner, box, shown, others=others, inplace=inplace)
    pool = images if others is None else others
    if small.fits(images, pool, partner, box):
        lists = partner.tolist(), box.tolist()
        return small.paste_resized(images, *lists, pool, inplace=inplace, nearest=nearest)
    kernel = _Kernel(
        _nearest_painter if nearest else partial(_box_painter, shown=_resized),
        partial(_resized_gathered, nearest=nearest),
        by_sample=True,
    )
    return _run(images, partner, box, kernel, others=others, inplace=inplace)


def select(
    images: AnyImages, partner: Tensor, mask: Tensor, *, others: AnyImages | None, inplace: bool
) -> AnyImages:
    """Show the partner where the mask is false."""
    if isinstance(images, Ragged):
        return ragged.select(images, partner, mask, others=others, inplace=inplace)
    kernel = _Kernel(_mask_painter, _mask_gathered)
    return _copy(images, partner, mask, kernel, others=others, inplace=inplace)


def mosaic(
    images: AnyImages,
    partner: Tensor,
    centre: Tensor,
    *,
    size: Size | None,
    others: AnyImages | None,
    inplace: bool,
) -> AnyImages:
    """Show each image and three partners around a centre; alone where that is the far corner."""
    if isinstance(images, Ragged):
        return tiles.of_list(images, partner, centre, size=size, others=others, inplace=inplace)
    if autocasts(images.device.type):
        # Two batches would be joined in another dtype.
        with uncast(images.device.type):
            return mosaic(images, partner, centre, size=size, others=others, inplace=inplace)
    canvas = size or checks.size_of(images)
    inplace = inplace and canvas == checks.size_of(images) and not isinstance(images, Unstacked)
    own = bits(images)
    pool = own if others is None else bits(others)
    eager = checks.readable(partner) and checks.readable(centre) and images.is_cpu
    if eager and not any(map(checks.differentiated, (images, pool))):
        mixed = _painted(own, pool, partner, centre, canvas, inplace=inplace)
    else:
        rows, centre = moved(images.device, partner.long(), centre.long())
        mixed = tiles.gathered(own, pool, rows, centre, canvas)
        mixed = own.copy_(mixed) if inplace else mixed.contiguous(memory_format=_format(own))
    return images if inplace else retyped(mixed, images.dtype)


def _painted(
    own: Tensor, pool: Tensor, partner: Tensor, centre: Tensor, canvas: Size, *, inplace: bool
) -> Tensor:
    if inplace:
        pool = own if alike(own, pool) else pool.clone() if overlap(own, pool) else pool
        mixed = own
    else:
        same = canvas == checks.size_of(own)
        mixed = empty_like(own) if same else _empty_canvas(own, canvas)
    if _copies_fast(own, pool, partner, centre):
        samples, others, canvases = small.samples(own, pool, mixed)
    else:
        samples = [*samples_of(own)]
        others = samples if pool is own else [*samples_of(pool)]
        canvases = samples if inplace else [*mixed.unbind()]
    if inplace:
        far = [*reversed(canvas)]
        ends = zip(samples, centre.tolist(), strict=True)
        canvases = [None if end == far else sample for sample, end in ends]
    canvases[wanted(own) :] = [None] * (len(own) - wanted(own))
    tiles.paint(samples, others, partner, centre, canvases)
    return mixed


def _copies_fast(images: Tensor, pool: Tensor, *numbers: Tensor) -> bool:
    """Whether NumPy copies parts of samples in less time than torch, with several threads too.

    Measured with two, up to a MiB a sample.
    """
    return small.fits(images, pool, *numbers, times=64 // images.dtype.itemsize)


def _empty_canvas(images: Tensor, size: Size) -> Tensor:
    shape = *images.shape[:-2], *size
    return torch.empty(
        shape, dtype=images.dtype, device=images.device, memory_format=_format(images)
    )


def _format(images: Tensor) -> torch.memory_format:
    """Return the memory format of images, as far as those of another size can have it."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(images.ndim)
    if last is None or images.is_contiguous() or not images.is_contiguous(memory_format=last):
        return torch.contiguous_format
    return last


def _copy(
    images: Tensor,
    partner: Tensor,
    weights: Tensor,
    kernel: _Kernel,
    *,
    others: Tensor | None,
    inplace: bool,
) -> Tensor:
    """Mix what is copied and never computed with as bits, which have a dtype that torch knows."""
    pool = None if others is None else bits(others)
    mixed = _run(bits(images), partner, weights, kernel, others=pool, inplace=inplace)
    return images if inplace and not isinstance(images, Unstacked) else retyped(mixed, images.dtype)


def _run(
    values: Tensor,
    partner: Tensor,
    weights: Tensor,
    kernel: _Kernel,
    *,
    others: Tensor | None,
    inplace: bool,
) -> Tensor:
    """Mix in the way that suits size, device and autograd: the one place that chooses.

    On the CPU large samples are painted one by one: each result is written once, and in place one
    spare sample is enough. Small ones are gathered, for few calls. Derivatives, ``torch.func`` and
    ``torch.compile`` get an expression that writes into nothing.
    """
    if autocasts(values.device.type):
        # A product of matrices would be one of half precision.
        with uncast(values.device.type):
            return _run(values, partner, weights, kernel, others=others, inplace=inplace)
    inplace = inplace and not isinstance(values, Unstacked)
    pool = values if others is None else others
    eager = checks.readable(partner) and checks.readable(weights)
    eager = eager and not any(map(checks.differentiated, (values, pool, weights)))
    if eager and inplace and overlap(values, weights):
        weights = weights.clone()
    large = kernel.by_sample or values.numel() >= small.LARGE_SAMPLE * values.shape[0]
    if eager and large and values.is_cpu:
        return _walk(values, partner.tolist(), weights, kernel.painter, pool, inplace=inplace)
    if weights.requires_grad:
        weights = weights.to(values.device)  # as bytes it would lose its derivative
    rows, weights = moved(values.device, partner.long(), weights)
    partners = take(pool, rows)
    if eager:
        return kernel.gathered(values, partners, weights, values if inplace else partners)
    # The derivative of a weight needs what is about to be overwritten.
    own = values.clone() if inplace and checks.differentiated(weights) else values
    mixed = kernel.gathered(own, partners, weights, None)
    return values.copy_(mixed) if inplace else mixed


def _walk(
    values: Tensor,
    partner: list[int],
    weights: Tensor,
    painter: Callable[[Sequence[Tensor], Tensor], _Paint],
    pool: Tensor,
    *,
    inplace: bool,
) -> Tensor:
    """Paint sample by sample, so that each sees its partner's original values."""
    if inplace and alike(values, pool):
        pool = values
    elif inplace and overlap(values, pool):
        pool = pool.clone()
    own = samples_of(values)
    paint = painter(own, weights)
    if not inplace or pool is not values:
        mixed = values if inplace else empty_like(values)
        others = own if pool is values else samples_of(pool)
        outs = mixed.unbind()
        for i in range(wanted(values)):
            paint(i, own[i], others[partner[i]], outs[i])
        return mixed
    cycles = small.cycles(partner)
    if cycles is None:
        mixed = _walk(values, partner, weights, painter, pool, inplace=False)
        return values.copy_(mixed)
    for members in cycles:
        _paint_cycle(own, members, partner, paint)
    return values


def _paint_cycle(
    own: Sequence[Tensor], members: list[int], partner: list[int], paint: _Paint
) -> None:
    # The last of a cycle needs the first, which by then is overwritten.
    first = own[members[0]].clone()
    for i in members[:-1]:
        paint(i, own[i], own[partner[i]], own[i])
    paint(members[-1], own[members[-1]], first, own[members[-1]])


def _lerp_painter(samples: Sequence[Tensor], lam: Tensor) -> _Paint:
    lams = lam.tolist()
    if not samples or samples[0].is_floating_point():

        def lerp(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
            return torch.lerp(other, own, lams[i], out=out)

    else:
        # One float copy of a sample at a time, never of the batch.
        dtype = working_dtype(samples[0].dtype)
        x, y = (torch.empty_like(samples[0], dtype=dtype) for _ in range(2))

        def lerp(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
            mixed = torch.lerp(x.copy_(other), y.copy_(own), lams[i], out=x)
            return out.copy_(blended(own, other, mixed))

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
        if 0 < lams[i] < 1:
            return lerp(i, own, other, out)
        source = own if lams[i] else other
        return out if source is out else out.copy_(source)

    return paint


def _lerp_gathered(
    own: Tensor, partners: Tensor, lam: Tensor, out: Tensor | None, *, pure: Tensor | None
) -> Tensor:
    dtype = working_dtype(own.dtype)
    weight = lam.to(dtype).view(-1, *[1] * (own.ndim - 1))
    if out is None:
        return _lerp_expression(own, partners, weight)
    if pure is not None:
        (pure,) = moved(own.device, pure)
        kept = where(weight[pure] == 1, take(own, pure), take(partners, pure))
    if dtype == own.dtype:
        torch.lerp(partners, own, weight, out=out)
    else:
        # Through small float copies, which the CPU's caches can hold.
        rows = max(1, CHUNK * len(own) // max(1, own.numel())) if own.is_cpu else len(own)
        x, y = (torch.empty_like(own[:rows], dtype=dtype) for _ in range(2))
        for part in zip(*(torch.split(t, rows) for t in (partners, own, weight, out)), strict=True):
            other, mine, share, target = part
            both = x[: len(mine)].copy_(other), y[: len(mine)].copy_(mine)
            target.copy_(blended(mine, other, torch.lerp(*both, share, out=both[0])))
    if pure is not None:
        bits(out)[pure] = bits(kept)
    return out


def _lerp_expression(own: Tensor, partners: Tensor, weight: Tensor) -> Tensor:
    mixed = torch.lerp(partners.to(weight.dtype), own.to(weight.dtype), weight)
    mixed = blended(own, partners, mixed).to(own.dtype)
    whole = weight == 1
    kept = where(whole, own, partners)
    if checks.differentiated(weight) and own.is_floating_point():
        kept = _sloped(kept, own, partners, weight).to(own.dtype)
    return where(whole | (weight == 0), kept, mixed)


def _sloped(kept: Tensor, own: Tensor, partners: Tensor, weight: Tensor) -> Tensor:
    """Give a blend of weight 0 or 1, which is one of its parents to the bit, its derivative."""
    slope = own - partners
    slope = torch.where(slope.isfinite(), slope, 0)
    still = weight.detach()
    # To subtract 0.0 changes no bit, where to subtract -0.0 would.
    return kept - torch.where(slope > 0, still - weight, weight - still) * slope.abs()


def _pure_rows(lam: Tensor) -> Tensor | None:
    """Return the samples that stay or become another bit for bit; None for none or unknown."""
    if not checks.readable(lam):
        return None
    shares = lam.tolist()
    if 0.0 not in shares and 1.0 not in shares:
        return None
    pure = [i for i, share in enumerate(shares) if share in (0, 1)]
    return torch.tensor(pure, device="cpu")


def _cut_out(i: int, image: Tensor, box: list[int]) -> Tensor:
    return image[small.inside(box)]


def _resized(i: int, image: Tensor, box: list[int]) -> Tensor:
    return resize.resized(image, box)


def _nearest(i: int, image: Tensor, box: list[int]) -> Tensor:
    return resize.nearest(image, box)


def _nearest_painter(samples: Sequence[Tensor], box: Tensor) -> _Paint:
    # The pixels of all boxes at once, since samples of one size share them.
    size = checks.size_of(samples[0]) if samples else (1, 1)
    rows, columns = resize.nearest_pixels(box, *size)

    def picked(i: int, image: Tensor, box: list[int]) -> Tensor:
        x1, y1, x2, y2 = box
        pixels = bits(image).index_select(-2, rows[i, y1:y2]).index_select(-1, columns[i, x1:x2])
        return retyped(pixels, image.dtype)

    return _box_painter(samples, box, shown=picked)


def _box_painter(
    samples: Sequence[Tensor],
    box: Tensor,
    *,
    shown: Callable[[int, Tensor, list[int]], Tensor] = _cut_out,
) -> _Paint:
    boxes = box.tolist()

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor) -> None:
        if out is not own:
            out.copy_(own)
        inside = out[small.inside(boxes[i])]
        if inside.numel():
            inside.copy_(shown(i, other, boxes[i]))

    return paint


def _box_gathered(own: Tensor, partners: Tensor, box: Tensor, out: Tensor | None) -> Tensor:
    dims = box.shape[1] // 2
    ends = box.view(-1, 2 * dims, *[1] * dims).unbind(1)
    outside = []
    for axis, (low, high) in enumerate(zip(ends[:dims], ends[dims:], strict=True)):
        place = torch.arange(own.shape[-1 - axis], device=box.device).view(-1, *[1] * axis)
        outside.append((place < low) | (high <= place))
    return _mask_gathered(own, partners, reduce(torch.bitwise_or, outside), out)


def _resized_gathered(
    own: Tensor, partners: Tensor, box: Tensor, out: Tensor | None, *, nearest: bool
) -> Tensor:
    return _box_gathered(own, resize.resized_into(partners, box, nearest=nearest), box, out)


def _mask_painter(samples: Sequence[Tensor], mask: Tensor) -> _Paint:
    masks = mask.unbind()

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor) -> object:
        return select_bits(masks[i], own, other, out=out)

    return paint


def _mask_gathered(own: Tensor, partners: Tensor, mask: Tensor, out: Tensor | None) -> Tensor:
    mask = mask.view(len(own), *[1] * (own.ndim - mask.ndim), *mask.shape[1:])
    if out is None:
        if mask.shape == own.shape and not own.is_contiguous():
            # The result has the memory format of the first of as many elements.
            mask = torch.zeros_like(own, dtype=torch.bool) | mask
        return where(mask, own, partners)
    return select_bits(mask, own, partners, out=out)
