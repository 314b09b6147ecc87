"""Mixing a batch of objects as one would write it by hand: a loop over the samples, in torch.

Pixels are pasted or blended; boxes are moved, clipped to what their image shows and dropped where
nothing is left. Unlike the mixers they say nothing about how much of an object is left.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

Target = dict[str, Tensor]
Batch = tuple[list[Tensor], list[Target]]
Box = tuple[int, int, int, int]


def mosaic(images: list[Tensor], targets: list[Target], size: tuple[int, int]) -> Batch:
    """Show each image and three others around a random centre of a canvas."""
    height, width = size
    mixed, joined = [], []
    for i, own in enumerate(images):
        x, y = (int(random.uniform(0.25, 0.75) * side) for side in (width, height))
        canvas, shown = own.new_zeros(len(own), height, width), []
        quadrants = (0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)
        for k, quadrant in enumerate(quadrants):
            parent = random.randrange(len(images)) if k else i
            h, w = images[parent].shape[-2:]
            left, top = x - w * (k % 2 == 0), y - h * (k < 2)
            place = overlap(quadrant, (left, top, left + w, top + h))
            paste(canvas, images[parent], place, (left, top))
            shown.append(clipped(targets[parent], place, (left, top)))
        mixed.append(canvas)
        joined.append(join(shown))
    return mixed, joined


def mixup(images: list[Tensor], targets: list[Target]) -> Batch:
    """Blend each image with another, and keep all objects."""
    mixed, joined = [], []
    for image, target, other, others in pairs(images, targets):
        lam = float(np.random.beta(1.0, 1.0))
        mixed.append(torch.lerp(other.float(), image.float(), lam).round_().to(image.dtype))
        joined.append(join([target, others]))
    return mixed, joined


def cutmix(images: list[Tensor], targets: list[Target]) -> Batch:
    """Paste a box of another image, and drop the objects that it covers wholly."""
    mixed, joined = [], []
    for image, target, other, others in pairs(images, targets):
        box = cut(*image.shape[-2:])
        mixed.append(image.clone())
        paste(mixed[-1], other, box, (0, 0))
        boxes, corners = target["boxes"].as_subclass(Tensor), torch.tensor(box)
        covered = (boxes[:, :2] >= corners[:2]).all(1) & (boxes[:, 2:] <= corners[2:]).all(1)
        joined.append(join([kept(target, ~covered), clipped(others, box, (0, 0))]))
    return mixed, joined


def copypaste(images: list[Tensor], targets: list[Target]) -> Batch:
    """Paste half of another image's objects by their masks, and drop what they cover wholly."""
    mixed, joined = [], []
    for image, target, other, others in pairs(images, targets):
        pasted = kept(others, torch.rand(len(others["masks"])) < 0.5)
        over = pasted["masks"].any(0)
        mixed.append(torch.where(over, other, image))
        left = target["masks"] & ~over
        seen = left.flatten(1).any(1)
        below = kept({**target, "masks": left}, seen)
        # What it gives ends with the last pixel, not behind it.
        boxes = masks_to_boxes(below["masks"]) + torch.tensor([0, 0, 1, 1])
        joined.append(join([{**below, "boxes": boxes}, pasted]))
    return mixed, joined


def pairs(
    images: list[Tensor], targets: list[Target]
) -> Iterator[tuple[Tensor, Target, Tensor, Target]]:
    """Yield each sample with the one that a shuffle puts beside it."""
    for i, j in enumerate(torch.randperm(len(images)).tolist()):
        yield images[i], targets[i], images[j], targets[j]


def cut(height: int, width: int) -> Box:
    """Draw a box as CutMix does."""
    side = float(np.sqrt(1 - np.random.beta(1.0, 1.0)))
    x, y = random.randrange(width), random.randrange(height)
    half_width, half_height = int(side * width) // 2, int(side * height) // 2
    drawn = (x - half_width, y - half_height, x + half_width, y + half_height)
    return overlap((0, 0, width, height), drawn)


def overlap(one: Box, other: Box) -> Box:
    """Return what two boxes share."""
    x1, y1 = max(one[0], other[0]), max(one[1], other[1])
    return x1, y1, max(x1, min(one[2], other[2])), max(y1, min(one[3], other[3]))


def paste(canvas: Tensor, image: Tensor, box: Box, at: tuple[int, int]) -> None:
    """Copy what an image that lies at a place has in a box."""
    (x1, y1, x2, y2), (left, top) = box, at
    canvas[:, y1:y2, x1:x2] = image[:, y1 - top : y2 - top, x1 - left : x2 - left]


def clipped(target: Target, box: Box, at: tuple[int, int]) -> Target:
    """Move objects to a place, clip them to a box, and drop those of which nothing is left."""
    boxes = target["boxes"].as_subclass(Tensor) + torch.tensor(at * 2)
    boxes[:, 0::2] = boxes[:, 0::2].clamp(box[0], box[2])
    boxes[:, 1::2] = boxes[:, 1::2].clamp(box[1], box[3])
    return kept({**target, "boxes": boxes}, (boxes[:, 2:] > boxes[:, :2]).all(1))


def kept(target: Target, keep: Tensor) -> Target:
    """Keep some objects."""
    return {name: value.as_subclass(Tensor)[keep] for name, value in target.items()}


def join(targets: list[Target]) -> Target:
    """Join the objects of several targets."""
    return {
        name: torch.cat([target[name].as_subclass(Tensor) for target in targets])
        for name in targets[0]
    }
