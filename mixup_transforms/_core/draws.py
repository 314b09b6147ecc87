"""The draws: each takes from a :class:`torch.Generator` an amount that its arguments fix.

Two runs with the same seed so stay in step, whatever the values drawn. Draws are made on the
generator's device; with ``None`` they come from torch's global CPU stream.

A batch takes, in this order: the partners (one ``cycle``; none with a second batch; by a rule of
the package one uniform a row for each partner); the gates (one uniform a row); and the mixer's
geometry: for mixup λ; for CutMix λ, then the boxes' places, along the last dimension first; for
ResizeMix the sizes, then the places; for FMix λ, then the noise; for Mosaic the centres (two
uniforms a row); for CopyPaste one uniform for each of as many objects as the target with the most
has, row by row; for ClassMix one seed a row. λ takes two uniforms a row. A choice takes one uniform
a row for which mixer, then one number for each mixer, to start a stream of its own from, out of
which that mixer draws gates and geometry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._core.memory import moved

# A height and a width: numbers, or arrays (B,) of the host where images differ. Of sequences the
# length, of volumes the depth too.
Sizes = tuple[Any, ...]


# Of so many pixels the caches of a CPU can hold the noise.
PART = 1_048_576


def uniform(*shape: int, generator: torch.Generator | None) -> Tensor:
    """Draw float64 numbers from U[0, 1) in the given shape."""
    device = device_of(generator)
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)


def seeds(count: int, *, generator: torch.Generator | None) -> Tensor:
    """Draw int64 numbers of 63 bits, to hash with what they decide on."""
    return torch.randint(2**63 - 1, (count,), generator=generator, device=device_of(generator))


def symmetric_beta(count: int, alpha: float, *, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` numbers from Beta(alpha, alpha), two uniforms each and no rejection.

    Bailey, *Polar generation of random variates with the t-distribution*, Math. Comp. 1994, and
    T ~ t(2α) ⇒ ½ + T / (2√(2α + T²)) ~ Beta(α, α). Exact for any α > 0: a tiny α gives 0 or 1, a
    huge one ½.

    Returns:
        float64 ``(count,)`` in [0, 1].
    """
    drawn, maths = _numbers(uniform(2, count, generator=generator))
    with np.errstate(divide="ignore"):
        return _tensor(_within(_beta(drawn, alpha, maths), 0, 1))


def _beta(drawn: Any, alpha: float, maths: Any) -> Any:
    u, v = drawn
    log_w = maths.log(u) / alpha
    w = maths.exp(log_w)
    one_minus_w = -maths.expm1(log_w)
    cosine = maths.cos(2 * math.pi * v)
    ratio = cosine * maths.sqrt(one_minus_w / (w + one_minus_w * cosine * cosine))
    return 0.5 + 0.5 * ratio


