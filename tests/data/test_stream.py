import copy
import gc
import io
import itertools
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from mixup_transforms import (
    MixedDataset,
    MixedStream,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    SampleLabels,
)
from mixup_transforms._core import streams
from tests.bits import same
from tests.processes import RESUMING, SOURCES, Counting, Restarted, Rewound

CLASSES = 64
MIX = RandomMixup(num_classes=CLASSES)


def mixed(dataset, transform=MIX, *, seed=0, **settings):
    return MixedStream(dataset, transform, seed=seed, **settings)


def parents(sample):
    return sample[1].nonzero().flatten().tolist()


def drawn(stream):
    return [(parents(sample), sample[1].max().item()) for sample in stream]


def predicted(size, *, seed=0, epoch=0, rank=0, buffer=64):
    """What a stream of numbers must give, worked out with lists."""
    for i in range(size):
        key = (seed, epoch, rank, 0, i)
        recent = [*range(max(i - buffer, 0), i)][::-1]
        samples = [i, *(recent[streams.hashed_seed(*key) % len(recent)] for _ in recent[:1])]
        images = torch.tensor(samples, dtype=torch.float32)[:, None]
        generator = torch.Generator().manual_seed(streams.hashed_seed(*key))
        mix = RandomMixup(num_classes=CLASSES, generator=generator)
        images, labels = mix(images, torch.tensor(samples))
        yield images[0], labels[0]


SIZES = st.integers(0, 40)
BUFFERS = st.sampled_from([1, 2, 3, 8, 64])
SEEDS = st.integers(0, 2**64 - 1)


@given(SIZES, BUFFERS, SEEDS, st.integers(0, 5), st.integers(0, 5))
def test_what_comes_out_depends_on_the_key_and_the_samples_alone(size, buffer, seed, epoch, rank):
    source = Counting(size)
    stream = mixed(source, seed=seed, buffer=buffer, rank=rank)
    stream.set_epoch(epoch)
    expected = [*predicted(size, seed=seed, epoch=epoch, rank=rank, buffer=buffer)]
    assert same([*stream], expected)
    assert source.loaded == [*range(size)]


@given(SIZES, BUFFERS)
def test_the_label_tells_the_truth(size, buffer):
    for image, label in mixed(Counting(size), buffer=buffer):
        torch.testing.assert_close(label @ torch.arange(float(CLASSES)), image[0])


@given(SIZES, BUFFERS)
def test_partners_are_the_last_samples_and_the_first_has_none(size, buffer):
    for i, sample in enumerate(mixed(Counting(size), buffer=buffer)):
        others = [c for c in parents(sample) if c != i]
        assert len(others) == min(i, 1)
        assert all(i - buffer <= other < i for other in others)


def test_every_sample_of_the_buffer_is_a_partner_as_often():
    counts = torch.zeros(9)
    stream = mixed(Counting(48), buffer=8)
    for epoch in range(60):
        stream.set_epoch(epoch)
        for i, sample in enumerate(stream):
            if i >= 8:
                counts[2 * i - sum(parents(sample))] += 1
    assert counts[0] == 0
    assert stats.chisquare(counts[1:].tolist()).pvalue > 1e-5


def test_another_seed_epoch_or_rank_is_another_mix():
    first = drawn(mixed(Counting()))
    other_epoch = mixed(Counting())
    other_epoch.set_epoch(1)
    for stream in (mixed(Counting(), seed=1), mixed(Counting(), rank=1), other_epoch):
        different = sum(a != b for a, b in zip(first, drawn(stream), strict=True))
        assert different == 47


def test_samples_of_a_fixed_seed_never_change():
    rows = [(row, row) for row in torch.eye(5)]
    stream = mixed(rows, RandomMixup(alpha=0.4), seed=7, buffer=3, rank=2)
    stream.set_epoch(3)
    expected = torch.eye(5)
    for own, (partner, lam) in enumerate(FIXED, 1):
        expected[own, own], expected[own, partner] = lam, 1 - lam
    torch.testing.assert_close(torch.stack([row for row, _ in stream]), expected)


