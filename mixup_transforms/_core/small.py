"""Small samples on the host, mixed through views of NumPy's: few numbers, and no arithmetic."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._core import checks, resize
from mixup_transforms._core.arithmetic import uncast
from mixup_transforms._core.memory import alike, bits, bitwise, overlap, retyped, take, words

# From this many elements a sample is worth a call of its own.
LARGE_SAMPLE = 16_384


def fits(images: Tensor, pool: Tensor, *numbers: Tensor) -> bool:
    """Whether samples are small, and all that mixes them is for NumPy to read and write."""
    small = 0 < images.numel() < LARGE_SAMPLE * len(images)
    return small and checks.on_host(*numbers) and bitwise(images, pool)


def paste(
    images: Tensor, partner: list[int], boxes: list[list[int]], pool: Tensor, *, inplace: bool
) -> Tensor:
    """Copy boxes between views of NumPy's, which take a fraction of the time that tensors take."""
    shared = inplace and alike(images, pool)
    mixed = images if inplace else _copied(images)
    if inplace and not shared and overlap(images, pool):
        pool = _copied(pool)
    own, others, within = _writable_words(mixed), words(pool), [*map(inside, boxes)]
    rings = cycles(partner) if shared else None
    if rings is None:
        others = others.copy() if shared else others
        for i, j in enumerate(partner):
            own[i][within[i]] = others[j][within[i]]
        return mixed
    for members in rings:
        first, last = own[members[0]].copy(), members[-1]
        for i in members[:-1]:
            own[i][within[i]] = own[partner[i]][within[i]]
        own[last][within[last]] = first[within[last]]
    return mixed


def paste_resized(
    images: Tensor,
    partner: list[int],
    boxes: list[list[int]],
    pool: Tensor,
    *,
    inplace: bool,
    nearest: bool,
) -> Tensor:
    """Resize together the partners whose boxes have one size, all before any is overwritten."""
    together: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        if x1 < x2 and y1 < y2:
            together[x2 - x1, y2 - y1].append(i)
    shown = []
    with uncast(images.device.type):
        for size, members in together.items():
            partners = take(pool, torch.tensor([partner[i] for i in members], device="cpu"))
            resized = resize.nearest if nearest else resize.resized
            shown.append((members, words(resized(partners, [0, 0, *size]))))
    mixed = images if inplace else _copied(images)
    own = _writable_words(mixed)
    for members, small in shown:
        for i, pixels in zip(members, small, strict=True):
            own[i][inside(boxes[i])] = pixels
    return mixed


def _writable_words(mixed: Tensor) -> np.ndarray[Any, Any]:
    """Return a view for NumPy to write, which autograd would not hear of otherwise."""
    if not mixed.is_inference():
        torch.autograd.graph.increment_version(mixed)
    return words(mixed)


def _copied(images: Tensor) -> Tensor:
    return retyped(bits(images).clone(), images.dtype)


def cycles(partner: list[int]) -> list[list[int]] | None:
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


def inside(box: list[int]) -> tuple[Any, ...]:
    """Return the index of what lies in a box, whose corners begin with the last dimension."""
    dims = len(box) // 2
    return (..., *map(slice, box[dims - 1 :: -1], box[: dims - 1 : -1]))
