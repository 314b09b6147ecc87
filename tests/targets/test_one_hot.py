import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import OneHot, PresentLabels, SampleLabels, ToLabelMixture, functional

LABELS = torch.tensor([2, 0])
ROWS = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def test_in_a_tuple_a_dict_and_bare():
    images = torch.rand(2, 3, 4, 4)
    out = OneHot(3)(images, LABELS)
    assert out[0] is images
    assert torch.equal(out[1], ROWS)
    out = OneHot(3)({"labels": LABELS, "pixel_values": images, "name": "a"})
    assert out["pixel_values"] is images
    assert out["name"] == "a"
    assert torch.equal(out["labels"], ROWS)
    assert torch.equal(OneHot(3)(LABELS), ROWS)
    assert torch.equal(v2.Compose([OneHot(3)])(images, LABELS)[1], ROWS)


def test_labels_are_smoothed():
    expected = F.cross_entropy(torch.eye(3)[:2], LABELS, label_smoothing=0.3)
    smooth = OneHot(3, label_smoothing=0.3)(LABELS)
    torch.testing.assert_close(F.cross_entropy(torch.eye(3)[:2], smooth), expected)
    assert not torch.equal(smooth, ROWS)


def test_one_class_beside_an_ignored_one():
    assert OneHot(1, ignore_index=-1)(torch.tensor([0, -1])).tolist() == [[1], [0]]


def test_it_is_the_same_in_eval():
    assert torch.equal(OneHot(3).eval()(LABELS), ROWS)


def test_a_mask_stays_a_mask():
    mask = tv_tensors.Mask(torch.tensor([[[0, 255], [1, 2]]]))
    image = tv_tensors.Image(torch.rand(1, 3, 2, 2))
    for batch in ((image, mask), {"image": image, "mask": mask}):
        out = OneHot(3, ignore_index=255)(batch)
        rows = out[1] if isinstance(out, tuple) else out["mask"]
        assert type(rows) is tv_tensors.Mask
        assert rows.shape == (1, 3, 2, 2)
        assert rows[0, :, 0, 1].tolist() == [0, 0, 0]
        assert rows[0, :, 1, 1].tolist() == [0, 0, 1]


@pytest.mark.parametrize("index", [-(2**63), -1, 3, 2**63 - 1])
def test_any_index_outside_the_classes_can_be_ignored(index):
    rows = OneHot(3, ignore_index=index)(torch.tensor([2, index]))
    assert rows.tolist() == [[0, 0, 1], [0, 0, 0]]


def test_labels_getter_chooses():
    batch = {"fine": LABELS, "coarse": torch.tensor([0, 0]), "images": torch.rand(2, 4)}
    out = OneHot(3, labels_getter="fine")(batch)
    assert torch.equal(out["fine"], ROWS)
    assert out["coarse"] is batch["coarse"]
    out = OneHot(3, labels_getter=lambda b: b["fine"])(batch)
    assert torch.equal(out["fine"], ROWS)


def test_repr_shows_the_settings():
    assert repr(OneHot(3, label_smoothing=0.1)) == (
        "OneHot(num_classes=3, label_smoothing=0.1, ignore_index=None, labels_getter='default')"
    )


@pytest.mark.parametrize("transform", [OneHot(3), ToLabelMixture()], ids=["rows", "mixture"])
def test_a_column_of_labels_names_squeeze(transform):
    for labels in (LABELS[:, None], LABELS[:, None].byte(), LABELS[:0, None]):
        with pytest.raises(ValueError, match=r"\.squeeze\(1\)"):
            transform(torch.rand(len(labels), 2), labels)


def test_a_channel_of_a_mask_is_a_dimension_like_another():
    mask = torch.tensor([[[[0, 2], [1, 2]]]])
    rows = OneHot(3)(mask)
    assert rows.shape == (1, 3, 1, 2, 2)
    assert torch.equal(rows.argmax(1), mask)


def test_integer_rows_are_no_class_indices():
    rows = torch.eye(4, dtype=torch.int32)
    with pytest.raises(ValueError, match="one-hot rows already"):
        OneHot(4)(torch.rand(4, 2), rows)
    assert functional.one_hot(rows, 4).shape == (4, 4, 4)


@pytest.mark.parametrize(
    ("tokens", "classes"),
    [([[0, 1], [1, 0]], 2), ([[0, 0, 0]], 3), ([[0, 1, 1]], 3), ([[2, 0, 1]], 3), ([], 3)],
)
def test_tokens_are_not_taken_for_rows(tokens, classes):
    tokens = torch.tensor(tokens, dtype=torch.int64).view(-1, classes)
    assert torch.equal(OneHot(classes)(tokens), functional.one_hot(tokens, classes))


@pytest.mark.parametrize("mark", [255, -100, -1])
def test_a_label_that_marks_none_names_ignore_index(mark):
    labels = torch.tensor([0, mark])
    with pytest.raises(ValueError, match=f"ignore_index={mark}"):
        OneHot(3)(labels)
    assert OneHot(3, ignore_index=mark)(labels)[1].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=f"labels must lie .* got {mark}$"):
        OneHot(3, ignore_index=7)(labels)


@pytest.mark.parametrize(
    "transform", [OneHot(3), ToLabelMixture(), SampleLabels(), PresentLabels()], ids=repr
)
@pytest.mark.parametrize("with_images", [False, True])
def test_labels_that_are_no_tensor_name_the_way_to_one(transform, with_images):
    before = [torch.rand(2, 4)] * with_images
    for labels, words in (
        (np.array([0, 1]), "a NumPy array"),
        ([0, 1], "a list of numbers"),
        ([0.5, 0.5], "a list of numbers"),
        ([*np.array([0, 1])], "a list of numbers"),
    ):
        with pytest.raises(TypeError, match=words):
            transform(*before, labels)


def test_labels_alone_are_looked_for():
    x = torch.rand(2, 3, 4, 4)
    for batch in (
        {"labels": LABELS},
        {"image": x, "pixel_values": x.clone(), "labels": LABELS},
        {"input_ids": LABELS, "attention_mask": LABELS > 0, "labels": LABELS.clone()},
        {"id": 3, "labels": LABELS},
    ):
        out = OneHot(3)(batch)
        assert torch.equal(out["labels"], ROWS)
        assert all(out[name] is batch[name] for name in batch if name != "labels")
    out = OneHot(3)(x, LABELS, x)
    assert torch.equal(out[1], ROWS)
