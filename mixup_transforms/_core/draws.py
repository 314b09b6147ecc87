"""The draws: each takes from a :class:`torch.Generator` an amount that its arguments fix.

Two runs with the same seed so stay in step, whatever the values drawn. Draws are made on the
generator's device; with ``None`` they come from torch's global CPU stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor


def uniform(*shape: int, generator: torch.Generator | None) -> Tensor:
    """Draw float64 numbers from U[0, 1) in the given shape."""
    device = device_of(generator)
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)


def symmetric_beta(count: int, alpha: float, *, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` numbers from Beta(alpha, alpha), two uniforms each and no rejection.

    Bailey, *Polar generation of random variates with the t-distribution*, Math. Comp. 1994, and
    T ~ t(2α) ⇒ ½ + T / (2√(2α + T²)) ~ Beta(α, α). Exact for any α > 0: a tiny α gives 0 or 1, a
    huge one ½.

    Returns:
        float64 ``(count,)`` in [0, 1].
    """
    drawn = uniform(2, count, generator=generator)
    if not drawn.is_cpu:
        lam: Tensor = _beta(drawn, alpha, torch)
        return lam
    # NumPy's operations on a few numbers take a fraction of the time of torch's.
    with np.errstate(divide="ignore"):
        return torch.from_numpy(_beta(drawn.numpy(), alpha, np))


def _beta(drawn: Any, alpha: float, maths: Any) -> Any:
    u, v = drawn
    log_w = maths.log(u) / alpha
    w = maths.exp(log_w)
    one_minus_w = -maths.expm1(log_w)
    cosine = maths.cos(2 * math.pi * v)
    ratio = cosine * maths.sqrt(one_minus_w / (w + one_minus_w * cosine * cosine))
    return (0.5 + 0.5 * ratio).clip(0, 1)


def bernoulli(count: int, p: float, *, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` bools that are true with probability ``p``."""
    return uniform(count, generator=generator) < p


def cycle(batch: int, *, generator: torch.Generator | None) -> Tensor:
    """Pair the samples of a batch along one uniformly random cycle.

    No sample meets itself unless it is alone, each is used once, and every partner is equally
    likely.

    Returns:
        int64 ``(batch,)``: the partner of each sample.
    """
    order = torch.randperm(batch, generator=generator, device=device_of(generator))
    return torch.empty_like(order).index_copy_(0, order, order.roll(-1))


def choice(count: int, weights: Sequence[float], *, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` indices with the given weights, which sum to 1."""
    drawn = uniform(count, generator=generator)
    edges = torch.tensor(weights, dtype=drawn.dtype, device=drawn.device).cumsum(0)
    return torch.bucketize(drawn, edges[:-1], right=True)


def centred_boxes(
    lam: Tensor, size: tuple[int, int], *, generator: torch.Generator | None
) -> Tensor:
    """Draw a box of area 1 − λ around a uniform pixel, and clip it to the image.

    Returns:
        int64 ``(len(lam), 4)``: x1, y1, x2, y2.
    """
    lengths = _lengths(size, lam)
    extent = ((1 - lam).sqrt() * lengths).round().long()
    low = _scaled(uniform(2, len(lam), generator=generator), lengths) - extent // 2
    return torch.cat((low.clamp(min=0), (low + extent).minimum(lengths))).T.contiguous()


def inner_boxes(
    side: Tensor, size: tuple[int, int], *, generator: torch.Generator | None
) -> Tensor:
    """Draw a box of sides H and W times ``side``, one pixel at least, wholly inside the image.

    Returns:
        int64 ``(len(side), 4)``: x1, y1, x2, y2; empty where ``side`` is 0.
    """
    lengths = _lengths(size, side)
    extent = (side * lengths).round().long().clamp(min=1) * (side > 0)
    low = _scaled(uniform(2, len(side), generator=generator), lengths - extent + 1)
    return torch.cat((low, low + extent)).T.contiguous()


def low_frequency_noise(
    count: int, size: tuple[int, int], decay_power: float, *, generator: torch.Generator | None
) -> Tensor:
    """Draw images whose spectrum falls with frequency as f^−decay_power.

    Harris et al., *FMix*, 2020 (arXiv 2002.12047).

    Returns:
        float32 ``(count, H, W)``.
    """
    height, width = size
    kind: dict[str, Any] = {"dtype": torch.float32, "device": device_of(generator)}
    if count == 0:
        return torch.empty(0, height, width, **kind)  # the FFT refuses an empty batch
    spectrum = torch.randn(count, height, width // 2 + 1, 2, generator=generator, **kind)
    fy = torch.fft.fftfreq(height, **kind)[:, None]
    fx = torch.fft.rfftfreq(width, **kind)
    frequency = torch.hypot(fy, fx).clamp(min=1 / max(size))
    # Scaled to 1 at the lowest frequency: a steep decay must not overflow.
    scale = (frequency * max(size)) ** -decay_power
    noise: Tensor = torch.fft.irfft2(torch.view_as_complex(spectrum * scale[..., None]), s=size)
    return noise


def device_of(generator: torch.Generator | None) -> torch.device:
    """Return where to draw, whatever torch's default device is."""
    return torch.device("cpu") if generator is None else generator.device


def _scaled(drawn: Tensor, size: Tensor | int) -> Tensor:
    """Turn numbers from U[0, 1) into integers from [0, size)."""
    return (drawn * size).long()


def _lengths(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return width and height, as a column to draw x and y by."""
    height, width = size
    return torch.tensor([[width], [height]], device=like.device)
