"""The rules of pairing: who may be chosen, how often, and what is said of the rest."""

import copy
import math
import pickle
import re
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from mixup_transforms import (
    LabelMixture,
    MatchedPairing,
    MixCollate,
    MixedDataset,
    MixedStream,
    NearPairing,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    RandomMosaic,
)
from tests.accelerator import DEVICE, Accelerator, assert_as_on_cpu
from tests.cases import assert_law, every_mixer_of_one_partner
from tests.strategies import INTEGERS, generator_of, seeds, soft_labels

# The classes of samples in every form in which they can be compared.


def rows_of(classes, dtype=torch.float32):
    """Class weights, whose top class is given, and now and then none at all for class 3."""
    rows = soft_labels(len(classes), classes=3, seed=len(classes))
    rows[range(len(classes)), [c % 3 for c in classes]] += 1
    rows[[c == 3 for c in classes]] = 0
    return rows.to(dtype)


def mixture_of(classes):
    """Class c in two halves around a larger part of one that all have, or no weight at all."""
    parts = [[0, 0, 0] if c == 3 else [c, 9, c] for c in classes]
    weights = [[0.0, 0.0, 0.0] if c == 3 else [0.3, 0.4, 0.3] for c in classes]
    shape = len(classes), 3
    return LabelMixture(torch.tensor(parts).view(shape), torch.tensor(weights).view(shape))


def number(dtype):
    return lambda classes: torch.tensor(classes).to(dtype)


KINDS = {
    **{str(dtype): number(dtype) for dtype in (*INTEGERS, torch.uint16, torch.uint64)},
    **{str(dtype): number(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64)},
    "bools": lambda classes: torch.tensor([[c > 1, c % 2 == 1] for c in classes]).view(-1, 2),
    "a column": lambda classes: torch.tensor(classes).double().unsqueeze(1),
    "rows of integers": lambda classes: torch.tensor([[c, c == 1] for c in classes]).view(-1, 2),
    "class weights": rows_of,
    "in half precision": lambda classes: rows_of(classes, torch.float16),
    "a mixture": mixture_of,
    "texts": lambda classes: [f"hospital {c}" for c in classes],
    "numbers": lambda classes: [c / 3 for c in classes],
    "numbers in tensors": lambda classes: [torch.tensor([c]) for c in classes],
}
kinds = st.sampled_from([*KINDS])


def partners(rule, batch, labels=None, *, seed=0):
    chosen = rule(batch, labels=labels, generator=generator_of(seed))
    assert chosen.dtype == torch.int64
    return chosen.tolist()


def fitting(i, same, other):
    """The samples that fit sample i, one after the other."""
    return [
        j
        for j in range(len(same or other))
        if j != i
        and (same is None or same[j] == same[i])
        and (other is None or other[j] != other[i])
    ]


@st.composite
def classified(draw, *, min_size=1, max_size=7):
    """Classes to have in common, classes to differ in, or one of both alone."""
    size = draw(st.integers(min_size, max_size))
    classes = st.lists(st.integers(0, 3), min_size=size, max_size=size)
    which = draw(st.sampled_from(["same", "other", "both"]))
    return (
        draw(classes) if which != "other" else None,
        draw(classes) if which != "same" else None,
    )


def matched(same, other):
    return MatchedPairing(same=same and "labels", other=other and "domain")


# Who is chosen


@given(classes=classified(), kind=kinds, other_kind=kinds, seed=seeds)
def test_a_partner_fits_and_who_has_none_is_alone(classes, kind, other_kind, seed):
    same, other = classes
    batch = {"domain": other and KINDS[other_kind](other)}
    labels = same and (KINDS[kind](same))
    if isinstance(labels, list):  # labels are no lists, but another leaf may be one
        batch["labels"], labels = labels, None
        rule = MatchedPairing(same=lambda batch: batch["labels"], other=other and "domain")
    else:
        rule = matched(same, other)
    for i, j in enumerate(partners(rule, batch, labels, seed=seed)):
        assert j in (fitting(i, same, other) or [i])


