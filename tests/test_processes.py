"""The same augmentation in real worker processes and in a real group of ranks."""

import copy
import gc
import json
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, DistributedSampler
from torchvision.transforms import v2

from mixup_transforms import (
    MixedDataset,
    MixedStream,
    MixScheduler,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    RandomResizeMix,
)
from mixup_transforms._core import settings
from tests.bits import same
from tests.processes import Mixing, Numbers, Whole

pytestmark = [
    # Python warns of forking a process that has threads, which torch always has.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
    # The number of workers is what is tested, however few cores there are.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


def loader(dataset, *, collate_fn=None, workers=2, start="fork", persistent=False, **settings):
    generator = torch.Generator().manual_seed(settings.pop("loader_seed", 0))
    if workers:
        settings |= {"multiprocessing_context": start, "persistent_workers": persistent}
    return DataLoader(
        dataset, collate_fn=collate_fn, num_workers=workers, generator=generator, **settings
    )


def epochs_of_lam(number, **settings):
    batches = loader(Numbers(), batch_size=8, **settings)
    return [[lam for _, lam in batches] for _ in range(number)]


def all_different(lams):
    return len({tuple(lam.tolist()) for lam in lams}) == len(lams)


@pytest.mark.parametrize("persistent", [False, True])
def test_streams_differ_by_worker_and_epoch_and_repeat(persistent):
    first, second = (
        epochs_of_lam(2, collate_fn=Mixing(seed=3), persistent=persistent) for _ in range(2)
    )
    assert all_different([lam for epoch in first for lam in epoch])
    assert same(first, second)
    other_mixing = epochs_of_lam(1, collate_fn=Mixing(seed=4), persistent=persistent)
    assert not torch.equal(first[0][0], other_mixing[0][0])


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
@pytest.mark.parametrize(("persistent", "number"), [(False, 1), (True, 2)])
def test_every_start_method_draws_the_same(start, persistent, number):
    forked, started = (
        epochs_of_lam(number, collate_fn=Mixing(seed=3), start=s, persistent=persistent)
        for s in ("fork", start)
    )
    assert same(forked, started)


@pytest.mark.parametrize("seed", [None, 3])
def test_another_loader_seed_is_another_stream(seed):
    first, second = (epochs_of_lam(1, collate_fn=Mixing(seed), loader_seed=s) for s in (0, 1))
    assert not torch.equal(first[0][0], second[0][0])


def test_without_a_generator_torchs_worker_seeding_holds():
    first, second = (epochs_of_lam(2, collate_fn=Mixing()) for _ in range(2))
    assert all_different([lam for epoch in first for lam in epoch])
    assert same(first, second)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_switching_off_reaches_live_workers(start):
    mixing = Mixing(seed=0)
    batches = loader(Numbers(), batch_size=8, collate_fn=mixing, start=start, persistent=True)
    assert all((lam != 1).all() for _, lam in batches)
    mixing.mix.p = 0.0
    assert all((lam == 1).all() for _, lam in batches)
    mixing.mix.p = 1.0
    assert all((lam != 1).all() for _, lam in batches)


# MixedDataset


def mixed_numbers(seed=0):
    return MixedDataset(Numbers(), v2.Compose([OneHot(48), RandomMixup()]), seed=seed)


def mixed_stream(rank=None):
    return MixedStream(Whole(), v2.Compose([OneHot(48), RandomMixup()]), seed=0, rank=rank)


def everything(dataset, **settings):
    images, labels = zip(*loader(dataset, **settings), strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_mixed_dataset_is_the_same_for_any_batching(batch_size, workers):
    expected = [torch.stack(column) for column in zip(*mixed_numbers(), strict=True)]
    drawn = everything(mixed_numbers(), batch_size=batch_size, workers=workers)
    assert same(drawn, expected)


def test_a_mixed_dataset_under_spawn():
    expected = everything(mixed_numbers(), workers=0, batch_size=8)
    assert same(everything(mixed_numbers(), start="spawn", workers=1, batch_size=8), expected)


def test_a_mixed_dataset_over_two_ranks():
    whole = everything(mixed_numbers(), workers=0, batch_size=48)
    for rank in range(2):
        sampler = DistributedSampler(mixed_numbers(), num_replicas=2, rank=rank, shuffle=False)
        part = everything(mixed_numbers(), workers=0, batch_size=8, sampler=sampler)
        assert same(part, [column[rank::2] for column in whole])


@pytest.mark.parametrize("persistent", [False, True])
def test_set_epoch_reaches_workers_and_a_resume_repeats(persistent):
    dataset = mixed_numbers()
    batches = loader(dataset, batch_size=8, persistent=persistent)
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append([images for images, _ in batches])
    assert not any(map(torch.equal, epochs[0], epochs[1]))
    assert same(epochs[0], epochs[2])
    resumed = mixed_numbers()
    resumed.set_epoch(1)
    rest = everything(torch.utils.data.Subset(resumed, range(24, 48)), workers=0, batch_size=4)
    assert torch.equal(rest[0], torch.cat(epochs[1][3:]))


def test_mixed_pairs_added_to_the_plain_samples():
    plain = MixedDataset(Numbers(), OneHot(48), seed=0)
    both = ConcatDataset([plain, mixed_numbers()])
    images, labels = everything(both, workers=2, batch_size=8)
    assert images[:48].flatten().tolist() == [*range(48)]
    assert torch.equal(labels[:48], torch.eye(48))
    torch.testing.assert_close(labels @ torch.arange(48.0), images.flatten())


# Numbers that live workers follow


class Watching:
    """A collate function that says what the worker sees; a batch that asks for it sets."""

    def __init__(self, mix, dataset):
        self.mix, self.dataset = mix, dataset

    def __call__(self, samples):
        if samples[0][1] == 0 and self.dataset.epoch == 77:
            self.mix.p = 0.125
        return self.mix.p, self.mix.alpha, self.dataset.epoch


def watching():
    mix = RandomMixup(alpha=0.5, num_classes=48)
    return Watching(mix, MixedDataset(Numbers(), mix, seed=0))


def watch(start, collate):
    batches = loader(Numbers(4), collate_fn=collate, start=start, workers=1, persistent=True)

    def seen():
        (drawn,) = {*batches}
        return drawn

    return seen


def shallow(it):
    return Watching(copy.copy(it.mix), copy.copy(it.dataset))


TWINS = {
    "itself": lambda it: it,
    "shallow": shallow,
    "deep": copy.deepcopy,
    "pickle": lambda it: pickle.loads(pickle.dumps(it)),
}


@pytest.mark.parametrize(
    ("start", "twin"),
    [("fork", "itself"), ("fork", "pickle"), ("spawn", "itself"), ("forkserver", "deep")],
)
def test_workers_follow_their_own_process(start, twin):
    collate = TWINS[twin](watching())
    seen = watch(start, collate)
    assert seen() == (1.0, 0.5, 0)
    collate.mix.p, collate.mix.alpha = 0.25, 3.0
    collate.dataset.set_epoch(2**60 + 1)
    assert seen() == (0.25, 3.0, 2**60 + 1)


@pytest.mark.parametrize("twin", ["shallow", "deep", "pickle"])
def test_workers_follow_a_copy_alone(twin):
    original = watching()
    collate = TWINS[twin](original)
    seen = watch("fork", collate)
    original.mix.p, original.mix.alpha = 0.25, 3.0
    original.dataset.set_epoch(5)
    assert seen() == (1.0, 0.5, 0)
    collate.mix.p, collate.mix.alpha = 0.75, 2.0
    collate.dataset.set_epoch(6)
    assert seen() == (0.75, 2.0, 6)
    assert (original.mix.p, original.mix.alpha, original.dataset.epoch) == (0.25, 3.0, 5)


def test_what_a_worker_sets_is_its_own_until_its_process_sets_again():
    collate = watching()
    seen = watch("fork", collate)
    collate.dataset.set_epoch(77)
    assert [*map(float, seen())] == [0.125, 0.5, 77]
    assert collate.mix.p == 1.0
    collate.dataset.set_epoch(78)
    assert seen()[0] == 0.125
    collate.mix.p = 0.5
    assert seen()[0] == 0.5


class WatchingChoice:
    """A collate function that says what the worker sees of a choice and its members."""

    def __init__(self):
        members = [RandomMixup(p=0.5), RandomResizeMix(), RandomCutMix()]
        self.mix = RandomChoice(members)

    def __call__(self, samples):
        mixup, _, cutmix = self.mix.transforms
        return self.mix.p, mixup.p, mixup.alpha, cutmix.alpha


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_live_workers_follow_a_scheduler(start):
    collate = WatchingChoice()

    def schedule():
        return MixScheduler(
            collate.mix,
            p=lambda epoch: 1 / (1 + epoch) if epoch != 5 else -1.0,
            alpha=lambda epoch: 2.0**epoch,
        )

    scheduler, seen = schedule(), watch(start, collate)
    for epoch in range(4):
        assert seen() == (1 / (1 + epoch), 0.5, 2.0**epoch, 2.0**epoch)
        scheduler.step()
    with pytest.raises(ValueError, match="at epoch 5, p must lie"):
        scheduler.step()
    assert seen() == (0.2, 0.5, 16.0, 16.0)
    schedule().load_state_dict({"last_epoch": 9})
    assert seen() == (0.1, 0.5, 512.0, 512.0)


def rank(collate, start, asked, answers):
    """A process that is no worker, and starts one."""
    answers.put(("its own", collate.mix.p, collate.mix.p))
    seen = watch(start, collate)
    for command in iter(asked.get, None):
        if command == "set":
            collate.mix.p = 0.75
        answers.put((command, collate.mix.p, seen()[0]))


@pytest.mark.parametrize(
    ("start", "workers_start"), [("fork", "fork"), ("spawn", "fork"), ("forkserver", "spawn")]
)
def test_another_process_and_its_workers_do_not_follow(start, workers_start):
    collate = watching()
    collate.mix.p = 0.5
    context = torch.multiprocessing.get_context(start)
    asked, answers = context.Queue(), context.Queue()
    process = context.Process(target=rank, args=(collate, workers_start, asked, answers))
    process.start()
    assert answers.get(timeout=60) == ("its own", 0.5, 0.5)
    collate.mix.p = 0.25
    asked.put("look")
    assert answers.get(timeout=60) == ("look", 0.5, 0.5)
    asked.put("set")
    assert answers.get(timeout=60) == ("set", 0.75, 0.75)
    assert collate.mix.p == 0.25
    asked.put(None)
    process.join(60)
    assert process.exitcode == 0


def test_a_slot_is_not_given_out_again_while_a_worker_may_follow_it():
    collate = watching()
    seen = watch("fork", collate)
    assert seen()[0] == 1.0
    # The worker goes on with the mixer that is dropped here.
    collate.mix = None
    gc.collect()
    mixers = [RandomMixup(p=0.5) for _ in range(50)]
    settings._share_all()
    assert len(mixers) == 50
    assert seen()[0] == 1.0


MANY = """
import resource, sys
from torch.utils.data import DataLoader
from mixup_transforms import MixCollate, RandomMixup
from mixup_transforms._core import settings
from tests.bits import same
from tests.processes import Many, Numbers
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    many = Many(2000)
    batches = DataLoader(
        Numbers(2), batch_size=2, collate_fn=many, num_workers=1, persistent_workers=True,
        multiprocessing_context=sys.argv[1],
    )
    assert [*batches] == [2000.0]
    for mix in many.mixers:
        mix.p = 0.5
    assert [*batches] == [1000.0]
"""


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_many_mixers_cost_few_file_descriptors(start, tmp_path):
    script = tmp_path / "many.py"
    script.write_text(MANY)
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), start],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr


