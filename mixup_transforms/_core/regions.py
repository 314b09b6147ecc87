"""What a canvas shows of its parents, and how much of a region in one of them that is.

A view says where a parent lies on the canvas and what weight its pixels have there. Regions are
boxes and polygons, of real areas, and masks, of pixels; all arithmetic is in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._core.memory import bits, moved, retyped
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
    def hole(self) -> Rectangle:
        """The part of ``outer`` where nothing of the parent is seen."""
        return self.inner if self.inside == 0 else NOWHERE

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
    def nothing(cls, count: int, device: torch.device) -> Seen:
        """Return what is seen of regions that nothing is seen of."""
        no = torch.zeros(count, dtype=torch.bool, device=device)
        zeros = torch.zeros(count, 5, dtype=torch.float64, device=device)
        return cls(zeros[:, 4], no, no, zeros[:, :4])

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
        mixed: bool ``(M,)``, whether the region's canvas shows other parents too.
        moves: bool ``(M,)``, whether the region lies on it otherwise than in its own image.
    """

    def __init__(
        self,
        views: Sequence[View],
        counts: Sequence[int],
        mixed: Sequence[bool],
        device: torch.device,
    ) -> None:
        self.views, self.counts = views, counts
        rows = [
            (
                *(*view.source[::-1], *view.scale, *view.offset, *view.outer, *view.inner),
                *(view.inside, others, view.moves),
            )
            for view, others in zip(views, mixed, strict=True)
        ]
        table = torch.from_numpy(np.repeat(np.array(rows, dtype=np.float64), counts, axis=0))
        (table,) = moved(device, table)
        self.source, self.scale, self.offset = table[:, 0:2], table[:, 2:4], table[:, 4:6]
        self.outer, self.inner, self.inside = table[:, 6:10], table[:, 10:14], table[:, 14]
        self.mixed, self.moves = (table[:, 15:] != 0).unbind(1)

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
        for rows, view, weights in self._by_pixels():
            (weights,) = moved(points.device, weights)
            height, width = view.canvas
            x, y = pixel[rows].nan_to_num().long().unbind(2)
            on_canvas = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            flat = (y * width + x).clamp(0, height * width - 1)
            weight[rows] = weights.flatten()[flat].double() * on_canvas
        return placed, weight * own

    def _by_pixels(self) -> list[tuple[slice, View, Tensor]]:
        """Return the groups whose weights are not those of rectangles: rows, view and weights."""
        ends = accumulate(self.counts)
        return [
            (slice(end - count, end), view, view.weights)
            for view, count, end in zip(self.views, self.counts, ends, strict=True)
            if view.weights is not None
        ]

    def _with_pixels(
        self, seen: Seen, placed: Tensor, see: Callable[..., Seen], *more: Tensor
    ) -> Seen:
        """Look pixel by pixel where the weights are not those of rectangles."""
        for rows, _, weights in self._by_pixels():
            (weights,) = moved(placed.device, weights)
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
    sums = weights.cumsum(1, dtype=torch.int32).cumsum(0, dtype=torch.int32)
    sums = torch.nn.functional.pad(sums, (1, 0, 1, 0))  # (H + 1, W + 1), from the corner on
    columns, rows = (placed[:, k::2].clamp(0, side) for k, side in enumerate((width, height)))
    boxes = torch.stack((columns, rows), 2).flatten(1).nan_to_num()
    area = _areas(placed)
    touched = torch.cat((boxes[:, :2].floor(), boxes[:, 2:].ceil()), 1)
    weight = _box_sums(sums, boxes) / area.where(area > 0, 1)
    columns, rows = _profiles(sums, touched)
    kept = columns.sum(1)
    visible = (area > 0) & (_areas(boxes) > 0) & (kept > 0)
    whole = (boxes == placed).all(1) & (kept == _areas(touched))
    tight = _tight(columns, rows)
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
    within = [
        line * ((place >= low.unsqueeze(1)) & (place < high.unsqueeze(1)))
        for line, place, low, high in ((columns, x, x1, x2), (rows, y, y1, y2))
    ]
    return within[0], within[1]


