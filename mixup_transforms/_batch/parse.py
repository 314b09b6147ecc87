"""Which leaf of a batch plays which part, decided by its place and never by a guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torchvision import tv_tensors

from mixup_transforms._batch import labels as forms
from mixup_transforms._batch.labels import Labels, is_label, is_mixture
from mixup_transforms._batch.objects import COLLATE, Targets, pair
from mixup_transforms._batch.tree import Node, Path, Tree, mappings, positions, shown, under
from mixup_transforms._core import checks
from mixup_transforms._core.ragged import Ragged
from mixup_transforms._core.unstacked import Unstacked, finished

# The names that frameworks and model hubs give to what can be mixed, in lower case.
IMAGE_KEYS = (
    "image",
    "images",
    "img",
    "pixel_values",
    "video",
    "audio",
    "waveform",
    "input_values",
    "input_features",
    "inputs_embeds",
    "inputs",
    "x",
)
_IDS = (torch.int32, torch.int64, torch.uint32, torch.uint64)

_Value = TypeVar("_Value", bound=Labels | Ragged)

Getter = Callable[[Any], Any] | str | Sequence[str]
LabelsGetter = Callable[[Any], Any] | str | None
ImagesGetter = Getter


@dataclass(frozen=True)
class Batch:
    """A batch taken apart, with the positions of the leaves that play a part in it.

    Attributes:
        tree: its leaves and their containers.
        images: where its images are; in a batch of objects one leaf, a tensor or a list.
        masks: where its masks of whole batches are.
        labels: where its labels are.
        has_target: whether it says anything of its images.
        objects: where the list of its targets is, in a batch of objects.
        targets: what these are, once they were checked.
        dims: how many of the last dimensions say where in an image something is.
    """

    tree: Tree
    images: list[int]
    masks: list[int]
    labels: list[int]
    has_target: bool
    objects: int | None = None
    targets: Targets | None = None
    dims: int = 2

    @classmethod
    def parse(
        cls,
        tree: Tree,
        *,
        images_getter: ImagesGetter,
        labels_getter: LabelsGetter,
        places: tuple[Path, Path] | None = None,
        dims: int = 2,
    ) -> Batch:
        """Give each leaf of a batch its role; ``places`` are those of images and targets."""
        if places is not None:
            batch = cls._of_pair(tree, places, labels_getter)
            if images_getter == "default":
                _refuse_more_images(batch)
            else:
                _check_named(batch, images_getter)
            return batch
        batch = cls.of_labels(tree, labels_getter).with_images(images_getter)
        batch = replace(batch, dims=dims)
        if images_getter == "default":
            _refuse_guesses(batch, labels_getter)
        return batch

    @classmethod
    def of_labels(cls, tree: Tree, labels_getter: LabelsGetter) -> Batch:
        """Find the labels and masks of a batch alone."""
        masks = [i for i, leaf in enumerate(tree.leaves) if isinstance(leaf, tv_tensors.Mask)]
        drawn = {*masks, *positions_of_images(tree.leaves)}
        targets = _find_labels(tree, labels_getter)
        labels = [i for i in targets if i not in drawn]
        return cls(tree, [], masks, labels, has_target=bool(targets or masks))

    @classmethod
    def _of_pair(cls, tree: Tree, places: tuple[Path, Path], labels_getter: LabelsGetter) -> Batch:
        """Find what else plays a part beside images and the targets of their objects."""
        images, objects = map(tree.paths.index, places)
        targets = [each for each in tree.leaves[objects] if isinstance(each, Mapping)]
        if isinstance(labels_getter, str) and any(labels_getter in each for each in targets):
            labels_getter = None  # they are the objects', which nothing changes
        batch = cls.of_labels(tree, labels_getter)
        return replace(batch, images=[images], has_target=True, objects=objects)

    @classmethod
    def of_leaves(cls, leaves: object) -> Batch:
        """Take the bare leaves of a batch, without the keys that would say what they are.

        The labels are what else could be, and comes first after the images.
        """
        if not isinstance(leaves, list | tuple):
            raise TypeError(
                "flat_inputs must be a list of leaves, such as [images, labels], "
                f"got {type(leaves).__name__}"
            )
        places = pair(leaves)
        if places is not None:
            return cls._of_pair(Tree.of(([*leaves],), kept=places), places, None)
        batch = cls(Tree.of(([*leaves],)), [], [], [], has_target=False)
        found = positions_of_images(batch.leaves) or [
            i for i in _candidates(batch, batch.tree.root) if not is_ids(batch.leaves[i])
        ]
        masks = [i for i, leaf in enumerate(leaves) if isinstance(leaf, tv_tensors.Mask)]
        drawn = {*found[:1], *masks, *positions_of_images(leaves)}
        labels = [i for i, leaf in enumerate(leaves) if is_label(leaf) and i not in drawn]
        return replace(batch, images=found[:1], masks=masks, labels=labels[:1])

    def with_images(self, images_getter: ImagesGetter) -> Batch:
        """Find the images beside the labels."""
        if images_getter == "default":
            images = positions_of_images(self.leaves) or _default_images(self)
        else:
            images = _named_images(self, images_getter)
        return replace(self, images=images, masks=[i for i in self.masks if i not in images])

    @property
    def leaves(self) -> list[Any]:
        """All leaves, in order."""
        return self.tree.leaves

    @property
    def parts(self) -> list[int]:
        """The positions of all leaves that are mixed."""
        return [*self.images, *self.masks, *self.labels]

    def written_tensors(self) -> list[tuple[str, Tensor]]:
        """Return the tensors that mixing in place writes into, beside their names."""
        found = []
        for i in self.written:
            leaf = self.leaves[i]
            if isinstance(leaf, Tensor):
                found.append((self.name(i), leaf))
            else:
                found += [(f"{self.name(i)}[{k}]", image) for k, image in enumerate(leaf)]
        return found

    @property
    def size(self) -> int:
        """How many samples there are."""
        return len(self.leaves[self.images[0]])

    def is_dense_label(self, i: int) -> bool:
        """Whether a leaf says something of each pixel, as a mask does."""
        leaf, images = self.leaves[i], self.leaves[self.images[0]]
        if i not in self.labels or not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return False
        if isinstance(images, Tensor):
            return _is_dense(leaf, images, self.dims)
        # Beside a list it can only be one where all images have its height and width.
        return bool(images) and all(_is_dense(leaf, image, self.dims) for image in images)

    def can_write(self, i: int, mixed: Labels) -> bool:
        """Whether a mixed part fits into what it was mixed from."""
        leaf = self.leaves[i]
        return (
            isinstance(leaf, Tensor)
            and isinstance(mixed, Tensor)
            and not isinstance(leaf, Unstacked)
            and leaf.dtype == mixed.dtype
            and leaf.shape == mixed.shape
        )

    @property
    def written(self) -> list[int]:
        """The positions of the parts that mixing in place writes into."""
        return [
            i
            for i in self.parts
            if i in self.images
            or (isinstance(self.leaves[i], Tensor) and self.leaves[i].dtype in checks.WIDE_FLOATS)
            or (i in self.masks and not self.leaves[i].is_floating_point())
        ]

    def name(self, i: int) -> str:
        """Return how a leaf is reached, for messages."""
        return shown(self.tree.paths[i])

    def with_leaves(self, leaves: list[Any]) -> Batch:
        """Return a batch of tensors alone with others of the same forms in their places."""
        tree = Tree(leaves, self.tree.paths, self.tree.root)
        parts = self.images, self.masks, self.labels
        return Batch(tree, *parts, self.has_target, dims=self.dims)

    def rebuild(self, changed: dict[int, Any]) -> Any:
        """Return the batch as it came, with the changed leaves in their places."""
        return self.tree.rebuild([changed.get(i, leaf) for i, leaf in enumerate(self.leaves)])

    def finish(self, changed: dict[int, Any]) -> Any:
        """Rebuild a batch that leaves the mixer: nothing in it is unstacked any more."""
        leaves = [finished(changed.get(i, leaf)) for i, leaf in enumerate(self.leaves)]
        return self.tree.rebuild(leaves)


def is_pure_tensor(leaf: object) -> bool:
    """Whether a leaf is a tensor that torchvision gives no meaning of its own."""
    return isinstance(leaf, Tensor) and not isinstance(leaf, tv_tensors.TVTensor)


def is_ids(leaf: Tensor) -> bool:
    """Whether a leaf looks like an index or token ids, which nothing can average."""
    return leaf.dtype in _IDS and leaf.ndim <= 2


def unwrap(leaf: Any) -> Any:
    """Return a tensor without its torchvision type, which slows every operation down."""
    if type(leaf) is Tensor:
        return leaf
    if isinstance(leaf, list | tuple) and not is_mixture(leaf):
        return Ragged([*map(unwrap, leaf)])
    return leaf.as_subclass(Tensor) if isinstance(leaf, tv_tensors.TVTensor) else leaf


def rewrap(value: _Value, *, like: Any) -> _Value:
    """Return a tensor in the torchvision type of another, or images in a list like another."""
    if isinstance(value, Ragged):
        wrapped = (rewrap(image, like=one) for image, one in zip(value, like, strict=True))
        return type(like)(wrapped)  # type: ignore[no-any-return]
    if not isinstance(like, tv_tensors.TVTensor):
        return value
    # What is still unstacked has a class of its own, which no stacked tensor may have.
    if isinstance(like, Unstacked) and isinstance(value, Tensor):
        typed: Any = value.as_subclass(like.kind)
    else:
        typed = tv_tensors.wrap(value, like=like)
    return typed  # type: ignore[no-any-return]


def positions_of_images(leaves: Sequence[Any]) -> list[int]:
    return [
        i for i, leaf in enumerate(leaves) if isinstance(leaf, tv_tensors.Image | tv_tensors.Video)
    ]


def check_labels_getter(name: str, getter: object) -> LabelsGetter:
    """Refuse what is neither ``"default"``, a key name, a callable nor ``None``."""
    if getter is None or isinstance(getter, str) or callable(getter):
        return getter
    raise TypeError(f'{name} must be "default", a key name, a callable or None, got {getter!r}')


def check_images_getter(name: str, getter: object) -> ImagesGetter:
    """Refuse what is neither ``"default"``, key names nor a callable."""
    if isinstance(getter, str) or callable(getter):
        return getter
    if isinstance(getter, list | tuple) and getter and all(isinstance(k, str) for k in getter):
        return tuple(getter)
    raise TypeError(
        f'{name} must be "default", a key name, a list of key names or a callable, got {getter!r}'
    )


# Labels


def _find_labels(tree: Tree, getter: LabelsGetter) -> list[int]:
    if getter is None:
        return []
    if getter == "default":
        found = _default_labels(tree)
    elif isinstance(getter, str):
        found = under_key(tree, "labels_getter", getter)
    else:
        found = _chosen(tree, "labels_getter", getter)
    return [i for i in found if is_label(tree.leaves[i])]


def _default_labels(tree: Tree) -> list[int]:
    """Follow torchvision's rule: the second item, or what it or the dict has under a label key."""

    def tensors(node: Node | int) -> list[int]:
        return [i for i in positions(node) if is_label(tree.leaves[i])]

    place = tree.root
    if isinstance(place, Node) and place.is_sequence:
        if len(place.children) < 2:
            return []
        place = place.children[1]
    elif isinstance(place, int) or not place.is_mapping:
        return []
    if isinstance(place, Node) and place.is_mapping:
        pairs = zip(place.keys, place.children, strict=True)
        labelled = {k: v for k, v in pairs if "label" in str(k).lower() and tensors(v)}
        exact = {k: v for k, v in labelled.items() if str(k).lower() == "labels"}
        candidates = exact or labelled
        if len(candidates) > 1:
            raise ValueError(
                f"the batch has several labels, {sorted(map(str, candidates))}; "
                "choose with labels_getter, a key name or a callable"
            )
        found = [i for node in candidates.values() for i in tensors(node)]
    else:
        found = tensors(place)
    if len(found) > 1:
        raise ValueError(
            f"the batch has {len(found)} tensors where its labels are; "
            "choose with labels_getter, a key name or a callable"
        )
    return found