FIXED = [(0, 0.60274482), (1, 0.88908708), (2, 0.09718523), (3, 0.80688262)]


@pytest.mark.parametrize("make", [RandomMixup, RandomResizeMix, RandomCutMix, RandomMosaic])
def test_a_stream_of_one_and_an_empty_one(make):
    assert [*mixed([], make(num_classes=2))] == []
    ((image, label),) = mixed([(torch.ones(3, 8, 8), 0)], make(num_classes=2))
    assert same((image, label), (torch.ones(3, 8, 8), torch.tensor([1.0, 0.0])))


class Three(RandomMixup):
    """Wants three partners, and says which samples it got."""

    partners = 3

    def forward(self, *inputs):
        _, numbers = inputs[0]
        self.got = numbers.tolist()
        return inputs[0]


@pytest.mark.parametrize("make", [lambda mix: mix, lambda mix: v2.Compose([mix, OneHot(48)])])
def test_a_mixer_may_want_three_different_partners(make):
    mix = Three()
    counts = torch.zeros(3, 7)
    for epoch in range(20):
        stream = mixed(Counting(), make(mix), buffer=6)
        stream.set_epoch(epoch)
        for i, _ in enumerate(stream):
            own, *partners = mix.got
            assert own == i
            assert len({*partners}) == len(partners) == min(i, 3)
            assert all(i - 6 <= partner < i for partner in partners)
            if i >= 6:
                counts[range(3), [i - partner for partner in partners]] += 1
    for row in counts:
        assert stats.chisquare(row[1:].tolist()).pvalue > 1e-5
    dataset = MixedDataset([(torch.zeros(1), i) for i in range(5)], make(mix), seed=0)
    for i, _ in enumerate(dataset):
        assert mix.got[0] == i
        assert len({*mix.got}) == 4


# Iterations


def test_an_iteration_may_be_broken_off_and_begun_again():
    stream = mixed(Counting())
    whole = [*stream]
    for stop in (0, 1, 30):
        assert same([*itertools.islice(stream, stop)], whole[:stop])
    assert same([*stream], whole)


def test_two_iterations_at_once_do_not_meet():
    stream = mixed(Rewound())
    whole = [*stream]
    first, second = iter(stream), iter(stream)
    head = [next(first) for _ in range(20)]
    assert same([next(second) for _ in range(7)], whole[:7])
    states = first.state_dict(), second.state_dict()
    assert same([*head, *first], whole)
    assert same([*second], whole[7:])
    for state, stop in zip(states, (20, 7), strict=True):
        stream.load_state_dict(state)
        assert same([*stream], whole[stop:])


def test_an_iteration_keeps_its_epoch():
    stream = mixed(Counting())
    whole = [*stream]
    iteration = iter(stream)
    stream.set_epoch(1)
    assert same([*iteration], whole)
    assert not same([*stream], whole)


def test_a_source_is_told_its_epoch_once_and_only_if_it_wants_to_know():
    source = Counting()
    stream = mixed(source)
    assert source.epochs == []
    stream.set_epoch(0)
    assert source.epochs == []
    stream.set_epoch(2)
    assert source.epochs == [2]
    stream.epoch = 3
    next(iter(stream))
    next(iter(stream))
    assert source.epochs == [2, 3]
    listed = mixed([(torch.zeros(1), 0)])
    listed.set_epoch(1)
    assert len([*listed]) == 1


def test_an_error_of_the_source_comes_out_and_nothing_is_lost():
    whole = [*mixed(Counting())]
    source = Counting()
    source.fails_at = 20
    iteration = iter(mixed(source))
    assert same([next(iteration) for _ in range(20)], whole[:20])
    with pytest.raises(OSError, match="no number 20"):
        next(iteration)


