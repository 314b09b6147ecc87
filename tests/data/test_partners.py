"""Partners in proportion to weights: exactly, among the others alone, the same anywhere."""

import copy
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader

from mixup_transforms import MixedDataset, RandomMixup
from mixup_transforms._data.partners import checked_partner_weights
from tests.bits import same
from tests.processes import Numbers

UNEVEN = [3.0, 0.0, 1.0, 2.0, 0.5, 4.0, 0.0, 1.5]


def mixed(weights=UNEVEN, size=8, seed=0):
    mix = RandomMixup(num_classes=size)
    return MixedDataset(Numbers(size), mix, seed=seed, partner_weights=weights)


def partner_of(dataset, i):
    """Read the partner off the label."""
    others = {*dataset[i][1].nonzero().flatten().tolist()} - {i}
    return others.pop() if others else i


@given(weights=st.lists(st.integers(0, 6), min_size=1, max_size=8), data=st.data())
def test_of_chances_all_alike_each_other_sample_gets_its_weight(weights, data):
    assume(any(weights))
    own = data.draw(st.integers(0, len(weights) - 1), label="own")
    weighed = checked_partner_weights(weights, len(weights))
    total = sum(weights) - weights[own]
    drawn = Counter(weighed.partner(own, (k + 0.5) / total) for k in range(total))
    assert drawn == {j: w for j, w in enumerate(weights) if w and j != own}
    if total == 0:
        assert weighed.partner(own, 0.5) == own


@given(
    weights=st.lists(st.floats(0, 1e300), min_size=1, max_size=8),
    chance=st.floats(0, 1) | st.sampled_from([0.0, 1.0]),
    data=st.data(),
)
def test_a_partner_is_another_sample_that_has_weight(weights, chance, data):
    assume(any(weights))
    own = data.draw(st.integers(0, len(weights) - 1), label="own")
    partner = checked_partner_weights(weights, len(weights)).partner(own, chance)
    if any(w for j, w in enumerate(weights) if j != own):
        assert partner != own
        assert weights[partner] > 0
    else:
        assert partner == own


@pytest.mark.parametrize("only", [0, 2])
@pytest.mark.parametrize("chance", [0.0, 0.9, 1.0])
def test_a_weight_too_small_to_be_parted(only, chance):
    weights = np.zeros(3)
    weights[only] = 5e-324
    assert checked_partner_weights(weights, 3).partner(1, chance) == only


@pytest.mark.parametrize("heavy", [0, 2, 4])
def test_a_heavy_sample_does_not_swallow_the_light_ones(heavy):
    weights = [1.0] * 5
    weights[heavy] = 1e200
    weighed = checked_partner_weights(weights, 5)
    chances = [(k + 0.5) / 400 for k in range(400)]
    drawn = Counter(weighed.partner(heavy, chance) for chance in chances)
    assert drawn == {j: 100 for j in range(5) if j != heavy}
    assert {weighed.partner((heavy + 1) % 5, chance) for chance in chances} == {heavy}


def test_sums_of_many_weights_stay_in_proportion():
    weights = np.full(100_000, 0.1)
    weighed = checked_partner_weights(weights, len(weights))
    for own in (0, 50_000, 99_999):
        others = [*range(own), *range(99_999, own, -1)]
        for place in (0, 17, 49_998, 50_001, 99_998):
            chance = (place + 0.5) / 99_999
            assert weighed.partner(own, chance) == others[place]


def test_partners_over_many_epochs_are_drawn_in_proportion():
    dataset, counts = mixed(), np.zeros((8, 8))
    for epoch in range(400):
        dataset.set_epoch(epoch)
        for i in range(8):
            counts[i, partner_of(dataset, i)] += 1
    for i in range(8):
        expected = np.array([w * (j != i) for j, w in enumerate(UNEVEN)])
        drawn, weight = counts[i][expected > 0], expected[expected > 0]
        assert drawn.sum() == 400
        assert stats.chisquare(drawn, 400 * weight / weight.sum()).pvalue > 1e-5