@pytest.mark.parametrize("form", KINDS.values(), ids=KINDS)
def test_every_form_tells_all_classes_apart(form):
    same = form([3, 0, 1, 2, 2, 1, 0, 3])
    assert partners(MatchedPairing(same=lambda batch: same), None) == [*range(7, -1, -1)]


@pytest.mark.parametrize("weights", [0.5, 0.25], ids=["two halves", "less than half"])
def test_of_several_top_classes_the_lowest_counts(weights):
    mixture = LabelMixture(torch.tensor([[1, 0], [0, 2], [2, 1]]), torch.full((3, 2), weights))
    for labels in (mixture, mixture.dense(3), mixture._replace(classes=mixture.classes + 2**40)):
        assert partners(MatchedPairing(same="labels"), None, labels) == [1, 0, 2]


@given(classes=classified(max_size=4))
def test_everybody_who_fits_is_chosen_sometimes(classes):
    same, other = classes
    batch = {"domain": other and torch.tensor(other)}
    labels = same and torch.tensor(same)
    rounds = [partners(matched(same, other), batch, labels, seed=seed) for seed in range(60)]
    for i, seen in enumerate(zip(*rounds, strict=True)):
        assert {*seen} == {*(fitting(i, same, other) or [i])}


def counted(rule, batch, labels, *, rounds=1500):
    """How often each sample chose each other, one batch after the other of one stream."""
    generator = generator_of(1)
    drawn = [rule(batch, labels=labels, generator=generator) for _ in range(rounds)]
    return [Counter(column.tolist()) for column in torch.stack(drawn, 1)]


def assert_distributed(counts, chances):
    """Compare how often each sample chose each other with the chances that it has."""
    for seen, row in zip(counts, chances, strict=True):
        assert {*seen} <= {j for j, chance in enumerate(row) if chance}
        possible = [j for j, chance in enumerate(row) if chance]
        if len(possible) > 1:
            expected = [sum(seen.values()) * row[j] / sum(row) for j in possible]
            assert stats.chisquare([seen[j] for j in possible], expected).pvalue > 1e-4


MATCHES = {
    "same": ([0, 0, 0, 1, 1, 2, 0], None),
    "other": (None, [0, 0, 0, 1, 1, 2, 0]),
    "both": ([0, 0, 0, 0, 0, 1, 1], [0, 1, 2, 2, 1, 1, 1]),
}


@pytest.mark.parametrize(("same", "other"), MATCHES.values(), ids=MATCHES)
def test_all_who_fit_are_equally_likely(same, other):
    batch = {"domain": other and torch.tensor(other)}
    counts = counted(matched(same, other), batch, same and torch.tensor(same))
    size = range(len(same or other))
    chances = [[float(j in (fitting(i, same, other) or [i])) for j in size] for i in size]
    assert_distributed(counts, chances)


def test_samples_choose_independently_of_each_other():
    rule, labels = MatchedPairing(same="labels"), torch.zeros(3)
    generator = generator_of(2)
    drawn = [rule(None, labels=labels, generator=generator).tolist() for _ in range(1500)]
    assert stats.chisquare([*Counter(map(tuple, drawn)).values()]).pvalue > 1e-4
    assert len({*map(tuple, drawn)}) == 8


def chances_by_distance(points, bandwidth):
    """The formula, number by number."""
    return [
        [
            0.0 if i == j else math.exp(-(math.dist(one, other) ** 2) / (2 * bandwidth**2))
            for j, other in enumerate(points)
        ]
        for i, one in enumerate(points)
    ]


POINTS = {
    "numbers": (torch.tensor([0.0, 0.5, 0.6, 2.0, -1.0]), 0.8),
    "half precision": (torch.tensor([0.0, 0.5, 0.625, 2.0, -1.0]).half(), 0.8),
    "integers": (torch.tensor([20, 30, 24, 41], dtype=torch.uint8), 9),
    "bools": (torch.tensor([[True, False], [True, True], [False, False]]), 1.0),
    "a column": (torch.tensor([[0.0], [0.5], [2.0]]), 1.5),
    "rows": (torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 1.0], [-0.5, 2.0]]), 0.7),
}