def test_an_error_of_the_source_is_one_error_and_the_next_sample_comes():
    source = Counting(10)
    source.fails_at = 4
    iteration, numbers = iter(mixed(source)), []
    while True:
        try:
            numbers.append(max(parents(next(iteration))))
        except OSError:
            numbers.append("error")
        except StopIteration:
            break
    assert numbers == [0, 1, 2, 3, "error", 5, 6, 7, 8, 9]


def test_an_error_of_the_transform_costs_its_sample_alone():
    def fail_once(batch):
        if batch[1][0] == 3:
            raise RuntimeError("three")
        return MIX(batch)

    stream = mixed(Counting(6), fail_once)
    iteration = iter(stream)
    head = [next(iteration) for _ in range(3)]
    with pytest.raises(RuntimeError, match="three"):
        next(iteration)
    whole = [*mixed(Counting(6))]
    assert same(head, whole[:3])
    assert same([*iteration], whole[4:])


def test_no_more_samples_are_alive_than_the_buffer_holds():
    alive = weakref.WeakSet()

    class Tracked(Counting):
        def load(self, number):
            image = torch.full((3, 8, 8), float(number))
            alive.add(image)
            return image, number % 10

    most = 0
    for _ in mixed(Tracked(500), RandomMixup(num_classes=10), buffer=16):
        gc.collect(0)
        most = max(most, len(alive))
    assert 16 <= most <= 17
    gc.collect()
    assert len(alive) == 0


def test_a_broken_off_iteration_keeps_no_sample_and_no_source():
    closed = []

    def source():
        try:
            yield from [(torch.zeros(1), 0)] * 9
        finally:
            closed.append(True)

    class Source:
        def __iter__(self):
            return source()

    stream = mixed(Source())
    for _ in itertools.islice(stream, 3):
        pass
    gc.collect()
    assert closed == [True]
    assert stream.state_dict()["position"] == 3


def test_threads_that_share_an_iteration_get_every_sample_once():
    whole = [*mixed(Counting())]
    iteration = iter(mixed(Counting()))

    def rest(_):
        return [*iteration]

    with ThreadPoolExecutor(8) as pool:
        parts = [sample for part in pool.map(rest, range(8)) for sample in part]
    parts.sort(key=lambda sample: max(parents(sample)))
    assert same(parts, whole)


# States


