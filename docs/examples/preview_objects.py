"""Objects in a picture
====================

Draw what a mixer does to photographs of different sizes, and to the objects in them.

The photographs come with scikit-image. What is in them was marked by hand: a box and an outline for
each object, and the eyes and the nose of whoever has a face. In a mixed photograph each object
stands beside its weight, the share of it that shows. An object of which nothing shows is gone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage import data
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    RandomClassMix,
    RandomCopyPaste,
    RandomCutMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    preview,
)

MIXERS = {
    "mixup": RandomMixup,
    "cutmix": RandomCutMix,
    "resizemix": RandomResizeMix,
    "mosaic": RandomMosaic,
    "copypaste": RandomCopyPaste,
    "classmix": RandomClassMix,
}


# %%
# What is in the photographs
# --------------------------
#
# Each object has a box and an outline; later ones hide what lies under them.


@dataclass(frozen=True)
class Marked:
    """An object of a photograph, in pixels: corners are written x,y."""

    name: str
    box: tuple[int, int, int, int]  # x1, y1, x2, y2
    outline: str
    face: str = "-9,-9 -9,-9 -9,-9"  # outside, where there is none


# A later object hides what lies under it of the earlier ones.
PHOTOS = {
    data.astronaut: [
        Marked(
            "person",
            (18, 14, 363, 512),
            "184,165 180,133 168,122 157,105 153,75 170,40 205,19 240,14 275,30 298,65 300,90 "
            "290,115 273,134 262,150 258,178 285,198 303,228 305,250 340,268 355,290 362,345 "
            "325,360 297,395 281,440 278,512 35,512 20,460 20,400 24,345 42,295 60,265 115,220 "
            "113,190 128,165 155,149",
            face="202,100 248,103 224,124",
        ),
        Marked(
            "shuttle",
            (354, 0, 474, 289),
            "402,0 428,0 437,40 445,38 455,60 456,205 459,264 473,275 473,282 440,288 380,288 "
            "368,282 368,262 366,250 355,217 379,185 378,60 388,40 397,45",
        ),
        Marked(
            "helmet",
            (277, 343, 512, 512),
            "277,465 283,425 305,385 345,354 390,343 440,348 475,375 493,415 497,452 511,460 "
            "511,512 281,512",
        ),
    ],
    data.chelsea: [
        Marked(
            "cat",
            (0, 0, 400, 300),
            "40,0 400,0 380,35 355,70 366,120 352,180 330,235 300,290 300,300 0,300 0,175 32,140 "
            "28,80",
            face="172,112 317,135 264,243",
        ),
    ],
    data.coffee: [
        Marked(
            "saucer",
            (77, 69, 480, 389),
            "181,69 140,90 105,125 84,165 77,210 83,250 105,300 145,343 200,375 270,388 330,387 "
            "390,368 440,325 470,270 480,230 470,175 445,130 410,105",
        ),
        Marked(
            "cup",
            (173, 18, 409, 307),
            "173,105 178,75 200,45 240,25 290,18 345,28 385,55 405,90 409,120 400,165 385,200 "
            "370,228 350,245 327,260 318,277 290,284 258,280 240,298 220,307 202,302 196,285 "
            "203,260 218,238 200,210 178,160",
        ),
        Marked(
            "spoon",
            (326, 67, 426, 326),
            "409,120 400,165 385,200 374,232 350,245 330,268 326,290 333,310 350,323 365,325 "
            "388,315 402,295 405,275 398,255 383,240 386,212 408,150 418,105 425,85 422,70 408,67 "
            "398,72",
        ),
    ],
    data.rocket: [
        Marked(
            "rocket",
            (309, 126, 336, 408),
            "321,126 315,132 311,143 311,177 309,180 309,408 336,408 336,180 333,177 333,143 "
            "328,132",
        ),
    ],
}
NAMES = [marked.name for objects in PHOTOS.values() for marked in objects]


def corners(text: str) -> list[tuple[int, int]]:
    """Read corners."""
    return [(int(x), int(y)) for x, y in (pair.split(",") for pair in text.split())]


# %%
# Photographs and their targets
# -----------------------------
#
# The images stay of different sizes, so they come in a list. A target is a dict that holds what is
# known of one image: boxes, instance masks, keypoints, labels, and the class of each pixel. v2's
# transforms resize all of it together.


def load(photo: np.ndarray, objects: Sequence[Marked]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a photograph at half its size, and the target that says what is in it."""
    height, width = size = photo.shape[:2]
    boxes = torch.tensor([marked.box for marked in objects], dtype=torch.float32)
    faces = torch.tensor([corners(marked.face) for marked in objects], dtype=torch.float32)
    masks = torch.from_numpy(visible(objects, size))
    labels = torch.tensor([NAMES.index(marked.name) for marked in objects])
    classes = masks * (1 + labels).view(-1, 1, 1)  # which do not overlap
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "masks": tv_tensors.Mask(masks),
        "keypoints": tv_tensors.KeyPoints(faces, canvas_size=size),
        "labels": labels,
        "classes": tv_tensors.Mask(classes.sum(0)),  # 0 is the background
    }
    halve = v2.Resize([height // 2, width // 2])
    return halve(tv_tensors.Image(photo.transpose(2, 0, 1)), target)


def visible(objects: Sequence[Marked], size: tuple[int, int]) -> np.ndarray:
    """Return what shows of each object, a mask ``(N, H, W)``."""
    masks = np.zeros((len(objects), *size), dtype=bool)
    for n, marked in enumerate(objects):
        plane = Image.new("1", size[::-1])
        ImageDraw.Draw(plane).polygon(corners(marked.outline), fill=1)
        masks[n] = plane
        masks[:n] &= ~masks[n]
    return masks


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=str(__doc__).partition("=\n\n")[2],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--mix", choices=MIXERS, default="mixup", help="how to mix")
    add("--seed", type=int, default=7, help="the same seed draws the same picture")
    add("--out", type=Path, default="preview_objects.png", help="the picture to write")
    return parser.parse_args(arguments)


# %%
# What a mixer makes of them
# --------------------------
#
# :func:`~mixup_transforms.preview` draws each photograph, its partner and the mix of the two.
# Another mixer is another ``--mix``.


def main(arguments: Sequence[str] | None = None) -> None:
    """Mix the photographs and draw them."""
    options = parse_options(arguments)
    samples = [load(photo(), objects) for photo, objects in PHOTOS.items()]
    images, targets = zip(*samples, strict=True)
    mix = MIXERS[options.mix](generator=torch.Generator().manual_seed(options.seed))
    preview(images, targets, mix, class_names=NAMES).save(options.out)
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
