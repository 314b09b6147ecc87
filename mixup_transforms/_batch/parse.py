"""A batch taken apart and put together again: which leaf plays which part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten
from torchvision import tv_tensors

from mixup_transforms._batch.labels import LabelMixture, Labels, is_label, is_mixture
from mixup_transforms._core import checks
from mixup_transforms._core.unstacked import Unstacked, finished

# The names under which Hugging Face's models take what can be mixed; other tensors come before it.
_IMAGE_KEYS = ("pixel_values", "input_values", "input_features", "inputs_embeds")

LabelsGetter = Callable[[Any], Any] | str | None


@dataclass(frozen=True)
class Batch:
    """A flattened batch, with the positions of the leaves that play a part in it."""

    leaves: list[Any]
    spec: TreeSpec
    images: list[int]
    masks: list[int]
    labels: list[int]
    has_target: bool

    @classmethod
    def parse(cls, inputs: tuple[Any, ...], labels_getter: LabelsGetter) -> Batch:
        """Flatten the arguments of a call and give each leaf its role."""
        if not inputs:
            raise TypeError("expected a batch, such as (images, labels), got no argument")
        tree = inputs if len(inputs) > 1 else inputs[0]
        leaves, spec = tree_flatten(tree, is_leaf=is_mixture)
        # Rules run on a tree of positions, so that a tensor in two places is still told apart.
        positions = tree_unflatten(range(len(leaves)), spec)
        masks = [i for i, leaf in enumerate(leaves) if isinstance(leaf, tv_tensors.Mask)]
        pictures = positions_of_images(leaves)
        targets = _positions_of_labels(positions, leaves, spec, labels_getter)
        labels = [i for i in targets if i not in masks and i not in pictures]
        if not pictures:
            order = (*_under(positions, _IMAGE_KEYS), *range(len(leaves)))
            pure = (i for i in order if is_pure_tensor(leaves[i]) and i not in labels)
            pictures = [*pure][:1]
        return cls(leaves, spec, pictures, masks, labels, bool(targets or masks))

    @property
    def parts(self) -> list[int]:
        """The positions of all leaves that are mixed."""
        return [*self.images, *self.masks, *self.labels]

    @property
    def written(self) -> dict[int, Tensor]:
        """The tensors that mixing in place writes into, by position."""
        return {i: self.leaves[i] for i in self.parts if isinstance(self.leaves[i], Tensor)}

    def rebuild(self, changed: Mapping[int, Any]) -> Any:
        """Return the batch as it came, with the changed leaves in their places."""
        leaves = [changed.get(i, leaf) for i, leaf in enumerate(self.leaves)]
        return tree_unflatten(leaves, self.spec)

    def finish(self, changed: Mapping[int, Any]) -> Any:
        """Rebuild a batch that leaves the mixer: nothing in it is unstacked any more."""
        leaves = {**dict(enumerate(self.leaves)), **changed}
        return self.rebuild({i: finished(leaf) for i, leaf in leaves.items()})


def is_pure_tensor(leaf: object) -> bool:
    """Whether a leaf is a tensor that torchvision gives no meaning of its own."""
    return isinstance(leaf, Tensor) and not isinstance(leaf, tv_tensors.TVTensor)


def unwrap(leaf: Any) -> Any:
    """Return a tensor without its torchvision type, which slows every operation down."""
    return leaf.as_subclass(Tensor) if isinstance(leaf, tv_tensors.TVTensor) else leaf


def rewrap(value: Labels, *, like: object) -> Labels:
    """Return a tensor in the torchvision type of another."""
    if not isinstance(like, tv_tensors.TVTensor):
        return value
    # What is still unstacked has a class of its own, which no stacked tensor may have.
    if isinstance(like, Unstacked) and isinstance(value, Tensor):
        return value.as_subclass(like.kind)
    wrapped: Tensor = tv_tensors.wrap(value, like=like)
    return wrapped


def check_labels_getter(labels_getter: object) -> LabelsGetter:
    """Refuse what is neither ``"default"``, a key name, a callable nor ``None``."""
    if labels_getter is None or isinstance(labels_getter, str) or callable(labels_getter):
        return labels_getter
    raise TypeError(
        f'labels_getter must be "default", a key name, a callable or None, got {labels_getter!r}'
    )


def positions_of_images(leaves: Sequence[Any]) -> list[int]:
    return [
        i for i, leaf in enumerate(leaves) if isinstance(leaf, tv_tensors.Image | tv_tensors.Video)
    ]


def _positions_of_labels(
    positions: Any, leaves: Sequence[Any], spec: TreeSpec, labels_getter: LabelsGetter
) -> list[int]:
    if labels_getter is None:
        found = []
    elif labels_getter == "default":
        found = _default_labels(positions, leaves)
    elif isinstance(labels_getter, str):
        found = [*_under(positions, (labels_getter,))]
        if not found:
            raise ValueError(
                f"labels_getter names the key {labels_getter!r}, which the batch does not have; "
                f"its keys are {sorted(map(str, _keys(positions)))}"
            )
    else:
        found = _chosen_labels(leaves, spec, labels_getter)
    return [i for i in found if is_label(leaves[i])]


def _default_labels(positions: Any, leaves: Sequence[Any]) -> list[int]:
    """Follow torchvision's rule: the second item, or what it or the dict has under a label key."""

    def tensors(tree: Any) -> list[int]:
        return [i for i in tree_leaves(tree) if is_label(leaves[i])]

    if not isinstance(positions, tuple | list | Mapping):
        return []
    if not isinstance(positions, Mapping):
        positions = positions[1] if len(positions) > 1 else []
    if isinstance(positions, Mapping):
        labelled = {k: v for k, v in positions.items() if "label" in str(k).lower() and tensors(v)}
        exact = {k: v for k, v in labelled.items() if str(k).lower() == "labels"}
        candidates = exact or labelled
        if len(candidates) > 1:
            raise ValueError(
                f"the batch has several labels, {sorted(map(str, candidates))}; "
                "choose with labels_getter, a key name or a callable"
            )
        positions = next(iter(candidates.values()), [])
    found = tensors(positions)
    if len(found) > 1:
        raise ValueError(
            f"the batch has {len(found)} tensors where its labels are; "
            "choose with labels_getter, a key name or a callable"
        )
    return found


