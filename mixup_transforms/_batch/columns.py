"""What targets hold of their objects, a row for each: taken together, chosen, typed again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import convert_bounding_box_format

from mixup_transforms._batch.parse import unwrap
from mixup_transforms._core.memory import take
from mixup_transforms._core.regions import Size

_Format = tv_tensors.BoundingBoxFormat


def together(values: Sequence[Any], like: Any) -> Any:
    """Return the rows of all targets, one after the other, in a plain tensor or a list."""
    if isinstance(like, Tensor):
        return torch.cat([unwrap(value) for value in values or [like[:0]]])
    return [*chain.from_iterable(values)]


def chosen(column: Any, rows: Sequence[int]) -> Any:
    """Return some rows of a column, in a plain tensor or a list."""
    if isinstance(column, Tensor):
        return take(unwrap(column), torch.tensor(rows, dtype=torch.int64, device="cpu"))
    return [column[row] for row in rows]


def typed(column: Any, like: Any, canvas: Size) -> Any:
    """Return a column in the type of another, beside an image of the given height and width."""
    if isinstance(like, tv_tensors.BoundingBoxes | tv_tensors.KeyPoints):
        return tv_tensors.wrap(column, like=like, canvas_size=canvas)
    if isinstance(like, tv_tensors.TVTensor):
        return tv_tensors.wrap(column, like=like)
    if isinstance(like, np.ndarray):
        return np.stack(column) if column else like[:0]
    return tuple(column) if isinstance(like, tuple) else column


def corners_of(boxes: Tensor, form: Any) -> Tensor:
    """Return x1, y1, x2, y2 of boxes, or of rotated ones all corners, in float64."""
    # Integers as such, since torchvision rounds halves of them in its own way, but wide enough.
    given = boxes.double() if boxes.is_floating_point() else boxes.long()
    rotated = tv_tensors.is_rotated_bounding_format(form)
    new = _Format.XYXYXYXY if rotated else _Format.XYXY
    found: Tensor = convert_bounding_box_format(given, form, new)
    return found.double()