def _tight(columns: Tensor, rows: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """Return the tight rectangles around what is above 0 in columns ``(N, W)`` and rows."""
    if not columns.shape[1]:  # of a parent of which nothing shows
        return columns.new_zeros(len(columns), 4, dtype=torch.float64)
    ends = []
    for line, first in zip((columns, rows), corner, strict=True):
        numbers = (line > 0).to(torch.uint8)
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
    shown = []
    # One by one, since the pixels around each have to be held.
    for polygon, (x1, y1, x2, y2) in zip(placed, _reach(placed, weights.shape), strict=True):
        x = torch.arange(x1, x2 + 1, device=placed.device, dtype=torch.float64)
        y = torch.arange(y1, y2 + 1, device=placed.device, dtype=torch.float64)
        grid = x.repeat(1, len(y)), y.repeat_interleave(len(x)).unsqueeze(0)
        corner = _quadrant(polygon.unsqueeze(0), *grid).view(len(y), len(x))
        here = weights[y1:y2, x1:x2]
        shown.append((corner.diff(dim=0).diff(dim=1).abs() * here).sum())
    real = area > _ROUNDING
    share = torch.stack(shown) / area.where(real, 1)
    box = torch.cat((placed.amin(1), placed.amax(1)), 1)
    weight = share.where(share < 1 - _ROUNDING, 1)
    return Seen(weight, real & (share > _ROUNDING), share > 1 - _ROUNDING, box)


def _reach(polygons: Tensor, size: Sequence[int]) -> list[list[int]]:
    """Return the rectangles of a canvas that hold what polygons ``(N, V, 2)`` cover of it."""
    height, width = size
    if not polygons.is_cpu:  # to know where they lie, the host would have to wait
        return [[0, 0, width, height]] * len(polygons)
    canvas = torch.tensor([width, height, width, height], dtype=torch.float64, device="cpu")
    ends = torch.cat((polygons.amin(1).floor(), polygons.amax(1).ceil()), 1)
    found: list[list[int]] = torch.minimum(ends.nan_to_num().clamp(min=0), canvas).long().tolist()
    return found


def see_masks(masks: Tensor, view: View, *, tight: bool) -> tuple[Seen, Tensor]:
    """Return what is seen of masks ``(N, H, W)``, with their boxes where ``tight`` asks for them.

    Returns:
        What is seen; and the masks within ``view.outer``, ``(N, h, w)``, where they are 0 at pixels
        without weight, but for those in ``view.hole``.
    """
    placed = masks
    if view.scale != (1.0, 1.0):
        width, height = (round(view.source[1 - k] * view.scale[k]) for k in range(2))
        placed = nearest(masks, [0, 0, width, height])
    present = placed if placed.dtype == torch.bool else bits(placed).bool()
    piece, shown = (cut_out(each, view.outer, view.offset) for each in (placed, present))
    if view.weights is not None:
        (weights,) = moved(masks.device, view.weights)
        shown = shown & cut_out(weights, view.outer)
        # A product, since torch selects bytes one by one.
        piece = shown if piece.dtype == torch.bool else retyped(bits(piece) * shown, piece.dtype)
    cut = view.weights is not None or view.hole != NOWHERE or shown.shape != present.shape
    # Whoever is seen as a whole keeps the box that it has.
    tight = tight and cut
    columns, rows = _lines(shown, view, with_rows=tight)
    count = columns.sum(1)
    weight, total = count.double(), _columns(present).sum(1) if cut else count
    if 0 < view.inside < 1 and view.inner != NOWHERE:
        inner = _columns(cut_out(shown, view.inner, view.outer[:2])).sum(1)
        weight = weight - (1 - view.inside) * inner
    box = _tight(columns, rows, view.outer[:2]) if tight else weight.new_zeros(len(masks), 4)
    whole = (count == total) & (total > 0)
    return Seen(weight / total.clamp(min=1), count > 0, whole, box), piece


def around(rectangle: Rectangle, hole: Rectangle) -> list[Rectangle]:
    """Cut up what a hole in a rectangle leaves of it."""
    (x1, y1, x2, y2), (left, top, right, bottom) = rectangle, hole
    parts: Iterable[Rectangle] = [rectangle]
    if hole != NOWHERE:
        parts = (
            *((x1, y1, x2, top), (x1, bottom, x2, y2)),
            *((x1, top, left, bottom), (right, top, x2, bottom)),
        )
    return [part for part in parts if part[0] < part[2] and part[1] < part[3]]


def cut_out(planes: Tensor, rectangle: Rectangle, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """Return a rectangle of planes ``(…, H, W)``, whose top left corner is given."""
    (x1, y1, x2, y2), (left, top) = rectangle, corner
    return planes[..., y1 - top : y2 - top, x1 - left : x2 - left]


def _lines(shown: Tensor, view: View, *, with_rows: bool) -> tuple[Tensor, Tensor]:
    """Return how much is seen in each column of masks, and whether anything is in each row."""
    count, height, width = shown.shape
    left, top = view.outer[:2]
    columns = torch.zeros(count, width, dtype=torch.int32, device=shown.device)
    rows = torch.zeros(count, height, dtype=torch.uint8, device=shown.device)
    for x1, y1, x2, y2 in around(view.outer, view.hole):
        part = cut_out(shown, (x1, y1, x2, y2), (left, top))
        columns[:, x1 - left : x2 - left] += _columns(part)
        if with_rows:
            rows[:, y1 - top : y2 - top] |= part.view(torch.uint8).amax(2)
    return columns, rows


def _columns(present: Tensor) -> Tensor:
    """Return how many pixels of bool masks ``(N, H, W)`` are true in each column."""
    # As bytes, each of which can count to 255: torch adds up many of them at a time.
    parts = torch.split(present.view(torch.uint8), 255, 1)
    return torch.stack([part.sum(1, dtype=torch.uint8) for part in parts]).sum(0, dtype=torch.int32)
