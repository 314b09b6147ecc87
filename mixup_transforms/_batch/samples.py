"""Samples put together leaf by leaf, and taken out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor
from torch.utils._pytree import (
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_is_leaf,
    tree_unflatten,
)
from torchvision import tv_tensors

from mixup_transforms._batch.labels import LabelMixture, Labels, is_mixture
from mixup_transforms._batch.parse import rewrap


def stack(samples: list[Any]) -> tuple[Any, list[bool]]:
    """Batch samples leaf by leaf; what is neither tensor nor number stays the first sample's.

    Returns:
        The batch, and for each of its leaves whether it has a row for each sample.
    """
    leaves, spec = tree_flatten(samples[0], is_leaf=is_mixture)
    try:
        others = [spec.flatten_up_to(sample) for sample in samples[1:]]
    except ValueError:
        raise ValueError(
            f"the dataset's samples must all have the same form, but {_difference(samples)}"
        ) from None
    batched: list[Any] = []
    for i, column in enumerate(zip(leaves, *others, strict=True)):
        if words := _fault(column):
            path = _paths(samples[0])[i]
            where = f"{path} in " if path else ""
            raise ValueError(f"{where}the dataset's samples {words}")
        batched.append(_stacked(column))
    return tree_unflatten(batched, spec), [_form(leaf) != "other" for leaf in leaves]


def first_sample(batch: Any, stacked: list[bool]) -> Any:
    """Return the first sample of a batch that :func:`stack` made."""
    leaves, spec = tree_flatten(batch, is_leaf=is_mixture)
    if len(leaves) != len(stacked):
        raise ValueError(
            "transform must return the leaves of the batch, in their order, "
            f"got {len(leaves)} for {len(stacked)}"
        )
    first = [_row(leaf) if on else leaf for leaf, on in zip(leaves, stacked, strict=True)]
    return tree_unflatten(first, spec)


def fault_of_types(leaves: Sequence[object]) -> str | None:
    """Say what is wrong with the torchvision types of tensors that are to be stacked."""
    types = {type(leaf) if isinstance(leaf, tv_tensors.TVTensor) else Tensor for leaf in leaves}
    if len(types) > 1:
        return f"must be of one type, got {' and '.join(sorted(t.__name__ for t in types))}"
    (only,) = types
    if issubclass(only, tv_tensors.TVTensor) and not issubclass(
        only, tv_tensors.Image | tv_tensors.Video | tv_tensors.Mask
    ):
        return f"must not be {only.__name__}, which cannot be mixed; take it out of the samples"
    return None


def _form(leaf: object) -> str:
    if is_mixture(leaf):
        return "mixture"
    if isinstance(leaf, Tensor | int | float | np.number | np.bool_):
        return "tensor"
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
        return "tensor"
    return "other" if tree_is_leaf(leaf) else "container"


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


def _stacked(column: Sequence[Any]) -> Any:
    form = _form(column[0])
    if form == "other":
        return column[0]
    if form == "mixture":
        return LabelMixture(*map(torch.stack, zip(*column, strict=True)))
    return rewrap(torch.stack([*map(_tensor, column)]), like=column[0])


def _tensor(leaf: Any) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf.detach().as_subclass(Tensor)
    # As default_collate reads numbers, whatever the default dtype and device are.
    dtype = torch.float64 if isinstance(leaf, float) else None
    return torch.as_tensor(leaf, dtype=dtype, device="cpu")


def _row(leaf: Labels) -> Labels:
    if isinstance(leaf, LabelMixture):
        return LabelMixture(leaf.classes[0], leaf.weights[0])
    return rewrap(leaf[0], like=leaf)


def _paths(sample: Any) -> list[str]:
    """Name the leaves of a sample by their keys, or by number if its classes have none."""
    try:
        return [keystr(path) for path, _ in tree_flatten_with_path(sample, is_leaf=is_mixture)[0]]
    except ValueError:
        return [f"[{i}]" for i, _ in enumerate(tree_flatten(sample, is_leaf=is_mixture)[0])]


def _difference(samples: list[Any]) -> str:
    own, *others = ({*_paths(sample)} for sample in samples)
    odd = sorted(own.symmetric_difference(*others) - {""})
    return f"not all have {', '.join(odd)}" if odd else "their containers differ in type"
