"""Objects drawn over pictures: boxes, outlines of masks, keypoints, and tags beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np  # comes with torchvision
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from mixup_transforms._preview.text import drawable, shortened

# Light colours along dark edges, which stand out from light and from dark pictures. They are two of
# Okabe and Ito's palette, which colour-blind readers can tell apart.
OWN, PARTNER, EDGE = "#56b4e9", "#e69f00", "#000000"
LINE, DOT = 2, 3  # the width of a line and the radius of a dot, without their edges of one pixel
PADDING = 3  # within a tag, beside its words
FAR = 2**14  # more pixels than a picture has

_Plane = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Point = tuple[float, float]
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside


@dataclass(frozen=True)
class Mark:
    """An object to be drawn, its geometry in pixels of its image.

    Attributes:
        colour: that of the image that it comes from.
        corners: those of its box; none where it has no box.
        mask: bool ``(H, W)``; ``None`` where it has none.
        points: its keypoints.
        weight: what it weighs, in words; none where that is not to be said.
        name: that of its class; none where it has no label.
    """

    colour: str
    corners: Sequence[Point] = ()
    mask: Tensor | None = None
    points: Sequence[Point] = ()
    weight: str = ""
    name: str = ""


@dataclass(frozen=True)
class Tag:
    """Words on a ground of an object's colour, and where that lies."""

    words: str
    colour: str
    box: Box

    def draw(
        self, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, origin: tuple[int, int]
    ) -> None:
        """Draw the tag, from an origin on."""
        left, top, right, bottom = (z + origin[k % 2] for k, z in enumerate(self.box))
        pen.rectangle((left, top, right - 1, bottom - 1), fill=self.colour, outline=EDGE)
        pen.text((left + PADDING, top + 1), self.words, font=font, fill=EDGE)


def draw(picture: Image.Image, marks: Sequence[Mark], scale: Point) -> None:
    """Draw objects over a picture that shows their image larger by a scale."""
    pen = ImageDraw.Draw(picture)
    for mark in marks:
        if mark.mask is not None:
            _draw_outline(picture, mark.mask, mark.colour)
        if mark.corners:
            _draw_box(pen, _scaled(mark.corners, scale), mark.colour)
    for mark in marks:  # on top, since they are small
        for dot in _dots(mark, scale, picture.size):
            pen.ellipse(dot, fill=mark.colour, outline=EDGE)


def place(
    marks: Sequence[Mark],
    scale: Point,
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont,
    *,
    across: tuple[int, int],
) -> list[Tag]:
    """Place a tag beside each object that has a weight, so that no two overlap.

    Args:
        marks: the objects.
        scale: how much larger than their image a picture shows them.
        size: the picture's width and height.
        font: what the words are set in.
        across: where tags may begin and have to end, from the picture's left; below the picture
            there is as much room as they need.
    """
    weighed = [mark for mark in marks if mark.weight]
    left, right = across
    height = sum(font.getmetrics()) + 2
    taken = np.zeros((size[1] + height * len(weighed), right - left), dtype=np.int64)
    dots = np.zeros_like(taken)
    for x1, y1, x2, y2 in (dot for mark in marks for dot in _dots(mark, scale, size)):
        dots[max(y1, 0) : y2, max(x1 - left, 0) : x2 - left] = 1
    placed, end = [], size[1]
    for mark in weighed:
        words = _words(mark, font, right - left - 2 * PADDING)
        width = min(math.ceil(font.getlength(words)) + 2 * PADDING, right - left)
        rows = slice(end + height)  # below all others there is always room
        cost = _covered(dots[rows], width, height)
        cost += _distances(cost.shape, _reach(mark, scale, size), (width, height), across, size[0])
        cost[max(size[1] - height + 1, 0) :] += FAR
        cost[_covered(taken[rows], width, height) > 0] = np.iinfo(np.int64).max
        top, start = (int(k) for k in np.unravel_index(cost.argmin(), cost.shape))
        taken[top : top + height, start : start + width] = 1
        end = max(end, top + height)
        box = start + left, top, start + left + width, top + height
        placed.append(Tag(words, mark.colour, box))
    return placed


def _distances(
    shape: tuple[int, ...], reach: Box, tag: tuple[int, int], across: tuple[int, int], end: int
) -> _Plane:
    """Return how far from an object a tag lies, for each place of its corner.

    Twice as far as it stands out of the picture, which ends at ``end``.
    """
    x, y = np.arange(shape[1]) + across[0], np.arange(shape[0])[:, np.newaxis]
    (x1, y1, _, y2), (width, height) = reach, tag
    # Above the object, in it, in it below, below it.
    wanted = (y1 - height, y1, y2 - height, y2)
    down = np.minimum.reduce([abs(y - near) + rank for rank, near in enumerate(wanted)])
    beside = (-x).clip(0) + (x + width - end).clip(0)
    distances: _Plane = down + abs(x - x1) + 2 * beside
    return distances


