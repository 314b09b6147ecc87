"""What values of a dtype are averaged in, and how they are rounded back."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# Asked once, since some versions of torch.compile cannot follow the question.
_AUTOCAST = frozenset(
    device
    for device in ("cpu", "cuda", "hpu", "mps", "mtia", "xpu")
    if torch.amp.is_autocast_available(device)
)
# Wider than the 53 bits that float64 can tell apart.
_WIDEST = (torch.int64, torch.uint64)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that values are averaged in: float32 overflows with 32 bits."""
    if dtype.is_floating_point:
        return torch.float64 if dtype == torch.float64 else torch.float32
    return torch.float64 if dtype.itemsize > 2 else torch.float32


def autocasts(device: str) -> bool:
    """Whether products on a type of device are taken in a smaller dtype than their factors'."""
    return device in _AUTOCAST and torch.is_autocast_enabled(device)


def uncast(device: str) -> AbstractContextManager[object]:
    """Keep dtypes as they are, on a type of device, whatever the ambient autocast."""
    return torch.autocast(device, enabled=False) if autocasts(device) else nullcontext()


def blended(own: Tensor, other: Tensor, mixed: Tensor) -> Tensor:
    """Round a blend to what its parents' dtype can take, within their range."""
    if own.dtype not in _WIDEST:
        return rounded(mixed, own.dtype)
    own_rank, other_rank = _rank(own), _rank(other)
    low, high = torch.minimum(own_rank, other_rank), torch.maximum(own_rank, other_rank)
    return _within(mixed, low, high, own.dtype)


def resampled(image: Tensor, small: Tensor) -> Tensor:
    """Round a resize of ``(…, H, W)`` to what its dtype can take, within the image's range."""
    if image.dtype not in _WIDEST:
        return rounded(small, image.dtype)
    rank = _rank(image)
    low, high = rank.amin((-2, -1), keepdim=True), rank.amax((-2, -1), keepdim=True)
    return _within(small, low, high, image.dtype)


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Round values that are to be written as integers, ties to even."""
    if dtype.is_floating_point:
        return values
    values = values.round_()
    # Through int16, since torch turns floats into 8 bits one by one, on the CPU.
    return values.to(torch.int16) if dtype.itemsize == 1 and values.is_cpu else values


def _rank(values: Tensor) -> Tensor:
    """Return 64-bit integers as int64 of the same order."""
    return values if values.dtype == torch.int64 else values.view(torch.int64) ^ -(2**63)


def _within(mixed: Tensor, low: Tensor, high: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to 64-bit integers between two ranks, where float64 ends far from them."""
    mixed = mixed.round()
    last = 2.0**63 - 1024  # the last float64 of an int64
    if dtype == torch.int64:
        return mixed.clamp(-(2.0**63), last).to(torch.int64).clamp(low, high)
    # By halves, since torch turns no float64 above 2**63 into a uint64.
    lower = mixed.clamp(0, last).to(torch.int64) ^ -(2**63)
    upper = (mixed - 2.0**63).clamp(0, last).to(torch.int64)
    rank = torch.where(mixed < 2.0**63, lower, upper).clamp(low, high)
    return (rank ^ -(2**63)).view(dtype)
