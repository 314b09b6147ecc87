"""Seeds, saved params and saved streams."""

import io
import json
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

from mixup_transforms import (
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomResizeMix,
    SampleLabels,
    seeded_generator,
)
from mixup_transforms._core import streams
from tests.cases import MIXERS
from tests.strategies import generator_of, soft_labels

GOLDEN = Path(__file__).with_name("golden_params.json")


def golden_params():
    """Params of every mixer for a fixed seed; changing them breaks everybody's seeds."""
    makers = {
        "mixup": lambda g, per_sample: RandomMixup(alpha=0.4, generator=g, per_sample=per_sample),
        "cutmix": lambda g, per_sample: RandomCutMix(generator=g, per_sample=per_sample),
        "resizemix": lambda g, per_sample: RandomResizeMix(generator=g, per_sample=per_sample),
        "fmix": lambda g, per_sample: RandomFMix(generator=g, per_sample=per_sample),
        "choice": lambda g, per_sample: RandomChoice(
            [RandomMixup(), RandomCutMix(p=0.5)], generator=g, per_sample=per_sample
        ),
    }
    golden = {}
    for name, per_sample in product(makers, (True, False)):
        mix = makers[name](seeded_generator(0, rank=1, epoch=2), per_sample)
        params = mix.make_params([torch.zeros(5, 1, 6, 8)])
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
    keys = [*product((0, 1, 2**32, 2**62), (0, 1, 2), (0, 1, 2))]
    draws = [first_draw(seed, rank=rank, epoch=epoch) for seed, rank, epoch in keys]
    assert len({tuple(draw) for draw in draws}) == len(keys)
    assert draws == [first_draw(seed, rank=rank, epoch=epoch) for seed, rank, epoch in keys]
    assert first_draw(5) == first_draw(5, rank=0, epoch=0)


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


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        ((0.5,), {}, TypeError, "seed must be an integer, got 0.5"),
        (("0",), {}, TypeError, "seed must be an integer, got '0'"),
        ((True,), {}, TypeError, "seed must be an integer, got True"),
        ((-1,), {}, ValueError, "seed must be at least 0, got -1"),
        ((0,), {"rank": -1}, ValueError, "rank must be at least 0, got -1"),
        ((0,), {"rank": 0.5}, TypeError, "rank must be an integer, got 0.5"),
        ((0,), {"epoch": -1}, ValueError, "epoch must be at least 0, got -1"),
        ((0,), {"device": "cuda:99"}, ValueError, "'cuda:99' has no generator on this machine"),
        ((0,), {"device": "nowhere"}, ValueError, "'nowhere' has no generator on this machine"),
    ],
)
def test_bad_keys(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        seeded_generator(*arguments, **settings)


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
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = pipeline(100)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for batch, (images, labels) in zip(data[3:], whole[3:], strict=True):
        again = resumed(batch)
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], labels)


@pytest.mark.parametrize("case", MIXERS, ids=repr)
def test_params_can_be_saved_and_shown_again(case):
    x, labels = torch.rand(5, 3, 6, 8), soft_labels(5)
    mix = case.make(generator=generator_of(0))
    params = mix.make_params([x])
    file = io.BytesIO()
    torch.save(params, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    expected, again = mix.replay(params, x, labels), case.make().replay(loaded, x, labels)
    assert all(map(torch.equal, expected, again))
    second_view = mix.replay(params, x.flip(1), labels)
    assert torch.equal(second_view[0], expected[0].flip(1))


def test_params_of_another_batch_size():
    params = RandomMixup().make_params([torch.rand(4, 3)])
    with pytest.raises(ValueError, match=r"partner must have shape \(5,\), .* got \(4,\)"):
        RandomMixup().replay(params, torch.rand(5, 3), soft_labels(5))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_params(), indent=1) + "\n")
