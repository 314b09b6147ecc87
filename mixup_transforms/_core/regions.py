"""What a canvas shows of its parents, and how much of a region in one of them that is.

A view says where a parent lies on the canvas and what weight its pixels have there. Regions are
boxes and polygons, of real areas, and masks, of pixels; all arithmetic is in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mixup_transforms._core.memory import moved
from mixup_transforms._core.resize import nearest

Size = tuple[int, int]  # height, width
Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2, without x2 and y2
NOWHERE: Rectangle = (0, 0, 0, 0)

# What float64 may leave of a polygon's area that is none.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class View:
    """What the canvas of a sample shows of one parent.

    Attributes:
        parent: the parent's place in its batch.
        source: the parent's height and width.
        canvas: the canvas's height and width.
        outer: where the parent weighs 1 on the canvas, but for ``inner``.
        inner: a part of ``outer``, where it weighs ``inside``.
        inside: from 0 to 1.
        scale: how much wider and higher the parent lies on the canvas than it is.
        offset: where its top left corner lies, x and y.
        weights: bool ``(H, W)``, what each pixel of the canvas weighs, in place of rectangles.
    """

    parent: int
    source: Size
    canvas: Size
    outer: Rectangle
    inner: Rectangle = NOWHERE
    inside: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[int, int] = (0, 0)
    weights: Tensor | None = None

    @classmethod
    def whole(cls, parent: int, size: Size) -> View:
        """Return the view of a sample that is its canvas."""
        return cls(parent, size, size, (0, 0, size[1], size[0]))

    @property
    def moves(self) -> bool:
        """Whether the parent lies on the canvas otherwise than in its own image."""
        return self.scale != (1.0, 1.0) or self.offset != (0, 0)

    def total(self) -> float:
        """Return the sum of the weights of all pixels."""
        if self.weights is not None:
            return float(self.weights.sum())
        return _area(self.outer) - (1 - self.inside) * _area(self.inner)


class Seen(NamedTuple):
    """What is seen of M regions.

    Attributes:
        weight: float64 ``(M,)``, the region's weight on the canvas, by its area.
        visible: bool ``(M,)``, whether any of it is.
        whole: bool ``(M,)``, whether all of it is.
        box: float64 ``(M, 4)``, the tight rectangle around what is visible: x1, y1, x2, y2.
    """

    weight: Tensor
    visible: Tensor
    whole: Tensor
    box: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """Return what is seen of several groups of regions, one after the other."""
        return cls(*map(torch.cat, zip(*parts, strict=True)))


def quadrants(
    centre: tuple[int, int], canvas: Size, sources: Sequence[Size]
) -> list[tuple[Rectangle, tuple[int, int]]]:
    """Return where four images lie on a canvas, each with its inner corner at a centre.

    Returns:
        For the top left, top right, bottom left and bottom right one where it shows, and where its
        own top left corner would lie, x and y.
    """
    (x, y), (height, width) = centre, canvas
    placed = []
    for k, (high, wide) in enumerate(sources):
        right, below = k in (1, 3), k in (2, 3)
        dx, dy = x if right else x - wide, y if below else y - high
        columns = (x, width) if right else (0, x)
        rows = (y, height) if below else (0, y)
        quadrant = columns[0], rows[0], columns[1], rows[1]
        placed.append((intersection(quadrant, (dx, dy, dx + wide, dy + high)), (dx, dy)))
    return placed


def intersection(one: Rectangle, other: Rectangle) -> Rectangle:
    """Return the common part of two rectangles; ``NOWHERE`` where they have none."""
    x1, y1 = max(one[0], other[0]), max(one[1], other[1])
    x2, y2 = min(one[2], other[2]), min(one[3], other[3])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else NOWHERE


def _area(rectangle: Rectangle) -> int:
    x1, y1, x2, y2 = rectangle
    return (x2 - x1) * (y2 - y1)


class Sights:
    """The views of several groups of regions, laid out a row for each region.

    Attributes:
        views: one for each group.
        counts: how many regions each group has.
    """

    def __init__(self, views: Sequence[View], counts: Sequence[int], device: torch.device) -> None:
        self.views, self.counts = views, counts
        rows = [
            (*view.source[::-1], *view.scale, *view.offset, *view.outer, *view.inner, view.inside)
            for view, count in zip(views, counts, strict=True)
            for _ in range(count)
        ]
        table = torch.tensor(rows, dtype=torch.float64, device="cpu").view(len(rows), 15)
        (table,) = moved(device, table)
        self.source, self.scale, self.offset = table[:, 0:2], table[:, 2:4], table[:, 4:6]
        self.outer, self.inner, self.inside = table[:, 6:10], table[:, 10:14], table[:, 14]

    def placed(self, points: Tensor) -> Tensor:
        """Return where points ``(M, …, 2)`` of the parents lie on their canvases."""
        fit = (-1, *[1] * (points.ndim - 2), 2)
        return points * self.scale.view(fit) + self.offset.view(fit)

    def placed_boxes(self, boxes: Tensor) -> Tensor:
        """Return where boxes ``(M, 4)`` lie on their canvases, clipped to the parents' images."""
        low = torch.minimum(boxes[:, :2].clamp(min=0), self.source)
        high = torch.minimum(boxes[:, 2:].clamp(min=0), self.source)
        return torch.cat((self.placed(low), self.placed(high)), 1)

    def see_boxes(self, boxes: Tensor) -> Seen:
        """Return what is seen of boxes ``(M, 4)``: x1, y1, x2, y2 in their parents."""
        placed = self.placed_boxes(boxes)
        shown, hole = _common(placed, self.outer), _common(placed, self.inner)
        area, shown_area, hole_area = _areas(placed), _areas(shown), _areas(hole)
        pierced = (self.inside == 0) & (hole_area > 0)
        weight = (shown_area - (1 - self.inside) * hole_area) / area.where(area > 0, 1)
        visible = (area > 0) & (shown_area > torch.where(pierced, hole_area, 0))
        whole = (shown == placed).all(1) & ~pierced
        tight = torch.where(pierced.unsqueeze(1), _without(shown, hole), shown)
        seen = Seen(weight, visible, whole, tight)
        return self._with_pixels(seen, placed, _pixels_in_box)

    def see_polygons(self, corners: Tensor) -> Seen:
        """Return what is seen of simple polygons ``(M, V, 2)`` in their parents."""
        placed = self.placed(corners)
        zero = torch.zeros_like(self.source)
        frame = torch.cat((self.placed(zero), self.placed(self.source)), 1)
        area = _polygon_areas(placed, frame)
        shown, hole = _polygon_areas(placed, self.outer), _polygon_areas(placed, self.inner)
        real = area > _ROUNDING
        share = (shown - (1 - self.inside) * hole) / area.where(real, 1)
        seen_share = (shown - torch.where(self.inside == 0, hole, 0)) / area.where(real, 1)
        weight = share.where((share < 1 - _ROUNDING), 1)
        box = torch.cat((placed.amin(1), placed.amax(1)), 1)
        seen = Seen(weight, real & (seen_share > _ROUNDING), seen_share > 1 - _ROUNDING, box)
        return self._with_pixels(seen, placed, _pixels_in_polygon, area)

    def see_points(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return where points ``(M, K, 2)`` lie on their canvases, and what their pixels weigh."""
        placed = self.placed(points)
        fit = (len(points), 1, 2)
        pixel = placed.floor()
        own = ((points >= 0) & (points < self.source.view(fit))).all(2)
        weight = _within(pixel, self.outer).double()
        weight = torch.where(_within(pixel, self.inner), self.inside.unsqueeze(1), weight)
        for rows, view in self._groups():
            if view.weights is not None:
                (weights,) = moved(points.device, view.weights)
                height, width = view.canvas
                x, y = pixel[rows].nan_to_num().long().unbind(2)
                on_canvas = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                flat = (y * width + x).clamp(0, height * width - 1)
                weight[rows] = weights.flatten()[flat].double() * on_canvas
        return placed, weight * own

    def _groups(self) -> list[tuple[slice, View]]:
        """Return the rows of each group, beside its view."""
        groups, start = [], 0
        for view, count in zip(self.views, self.counts, strict=True):
            groups.append((slice(start, start + count), view))
            start += count
        return groups

    def _with_pixels(
        self, seen: Seen, placed: Tensor, see: Callable[..., Seen], *more: Tensor
    ) -> Seen:
        """Look pixel by pixel where the weights are not those of rectangles."""
        for rows, view in self._groups():
            if view.weights is not None and rows.stop > rows.start:
                (weights,) = moved(placed.device, view.weights)
                parts = see(placed[rows], weights, *(each[rows] for each in more))
                for column, part in zip(seen, parts, strict=True):
                    column[rows] = part
        return seen


def _common(boxes: Tensor, others: Tensor) -> Tensor:
    low = torch.maximum(boxes[:, :2], others[:, :2])
    high = torch.minimum(boxes[:, 2:], others[:, 2:])
    return torch.cat((low, high), 1)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _within(pixel: Tensor, boxes: Tensor) -> Tensor:
    """Tell whether pixels ``(M, K, 2)`` lie in boxes ``(M, 4)``."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return ((pixel >= low) & (pixel < high)).all(2)


def _without(boxes: Tensor, holes: Tensor) -> Tensor:
    """Return the tight rectangles around boxes less a hole in each, which lies within its box."""
    x1, y1, x2, y2 = boxes.unbind(1)
    left, top, right, bottom = holes.unbind(1)
    # Only a hole from side to side takes a strip off.
    tall, broad = (top <= y1) & (bottom >= y2), (left <= x1) & (right >= x2)
    return torch.stack(
        (
            torch.where(tall & (left <= x1), right, x1),
            torch.where(broad & (top <= y1), bottom, y1),
            torch.where(tall & (right >= x2), left, x2),
            torch.where(broad & (bottom >= y2), top, y2),
        ),
        1,
    )


def _pixels_in_box(placed: Tensor, weights: Tensor) -> Seen:
    """Look at boxes ``(N, 4)`` on a canvas of bool weights."""
    height, width = weights.shape
    sums = weights.double().cumsum(0).cumsum(1)
    sums = torch.nn.functional.pad(sums, (1, 0, 1, 0))  # (H + 1, W + 1), from the corner on
    far = placed.new_tensor([width, height]).repeat(2)
    boxes = torch.minimum(placed.clamp(min=0), far).nan_to_num()
    area = _areas(placed)
    touched = torch.cat((boxes[:, :2].floor(), boxes[:, 2:].ceil()), 1)
    weight = _box_sums(sums, boxes) / area.where(area > 0, 1)
    kept = _box_sums(sums, touched)  # whole numbers, which are exact
    visible = (area > 0) & (_areas(boxes) > 0) & (kept > 0)
    whole = (boxes == placed).all(1) & (kept == _areas(touched))
    tight = _tight(*_profiles(sums, touched))
    box = torch.cat(
        (torch.maximum(boxes[:, :2], tight[:, :2]), torch.minimum(boxes[:, 2:], tight[:, 2:])), 1
    )
    return Seen(weight, visible, whole, box)


def _box_sums(sums: Tensor, boxes: Tensor) -> Tensor:
    """Return the weight within boxes ``(N, 4)`` of real corners, from the sums of whole pixels."""
    x1, y1, x2, y2 = boxes.unbind(1)
    corner = _between(sums, y2, x2) - _between(sums, y1, x2)
    return (corner - _between(sums, y2, x1) + _between(sums, y1, x1)).clamp(min=0)


def _between(sums: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolate sums, which grow linearly within a pixel."""
    flat, width = sums.flatten(), sums.shape[1]
    row, column = y.long(), x.long()
    row_after, column_after = (y.ceil().long(), x.ceil().long())
    down, across = y - row, x - column
    upper = flat[row * width + column] * (1 - across) + flat[row * width + column_after] * across
    lower = (
        flat[row_after * width + column] * (1 - across)
        + flat[row_after * width + column_after] * across
    )
    return upper * (1 - down) + lower * down


def _profiles(sums: Tensor, touched: Tensor) -> tuple[Tensor, Tensor]:
    """Tell which columns and rows hold weight within boxes ``(N, 4)`` of whole corners."""
    x1, y1, x2, y2 = touched.long().unbind(1)
    columns = (sums[y2] - sums[y1]).diff(dim=1)
    rows = (sums[:, x2] - sums[:, x1]).T.diff(dim=1)
    x = torch.arange(columns.shape[1], device=sums.device)
    y = torch.arange(rows.shape[1], device=sums.device)
    columns = (columns > 0) & (x >= x1.unsqueeze(1)) & (x < x2.unsqueeze(1))
    rows = (rows > 0) & (y >= y1.unsqueeze(1)) & (y < y2.unsqueeze(1))
    return columns, rows


def _tight(columns: Tensor, rows: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """Return the tight rectangles around true columns ``(N, W)`` and rows ``(N, H)``."""
    ends = []
    for line, first in zip((columns, rows), corner, strict=True):
        numbers = line.to(torch.uint8)
        last = first + line.shape[1]
        ends.append((first + numbers.argmax(1), last - numbers.flip(1).argmax(1)))
    (x1, x2), (y1, y2) = ends
    return torch.stack((x1, y1, x2, y2), 1).double()


def _polygon_areas(corners: Tensor, boxes: Tensor) -> Tensor:
    """Return the areas of polygons ``(M, V, 2)`` within boxes ``(M, 4)``."""
    x1, y1, x2, y2 = boxes.unsqueeze(2).unbind(1)
    corner = _quadrant(corners, x2, y2) - _quadrant(corners, x1, y2)
    return (corner - _quadrant(corners, x2, y1) + _quadrant(corners, x1, y1)).squeeze(1).abs()


def _quadrant(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the signed areas of polygons left of and above points ``(M, P)``.

    By Green's theorem: ∮ min(x', x) dy' over the parts of the edges that lie above y.
    """
    total = torch.zeros_like(x)
    for start, end in zip(corners.unbind(1), corners.roll(-1, 1).unbind(1), strict=True):
        (ax, ay), (bx, by) = start.T.unsqueeze(2), end.T.unsqueeze(2)
        rise = by - ay
        cut = ((y - ay) / rise.where(rise != 0, 1)).clamp(0, 1)
        first, last = torch.where(rise < 0, cut, 0), torch.where(rise < 0, 1, cut)
        low, high = ax + (bx - ax) * first - x, ax + (bx - ax) * last - x
        # ∫ min(·, 0) over a line from low to high: a trapezium, or where it crosses 0 a triangle.
        crosses = low * high < 0
        span = torch.where(crosses, (high - low).abs(), 1)
        lowest = torch.minimum(low, high)
        triangle = -lowest.square() / (2 * span)
        trapezium = (low.clamp(max=0) + high.clamp(max=0)) / 2
        mean = torch.where(crosses, triangle, trapezium) + x
        total = total + rise * (last - first) * mean
    return total


def _pixels_in_polygon(placed: Tensor, weights: Tensor, area: Tensor) -> Seen:
    """Look at polygons ``(N, V, 2)`` on a canvas of bool weights, pixel by pixel."""
    height, width = weights.shape
    x = torch.arange(width + 1, device=placed.device, dtype=torch.float64)
    y = torch.arange(height + 1, device=placed.device, dtype=torch.float64)
    grid_x, grid_y = x.repeat(1, height + 1), y.repeat_interleave(width + 1).unsqueeze(0)
    shown = []
    for polygon in placed.unsqueeze(1):  # one by one, since a canvas of each has to be held
        corner = _quadrant(polygon, grid_x, grid_y).view(height + 1, width + 1)
        shown.append((corner.diff(dim=0).diff(dim=1).abs() * weights).sum())
    real = area > _ROUNDING
    share = torch.stack(shown) / area.where(real, 1)
    box = torch.cat((placed.amin(1), placed.amax(1)), 1)
    weight = share.where(share < 1 - _ROUNDING, 1)
    return Seen(weight, real & (share > _ROUNDING), share > 1 - _ROUNDING, box)


def shown_masks(masks: Tensor, view: View) -> tuple[Tensor, tuple[int, int], Tensor]:
    """Return what a canvas shows of masks ``(N, H, W)``.

    Returns:
        The visible part of each as a piece ``(N, h, w)`` of the canvas, where the piece's top left
        corner lies, and how many pixels each mask has there, cropped or not; int64 ``(N,)``.
    """
    placed = masks
    dx, dy = view.offset
    if view.scale != (1.0, 1.0):
        width, height = (round(view.source[1 - k] * view.scale[k]) for k in range(2))
        placed = nearest(masks, [0, 0, width, height])
    total = _counts(placed)
    x1, y1, x2, y2 = view.outer
    piece = placed[:, y1 - dy : y2 - dy, x1 - dx : x2 - dx]
    if view.weights is not None:
        (weights,) = moved(masks.device, view.weights)
        piece = piece.where(weights[y1:y2, x1:x2], 0)
    elif view.inside == 0 and view.inner != NOWHERE:
        left, top, right, bottom = view.inner
        piece = piece.clone()
        piece[:, top - y1 : bottom - y1, left - x1 : right - x1] = 0
    return piece, (x1, y1), total


def see_masks(piece: Tensor, corner: tuple[int, int], total: Tensor, view: View) -> Seen:
    """Return what is seen of masks, of which :func:`shown_masks` made a piece of the canvas."""
    x1, y1 = corner
    present = piece != 0
    columns, rows = present.any(1), present.any(2)
    count = _counts(piece)
    weight = count.double()
    if 0 < view.inside < 1 and view.inner != NOWHERE:
        left, top, right, bottom = view.inner
        inner = _counts(piece[:, top - y1 : bottom - y1, left - x1 : right - x1])
        weight = weight - (1 - view.inside) * inner
    seen, whole = count > 0, (count == total) & (total > 0)
    return Seen(weight / total.clamp(min=1), seen, whole, _tight(columns, rows, corner))


def _counts(masks: Tensor) -> Tensor:
    """Return how many pixels of each mask are not 0."""
    if not masks.numel():
        return torch.zeros(len(masks), dtype=torch.int64, device=masks.device)
    present = masks if masks.dtype == torch.bool else masks != 0
    # As bytes, since torch sums bools one by one; first within rows, whose sums are short.
    return present.view(torch.uint8).sum(2, dtype=torch.int32).sum(1)