def _covered(plane: _Plane, width: int, height: int) -> _Plane:
    """Return how much of a plane a tag of a size covers, for each place of its top left corner."""
    sums: _Plane = np.pad(plane.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = sums[height:] - sums[:-height]
    return sums[:, width:] - sums[:, :-width]


def _words(mark: Mark, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return what a tag says in one line, of the name as much as fits."""
    name = drawable(" ".join(mark.name.split()), font)
    room = width - font.getlength(f"{mark.weight} ")
    return f"{mark.weight} {shortened(name, font, room)}".rstrip()


def _scaled(points: Iterable[Point], scale: Point) -> list[tuple[int, int]]:
    """Return where points lie in a picture, in whole pixels that Pillow can count to."""
    return [
        (max(-FAR, min(round(x * scale[0]), FAR)), max(-FAR, min(round(y * scale[1]), FAR)))
        for x, y in points
    ]


def _dots(mark: Mark, scale: Point, size: tuple[int, int]) -> list[Box]:
    """Return the boxes of the dots of the keypoints that lie in a picture."""
    places = [(x * scale[0], y * scale[1]) for x, y in mark.points]
    pixels = [(int(x), int(y)) for x, y in places if 0 <= x < size[0] and 0 <= y < size[1]]
    return [(x - DOT - 1, y - DOT - 1, x + DOT + 1, y + DOT + 1) for x, y in pixels]


def _around(points: Sequence[tuple[int, int]]) -> Box:
    """Return the box around points, of two pixels at least, which it takes to be seen."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(*xs, min(xs) + LINE), max(*ys, min(ys) + LINE)


def _reach(mark: Mark, scale: Point, size: tuple[int, int]) -> Box:
    """Return the box around an object, as far as it lies in its picture."""
    corners = mark.corners
    if not corners and mark.mask is not None:
        y, x = mark.mask.nonzero().T.tolist()
        corners = [(min(x), min(y)), (max(x) + 1, max(y) + 1)] if x else []
    if not corners:
        return 0, 0, *size
    left, top, right, bottom = _around(_scaled(corners, scale))
    width, height = size
    x1, y1 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return x1, y1, min(max(right, x1 + 1), width), min(max(bottom, y1 + 1), height)


def _draw_box(pen: ImageDraw.ImageDraw, corners: Sequence[tuple[int, int]], colour: str) -> None:
    x1, y1, x2, y2 = _around(corners)
    if {*corners} <= {*product((x1, x2), (y1, y2))}:
        for depth in range(-1, LINE + 1):
            left, top, right, bottom = x1 + depth, y1 + depth, x2 - 1 - depth, y2 - 1 - depth
            if left <= right and top <= bottom:
                # Of lines, since Pillow's outlines of small rectangles are too large.
                ring = (left, top), (right, top), (right, bottom), (left, bottom), (left, top)
                pen.line(ring, fill=colour if 0 <= depth < LINE else EDGE)
        return
    closed = [*corners, *corners[:2]]  # past the first corner, which is joined, too
    pen.line(closed, EDGE, LINE + 2, joint="curve")
    pen.line(closed, colour, LINE, joint="curve")


def _draw_outline(picture: Image.Image, mask: Tensor, colour: str) -> None:
    whole = Image.fromarray(mask.numpy().astype(np.uint8) * 255)
    # Enlarged pixel by pixel like its image; reduced, what is there at all stays.
    larger = whole.width <= picture.width
    way = Image.Resampling.NEAREST if larger else Image.Resampling.BOX
    whole = whole.resize(picture.size, way).point(lambda value: 255 * (value > 0))
    box = whole.getbbox()
    if box is None:
        return
    x1, y1, x2, y2 = box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2
    filled = whole.crop((x1, y1, x2, y2))  # with nothing beyond the picture
    inside = filled.filter(ImageFilter.MinFilter(2 * LINE + 1))
    edge = ImageChops.subtract(
        filled.filter(ImageFilter.MaxFilter(3)), inside.filter(ImageFilter.MinFilter(3))
    )
    picture.paste(EDGE, (x1, y1, x2, y2), edge)
    picture.paste(colour, (x1, y1, x2, y2), ImageChops.subtract(filled, inside))
