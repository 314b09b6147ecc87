"""Checks of settings: each returns the value it accepts and names what it refuses."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch

# The dtypes that can index classes, samples and pixels.
INDICES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
# float8, quantised and sub-byte dtypes have no arithmetic to average them with.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
NUMBERS = (*FLOATS, *INDICES, torch.uint16, torch.uint32, torch.uint64)


def real(name: str, value: object) -> float:
    """Return ``value`` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def positive(name: str, value: object) -> float:
    """Return ``value`` as a float above zero."""
    number = real(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")
    return number


def probability(name: str, value: object) -> float:
    """Return ``value`` as a float in [0, 1]."""
    number = real(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}")
    return number


def smoothing(name: str, value: object) -> float:
    """Return ``value`` as a float in [0, 1)."""
    number = probability(name, value)
    if number == 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}: 1 would erase every label")
    return number


def integer(name: str, value: object, *, minimum: int | None = None) -> int:
    """Return ``value`` as an int of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})")
    number = int(value)
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} must fit into 64 bits, got {value!r}")
    return number


def flag(name: str, value: object) -> bool:
    """Return ``value``, a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
    return value


def tensor(name: str, value: object) -> torch.Tensor:
    """Return ``value``, a dense tensor."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got {describe(value)}")
    return value


def describe(value: torch.Tensor) -> str:
    """Dtype and shape of a tensor, for messages."""
    if value.is_nested:
        return "a nested tensor"
    if value.layout != torch.strided:
        return f"a tensor of layout {value.layout}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def readable(value: torch.Tensor) -> bool:
    """Whether values can be looked at without stalling a device or breaking a compiled graph."""
    return value.is_cpu and not torch.compiler.is_compiling()
