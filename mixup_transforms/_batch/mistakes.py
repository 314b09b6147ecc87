"""Words for the usual mistakes: what a batch is that is none, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np  # comes with torchvision
from torch import Tensor

from mixup_transforms._batch.parse import Batch
from mixup_transforms._batch.tree import Node, Tree, positions

ONE_SAMPLE = (
    "this is one sample, and mixers take batches: mix after the loader, or in it with MixCollate"
)


def refuse_samples(tree: Tree, mixer: str) -> None:
    """Refuse a list of samples, as a loader gives it to its ``collate_fn``."""
    root = tree.root
    if not isinstance(root, Node) or not root.is_sequence or len(root.children) < 2:
        return
    samples = [child for child in root.children if isinstance(child, Node) and child.children]
    alike = {(child.kind, *map(str, child.keys)) for child in samples}
    if len(samples) < len(root.children) or len(alike) > 1 or len(samples[0].children) < 2:
        return
    # A tuple of tuples may be columns, such as images and their targets; a list of them is rows.
    if root.kind is list or all(map(partial(_has_number, tree), samples)):
        raise TypeError(
            f"{mixer} takes a batch, got a list of {len(samples)} samples, as a DataLoader gives "
            f"it to its collate_fn; use collate_fn=MixCollate({mixer}(...))"
        )


def refuse_annotations(value: Any) -> None:
    """Refuse what a COCO file has of each image, a list of annotations, in the place of targets."""
    if (
        not isinstance(value, tuple | list)
        or len(value) < 2
        or not isinstance(value[1], list | tuple)
    ):
        return
    for i, target in enumerate(value[1]):
        rows = target if isinstance(target, list | tuple) else []
        if rows and all(isinstance(row, Mapping) and "bbox" in row for row in rows):
            raise TypeError(
                f"batch[1][{i}] is a list of {len(rows)} annotations, as a COCO file has them, and "
                "a target is one dict with a row for each object under its keys; torchvision makes "
                "such of its datasets by torchvision.datasets.wrap_dataset_for_transforms_v2"
            )


def error_instead_of_images(batch: Batch) -> Exception | None:
    """Return words for what stands where images are expected; None where it is nothing known."""
    return _array_error(batch)


def error_instead_of_labels(batch: Batch) -> Exception | None:
    """Return words for what stands where labels are expected; None where it is nothing known."""
    if array := _array_error(batch):
        return array
    root = batch.tree.root
    for place in (root, *root.children) if isinstance(root, Node) else ():
        if isinstance(place, Node):
            numbers = [i for i in positions(place) if _is_number(batch.leaves[i])]
            if place.is_sequence and numbers and len(numbers) == len(place.children):
                name = batch.name(numbers[0]).rpartition("[")[0]
                return TypeError(f"{name} is a list of numbers: make labels a tensor, torch.tensor")
        elif _is_number(batch.leaves[place]) and _is_small(batch):
            kind = type(batch.leaves[place]).__name__
            return ValueError(f"{batch.name(place)} is one label, of type {kind}; {ONE_SAMPLE}")
    return None


def _is_small(batch: Batch) -> bool:
    return bool(batch.images) and batch.leaves[batch.images[0]].ndim <= 3


def _has_number(tree: Tree, sample: Node) -> bool:
    return any(_is_number(tree.leaves[i]) for i in positions(sample))


def _is_number(leaf: object) -> bool:
    if isinstance(leaf, Tensor):
        return leaf.ndim == 0
    return isinstance(leaf, int | float | np.number)


def _array_error(batch: Batch) -> TypeError | None:
    for i, leaf in enumerate(batch.leaves):
        if isinstance(leaf, np.ndarray):
            return TypeError(
                f"{batch.name(i)} is a NumPy array of shape {leaf.shape}, where a tensor belongs: "
                "torch.from_numpy(array)"
            )
    return None
