"""Which pixels belong to the classes that a seed chooses, against a plain loop."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mixup_transforms._core.segments import covered, half_of_classes
from tests.accelerator import Accelerator
from tests.strategies import generator_of, seeds

INTEGERS = [
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64, torch.bool),
]
keys = st.integers(0, 2**63 - 1)


def split_mix(seed, place):
    """What SplitMix64 draws from a seed at a place, in whole numbers without an end."""
    state = (seed + (place + 1) * 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return state ^ state >> 31


def signed(number):
    return number - 2**64 if number >= 2**63 else number


def half(present, seed, ignore_index):
    """The half, rounded up, of the classes that come first by what SplitMix64 draws for them."""
    classes = sorted({*present} - {ignore_index}, key=lambda c: signed(split_mix(seed, c)))
    return {*classes[: (len(classes) + 1) // 2]}


@st.composite
def class_masks(draw):
    """Batches of masks with few classes near each other, or far apart."""
    dtype = draw(st.sampled_from(INTEGERS))
    bounds = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    bounds = bounds[0], min(bounds[1], 2**63 - 1)
    near = st.integers(max(bounds[0], -3), min(bounds[1], 8))
    palette = draw(st.lists(st.one_of(near, st.integers(*bounds)), min_size=1, max_size=6))
    shape = draw(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 6)))
    places = torch.randint(len(palette), shape, generator=generator_of(draw(seeds)))
    ignore_index = draw(st.sampled_from([None, 255, -1, *palette]))
    return torch.tensor(palette)[places].to(dtype), ignore_index


@pytest.mark.parametrize("where", ["host", "device"])
@given(case=class_masks(), data=st.data())
def test_half_of_the_classes_are_chosen_by_the_seed(where, case, data):
    classes, ignore_index = case
    given_seeds = data.draw(st.lists(keys, min_size=len(classes), max_size=len(classes)))
    chosen_by = torch.tensor(given_seeds, dtype=torch.int64)
    if where == "device":
        with Accelerator() as accelerator:
            found = half_of_classes(accelerator.put(classes), chosen_by, ignore_index=ignore_index)
        found = accelerator.take(found)
    else:
        found = half_of_classes(classes, chosen_by, ignore_index=ignore_index)
    assert (found.dtype, found.shape) == (torch.bool, classes.shape)
    for plane, pixels, seed in zip(classes.long(), found, given_seeds, strict=True):
        chosen = half(plane.flatten().tolist(), seed, ignore_index)
        expected = [[c in chosen for c in row] for row in plane.tolist()]
        assert pixels.tolist() == expected


def test_one_image_alone_has_its_own_seed():
    plane, seed = torch.arange(12).view(3, 4) % 5, torch.tensor([7])
    alone = half_of_classes(plane, seed, ignore_index=None)
    (row,) = half_of_classes(plane[None], seed, ignore_index=None)
    assert torch.equal(alone, row)


def test_every_half_is_as_likely():
    classes = torch.tensor([3, 4, 5, 90, 255]).view(1, 1, 5)
    trials = 20_000
    chosen_by = torch.randint(2**63 - 1, (trials,), generator=generator_of(0))
    found = half_of_classes(classes.expand(trials, 1, 5), chosen_by, ignore_index=None)
    halves = [*combinations(range(5), 3)]
    drawn = [tuple(row.nonzero().flatten().tolist()) for row in found[:, 0]]
    counts = [drawn.count(each) for each in halves]
    assert sum(counts) == trials
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_what_some_of_the_objects_cover(dtype):
    masks = torch.tensor([[[1, 0, 0]], [[0, 1, 0]], [[1, 1, 0]], [[0, 0, 0]]]).to(dtype) * 3
    for rows, expected in (([0, 1], [1, 1, 0]), ([1], [0, 1, 0]), ([3], [0, 0, 0])):
        inside = covered(masks.to(dtype), torch.tensor(rows))
        assert inside.dtype == torch.bool
        assert inside.long().tolist() == [expected]
