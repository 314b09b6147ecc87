"""Samples put together leaf by leaf, and taken out again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.data import default_collate

from mixup_transforms._batch.labels import LabelMixture, Labels, is_label, is_mixture
from mixup_transforms._batch.parse import rewrap


def stack(samples: list[Any]) -> tuple[Any, list[bool]]:
    """Batch samples leaf by leaf; what is neither tensor nor number stays the first sample's."""
    flat = [tree_flatten(sample, is_leaf=is_mixture) for sample in samples]
    leaves, spec = flat[0]
    if any(other != spec for _, other in flat):
        raise ValueError("the dataset's samples must all have the same form")
    batched: list[Any] = []
    for column in zip(*(leaves for leaves, _ in flat), strict=True):
        first = column[0]
        if isinstance(first, LabelMixture):
            batched.append(LabelMixture(*map(torch.stack, zip(*column, strict=True))))
        elif isinstance(first, Tensor):
            shapes = [tuple(leaf.shape) for leaf in column]
            if len({*shapes}) > 1:
                raise ValueError(f"the dataset's samples must have one shape, got {shapes}")
            batched.append(rewrap(torch.stack([*map(torch.Tensor.detach, column)]), like=first))
        elif isinstance(first, int | float):
            batched.append(default_collate(list(column)))
        else:
            batched.append(first)
    stacked = [is_label(leaf) or isinstance(leaf, int | float) for leaf in leaves]
    return tree_unflatten(batched, spec), stacked


def first_sample(batch: Any, stacked: list[bool]) -> Any:
    """Return the first sample of a batch that :func:`stack` made."""
    leaves, spec = tree_flatten(batch, is_leaf=is_mixture)
    first = [_row(leaf) if on else leaf for leaf, on in zip(leaves, stacked, strict=True)]
    return tree_unflatten(first, spec)


def _row(leaf: Labels) -> Labels:
    if isinstance(leaf, LabelMixture):
        return LabelMixture(leaf.classes[0], leaf.weights[0])
    return rewrap(leaf[0], like=leaf)