def test_the_label_tells_the_truth_of_weighted_partners():
    for image, label in mixed([*range(48)], size=48, seed=5):
        torch.testing.assert_close(label @ torch.arange(48.0), image[0])


def test_partners_of_a_fixed_seed_never_change():
    dataset = mixed(seed=7)
    dataset.set_epoch(3)
    assert [partner_of(dataset, i) for i in range(8)] == [3, 3, 7, 4, 0, 0, 0, 5]


def test_another_seed_and_another_epoch_are_other_partners():
    def partners(dataset):
        return [partner_of(dataset, i) for i in range(48)]

    weights = [*range(1, 49)]
    first, second = mixed(weights, 48), mixed(weights, 48)
    second.set_epoch(1)
    assert partners(first) != partners(second)
    assert partners(first) != partners(mixed(weights, 48, seed=1))


def test_weights_change_the_partners_and_not_the_shares():
    plain, weighted = mixed(None), mixed()
    for i in range(8):
        if partner_of(weighted, i) == partner_of(plain, i):
            assert same(weighted[i], plain[i])
        assert torch.equal(weighted[i][1][i], plain[i][1][i])


@pytest.mark.parametrize("weights", [[0, 0, 5], np.array([0, 0, 1e-300])])
def test_a_sample_whom_nobody_fits_comes_back_as_it_is(weights):
    loaded = []

    class Counted(Numbers):
        def __getitem__(self, i):
            loaded.append(i)
            return super().__getitem__(i)

    mix = RandomMixup(num_classes=3)
    dataset = MixedDataset(Counted(3), mix, seed=0, partner_weights=weights)
    image, label = dataset[2]
    assert loaded == [2]
    assert image == 2
    assert label.tolist() == [0, 0, 1]
    assert [partner_of(dataset, i) for i in range(3)] == [2, 2, 2]


def test_a_dataset_of_one_is_the_identity_whatever_its_weight():
    image, label = mixed([2.0], size=1)[0]
    assert (image, label) == (0, 1)


FORMS = {
    "list": UNEVEN,
    "tuple": tuple(UNEVEN),
    "float32 array": np.array(UNEVEN, np.float32),
    "whole numbers": np.array([2 * w for w in UNEVEN], np.uint8),
    "backwards": np.array(UNEVEN[::-1])[::-1],
    "tensor": torch.tensor(UNEVEN),
    "bfloat16": torch.tensor(UNEVEN, dtype=torch.bfloat16),
    "gradient": torch.tensor(UNEVEN, requires_grad=True),
    "numbers of torch": [torch.tensor(w) for w in UNEVEN],
}


@pytest.mark.parametrize("weights", FORMS.values(), ids=FORMS)
def test_weights_of_any_kind_draw_the_same(weights):
    expected = [*mixed()]
    dataset = mixed(weights)
    assert all(map(same, dataset, expected))
    assert dataset.partner_weights.dtype == np.float64
    assert dataset.partner_weights.shape == (8,)


def test_a_mask_says_who_may_be_a_partner():
    dataset = mixed(torch.arange(8) > 5)
    assert {partner_of(dataset, i) for i in range(6)} == {6, 7}
    assert [partner_of(dataset, i) for i in (6, 7)] == [7, 6]


def test_weights_are_the_datasets_own():
    given = np.array(UNEVEN)
    dataset, expected = mixed(given), [*mixed()]
    given[:] = 1
    assert dataset.partner_weights.tolist() == UNEVEN
    assert all(map(same, dataset, expected))
    with pytest.raises(ValueError, match="read-only"):
        dataset.partner_weights[0] = 5


