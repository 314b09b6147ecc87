"""What a mixer can take, held against a batch: accepted, or the error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import PIL.Image
from torch import Tensor
from torchvision import tv_tensors

from mixup_transforms._batch import labels as forms
from mixup_transforms._batch.mistakes import (
    ONE_SAMPLE,
    error_instead_of_images,
    error_instead_of_labels,
    refuse_annotations,
    refuse_samples,
)
from mixup_transforms._batch.needs import check_beside_list, check_classes, check_instances
from mixup_transforms._batch.objects import COLLATE, Targets, check_pool, pair
from mixup_transforms._batch.parse import (
    Batch,
    ImagesGetter,
    LabelsGetter,
    no_labels_error,
    unsure_error,
    unwrap,
)
from mixup_transforms._batch.tree import Path, Tree, given, shown
from mixup_transforms._core import checks
from mixup_transforms._core.memory import overlap
from mixup_transforms._core.regions import Size


@dataclass(frozen=True)
class Takes:
    """What a mixer can take.

    Attributes:
        spatial: its geometry lies in the last two dimensions, or as many as its dims, which all
            images and masks share.
        averages: it computes with pixels, so that they have to be numbers.
        blends_masks: it averages masks, which have to be class probabilities then.
        one_size: images in a list have to be of one height and width.
        objects: it says what a canvas shows, so that objects can be mixed with their images.
        stacks: whether its results for stacked images of a size can be stacked.
        instances: it pastes objects by their instance masks, which have to be there.
        classes: it pastes classes of a semantic mask, which has to be there.
    """

    spatial: bool
    averages: bool
    blends_masks: bool
    one_size: bool
    objects: bool
    stacks: Callable[[Size], bool]
    instances: bool
    classes: bool


@dataclass(frozen=True)
class Intake:
    """Accepts batches for one mixer."""

    mixer: str
    takes: Takes
    num_classes: int | None
    images_getter: ImagesGetter
    labels_getter: LabelsGetter
    dims: int = 2

    def accept(self, inputs: tuple[Any, ...]) -> Batch:
        """Return the arguments of a call as a batch, or raise unless the mixer can take it."""
        places = pair(given(inputs), self.images_getter)
        tree = Tree.of(inputs, kept=places or ())
        if places is None:
            refuse_samples(tree, self.mixer)
            refuse_annotations(given(inputs))
        _check_kinds(self.mixer, tree)
        batch = Batch.parse(
            tree,
            images_getter=self.images_getter,
            labels_getter=self.labels_getter,
            places=places,
            dims=self.dims,
        )
        self._check(batch)
        return self._needed(self._with_objects(batch))

    def _with_objects(self, batch: Batch) -> Batch:
        """Check the targets of a batch of objects, whose images have passed."""
        if batch.objects is None:
            return batch
        i, name = batch.objects, batch.name(batch.objects)
        if not self.takes.objects:
            raise TypeError(
                f"{self.mixer} cannot mix objects ({name}): a mixer of one's own has to say, by a "
                "method show, what a mixed image shows of its parents; see Mixer.show"
            )
        targets = checked_targets(name, batch.leaves[i], batch.leaves[batch.images[0]])
        for key in targets.keys.semantic:
            for k, target in enumerate(targets.given):
                mask = target[key]
                if self.takes.blends_masks and not mask.is_floating_point():
                    raise ValueError(
                        f"{name}[{k}][{key!r}] holds classes, {checks.describe(mask)}, which "
                        f"{self.mixer} cannot average; use a mixer that pastes, such as "
                        "RandomCutMix, or take it out"
                    )
        return replace(batch, targets=targets)

    def _refuse_objects(self, batch: Batch) -> None:
        """Refuse objects where the geometry does not lie in height and width, as theirs does."""
        if batch.objects is not None and self.takes.spatial and self.dims != 2:
            raise TypeError(
                f"{self.mixer} cannot mix objects ({batch.name(batch.objects)}) with "
                f"dims={self.dims}, since theirs lie in height and width; use dims=2"
            )

    def _check(self, batch: Batch) -> None:
        self._refuse_objects(batch)
        if not batch.images:
            raise error_instead_of_images(batch) or unsure_error(batch, "no images found to mix")
        for i in batch.images:
            self._check_leaf(f"images ({batch.name(i)})", batch.leaves[i])
        self._needed(batch)
        if not batch.has_target and self.labels_getter is not None:
            raise error_instead_of_labels(batch) or no_labels_error(batch)
        for i in batch.masks:
            self._check_masks(f"masks ({batch.name(i)})", batch.leaves[i])
        _check_batch_size(batch)
        for i in batch.labels:
            self._check_labels(f"labels ({batch.name(i)})", batch.leaves[i], batch)
        self._check_sizes(batch)

    def accept_images(self, batch: Batch) -> Batch:
        """Raise unless the mixer can take a batch's images, whatever stands beside them."""
        self._refuse_objects(batch)
        if not batch.images:
            raise unsure_error(batch, "no images found to mix")
        for i in batch.images:
            self._check_leaf("images", batch.leaves[i])
        return self._needed(self._with_objects(batch))

    def _needed(self, batch: Batch) -> Batch:
        """Return a batch that says what the mixer has to know of it, as far as it was looked at."""
        if self.takes.instances:
            check_instances(self.mixer, batch)
        if self.takes.classes:
            check_classes(self.mixer, batch)
        return batch

    def _check_leaf(self, name: str, images: Tensor | Sequence[Tensor]) -> None:
        if not isinstance(images, Tensor):
            self._check_list(name, images)
        elif images.ndim == self.dims == 2:
            remedy = "; RandomCutMix and RandomFMix take sequences (B, …, T) with dims=1"
            self.check_images(name, images, remedy=remedy)
        else:
            self.check_images(name, images)

    def _check_list(self, name: str, images: Sequence[Tensor]) -> None:
        """Refuse lists of images that the mixer cannot take, or that do not go together."""
        check_each(name, images)
        for i, image in enumerate(images):
            if self.takes.averages:
                checks.mixable(f"{name}[{i}]", image)
        _check_one_kind(name, images)
        sizes = {tuple(image.shape[-2:]) for image in images}
        if self.takes.one_size and len(sizes) > 1:
            raise ValueError(
                f"{self.mixer} needs images of one height and width, got {sorted(sizes)}; "
                "resize them first, such as by v2.Resize((height, width))"
            )

    def check_images(self, name: str, images: Tensor, *, remedy: str = "") -> None:
        """Refuse images that the mixer cannot take."""
        if self.takes.averages:
            checks.mixable(name, images)
        else:
            checks.batched(name, checks.tensor(name, images))
        if self.takes.spatial:
            checks.spatial(name, images, self.dims, remedy=remedy)
            if self.dims == 3:
                _refuse_channels_as_depth(name, images)
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
        self._check_blended(name, masks)

    def _check_blended(self, name: str, masks: Tensor) -> None:
        if self.takes.blends_masks and not masks.is_floating_point():
            raise ValueError(
                f"{name} must be floating to be mixed, got {checks.describe(masks)}; "
                f"apply OneHot(num_classes) to it before {self.mixer}"
            )

    def _check_labels(self, name: str, labels: forms.Labels, batch: Batch) -> None:
        image = batch.leaves[batch.images[0]]
        alone = isinstance(image, Tensor) and image.ndim <= self.dims + 1
        if isinstance(labels, Tensor) and labels.ndim == 0 and alone:
            raise ValueError(f"{name} must have a batch dimension, got shape (); {ONE_SAMPLE}")
        size = tuple(image.shape[-self.dims :]) if isinstance(image, Tensor) else ()
        forms.check_form(name, labels, self.num_classes, mixer=self.mixer, size=size)
        if self.takes.spatial and self.num_classes is None:
            forms.refuse_steps_or_classes(name, labels, size)

    def _check_sizes(self, batch: Batch) -> None:
        image = batch.leaves[batch.images[0]]
        if not isinstance(image, Tensor):
            for i in (*batch.masks, *filter(batch.is_dense_label, batch.labels)):
                _check_stacks(self.mixer, self.takes, checks.size_of(batch.leaves[i]))
                check_beside_list(batch.name(i), batch.leaves[i], unwrap(image))
            return
        if not self.takes.spatial:  # what it takes may have one dimension
            return
        parts = (*batch.images, *batch.masks)
        sizes = {tuple(batch.leaves[i].shape[-self.dims :]) for i in parts}
        if self.dims == 2:
            _check_stacks(self.mixer, self.takes, checks.size_of(image))
        if len(sizes) > 1:
            axes = checks.listed(checks.AXES[self.dims])
            raise ValueError(
                f"{self.mixer} needs images and masks of one {axes}, got {sorted(sizes)}"
            )


