"""Mixers applied to the samples that were chosen for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mixup_transforms._core.arithmetic import uncast
from mixup_transforms._core.memory import moved, take
from mixup_transforms._core.ragged import AnyImages, Ragged, cloned
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._mixers.plan import Params

Applies = Sequence[Callable[..., Any]]


def apply_each(
    mixers: Sequence[Mixer],
    applies: Applies,
    values: AnyImages,
    params: Params,
    others: AnyImages | None,
    *,
    inplace: bool,
) -> AnyImages:
    """Apply each sample's mixer to it, by one of its ways to apply params."""
    choice = params["choice"]
    used: list[int] = sorted(set(choice.tolist()))
    if not used:  # without a sample there is no geometry either
        return values if inplace else cloned(values)
    if len(used) == 1:
        mixer = mixers[used[0]]
        own = {**params, "partner": first_partners(params["partner"], mixer.partners)}
        alone: AnyImages = applies[used[0]](values, own, others=others, inplace=inplace)
        return alone
    # What is applied writes into copies, so the partners in values stay as they were.
    pool = values if others is None else others
    if isinstance(values, Ragged):
        return _each_of_list(mixers, applies, values, params, pool, inplace=inplace)
    mixed = _each_of_stack(mixers, applies, values, params, pool)
    fits = mixed.dtype == values.dtype and mixed.shape == values.shape
    return values.copy_(mixed) if inplace and fits else mixed


def _each_of_stack(
    mixers: Sequence[Mixer], applies: Applies, values: Tensor, params: Params, pool: AnyImages
) -> Tensor:
    kinds = range(len(mixers))
    chosen: list[Tensor] = [(params["choice"] == k).nonzero().flatten() for k in kinds]
    order = torch.cat(chosen)
    places, back = moved(values.device, order, order.argsort())
    parts = []
    of_each = torch.split(places, [*map(len, chosen)])
    for mixer, apply, rows, there in zip(mixers, applies, chosen, of_each, strict=True):
        if len(rows):
            own = params_of(mixer, params, rows)
            parts.append(apply(take(values, there), own, others=pool, inplace=True))
    with uncast(values.device.type):
        return take(torch.cat(parts), back)


def _each_of_list(
    mixers: Sequence[Mixer],
    applies: Applies,
    values: Ragged,
    params: Params,
    pool: Ragged,
    *,
    inplace: bool,
) -> Ragged:
    mixed = values.samples.copy()
    for k, (mixer, apply) in enumerate(zip(mixers, applies, strict=True)):
        rows = (params["choice"] == k).nonzero().flatten()
        if len(rows):
            own = params_of(mixer, params, rows)
            parts = apply(values.take(rows.tolist()), own, others=pool)
            for i, part in zip(rows.tolist(), parts, strict=True):
                mixed[i] = part
    if inplace:
        pairs = zip(values, mixed, strict=True)
        mixed = [x.copy_(new) if x.shape == new.shape else new for x, new in pairs]
    return Ragged(mixed)


def params_of(mixer: Mixer, params: Params, rows: Tensor) -> Params:
    """Return the params of some samples, as their mixer has them."""
    own = params
    if len(rows) < len(params["partner"]):
        devices = {value.device for value in params.values()}
        rows_on = {device: moved(device, rows)[0] for device in devices}
        own = {name: take(value, rows_on[value.device]) for name, value in params.items()}
    return {**own, "partner": first_partners(own["partner"], mixer.partners)}


def first_partners(partner: Tensor, count: int) -> Tensor:
    """Return as many partners of each sample as a mixer has."""
    if partner.ndim == 1 or count == partner.shape[1]:
        return partner
    first = partner[:, 0] if count == 1 else partner[:, :count]
    # A column of one row keeps its stride, and cannot be sent as bytes.
    return first.clone(memory_format=torch.contiguous_format)
