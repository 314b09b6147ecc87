"""Who is mixed with whom: any rule, and samples for which nobody fits."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from mixup_transforms import LabelMixture, RandomChoice, RandomCutMix, RandomMixup, ToLabelMixture
from tests.accelerator import DEVICE, Accelerator
from tests.cases import OF_ONE_PARTNER, assert_law, every_mixer_of_one_partner
from tests.strategies import generator_of, seeds, soft_labels

# Of three partners some may be the sample itself, which is then shown with the others.
X, Y = torch.rand(6, 3, 8, 5), soft_labels(6)


def given_partners(*partner, device="cpu"):
    return lambda batch, *, labels, generator: torch.tensor(partner, device=device)


@every_mixer_of_one_partner
@given(
    partner=st.lists(st.integers(0, 5), min_size=6, max_size=6),
    seed=seeds,
    per_sample=st.booleans(),
    inplace=st.booleans(),
)
def test_a_sample_is_mixed_with_the_partner_given_or_stays(
    case, partner, seed, per_sample, inplace
):
    settings = {"generator": generator_of(seed), "per_sample": per_sample, "inplace": inplace}
    mix = case.make(pairing=given_partners(*partner), **settings)
    params = mix.make_params([X, Y])
    assert params["partner"].tolist() == partner
    mixed, labels = mix.replay(params, X.clone(), Y.clone())
    assert_law(case, params, X, mixed, Y, labels)
    for i, j in enumerate(partner):
        if i == j:
            assert params["lam"][i] == 1
            assert torch.equal(mixed[i], X[i])
            assert torch.equal(labels[i], Y[i])


@every_mixer_of_one_partner
@given(seed=seeds, per_sample=st.booleans())
def test_those_with_a_partner_are_mixed_as_if_everybody_had_one(case, seed, per_sample):
    def params_of(*partner):
        settings = {"generator": generator_of(seed), "per_sample": per_sample}
        return case.make(pairing=given_partners(*partner), **settings).make_params([X])

    everybody, some = params_of(1, 2, 3, 4, 5, 0), params_of(1, 1, 3, 3, 5, 0)
    for name, value in everybody.items():
        assert torch.equal(value[[0, 2, 4, 5]], some[name][[0, 2, 4, 5]])


@every_mixer_of_one_partner
def test_where_nobody_fits_anybody_all_stay_as_they_are(case):
    mix = case.make(pairing=given_partners(*range(6)), generator=generator_of(0))
    mixed, labels = mix(X, Y)
    assert torch.equal(mixed, X)
    assert torch.equal(labels, Y)


@every_mixer_of_one_partner
def test_a_pairing_draws_from_the_mixers_generator_and_repeats(case):
    def shifted(batch, *, labels, generator):
        step = torch.randint(1, 6, (), generator=generator)
        return (torch.arange(6) + step) % 6

    steps = set()
    for seed in range(20):
        first, second = (
            case.make(pairing=shifted, generator=generator_of(seed)).make_params([X])
            for _ in range(2)
        )
        assert all(torch.equal(first[name], second[name]) for name in first)
        steps.add(first["partner"][0].item())
    assert len(steps) > 2


SEEN = {
    "a pair": ((X, Y), Y),
    "class indices": ((X, torch.arange(6)), torch.arange(6)),
    "a mapping": ({"image": X, "label": Y, "domain": torch.arange(6)}, Y),
    "a mask": ((tv_tensors.Image(X), tv_tensors.Mask(torch.rand(6, 8, 5))), None),
}


@pytest.mark.parametrize(("batch", "labels"), SEEN.values(), ids=SEEN)
def test_a_pairing_sees_the_batch_as_it_was_given_and_its_labels(batch, labels):
    seen = []

    def look(batch, *, labels, generator):
        seen.append((batch, labels))
        return torch.arange(6).roll(1)

    mix = RandomMixup(num_classes=6 if "int" in str(getattr(labels, "dtype", "")) else None)
    mix.pairing = look
    mix(*batch) if isinstance(batch, tuple) else mix(batch)
    ((given, found),) = seen
    assert type(given) is type(batch)
    expected = [*batch.values()] if isinstance(batch, dict) else batch
    values = given.values() if isinstance(batch, dict) else given
    assert all(a is b for a, b in zip(values, expected, strict=True))
    if labels is None:
        assert found is batch[1]
    else:
        assert torch.equal(found, labels)


def test_a_pairing_sees_mixtures_and_may_be_asked_without_labels():
    seen = []

    def look(batch, *, labels, generator):
        seen.append(labels)
        return torch.arange(6).roll(1)

    RandomMixup(pairing=look)(*ToLabelMixture()(X, torch.arange(6)))
    RandomMixup(pairing=look, labels_getter=None)(X)
    assert isinstance(seen[0], LabelMixture)
    assert seen[1] is None


def test_a_pairing_is_not_asked_out_of_training_nor_for_no_samples():
    def never(batch, *, labels, generator):
        raise AssertionError

    mix = RandomMixup(pairing=never)
    assert len(mix(X[:0], Y[:0])[0]) == 0
    assert mix.eval()(X, Y)[0] is X
    assert (mix.make_params([X])["lam"] == 1).all()


def test_a_batch_of_one_stays_whatever_the_pairing():
    mixed, _ = RandomMixup(pairing=given_partners(0))(X[:1], Y[:1])
    assert torch.equal(mixed, X[:1])


# The others look for what they show of a partner, which here lies on the host.
ALIKE = OF_ONE_PARTNER


@pytest.mark.parametrize("case", ALIKE, ids=repr)
def test_a_pairing_on_the_device_makes_nobody_wait(case):
    with Accelerator() as accelerator:
        given = accelerator.put((X, Y))
        partner = accelerator.put(torch.tensor([1, 1, 3, 2, 5, 0]))
        mix = case.make(pairing=lambda batch, **_: partner, generator=generator_of(0))
        mixed, labels = mix(*given)
        assert mixed.device == DEVICE
        expected = case.make(pairing=given_partners(1, 1, 3, 2, 5, 0), generator=generator_of(0))(
            X, Y
        )
        torch.testing.assert_close(accelerator.take(mixed), expected[0])
        torch.testing.assert_close(accelerator.take(labels), expected[1])


WRONG = {
    "a list": ([1, 0], TypeError, "must be a tensor, got list"),
    "floats": (torch.rand(6), TypeError, "must hold integer indices, got float32 (6,)"),
    "narrow": (
        torch.zeros(6, dtype=torch.int32),
        TypeError,
        "got int32 (6,); return partner.long()",
    ),
    "short": (torch.zeros(5, dtype=torch.int64), ValueError, "must have shape (6,)"),
    "far": (torch.tensor([1, 2, 3, 4, 5, 6]), ValueError, "must hold indices in [0, 6), got 6"),
    "nothing": (
        None,
        TypeError,
        "must be the index of each sample's partner, int64 (B,), got None",
    ),
    "an array": (np.arange(6), TypeError, "got ndarray; torch.from_numpy makes it one"),
    "bools": (torch.ones(6) > 0, TypeError, "must hold integer indices, got bool (6,)"),
    "sparse": (torch.arange(6).to_sparse(), TypeError, "must be a dense tensor"),
    "a column": (torch.zeros(6, 1, dtype=torch.int64), ValueError, "must have shape (6,)"),
    "one for all": (torch.tensor(0), ValueError, "must have shape (6,)"),
    "negative": (torch.tensor([1, 2, 3, 4, 5, -1]), ValueError, "indices in [0, 6), got -1"),
    "meta": (torch.zeros(6, dtype=torch.int64, device="meta"), ValueError, "meta tensor"),
}


@pytest.mark.parametrize(("returned", "error", "words"), WRONG.values(), ids=WRONG)
def test_what_a_pairing_returns_is_checked_and_nothing_is_written(returned, error, words):
    x, y = X.clone(), Y.clone()

    def wrong(batch, *, labels, generator):
        return returned

    mix = RandomMixup(pairing=wrong, inplace=True)
    with pytest.raises(error, match="what pairing wrong returned .*" + re.escape(words)):
        mix(x, y)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


def test_a_pairing_on_another_device_is_refused():
    with Accelerator() as accelerator:
        partner = accelerator.put(torch.arange(6).roll(1))
        mix = RandomMixup(pairing=lambda batch, **_: partner)
        with pytest.raises(ValueError, match="on the device of the images or of the generator"):
            mix(X, Y)


def test_a_rule_that_is_none_is_refused_at_once():
    with pytest.raises(TypeError, match="pairing must be a callable or None, got 'same'"):
        RandomMixup(pairing="same")

    class Rule:
        pass

    with pytest.raises(TypeError, match="an instance, such as Rule"):
        RandomCutMix(pairing=Rule)


def test_between_refuses_a_pairing():
    with pytest.raises(ValueError, match="pairing must be None"):
        RandomMixup(pairing=given_partners(0)).between((X, Y), (X, Y))


def test_members_of_a_choice_share_one_pairing():
    first, second = given_partners(1), given_partners(1)
    with pytest.raises(ValueError, match="must share one pairing"):
        RandomChoice([RandomMixup(pairing=first), RandomCutMix(pairing=second)])
    assert RandomChoice([RandomMixup(pairing=first)]).pairing is first


def test_a_rule_for_images_in_a_list():
    images = [torch.rand(3, 4, 6), torch.rand(3, 5, 4), torch.rand(3, 6, 6)]
    targets = [
        {"boxes": tv_tensors.BoundingBoxes([[0, 0, 2, 2]], format="XYXY", canvas_size=(h, w))}
        for _, h, w in (image.shape for image in images)
    ]

    def rule(batch, *, labels, generator):
        assert labels is None
        assert batch[0] is images
        return torch.tensor([2, 1, 0])

    params = RandomMixup(pairing=rule).make_params([images, targets])
    assert params["partner"].tolist() == [2, 1, 0]
    assert params["lam"][1] == 1
    mixed, _ = RandomMixup(pairing=rule)(images, targets)
    assert torch.equal(mixed[1], images[1])