def under_key(tree: Tree, name: str, key: str) -> list[int]:
    found = under(tree.root, key)
    if not found:
        keys = sorted({str(key) for node in mappings(tree.root) for key in node.keys})
        held = f"its keys are {keys}" if keys else "it has no keys: give a callable of the batch"
        raise ValueError(f"{name} names the key {key!r}, which the batch does not have; {held}")
    return found


def _chosen(tree: Tree, name: str, getter: Callable[[Any], Any]) -> list[int]:
    """Ask a callable, on a batch in which no two tensors are the same object."""
    shown_leaves: list[Any] = []
    for leaf in tree.leaves:
        repeated = any(leaf is other for other in shown_leaves)
        shown_leaves.append(_alias(leaf) if repeated else leaf)
    found = []
    answer = getter(tree.rebuild(shown_leaves))

    def is_leaf(part: Any) -> bool:
        # A list of images is one leaf of a batch of objects.
        return is_mixture(part) or any(part is leaf for leaf in shown_leaves)

    for part in tree_leaves(answer, is_leaf=is_leaf):
        if part is None:
            continue
        place = next((i for i, leaf in enumerate(shown_leaves) if leaf is part), None)
        if place is None:
            kind = checks.describe(part) if isinstance(part, Tensor) else repr(part)
            raise ValueError(
                f"{name} returned {kind}, which is not an object of the batch; it must "
                "return the tensor that is in the batch, not a copy or a conversion of it"
            )
        found.append(place)
    return found


