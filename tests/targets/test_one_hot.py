import pytest
import torch
import torch.nn.functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import OneHot

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


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        ((0,), {}, ValueError, "num_classes must be at least 1, got 0"),
        ((2.0,), {}, TypeError, "num_classes must be an integer, got 2.0"),
        ((True,), {}, TypeError, "num_classes must be an integer, got True"),
        ((3,), {"label_smoothing": 1.0}, ValueError, r"label_smoothing must lie in \[0, 1\)"),
        ((3,), {"label_smoothing": -0.1}, ValueError, "label_smoothing must lie in"),
        ((3,), {"label_smoothing": "a"}, TypeError, "label_smoothing must be a number, got 'a'"),
        ((3,), {"ignore_index": 2}, ValueError, r"outside the classes \[0, 3\), got 2"),
        ((3,), {"ignore_index": 2.5}, TypeError, "ignore_index must be an integer"),
        ((3,), {"labels_getter": 3}, TypeError, "labels_getter must be"),
    ],
)
def test_bad_settings(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        OneHot(*arguments, **settings)


def test_bad_batches():
    with pytest.raises(ValueError, match="no labels found"):
        OneHot(3)({"images": torch.rand(2, 3)})
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), got 9"):
        OneHot(3)(torch.rand(2, 3), torch.tensor([0, 9]))
    with pytest.raises(TypeError, match="integer class indices, got float32"):
        OneHot(3)(torch.rand(2, 3), torch.rand(2))
    with pytest.raises(TypeError, match="got no argument"):
        OneHot(3)()


def test_repr_shows_the_settings():
    assert repr(OneHot(3, label_smoothing=0.1)) == (
        "OneHot(num_classes=3, label_smoothing=0.1, ignore_index=None, labels_getter='default')"
    )
