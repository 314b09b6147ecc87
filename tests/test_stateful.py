"""A pipeline through a whole life, beside a model that knows one sample at a time.

The model keeps nothing but the bytes of each stream. Before every batch it builds the mixers anew
on them and lets those draw their params; it then predicts the batch in plain loops.
"""

import copy
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from torch import nn
from torch.utils.data import DataLoader, default_collate, get_worker_info

from mixup_transforms import OneHot
from mixup_transforms._testing.law import parents_of
from tests.cases import MIXERS, Case
from tests.saving import saved_and_loaded
from tests.strategies import generator_of, noise, seeds

# Python warns of forking a process that has threads, which torch always has.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

CLASSES, CHANNELS = 4, 2
dtypes = st.sampled_from([torch.float32, torch.uint8])
image_sizes = st.tuples(st.integers(1, 8), st.integers(1, 8))
chances = st.sampled_from([0.0, 0.4, 1.0])


@dataclass(frozen=True)
class Stage:
    """The settings of one mixer, and the stream it draws from: ``None`` for the global one."""

    case: Case
    per_sample: bool
    p: float
    inplace: bool
    stream: int | None

    def make(self, generator, num_classes):
        mixer = self.case.make(
            per_sample=self.per_sample,
            inplace=self.inplace,
            generator=generator,
            num_classes=num_classes,
        )
        mixer.p = self.p
        return mixer


stages = st.builds(
    Stage,
    case=st.sampled_from(MIXERS),
    per_sample=st.booleans(),
    p=chances,
    inplace=st.booleans(),
    stream=st.sampled_from([None, 0, 0, 1]),
)


def build(plan, one_hot, stream_seeds):
    """Build the pipeline as a user would."""
    generators = [generator_of(seed) for seed in stream_seeds]
    mixers = [
        stage.make(None if stage.stream is None else generators[stage.stream], CLASSES)
        for stage in plan
    ]
    return nn.Sequential(*([OneHot(CLASSES)] if one_hot else []), *mixers)


class Model:
    """Predicts a pipeline's batches from its settings and the states of its streams."""

    def __init__(self, plan, stream_seeds, global_seed):
        self.plan = plan
        self.seeds = dict(enumerate(stream_seeds)) | {None: global_seed}
        self.states = {key: generator_of(seed).get_state() for key, seed in self.seeds.items()}

    def in_worker(self, worker_seed):
        """Return the model of the copy that a DataLoader worker holds."""
        there = copy.copy(self)
        there.states = {None: generator_of(worker_seed % 2**64).get_state()}
        for key, seed in self.seeds.items():
            if key is not None:
                key_of_both = np.random.SeedSequence(seed, spawn_key=(worker_seed,))
                hashed = int(key_of_both.generate_state(1, np.uint64)[0])
                state = generator_of(hashed).get_state()
                words = np.random.Philox(key_of_both).random_raw(624) >> 32
                state[24 : 24 + 8 * 624].view(torch.uint64).copy_(torch.from_numpy(words))
                there.states[key] = state
        return there

    def draw(self, stage, images):
        generator = torch.Generator()
        generator.set_state(self.states[stage.stream])
        params = stage.make(generator, None).make_params([images])
        self.states[stage.stream] = generator.get_state()
        return params

    def predict(self, images, labels, *, training, params_of=None):
        """Return images, soft labels, the params used and the rounding error allowed."""
        samples = [*images.double()]
        rows = [[float(k == label) for k in range(CLASSES)] for label in labels.tolist()]
        used, slack = [], 0.0
        for n, stage in enumerate(self.plan):
            if params_of is not None:
                params = params_of[n]
            elif training:
                params = self.draw(stage, images)
            else:
                continue
            used.append(params)
            mixed = [
                mix_one(stage.case, params, samples, rows, i, images) for i in range(len(rows))
            ]
            samples, rows = [sample for sample, _ in mixed], [row for _, row in mixed]
            slack += 1e-4 if images.is_floating_point() else 1.0
        return samples, rows, used, slack


def mix_one(case, params, samples, rows, i, images):
    """Mix sample ``i``: its pixels by the mask, its label by the mask's mean."""
    parents = parents_of(params, i)
    parts = case.parts(params, i, [samples[k].to(images.dtype) for k in parents])
    pixels = sum(share * view.double() for share, view in parts)
    if not images.is_floating_point():
        pixels = pixels.round()
    means = [float(share.mean()) for share, _ in parts]
    parent_rows = zip(*(rows[k] for k in parents[: len(parts)]), strict=True)
    return pixels, [sum(m * y for m, y in zip(means, ys, strict=True)) for ys in parent_rows]


def check(prediction, images, labels):
    samples, rows, _, slack = prediction
    assert len(samples) == len(images) == len(labels)
    for i, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        assert (images[i].double() - sample).abs().max() <= slack, "pixels are not as predicted"
        assert labels[i].tolist() == pytest.approx(row, abs=1e-6), "a label is not as predicted"


class Collate:
    """What a DataLoader runs in its workers."""

    def __init__(self, pipeline):
        self.pipeline = pipeline

    def __call__(self, samples):
        batch = default_collate(samples)
        worker = get_worker_info()
        return self.pipeline(batch), -1 if worker is None else worker.seed