def bernoulli(count: int, p: float, *, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` bools that are true with probability ``p``."""
    drawn, _ = _numbers(uniform(count, generator=generator))
    return _tensor(drawn < p)


def gated(lam: Tensor, gate: Tensor) -> Tensor:
    """Set λ to 1 where a gate is false."""
    if lam.is_cpu and gate.is_cpu:
        lam.numpy()[~gate.numpy()] = 1.0
        return lam
    return lam.masked_fill_(~gate, 1.0)


def cycle(batch: int, *, generator: torch.Generator | None) -> Tensor:
    """Pair the samples of a batch along one uniformly random cycle.

    No sample meets itself unless it is alone, each is used once, and every partner is equally
    likely.

    Returns:
        int64 ``(batch,)``: the partner of each sample.
    """
    order = torch.randperm(batch, generator=generator, device=device_of(generator))
    places, maths = _numbers(order)
    partner = maths.empty_like(places)
    partner[places[:-1]], partner[places[-1:]] = places[1:], places[:1]
    return _tensor(partner)


def choice(count: int, weights: Sequence[float], *, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` indices with the given weights, which sum to 1."""
    drawn = uniform(count, generator=generator)
    edges = torch.tensor(weights, dtype=drawn.dtype, device=drawn.device).cumsum(0)
    return torch.bucketize(drawn, edges[:-1], right=True)


def columns(edges: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """Draw a column for each row, each as likely as ``edges`` rises there; one uniform a row.

    Args:
        edges: weights summed up along each row, ``(B, N)`` with N ≥ 1.
        generator: where to draw from.

    Returns:
        int64 ``(B,)``; N where no column of the row has weight.
    """
    (drawn,) = moved(edges.device, uniform(len(edges), generator=generator))
    # Of sums in integers those up to a number are those up to its whole part.
    reached = (drawn * edges[:, -1]).to(edges.dtype).unsqueeze(1)
    return torch.searchsorted(edges, reached, right=True).squeeze(1)


def centred_boxes(lam: Tensor, size: Sizes, *, generator: torch.Generator | None) -> Tensor:
    """Draw a box of area 1 − λ around a uniform pixel, and clip it to the image.

    ``size`` holds one height and width, or those of each image, which then share one relative place
    where there is one λ. Of one length, or of a depth too, it holds those.

    Returns:
        int64 ``(B, 2 · dims)``: the low corner, then the high one, each from the last dimension on;
        in images x1, y1, x2, y2.
    """
    dims = len(size)
    (share, place), maths = _numbers(lam, uniform(dims, len(lam), generator=generator))
    # The square root is not left to the power, which need not round it alike.
    side = maths.sqrt(1 - share) if dims == 2 else (1 - share) ** (1 / dims)
    length = _columns(place, size[::-1])
    extent = _rounded(side * length)
    low = maths.floor(place * length) - maths.floor(extent / 2)
    ends = maths.concatenate((low, low + extent))
    return _boxes(_within(ends, 0, maths.concatenate((length, length))))


def centres(
    span: tuple[float, float], count: int, size: Sizes, *, generator: torch.Generator | None
) -> Tensor:
    """Draw a point of each canvas, uniform within a span of its width and of its height.

    Returns:
        int64 ``(B, 2)``: x, y.
    """
    (across, down), maths = _numbers(uniform(2, count, generator=generator))
    low, high = span
    height, width = _on(across, size)
    x = _rounded((low + (high - low) * across) * width)
    y = _rounded((low + (high - low) * down) * height)
    return _tensor(maths.stack((x, y), -1)).long()


def inner_boxes(
    side: Tensor,
    size: Sizes,
    partner: Sizes | None = None,
    *,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw a box of a partner's sides times ``side``, one pixel at least, wholly inside the image.

    Where that does not fit, ``side`` is made as small as it has to be. Sizes are as those of
    :func:`centred_boxes`; without that of the partner it is the image's.

    Returns:
        int64 ``(B, 4)``: x1, y1, x2, y2; empty where ``side`` is 0.
    """
    (side, place), maths = _numbers(side, uniform(2, len(side), generator=generator))
    length, whole = _columns(place, size[::-1]), _columns(place, (partner or size)[::-1])
    # Of one size the partner fits whatever the side, which is 1 at most.
    if not isinstance(size[0], int):
        side = maths.minimum(side, maths.amin(length / whole, 0))
    extent = _within(_rounded(side * whole), 1, length) * (side > 0)
    low = maths.floor(place * (length - extent + 1))
    return _boxes(maths.concatenate((low, low + extent)))


def clipped(box: Tensor, size: Sizes) -> Tensor:
    """Clip boxes ``(B, 4)`` to images of the given sizes."""
    if isinstance(size[0], int):
        return box  # images of one size, which the boxes lie in
    height, width = size
    limits = torch.from_numpy(np.stack((width, height, width, height), -1))
    return torch.minimum(box.long(), limits.to(box.device, non_blocking=not box.is_cpu))


def parts(count: int, size: tuple[int, ...]) -> list[int]:
    """Part a batch so that normal numbers drawn for each part are those drawn for all at once.

    On the CPU torch makes sixteen at a time, and others where there are fewer. Each part but the
    last holds sixteen images, or as many times sixteen as fit into ``PART`` pixels.
    """
    step = 16 * max(1, PART // (16 * math.prod(size)))
    whole = max(count // step, 1)
    return [step] * (whole - 1) + [count - step * (whole - 1)]


def low_frequency_noise(
    count: int, size: tuple[int, ...], decay_power: float, *, generator: torch.Generator | None
) -> Tensor:
    """Draw sequences, images or volumes whose spectrum falls with frequency as f^−decay_power.

    Harris et al., *FMix*, 2020 (arXiv 2002.12047).

    Returns:
        float32 ``(count, *size)``.
    """
    *others, last = size
    kind: dict[str, Any] = {"dtype": torch.float32, "device": device_of(generator)}
    if count == 0:
        return torch.empty(0, *size, **kind)  # the FFT refuses an empty batch
    pairs = torch.randn(count, *others, last // 2 + 1, 2, generator=generator, **kind)
    frequency = torch.fft.rfftfreq(last, **kind)
    for axis, length in enumerate(reversed(others), start=1):
        along = torch.fft.fftfreq(length, **kind).view(-1, *[1] * axis)
        frequency = torch.hypot(along, frequency)
    frequency = frequency.clamp(min=1 / max(size))
    # Scaled to 1 at the lowest frequency: a steep decay must not overflow.
    scale = (frequency * max(size)) ** -decay_power
    waves = torch.view_as_complex(pairs).mul_(scale)
    noise: Tensor = torch.fft.irfftn(waves, s=size, dim=[*range(-len(size), 0)])
    return noise


def _on(drawn: Any, size: Sizes) -> Sizes:
    """Return sizes as numbers of the kind that was drawn."""
    if isinstance(size[0], int) or not isinstance(drawn, Tensor):
        return size
    return moved(drawn.device, *map(torch.from_numpy, size))


def device_of(generator: torch.Generator | None) -> torch.device:
    """Return where to draw, whatever torch's default device is."""
    return torch.device("cpu") if generator is None else generator.device


def _numbers(*drawn: Tensor) -> tuple[Any, Any]:
    """Return what was drawn, and the library to compute with it.

    On the CPU NumPy, whose operations on a few numbers take a fraction of the time of torch's.
    """
    numbers = [each.numpy() for each in drawn] if drawn[0].is_cpu else [*drawn]
    return numbers if len(numbers) > 1 else numbers[0], np if drawn[0].is_cpu else torch


def _within(numbers: Any, low: float, high: Any) -> Any:
    """Clip numbers to a range; NumPy's own function takes more time for few than two others."""
    if isinstance(numbers, np.ndarray):
        return np.minimum(np.maximum(numbers, low), high)
    return numbers.clamp(min=low).clamp(max=high)


def _rounded(numbers: Any) -> Any:
    """Round to the nearest, ties to even."""
    return np.rint(numbers) if isinstance(numbers, np.ndarray) else numbers.round()


def _tensor(numbers: Any) -> Tensor:
    # Not torch.as_tensor, which would move them to torch's default device.
    return torch.from_numpy(numbers) if isinstance(numbers, np.ndarray) else numbers


def _columns(drawn: Any, size: Sizes) -> Any:
    """Return lengths as a column, or where images differ as rows, of the kind that was drawn."""
    if isinstance(drawn, np.ndarray):
        return np.array(size, dtype=drawn.dtype).reshape(len(size), -1)
    if isinstance(size[0], int):
        # Filled on the device, to which numbers of the host would have to be copied.
        return torch.cat([drawn.new_full((1, 1), length) for length in size])
    return torch.stack(_on(drawn, size)).to(drawn.dtype)


def _boxes(ends: Any) -> Tensor:
    """Return x1, y1, x2, y2 from a row of low ends for each axis, then a row of high ones."""
    if isinstance(ends, np.ndarray):
        return torch.from_numpy(ends.T.astype(np.int64, order="C"))
    box: Tensor = ends.T.long().contiguous()
    return box