def saved(state):
    """A state that went through a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@given(st.data())
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(data):
    size, buffer = data.draw(SIZES), data.draw(BUFFERS)
    kind = data.draw(st.sampled_from(sorted(SOURCES)))
    stops = data.draw(st.lists(st.integers(0, 15), max_size=4))

    def stream():
        return mixed(SOURCES[kind](size), seed=3, buffer=buffer, rank=1)

    whole_stream = stream()
    whole_stream.set_epoch(2)
    whole = [*whole_stream]
    running = stream()
    running.set_epoch(2)
    taken = []
    iteration = iter(running)
    for stop in stops:
        taken += itertools.islice(iteration, stop)
        of_iterator = data.draw(st.booleans())
        state = saved((iteration if of_iterator else running).state_dict())
        running = stream()
        if data.draw(st.booleans()):
            running.load_state_dict(state)
            iteration = iter(running)
        else:
            iteration = iter(running)
            iteration.load_state_dict(state)
        assert iteration.state_dict() == state
    taken += iteration
    assert same(taken, whole)


@pytest.mark.parametrize("kind", RESUMING)
@pytest.mark.parametrize("position", [0, 1, 7, 8, 9, 100, 103, 104, 200])
def test_a_source_that_can_resume_loads_fewer_than_two_buffers_again(kind, position):
    stream = mixed(SOURCES[kind](200), RandomMixup(num_classes=200), buffer=8)
    iteration = iter(stream)
    for _ in range(position):
        next(iteration)
    source = SOURCES[kind](200)
    resumed = mixed(source, RandomMixup(num_classes=200), buffer=8)
    resumed.load_state_dict(stream.state_dict())
    rest = iter(resumed)
    next(rest, None)
    again = [number for number in source.loaded if number < position]
    assert again == [*range(position - len(again), position)]
    assert min(8, position) <= len(again) < 16


@pytest.mark.parametrize("kind", SOURCES)
def test_a_state_holds_numbers_and_the_sources_own_state(kind):
    stream = mixed(SOURCES[kind](), buffer=8)
    for _ in itertools.islice(stream, 30):
        pass
    state = stream.state_dict()
    assert len(pickle.dumps(state)) < 300
    source = state.pop("source")
    settings = {"seed": 0, "rank": 0, "ranks": None, "worker": 0, "buffer": 8}
    assert state == {**settings, "epoch": 0, "position": 30}
    assert source["position"] == (16 if kind in RESUMING else 0)
    assert (source["dataset"] is not None) == (kind == "dataset")
    assert (source["iterator"] is not None) == (kind in ("iterator", "own"))


def test_a_state_is_kept_while_its_source_goes_on():
    stream = mixed(Rewound(), buffer=4)
    iteration = iter(stream)
    for _ in range(20):
        next(iteration)
    state = iteration.state_dict()
    kept = copy.deepcopy(state)
    assert len([*iteration]) == 28
    assert state == kept
    for _ in range(2):
        stream.load_state_dict(state)
        assert len([*stream]) == 28
        assert state == kept


def test_a_state_before_the_first_and_after_the_last_sample():
    stream = mixed(Restarted(10))
    start = stream.state_dict()
    whole = [*stream]
    end = stream.state_dict()
    stream.load_state_dict(start)
    assert stream.state_dict() == start
    assert same([*stream], whole)
    stream.load_state_dict(end)
    assert [*stream] == []
    assert same([*stream], whole)


def test_a_loaded_state_is_for_the_next_iteration_of_its_epoch():
    stream = mixed(Counting())
    stream.set_epoch(4)
    whole = [*stream]
    for _ in itertools.islice(stream, 10):
        pass
    state = stream.state_dict()
    resumed = mixed(Counting())
    resumed.load_state_dict(state)
    assert resumed.epoch == 4
    assert resumed.dataset.epochs == []
    assert same([*resumed], whole[10:])
    assert resumed.dataset.epochs == [4]
    assert same([*resumed], whole)
    resumed.load_state_dict(state)
    resumed.set_epoch(5)
    assert len([*resumed]) == 48


def test_errors_during_the_loading_of_partners_come_out_again():
    source = Counting(20)
    source.fails_at = 4
    stream = mixed(source, buffer=3)
    iteration = iter(stream)
    taken = 0
    while taken < 10:
        try:
            next(iteration)
            taken += 1
        except OSError:
            pass
    state = iteration.state_dict()
    expected = [*iteration]
    resumed = iter(stream)
    resumed.load_state_dict(state)
    with pytest.raises(OSError, match="no number 4"):
        next(resumed)
    assert same([*resumed], expected)


def test_a_dataset_that_does_not_give_the_same_again():
    stream = mixed(Counting(20))
    for _ in itertools.islice(stream, 10):
        pass
    state = stream.state_dict()
    shorter = mixed(Counting(6))
    shorter.load_state_dict(state)
    with pytest.raises(ValueError, match="ended after 6 samples, but its state was saved after 10"):
        next(iter(shorter))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seed": 1}, "saved with seed=0, got a stream with seed=1"),
        ({"buffer": 3}, "saved with buffer=64, got a stream with buffer=3"),
        ({"rank": 2}, "saved with rank=0, got a stream with rank=2"),
    ],
)
def test_a_state_of_another_stream(settings, words):
    state = mixed(Counting()).state_dict()
    stream = mixed(Counting(), **settings)
    iteration = iter(stream)
    for loading in (stream, iteration):
        with pytest.raises(ValueError, match=words):
            loading.load_state_dict(state)
    assert len([*iteration]) == len([*stream]) == 48


def in_a_group(monkeypatch, ranks):
    group = {"is_initialized": True, "get_rank": 1, "get_world_size": ranks}
    for name, answer in group.items():
        monkeypatch.setattr(torch.distributed, name, lambda answer=answer: answer)


def test_a_state_of_another_number_of_ranks(monkeypatch):
    in_a_group(monkeypatch, 2)
    state = mixed(Counting()).state_dict()
    assert (state["rank"], state["ranks"]) == (1, 2)
    mixed(Counting()).load_state_dict(state)
    in_a_group(monkeypatch, 4)
    with pytest.raises(ValueError, match="saved with ranks=2, got a stream with ranks=4"):
        mixed(Counting()).load_state_dict(state)
    # Who names the rank divides the source by means of their own.
    named = mixed(Counting(), rank=1)
    assert named.state_dict()["ranks"] is None
    in_a_group(monkeypatch, 2)
    mixed(Counting(), rank=1).load_state_dict(named.state_dict())


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"position": -1}, ValueError, r"state\['position'\] must be at least 0, got -1"),
        ({"position": "9"}, TypeError, r"state\['position'\] must be an integer, got '9'"),
        ({"epoch": 1.0}, TypeError, r"state\['epoch'\] must be an integer, got 1.0"),
    ],
)
def test_a_state_with_numbers_that_are_none(changed, error, words):
    stream = mixed(Counting())
    with pytest.raises(error, match=words):
        stream.load_state_dict({**stream.state_dict(), **changed})
    assert len([*stream]) == 48


def test_a_source_that_fails_to_open_leaves_the_state_for_another_try():
    class Failing(Restarted):
        failing = False

        def __iter__(self):
            if self.failing:
                raise OSError("no connection")
            return super().__iter__()

    stream = mixed(Failing())
    whole = [*stream]
    for _ in itertools.islice(stream, 5):
        pass
    state = stream.state_dict()
    resumed = mixed(Failing())
    resumed.load_state_dict(state)
    resumed.dataset.failing = True
    with pytest.raises(OSError, match="no connection"):
        iter(resumed)
    assert resumed.state_dict() == state
    resumed.dataset.failing = False
    assert same([*resumed], whole[5:])


@pytest.mark.parametrize("state", [None, [], {}, {"seed": 0}, {"mixer": torch.zeros(3)}])
def test_what_is_no_state(state):
    with pytest.raises(ValueError, match="state must be what state_dict"):
        mixed(Counting()).load_state_dict(state)


# Copies


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_begins_anew_and_has_an_epoch_of_its_own(make):
    stream = mixed(Counting(), seed=5, buffer=7, rank=3)
    stream.set_epoch(3)
    whole = [*stream]
    iteration = iter(stream)
    head = [next(iteration) for _ in range(9)]
    twin = make(stream)
    stream.set_epoch(4)
    assert (stream.epoch, twin.epoch) == (4, 3)
    assert (twin.seed, twin.buffer, twin.rank) == (5, 7, 3)
    assert twin.state_dict()["position"] == 0
    assert same([*twin], whole)
    assert same([*head, *iteration], whole)


def test_a_copy_goes_on_from_a_loaded_state():
    stream = mixed(Restarted())
    whole = [*stream]
    for _ in itertools.islice(stream, 9):
        pass
    resumed = mixed(Restarted())
    resumed.load_state_dict(stream.state_dict())
    twin = pickle.loads(pickle.dumps(resumed))
    assert same([*twin], whole[9:])
    assert same([*resumed], whole[9:])


# What a stream takes


class Jitter(v2.Transform):
    """Somebody else's transform, which draws from the global stream."""

    def transform(self, inpt, params):
        return inpt + torch.rand(())


