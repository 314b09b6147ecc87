import copy
import math
import pickle
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mixup_transforms import RandomMixup
from mixup_transforms._core import draws, streams
from tests.saving import saved_and_loaded
from tests.strategies import generator_of, seeds


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0, 8.0, 32.0, 1000.0])
def test_symmetric_beta_is_scipys_beta(alpha):
    drawn = draws.symmetric_beta(200_000, alpha, generator=generator_of(1))
    # Where float64 cannot tell a share from 0 or 1 the formula gives exactly 0 or 1; ½ is checked.
    assert (drawn == 0.5).double().mean() < 1e-3
    assert stats.kstest(drawn.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@given(
    count=st.integers(0, 70),
    size=st.sampled_from([(1,), (7,), (3, 5), (16, 16), (5, 6, 7)]),
    limit=st.sampled_from([1, 500, 2**20]),
    seed=seeds,
)
def test_noise_drawn_in_parts_is_that_drawn_at_once(count, size, limit, seed):
    one, other = generator_of(seed), generator_of(seed)
    whole = draws.low_frequency_noise(count, size, 3.0, generator=one)
    with mock.patch.object(draws, "PART", limit):
        counts = draws.parts(count, size)
    parts = [draws.low_frequency_noise(part, size, 3.0, generator=other) for part in counts]
    assert sum(counts) == count
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)
    assert torch.equal(one.get_state(), other.get_state())


@given(seed=seeds, log_alpha=st.floats(-300, 300))
def test_symmetric_beta_stays_in_range_for_any_alpha(seed, log_alpha):
    drawn = draws.symmetric_beta(64, 10.0**log_alpha, generator=generator_of(seed))
    assert ((drawn >= 0) & (drawn <= 1)).all()


def test_symmetric_beta_at_the_ends_of_alpha():
    tiny = draws.symmetric_beta(1000, 1e-9, generator=generator_of(0))
    assert torch.minimum(tiny, 1 - tiny).max() < 1e-15
    huge = draws.symmetric_beta(1000, 1e12, generator=generator_of(0))
    assert torch.allclose(huge, torch.tensor(0.5, dtype=torch.float64), atol=1e-4)


@pytest.mark.parametrize("u", [0.0, 2.0**-53, 1 - 2.0**-53])
@pytest.mark.parametrize("v", [0.0, 0.25, 0.5, 0.75, 1 - 2.0**-53])
@pytest.mark.parametrize("alpha", [1e-300, 0.1, 1.0, 1e300])
def test_symmetric_beta_is_finite_for_the_extreme_uniforms(monkeypatch, u, v, alpha):
    drawn = torch.tensor([[u], [v]], dtype=torch.float64)
    monkeypatch.setattr(draws, "uniform", lambda *shape, generator: drawn)
    assert 0 <= draws.symmetric_beta(1, alpha, generator=None).item() <= 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_symmetric_beta_is_the_same_on_every_device(alpha, monkeypatch):
    class Elsewhere(torch.Tensor):
        is_cpu = False

    expected = draws.symmetric_beta(1000, alpha, generator=generator_of(0))
    draw = draws.uniform
    monkeypatch.setattr(draws, "uniform", lambda *a, **k: draw(*a, **k).as_subclass(Elsewhere))
    drawn = draws.symmetric_beta(1000, alpha, generator=generator_of(0))
    torch.testing.assert_close(drawn.as_subclass(torch.Tensor), expected)


def test_the_stream_does_not_depend_on_alpha():
    states = set()
    for alpha in (0.01, 1.0, 100.0):
        generator = generator_of(0)
        draws.symmetric_beta(9, alpha, generator=generator)
        states.add(generator.get_state().numpy().tobytes())
    assert len(states) == 1


@given(batch=st.integers(0, 50), seed=seeds)
def test_a_cycle_visits_each_sample_once(batch, seed):
    partner = draws.cycle(batch, generator=generator_of(seed)).tolist()
    visited, i = [], 0
    for _ in range(batch):
        visited.append(i)
        i = partner[i]
    assert sorted(visited) == list(range(batch))
    assert i == 0
    assert batch == 1 or all(i != j for i, j in enumerate(partner))


