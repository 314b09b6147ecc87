"""Text that fits: into a width, and into the letters that a font has."""

from __future__ import annotations

import unicodedata

from PIL import ImageFont


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
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


def shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Leave out the end of a text that is too wide, and say so by three dots if these fit."""
    if font.getlength(text) <= width:
        return text
    ends = (f"{text[:end].rstrip()}..." for end in range(len(text), 0, -1))
    return next((end for end in ends if font.getlength(end) <= width), "")


def drawable(text: str, font: ImageFont.FreeTypeFont) -> str:
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