class Life(RuleBasedStateMachine):
    @initialize(
        plan=st.lists(stages, min_size=1, max_size=2),
        one_hot=st.booleans(),
        stream_seeds=st.tuples(seeds, seeds),
        global_seed=seeds,
    )
    def start(self, plan, one_hot, stream_seeds, global_seed):
        self.one_hot = one_hot
        self.pipeline = build(plan, one_hot, stream_seeds)
        self.model = Model(plan, stream_seeds, global_seed)
        self.training, self.forks, self.kept = True, 0, None
        torch.manual_seed(global_seed)

    def data(self, seed, batch, size, dtype):
        labels = torch.randint(CLASSES, (batch,), generator=generator_of(seed))
        pixels = noise((batch, CHANNELS, *size), torch.uint8, seed)
        return pixels if dtype == torch.uint8 else pixels / 255, labels

    @rule(seed=seeds, batch=st.integers(0, 6), size=image_sizes, dtype=dtypes)
    def call(self, seed, batch, size, dtype):
        images, labels = self.data(seed, batch, size, dtype)
        prediction = self.model.predict(images, labels, training=self.training)
        check(prediction, *self.pipeline((images, labels)))

    @rule(seed=seeds, batch=st.integers(1, 6), size=image_sizes, dtype=dtypes)
    def draw_params_then_replay_them(self, seed, batch, size, dtype):
        images, labels = self.data(seed, batch, size, dtype)
        prediction = self.model.predict(images, labels, training=self.training)
        result, drawn = (images, labels), []
        for layer in self.pipeline:
            if isinstance(layer, OneHot):
                result = layer(result)
            else:
                drawn.append(layer.make_params([images]))
                result = layer.replay(drawn[-1], result)
        check(prediction, *result)
        self.kept = drawn, batch, size

    @precondition(lambda self: self.kept is not None)
    @rule(seed=seeds, dtype=dtypes)
    def replay_params_kept_from_before(self, seed, dtype):
        drawn, batch, size = self.kept
        images, labels = self.data(seed, batch, size, dtype)
        prediction = self.model.predict(images, labels, training=True, params_of=drawn)
        loaded = iter(saved_and_loaded(drawn))
        result = images, labels
        for layer in self.pipeline:
            result = (
                layer(result) if isinstance(layer, OneHot) else layer.replay(next(loaded), result)
            )
        check(prediction, *result)

    @rule(seed=seeds)
    def pause_and_resume(self, seed):
        saved = self.pipeline.state_dict(), torch.get_rng_state()
        state, global_state = saved_and_loaded(saved)
        torch.manual_seed(seed)
        self.pipeline = build(self.model.plan, self.one_hot, (seed, seed + 1))
        self.pipeline.train(self.training)
        self.pipeline.load_state_dict(state)
        torch.set_rng_state(global_state)

    @rule()
    def pickle_and_load(self):
        self.pipeline = pickle.loads(pickle.dumps(self.pipeline))

    @rule(seed=seeds, p=chances)
    def branch_off_a_copy(self, seed, p):
        """What becomes of a copy does not reach the original."""
        branch = copy.deepcopy(self.pipeline)
        branch[-1].p = p
        *plan, last = self.model.plan
        model = copy.copy(self.model)
        model.plan, model.states = [*plan, replace(last, p=p)], dict(self.model.states)
        images, labels = self.data(seed, 5, (4, 6), torch.float32)
        check(model.predict(images, labels, training=self.training), *branch((images, labels)))
        self.model.states[None] = model.states[None]  # the one stream that they share

    @rule(p=chances)
    def set_p(self, p):
        self.pipeline[-1].p = p
        *plan, last = self.model.plan
        self.model.plan = [*plan, replace(last, p=p)]

    @rule(training=st.booleans())
    def switch(self, training):
        self.training = training
        self.pipeline.train(training)

    @precondition(lambda self: not self.forks)
    @rule(seed=seeds, workers=st.integers(0, 2), dtype=dtypes)
    def load_data(self, seed, workers, dtype):
        self.forks += workers
        images, labels = self.data(seed, 14, (5, 3), dtype)
        loader = DataLoader(
            [*zip(images, labels, strict=True)],
            batch_size=4,
            num_workers=workers,
            collate_fn=Collate(self.pipeline),
            generator=generator_of(seed),
            multiprocessing_context="fork" if workers else None,
        )
        models = {}
        for n, ((mixed, mixed_labels), worker_seed) in enumerate(loader):
            rows = slice(4 * n, 4 * n + 4)
            if workers:
                models.setdefault(worker_seed, self.model.in_worker(worker_seed))
            model = models.get(worker_seed, self.model)
            prediction = model.predict(images[rows], labels[rows], training=self.training)
            check(prediction, mixed, mixed_labels)
        assert n == 3
        assert len(models) == workers

    @invariant()
    def the_streams_are_where_the_model_says(self):
        assert torch.equal(torch.get_rng_state(), self.model.states[None])
        mixers = [layer for layer in self.pipeline if not isinstance(layer, OneHot)]
        for stage, mixer in zip(self.model.plan, mixers, strict=True):
            stream = mixer.generator or torch.default_generator
            assert torch.equal(stream.get_state(), self.model.states[stage.stream])


TestLife = Life.TestCase
TestLife.settings = settings(stateful_step_count=20)
