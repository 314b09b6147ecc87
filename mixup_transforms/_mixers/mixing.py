"""From a batch and params to a mixed batch: pixels, labels, objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mixup_transforms._batch import labels as forms
from mixup_transforms._batch.joining import joined
from mixup_transforms._batch.objects import Targets
from mixup_transforms._batch.parse import Batch, rewrap, unwrap
from mixup_transforms._core.ragged import Ragged
from mixup_transforms._core.regions import View
from mixup_transforms._mixers.plan import Params

if TYPE_CHECKING:
    from mixup_transforms._mixers.base import Mixer

Views = Sequence[Sequence[View]]


def mixed(mixer: Mixer, batch: Batch, params: Params, pool: Batch | None) -> Any:
    """Mix all parts of a batch, and write in place when nothing else can fail."""
    changed: dict[int, Any] = {}
    views: Views | None = None
    if batch.targets is not None and batch.objects is not None:
        views = _views(mixer, batch, params, pool)
        # Objects wait for their device: after the pixels, but before any of these is overwritten.
        if mixer.inplace:
            changed[batch.objects] = _mixed_targets(mixer, batch, params, pool, views)
    values = {i: unwrap(batch.leaves[i]) for i in (*batch.labels, *batch.masks, *batch.images)}
    others = {i: None if pool is None else unwrap(pool.leaves[i]) for i in values}
    weighed = params if views is None else {**params, "lam": _own_shares(views)}
    for i, value in values.items():
        if i in batch.images:
            inplace = mixer.inplace and i == batch.images[-1]
            part = mixer.apply(value, params, others=others[i], inplace=inplace)
        else:
            part = _mixed_label(mixer, batch, i, value, weighed, others[i])
        changed[i] = part
    for i, value in values.items():
        changed[i] = _handed_out(mixer, batch, i, value, changed[i])
    if views is not None and batch.objects is not None and batch.objects not in changed:
        changed[batch.objects] = _mixed_targets(mixer, batch, params, pool, views)
    return batch.finish(changed)


def unmixed(batch: Batch, num_classes: int | None) -> Any:
    """Return a batch as it is, its labels and objects in the form that mixing gives them."""
    soft: dict[int, Any] = {i: forms.soften(batch.leaves[i], num_classes) for i in batch.labels}
    if batch.targets is not None and batch.objects is not None:
        whole = [[View.whole(i, size)] for i, size in enumerate(batch.targets.sizes)]
        new = joined(batch.targets, batch.targets, whole)
        soft[batch.objects] = batch.targets.filled(new)
    return batch.finish(soft)


def _mixed_label(
    mixer: Mixer, batch: Batch, i: int, value: Any, params: Params, others: Any
) -> Any:
    if i in batch.masks:
        return mixer.apply_to_masks(value, params, others=others)
    if batch.is_dense_label(i):
        others = None if others is None else forms.at_least_float32(others)
        return mixer.apply_to_masks(forms.at_least_float32(value), params, others=others)
    partner, lam = params["partner"], params["lam"]
    return forms.mix_labels(value, partner, lam, num_classes=mixer.num_classes, others=others)


def _handed_out(mixer: Mixer, batch: Batch, i: int, value: Any, part: Any) -> Any:
    """Return a mixed part in the type of its leaf, or the leaf where that was written."""
    leaf = batch.leaves[i]
    if part is value:
        return leaf
    if isinstance(part, Ragged) and mixer.inplace:
        written = zip(part, value, leaf, strict=True)
        return type(leaf)(own if new is old else rewrap(new, like=own) for new, old, own in written)
    if mixer.inplace and batch.can_write(i, part):
        value.copy_(part)
        return leaf
    return rewrap(part, like=leaf)


def _views(mixer: Mixer, batch: Batch, params: Params, pool: Batch | None) -> Views:
    """Return what the canvas of each sample shows."""
    own = _targets(batch).sizes
    others = _targets(pool or batch).sizes
    # Where pixels lie is arithmetic of the host, on numbers that it drew or has to read.
    held = {name: value.cpu() for name, value in params.items()}
    partner = held["partner"].tolist()
    return [mixer.show(held, i, own[i], others[j]) for i, j in enumerate(partner)]


def _own_shares(views: Views) -> Tensor:
    """Return the share of each sample's own pixels in those that show anything."""
    totals = [[view.total() for view in shown] for shown in views]
    own = [own / (own + sum(rest)) for own, *rest in totals]
    return torch.tensor(own, dtype=torch.float32, device="cpu")


def _mixed_targets(
    mixer: Mixer, batch: Batch, params: Params, pool: Batch | None, views: Views
) -> Any:
    own = _targets(batch)
    others = own if pool is None else _targets(pool)
    new = joined(own, others, views)
    for key in own.keys.semantic:
        masks, partners = (
            Ragged([unwrap(target[key]) for target in each.given]) for each in (own, others)
        )
        mixed = mixer.apply_to_masks(masks, params, others=None if pool is None else partners)
        for target, items, mask in zip(own.given, new, mixed, strict=True):
            items[key] = rewrap(mask, like=target[key])
    return own.filled(new)


def _targets(batch: Batch) -> Targets:
    targets: Any = batch.targets  # which were checked on entry
    return targets  # type: ignore[no-any-return]