def locked(dataset):
    """Fork while another thread is in the middle of a transform that holds the global stream."""
    inside, go_on = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        sample = pool.submit(MixedDataset(Numbers(), Waiting(inside, go_on), seed=0).__getitem__, 0)
        inside.wait(60)
        try:
            return everything(dataset, workers=1, batch_size=8, timeout=60)
        finally:
            go_on.set()
            sample.result(60)


class Waiting:
    def __init__(self, inside, go_on):
        self.inside, self.go_on = inside, go_on

    def __call__(self, batch):
        self.inside.set()
        self.go_on.wait(60)
        return batch


def test_a_worker_forked_while_a_thread_draws_is_not_locked_out():
    def dataset():
        return MixedDataset(Numbers(), lambda batch: RandomMixup(num_classes=48)(batch), seed=0)

    assert same(locked(dataset()), everything(dataset(), workers=0, batch_size=8))


# Ranks


def torchrun(script, folder, *arguments, ranks=2):
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", str(Path(__file__).with_name(script)), str(folder)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without it")
def test_two_ranks_mix_apart_and_train_together(tmp_path):
    first, second = (torchrun("ddp_training.py", tmp_path / name) for name in "ab")
    assert first[0]["lams"] != first[1]["lams"]
    assert first[0]["weights"] == first[1]["weights"]
    assert first == second


def rows(batches):
    return [row for images, labels in batches for row in torch.cat((images, labels), 1).tolist()]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without it")
def test_a_run_that_goes_on_over_another_number_of_ranks(tmp_path):
    expected = rows(loader(mixed_numbers(), workers=0, batch_size=48))
    streams = [rows(loader(mixed_stream(rank=i), workers=0, batch_size=8)) for i in range(4)]
    assert all(stream not in streams[:i] for i, stream in enumerate(streams))
    for start, ranks in ((0, 1), (16, 2), (32, 4)):
        folder, numbers = tmp_path / str(ranks), range(start, start + 16)
        part = torchrun("ddp_data.py", folder, str(start), str(start + 16), ranks=ranks)
        seen = [seen for rank in part for seen in zip(rank["indices"], rank["rows"], strict=True)]
        assert sorted(index for index, _ in seen) == [*numbers]
        for index, row in seen:
            assert row == expected[index]
        assert [rank["stream"] for rank in part] == streams[:ranks]
