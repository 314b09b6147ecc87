"""From a batch and params to a mixed batch: pixels, labels, objects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from mixup_transforms._batch import labels as forms
from mixup_transforms._batch.joining import joined
from mixup_transforms._batch.objects import Targets
from mixup_transforms._batch.parse import Batch, rewrap, unwrap
from mixup_transforms._core.memory import on_host
from mixup_transforms._core.ragged import Ragged
from mixup_transforms._core.regions import View
from mixup_transforms._core.seeded import uncompiled
from mixup_transforms._mixers.entry import intake
from mixup_transforms._mixers.plan import Params

if TYPE_CHECKING:
    from mixup_transforms._mixers.base import Mixer

Views = Sequence[Sequence[View]]


def mixed(mixer: Mixer, batch: Batch, params: Params, pool: Batch | None) -> Any:
    """Mix all parts of a batch, and write in place when nothing else can fail."""
    if batch.objects is None:
        return batch.finish(_mixed_leaves(mixer, batch, params, pool, params))
    return _mixed_with_objects(mixer, batch, params, pool, batch.objects)


@uncompiled
def _mixed_with_objects(
    mixer: Mixer, batch: Batch, params: Params, pool: Batch | None, objects: int
) -> Any:
    # Where pixels lie is arithmetic of the host, on numbers that it drew or has to read.
    held = on_host(params)
    views = _views(mixer, batch, held, pool)
    mixed_targets = partial(_mixed_targets, mixer, batch, held, pool, views)
    # Objects wait for their device: after the pixels, but before any of these is overwritten.
    targets = mixed_targets() if mixer.inplace else None
    params = params if isinstance(batch.leaves[batch.images[0]], Tensor) else held
    weighed = _shares(params, views) if batch.labels else params
    changed = _mixed_leaves(mixer, batch, params, pool, weighed)
    changed[objects] = mixed_targets() if targets is None else targets
    return batch.finish(changed)


def _mixed_leaves(
    mixer: Mixer, batch: Batch, params: Params, pool: Batch | None, weighed: Params
) -> dict[int, Any]:
    """Mix images, masks and labels, these by the ``lam`` of the last params."""
    parts: dict[int, tuple[Any, Any]] = {}
    for i in (*batch.labels, *batch.masks, *batch.images):
        value = unwrap(batch.leaves[i])
        others = None if pool is None else unwrap(pool.leaves[i])
        if i in batch.images:
            inplace = mixer.inplace and i == batch.images[-1]
            part = mixer.apply(value, params, others=others, inplace=inplace)
        elif i in batch.masks or batch.is_dense_label(i):
            part = _mixed_plane(mixer, batch, i, value, params, others)
        else:
            part = _mixed_label(mixer, value, weighed, others)
        parts[i] = value, part
    return {i: _handed_out(mixer, batch, i, *both) for i, both in parts.items()}


@uncompiled
def unmixed(mixer: Mixer, inputs: tuple[Any, ...]) -> Any:
    """Return a batch as it is, its labels and objects in the form that mixing gives them."""
    batch = intake(mixer).accept(inputs)
    num_classes = mixer.num_classes
    soft: dict[int, Any] = {i: forms.soften(batch.leaves[i], num_classes) for i in batch.labels}
    if batch.targets is not None and batch.objects is not None:
        whole = [[View.whole(i, size)] for i, size in enumerate(batch.targets.sizes)]
        new = joined(batch.targets, batch.targets, whole)
        soft[batch.objects] = batch.targets.filled(new)
    return batch.finish(soft)


def _mixed_plane(
    mixer: Mixer, batch: Batch, i: int, value: Any, params: Params, others: Any
) -> Any:
    """Mix what says something of each pixel."""
    if i not in batch.masks:
        value = forms.at_least_float32(value)
        others = None if others is None else forms.at_least_float32(others)
    return mixer.apply_to_masks(value, params, others=others)


def _mixed_label(mixer: Mixer, value: Any, params: Params, others: Any) -> Any:
    """Mix what says something of each image, by the shares of its parents."""
    partner, num_classes = params["partner"], mixer.num_classes
    if partner.ndim > 1:
        share = params["share"]
        return forms.mix_labels_of_many(
            value, partner, share, num_classes=num_classes, others=others
        )
    lam = params["lam"]
    return forms.mix_labels(value, partner, lam, num_classes=num_classes, others=others)


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
    return [mixer.show(params, i, size, others) for i, size in enumerate(own)]


def _shares(params: Params, views: Views) -> Params:
    """Return params in which labels weigh as pixels do, of all that show anything."""
    totals = [[view.total() for view in shown] for shown in views]
    own = [own / (own + sum(rest)) for own, *rest in totals]
    lam = torch.tensor(own, dtype=torch.float32, device="cpu")
    if params["partner"].ndim == 1:
        return {**params, "lam": lam}
    share = params["share"].cpu()
    # Of one partner alone they were drawn as they are blended; of several they are those shown.
    one = torch.stack((lam, 1 - lam, *share[:, 2:].T), 1)
    alone = (share[:, 2:] == 0).all(1, keepdim=True)
    return {**params, "share": torch.where(alone, one, share)}


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
    return cast(Targets, batch.targets)  # which were checked on entry