def test_every_cycle_is_equally_likely():
    generator, counts = generator_of(0), {}
    for _ in range(6000):
        partner = tuple(draws.cycle(4, generator=generator).tolist())
        counts[partner] = counts.get(partner, 0) + 1
    assert len(counts) == math.factorial(3)
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_every_partner_is_equally_likely():
    generator, batch, trials = generator_of(0), 7, 6000
    counts = torch.zeros(batch, batch)
    for _ in range(trials):
        counts[torch.arange(batch), draws.cycle(batch, generator=generator)] += 1
    for i in range(batch):
        others = [counts[i, j].item() for j in range(batch) if j != i]
        assert stats.chisquare(others).pvalue > 1e-4


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_bernoulli_frequency(p):
    drawn = draws.bernoulli(100_000, p, generator=generator_of(0))
    assert drawn.double().mean().item() == pytest.approx(p, abs=0.01)


@pytest.mark.parametrize("generator", [0, "cpu", torch.Generator, object()])
def test_a_generator_that_is_not_one(generator):
    with pytest.raises(TypeError, match="generator must be"):
        RandomMixup(generator=generator)


def mixed(mix):
    return mix(torch.arange(12.0).view(6, 2), torch.eye(6))[0]


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"]
)
def test_transforms_that_share_a_generator_go_on_sharing_it(duplicate):
    generator = generator_of(0)
    pair = torch.nn.Sequential(RandomMixup(generator=generator), RandomMixup(generator=generator))
    mixed(pair[0])
    twin = duplicate(pair)
    assert twin[0].generator is twin[1].generator
    assert twin[0].generator is not generator
    for k in (0, 1, 0):
        assert torch.equal(mixed(pair[k]), mixed(twin[k]))
    joined = duplicate(torch.nn.Sequential(twin[0], RandomMixup(generator=twin[0].generator)))
    assert joined[0].generator is joined[1].generator


def test_in_a_worker_a_stream_is_keyed_once_and_then_goes_on(monkeypatch):
    worker = SimpleNamespace(seed=5)
    monkeypatch.setattr(streams, "get_worker_info", lambda: worker)

    def draws(stream):
        return [torch.rand(1, generator=stream.generator).item() for _ in range(3)]

    stream = streams.Stream.of(generator_of(0))
    first = draws(stream)
    assert len({*first}) == 3
    generator = streams.Stream.of(generator_of(0)).generator
    assert torch.rand(3, generator=generator).tolist() == first
    worker.seed = 6
    assert not {*draws(stream)} & {*first}


def test_what_has_no_weight_is_never_drawn(monkeypatch):
    monkeypatch.setattr(draws, "uniform", lambda *shape, generator: torch.zeros(shape).double())
    assert not draws.bernoulli(3, 0.0, generator=None).any()
    assert draws.choice(2, [0.0, 1.0], generator=None).tolist() == [1, 1]


def test_a_choice_falls_between_the_edges_of_its_weight(monkeypatch):
    drawn = torch.tensor([0.1, 0.3, 0.7, 0.9], dtype=torch.float64)
    monkeypatch.setattr(draws, "uniform", lambda *shape, generator: drawn)
    assert draws.choice(4, [0.25, 0.5, 0.25], generator=None).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("decay_power", [1e-3, 3.0, 100.0, 1e4])
def test_noise_of_any_decay_is_finite(decay_power):
    noise = draws.low_frequency_noise(2, (64, 48), decay_power, generator=generator_of(0))
    assert noise.isfinite().all()
    assert (noise.std(dim=(1, 2)) > 0).all()


def test_state_dict_resumes_the_stream():
    mix = RandomMixup(generator=generator_of(0))
    mixed(mix)
    state = saved_and_loaded(mix.state_dict())
    expected = [mixed(mix) for _ in range(3)]
    resumed = RandomMixup(generator=generator_of(99))
    resumed.load_state_dict(state)
    assert all(torch.equal(a, mixed(resumed)) for a in expected)


def test_state_dict_without_a_generator():
    mix = RandomMixup()
    mix.load_state_dict(mix.state_dict())
    assert not mix.state_dict()


def test_states_that_do_not_fit():
    seeded, unseeded = RandomMixup(generator=generator_of(0)), RandomMixup()
    with pytest.raises(RuntimeError, match=r'Missing key.* "_extra_state"'):
        seeded.load_state_dict(unseeded.state_dict())
    with pytest.raises(ValueError, match="saved with a generator"):
        unseeded.load_state_dict(seeded.state_dict())
    for state in (torch.zeros(16, dtype=torch.uint8), torch.zeros(3), "state"):
        with pytest.raises(ValueError, match="the saved state does not fit a generator on cpu: "):
            seeded.set_extra_state(state)
