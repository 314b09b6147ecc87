"""A labelled picture of what a mixer does to a batch."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mixup_transforms._mixers.base import Mixer
from mixup_transforms._preview.rows import HEADINGS, Row, rows

LEGEND = (
    "Own share: white where the mixed image shows the own one, black where it shows the partner, "
    "grey where it blends both. Its mean is λ, the weight of the own label."
)
MARGIN, GAP, ROW_GAP = 16, 8, 14
SMALLEST, LARGEST = 96, 512  # the longer side of a tile, in pixels
PAPER, FRAME, MUTED, INK = "#ffffff", "#c8c8c8", "#6b6b6b", "#1f1f1f"


def preview(
    images: Tensor,
    labels: Tensor,
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

    Args:
        images: ``(B, 1 or 3, H, W)``, floating in [0, 1] or uint8; not normalised. Small ones are
            enlarged by a whole number, pixel by pixel, large ones reduced.
        labels: integer ``(B,)``, or floating ``(B, C)``, such as class probabilities.
        mix: a mixer, such as ``RandomMixup`` or ``RandomChoice``.
        class_names: a name for each of the C classes; ``class 0``, ``class 1``, … by default.
        max_samples: draw no more rows than this, at least 1.
        font: what the text is set in; by default Pillow's own, which has little beyond ASCII, so
            that λ is written "lam", é as e, and what it has no likeness of as a question mark.

    Returns:
        An RGB image.

    Raises:
        TypeError: for arguments of a wrong type or dtype.
        ValueError: for images or labels of another shape or out of range, and for another number
            of class names than of classes.

    Example:
        >>> import torch
        >>> from mixup_transforms import RandomCutMix, preview
        >>> images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 1])
        >>> grid = preview(images, labels, RandomCutMix(), class_names=["cat", "dog", "owl"])
        >>> grid.mode, grid.width
        ('RGB', 440)
    """
    face = ImageFont.load_default(size=17) if font is None else font
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise TypeError(f"font must be a PIL.ImageFont.FreeTypeFont, got {type(face).__name__}")
    chosen = rows(images, labels, mix, class_names=class_names, max_samples=max_samples)
    return _draw(chosen, face)


def _draw(chosen: Sequence[Row], font: ImageFont.FreeTypeFont) -> Image.Image:
    """Lay out the rows under their headings, each over its caption."""
    height, width = chosen[0].panels[0].shape[-2:]
    scale = _scale(max(height, width))
    tile = max(1, round(width * scale)), max(1, round(height * scale))
    cell = max(tile[0], SMALLEST, *(math.ceil(font.getlength(name)) for name in HEADINGS))
    room = len(HEADINGS) * (cell + GAP) - GAP
    line = sum(font.getmetrics()) + 2
    captions = [_wrap(_drawable(row.caption, font), font, room) for row in chosen]
    legend = _wrap(_drawable(LEGEND, font), font, room)
    lines = 1 + len(legend) + sum(map(len, captions))
    tall = 2 * MARGIN + lines * line + len(chosen) * (tile[1] + 2 * GAP + ROW_GAP)

    grid = Image.new("RGB", (2 * MARGIN + room, tall), PAPER)
    pen = ImageDraw.Draw(grid)
    left = [MARGIN + column * (cell + GAP) for column in range(len(HEADINGS))]
    for x, name in zip(left, HEADINGS, strict=True):
        pen.text((x + cell / 2, MARGIN), name, font=font, fill=MUTED, anchor="ma")
    y = MARGIN + line
    for row, words in zip(chosen, captions, strict=True):
        y += GAP
        for x, panel in zip(left, row.panels, strict=True):
            corner = x + (cell - tile[0]) // 2, y
            grid.paste(_picture(panel, tile, enlarge=scale >= 1), corner)
            # Around the tile, not on it: a white mask needs an edge, and no pixel may be hidden.
            end = corner[0] + tile[0], corner[1] + tile[1]
            pen.rectangle((corner[0] - 1, corner[1] - 1, *end), outline=FRAME)
        y = _write(pen, words, y + tile[1] + GAP, line, font, INK) + ROW_GAP
    _write(pen, legend, y, line, font, MUTED)
    return grid


def _scale(longest: int) -> float:
    return math.ceil(SMALLEST / longest) if longest < LARGEST else LARGEST / longest


def _picture(panel: Tensor, size: tuple[int, int], *, enlarge: bool) -> Image.Image:
    values = (panel.double() * 255).round().clamp(0, 255) if panel.is_floating_point() else panel
    channels_last = values.to("cpu", torch.uint8).expand(3, -1, -1).permute(1, 2, 0)
    picture = Image.fromarray(channels_last.contiguous().numpy())
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


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a text into lines of a width, between words or else within one."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _drawable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Replace the letters that a font has no glyph for, which it would draw as boxes."""
    no_glyph = bytes(font.getmask("\uffff"))

    def known(letter: str) -> bool:
        return letter.isprintable() and bytes(font.getmask(letter)) != no_glyph

    def nearest(letter: str) -> str:
        if letter.isspace() or known(letter):
            return letter
        if letter == "λ":
            return "lam"
        parts = unicodedata.normalize("NFKD", letter)
        plain = [part for part in parts if not unicodedata.combining(part)]
        return "".join(plain) if all(map(known, plain)) else "?"

    return "".join(map(nearest, unicodedata.normalize("NFC", text)))
