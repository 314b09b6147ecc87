"""Presence in place of shares: what an account in plain numbers says, in every form of labels."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    LabelMixture,
    MixedDataset,
    OneHot,
    PresentLabels,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    ToLabelMixture,
)
from tests.strategies import generator_of, seeds

CLASSES = 5
# With many a 0 and a threshold among them.
shares = st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0])
thresholds = st.sampled_from([0.0, 0.125, 0.25, 0.3, 0.75])


@st.composite
def mixtures(draw):
    batch, k = draw(st.integers(0, 4)), draw(st.integers(1, 5))
    size = {"min_size": batch * k, "max_size": batch * k}
    classes = draw(st.lists(st.integers(0, CLASSES - 1), **size))
    weights = draw(st.lists(shares, **size))
    return LabelMixture(
        torch.tensor(classes, dtype=torch.int64).view(batch, k),
        torch.tensor(weights).view(batch, k),
    )


@given(mixture=mixtures(), threshold=thresholds)
def test_a_class_is_present_in_a_mixture_with_more_weight_than_the_threshold(mixture, threshold):
    present = PresentLabels(threshold=threshold)(mixture)
    assert isinstance(present, LabelMixture)
    assert torch.equal(present.classes, mixture.classes)
    for i, row in enumerate(mixture.classes.tolist()):
        weights = mixture.weights[i].tolist()
        totals = {c: sum(w for d, w in zip(row, weights, strict=True) if d == c) for c in row}
        expected = [c not in row[:j] and totals[c] > threshold for j, c in enumerate(row)]
        assert present.weights[i].tolist() == expected


@given(mixture=mixtures(), threshold=thresholds)
def test_the_dense_form_of_presence_is_the_presence_of_the_dense_form(mixture, threshold):
    present = PresentLabels(threshold=threshold)
    assert torch.equal(present(mixture).dense(CLASSES), present(mixture.dense(CLASSES)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("indices", [torch.uint8, torch.uint16, torch.int64], ids=str)
def test_a_mixture_comes_back_in_dtypes_that_can_be_mixed(dtype, indices):
    classes, weights = torch.tensor([[4, 0, 4]]), torch.tensor([[0.25, 0.5, 0.125]])
    mixture = LabelMixture(classes.to(indices), weights.to(dtype))
    present = PresentLabels(threshold=0.3)(mixture)
    assert present.classes.dtype == torch.int64
    assert present.weights.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(present.classes, classes)
    assert present.weights.tolist() == [[1, 1, 0]]


@given(seed=seeds, threshold=thresholds, dims=st.sampled_from([(), (3,), (2, 3)]))
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_dense_labels_keep_their_shape_and_a_dtype_of_32_bits_at_least(
    dtype, seed, threshold, dims
):
    steps = torch.randint(9, (4, CLASSES, *dims), generator=generator_of(seed))
    labels = (steps / 8).to(dtype)
    present = PresentLabels(threshold=threshold)(labels)
    assert present.dtype == torch.promote_types(dtype, torch.float32)
    assert present.shape == labels.shape
    assert present.flatten().tolist() == [w > threshold for w in labels.flatten().tolist()]


@given(seed=seeds, p=st.sampled_from([0.0, 0.5, 1.0]))
def test_after_a_mixer_those_are_present_whose_sound_is_in_the_mix(seed, p):
    sounds = torch.eye(6) * 8
    mix = RandomMixup(p=p, num_classes=6, generator=generator_of(seed))
    mixed, labels = v2.Compose([mix, PresentLabels()])(sounds, torch.arange(6))
    assert torch.equal(labels, (mixed > 0).float())


def test_several_mixers_and_several_labels_at_once():
    tags = torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    x = torch.rand(3, 1, 6, 6)
    members = [RandomMixup(), RandomCutMix()]
    mix = RandomChoice(members, per_sample=True, generator=generator_of(0))
    _, shares = mix(x, tags)
    present = PresentLabels()(shares)
    assert torch.equal(present, shares.ceil())
    assert present.sum() > tags.sum()
    _, again = v2.Compose([PresentLabels(), PresentLabels(threshold=0.9)])(x, present)
    assert torch.equal(again, present)


@pytest.mark.parametrize("first", [OneHot(9), ToLabelMixture()], ids=repr)
def test_a_sample_that_is_not_mixed_has_its_own_class_alone(first):
    pipeline = v2.Compose([first, RandomMixup(p=0.0), PresentLabels()])
    _, labels = pipeline(torch.rand(4, 2), torch.tensor([8, 0, 3, 3]))
    dense = labels.dense(9) if isinstance(labels, LabelMixture) else labels
    assert torch.equal(dense, F.one_hot(torch.tensor([8, 0, 3, 3]), 9).float())


def test_smoothed_labels_have_every_class_unless_the_threshold_is_above():
    labels = OneHot(4, label_smoothing=0.1)(torch.tensor([2]))
    assert PresentLabels()(labels).tolist() == [[1, 1, 1, 1]]
    assert PresentLabels(threshold=0.025)(labels).tolist() == [[0, 0, 1, 0]]


def test_wherever_labels_are():
    labels, x = torch.tensor([[0.3, 0.0, 0.7]]), torch.rand(1, 3, 4, 4)
    expected = torch.tensor([[1.0, 0.0, 1.0]])
    out = PresentLabels()({"audio": x, "labels": labels, "id": 3})
    assert torch.equal(out["labels"], expected)
    assert out["audio"] is x
    named = PresentLabels(labels_getter="tags")({"audio": x, "tags": labels, "labels": labels})
    assert torch.equal(named["tags"], expected)
    assert named["labels"] is labels
    mask = tv_tensors.Mask(torch.rand(1, 3, 4, 4).round())
    _, present = PresentLabels()(x, mask)
    assert type(present) is tv_tensors.Mask
    assert torch.equal(present, mask)
    assert torch.equal(PresentLabels().eval()(labels), expected)
    assert labels.tolist() == torch.tensor([[0.3, 0.0, 0.7]]).tolist()


def test_in_a_mixed_dataset():
    samples = [(torch.full((2,), float(i)), i) for i in range(5)]
    mix = v2.Compose([RandomMixup(num_classes=5), PresentLabels()])
    for i, (_, label) in enumerate(MixedDataset(samples, mix, seed=0)):
        assert label[i] == 1
        assert label.sum() == 2


def test_the_threshold_may_be_set():
    present = PresentLabels()
    assert "threshold=0.0" in repr(present)
    present.threshold = 0.5
    assert present(torch.tensor([[0.4, 0.6]])).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="threshold must lie"):
        present.threshold = -1
    assert present.threshold == 0.5


@pytest.mark.parametrize(
    ("threshold", "error", "message"),
    [
        (1, ValueError, r"^threshold must lie in \[0, 1\), got 1: 1 would erase every label$"),
        (-0.1, ValueError, r"^threshold must lie in \[0, 1\], got -0\.1$"),
        (float("nan"), ValueError, "^threshold must be finite, got nan$"),
        ("low", TypeError, "^threshold must be a number, got 'low'"),
        (None, TypeError, "^threshold must be a number, got None"),
    ],
)
def test_what_is_no_threshold(threshold, error, message):
    with pytest.raises(error, match=message):
        PresentLabels(threshold=threshold)


HARD = r"\(B, C, \.\.\.\), got {}; class indices need OneHot\(num_classes\) first, rows .*\.float"


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.arange(3), TypeError, HARD.format(r"int64 \(3,\)")),
        (torch.eye(3).long(), TypeError, HARD.format(r"int64 \(3, 3\)")),
        (torch.eye(3) > 0, TypeError, HARD.format(r"bool \(3, 3\)")),
        (torch.rand(3), TypeError, r"floating class weights \(B, C, \.\.\.\), got float32 \(3,\)$"),
        (torch.eye(3) + 1j, TypeError, r"\(B, C, \.\.\.\), got complex64 \(3, 3\)$"),
        (
            torch.tensor([[1.5, -0.5]]),
            ValueError,
            "^weights of labels must be at least 0, got -0.5",
        ),
        (torch.tensor([[torch.nan, 1]]), ValueError, "^weights of labels must .* 0, got nan$"),
        (
            LabelMixture(torch.tensor([[0, -1]]), torch.ones(1, 2)),
            ValueError,
            "^classes of labels must be at least 0, got -1$",
        ),
        ([[0.5, 0.5]], TypeError, "make labels a tensor"),
    ],
)
def test_labels_that_say_nothing_of_presence(labels, error, message):
    for batch in ((labels,), (torch.rand(len(labels), 2), labels)):
        with pytest.raises(error, match=message):
            PresentLabels()(*batch)