@pytest.mark.parametrize(("values", "bandwidth"), POINTS.values(), ids=POINTS)
def test_the_near_are_chosen_as_the_formula_says(values, bandwidth):
    points = values.double().reshape(len(values), -1).tolist()
    counts = counted(NearPairing(bandwidth), None, values)
    assert_distributed(counts, chances_by_distance(points, bandwidth))


def test_mixtures_are_as_near_as_their_rows():
    classes = torch.tensor([[7, 2, 7], [2, 7, 2], [900, 2, 2], [7, 900, 2]])
    weights = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.0, 0.0, 1.0]])
    mixture = LabelMixture(classes, weights)
    counts = counted(NearPairing(0.5), None, mixture)
    rows = mixture.dense(901)[:, [2, 7, 900]]
    assert_distributed(counts, chances_by_distance(rows.tolist(), 0.5))


numbers = st.lists(st.integers(-5, 5), min_size=2, max_size=6)


@given(values=numbers, seed=seeds, exponent=st.integers(-1074, -20))
def test_a_tiny_bandwidth_takes_the_nearest(values, seed, exponent):
    chosen = partners(NearPairing(2.0**exponent), None, torch.tensor(values), seed=seed)
    for i, j in enumerate(chosen):
        others = [k for k in range(len(values)) if k != i]
        nearest = min(abs(values[k] - values[i]) for k in others)
        assert i != j
        assert abs(values[j] - values[i]) == nearest


