"""Seeds, saved params and saved streams."""

import json
import os
import subprocess
import sys
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision import tv_tensors

from mixup_transforms import (
    OneHot,
    RandomChoice,
    RandomClassMix,
    RandomCopyPaste,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    SampleLabels,
    seeded_generator,
)
from mixup_transforms._core import streams
from tests.bits import same
from tests.cases import OF_DIMS, every_mixer
from tests.saving import saved_and_loaded
from tests.strategies import generator_of, soft_labels

GOLDEN = Path(__file__).with_name("golden_params.json")


def golden_params():
    """Params of every mixer for a fixed seed; changing them breaks everybody's seeds."""
    makers = {
        "mixup": lambda g, per_sample: RandomMixup(alpha=0.4, generator=g, per_sample=per_sample),
        "cutmix": lambda g, per_sample: RandomCutMix(generator=g, per_sample=per_sample),
        "resizemix": lambda g, per_sample: RandomResizeMix(generator=g, per_sample=per_sample),
        "fmix": lambda g, per_sample: RandomFMix(generator=g, per_sample=per_sample),
        "mosaic": lambda g, per_sample: RandomMosaic(generator=g, per_sample=per_sample),
        "choice": lambda g, per_sample: RandomChoice(
            [RandomMixup(), RandomCutMix(p=0.5)], generator=g, per_sample=per_sample
        ),
        "classmix": lambda g, per_sample: RandomClassMix(
            ignore_index=3, generator=g, per_sample=per_sample
        ),
        "copypaste": lambda g, per_sample: RandomCopyPaste(generator=g, per_sample=per_sample),
    }
    for case in OF_DIMS:
        makers[case.name] = partial(lambda make, g, p: make(generator=g, per_sample=p), case.make)
    images, small = torch.zeros(5, 1, 6, 8), torch.zeros(5, 1, 2, 3)
    classes = torch.arange(6).view(2, 3) % 4 + torch.arange(5).view(5, 1, 1)
    objects = [
        {"masks": tv_tensors.Mask(plane == classes[:n, :1, :1])} for n, plane in enumerate(classes)
    ]
    leaves = {"classmix": [small, tv_tensors.Mask(classes)], "copypaste": [small, objects]}
    leaves |= {case.name: [torch.zeros(5, 1, *(2, 2, 8)[-case.dims :])] for case in OF_DIMS}
    golden = {}
    for name, per_sample in product(makers, (True, False)):
        mix = makers[name](generator_of(streams.hashed_seed(0, 1, 2)), per_sample)
        params = mix.make_params(leaves.get(name, [images]))
        golden[f"{name}, per {'sample' if per_sample else 'batch'}"] = {
            key: value.tolist() for key, value in params.items()
        }
    return golden


def test_params_of_a_fixed_seed_never_change():
    expected, drawn = json.loads(GOLDEN.read_text()), golden_params()
    assert expected.keys() == drawn.keys()
    for name, params in drawn.items():
        assert params.keys() == expected[name].keys()
        for key, value in params.items():
            torch.testing.assert_close(
                torch.tensor(value), torch.tensor(expected[name][key]), rtol=1e-6, atol=1e-7
            )


# seeded_generator


def first_draw(*arguments, **settings):
    return torch.rand(4, generator=seeded_generator(*arguments, **settings)).tolist()


def test_each_seed_rank_and_epoch_has_its_own_stream():
    keys = [*product((0, 1, 2**32, 2**62, 2**64 - 1), (0, 1, 2), (0, 1, 2))]
    draws = [first_draw(seed, rank=rank, epoch=epoch) for seed, rank, epoch in keys]
    assert len({tuple(draw) for draw in draws}) == len(keys)
    assert draws == [first_draw(seed, rank=rank, epoch=epoch) for seed, rank, epoch in keys]
    assert first_draw(5) == first_draw(5, rank=0, epoch=0)


def test_a_stream_of_a_fixed_key_never_changes():
    generator = seeded_generator(0, rank=1, epoch=2)
    assert generator.initial_seed() == streams.hashed_seed(0, 1, 2)
    drawn = torch.randint(2**16, (6,), generator=generator)
    assert drawn.tolist() == [47460, 49791, 42739, 21935, 43082, 28982]


def test_all_of_a_twister_is_seeded():
    words = np.random.Philox(np.random.SeedSequence(5, spawn_key=(1, 2))).random_raw(624) >> 32
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    drawn = torch.randint(2**16, (2000,), generator=seeded_generator(5, rank=1, epoch=2))
    assert drawn.tolist() == (twister.random_raw(2000) % 2**16).tolist()