def _alias(leaf: Any) -> Any:
    """Return another object with the same content, where that matters."""
    if not is_label(leaf):
        return leaf
    return forms.each_tensor(lambda part: rewrap(unwrap(part).detach(), like=part), leaf)


# Images


def _default_images(batch: Batch) -> list[int]:
    found = _descend(batch, batch.tree.root)
    for i in found:
        if is_ids(batch.leaves[i]):
            kind = checks.describe(batch.leaves[i])
            raise unsure_error(
                batch,
                f"{batch.name(i)} is {kind}, an index or token ids, and no image: averaging it "
                "would make ids that mean nothing; mix embeddings of tokens instead",
            )
    return found


def _descend(batch: Batch, node: Node | int) -> list[int]:
    """Follow the rule for images from the root down."""
    pure = _candidates(batch, node)
    if isinstance(node, int):
        return pure
    if node.is_mapping:
        pairs = zip(node.keys, node.children, strict=True)
        known = {k: v for k, v in pairs if _is_known(k) and _candidates(batch, v)}
        if len(known) > 1:
            raise unsure_error(batch, f"the keys {sorted(map(str, known))} all name images")
        if known:
            return _descend(batch, *known.values())
    elif node.is_sequence and node.children and _candidates(batch, node.children[0]):
        return _descend(batch, node.children[0])
    if len(pure) > 1:
        raise unsure_error(batch, f"{len(pure)} tensors could be the images")
    return pure