@pytest.mark.parametrize("bandwidth", [5e-324, 1e-200, 1e-9])
def test_of_several_nearest_each_is_equally_likely(bandwidth):
    counts = counted(NearPairing(bandwidth), None, torch.tensor([1.0, 0.0, 2.0, 1.0]))
    assert_distributed(counts, [[0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("bandwidth", "unit"), [(1e9, 1.0), (1e200, 1e10), (1.7e308, 1.0), (1.7e308, 1e-300)]
)
def test_a_huge_bandwidth_takes_anybody(bandwidth, unit):
    labels = torch.tensor([-5.0, 3.0, 3.0, 10.0], dtype=torch.float64) * unit
    counts = counted(NearPairing(bandwidth), None, labels)
    assert_distributed(counts, [[float(i != j) for j in range(4)] for i in range(4)])


@given(
    values=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=6),
    bandwidth=st.floats(0.125, 8),
    exponent=st.integers(-900, 900),
    seed=seeds,
)
def test_other_units_change_nothing(values, bandwidth, exponent, seed):
    values = torch.tensor(values, dtype=torch.float64)
    values = values.where(values.abs() > 2.0**-100, 0)
    scaled = partners(
        NearPairing(bandwidth * 2.0**exponent), None, values * 2.0**exponent, seed=seed
    )
    assert scaled == partners(NearPairing(bandwidth), None, values, seed=seed)


@pytest.mark.parametrize("rule", [MatchedPairing(same="labels"), NearPairing(1e-3)], ids=repr)
def test_one_sample_is_alone_and_two_that_fit_meet(rule):
    assert partners(rule, None, torch.zeros(0)) == []
    assert partners(rule, None, torch.zeros(1)) == [0]
    assert partners(rule, None, torch.zeros(2)) == [1, 0]


def test_equal_labels_all_are_near():
    counts = counted(NearPairing(0.1), None, torch.full((3,), 7.0), rounds=600)
    assert_distributed(counts, [[0, 1, 1], [1, 0, 1], [1, 1, 0]])


RULES = [MatchedPairing(same="labels"), MatchedPairing(other="labels"), NearPairing(0.5)]
every_rule = pytest.mark.parametrize("rule", RULES, ids=repr)


@every_rule
@pytest.mark.parametrize("size", [1, 2, 9])
def test_the_amount_drawn_depends_on_the_batch_size_alone(rule, size):
    states = set()
    for labels in (torch.zeros(size), torch.arange(size), torch.arange(size) % 2, torch.eye(size)):
        generator = generator_of(0)
        rule(None, labels=labels, generator=generator)
        states.add(generator.get_state().numpy().tobytes())
    assert len(states) == 1


@every_rule
def test_without_a_generator_the_global_stream_decides(rule):
    labels = torch.tensor([0, 1, 0, 1, 0])
    torch.manual_seed(3)
    drawn = rule(None, labels=labels, generator=None)
    assert drawn.tolist() == partners(rule, None, labels, seed=3)


# What is compared


X = torch.rand(6, 3, 8, 5)
Y = torch.tensor([0, 0, 1, 1, 2, 2])
SOFT = torch.nn.functional.one_hot(Y, 3).float()
SWAPPED = [1, 0, 3, 2, 5, 4]

PLACES = {
    "a key": ({"image": X, "site": Y}, "site"),
    "a key further in": ([{"meta": {"site": Y}}, X], "site"),
    "a position": ((X, SOFT, Y), 2),
    "a position from the end": ([X, Y], -1),
    "a callable": ({"image": X, "site": Y + 5}, lambda batch: batch["site"] % 5),
    "a column of a table": ((X, torch.stack((Y * 0, Y), 1)), lambda batch: batch[1][:, 1]),
    "a mask of a kind": ((X, tv_tensors.Mask(Y)), 1),
    "texts in each target": ([X, [{"site": f"ward {k}"} for k in Y.tolist()]], "site"),
    "numbers in each target": ([X, [{"site": k} for k in Y.tolist()]], "site"),
    "tensors in each target": ([X, [{"site": k} for k in Y]], "site"),
    "a list from a callable": (
        [X, [{"site": (k,)} for k in Y.tolist()]],
        lambda batch: [target["site"][0] for target in batch[1]],
    ),
}


@pytest.mark.parametrize(("batch", "which"), PLACES.values(), ids=PLACES)
def test_what_is_compared_is_found(batch, which):
    assert partners(MatchedPairing(same=which), batch) == SWAPPED
    assert set(partners(MatchedPairing(other=which), batch)) != SWAPPED


@pytest.mark.parametrize("name", [name for name in PLACES if "texts" not in name])
def test_what_is_near_is_found(name):
    batch, which = PLACES[name]
    assert partners(NearPairing(1e-3, of=which), batch) == SWAPPED


def test_labels_are_those_that_the_mixer_found():
    batch = {"image": X, "target": Y, "labels": torch.arange(6)}
    rule = MatchedPairing(same="labels")
    mixed = RandomMixup(num_classes=3, labels_getter="target", pairing=rule)(batch)
    assert torch.equal(mixed["target"], SOFT)


def test_labels_that_need_a_gradient_and_default_devices_change_nothing():
    labels = SOFT.clone().requires_grad_()
    with torch.device("meta"):
        for rule in (MatchedPairing(same="labels"), NearPairing(1e-3)):
            chosen = rule(None, labels=labels, generator=generator_of(0))
            assert chosen.tolist() == SWAPPED
            assert not chosen.requires_grad
        assert partners(MatchedPairing(same="k"), {"k": [1, 1, 2, 2]}) == [1, 0, 3, 2]


# In mixers


@every_mixer_of_one_partner
@every_rule
@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("inplace", [False, True], ids=["anew", "in place"])
def test_the_label_tells_the_truth_where_partners_are_shared(case, rule, per_sample, inplace):
    labels = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1], [1, 0], [1, 0]])  # one is all others'
    mix = case.make(pairing=rule, generator=generator_of(0), per_sample=per_sample, inplace=inplace)
    params = mix.make_params([X, labels])
    alone = params["partner"] == torch.arange(6)
    assert alone.tolist() == [rule == RULES[0] and i == 3 for i in range(6)]
    mixed, soft = mix.replay(params, X.clone(), labels.clone())
    assert_law(case, params, X, mixed, labels, soft)
    assert torch.equal(mixed[alone], X[alone])
    assert torch.equal(soft[alone], labels[alone])
    assert (params["lam"][alone] == 1).all()
    if rule == RULES[1]:
        assert params["partner"][[0, 1, 2, 4, 5]].tolist() == [3] * 5