def test_no_two_of_many_keys_share_a_stream():
    def first(seed, rank, epoch):
        generator = seeded_generator(seed, rank=rank, epoch=epoch)
        return int(torch.randint(2**63 - 1, (), generator=generator))

    keys = [*product((0, 1, 2**64 - 1), range(64), range(1050))]
    keys += [(0, 30, 1760)]  # which was one with (0, 40, 851)
    assert len(keys) > 200_000
    assert len({first(*key) for key in keys}) == len(keys)


def test_the_rank_is_asked_of_torch_distributed(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)
    assert first_draw(5) == first_draw(5, rank=3)
    assert first_draw(5) != first_draw(5, rank=0)


def test_hashes_never_change():
    assert streams.hashed_seed(0, 1, 2) == 9247832928889101276
    assert streams.hashed_seed(7, 3, 0) == 13998879582043975642


def test_keys_do_not_run_into_seeds():
    assert streams.hashed_seed(2**32, 0) != streams.hashed_seed(0, 1, 0)


@pytest.mark.parametrize("device", ["cuda:99", "nowhere"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ValueError, match=f"device '{device}' has no generator on this machine: "):
        seeded_generator(0, device=device)


# Resume and replay


def test_a_pipeline_stopped_and_resumed_goes_on_as_one_never_stopped():
    def pipeline(seed):
        shared = generator_of(seed)
        return nn.Sequential(
            OneHot(4),
            RandomMixup(generator=shared, p=0.5),
            RandomCutMix(generator=shared),
            RandomChoice([RandomFMix(), RandomMixup()], generator=generator_of(seed + 1)),
            SampleLabels(generator=generator_of(seed + 2)),
        )

    data = [(torch.rand(6, 3, 8, 8), torch.randint(4, (6,))) for _ in range(8)]
    never_stopped = pipeline(0)
    whole = [never_stopped(batch) for batch in data]
    stopped = pipeline(0)
    for batch in data[:3]:
        stopped(batch)
    resumed = pipeline(100)
    resumed.load_state_dict(saved_and_loaded(stopped.state_dict()))
    for batch, (images, labels) in zip(data[3:], whole[3:], strict=True):
        again = resumed(batch)
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], labels)


# State


def as_rank(rank, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: rank is not None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)


def lams(mix):
    return mix.make_params([torch.zeros(6, 1)])["lam"].tolist()


def test_only_a_generator_is_saved():
    model = nn.Sequential(OneHot(3), RandomMixup(), RandomChoice([RandomFMix()]), nn.Linear(2, 3))
    assert [*model.state_dict()] == ["3.weight", "3.bias"]
    model.load_state_dict(model.state_dict())
    seeded = nn.Sequential(OneHot(3), RandomMixup(generator=generator_of(0)))
    ((name, state),) = seeded.state_dict().items()
    assert (name, state.dtype, state.device.type) == ("1._extra_state", torch.uint8, "cpu")
    assert not [*seeded.buffers()]


def test_a_state_that_is_not_there_is_refused_unless_told_not_to_be_strict():
    mix = RandomMixup(generator=generator_of(0))
    with pytest.raises(RuntimeError, match=r'Missing key.* "_extra_state"'):
        mix.load_state_dict({})
    with pytest.raises(ValueError, match="saved with no generator"):
        mix.load_state_dict({"_extra_state": None})
    expected = lams(RandomMixup(generator=generator_of(0)))
    assert mix.load_state_dict({}, strict=False).missing_keys == ["_extra_state"]
    assert lams(mix) == expected


