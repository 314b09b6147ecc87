"""The mixers on photographs
=========================

Draw what each mixer makes of one photograph and its partner, with the label that it gives.

The photographs come with scikit-image. Where a mixer pastes objects or classes, they are those that
were marked by hand for *Objects in a picture*, whose script has to lie beside this one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from preview_objects import NAMES, PHOTOS, Marked, visible
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    Mixer,
    RandomClassMix,
    RandomCopyPaste,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
)

SIDE, STRIP, GAP, COLUMNS = 240, 102, 16, 4
TITLES = ["astronaut", "cat", "coffee", "rocket"]
SAMPLE, PARTNER = TITLES.index("cat"), TITLES.index("astronaut")


# %%
# The photographs
# ---------------
#
# They are cut square, and stacked, so that all mixers take them.


def load(photo: np.ndarray, objects: Sequence[Marked]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a photograph, cut square, and the target that says what is in it."""
    size = photo.shape[:2]
    square = v2.Compose([v2.CenterCrop(min(size)), v2.Resize([SIDE, SIDE])])
    masks = tv_tensors.Mask(torch.from_numpy(visible(objects, size)))
    labels = torch.tensor([NAMES.index(marked.name) for marked in objects])
    target = {"masks": masks, "labels": labels}
    return square(tv_tensors.Image(photo.transpose(2, 0, 1)), target)


def classes(target: dict[str, Tensor]) -> Tensor:
    """Return the class of each pixel; 0 is the background."""
    return (target["masks"] * (1 + target["labels"]).view(-1, 1, 1)).sum(0)


# %%
# The mixers
# ----------
#
# Each is a line. The pairing shows the same two photographs under each of them; without it they
# would be mixed along a random cycle. A label that comes out soft is put in words.


def the_one_before(batch: Any, *, labels: Any, generator: torch.Generator) -> Tensor:
    """Pair each photograph with the one before it."""
    return torch.arange(len(TITLES)).roll(1)


MIXERS: dict[str, Callable[..., Mixer]] = {
    "Mixup": partial(RandomMixup, alpha=4.0, pairing=the_one_before),
    "CutMix": partial(RandomCutMix, alpha=4.0, pairing=the_one_before),
    "ResizeMix": partial(RandomResizeMix, scale=(0.4, 0.8), pairing=the_one_before),
    "FMix": partial(RandomFMix, alpha=4.0, pairing=the_one_before),
    "Mosaic": RandomMosaic,
    "CopyPaste": partial(RandomCopyPaste, pairing=the_one_before),
    "ClassMix": partial(RandomClassMix, pairing=the_one_before),
}


def mixed(
    images: Tensor, targets: Sequence[dict[str, Tensor]], seed: int
) -> Iterator[tuple[str, Tensor, str]]:
    """Yield the name of each mixer, its picture of the sample and the label of that in words."""
    for name, make in MIXERS.items():
        mix = make(generator=torch.Generator().manual_seed(seed))
        if name == "CopyPaste":
            pictures, found = mix(images, targets)
            objects = found[SAMPLE]
            words = in_words(objects["weights"], [NAMES[n] for n in objects["labels"]])
        elif name == "ClassMix":
            masks = tv_tensors.Mask(torch.stack([classes(target) for target in targets]))
            pictures, _ = mix(images, masks)
            words = "a class for\neach pixel"
        else:
            pictures, labels = mix(images, torch.eye(len(TITLES)))
            words = in_words(labels[SAMPLE], TITLES)
        yield name, pictures[SAMPLE], words


def in_words(weights: Tensor, names: Sequence[str]) -> str:
    """Write the two largest weights beside their names."""
    order = weights.argsort(descending=True, stable=True)
    said = [f"{weights[n]:.2f} {names[n]}" for n in order if weights[n] > 0]
    return "\n".join(said[:2]) + ", …" * (len(said) > 2)


# %%
# The picture
# -----------
#
# A panel for each mixer, its label below.


def panel(picture: Image.Image, name: str, words: str) -> Image.Image:
    """Put a strip with text under a picture, large enough for a small screen."""
    whole = Image.new("RGBA", (SIDE, SIDE + STRIP), "#202428")
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    draw.text((10, SIDE + 2), name, "white", ImageFont.load_default(size=29))
    draw.text((10, SIDE + 39), words, "#c8d0d8", ImageFont.load_default(size=24), spacing=2)
    return whole


def both(sample: Image.Image, partner: Image.Image) -> Image.Image:
    """Show the sample in the top left and its partner in the bottom right."""
    small = round(SIDE * 0.6), round(SIDE * 0.6)
    whole = Image.new("RGB", (SIDE, SIDE), "#202428")
    whole.paste(partner.resize(small), (SIDE - small[0], SIDE - small[1]))
    whole.paste(sample.resize(small), (0, 0))
    return whole


def grid(panels: Sequence[Image.Image]) -> Image.Image:
    """Put panels in rows on nothing, so that the page shows between them."""
    width, height = SIDE + GAP, SIDE + STRIP + GAP
    rows = -(-len(panels) // COLUMNS)
    whole = Image.new("RGBA", (COLUMNS * width - GAP, rows * height - GAP))
    for n, one in enumerate(panels):
        row, column = divmod(n, COLUMNS)
        whole.paste(one, (column * width, row * height))
    return whole


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=str(__doc__).partition("=\n\n")[2],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", type=int, default=0, help="the same seed draws the same picture")
    add("--out", type=Path, default="preview_mixers.png", help="the picture to write")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Mix the photographs and draw what becomes of one of them."""
    options = parse_options(arguments)
    samples = [load(photo(), objects) for photo, objects in PHOTOS.items()]
    photos, targets = zip(*samples, strict=True)
    pictures = [v2.functional.to_pil_image(photo) for photo in photos]
    pair = both(pictures[SAMPLE], pictures[PARTNER])
    panels = [panel(pair, "Sample, partner", f"{TITLES[SAMPLE]},\n{TITLES[PARTNER]}")]
    for name, picture, words in mixed(torch.stack(photos), targets, options.seed):
        panels.append(panel(v2.functional.to_pil_image(picture), name, words))
    grid(panels).save(options.out)
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