def _is_known(key: object) -> bool:
    return str(key).lower() in IMAGE_KEYS


def _candidates(batch: Batch, node: Node | int) -> list[int]:
    return [i for i in positions(node) if is_pure_tensor(batch.leaves[i]) and i not in batch.labels]


def _named(tree: Tree, getter: ImagesGetter) -> list[int]:
    if isinstance(getter, str | tuple):
        keys = (getter,) if isinstance(getter, str) else getter
        return [i for key in keys for i in under_key(tree, "images_getter", key)]
    return _chosen(tree, "images_getter", getter)  # type: ignore[arg-type]


def _check_named(batch: Batch, getter: ImagesGetter) -> None:
    """Refuse a name for other images than those that targets go with."""
    found = _named(batch.tree, getter)
    if found != batch.images:
        got = " and ".join(map(batch.name, found)) or "nothing"
        raise ValueError(
            "images_getter must name the one list of images that the targets go with, "
            f"{batch.name(batch.images[0])}, got {got}"
        )


def _named_images(batch: Batch, getter: ImagesGetter) -> list[int]:
    tree, found = batch.tree, _named(batch.tree, getter)
    for i in found:
        if not isinstance(tree.leaves[i], Tensor):
            raise TypeError(
                f"images_getter must name tensors, but {batch.name(i)} is a "
                f"{type(tree.leaves[i]).__name__}"
            )
        if i in batch.labels:
            raise ValueError(
                f"{batch.name(i)} cannot be both the images and the labels; "
                "say which are the labels with labels_getter="
            )
    return found


def _refuse_guesses(batch: Batch, labels_getter: LabelsGetter) -> None:
    """Refuse a batch in which another reading of the roles would be as good."""
    if not batch.images:
        return
    image, root = batch.leaves[batch.images[0]], batch.tree.root
    rows = len(image) if image.ndim else 0
    for i, leaf in enumerate(batch.leaves):
        if i in batch.parts or not is_pure_tensor(leaf) or not leaf.is_floating_point():
            continue
        if leaf.ndim >= 3 and len(leaf) == rows:
            last = batch.tree.paths[i][-1] if batch.tree.paths[i] else None
            if str(last).lower() in ("boxes", "keypoints"):
                raise TypeError(
                    f"{batch.name(i)} is one plain tensor for all images, "
                    f"{checks.describe(leaf)}, as default_collate makes it; wrap each image's in "
                    f"its sample's target, and collate with {COLLATE}"
                )
            raise unsure_error(
                batch, f"{batch.name(i)} would be left as it is, but looks like images"
            )
    tensors = [leaf for leaf in batch.leaves if is_label(leaf)]
    if labels_getter == "default" and isinstance(root, Node) and root.is_sequence:
        views = [i for i in batch.labels if batch.is_dense_label(i)]
        if views and len(tensors) > 2:
            raise unsure_error(
                batch,
                f"{batch.name(views[0])} has the height and width of the images, so it is another "
                "view or a dense label, and further tensors stand beside it; say which are labels "
                "with labels_getter=",
            )


