"""The entry of a call: the batch is checked once, and params are drawn or taken as given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torchvision import tv_tensors

from mixup_transforms._batch.intake import Intake, Takes, check_alike, check_values, check_writable
from mixup_transforms._batch.parse import Batch
from mixup_transforms._core import checks, streams
from mixup_transforms._core.memory import on_host
from mixup_transforms._core.ragged import Images, Ragged
from mixup_transforms._core.seeded import uncompiled
from mixup_transforms._mixers.pairing import beside
from mixup_transforms._mixers.plan import Params, required

if TYPE_CHECKING:
    from mixup_transforms._mixers.base import Mixer

_KINDS = {Tensor, tv_tensors.Image, tv_tensors.Video, tv_tensors.Mask}


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


class Remembered:
    """The form of the last batch that a mixer accepted, so that none is looked at twice.

    A deep copy of a mixer, and one that is sent to a worker, remembers nothing.

    Attributes:
        last: the form, and the batch without its leaves.
    """

    last: tuple[object, Batch] | None = None

    def __reduce__(self) -> tuple[type[Remembered], tuple[()]]:
        return Remembered, ()


def _form(mixer: Mixer, leaves: Sequence[Any]) -> object:
    """Return what the roles of some leaves depend on, and whether a mixer takes them.

    None where they are not tensors alone, or a callable decides by more than their forms.
    """
    getters = mixer.images_getter, mixer.labels_getter
    if not {*map(type, leaves)} <= _KINDS or any(map(callable, getters)):
        return None
    if any(leaf.is_nested for leaf in leaves):
        return None
    takes = mixer.spatial, mixer.averages, mixer.blends_masks, mixer.needs_classes
    settings = mixer.dims, mixer.num_classes, *getters, *takes
    return settings, [(type(leaf), leaf.shape, leaf.dtype, leaf.layout) for leaf in leaves]


def _accepted(mixer: Mixer, inputs: tuple[Any, ...]) -> Batch:
    """Accept a batch; of one in the form of the last only values can be wrong."""
    value = inputs[0] if len(inputs) == 1 else inputs
    form = _form(mixer, value) if type(value) is tuple else None
    last = mixer._remembered.last
    if form is not None and last is not None and last[0] == form:
        batch = last[1].with_leaves([*value])
        if _stacks(mixer, batch):
            check_values(batch, mixer.num_classes)
            return batch
    batch = intake(mixer).accept(inputs)
    if form is not None:
        mixer._remembered.last = form, batch.with_leaves([])
    return batch


def _stacks(mixer: Mixer, batch: Batch) -> bool:
    """Whether images still come out in one size, which settings decide that may have changed."""
    if not mixer.spatial or mixer.dims != 2:
        return True
    return mixer.stacks(checks.size_of(batch.leaves[batch.images[0]]))


@uncompiled
def entered(
    mixer: Mixer, inputs: tuple[Any, ...], find_params: Callable[[Batch], Params]
) -> tuple[Batch, Params]:
    """Accept a batch, and find its params."""
    batch = _accepted(mixer, inputs)
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
