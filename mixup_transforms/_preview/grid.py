"""A labelled picture of what a mixer does to a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mixup_transforms._mixers.base import Mixer
from mixup_transforms._preview.marks import OWN, PARTNER, Mark, Tag, draw, place
from mixup_transforms._preview.objects import are_targets, object_rows
from mixup_transforms._preview.rows import HEADINGS, Row, rows
from mixup_transforms._preview.text import drawable, wrapped

MARGIN, GAP, ROW_GAP = 16, 8, 14
SMALLEST, LARGEST = 96, 512  # the longer side of a tile, in pixels
TAG_SIZE = 0.75  # of the letters in a tag, by those elsewhere
PAPER, FRAME, MUTED, INK = "#ffffff", "#c8c8c8", "#6b6b6b", "#1f1f1f"


@dataclass(frozen=True)
class _Style:
    """What differs between a grid of labels and one of objects.

    Attributes:
        smallest: the longer side of the largest tile is no smaller.
        grounds: the colours under the headings.
        legend: what is said once, below all rows.
    """

    smallest: int
    grounds: Sequence[str]
    legend: str


SHARE = (
    "Own share: white where the mixed image shows the own one, black where it shows the partner, "
    "grey where it blends both"
)
LABELS = _Style(SMALLEST, (PAPER,) * 4, f"{SHARE}. Its mean is λ, the weight of the own label.")
OBJECTS = _Style(
    256,
    (OWN, PARTNER, PAPER, PAPER),
    f"{SHARE}, pink where neither has pixels. Objects: blue ones are the own image's, orange ones "
    "the partner's; beside each stands its weight, the share of it that shows in the mixed image.",
)


def preview(
    images: Tensor | Sequence[Tensor],
    labels: Tensor | Sequence[Mapping[Any, Any]],
    mix: Mixer,
    *,
    class_names: Sequence[str] | None = None,
    max_samples: int = 8,
    font: ImageFont.FreeTypeFont | None = None,
) -> Image.Image:
    """Draw what a mixer does to a batch: a row for each sample, with λ and its mixed label.

    The panels of a row are the sample's own image, its partner's, the share of the own pixels
    (white for own, black for the partner's, grey for a blend) and the mixed image. The caption has
    λ and the two largest weights of the mixed label. The whole batch is mixed, once, with params
    drawn as a call of the mixer draws them; in ``eval()`` mode nothing is mixed. Nothing given is
    changed, whatever the mixer's ``inplace`` and ``labels_getter``.

    Of a batch of objects the images show boxes, the outlines of instance masks and the keypoints,
    blue those of the own image and orange those of the partner's. Beside each object in the mixed
    image stand its weight and its class. Where images differ in size, the share is pink in the
    corners that nobody covers.

    Args:
        images: ``(B, 1 or 3, H, W)``, floating in [0, 1] or uint8; not normalised. With objects
            also a list of ``(1 or 3, H, W)``, which may differ in size. All are drawn on one scale:
            small ones enlarged by a whole number, pixel by pixel, large ones reduced.
        labels: integer ``(B,)``, or floating ``(B, C)``, such as class probabilities. For objects a
            list of B dicts, as the mixers take them; their classes are integers ``(N,)`` under
            "labels", if they have any.
        mix: a mixer, such as ``RandomMixup`` or ``RandomChoice``.
        class_names: a name for each of the C classes; ``class 0``, ``class 1``, … by default.
        max_samples: draw no more rows than this, at least 1.
        font: what the text is set in; by default Pillow's own, which has little beyond ASCII, so
            that λ is written "lam", é as e, and what it has no likeness of as a question mark.

    Returns:
        An RGB image.

    Raises:
        TypeError: for arguments of a wrong type or dtype.
        ValueError: for images, labels or objects of another shape or out of range, and for another
            number of class names than of classes.

    Example:
        >>> import torch
        >>> from torchvision import tv_tensors
        >>> from mixup_transforms import RandomCutMix, preview
        >>> images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 1])
        >>> grid = preview(images, labels, RandomCutMix(), class_names=["cat", "dog", "owl"])
        >>> grid.mode, grid.width
        ('RGB', 440)
        >>> box = tv_tensors.BoundingBoxes([[4, 8, 24, 30]], format="XYXY", canvas_size=(32, 32))
        >>> targets = [{"boxes": box, "labels": label[None]} for label in labels]
        >>> preview(images, targets, RandomCutMix(), class_names=["cat", "dog", "owl"]).width
        1080
    """
    face = ImageFont.load_default(size=17) if font is None else font
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise TypeError(f"font must be a PIL.ImageFont.FreeTypeFont, got {type(face).__name__}")
    show: Any = object_rows if are_targets(labels) else rows
    chosen = show(images, labels, mix, class_names=class_names, max_samples=max_samples)
    return _draw(chosen, face, OBJECTS if are_targets(labels) else LABELS)


@dataclass(frozen=True)
class _Tile:
    """A panel as it lies in its cell.

    Attributes:
        panel: ``(1 or 3, H, W)``.
        objects: what is drawn over it.
        size: its width and height in the grid.
        indent: how far it is from the left of its cell.
        tags: what is said of its objects.
    """

    panel: Tensor
    objects: Sequence[Mark]
    size: tuple[int, int]
    indent: int
    tags: Sequence[Tag]

    @classmethod
    def of(
        cls,
        panel: Tensor,
        objects: Sequence[Mark],
        *,
        size: tuple[int, int],
        cell: int,
        font: ImageFont.FreeTypeFont,
    ) -> _Tile:
        """Centre a panel in a cell of a width, in all of which there may be tags."""
        indent = (cell - size[0]) // 2
        tags = place(objects, _scale(panel, size), size, font, across=(-indent, cell - indent))
        return cls(panel, objects, size, indent, tags)

    @property
    def height(self) -> int:
        """How much room it takes with all its tags."""
        return max([self.size[1], *(tag.box[3] for tag in self.tags)])

    def draw(self, grid: Image.Image, x: int, y: int, font: ImageFont.FreeTypeFont) -> None:
        """Draw it into a cell, of which the top left corner is given."""
        corner = x + self.indent, y
        picture = _picture(self.panel, self.size)
        draw(picture, self.objects, _scale(self.panel, self.size))
        grid.paste(picture, corner)
        pen = ImageDraw.Draw(grid)
        # Around the tile, not on it: a white mask needs an edge, and no pixel may be hidden.
        end = corner[0] + self.size[0], corner[1] + self.size[1]
        pen.rectangle((corner[0] - 1, corner[1] - 1, *end), outline=FRAME)
        for tag in self.tags:
            tag.draw(pen, font, corner)


def _draw(chosen: Sequence[Row], font: ImageFont.FreeTypeFont, style: _Style) -> Image.Image:
    """Lay out the rows under their headings, each over its caption."""
    sizes = _sizes(chosen, style.smallest)
    cells = [
        max(SMALLEST, math.ceil(font.getlength(name)), *(of_row[k][0] for of_row in sizes))
        for k, name in enumerate(HEADINGS)
    ]
    lefts = [MARGIN + sum(cells[:k]) + k * GAP for k in range(len(cells))]
    room = sum(cells) + (len(cells) - 1) * GAP
    line = sum(font.getmetrics()) + 2
    captions = [wrapped(drawable(row.caption, font), font, room) for row in chosen]
    legend = wrapped(drawable(style.legend, font), font, room)
    small = font.font_variant(size=round(font.size * TAG_SIZE))
    tiles = [_tiles(row, of_row, cells, small) for row, of_row in zip(chosen, sizes, strict=True)]
    heights = [max(tile.height for tile in of_row) for of_row in tiles]
    lines = 1 + len(legend) + sum(map(len, captions))
    tall = 2 * MARGIN + lines * line + sum(heights) + len(chosen) * (2 * GAP + ROW_GAP)

    grid = Image.new("RGB", (2 * MARGIN + room, tall), PAPER)
    pen = ImageDraw.Draw(grid)
    for name, ground, x, cell in zip(HEADINGS, style.grounds, lefts, cells, strict=True):
        _write_heading(pen, name, (x + cell / 2, MARGIN), line, font, ground)
    y = MARGIN + line
    for of_row, words, height in zip(tiles, captions, heights, strict=True):
        y += GAP
        for tile, x in zip(of_row, lefts, strict=True):
            tile.draw(grid, x, y, small)
        y = _write(pen, words, y + height + GAP, line, font, INK) + ROW_GAP
    _write(pen, legend, y, line, font, MUTED)
    return grid


def _tiles(
    row: Row,
    sizes: Sequence[tuple[int, int]],
    cells: Sequence[int],
    font: ImageFont.FreeTypeFont,
) -> list[_Tile]:
    """Return the tiles of one row, each in its cell."""
    parts = zip(row.panels, row.marks, sizes, cells, strict=True)
    return [
        _Tile.of(panel, objects, size=size, cell=cell, font=font)
        for panel, objects, size, cell in parts
    ]


def _write_heading(
    pen: ImageDraw.ImageDraw,
    name: str,
    at: tuple[float, float],
    line: int,
    font: ImageFont.FreeTypeFont,
    ground: str,
) -> None:
    left, _, right, _ = pen.textbbox(at, name, font=font, anchor="ma")
    pen.rectangle((left - 2 * GAP, at[1], right + 2 * GAP, at[1] + line - 1), fill=ground)
    pen.text(at, name, font=font, fill=MUTED if ground == PAPER else INK, anchor="ma")


def _sizes(chosen: Sequence[Row], smallest: int) -> list[list[tuple[int, int]]]:
    """Return the width and height of each row's tiles, all of them on one scale."""
    shapes = [[panel.shape[-2:] for panel in row.panels] for row in chosen]
    longest = max(side for of_row in shapes for shape in of_row for side in shape)
    scale = math.ceil(smallest / longest) if longest < LARGEST else LARGEST / longest
    return [
        [(max(1, round(width * scale)), max(1, round(height * scale))) for height, width in of_row]
        for of_row in shapes
    ]


def _scale(panel: Tensor, size: tuple[int, int]) -> tuple[float, float]:
    """Return how much larger a panel is drawn, across and down."""
    return size[0] / panel.shape[-1], size[1] / panel.shape[-2]


def _picture(panel: Tensor, size: tuple[int, int]) -> Image.Image:
    values = (panel.double() * 255).round().clamp(0, 255) if panel.is_floating_point() else panel
    channels_last = values.to("cpu", torch.uint8).expand(3, -1, -1).permute(1, 2, 0)
    picture = Image.fromarray(channels_last.contiguous().numpy())
    enlarge = max(size) >= max(picture.size)
    return picture.resize(size, Image.Resampling.NEAREST if enlarge else Image.Resampling.BOX)


def _write(
    pen: ImageDraw.ImageDraw,
    lines: Sequence[str],
    y: int,
    line: int,
    font: ImageFont.FreeTypeFont,
    fill: str,
) -> int:
    """Write lines from a height downwards, and return where they end."""
    for number, text in enumerate(lines):
        pen.text((MARGIN, y + number * line), text, font=font, fill=fill)
    return y + len(lines) * line
