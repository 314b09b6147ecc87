"""What is to be seen of each object in a mixed image of any number of parents, counted from pixels.

Plain NumPy, to be read beside the written law; it knows nothing of the package. Pixel (row,
column) is the square [column, column + 1] × [row, row + 1]. A size is (height, width), a box x1,
y1, x2, y2.

For an object with region R in parent k: weight = Σ m_k(p) over T_k(R) on the canvas / |T_k(R)|.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class View:
    """T: how a parent of a size lies on the canvas and off it, scaled to fill a box."""

    size: tuple
    box: tuple

    @classmethod
    def as_it_is(cls, size):
        return cls(tuple(size), (0, 0, size[1], size[0]))

    @property
    def scale(self):
        x1, y1, x2, y2 = self.box
        return (x2 - x1) / self.size[1], (y2 - y1) / self.size[0]

    @property
    def moves(self):
        return self != View.as_it_is(self.size)

    def shifted(self, right, down):
        x1, y1, x2, y2 = self.box
        return View(self.size, (x1 + right, y1 + down, x2 + right, y2 + down))

    def points(self, points):
        """x → x1 + x · (x2 − x1) / width, and y alike."""
        points = np.asarray(points, dtype=np.float64)
        x1, y1, x2, y2 = self.box
        height, width = self.size
        return np.stack(
            [
                x1 + points[..., 0] * (x2 - x1) / width,
                y1 + points[..., 1] * (y2 - y1) / height,
            ],
            axis=-1,
        )

    def nearest(self, plane, frame):
        """Lay a plane out on a frame: each pixel takes the one that its centre hits."""
        x1, y1, x2, y2 = self.box
        height, width = self.size
        laid_out = np.zeros(frame, dtype=plane.dtype)
        for row in range(max(y1, 0), min(y2, frame[0])):
            for column in range(max(x1, 0), min(x2, frame[1])):
                # floor((i + ½) · scale), in whole numbers
                from_row = (2 * (row - y1) + 1) * height // (2 * (y2 - y1))
                from_column = (2 * (column - x1) + 1) * width // (2 * (x2 - x1))
                laid_out[row, column] = plane[from_row, from_column]
        return laid_out

    def smooth(self, image, frame):
        """Lay an image (channels, height, width) out on a frame, scaled with a triangle filter."""
        if self.scale == (1, 1):
            return np.stack([self.nearest(plane, frame) for plane in image]).astype(np.float64)
        x1, y1, x2, y2 = self.box
        laid_out = np.zeros((len(image), *frame))
        down, across = triangles(self.size[0], y2 - y1), triangles(self.size[1], x2 - x1)
        laid_out[:, y1:y2, x1:x2] = down @ image.astype(np.float64) @ across.T
        return laid_out


def triangles(before, after):
    """Row i: the weight of each of ``before`` pixels in pixel i of ``after``; antialiased."""
    step = before / max(after, 1)
    centres = (np.arange(after)[:, None] + 0.5) * step
    distance = np.abs(np.arange(before) + 0.5 - centres) / max(step, 1)
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(1, keepdims=True)


@dataclass(frozen=True)
class Part:
    """One parent of a mixed image: its weight m in each pixel of the canvas, and its view T."""

    share: np.ndarray
    view: View


# The mixers: the parents' sizes and params to the parents' parts, its own first


def mixup(own, other, lam):
    if lam == 1:  # gated off: it keeps its own canvas
        return unmixed(own, other)
    canvas = tuple(np.maximum(own, other))
    mine, theirs = extent(own, canvas), extent(other, canvas)
    return (
        Part(np.where(mine & theirs, lam, mine), View.as_it_is(own)),
        Part(np.where(mine & theirs, 1 - lam, theirs), View.as_it_is(other)),
    )


def cutmix(own, other, box):
    theirs = filled(box, own) & extent(other, own)
    return Part(1.0 - theirs, View.as_it_is(own)), Part(1.0 * theirs, View.as_it_is(other))


def resizemix(own, other, box):
    theirs = filled(box, own)
    return Part(1.0 - theirs, View.as_it_is(own)), Part(1.0 * theirs, View(other, tuple(box)))


def fmix(own, other, mask):
    return Part(1.0 * mask, View.as_it_is(own)), Part(1.0 - mask, View.as_it_is(other))


def pasted(own, other, mask):
    """The partner's pixels where the mask, which lies top left in a larger one, is false."""
    theirs = ~mask[: own[0], : own[1]] & extent(other, own)
    return Part(1.0 - theirs, View.as_it_is(own)), Part(1.0 * theirs, View.as_it_is(other))


def mosaic(*sizes, centre, canvas=None):
    (x, y), (height, width) = centre, canvas or sizes[0]
    if (x, y) == (width, height):  # gated off
        return unmixed(*sizes)
    quadrants = (0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)
    # The corner of each that lies at the centre: the own image's is its bottom right one.
    inner = (1, 1), (0, 1), (1, 0), (0, 0)
    parts = []
    for size, quadrant, (across, down) in zip(sizes, quadrants, inner, strict=True):
        view = View.as_it_is(size).shifted(x - across * size[1], y - down * size[0])
        reach = filled(np.maximum(view.box, 0), (height, width))
        parts.append(Part(1.0 * (filled(quadrant, (height, width)) & reach), view))
    return tuple(parts)


def unmixed(own, *others):
    hidden = (Part(np.zeros(own), View.as_it_is(other)) for other in others)
    return Part(np.ones(own), View.as_it_is(own)), *hidden


def extent(size, canvas):
    return filled((0, 0, size[1], size[0]), canvas)


def filled(box, canvas):
    x1, y1, x2, y2 = box
    inside = np.zeros(canvas, dtype=bool)
    inside[y1:y2, x1:x2] = True
    return inside


