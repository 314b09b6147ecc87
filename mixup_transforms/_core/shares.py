"""What share of the pixels a geometry leaves to the sample, and the other way round."""

from __future__ import annotations

import math
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._core import checks
from mixup_transforms._core.arithmetic import working_dtype
from mixup_transforms._core.memory import moved
from mixup_transforms._core.ragged import Sizes

# A rank among so many numbers is first looked for in a sample, and as far from its place there as
# three standard deviations.
_MANY, _SAMPLE = 8_192, 2_048
_MARGIN = 3 * math.isqrt(_SAMPLE) // 2


def box_share(box: Tensor, *size: Any) -> Tensor:
    """Return the share outside each box, of images of one or several sizes; float32 ``(B,)``."""
    dims, pixels = len(size), math.prod(size)
    if checks.readable(box) and type(box) is Tensor:
        ends = box.long().numpy().T
        share = 1 - (ends[dims:] - ends[:dims]).prod(0) / pixels
        return torch.from_numpy(share.astype(np.float32))
    sides = box[:, dims:].long() - box[:, :dims].long()
    if isinstance(pixels, np.ndarray):
        (pixels,) = moved(box.device, torch.from_numpy(pixels))
    outside: Tensor = 1 - sides.prod(1).double() / pixels
    return outside.float()


def mask_share(mask: Tensor, sizes: np.ndarray[Any, Any] | None = None) -> Tensor:
    """Return the share of each mask that is true; float32 ``(B,)``.

    ``sizes`` ``(B, 2)`` are the heights and widths of masks that lie top left in larger ones.
    """
    size = mask.shape[1:]
    if sizes is None or (sizes == size).all():
        if checks.on_host(mask):
            kept = torch.from_numpy(_counts(mask.flatten(1).numpy()))
        else:  # as bytes, since torch sums bools one by one
            kept = mask.view(torch.uint8).sum(dim=[*range(1, mask.ndim)], dtype=torch.int32)
        return (kept.double() / math.prod(size)).float()
    parts = [mask_share(mask[i : i + 1, :h, :w]) for i, (h, w) in enumerate(sizes.tolist())]
    return torch.cat(parts)


def quadrant_shares(centre: Tensor, canvas: Sizes, images: Sizes) -> Tensor:
    """Return the shares of four images around centres ``(B, 2)`` among the pixels they cover.

    The heights and widths of canvases are those of one or each, ``(B,)``, and those of images of
    one or each, ``(B, 4)``.

    Returns:
        float32 ``(B, 4)``.
    """
    (height, width), (high, wide) = (_lengths(each, centre.device) for each in (canvas, images))
    x, y = centre.double().unbind(1)
    tall = torch.stack((y, y, height - y, height - y), 1).clamp(max=high)
    broad = torch.stack((x, width - x, x, width - x), 1).clamp(max=wide)
    area = tall * broad
    return (area / area.sum(1, keepdim=True)).float()


def _lengths(size: Sizes, device: torch.device) -> Sizes:
    """Return heights and widths as numbers or tensors."""
    if isinstance(size[0], int):
        return size
    height, width = moved(device, *map(torch.from_numpy, size))
    return height, width


def within(mask: Tensor, sizes: np.ndarray[Any, Any]) -> Tensor:
    """Return masks that are true wherever a partner of the given size ``(B, 2)`` has no pixels."""
    if (sizes == mask.shape[1:]).all():
        return mask
    mask = mask.clone()
    for row, (height, width) in zip(mask, sizes.tolist(), strict=True):
        row[height:] = True
        row[:, width:] = True
    return mask


def top_share(scores: Tensor, share: Tensor) -> Tensor:
    """Return a mask of each image's ``round(share · pixels)`` highest pixels."""
    # Scores of a single byte can neither be sorted nor promoted.
    pixels = scores.flatten(1).to(working_dtype(scores.dtype))
    (share,) = moved(scores.device, share)
    wanted = (share.double() * pixels.shape[1]).round().long()
    mask = torch.zeros_like(pixels, dtype=torch.bool)
    if not checks.readable(scores):
        highest = pixels.argsort(dim=1, descending=True, stable=True)
        places = torch.arange(pixels.shape[1], device=pixels.device)
        return mask.scatter_(1, highest, places < wanted.unsqueeze(1)).view_as(scores)
    # NumPy selects by rank several times as fast as torch.
    rows = pixels.detach().numpy()
    chosen, counts = mask.numpy(), wanted.numpy()
    thresholds = np.array([*map(_lowest_of, rows, counts.tolist())], dtype=rows.dtype)[:, None]
    np.greater(rows, thresholds, out=chosen)
    ties = rows == thresholds
    missing = counts - _counts(chosen)
    for i in np.flatnonzero(_counts(ties) > missing):
        ties[i, np.flatnonzero(ties[i])[missing[i] :]] = False
    np.logical_or(chosen, ties, out=chosen)
    return mask.view_as(scores)


def _lowest_of(row: np.ndarray[Any, Any], count: int) -> float:
    """Return the lowest of a row's ``count`` highest numbers; infinity of none."""
    if not count:
        return math.inf
    # Of many, a sample tells where to look; of few it takes longer than the search.
    if len(row) >= _MANY:
        sample = np.sort(row[:: len(row) // _SAMPLE])
        place = round(len(sample) * (1 - count / len(row)))
        low, high = sample[max(0, place - _MARGIN)], sample[min(place + _MARGIN, len(sample) - 1)]
        between, rank = row[(row >= low) & (row <= high)], count - int((row > high).sum())
        if 0 < rank <= len(between):
            row, count = between, rank
    return float(np.partition(row, -count)[-count])


def _counts(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Count what is true in each row; of long ones one by one, faster than along an axis."""
    if rows.shape[1] < _MANY:
        return np.array(np.count_nonzero(rows, axis=1))
    return np.array([*map(np.count_nonzero, rows)], dtype=np.int64)