def test_weights_can_be_set_and_taken_away():
    dataset = mixed(None)
    assert dataset.partner_weights is None
    plain = [*dataset]
    dataset.partner_weights = UNEVEN
    assert all(map(same, dataset, mixed()))
    with pytest.raises(ValueError, match="at least 0"):
        dataset.partner_weights = [-1] * 8
    assert dataset.partner_weights.tolist() == UNEVEN
    dataset.partner_weights = None
    assert all(map(same, dataset, plain))


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1.0, -0.5], ValueError, r"must be finite and at least 0, got -0\.5 at 1$"),
        ([1.0, float("nan")], ValueError, "must be finite and at least 0, got nan at 1$"),
        ([float("inf"), 1.0], ValueError, "must be finite and at least 0, got inf at 0$"),
        ([0, 0.0], ValueError, "must not be all 0"),
        (
            [1],
            ValueError,
            r"shape \(2,\), .* got \(1,\); of weights of classes, weights\[labels\] gives",
        ),
        ([1, 2, 3], ValueError, r"must have shape \(2,\), one for each sample .* got \(3,\)$"),
        ([[1, 2]], ValueError, r"must have shape \(2,\), .* got \(1, 2\)$"),
        (1.0, ValueError, r"must have shape \(2,\), .* got \(\)$"),
        ([1e308, 1e308], ValueError, r"must sum to 9e\+307 at most, got inf; divide them by"),
        ([6e307, 6e307], ValueError, r"must sum to 9e\+307 at most, got 1\.2e\+308; divide"),
        ("ab", TypeError, "must be a list, an array or a tensor of numbers, got str$"),
        (["a", "b"], TypeError, "of numbers, got list$"),
        ([1, None], TypeError, "of numbers, got list$"),
        ([[1], [1, 2]], TypeError, "of numbers, got list$"),
        ({0: 1, 1: 2}, TypeError, "of numbers, got dict$"),
        (torch.ones(2, device="meta"), TypeError, "of numbers, got Tensor of torch.float32$"),
        (torch.ones(2) + 1j, TypeError, "of numbers, got Tensor of torch.complex64$"),
        (torch.ones(2).to_sparse(), TypeError, "of numbers, got Tensor of torch.float32$"),
        (np.ones(2) + 1j, TypeError, "of numbers, got ndarray of complex128$"),
    ],
)
def test_what_is_no_weight_of_two_samples(weights, error, message):
    with pytest.raises(error, match=f"^partner_weights {message}|^partner_weights .*{message}"):
        mixed(weights, size=2)


def test_a_dataset_that_has_grown_needs_new_weights():
    samples = [(torch.full((2,), float(i)), i) for i in range(3)]
    mix = RandomMixup(num_classes=4)
    dataset = MixedDataset(samples, mix, seed=0, partner_weights=[1, 2, 3])
    samples.append((torch.full((2,), 3.0), 3))
    with pytest.raises(ValueError, match=r"must have shape \(4,\), one for each .* got \(3,\)"):
        dataset[0]
    dataset.partner_weights = [0, 0, 0, 1]
    assert [partner_of(dataset, i) for i in range(4)] == [3, 3, 3, 3]
    assert [*MixedDataset([], mix, seed=0, partner_weights=[])] == []


# Anywhere


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 1)])
def test_weighted_partners_are_the_same_in_workers(start, workers):
    weights = torch.arange(48.0)
    expected = [torch.stack(column) for column in zip(*mixed(weights, 48), strict=True)]
    loader = DataLoader(
        mixed(weights, 48), batch_size=5, num_workers=workers, multiprocessing_context=start
    )
    columns = zip(*loader, strict=True)
    assert all(map(torch.equal, map(torch.cat, columns), expected))


def test_weighted_partners_are_the_same_in_threads():
    dataset = mixed([*range(48)], 48)
    expected = [*dataset] * 2
    with ThreadPoolExecutor(8) as pool:
        drawn = [*pool.map(dataset.__getitem__, [*range(48)] * 2)]
    assert all(map(same, drawn, expected))


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_has_the_same_partners_and_weights_of_its_own(make):
    dataset = mixed()
    twin = make(dataset)
    assert all(map(same, twin, dataset))
    assert not twin.partner_weights.flags.writeable
    twin.partner_weights = None
    assert dataset.partner_weights.tolist() == UNEVEN


def test_a_million_weights_travel_in_eight_bytes_each():
    weighed = mixed(np.ones(1_000_000), size=1_000_000)
    plain = mixed(None, size=1_000_000)
    assert len(pickle.dumps(weighed)) - len(pickle.dumps(plain)) < 8_001_000
