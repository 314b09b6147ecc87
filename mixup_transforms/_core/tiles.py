"""Four images laid around a centre: painted one after the other, or gathered as one expression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from mixup_transforms._core.ragged import Ragged, along
from mixup_transforms._core.regions import Size, quadrants


def of_list(
    images: Ragged,
    partner: Tensor,
    centre: Tensor,
    *,
    size: Size | None,
    others: Ragged | None,
    inplace: bool,
) -> Ragged:
    """Lay out images that may differ in size; a centre on the far corner leaves one as it is."""
    canvases: list[Tensor | None] = []
    for image, (x, y) in zip(images, centre.tolist(), strict=True):
        own = image.shape[-2], image.shape[-1]
        height, width = size or own
        if (y, x) == (height, width):
            canvases.append(None)
        elif (height, width) == own:
            canvases.append(image if inplace else torch.empty_like(image))
        else:
            canvases.append(image.new_empty(*image.shape[:-2], height, width))
    pool = images if others is None else others
    paint(images.samples, pool.samples, partner, centre, canvases)
    pairs = zip(images, canvases, strict=True)
    return Ragged(
        [(x if inplace else x.clone()) if canvas is None else canvas for x, canvas in pairs]
    )


def paint(
    own: Sequence[Any],
    pool: Sequence[Any],
    partner: Tensor,
    centre: Tensor,
    canvases: Sequence[Any],
) -> None:
    """Lay each sample and its partners out on a canvas, which may be the sample itself, or None.

    They are tensors, or views of NumPy's, whose slices take a fraction of the time. What is
    overwritten is kept aside for as long as others have to see it: along a cycle three.
    """
    rows, centres = partner.tolist(), centre.tolist()
    shared = pool is own
    waiting = Counter(chain.from_iterable(rows)) if shared else Counter()
    aside: dict[int, Any] = {}
    for i in along([row[0] for row in rows]) if shared else range(len(rows)):
        canvas, others = canvases[i], rows[i]
        if canvas is own[i]:
            aside[i] = own[i].clone() if isinstance(own[i], Tensor) else own[i].copy()
        if canvas is not None:
            partners = [aside.get(j, own[j]) if shared else pool[j] for j in others]
            _lay_out((aside.get(i, own[i]), *partners), centres[i], canvas)
        waiting.subtract(others if shared else ())
        for j in (i, *others):
            if not waiting[j]:
                aside.pop(j, None)


def _lay_out(images: Sequence[Any], centre: Sequence[int], canvas: Any) -> None:
    """Write four images into a canvas, and 0 where none of them reaches."""
    x, y = centre
    size = canvas.shape[-2], canvas.shape[-1]
    placed = quadrants((x, y), size, [(image.shape[-2], image.shape[-1]) for image in images])
    covered = sum((x2 - x1) * (y2 - y1) for (x1, y1, x2, y2), _ in placed)
    if covered < size[0] * size[1]:
        canvas[...] = 0
    for image, ((x1, y1, x2, y2), (dx, dy)) in zip(images, placed, strict=True):
        canvas[..., y1:y2, x1:x2] = image[..., y1 - dy : y2 - dy, x1 - dx : x2 - dx]


def gathered(own: Tensor, pool: Tensor, partner: Tensor, centre: Tensor, canvas: Size) -> Tensor:
    """Return what :func:`paint` would, as one expression, with pixels looked up one by one."""
    height, width = own.shape[-2:]
    x, y = torch.arange(canvas[1], device=own.device), torch.arange(canvas[0], device=own.device)
    column, row = x - centre[:, :1], y - centre[:, 1:]
    right, below = column >= 0, row >= 0
    column = torch.where(right, column, column + width)
    row = torch.where(below, row, row + height)
    if pool is not own:
        partner, pool = partner + len(own), torch.cat((own, pool))
    first = torch.arange(len(own), device=own.device).unsqueeze(1)
    quadrant = 2 * below.unsqueeze(2) + right.unsqueeze(1)
    parent = torch.cat((first, partner), 1).gather(1, quadrant.flatten(1)).view_as(quadrant)
    safe_row, safe_column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    places = parent, safe_row.unsqueeze(2), safe_column.unsqueeze(1)
    mixed = pool.movedim((-2, -1), (1, 2))[places].movedim((1, 2), (-2, -1))
    if canvas == (height, width):
        return mixed  # whose every pixel some image covers
    nowhere = (safe_row != row).unsqueeze(2) | (safe_column != column).unsqueeze(1)
    return mixed.masked_fill(nowhere.view(-1, *[1] * (own.ndim - 3), *canvas), 0)
