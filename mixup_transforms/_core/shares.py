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
        # As bytes, since torch sums bools one by one.
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
    lowest = [
        np.partition(row, -count)[-count] if count else np.inf
        for row, count in zip(rows, counts.tolist(), strict=True)
    ]
    thresholds = np.array(lowest, dtype=rows.dtype)[:, None]
    np.greater(rows, thresholds, out=chosen)
    ties = rows == thresholds
    missing = counts - np.count_nonzero(chosen, axis=1)
    for i in np.flatnonzero(np.count_nonzero(ties, axis=1) > missing):
        ties[i, np.flatnonzero(ties[i])[missing[i] :]] = False
    np.logical_or(chosen, ties, out=chosen)
    return mask.view_as(scores)