def _under(positions: Any, keys: Sequence[str]) -> Iterable[int]:
    if isinstance(positions, tuple | list):
        for value in positions:
            yield from _under(value, keys)
    elif isinstance(positions, Mapping):
        for name, value in positions.items():
            yield from tree_leaves(value) if name in keys else _under(value, keys)


def _keys(positions: Any) -> Iterable[Any]:
    if isinstance(positions, Mapping):
        yield from positions
        positions = positions.values()
    if isinstance(positions, Iterable):
        for value in positions:
            yield from _keys(value)


def _chosen_labels(
    leaves: Sequence[Any], spec: TreeSpec, labels_getter: Callable[[Any], Any]
) -> list[int]:
    """Ask a callable, on a batch in which no two tensors are the same object."""
    shown: list[Any] = []
    for leaf in leaves:
        repeated = any(leaf is other for other in shown)
        shown.append(_alias(leaf) if repeated else leaf)
    found = []
    answer = labels_getter(tree_unflatten(shown, spec))
    for label in tree_leaves(answer, is_leaf=is_mixture):
        if label is None:
            continue
        place = next((i for i, leaf in enumerate(shown) if leaf is label), None)
        if place is None:
            kind = checks.describe(label) if isinstance(label, Tensor) else repr(label)
            raise ValueError(
                f"labels_getter returned {kind}, which is not an object of the batch; it must "
                "return the tensor that is in the batch, not a copy or a conversion of it"
            )
        found.append(place)
    return found


def _alias(leaf: Any) -> Any:
    """Return another object with the same content, where that matters."""
    if isinstance(leaf, LabelMixture):
        return LabelMixture(*leaf)
    return rewrap(unwrap(leaf).detach(), like=leaf) if isinstance(leaf, Tensor) else leaf


def check_dims(name: str, images: Tensor) -> None:
    """Refuse an ``Image`` or ``Video`` that is not a batch."""
    dims = {tv_tensors.Image: 4, tv_tensors.Video: 5}.get(type(images), 1)
    if images.ndim < dims:
        raise ValueError(
            f"{name} must be a batch, with at least {dims} dimensions, "
            f"got shape {tuple(images.shape)}"
        )


def no_images(leaves: Sequence[Any]) -> ValueError:
    return ValueError(
        "no images found to mix: the batch needs a tv_tensors.Image or Video, or a tensor that is "
        f"not the labels, got {_summary(leaves)}"
    )


def no_labels(batch: Batch) -> ValueError:
    return ValueError(
        "no labels found: give (images, labels), a dict with a key such as 'labels', or a "
        f"labels_getter (None to mix images alone); got {_summary(batch.leaves)}"
    )


def _summary(leaves: Sequence[Any]) -> str:
    kinds = [
        f"{type(leaf).__name__} {checks.describe(leaf)}"
        if isinstance(leaf, Tensor)
        else type(leaf).__name__
        for leaf in leaves
    ]
    return f"[{', '.join(kinds)}]"
