"""The entry of a call: the batch is checked once, and params are drawn or taken as given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mixup_transforms._batch.intake import Intake, Takes, check_alike, check_writable
from mixup_transforms._batch.parse import Batch
from mixup_transforms._core import checks, streams
from mixup_transforms._core.memory import on_host
from mixup_transforms._core.ragged import Images, Ragged
from mixup_transforms._core.seeded import uncompiled
from mixup_transforms._mixers.pairing import beside
from mixup_transforms._mixers.plan import Params, required

if TYPE_CHECKING:
    from mixup_transforms._mixers.base import Mixer


def intake(mixer: Mixer) -> Intake:
    """Return what checks batches by a mixer's declarations and settings."""
    takes = Takes(
        mixer.spatial,
        mixer.averages,
        mixer.blends_masks,
        mixer.one_size,
        mixer.shows,
        mixer.stacks,
        mixer.needs_instances,
        mixer.needs_classes,
    )
    getters = mixer.images_getter, mixer.labels_getter
    return Intake(type(mixer).__name__, takes, mixer.num_classes, *getters, mixer.dims)


@uncompiled
def entered(
    mixer: Mixer, inputs: tuple[Any, ...], find_params: Callable[[Batch], Params]
) -> tuple[Batch, Params]:
    """Accept a batch, and find its params."""
    batch = intake(mixer).accept(inputs)
    if mixer.inplace:
        check_writable(batch)
    return batch, find_params(batch)


@uncompiled
def entered_between(mixer: Mixer, inputs: Any, others: Any) -> tuple[Batch, Batch, Params]:
    """Accept two batches that go together, and draw what the first is mixed by."""
    accept = intake(mixer).accept
    batch, pool = accept((inputs,)), accept((others,))
    check_alike(batch, pool)
    if mixer.inplace:
        check_writable(batch, pool)
    if mixer.pairing is not None:
        raise ValueError(
            "between mixes each sample with the one in its place of the second batch, so "
            "pairing must be None"
        )
    generator = mixer.generator if mixer.training else streams.detached()
    partner = beside(batch.size, generator, count=mixer.partners)
    return batch, pool, mixer.draw(mixer.plan(batch, partner, generator, off=False, pool=pool))


def checked_params(mixer: Mixer, params: Mapping[str, Any], images: Images) -> Params:
    """Take params that were given, with the ``lam`` that they realise."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a dict, got {type(params).__name__}")
    if isinstance(images, Ragged):  # each mixed by numbers of its own
        params = on_host(params)
    partner = required(params, "partner")
    checks.partner(partner, batch=len(images), pool=len(images), count=mixer.partners)
    return {"partner": partner.long(), **mixer.realise(params, images)}