def _check_kinds(mixer: str, tree: Tree) -> None:
    """Refuse images of Pillow, and boxes and keypoints outside of targets."""
    for path, leaf in zip(tree.paths, tree.leaves, strict=True):
        if isinstance(leaf, PIL.Image.Image):
            raise TypeError(
                f"{mixer} mixes batches of tensors, got a PIL image ({shown(path)}); "
                "convert each image with v2.ToImage(), and mix after the loader, or in it with "
                "MixCollate"
            )
        if isinstance(leaf, tv_tensors.TVTensor) and not isinstance(
            leaf, tv_tensors.Image | tv_tensors.Video | tv_tensors.Mask
        ):
            raise _object_error(mixer, path, leaf)


def _refuse_channels_as_depth(name: str, images: Tensor) -> None:
    """Refuse what has its channels where the depth of a volume would be."""
    least = {tv_tensors.Image: 5, tv_tensors.Video: 6}.get(type(images), 0)
    if images.ndim < least:
        kind = type(images).__name__
        raise ValueError(
            f"{name} must be volumes (B, …, D, H, W) for dims=3, got {kind} "
            f"{tuple(images.shape)}, whose third last dimension holds channels; give a tensor, "
            "such as a video's frames as depth by video.transpose(1, 2)"
        )


def _object_error(mixer: str, path: Path, leaf: object) -> TypeError:
    """Return words for boxes or keypoints outside the targets of a list of images."""
    if len(path) > 2 and isinstance(path[-2], int):
        return TypeError(
            f"{mixer} found targets of objects, {shown(path[:-2])}, but not one list of images "
            "that they go with; give (images, targets) or a mapping that holds one of each, the "
            "images in a list or a tensor (B, C, H, W), and name one of several images with "
            "images_getter="
        )
    kinds = (tv_tensors.BoundingBoxes, tv_tensors.KeyPoints, type(leaf))
    kind = next(kind.__name__ for kind in kinds if isinstance(leaf, kind))
    return TypeError(
        f"{mixer} takes {kind} in a list of one dict for each image, got {shown(path)} by itself; "
        f"collate samples (image, dict) with {COLLATE}"
    )