def _refuse_more_images(batch: Batch) -> None:
    """Refuse what looks like images beside those that the targets of their objects go with."""
    for i, leaf in enumerate(batch.leaves):
        if i in (*batch.parts, batch.objects) or not isinstance(leaf, Tensor):
            continue
        if _is_picture(leaf) and (len(leaf) == batch.size or _is_listed(batch, i)):
            name, images = batch.name(i), batch.images[0]
            raise ValueError(
                f"{name} would be left as it is, but looks like images, and of the images that "
                f"targets go with there is one list, {batch.name(images)}; make it channels of "
                "these or take it out, or say that it stays, by "
                f"images_getter={_getter_of(batch, images)}; the batch holds\n{listed(batch)}"
            )


def _is_picture(leaf: Tensor) -> bool:
    if isinstance(leaf, tv_tensors.Image | tv_tensors.Video):
        return True
    return is_pure_tensor(leaf) and leaf.is_floating_point() and leaf.ndim >= 3


def _is_listed(batch: Batch, i: int) -> bool:
    """Whether a leaf lies in a list of one for each sample."""
    path, paths = batch.tree.paths[i], batch.tree.paths
    beside = [other for other in paths if other[:-1] == path[:-1]]
    return len(path) > 1 and isinstance(path[-1], int) and len(beside) == batch.size


def _is_dense(leaf: Tensor, image: Tensor, dims: int) -> bool:
    # Of two dimensions it could as well be a row of classes for each sample.
    least = max(3, dims + 1)
    alike = leaf.shape[-dims:] == image.shape[-dims:]
    return leaf.ndim >= least and image.ndim > dims and alike


# Words


def unsure_error(batch: Batch, why: str) -> ValueError:
    """Say why no images were chosen, how to choose them, and what there is to choose from."""
    leaves, paths = batch.leaves, batch.tree.paths
    likely = [
        i for i, leaf in enumerate(leaves) if is_pure_tensor(leaf) and not is_ids(leaf) and paths[i]
    ]
    remedy = "give tensors, such as (images, labels)"
    if likely:
        best = max(likely, key=lambda i: (_is_known(paths[i][-1]), leaves[i].ndim))
        remedy = f"say which are the images, such as images_getter={_getter_of(batch, best)}"
    return ValueError(f"{why}; {remedy}; the batch holds\n{listed(batch)}")


def _getter_of(batch: Batch, i: int) -> str:
    last = batch.tree.paths[i][-1]
    return f'"{last}"' if isinstance(last, str) else f"lambda batch: {batch.name(i)}"


def listed(batch: Batch) -> str:
    """Return a line for each leaf: how it is reached, what it is, and the role it got."""
    roles = dict.fromkeys(batch.labels, "labels") | dict.fromkeys(batch.masks, "mask")
    roles |= dict.fromkeys(batch.images, "images")
    if batch.objects is not None:
        roles[batch.objects] = "targets"
    return "\n".join(
        f"  {batch.name(i)}: {_kind(leaf)}, {roles.get(i, 'no role')}"
        for i, leaf in enumerate(batch.leaves)
    )


def _kind(leaf: object) -> str:
    if isinstance(leaf, list | tuple):
        return f"a {type(leaf).__name__} of {len(leaf)}"
    if not isinstance(leaf, Tensor):
        return type(leaf).__name__
    kind = checks.describe(leaf)
    return kind if is_pure_tensor(leaf) else f"{type(leaf).__name__} {kind}"


def no_labels_error(batch: Batch) -> ValueError:
    """Say that a batch has no labels, and what it has."""
    rows = [batch.size] if batch.images else []
    names = [
        path[-1]
        for i, (path, leaf) in enumerate(zip(batch.tree.paths, batch.leaves, strict=True))
        if i not in batch.parts and isinstance(leaf, Tensor) and [*leaf.shape[:1]] == rows
        if path and isinstance(path[-1], str)
    ]
    such = f', such as labels_getter="{names[0]}"' if len(names) == 1 else ""
    return ValueError(
        "no labels found: give (images, labels), a dict with a key such as 'labels', or a "
        f"labels_getter{such} (None to mix images alone); the batch holds\n{listed(batch)}"
    )
