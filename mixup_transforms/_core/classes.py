"""Class indices as rows of class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._core import checks
from mixup_transforms._core.memory import moved, take


def blend_classes(
    labels: Tensor, partner: Tensor, lam: Tensor, num_classes: int, *, others: Tensor | None
) -> Tensor:
    """Weigh each sample's class by ``lam`` and its partner's by the rest, as rows ``(B, C)``.

    To the bit what :func:`blend` makes of one-hot rows, of which it needs none.
    """
    others = labels if others is None else others
    if checks.on_host(labels, others, partner, lam):
        return _blend_on_host(labels, partner, lam, num_classes, others)
    rows, share = moved(labels.device, partner.long(), lam.float())
    return _added_up((labels, take(others, rows)), (share, 1 - share), num_classes)


def blend_classes_of_many(
    labels: Tensor, partner: Tensor, share: Tensor, num_classes: int, *, others: Tensor | None
) -> Tensor:
    """Weigh the classes of each sample and of P partners by ``share`` ``(B, P + 1)``."""
    rows, share = moved(labels.device, partner.long(), share.float())
    pool = labels if others is None else others
    parents = [labels, *(take(pool, each) for each in rows.unbind(1))]
    return _added_up(parents, share.unbind(1), num_classes)


def _added_up(parents: Sequence[Tensor], shares: Sequence[Tensor], num_classes: int) -> Tensor:
    """Add up shares of classes, one parent after the other; NaN for classes out of range."""
    classes = torch.stack([each.long() for each in parents], 1)
    readable = checks.readable(classes)
    safe = classes if readable else classes.clamp(0, num_classes - 1)
    mixed = shares[0].new_zeros(len(classes), num_classes)
    for parent, share in zip(torch.split(safe, 1, 1), shares, strict=True):
        mixed.scatter_add_(1, parent, share.unsqueeze(1))
    if readable:
        return mixed
    return mixed.masked_fill_((safe != classes).any(1, keepdim=True), torch.nan)


def _blend_on_host(
    labels: Tensor, partner: Tensor, lam: Tensor, num_classes: int, others: Tensor
) -> Tensor:
    # NumPy takes a fraction of torch's time for a few numbers.
    own, share = labels.numpy(), lam.float().numpy()
    pool = own if others is labels else others.numpy()
    # Of torch's, whose error for want of memory is the one that users know.
    mixed = torch.zeros(len(own), num_classes, dtype=torch.float32, device="cpu")
    weights, first = mixed.numpy().ravel(), np.arange(0, mixed.numel(), num_classes)
    weights[first + own.astype(np.int64, copy=False)] = share
    weights[first + pool[partner.numpy()].astype(np.int64, copy=False)] += 1 - share
    return mixed


def one_hot(
    labels: Tensor,
    num_classes: int,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> Tensor:
    """Return rows of (smoothed) class probabilities, NaN for classes found out of range."""
    indices = labels.long()
    ignored = None if ignore_index is None else indices == ignore_index
    classes = indices if ignored is None else indices.masked_fill(ignored, 0)
    readable = checks.readable(classes)

    off = label_smoothing / num_classes
    shape = (len(indices), num_classes, *indices.shape[1:])
    rows = torch.full(shape, off, dtype=torch.float32, device=indices.device)
    safe = classes if readable else classes.clamp(0, num_classes - 1)
    rows.scatter_(1, safe.unsqueeze(1), 1 - label_smoothing + off)
    if ignored is not None:
        rows.masked_fill_(ignored.unsqueeze(1), 0.0)
    if not readable:
        rows.masked_fill_((safe != classes).unsqueeze(1), torch.nan)
    return rows
