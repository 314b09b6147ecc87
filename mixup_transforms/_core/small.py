"""Small samples on the host, mixed through views of NumPy's: few numbers, and no arithmetic."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._core import checks, resize
from mixup_transforms._core.arithmetic import uncast
from mixup_transforms._core.memory import (
    alike,
    bits,
    bitwise,
    overlap,
    retyped,
    take,
    words,
    written_by_bits,
)

# From this many elements a sample is worth a call of its own.
LARGE_SAMPLE = 16_384


def fits(images: Tensor, pool: Tensor, *numbers: Tensor, times: int = 1) -> bool:
    """Whether samples are small, and all that mixes them is for NumPy to read and write.

    Larger ones too, by so many ``times``, where the work on them is that of NumPy alone.
    """
    small = 0 < images.numel() < times * LARGE_SAMPLE * images.shape[0]
    batches = (images,) if pool is images else (images, pool)
    return small and checks.on_host(*numbers) and bitwise(*batches)


def paste(
    images: Tensor, partner: list[int], boxes: list[list[int]], pool: Tensor, *, inplace: bool
) -> Tensor:
    """Copy boxes between views of NumPy's, which take a fraction of the time that tensors take."""
    shared = inplace and alike(images, pool)
    mixed = images if inplace else _copied(images)
    if inplace and not shared and overlap(images, pool):
        pool = _copied(pool)
    own, others = [*writable_words(mixed)], words(pool)
    rings = cycles(partner) if shared else None
    if rings is None:
        others = others.copy() if shared else others
        for sample, box, j in zip(own, boxes, partner, strict=True):
            place = inside(box)
            sample[place] = others[j][place]
        return mixed
    for members in rings:
        first, last = own[members[0]].copy(), members[-1]
        for i in members[:-1]:
            place = inside(boxes[i])
            own[i][place] = own[partner[i]][place]
        place = inside(boxes[last])
        own[last][place] = first[place]
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
    rows = [partner[i] for members in together.values() for i in members]
    partners = take(pool, torch.tensor(rows, dtype=torch.int64, device="cpu"))
    parts = torch.split(partners, [*map(len, together.values())])
    resized = resize.nearest if nearest else resize.resized
    shown = []
    with uncast(images.device.type):
        for (size, members), part in zip(together.items(), parts, strict=True):
            shown.append((members, words(resized(part, [0, 0, *size]))))
    mixed = images if inplace else _copied(images)
    own = writable_words(mixed)
    for members, small in shown:
        for i, pixels in zip(members, small, strict=True):
            own[i][inside(boxes[i])] = pixels
    return mixed


def samples(own: Tensor, pool: Tensor, mixed: Tensor) -> tuple[list[Any], ...]:
    """Return views of the samples of batches, the same of one and the same, the last to write."""
    views = {id(batch): [*words(batch)] for batch in (own, pool)}
    views[id(mixed)] = [*writable_words(mixed)]
    return views[id(own)], views[id(pool)], views[id(mixed)]


def writable_words(mixed: Tensor) -> np.ndarray[Any, Any]:
    """Return a view for NumPy to write, which autograd would not hear of otherwise."""
    written_by_bits(mixed)
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
    if len(box) == 4:  # in less time than what follows
        x1, y1, x2, y2 = box
        return ..., slice(y1, y2), slice(x1, x2)
    dims = len(box) // 2
    return (..., *map(slice, box[dims - 1 :: -1], box[: dims - 1 : -1]))
