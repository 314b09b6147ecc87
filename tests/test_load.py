"""Many batches, and many threads."""

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import pytest
import torch

from tests.cases import CHOICE, MEMBERS
from tests.strategies import generator_of

STATUS = Path("/proc/self/status")
BATCHES, WARM_UP = 10_000, 2_000
THREADS, BATCHES_EACH = 8, 20
CLASSES, SIZE = 6, (8, 8)


def resident_bytes():
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def footprint():
    gc.collect()
    return resident_bytes(), len(gc.get_objects())


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not say how much memory is used")
def test_ten_thousand_batches_leave_memory_flat():
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    shared = generator_of(0)
    mixers = [
        case.make(generator=shared, num_classes=4, inplace=inplace)
        for case in (*MEMBERS, CHOICE)
        for inplace in (False, True)
    ]
    turns = cycle(mixers)

    def run(batches):
        for mix in islice(turns, batches):
            mix(images.clone(), labels)

    run(WARM_UP)
    memory, objects = footprint()
    run(BATCHES - WARM_UP)
    more_memory, more_objects = footprint()
    # One params dict kept for each batch would be 8,000 objects, the images 25 MB.
    assert more_objects - objects < 800
    assert more_memory - memory < 2**23


def planes(index, labels):
    """Return images whose mean over the pixels is their one-hot label, and the batch's number."""
    one_hot = torch.nn.functional.one_hot(labels, CLASSES).float()
    rows = torch.cat([one_hot, torch.full((len(labels), 1), float(index))], dim=1)
    return rows[..., None, None].repeat(1, 1, *SIZE), rows


@pytest.fixture
def impatient_threads():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("impatient_threads")
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("case", [*MEMBERS, CHOICE], ids=repr)
def test_threads_share_a_transform_and_its_generator(case, inplace):
    mix = case.make(generator=generator_of(0), inplace=inplace)
    batches = [planes(n, torch.randperm(CLASSES)) for n in range(THREADS * BATCHES_EACH)]
    with ThreadPoolExecutor(THREADS) as pool:
        mixed = [*pool.map(mix, [(images.clone(), rows.clone()) for images, rows in batches])]
    assert len(mixed) == len(batches)
    for n, (images, rows) in enumerate(mixed):
        torch.testing.assert_close(images.mean(dim=(2, 3)), rows, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(rows[:, -1], torch.full((CLASSES,), float(n)), rtol=1e-5, atol=0)
        torch.testing.assert_close(rows[:, :-1].sum(1), torch.ones(CLASSES))
    shares = [tuple(rows[:, :-1].amax(1).tolist()) for _, rows in mixed]
    assert case.name.startswith("resizemix") or len(set(shares)) > 0.9 * len(shares)

    # As much was drawn as one thread draws: no draw is lost, and none comes twice.
    alone = case.make(generator=generator_of(0))
    for images, _ in batches:
        alone.make_params([images])
    assert torch.equal(mix.generator.get_state(), alone.generator.get_state())
