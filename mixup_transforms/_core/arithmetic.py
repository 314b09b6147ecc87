"""What values of a dtype are averaged in, and how they are rounded back."""

from __future__ import annotations

import torch
from torch import Tensor


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that values are averaged in: float32 overflows with 32 bits."""
    if dtype.is_floating_point:
        return torch.promote_types(dtype, torch.float32)
    return torch.float64 if dtype.itemsize > 2 else torch.float32


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Round values that are to be written as integers, ties to even."""
    if dtype.is_floating_point:
        return values
    values = values.round_()
    # Through int16, since torch turns floats into 8 bits one by one.
    return values.to(torch.int16) if dtype.itemsize == 1 else values
