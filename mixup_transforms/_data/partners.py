"""Partners drawn from a whole dataset in proportion to weights."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import numpy as np  # comes with torchvision
import numpy.typing as npt
from torch import Tensor

_LARGEST_SUM = sys.float_info.max / 2  # parts of a sum, rounded, may add up to a little more


class PartnerWeights:
    """A weight for each sample, and how much those before and behind it weigh together.

    The sums run from both ends: what the others weigh is no difference of sums, in which a heavy
    sample would swallow the light ones.
    """

    def __init__(self, weights: npt.NDArray[np.float64]) -> None:
        weights.setflags(write=False)
        self.weights = weights
        self._sums = _sums(weights), _sums(weights[::-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return PartnerWeights, (self.weights,)

    def partner(self, own: int, chance: float) -> int:
        """Return another index, each in proportion to its weight; ``own`` where none has any.

        Args:
            own: the index of a sample.
            chance: drawn from U[0, 1].
        """
        last = len(self.weights) - 1
        forwards, backwards = self._sums[0][: own + 1], self._sums[1][: last - own + 1]
        before, behind = float(forwards[-1]), float(backwards[-1])
        drawn = chance * (before + behind)
        if drawn < before or not behind:
            return _place(drawn, forwards)
        return last - _place(drawn - before, backwards)


def checked_partner_weights(weights: object, size: int) -> PartnerWeights:
    """Refuse what does not give each sample of a dataset a weight."""
    numbers = _numbers(weights)
    check_count(numbers.shape, size)
    (wrong,) = np.nonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if len(wrong):
        raise ValueError(
            f"partner_weights must be finite and at least 0, got {numbers[wrong[0]]} at {wrong[0]}"
        )
    if size and not numbers.any():
        raise ValueError("partner_weights must not be all 0, which leaves nobody for a partner")
    with np.errstate(over="ignore"):
        total = numbers.sum()
    if total > _LARGEST_SUM:
        raise ValueError(
            f"partner_weights must sum to {_LARGEST_SUM:.2g} at most, got {total:.2g}; "
            "divide them by the largest"
        )
    return PartnerWeights(numbers)


def check_count(shape: tuple[int, ...], size: int) -> None:
    """Refuse another number of weights than samples."""
    if shape != (size,):
        remedy = ""
        if len(shape) == 1 and shape[0] < size:
            remedy = "; of weights of classes, weights[labels] gives each sample its own"
        raise ValueError(
            f"partner_weights must have shape ({size},), one for each sample of the dataset, "
            f"got {shape}{remedy}"
        )


def _numbers(weights: Any) -> npt.NDArray[np.float64]:
    """Copy numbers of any kind into an array."""
    with suppress(ValueError, TypeError, RuntimeError):
        array = np.asarray(_on_host(weights) if isinstance(weights, Tensor) else weights)
        if array.dtype.kind in "biuf":
            return array.astype(np.float64)
    of = f" of {weights.dtype}" if hasattr(weights, "dtype") else ""
    raise TypeError(
        "partner_weights must be a list, an array or a tensor of numbers, "
        f"got {type(weights).__name__}{of}"
    )


def _on_host(weights: Tensor) -> Tensor:
    weights = weights.detach().cpu()
    return weights.double() if weights.is_floating_point() else weights  # NumPy has fewer kinds


def _sums(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([[0.0], weights.cumsum()])


def _place(drawn: float, sums: npt.NDArray[np.float64]) -> int:
    """Return whose part of the whole a number falls into; the end where there are no parts."""
    # Rounding may have brought it to the very end, which is nobody's.
    inside = min(drawn, np.nextafter(sums[-1], 0))
    return int(sums.searchsorted(inside, side="right")) - 1