def mixed_pixels(parts, images):
    """x' = Σ m_k ⊙ T_k(x_k)."""
    canvas = parts[0].share.shape
    return sum(
        part.share * part.view.smooth(image, canvas)
        for part, image in zip(parts, images, strict=True)
    )


def shares(parts):
    """The parents' shares of the covered pixels."""
    covered = (sum(part.share for part in parts) > 0).sum()
    return [part.share.sum() / covered for part in parts]


# Regions: how much of each pixel of a frame an object covers, clipped to its image and laid out


def cover_of_mask(mask, view, frame):
    return 1.0 * view.nearest(mask.astype(bool), frame)


def cover_of_box(box, view, frame):
    x1, y1, x2, y2 = laid_out_box(box, view)
    return np.outer(overlap(y1, y2, frame[0]), overlap(x1, x2, frame[1]))


def cover_of_polygon(corners, view, frame):
    height, width = view.size
    polygon = clipped([tuple(corner) for corner in corners], (0, 0, width, height))
    polygon = [tuple(point) for point in view.points(polygon)] if polygon else []
    cover = np.zeros(frame)
    for row in range(frame[0]):
        band = clipped(polygon, (-np.inf, row, np.inf, row + 1))
        for column in range(frame[1]):
            cover[row, column] = area(clipped(band, (column, row, column + 1, row + 1)))
    return cover


def laid_out_box(box, view):
    height, width = view.size
    corners = np.reshape(np.asarray(box, dtype=np.float64), (2, 2))
    return view.points(np.clip(corners, 0, (width, height))).ravel()


def overlap(low, high, length):
    """The length of [low, high] in each pixel [i, i + 1]."""
    pixel = np.arange(length)
    return np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)


def clipped(polygon, box):
    """Sutherland and Hodgman's: cut a polygon at each side of a box in turn."""
    x1, y1, x2, y2 = box
    for axis, limit, sign in ((0, x1, 1), (1, y1, 1), (0, x2, -1), (1, y2, -1)):
        kept = []
        if not np.isfinite(limit):
            continue
        for start, end in zip(polygon[-1:] + polygon[:-1], polygon, strict=True):
            before, after = (sign * (point[axis] - limit) for point in (start, end))
            if (before >= 0) != (after >= 0):
                t = before / (before - after)
                crossing = [a + t * (b - a) for a, b in zip(start, end, strict=True)]
                crossing[axis] = limit
                kept.append(tuple(crossing))
            if after >= 0:
                kept.append(end)
        polygon = kept
    return polygon


def area(polygon):
    """Gauss's shoelace formula."""
    turned = polygon[1:] + polygon[:1]
    return abs(sum(x * v - u * y for (x, y), (u, v) in zip(polygon, turned, strict=True))) / 2


def corners_of(box, form):
    """The corners of a rotated box; it turns against the clock, in degrees, y pointing down."""
    if form == "XYXYXYXY":
        return np.reshape(np.asarray(box, dtype=np.float64), (4, 2))
    x, y, width, height, angle = (float(value) for value in box)
    angle = np.deg2rad(angle)
    right = width * np.array([np.cos(angle), -np.sin(angle)])
    down = height * np.array([np.sin(angle), np.cos(angle)])
    first = np.array([x, y])
    if form == "CXCYWHR":
        first = first - right / 2 - down / 2
    return np.stack([first, first + right, first + right + down, first + down])


# What is seen of an object


@dataclass(frozen=True)
class Seen:
    """An object's weight, whether all of it is visible, and the tight rectangle of what is."""

    weight: float
    wholly: bool
    tight: np.ndarray


def seen(part, *, mask=None, box=None, corners=None):
    """See an object by its instance mask, else by its box or corners; None if it is invisible."""
    # Large enough that what falls off the canvas, on any side, is painted too, and counted below
    # the line.
    right, down = (max(0, -low) for low in part.view.box[:2])
    view = part.view.shifted(right, down)
    height, width = part.share.shape
    frame = max(height + down, view.box[3]), max(width + right, view.box[2])
    share = np.zeros(frame)
    share[down : down + height, right : right + width] = part.share
    if mask is not None:
        cover = cover_of_mask(mask, view, frame)
    elif box is not None:
        cover = cover_of_box(box, view, frame)
    else:
        cover = cover_of_polygon(corners, view, frame)
    visible = (cover > 0) & (share > 0)
    # What rounding leaves of a polygon without area is none.
    if not visible.any() or cover.sum() < 1e-9:
        return None
    rows, columns = visible.nonzero()
    tight = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=float)
    if mask is None and box is not None:
        x1, y1, x2, y2 = laid_out_box(box, view)
        tight = np.array([*np.maximum(tight[:2], (x1, y1)), *np.minimum(tight[2:], (x2, y2))])
    weight = (share * cover).sum() / cover.sum()
    tight -= [right, down, right, down]
    return Seen(weight, not ((cover > 0) & (share == 0)).any(), tight)


def visible_mask(part, mask):
    """An object's instance mask on the canvas: what is visible of it."""
    return part.view.nearest(mask.astype(bool), part.share.shape) & (part.share > 0)


def point_weights(part, points):
    """The weight m of the pixel that each point (…, 2) lies in: 0 off its image or the canvas."""
    points = np.asarray(points, dtype=np.float64)
    weights = np.zeros(points.shape[:-1])
    for place in np.ndindex(weights.shape):
        column, row = np.floor(part.view.points(points[place])).astype(int)
        if within(points[place], part.view.size) and within((column, row), part.share.shape):
            weights[place] = part.share[row, column]
    return weights


def within(point, size):
    return 0 <= point[0] < size[1] and 0 <= point[1] < size[0]