@every_rule
def test_a_call_draws_what_make_params_draws(rule):
    first, second = (RandomMixup(pairing=rule, generator=generator_of(0)) for _ in range(2))
    params = first.make_params([X, SOFT])
    assert torch.equal(second(X, SOFT)[0], first.replay(params, X, SOFT)[0])


def test_a_mosaic_asks_three_times():
    labels = torch.zeros(6, dtype=torch.int64)
    labels[4:] = 1
    mix = RandomMosaic(pairing=MatchedPairing(same="labels"), generator=generator_of(0))
    drawn = torch.stack([mix.make_params([X, labels])["partner"] for _ in range(100)])
    assert drawn.shape == (100, 6, 3)
    assert {*drawn[:, 4].flatten().tolist()} == {5}
    for column in drawn[:, 0].T:
        assert {*column.tolist()} == {1, 2, 3}
    assert (drawn[:, 0, 0] != drawn[:, 0, 1]).any()


@pytest.mark.parametrize("per_sample", [True, False])
def test_members_of_a_choice_may_have_equal_rules(per_sample):
    rules = [MatchedPairing(same="labels") for _ in range(2)]
    mixers = [
        kind(num_classes=3, pairing=rule)
        for kind, rule in zip((RandomMixup, RandomCutMix), rules, strict=True)
    ]
    mix = RandomChoice(mixers, per_sample=per_sample, generator=generator_of(0))
    assert mix.make_params([X, Y])["partner"].tolist() == SWAPPED
    _, soft = mix(X, Y)
    assert soft.argmax(1).tolist() == Y.tolist()
    with pytest.raises(ValueError, match="must share one pairing"):
        RandomChoice([mixers[0], RandomCutMix(num_classes=3, pairing=MatchedPairing(other=1))])


@every_rule
def test_out_of_training_nobody_asks_and_nothing_is_drawn(rule):
    generator = generator_of(0)
    before = generator.get_state()
    mix = RandomMixup(pairing=rule, generator=generator, labels_getter=None).eval()
    assert mix(X) is X  # nor are labels missed
    assert torch.equal(generator.get_state(), before)


@every_rule
def test_rules_are_values(rule):
    for again in (copy.copy(rule), copy.deepcopy(rule), pickle.loads(pickle.dumps(rule))):
        assert again == rule
        assert hash(again) == hash(rule)
        assert partners(again, None, SOFT) == partners(rule, None, SOFT)
    assert eval(repr(rule)) == rule
    assert repr(rule) in repr(RandomMixup(pairing=rule))
    with pytest.raises(AttributeError):
        rule.bandwidth = -1


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return {"x": torch.full((2,), i % 3 + 0.0), "label": i % 3, "site": f"ward {i % 2}"}


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_rules_go_to_live_workers():
    rule = MatchedPairing(same="labels", other="site")
    mix = RandomMixup(num_classes=3, pairing=rule, generator=generator_of(0))
    mix = pickle.loads(pickle.dumps(mix))  # as for a worker that is spawned
    loader = DataLoader(
        Rows(), 12, collate_fn=MixCollate(mix), num_workers=1, multiprocessing_context="fork"
    )
    (batch,) = loader
    assert torch.equal(batch["x"], torch.arange(12)[:, None].expand(12, 2) % 3 + 0.0)
    assert batch["label"].argmax(1).tolist() == [i % 3 for i in range(12)]


def test_large_samples_are_paired_by_labels_in_the_collate_function():
    samples = [(torch.full((3, 224, 224), k / 2), k) for k in Y.tolist()]
    mix = RandomMixup(num_classes=3, pairing=MatchedPairing(same="labels"))
    mixed, soft = MixCollate(mix)(samples)
    assert torch.equal(soft, SOFT)
    torch.testing.assert_close(mixed.mean((1, 2, 3)), Y / 2)