def test_safetensors_saves_and_loads_a_model_with_mixers(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")

    def model(seed):
        shared = generator_of(seed)
        mixers = RandomMixup(), RandomMixup(generator=shared), RandomCutMix(generator=shared)
        return nn.Sequential(nn.Linear(2, 3), *mixers)

    saved, loaded = model(0), model(1)
    lams(saved[1])
    safetensors.save_model(saved, tmp_path / "model.safetensors")
    safetensors.load_model(loaded, tmp_path / "model.safetensors")
    assert lams(loaded[2]) == lams(saved[2])
    assert torch.equal(loaded[0].weight, saved[0].weight)


@pytest.mark.parametrize("rank", [None, 0, 1])
def test_old_states_load_unchanged(rank, monkeypatch):
    as_rank(rank, monkeypatch)
    RandomMixup().load_state_dict({"_extra_state": None})
    mix = RandomMixup(generator=generator_of(1))
    mix.load_state_dict({"_extra_state": generator_of(0).get_state()})
    assert lams(mix) == lams(RandomMixup(generator=generator_of(0)))


@pytest.mark.parametrize("saved_by", [None, 0, 3])
def test_a_state_is_keyed_anew_by_another_rank_alone(saved_by, monkeypatch):
    as_rank(saved_by, monkeypatch)
    mix = RandomMixup(generator=generator_of(0))
    lams(mix)
    state = mix.state_dict()
    expected, later = lams(mix), mix.state_dict()

    def resumed(rank, state=state):
        as_rank(rank, monkeypatch)
        mix = RandomMixup(generator=generator_of(99))
        mix.load_state_dict(state)
        return lams(mix)

    assert resumed(saved_by) == resumed(None) == resumed(saved_by or 0) == expected
    others = [rank for rank in range(6) if rank != (saved_by or 0)]
    streams_of = [resumed(rank, at) for rank in others for at in (state, later)]
    assert len({tuple(drawn) for drawn in [expected, *streams_of]}) == 1 + len(streams_of)
    assert resumed(others[0]) == resumed(others[0])


MOVED = """
import torch, torch._lazy.ts_backend
from mixup_transforms import RandomMixup
torch._lazy.ts_backend.init()
saved, resumed = (RandomMixup(generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
states = saved.state_dict()["_extra_state"], saved.generator.get_state()
expected = saved.make_params([torch.zeros(6, 1)])["lam"]
for state in states:
    resumed.load_state_dict({"_extra_state": state.to("lazy")})
    assert torch.equal(resumed.make_params([torch.zeros(6, 1)])["lam"], expected)
"""


def test_states_that_map_location_moved():
    # In a process of its own, which gets a device that every machine has.
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", MOVED],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr


def test_a_state_saved_in_inference_mode():
    with torch.inference_mode():
        mix = RandomMixup(generator=generator_of(0))
        state = mix.state_dict()
    resumed = RandomMixup(generator=generator_of(1))
    resumed.load_state_dict(state)
    assert lams(resumed) == lams(mix)


@pytest.mark.parametrize(
    "state",
    [
        torch.zeros(5056, dtype=torch.uint8, device="meta"),
        torch.zeros(5064, dtype=torch.uint8, device="meta"),
        torch.zeros(5064),
        torch.zeros(5063, dtype=torch.uint8),
        torch.zeros((), dtype=torch.uint8),
        b"state",
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(state):
    mix = RandomMixup(generator=generator_of(0))
    with pytest.raises(ValueError, match="the saved state does not fit"):
        mix.load_state_dict({"_extra_state": state})
    assert lams(mix) == lams(RandomMixup(generator=generator_of(0)))


def test_params_drawn_outside_of_a_checkpoint_are_replayed_inside():
    mix, layer = RandomMixup(labels_getter=None, generator=generator_of(0)), nn.Linear(3, 3)
    x = torch.rand(4, 3, requires_grad=True)

    def gradients(run):
        params = mix.make_params([x])
        return torch.autograd.grad(run(params).square().sum(), [x, layer.weight])

    def block(x, params):
        return mix.replay(params, layer(x)).sin()

    state = mix.state_dict()
    expected = gradients(lambda params: block(x, params))
    mix.load_state_dict(state)
    saved = gradients(lambda params: checkpoint(block, x, params, use_reentrant=False))
    torch.testing.assert_close(saved, expected)


@every_mixer
def test_params_can_be_saved_and_shown_again(case):
    x, labels = torch.rand(5, 2, 3, 6, 8), soft_labels(5)
    mix = case.make(generator=generator_of(0))
    params = mix.make_params([x])
    loaded = saved_and_loaded(params)
    expected, again = mix.replay(params, x, labels), case.make().replay(loaded, x, labels)
    assert same(expected, again)
    second_view = mix.replay(params, x.flip(1), labels)
    assert torch.equal(second_view[0], expected[0].flip(1))


def test_params_of_another_batch_size():
    params = RandomMixup().make_params([torch.rand(4, 3)])
    with pytest.raises(ValueError, match="partner must have shape"):
        RandomMixup().replay(params, torch.rand(5, 3), soft_labels(5))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_params(), indent=1) + "\n")


@given(
    seed=st.integers(0, 2**64 - 1),
    key=st.lists(st.integers(0, 2**40), max_size=4),
    count=st.integers(0, 5),
    below=st.integers(-1, 12),
)
def test_different_numbers_of_a_key(seed, key, count, below):
    drawn = streams.distinct(seed, *key, count=count, below=below)
    assert len({*drawn}) == len(drawn) == max(min(count, below), 0)
    assert all(0 <= number < below for number in drawn)
    assert drawn[:1] == [streams.hashed_seed(seed, *key) % below for _ in drawn[:1]]
    assert drawn[:2] == streams.distinct(seed, *key, count=min(count, 2), below=below)


def test_different_numbers_are_every_choice_as_often():
    counts = Counter(tuple(streams.distinct(0, i, count=2, below=4)) for i in range(2400))
    assert len(counts) == 12
    assert stats.chisquare([*counts.values()]).pvalue > 1e-5
