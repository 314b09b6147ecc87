"""Batches as data: walked, compared, taken apart into samples, and described."""

from collections.abc import Mapping

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors

from mixup_transforms import LabelMixture

# Sizes that differ, so that each says which dimension it is.
LETTERS = {"B": 5, "C": 7, "T": 9, "H": 8, "W": 12, "F": 11, "D": 10}
BATCH, CLASSES, FRAMES, HEIGHT, WIDTH, FEATURES, DEPTH = LETTERS.values()


def mapped(function, *batches):
    """Apply a function to the leaves of a batch, or to those in one place of several."""
    first = batches[0]
    if isinstance(first, LabelMixture):
        return LabelMixture(*map(function, *batches))
    if isinstance(first, Mapping):
        return type(first)({key: mapped(function, *(b[key] for b in batches)) for key in first})
    if isinstance(first, tuple | list):
        return type(first)(mapped(function, *parts) for parts in zip(*batches, strict=True))
    return function(*batches)


def nodes(batch, keys=()):
    """Every leaf of a batch, and the type of every container, under the keys that lead there."""
    if isinstance(batch, Mapping):
        children = batch.items()
    elif isinstance(batch, tuple | list) and not isinstance(batch, LabelMixture):
        children = enumerate(batch)
    else:
        yield keys, batch
        return
    yield keys, type(batch)
    for key, child in children:
        yield from nodes(child, (*keys, key))


def typed(values, *, like):
    if not isinstance(like, tv_tensors.TVTensor):
        return values
    return tv_tensors.wrap(values.as_subclass(Tensor), like=like)


def sample_of(batch, i):
    def row(leaf):
        return typed(leaf[i], like=leaf) if isinstance(leaf, Tensor | np.ndarray) else leaf

    return mapped(row, batch)


def batch_of(samples):
    return mapped(lambda *leaves: typed(torch.stack(leaves), like=leaves[0]), *samples)


def is_same(one, other):
    if isinstance(one, Tensor):
        return type(one) is type(other) and torch.equal(one, other)
    return np.array_equal(one, other)


def described(leaf):
    """What a leaf is, such as ``Mask int64 (B, H, W)``."""
    if isinstance(leaf, LabelMixture):
        return "LabelMixture (B, K)"
    if isinstance(leaf, PIL.Image.Image):
        return "PIL.Image"
    if not isinstance(leaf, Tensor | np.ndarray):
        return type(leaf).__name__
    kind = f"{type(leaf).__name__} " if isinstance(leaf, tv_tensors.TVTensor) else ""
    return f"{kind}{str(leaf.dtype).removeprefix('torch.')} {lettered(leaf.shape)}"


def lettered(shape):
    letters = {size: letter for letter, size in LETTERS.items()}
    return str(tuple(letters.get(size, size) for size in shape)).replace("'", "")
