"""What a mixer can take, held against a batch: accepted, or the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import PIL.Image
from torch import Tensor
from torchvision import tv_tensors

from mixup_transforms._batch import labels as forms
from mixup_transforms._batch.mistakes import (
    ONE_SAMPLE,
    instead_of_images,
    instead_of_labels,
    refuse_samples,
)
from mixup_transforms._batch.parse import Batch, ImagesGetter, LabelsGetter, no_labels, unsure
from mixup_transforms._batch.tree import Tree, shown
from mixup_transforms._core import checks
from mixup_transforms._core.memory import overlap


@dataclass(frozen=True)
class Takes:
    """What a mixer can take.

    Attributes:
        spatial: its geometry lies in the last two dimensions, which all images and masks share.
        averages: it computes with pixels, so that they have to be numbers.
        blends_masks: it averages masks, which have to be class probabilities then.
    """

    spatial: bool
    averages: bool
    blends_masks: bool


@dataclass(frozen=True)
class Intake:
    """Accepts batches for one mixer."""

    mixer: str
    takes: Takes
    num_classes: int | None
    images_getter: ImagesGetter
    labels_getter: LabelsGetter

    def accept(self, inputs: tuple[Any, ...]) -> Batch:
        """Return the arguments of a call as a batch, or raise unless the mixer can take it."""
        tree = Tree.of(inputs)
        refuse_samples(tree, self.mixer)
        self._check_kinds(tree)
        batch = Batch.parse(
            tree, images_getter=self.images_getter, labels_getter=self.labels_getter
        )
        self._check(batch)
        return batch

    def _check(self, batch: Batch) -> None:
        if not batch.images:
            raise instead_of_images(batch) or unsure(batch, "no images found to mix")
        for i in batch.images:
            self.check_images(f"images ({batch.name(i)})", batch.leaves[i])
        if not batch.has_target and self.labels_getter is not None:
            raise instead_of_labels(batch) or no_labels(batch)
        for i in batch.masks:
            self._check_masks(f"masks ({batch.name(i)})", batch.leaves[i])
        _check_batch_size(batch)
        for i in batch.labels:
            self._check_labels(f"labels ({batch.name(i)})", batch.leaves[i], batch)
        self._check_sizes(batch)

    def accept_images(self, batch: Batch) -> None:
        """Raise unless the mixer can take a batch's images, whatever stands beside them."""
        if not batch.images:
            raise unsure(batch, "no images found to mix")
        for i in batch.images:
            self.check_images("images", batch.leaves[i])

    def _check_kinds(self, tree: Tree) -> None:
        for path, leaf in zip(tree.paths, tree.leaves, strict=True):
            if isinstance(leaf, PIL.Image.Image):
                raise TypeError(
                    f"{self.mixer} mixes batches of tensors, got a PIL image ({shown(path)}); "
                    "convert each image with v2.ToImage(), and mix after the loader, or in it with "
                    "MixCollate"
                )
            if isinstance(leaf, tv_tensors.TVTensor) and not isinstance(
                leaf, tv_tensors.Image | tv_tensors.Video | tv_tensors.Mask
            ):
                raise TypeError(
                    f"{self.mixer} cannot mix {type(leaf).__name__} ({shown(path)}); "
                    "take it out of the batch"
                )

    def check_images(self, name: str, images: Tensor) -> None:
        """Refuse images that the mixer cannot take."""
        if self.takes.averages:
            checks.mixable(name, images)
        else:
            checks.batched(name, checks.tensor(name, images))
        if self.takes.spatial:
            checks.spatial(name, images)
        dims = {tv_tensors.Image: 4, tv_tensors.Video: 5}.get(type(images), 1)
        if images.ndim < dims:
            raise ValueError(
                f"{name} must be a batch, with at least {dims} dimensions, "
                f"got shape {tuple(images.shape)}; {ONE_SAMPLE}"
            )

    def _check_masks(self, name: str, masks: Tensor) -> None:
        checks.batched(name, checks.tensor(name, masks))
        if self.takes.spatial:
            self.check_images(name, masks)
        if self.takes.blends_masks and not masks.is_floating_point():
            raise ValueError(
                f"{name} must be floating to be mixed, got {checks.describe(masks)}; "
                f"apply OneHot(num_classes) to it before {self.mixer}"
            )

    def _check_labels(self, name: str, labels: forms.Labels, batch: Batch) -> None:
        image = batch.leaves[batch.images[0]]
        if isinstance(labels, Tensor) and labels.ndim == 0 and image.ndim <= 3:
            raise ValueError(f"{name} must have a batch dimension, got shape (); {ONE_SAMPLE}")
        forms.check_form(name, labels, self.num_classes, mixer=self.mixer, size=image.shape[-2:])

    def _check_sizes(self, batch: Batch) -> None:
        sizes = {tuple(batch.leaves[i].shape[-2:]) for i in (*batch.images, *batch.masks)}
        if self.takes.spatial and len(sizes) > 1:
            raise ValueError(
                f"{self.mixer} needs images and masks of one height and width, got {sorted(sizes)}"
            )


def _check_batch_size(batch: Batch) -> None:
    first = batch.leaves[batch.images[0]]
    for i in batch.parts:
        parts: Sequence[object] = forms.tensors(batch.leaves[i])
        leaves = [leaf for leaf in parts if isinstance(leaf, Tensor)]
        sizes = {len(leaf) for leaf in leaves if leaf.ndim}
        if len(sizes) != 1 or sizes == {len(first)}:
            continue  # what has no rows, or two numbers of them, is refused in words of its own
        leaf = leaves[0]
        alone = first.ndim <= 3 and i in batch.labels and leaf.ndim == 1
        raise ValueError(
            "images, masks and labels must have the same batch size, but "
            f"{batch.name(batch.images[0])} has shape {tuple(first.shape)} and {batch.name(i)} has "
            f"shape {tuple(leaf.shape)}" + (f"; {ONE_SAMPLE}" if alone else "")
        )


def check_alike(batch: Batch, pool: Batch) -> None:
    """Refuse a second batch that does not match the first one part by part."""
    if batch.tree.form != pool.tree.form or batch.parts != pool.parts:
        raise ValueError("the two batches must have the same form")
    for i in batch.parts:
        own, other = forms.tensors(batch.leaves[i]), forms.tensors(pool.leaves[i])
        if [(t.shape, t.dtype, t.device) for t in own] != [
            (t.shape, t.dtype, t.device) for t in other
        ]:
            raise ValueError(
                f"{batch.name(i)} of the two batches must have the same shape, dtype and device, "
                f"got {checks.describe(own[0])} on {own[0].device} and "
                f"{checks.describe(other[0])} on {other[0].device}"
            )


def check_writable(batch: Batch, pool: Batch | None = None) -> None:
    """Refuse parts that cannot be written in place, or share memory with what is read."""
    for i in batch.written:
        checks.writable(batch.name(i), batch.leaves[i])
    parts = [each.leaves[i] for each in (batch, pool) if each for i in batch.written]
    for one, other in combinations(parts, 2):
        if overlap(one, other):
            raise ValueError(
                "two tensors share memory, so inplace=True would mix one of them twice; "
                "use inplace=False"
            )
