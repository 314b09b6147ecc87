"""Samples put together leaf by leaf, and taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np  # comes with torchvision
import PIL.Image
import torch
from torch import Tensor
from torch.utils._pytree import tree_is_leaf
from torchvision import tv_tensors

from mixup_transforms._batch import labels as forms
from mixup_transforms._batch.labels import Labels, is_mixture
from mixup_transforms._batch.objects import COLLATE, sample_pair
from mixup_transforms._batch.parse import rewrap
from mixup_transforms._batch.tree import Node, Path, Tree, put_together, shown
from mixup_transforms._core import small
from mixup_transforms._core.unstacked import Unstacked, can_wait

_FEW = 8  # differences that a message names


@dataclass(frozen=True)
class Form:
    """What form a batch of samples has.

    Attributes:
        firsts: for each of its leaves what takes the first sample's part out of it.
        kept: where it has images and the targets of their objects, in lists.
    """

    firsts: list[Callable[[Any], Any]]
    kept: tuple[Path, ...]


def stack(samples: list[Any], *, first_alone: bool = False) -> tuple[Any, Form]:
    """Batch samples leaf by leaf; what is neither tensor nor number stays the first sample's.

    Images and the targets of their objects, which differ in size and number, are put in lists.
    With ``first_alone`` large tensors stay unstacked, for a mixer that mixes the first alone.
    """
    kept = sample_pair(samples) or ()
    tree, *others = trees = [Tree.of((sample,), kept=kept) for sample in samples]
    try:
        beside = [[*_beside(tree.root, other, other.root)] for other in others]
    except KeyError:
        _refuse_pictures(trees)
        raise ValueError(
            f"the dataset's samples must all have the same form, but {_difference(trees)}"
        ) from None
    batched: list[Any] = []
    firsts: list[Callable[[Any], Any]] = []
    for i, column in enumerate(zip(tree.leaves, *beside, strict=True)):
        if tree.paths[i] in kept:
            batched.append([*column])
            firsts.append(itemgetter(0))
            continue
        firsts.append(_row if _form(column[0]) != "other" else _same)
        if words := _fault(column):
            _refuse_pictures(trees)
            path = _paths(tree)[i]
            where = f"{path} in " if path else ""
            raise ValueError(f"{where}the dataset's samples {words}")
        batched.append(_stacked(column, first_alone=first_alone))
    return tree.rebuild(batched), Form(firsts, kept)


def first_sample(batch: Any, form: Form) -> Any:
    """Return the first sample of a batch that :func:`stack` made."""
    tree = Tree.of((batch,), kept=form.kept)
    if len(tree.leaves) != len(form.firsts):
        raise ValueError(
            "transform must return the leaves of the batch, in their order, "
            f"got {len(tree.leaves)} for {len(form.firsts)}"
        )
    return tree.rebuild([first(leaf) for leaf, first in zip(tree.leaves, form.firsts, strict=True)])


def _same(leaf: Any) -> Any:
    return leaf


def fault_of_types(leaves: Sequence[object]) -> str | None:
    """Say what is wrong with the torchvision types of tensors that are to be stacked."""
    types = {type(leaf) if isinstance(leaf, tv_tensors.TVTensor) else Tensor for leaf in leaves}
    if len(types) > 1:
        return f"must be of one type, got {' and '.join(sorted(t.__name__ for t in types))}"
    (only,) = types
    if issubclass(only, tv_tensors.TVTensor) and not issubclass(
        only, tv_tensors.Image | tv_tensors.Video | tv_tensors.Mask
    ):
        return (
            f"must not be {only.__name__}, of which images have different numbers; give them in a "
            f"dict beside their image, and collate with {COLLATE}"
        )
    return None


def _beside(place: Node | int, other: Tree, node: Node | int) -> Iterator[Any]:
    """Yield what another sample has at each leaf of a place; KeyError where it has not."""
    if isinstance(place, int):
        yield put_together(node, other.leaves)
        return
    if (
        isinstance(node, int)
        or (node.kind is not place.kind and not (node.is_mapping and place.is_mapping))
        or len(node.keys) != len(place.keys)
    ):
        raise KeyError(place.kind)
    children = dict(zip(node.keys, node.children, strict=True))
    for key, child in zip(place.keys, place.children, strict=True):
        yield from _beside(child, other, children[key])


def _form(leaf: object) -> str:
    if is_mixture(leaf):
        return "mixture"
    if isinstance(leaf, Tensor | int | float | np.number | np.bool_):
        return "tensor"
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
        return "tensor"
    return "container" if isinstance(leaf, Mapping) or not tree_is_leaf(leaf) else "other"


def _fault(column: Sequence[Any]) -> str | None:
    """Say why a leaf cannot be stacked with those in its place."""
    forms = {_form(leaf) for leaf in column}
    if len(forms) > 1:
        got = " and ".join(type(leaf).__name__ for leaf in column)
        return f"must be a tensor or number in all of them or in none, got {got}"
    if "other" in forms:
        return None
    for leaf in column:
        if isinstance(leaf, Tensor) and (leaf.layout != torch.strided or leaf.is_nested):
            kind = "nested" if leaf.is_nested else f"of layout {leaf.layout}"
            return f"must be dense tensors, got one {kind}"
    for parts in zip(*column, strict=True) if "mixture" in forms else [column]:
        shapes = [np.shape(part) for part in parts]
        if len({*shapes}) > 1:
            return f"must have one shape, got {' and '.join(map(str, map(tuple, shapes)))}"
    return fault_of_types(column)


def _stacked(column: Sequence[Any], *, first_alone: bool) -> Any:
    form = _form(column[0])
    if form == "other":
        return column[0]
    if form == "mixture":
        return forms.stacked(column)
    plain = [*map(_tensor, column)]
    waits = first_alone and plain[0].numel() >= small.LARGE_SAMPLE and can_wait(plain)
    stacked = Unstacked(plain, first_alone=True) if waits else torch.stack(plain)
    return rewrap(stacked, like=column[0])


def _tensor(leaf: Any) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf.detach().as_subclass(Tensor)
    # As default_collate reads numbers, whatever the default dtype and device are.
    dtype = torch.float64 if isinstance(leaf, float) else None
    return torch.as_tensor(leaf, dtype=dtype, device="cpu")


def _row(leaf: Labels) -> Labels:
    return forms.each_tensor(lambda part: rewrap(part[0], like=part), leaf)


def _paths(sample: Tree) -> list[str]:
    return [shown(path).removeprefix("batch") for path in sample.paths]


def _refuse_pictures(samples: list[Tree]) -> None:
    """Say that samples are no tensors, before what follows from that."""
    for sample in samples:
        for path, leaf in zip(_paths(sample), sample.leaves, strict=True):
            if isinstance(leaf, PIL.Image.Image):
                raise TypeError(
                    f"{path or 'each'} in the dataset's samples is a PIL image; convert each image "
                    "in the dataset with v2.ToImage()"
                )


def _difference(samples: list[Tree]) -> str:
    own, *others = ({*_paths(sample)} for sample in samples)
    odd = sorted(own.symmetric_difference(*others) - {""})
    few, more = odd[:_FEW], f" and {len(odd) - _FEW} more" if len(odd) > _FEW else ""
    return f"not all have {', '.join(few)}{more}" if odd else "their containers differ in type"