def check_values(batch: Batch, num_classes: int | None) -> None:
    """Refuse values in a batch of an accepted form."""
    for i in batch.labels:
        forms.check_values(batch.leaves[i], num_classes)


def _check_stacks(mixer: str, takes: Takes, size: Size) -> None:
    """Refuse a size of which mixed and unmixed images, or masks, do not fit into a stack."""
    if takes.spatial and not takes.stacks(size):
        raise ValueError(
            f"{mixer} makes images of another size than {size}, so that a stack cannot hold them "
            "beside unmixed ones; mix all with p=1 or per_sample=False, or give a list of images"
        )


def check_each(name: str, images: Sequence[Any]) -> None:
    """Refuse lists that hold anything but images."""
    for i, image in enumerate(images):
        if isinstance(image, PIL.Image.Image):
            raise TypeError(f"{name}[{i}] is a PIL image; convert each image with v2.ToImage()")
        if checks.tensor(f"{name}[{i}]", image).ndim != 3 or 0 in image.shape[-2:]:
            raise ValueError(
                f"{name}[{i}] must be one image (C, H, W) of at least one pixel, "
                f"got shape {tuple(image.shape)}"
            )


def checked_targets(
    name: str, targets: Sequence[Any], images: Tensor | Sequence[Tensor]
) -> Targets:
    """Check the targets of images, of which ``name`` says how they are reached."""
    if len(targets) != len(images):
        raise ValueError(
            f"{name} must hold one target for each of {len(images)} images, got {len(targets)}"
        )
    return Targets.of(name, targets, [checks.size_of(image) for image in images])


