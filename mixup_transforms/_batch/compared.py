"""What the samples of a batch are told apart by: their labels, or another of its leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._batch import labels as forms
from mixup_transforms._batch.labels import Labels, is_label, is_mixture
from mixup_transforms._batch.parse import under_key, unwrap
from mixup_transforms._batch.tree import Node, Tree, positions
from mixup_transforms._core import checks

# "labels", a key, a position, or a callable of the batch.
Which = str | int | Callable[[Any], Any]

_WAY_OUT = "give a callable of the batch that returns a row for each sample"


def check_which(name: str, which: object) -> Which:
    """Refuse what names nothing in a batch."""
    if isinstance(which, str) or (isinstance(which, int) and not isinstance(which, bool)):
        return which
    if callable(which) and not isinstance(which, type):
        return which
    raise TypeError(
        f'{name} must be "labels", a key or a position in the batch, or a callable of it, '
        f"got {which!r}"
    )


def said(name: str, which: Which, *, of: object) -> str:
    """Return what a setting of a rule is called in messages."""
    return f"{name}={getattr(which, '__name__', repr(which))} of {type(of).__name__}"


def kinds(name: str, which: Which, batch: Any, labels: Any) -> Tensor:
    """Return what makes two samples of one kind, where all of its columns are equal.

    Of class weights it is the top class.

    Returns:
        int64 or float64 ``(B, K)``.
    """
    found = _found(name, which, batch, labels)
    if isinstance(found, list):
        codes = {text: code for code, text in enumerate(found)}
        found = torch.tensor([codes[text] for text in found], device="cpu")
    if is_mixture(found):
        return forms.top_class(found).unsqueeze(1)
    rows = _in_columns(found)
    if not rows.is_floating_point():
        return rows.long()
    if checks.readable(rows) and rows.isnan().any():
        raise ValueError(f"{name} must not be nan, which it is in {checks.describe(found)}")
    return rows.double() if rows.shape[1] == 1 else forms.top_class(rows).unsqueeze(1)


def points(name: str, which: Which, batch: Any, labels: Any) -> Tensor:
    """Return what two samples can be near by.

    Returns:
        float64 ``(B, K)``.
    """
    found = _found(name, which, batch, labels)
    if isinstance(found, list):
        raise TypeError(f"{name} must hold numbers to be near by, got {found[0]!r}")
    if is_mixture(found):
        return forms.spread(found)
    rows = _in_columns(found).double()
    if checks.readable(rows) and not rows.isfinite().all():
        wrong = rows[~rows.isfinite()][0].item()
        raise ValueError(
            f"{name} must hold finite numbers, got {wrong} in {checks.describe(found)}"
        )
    return rows


def _found(name: str, which: Which, batch: Any, labels: Any) -> Labels | list[str]:
    """Return what is named: a checked tensor or mixture, or a text for each sample."""
    if which == "labels":
        leaves = _labels(name, labels)
    elif callable(which):
        answer = which(batch)
        listed = isinstance(answer, list | tuple) and not is_mixture(answer)
        leaves = [*answer] if listed else [answer]
    else:
        tree = Tree.of((batch,))
        places = under_key(tree, name, which) if isinstance(which, str) else _at(name, which, tree)
        leaves = [tree.leaves[i] for i in places]
    found = _one(name, [unwrap(leaf) if is_label(leaf) else leaf for leaf in leaves])
    if not isinstance(found, list):
        _check_rows(name, found)
    rows, size = _size(found), _size(labels) if is_label(labels) else None
    if size is not None and rows != size:
        raise ValueError(f"{name} must have a row for each of {size} samples, got {rows}")
    return found


def _size(found: Labels | list[str]) -> int:
    return len(found) if isinstance(found, list) else forms.batch_size(found)


def _in_columns(rows: Tensor) -> Tensor:
    return rows.unsqueeze(1) if rows.ndim == 1 else rows


def _labels(name: str, labels: Any) -> list[Any]:
    if is_label(labels):
        return [labels]
    got = f"{len(labels)} of them" if labels else "none of whole samples"
    raise ValueError(
        f"{name} asks for the labels, but the batch has {got}; name a key of the batch, a position "
        "in it, or give a callable of it"
    )


def _at(name: str, position: int, tree: Tree) -> list[int]:
    root = tree.root
    items = root.children if isinstance(root, Node) and root.is_sequence else []
    if not -len(items) <= position < len(items):
        kind = root.kind.__name__ if isinstance(root, Node) else "tensor"
        held = f"a {kind} of {len(items)}" if items else f"a {kind}"
        raise ValueError(f"{name} is the position {position}, which the batch, {held}, has not")
    return positions(items[position])


def _one(name: str, leaves: list[Any]) -> Labels | list[str]:
    """Return the one leaf that was found, or one of a number or text for each sample."""
    if len(leaves) == 1 and bool(is_mixture(leaves[0]) or getattr(leaves[0], "ndim", 0)):
        return leaves[0]  # type: ignore[no-any-return]
    if leaves and all(isinstance(leaf, str) for leaf in leaves):
        return leaves
    if leaves and all(isinstance(leaf, int | float | np.number | np.bool_) for leaf in leaves):
        return torch.from_numpy(np.array(leaves))
    if leaves and all(isinstance(leaf, Tensor) and leaf.numel() == 1 for leaf in leaves):
        return torch.stack([leaf.reshape(()) for leaf in leaves])
    shown = [checks.describe(e) if isinstance(e, Tensor) else type(e).__name__ for e in leaves]
    raise ValueError(
        f"{name} must be one tensor or mixture, or a number or text for each sample, "
        f"got {', '.join(shown[:3]) or 'nothing'}{', …' * (len(shown) > 3)}; {_WAY_OUT}"
    )


def _check_rows(name: str, found: Labels) -> None:
    if is_mixture(found):
        forms.check_mixture(name, found)
        return
    if checks.tensor(name, found).dtype not in (torch.bool, *checks.NUMBERS):
        raise TypeError(f"{name} must hold numbers or bools, got {checks.describe(found)}")
    if found.ndim not in (1, 2) or 0 in found.shape[1:]:
        raise ValueError(
            f"{name} must have shape (B,) or (B, K), got {checks.describe(found)}; {_WAY_OUT}"
        )
    if found.is_meta:
        raise ValueError(f"{name} must hold values, got a meta tensor")