def test_compiled_a_rule_does_the_same():
    def mix():
        return RandomMixup(pairing=NearPairing(0.5), generator=generator_of(0))

    compiled = torch.compile(mix(), backend="eager")
    for one, other in zip(compiled(X, SOFT), mix()(X, SOFT), strict=True):
        torch.testing.assert_close(one, other)


REFUSALS = {
    "between": (lambda mix: mix.between((X, SOFT), (X, SOFT)), "pairing must be None"),
    "a dataset": (lambda mix: MixedDataset([(X[0], 0)], mix, seed=0), "by partner_weights"),
    "a stream": (lambda mix: MixedStream([(X[0], 0)], mix, seed=0), "by buffer"),
}


@every_rule
@pytest.mark.parametrize(("call", "words"), REFUSALS.values(), ids=REFUSALS)
def test_who_chooses_partners_itself_refuses_a_rule(rule, call, words):
    with pytest.raises(ValueError, match=words):
        call(RandomMixup(pairing=rule))


# Objects


def scenes():
    images = [torch.rand(3, 6 + k, 8) for k in range(4)]
    targets = [
        {
            "boxes": tv_tensors.BoundingBoxes(
                torch.tensor([0.0, 0, 4, 4]).expand(k, 4), format="XYXY", canvas_size=(6 + k, 8)
            ),
            "labels": torch.arange(k),
            "weather": ["rain", "sun"][k % 2],
            "hour": torch.tensor(10.0 * (k % 2)),
        }
        for k in range(4)
    ]
    return images, targets


def test_scenes_are_paired_by_what_each_target_says_of_its_image():
    for rule in (MatchedPairing(same="weather"), NearPairing(1.0, of="hour")):
        mix = RandomMixup(pairing=rule, generator=generator_of(0))
        assert mix.make_params([*scenes()])["partner"].tolist() == [2, 3, 0, 1]
        mixed, targets = mix(*scenes())
        assert [image.shape[1] for image in mixed] == [8, 9, 8, 9]
        assert [len(target["labels"]) for target in targets] == [2, 4, 2, 4]
        assert targets[0]["weather"] == "rain"


def test_by_the_number_of_objects_with_a_callable():
    def many(batch):
        return [len(target["labels"]) > 1 for target in batch[1]]

    mix = RandomMixup(pairing=MatchedPairing(same=many), generator=generator_of(0))
    assert mix.make_params([*scenes()])["partner"].tolist() == [1, 0, 3, 2]


def test_objects_have_no_labels_of_their_image():
    words = "same='labels' of MatchedPairing asks for the labels, but the batch has none of whole"
    with pytest.raises(ValueError, match=words):
        RandomMixup(pairing=MatchedPairing(same="labels"))(*scenes())


def test_labels_beside_objects_are_those_of_the_images():
    images, targets = scenes()
    batch = {"image": images, "target": targets, "label": torch.eye(2)[[0, 1, 0, 1]]}
    mixed = RandomMixup(pairing=MatchedPairing(same="labels"))(batch)
    assert torch.equal(mixed["label"], batch["label"])


# On an accelerator


IN_FORMS = {
    "indices": (Y, MatchedPairing(same="labels", other=2)),
    "dense": (SOFT, NearPairing(0.5)),
    "a mixture": (mixture_of(Y.tolist()), MatchedPairing(other="labels")),
    "mixtures that are near": (mixture_of(Y.tolist()), NearPairing(0.5)),
}


@every_mixer_of_one_partner
@pytest.mark.parametrize(("labels", "rule"), IN_FORMS.values(), ids=IN_FORMS)
def test_on_an_accelerator_nobody_waits_and_all_is_as_on_the_cpu(case, labels, rule):
    batch = X, labels, torch.tensor([0, 1, 0, 1, 0, 0])

    def mix():
        return case.make(
            pairing=rule,
            generator=generator_of(0),
            num_classes=3 if labels is Y else None,
            labels_getter=lambda batch: batch[1],
        )

    expected = mix()(*batch)
    last_bits = 64 if case.resizes else 2
    with Accelerator() as accelerator:
        given = accelerator.put(batch)
        assert_as_on_cpu(accelerator, mix()(*given), expected, last_bits=last_bits)
        mixed, *beside = mix()(given[0], *batch[1:])  # with labels of the host
        assert_as_on_cpu(accelerator, mixed, expected[0], last_bits=last_bits)
        assert_as_on_cpu(accelerator, accelerator.put(beside), [*expected[1:]])


