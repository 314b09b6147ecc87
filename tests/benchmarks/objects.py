"""Batches of objects: what objects cost beside their pixels, and how long others take for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor
from torchvision import tv_tensors

from mixup_transforms import (
    RandomCopyPaste,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
)
from tests.benchmarks import loops
from tests.benchmarks.calls import CLASSES, title
from tests.benchmarks.timing import Functions, Table, measure

OBJECTS = 20
PICTURES = (16, 3, 480, 640)
# As high as wide, since ultralytics' mosaics take nothing else.
SQUARES = (16, 3, 640, 640)
CANVAS = (1280, 1280)


def objects_table(options: argparse.Namespace) -> Table:
    """Time what objects cost beside their pixels."""
    threads = options.threads[0]
    torch.set_num_threads(threads)
    images = torch.rand(PICTURES).to(options.device)
    name = f"objects, {title(options, PICTURES, images.dtype, threads)}"
    return name, measure(with_objects(images), options)


def with_objects(images: Tensor) -> Functions:
    """Return the calls that show what objects cost beside their pixels."""
    masks = [boxes_and_masks(images) for _ in images]
    boxes = [without(target, "masks") for target in masks]
    samples, no_pixels = [*images], [*images[:, :0]]
    calls: Functions = {"x.clone()": images.clone}
    for maker in (RandomMixup, RandomCutMix, RandomResizeMix, RandomFMix):
        mix, name = maker(labels_getter=None), maker.__name__
        calls[f"{name}, pixels alone"] = partial(mix, images)
        calls[f"{name}, {OBJECTS} boxes"] = partial(mix, samples, boxes)
        if maker in (RandomMixup, RandomCutMix):
            # Of images without a channel what a call does is all for the objects.
            calls[f"{name}, {OBJECTS} boxes, no pixels"] = partial(mix, no_pixels, boxes)
            calls[f"{name}, {OBJECTS} masks"] = partial(mix, samples, masks)
    return calls


def peers_table(options: argparse.Namespace) -> Table:
    """Time mixers of objects, ours and others', with one thread, as in a worker."""
    torch.set_num_threads(1)
    images = (torch.rand(SQUARES) * 255).to(torch.uint8)
    targets = [boxes_and_masks(images) for _ in images]
    name = f"objects beside others, {title(options, SQUARES, images.dtype, 1)}"
    return name, measure(mixed_objects([*images], targets), options)


def mixed_objects(images: list[Tensor], masks: list[dict[str, Tensor]]) -> Functions:
    """Return the mixers of objects, each with those that do the same."""
    boxes = [without(target, "masks") for target in masks]
    ours: dict[str, Callable[..., object]] = {
        "RandomMosaic": RandomMosaic(size=CANVAS, labels_getter=None),
        "RandomMixup": RandomMixup(labels_getter=None),
        "RandomCutMix": RandomCutMix(labels_getter=None),
    }
    by_hand: dict[str, Callable[..., object]] = {
        "a loop: mosaic": partial(loops.mosaic, size=CANVAS),
        "a loop: mixup": loops.mixup,
        "a loop: CutMix": loops.cutmix,
    }
    return {
        **{name: partial(mix, images, boxes) for name, mix in (ours | by_hand).items()},
        "RandomCopyPaste": partial(RandomCopyPaste(labels_getter=None), images, masks),
        "a loop: copy-paste": partial(loops.copypaste, images, masks),
        **ultralytics(images, boxes),
    }


def ultralytics(images: list[Tensor], targets: list[dict[str, Tensor]]) -> Functions:
    """Return ultralytics' mixers, each over all samples, where it is installed."""
    if not find_spec("ultralytics"):
        return {}
    from tests.benchmarks import yolo

    return yolo.mixers(images, targets)


def boxes_and_masks(images: Tensor) -> dict[str, Tensor]:
    """Make a target of rectangles up to a quarter of an image's sides."""
    height, width = images.shape[-2:]
    sides = torch.tensor([width, height])
    corner = torch.rand(OBJECTS, 2) * sides * 0.75
    boxes = torch.cat((corner, corner + torch.rand(OBJECTS, 2) * sides / 4), 1)
    x, y = torch.arange(width), torch.arange(height)[:, None]
    x1, y1, x2, y2 = boxes.round().view(-1, 4, 1, 1).unbind(1)
    masks = (x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)
    device = images.device
    return {
        "boxes": tv_tensors.BoundingBoxes(
            boxes.to(device), format="XYXY", canvas_size=(height, width)
        ),
        "masks": tv_tensors.Mask(masks.to(device)),
        "labels": torch.randint(CLASSES, (OBJECTS,)).to(device),
    }


def without(target: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Leave one key out."""
    return {key: value for key, value in target.items() if key != name}
