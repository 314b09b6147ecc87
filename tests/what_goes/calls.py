"""The ways to have a batch mixed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mixup_transforms import MixCollate, MixedDataset, RandomChoice
from tests.accelerator import DEVICE, TYPED, Accelerator
from tests.strategies import generator_of
from tests.what_goes.batches import mapped, nodes
from tests.what_goes.form import Detection, Form


@dataclass(frozen=True)
class Call:
    """A way to have a batch mixed.

    Attributes:
        name: for readers.
        run: takes what makes the mixer, a batch and its form, and returns the mixed batch.
        mixes: whether the batch comes back changed.
        writes: whether it is written into.
        compiles: whether that takes so long that the mixers take turns.
    """

    name: str
    run: Callable[[Callable[..., Any], Any, Form], Any]
    mixes: bool = True
    writes: bool = False
    compiles: bool = False

    def __repr__(self):
        return self.name


def seeded(make, **settings):
    return make(generator=generator_of(0), **settings)


def between(make, batch, form):
    return seeded(make).between(batch, form.make(form.numbers.roll(1)))


def replayed(make, batch, form):
    images = [torch.zeros(form.size, *form.inner)]
    params = seeded(make).make_params([*batch] if isinstance(form, Detection) else images)
    return make().replay(params, batch)


def in_place(make, batch, form):
    mixed = seeded(make, inplace=True)(batch)
    given, returned = dict(nodes(batch)), dict(nodes(mixed))
    assert all(returned[keys] is given[keys] for keys in form.images)
    return mixed


def chosen(make, batch, form):
    return RandomChoice([make(), make()], per_sample=True, generator=generator_of(0))(batch)


def collated(make, batch, form):
    mixed = MixCollate(seeded(make))(form.samples(batch))
    return tuple(mixed) if type(mixed) is list else mixed  # a list is what torch makes of tuples


def loaded(make, batch, form):
    dataset = MixedDataset(form.samples(batch), make(), seed=0)
    return form.batch_of([dataset[i] for i in range(max(form.size, 1))])


def compiled(make, batch, form):
    torch._dynamo.reset()
    return torch.compile(seeded(make), backend="eager")(batch)


def on_device(make, batch, form):
    def put(leaf):
        return accelerator.put(leaf) if type(leaf) in TYPED else leaf

    def take(leaf):
        assert leaf.device == DEVICE
        return accelerator.take(leaf)

    with Accelerator() as accelerator:
        mixed = seeded(make)(mapped(put, batch))
    return mapped(take, mixed)


CALL = Call("`mix(batch)`", lambda make, batch, form: seeded(make)(batch))
CHOICE = Call("`RandomChoice([mix, mix])(batch)`", chosen)
MIX_COLLATE = Call("`MixCollate(mix)(samples)`", collated)
MIXED_DATASET = Call("`MixedDataset(samples, mix, seed=0)[i]`", loaded)
ON_DEVICE = Call("`mix(batch)` on an accelerator", on_device)
COMPILED = Call("`torch.compile(mix)(batch)`", compiled, compiles=True)
CALLS = [
    CALL,
    Call("`mix.between(batch, others)`", between),
    Call("`mix.replay(params, batch)`", replayed),
    Call("`mix.eval()(batch)`", lambda make, batch, form: make().eval()(batch), mixes=False),
    Call("`mix(batch)` with `inplace=True`", in_place, writes=True),
    CHOICE,
    MIX_COLLATE,
    MIXED_DATASET,
    ON_DEVICE,
    COMPILED,
]