PIPELINES = {
    "mixer": lambda: RandomMixup(),
    "choice": lambda: RandomChoice([RandomMixup(), RandomMixup(alpha=0.2)], per_sample=True),
    "labels": lambda: v2.Compose([RandomMixup(), SampleLabels()]),
    "foreign": lambda: v2.Compose([Jitter(), RandomMixup(), Jitter()]),
    "function": lambda: lambda batch: Jitter()(RandomMixup()(batch)),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_repeat_and_leave_the_global_stream_alone(name):
    samples = [(torch.full((2,), float(i)), torch.eye(9)[i]) for i in range(9)]
    state = torch.get_rng_state()
    first, second = ([*mixed(samples, PIPELINES[name]())] for _ in range(2))
    assert same(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_comes_out_is_apart_from_what_the_buffer_holds():
    samples = [(torch.full((2,), float(i)), torch.eye(9)[i], f"no. {i}") for i in range(9)]
    whole = [*mixed(samples, RandomMixup())]
    for sample, expected in zip(mixed(samples, RandomMixup()), whole, strict=True):
        assert same(sample[:2], expected[:2])
        assert sample[2] == expected[2]
        sample[0].fill_(-1)
        sample[1].fill_(-1)


def test_endless_streams():
    endless = ((torch.full((1,), float(i % 48)), i % 48) for i in itertools.count())
    assert len([*itertools.islice(mixed(endless), 1000)]) == 1000


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        ((3, MIX), {}, TypeError, "dataset must be an iterable of samples, got int"),
        ((Counting, MIX), {}, TypeError, "dataset must be an iterable .*, got <class .*Counting"),
        (
            (TensorDataset(torch.rand(3)), MIX),
            {},
            TypeError,
            "got TensorDataset; MixedDataset takes what is map-style",
        ),
        ((Counting(), RandomMixup), {}, TypeError, "transform must .* got the class RandomMixup"),
        ((Counting(), 3), {}, TypeError, "transform must be a mixer or a pipeline, got 3"),
        (
            (Counting(), v2.Compose([OneHot(3), RandomMixup(generator=torch.Generator())])),
            {},
            ValueError,
            "RandomMixup must have generator=None in a MixedStream",
        ),
        ((Counting(), MIX), {"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ((Counting(), MIX), {"seed": None}, TypeError, "seed must be an integer, got None"),
        ((Counting(), MIX), {"buffer": 0}, ValueError, "buffer must be at least 1, got 0"),
        ((Counting(), MIX), {"buffer": 2.0}, TypeError, "buffer must be an integer, got 2.0"),
        ((Counting(), MIX), {"rank": -1}, ValueError, "rank must be at least 0, got -1"),
        ((Counting(), MIX), {"rank": True}, TypeError, "rank must be an integer, got True"),
    ],
)
def test_bad_settings(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        MixedStream(*arguments, **{"seed": 0, **settings})


def test_a_loader_of_batches_is_no_source_of_samples_and_one_without_them_is():
    digits = TensorDataset(torch.rand(6, 1), torch.arange(6))
    with pytest.raises(TypeError, match="got a DataLoader, which gives batches; mix these"):
        mixed(DataLoader(digits, batch_size=2))
    assert len([*mixed(DataLoader(digits, batch_size=None))]) == 6


def test_settings_stay_checked():
    stream = mixed(Counting(), rank=2)
    for name, value in (("seed", -1), ("buffer", 0), ("rank", -1), ("epoch", -1)):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            setattr(stream, name, value)
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        stream.set_epoch(-1)
    assert (stream.seed, stream.buffer, stream.rank, stream.epoch) == (0, 64, 2, 0)


def test_samples_that_cannot_be_mixed_with_those_before():
    samples = [(torch.rand(3, 4), 0), (torch.rand(3, 5), 1)]
    iteration = iter(mixed(samples))
    next(iteration)
    with pytest.raises(ValueError, match=r"^\[0\] in the dataset's samples must have one shape"):
        next(iteration)