def _check_batch_size(batch: Batch) -> None:
    first = batch.leaves[batch.images[0]]
    if not isinstance(first, Tensor):
        _check_labels_size(batch, len(first))
        return
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


def _check_labels_size(batch: Batch, size: int) -> None:
    for i in (*batch.labels, *batch.masks):
        if forms.batch_size(batch.leaves[i]) != size:
            raise ValueError(
                f"{batch.name(i)} must have a row for each of {size} images, "
                f"got {forms.batch_size(batch.leaves[i])}"
            )


def check_alike(batch: Batch, pool: Batch) -> None:
    """Refuse a second batch that does not match the first one part by part."""
    alike = batch.parts == pool.parts and batch.objects == pool.objects
    if batch.tree.form != pool.tree.form or not alike:
        raise ValueError("the two batches must have the same form")
    if batch.targets is not None and pool.targets is not None:
        check_pool(batch.name(batch.objects or 0), batch.targets, pool.targets)
    for i in batch.parts:
        both = batch.leaves[i], pool.leaves[i]
        if i in batch.images and any(isinstance(images, list | tuple) for images in both):
            _check_lists_alike(batch.name(i), *both)
            continue
        own, other = forms.tensors(batch.leaves[i]), forms.tensors(pool.leaves[i])
        if [(t.shape, t.dtype, t.device) for t in own] != [
            (t.shape, t.dtype, t.device) for t in other
        ]:
            raise ValueError(
                f"{batch.name(i)} of the two batches must have the same shape, dtype and device, "
                f"got {checks.describe(own[0])} on {own[0].device} and "
                f"{checks.describe(other[0])} on {other[0].device}"
            )


def _check_one_kind(name: str, images: Sequence[Tensor]) -> None:
    """Refuse images of which two cannot lie on one canvas."""
    kinds: dict[object, Tensor] = {}
    for image in images:
        kinds.setdefault((image.dtype, image.shape[0], image.device, type(image)), image)
    if len(kinds) > 1:
        one, other = [*kinds.values()][:2]
        got = [f"{type(x).__name__} {checks.describe(x)} on {x.device}" for x in (one, other)]
        raise ValueError(
            f"{name} must be of one type, dtype, number of channels and device, "
            f"got {' and '.join(got)}"
        )


def _check_lists_alike(name: str, own: Any, others: Any) -> None:
    if not all(isinstance(images, list | tuple) for images in (own, others)):
        raise ValueError(
            f"{name} of the two batches must both be lists of images or both be stacks, "
            f"got {type(own).__name__} and {type(others).__name__}"
        )
    if len(own) != len(others):
        raise ValueError(
            f"{name} of the two batches must both be lists of {len(own)} images, got {len(others)}"
        )
    _check_one_kind(f"{name} of the two batches", (*own, *others))


def check_writable(batch: Batch, pool: Batch | None = None) -> None:
    """Refuse parts that cannot be written in place, or share memory with what is read."""
    written = batch.written_tensors()
    for name, part in written:
        checks.writable(name, part)
    parts = [part for _, part in (*written, *(pool.written_tensors() if pool else ()))]
    for one, other in _neighbours(parts):
        if overlap(one, other):
            raise ValueError(
                "two tensors share memory, so inplace=True would mix one of them twice; "
                "use inplace=False"
            )


def _neighbours(parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pair the tensors that may share memory, of which a list of images has few."""
    by_storage: dict[object, list[Tensor]] = {}
    for part in parts:
        # What has no memory of its own may be one and the same all the same.
        place = part.untyped_storage().data_ptr() if part.data_ptr() else 0
        by_storage.setdefault(place, []).append(part)
    for together in by_storage.values():
        yield from combinations(together, 2)
