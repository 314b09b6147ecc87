"""Which pixels of an image belong to objects or classes that were chosen."""

from __future__ import annotations

from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._core import checks
from mixup_transforms._core.memory import moved

_LOWEST, _HIGHEST = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max


def covered(masks: Tensor, rows: Tensor) -> Tensor:
    """Return which pixels some of the objects' masks ``(N, H, W)`` cover; bool ``(H, W)``."""
    if checks.readable(masks) and rows.is_cpu:
        # One by one, since of all at once a copy would have to be made and read.
        inside = torch.zeros(masks.shape[1:], dtype=torch.bool, device="cpu")
        for row in rows.tolist():
            inside |= masks[row] != 0
        return inside
    (rows,) = moved(masks.device, rows)
    return (masks.index_select(0, rows) != 0).any(0)


def half_of_classes(classes: Tensor, seeds: Tensor, *, ignore_index: int | None) -> Tensor:
    """Return which pixels have one of the half, rounded up, of an image's classes that is chosen.

    Which half that is depends on an image's seed and on the classes that are in it alone. Nothing
    is read of what lies on an accelerator.

    Args:
        classes: integer or bool ``(B, H, W)``, or one image ``(H, W)``.
        seeds: int64 ``(B,)``.
        ignore_index: what is no class, and never chosen.

    Returns:
        bool, of the shape of ``classes``.
    """
    pixels = classes.flatten(-2).expand(len(seeds), -1)
    if checks.readable(classes):
        chosen = torch.zeros_like(pixels, dtype=torch.bool)
        for row, out, seed in zip(pixels.numpy(), chosen.numpy(), seeds.tolist(), strict=True):
            out[:] = _half_by_table(row.astype(np.int64), seed, ignore_index)
    else:
        (seeds,) = moved(classes.device, seeds)
        chosen = _half_by_order(pixels.long(), seeds.unsqueeze(1), ignore_index)
    return chosen.view(classes.shape)


def _half_by_table(pixels: Any, seed: int, ignore_index: int | None) -> Any:
    low, high = int(pixels.min()), int(pixels.max())
    if high - low < len(pixels):
        classes, places = low + np.arange(high - low + 1), pixels - low
        present = np.bincount(places) > 0
    else:
        classes, places = np.unique(pixels, return_inverse=True)
        present = np.ones(len(classes), dtype=bool)
    if ignore_index is not None:
        present &= classes != ignore_index
    (found,) = present.nonzero()
    order = _scores(classes[found], seed).argsort()
    chosen = np.zeros(len(classes), dtype=bool)
    chosen[found[order[: (len(found) + 1) // 2]]] = True
    return chosen[places]


def _half_by_order(pixels: Tensor, seeds: Tensor, ignore_index: int | None) -> Tensor:
    scores = _scores(pixels, seeds)
    known = torch.ones_like(pixels, dtype=torch.bool)
    if ignore_index is not None:
        known = pixels != ignore_index
    ordered = scores.masked_fill(~known, _HIGHEST).sort(1).values
    first = ordered.diff(dim=1, prepend=torch.full_like(ordered[:, :1], _HIGHEST)) != 0
    number = (first & (ordered != _HIGHEST)).cumsum(1)
    wanted = (number[:, -1:] + 1) // 2
    limit = ordered.masked_fill(number > wanted, _LOWEST).amax(1, keepdim=True)
    chosen: Tensor = known & (scores <= limit)
    return chosen


def _scores(classes: Any, seed: Any) -> Any:
    """Hash classes with a seed, each to another number of 64 bits, in NumPy and torch alike.

    The numbers that SplitMix64 draws from a seed, at the place of each class: Steele, Lea, Flood,
    *Fast Splittable Pseudorandom Number Generators*, OOPSLA 2014.
    """
    state = seed + (classes + 1) * -0x61C8864680B583EB
    # Shifts without a sign, of numbers that have one.
    state = (state ^ ((state >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    state = (state ^ ((state >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return state ^ ((state >> 31) & 0x1FFFFFFFF)
