"""A whole partner made small: by sample, and as matrix products for a batch."""

from __future__ import annotations

import numpy as np  # comes with torchvision
import torch
import torch.nn.functional as F
from torch import Tensor

from mixup_transforms._core.arithmetic import resampled, working_dtype
from mixup_transforms._core.memory import bits, moved, retyped


def resized(image: Tensor, box: list[int]) -> Tensor:
    """Resize an image ``(…, H, W)`` in at least float32."""
    x1, y1, x2, y2 = box
    height, width = y2 - y1, x2 - x1
    pixels = image.to(working_dtype(image.dtype)).reshape(1, -1, *image.shape[-2:])
    # To a width of 1, unlike a height of 1, torch's antialiased resize repeats the first row.
    narrow = width == 1
    planes, size = (pixels.mT, (width, height)) if narrow else (pixels, (height, width))
    small = F.interpolate(planes, size, mode="bilinear", antialias=True)
    small = (small.mT if narrow else small).reshape(*image.shape[:-2], height, width)
    return resampled(image, small).to(image.dtype)


def nearest_pixels(box: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the row and the column of a partner, ``(B, H)`` and ``(B, W)``, that a pixel shows."""
    x1, y1, x2, y2 = box.unbind(1)
    return _nearest(y1, y2, height), _nearest(x1, x2, width)


def _nearest_places(count: int, length: int) -> Tensor:
    """Return which of ``length`` pixels each of ``count`` shows, of a line resized to them."""
    # In float32, as for whole batches; NumPy is faster on few numbers.
    scale = np.float32(length) / np.float32(count)
    places = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * scale
    return torch.from_numpy(places.astype(np.int64).clip(0, length - 1))


def nearest(image: Tensor, box: list[int]) -> Tensor:
    """Resize an image ``(…, H, W)`` to the nearest pixel."""
    x1, y1, x2, y2 = box
    rows, columns = moved(
        image.device,
        _nearest_places(y2 - y1, image.shape[-2]),
        _nearest_places(x2 - x1, image.shape[-1]),
    )
    pixels = bits(image).index_select(-2, rows).index_select(-1, columns)
    return retyped(pixels, image.dtype)


def resized_into(images: Tensor, box: Tensor, *, nearest: bool) -> Tensor:
    """Resize a batch of partners into their boxes as matrix products, whatever the boxes hold."""
    x1, y1, x2, y2 = box.unbind(1)
    height, width = images.shape[-2:]
    inner = [1] * (images.ndim - 3)
    if nearest:
        down, across = nearest_pixels(box, height, width)
        placed = torch.take_along_dim(bits(images), down.view(-1, *inner, height, 1), -2)
        placed = torch.take_along_dim(placed, across.view(-1, *inner, 1, width), -1)
        return retyped(placed, images.dtype)
    pixels = images.to(working_dtype(images.dtype))
    down = _triangles(y1, y2, height, pixels.dtype).view(-1, *inner, height, height)
    across = _triangles(x1, x2, width, pixels.dtype)
    # All rows of a sample at once, which take one copy of its matrix.
    rows = (down @ pixels).flatten(1, -2) @ across.mT
    return resampled(images, rows.view_as(pixels)).to(images.dtype)


def _centres(low: Tensor, high: Tensor, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return where each pixel of a box lies in the partner, and how many pixels it stands for."""
    scale = length / (high - low).clamp(min=1).unsqueeze(1).to(dtype)
    pixel = torch.arange(length, device=low.device, dtype=dtype)
    return (pixel - low.unsqueeze(1) + 0.5) * scale, scale


def _nearest(low: Tensor, high: Tensor, length: int) -> Tensor:
    centre, _ = _centres(low, high, length, torch.float32)
    return centre.long().clamp(0, length - 1)


def _triangles(low: Tensor, high: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Return the weights ``(B, length, length)`` of an antialiased bilinear resize into a box."""
    centre, scale = _centres(low, high, length, dtype)
    source = torch.arange(0.5, length, device=low.device, dtype=dtype)
    weights = 1 - (source - centre.unsqueeze(2)).abs() / scale.unsqueeze(2)
    weights = weights.clamp(min=0)
    return weights / weights.sum(2, keepdim=True).clamp(min=1e-6)