@every_rule
def test_partners_are_drawn_where_the_labels_are(rule):
    with Accelerator() as accelerator:
        chosen = rule(None, labels=accelerator.put(SOFT), generator=generator_of(0))
        assert chosen.device == DEVICE
        assert len(accelerator.copies) == 1  # the uniforms
        assert accelerator.take(chosen).tolist() == partners(rule, None, SOFT)


def test_what_is_compared_may_lie_on_both_sides():
    rule = MatchedPairing(same="labels", other=2)
    sites = torch.tensor([0, 1, 0, 1, 0, 0])
    with Accelerator() as accelerator:
        for labels, domain in ((accelerator.put(Y), sites), (Y, accelerator.put(sites))):
            chosen = rule((X, Y, domain), labels=labels, generator=generator_of(0))
            assert accelerator.take(chosen).tolist() == [1, 0, 3, 2, 4, 5]


def test_on_an_accelerator_whose_label_is_nan_spoils_no_index():
    labels = torch.tensor([0.0, torch.nan, 0.1, 5.0])
    with Accelerator() as accelerator:
        for rule in (MatchedPairing(same="labels"), NearPairing(1.0)):
            chosen = rule(None, labels=accelerator.put(labels), generator=generator_of(0))
            assert ((chosen.values >= 0) & (chosen.values < 4)).all()


def test_objects_on_an_accelerator_wait_once_more_for_a_rule_on_it():
    images, targets = scenes()
    mix = RandomMixup(pairing=NearPairing(1.0, of="hour"), generator=generator_of(0))
    with Accelerator() as accelerator:
        given = accelerator.put((images, targets))
        with accelerator.waiting():
            mixed = mix(*given)
        assert accelerator.waits == 2
        mix.generator.manual_seed(0)
        assert_as_on_cpu(accelerator, mixed, mix(images, targets))


# What is said of the rest


NAN = torch.tensor([0.0, torch.nan, 1, 2, 3, 4])
BATCH = {"image": X, "label": SOFT, "site": Y}
WRONG = {
    "no such key": (BATCH, "ward", ValueError, "names the key 'ward', which the batch does not"),
    "no keys": ((X, SOFT), "ward", ValueError, "it has no keys: give a callable of the batch"),
    "no such position": ((X, SOFT), 2, ValueError, "which the batch, a tuple of 2, has not"),
    "no positions": (BATCH, 0, ValueError, "which the batch, a dict, has not"),
    "before the first": ((X, SOFT), -3, ValueError, "position -3"),
    "nothing": (BATCH, lambda batch: None, ValueError, "got NoneType; give a callable"),
    "an empty list": (BATCH, lambda batch: [], ValueError, "got nothing"),
    "lists": (BATCH, lambda batch: [[0]] * 6, ValueError, "got list, list, list, …"),
    "several": (BATCH, lambda batch: (Y, Y), ValueError, "got int64 (6,), int64 (6,); give"),
    "images": (BATCH, "image", ValueError, "must have shape (B,) or (B, K), got float32 (6, 3, 8,"),
    "no columns": (BATCH, lambda batch: X[:, 0, 0, :0], ValueError, "got float32 (6, 0)"),
    "complex": (BATCH, lambda batch: Y + 1j, TypeError, "must hold numbers or bools, got complex"),
    "sparse": (BATCH, lambda batch: SOFT.to_sparse(), TypeError, "must be a dense tensor"),
    "an array": (BATCH, lambda batch: Y.numpy(), TypeError, "got ndarray; torch.from_numpy makes"),
    "meta": (BATCH, lambda batch: Y.to("meta"), ValueError, "must hold values, got a meta tensor"),
    "short": (BATCH, lambda batch: Y[:5], ValueError, "must have a row for each of 6 samples, got"),
    "few texts": (BATCH, lambda batch: ["a"] * 5, ValueError, "each of 6 samples, got 5"),
    "a bad mixture": (
        BATCH,
        lambda batch: LabelMixture(Y[:, None], SOFT),
        ValueError,
        "must both have shape (B, K)",
    ),
    "nan": (BATCH, lambda batch: NAN, ValueError, "nan"),
    "nan in a row": (BATCH, lambda batch: torch.stack((NAN, NAN), 1), ValueError, "nan"),
}
every_wrong = pytest.mark.parametrize(
    ("batch", "which", "error", "words"), WRONG.values(), ids=WRONG
)


