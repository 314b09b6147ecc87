"""Streams in real worker processes, and in the loaders that stop and go on."""

import pytest
import torch
from torch.utils.data import DataLoader

from mixup_transforms import MixedStream, RandomMixup
from tests.bits import same
from tests.processes import SOURCES, Counting, Restarted, Rewound, Whole

pytestmark = [
    # Python warns of forking a process that has threads, which torch always has.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
    # The number of workers is what is tested, however few cores there are.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    # torchdata's loader touches a name that newer torch has deprecated.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]
STARTS = ("fork", "spawn", "forkserver")


def mixed(source, **settings):
    return MixedStream(source, RandomMixup(num_classes=100), seed=0, buffer=8, **settings)


def loader(stream, *, make=DataLoader, workers=2, start="fork", **settings):
    if workers:
        settings["multiprocessing_context"] = start
    return make(stream, batch_size=4, num_workers=workers, **settings)


def same_batches(batches, others):
    return same([*batches], [*others])


def own(batches):
    """The labels' own classes: those that were given to nobody before."""
    seen = set()
    for _, labels in batches:
        for label in labels:
            (new,) = {*label.nonzero().flatten().tolist()} - seen
            seen.add(new)
            yield new


@pytest.mark.parametrize("start", STARTS)
def test_one_worker_gives_what_the_process_itself_gives(start):
    expected = loader(mixed(Counting()), workers=0)
    assert same_batches(loader(mixed(Counting()), workers=1, start=start), expected)


@pytest.mark.parametrize("start", STARTS)
def test_every_sample_comes_once_from_workers_that_share_the_source(start):
    batches = [*loader(mixed(Counting(40)), start=start)]
    # Batches of one worker after those of the other.
    assert [*own(batches[::2])] == [*range(0, 40, 2)]
    assert [*own(batches[1::2])] == [*range(1, 40, 2)]
    for images, labels in batches:
        torch.testing.assert_close(labels @ torch.arange(100.0), images[:, 0])


def test_a_source_that_workers_do_not_share_comes_from_each_and_is_mixed_apart():
    batches = [*loader(mixed(Whole(20)))]
    assert [*own(batches[::2])] == [*own(batches[1::2])] == [*range(20)]
    assert not same_batches(batches[2::2], batches[3::2])


@pytest.mark.parametrize("start", STARTS)
def test_set_epoch_reaches_live_workers_and_their_sources(start):
    stream = mixed(Telling())
    batches = loader(stream, start=start, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        epochs.append([*batches])
        told = {label.nonzero().max().item() for label in epochs[-1][0][1]}
        assert told == {90 + epoch}
    assert same_batches(epochs[0], epochs[2])
    assert not same_batches(epochs[0], epochs[1])
    fresh = mixed(Telling())
    fresh.set_epoch(1)
    assert same_batches(loader(fresh), epochs[1])


class Telling(Counting):
    """Gives the epoch that it was told last."""

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def load(self, number):
        told = self.epochs[-1] if self.epochs else 0
        return torch.rand(1, generator=torch.Generator().manual_seed(number)), 90 + told


def test_an_error_in_a_worker_is_raised_behind_the_batches_before_it():
    source = Counting()
    source.fails_at = 21
    batches = iter(loader(mixed(source), workers=1))
    assert len([next(batches) for _ in range(5)]) == 5
    with pytest.raises(OSError, match="no number 21"):
        next(batches)


def test_a_state_of_one_worker_is_refused_by_the_others():
    stream = mixed(Counting())
    next(iter(stream))
    stream.load_state_dict(stream.state_dict())
    with pytest.raises(ValueError, match="saved with worker=0, got a stream with worker=1"):
        [*loader(stream)]


# torchdata's loaders


def stateful(stream, **settings):
    module = pytest.importorskip("torchdata.stateful_dataloader")
    return loader(stream, make=module.StatefulDataLoader, **settings)


def stopped(batches, steps):
    iterator = iter(batches)
    for _ in range(steps):
        next(iterator)
    return batches.state_dict()


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_stopped_in_mid_epoch_goes_on_bit_for_bit(kind, workers):
    def batches():
        stream = mixed(SOURCES[kind](100), rank=2)
        stream.set_epoch(3)
        return stateful(stream, workers=workers)

    whole = [*batches()]
    for steps in (0, 1, 12, 25):
        state = stopped(batches(), steps)
        resumed = batches()
        resumed.load_state_dict(state)
        again = resumed.state_dict()
        assert same_batches(resumed, whole[steps:])
        twice = batches()
        twice.load_state_dict(again)
        assert same_batches(twice, whole[steps:])


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_a_loader_goes_on_under_any_start_method(start):
    whole = [*stateful(mixed(Restarted(100)))]
    state = stopped(stateful(mixed(Restarted(100)), start=start), 11)
    resumed = stateful(mixed(Restarted(100)), start=start)
    resumed.load_state_dict(state)
    assert same_batches(resumed, whole[11:])


def test_a_resumed_loader_goes_on_to_the_epochs_behind():
    def batches(stream):
        return stateful(stream, persistent_workers=True)

    stream = mixed(Rewound(60))
    first = batches(stream)
    epochs = []
    for epoch in range(3):
        stream.set_epoch(epoch)
        epochs.append([*first])
    stream.set_epoch(1)
    state = stopped(first, 5)
    stream = mixed(Rewound(60))
    resumed = batches(stream)
    resumed.load_state_dict(state)
    stream.set_epoch(1)
    assert same_batches(resumed, epochs[1][5:])
    stream.set_epoch(2)
    assert same_batches(resumed, epochs[2])


def test_a_state_may_be_taken_every_few_batches():
    def batches():
        return stateful(mixed(Restarted(100)), snapshot_every_n_steps=4)

    whole = [*batches()]
    resumed = batches()
    resumed.load_state_dict(stopped(batches(), 11))
    assert same_batches(resumed, whole[11:])


def test_two_loaders_of_one_stream_keep_apart():
    stream = mixed(Rewound(100))
    whole = [*stateful(stream, workers=0)]
    first, second = (stateful(stream, workers=0) for _ in range(2))
    iterators = iter(first), iter(second)
    for iterator, steps in zip(iterators, (9, 2), strict=True):
        for _ in range(steps):
            next(iterator)
    states = first.state_dict(), second.state_dict()
    for state, steps in zip(states, (9, 2), strict=True):
        resumed = stateful(mixed(Rewound(100)), workers=0)
        resumed.load_state_dict(state)
        assert same_batches(resumed, whole[steps:])


@pytest.mark.parametrize("kind", SOURCES)
def test_nodes_stop_and_go_on(kind):
    nodes = pytest.importorskip("torchdata.nodes")

    def batches():
        stream = mixed(SOURCES[kind](100))
        samples = nodes.Prefetcher(nodes.IterableWrapper(stream), prefetch_factor=4)
        return nodes.Loader(
            nodes.Mapper(nodes.Batcher(samples, 4), torch.utils.data.default_collate)
        )

    whole = [*batches()]
    for steps in (0, 1, 12):
        running = batches()
        iterator = iter(running)
        for _ in range(steps):
            next(iterator)
        resumed = batches()
        resumed.load_state_dict(running.state_dict())
        assert same_batches(resumed, whole[steps:])