@every_wrong
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda which: MatchedPairing(same=which), "same="),
        (lambda which: MatchedPairing(other=which), "other="),
        (lambda which: NearPairing(1.0, of=which), "of="),
    ],
    ids=["same", "other", "of"],
)
def test_what_cannot_be_compared_is_named_and_nothing_is_written(
    batch, which, error, words, make, name
):
    before = X.clone()
    mix = RandomMixup(pairing=make(which), inplace=True)
    with pytest.raises(error, match=name + ".* of (Matched|Near)Pairing.*" + re.escape(words)):
        mix(batch) if isinstance(batch, dict) else mix(*batch)
    assert torch.equal(X, before)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_is_never_near(value):
    labels = torch.tensor([[0.0, 1.0], [2.0, value], [3.0, 1.0]])
    with pytest.raises(ValueError, match="of='labels' of NearPairing must hold finite numbers"):
        RandomMixup(pairing=NearPairing(1.0))(X[:3], labels)


def test_texts_are_never_near():
    batch = {"image": X, "label": SOFT, "site": [f"ward {k}" for k in Y.tolist()]}
    with pytest.raises(TypeError, match="must hold numbers to be near by, got 'ward 0'"):
        RandomMixup(pairing=NearPairing(1.0, of="site"))(batch)


def test_without_labels_of_the_batch_lengths_still_have_to_agree():
    rule = MatchedPairing(same=1, other=2)
    with pytest.raises(ValueError, match=r"same and other .* for each sample, got 6 and 5"):
        rule((X, Y, Y[:5]), labels=None, generator=None)
    mix = RandomMixup(pairing=MatchedPairing(same=lambda batch: Y[:5]), labels_getter=None)
    with pytest.raises(ValueError, match=r"must have shape \(6,\), one for each sample"):
        mix(X)


def test_of_several_labels_one_has_to_be_named():
    batch = {"image": X, "first": SOFT, "second": SOFT}
    mix = RandomMixup(labels_getter=lambda batch: (batch["first"], batch["second"]))
    mix.pairing = MatchedPairing(same="labels")
    with pytest.raises(ValueError, match="the batch has 2 of them; name a key"):
        mix(batch)
    mix.pairing = MatchedPairing(same="first")
    assert torch.equal(mix(batch)["second"], SOFT)


def test_settings_are_checked_at_once():
    for wrong in (None, 1.5, True, b"site", ["site"], dict):
        with pytest.raises(TypeError, match='of must be "labels", a key or a position'):
            NearPairing(1.0, of=wrong)
        if wrong is not None:
            with pytest.raises(TypeError, match='same must be "labels", a key or a position'):
                MatchedPairing(same=wrong)
            with pytest.raises(TypeError, match='other must be "labels", a key or a position'):
                MatchedPairing(other=wrong)
    with pytest.raises(ValueError, match="must have same, other or both, got neither"):
        MatchedPairing()
    with pytest.raises(ValueError, match="must differ, got 'labels' for both"):
        MatchedPairing(same="labels", other="labels")
    for bandwidth in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="bandwidth must be"):
            NearPairing(bandwidth)
    for bandwidth in (True, "wide", None):
        with pytest.raises(TypeError, match="bandwidth must be a number"):
            NearPairing(bandwidth)
