"""The usual mistakes, each with its own way out."""

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    MixCollate,
    MixedDataset,
    MixedStream,
    OneHot,
    PresentLabels,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    SampleLabels,
)
from tests.strategies import soft_labels

X, Y = torch.rand(8, 3, 6, 5), torch.arange(8) % 3
ONE = "this is one sample"
SAMPLES = [(x, int(y)) for x, y in zip(X, Y, strict=True)]


@pytest.mark.parametrize("make", [RandomMixup, RandomCutMix])
@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ((X[0], 3), "batch[1] is one label, of type int; "),
        ((X[0], torch.tensor(3)), ONE),
        ((X[0], np.int64(3)), "batch[1] is one label, of type int64; "),
        ((tv_tensors.Image(X[0]), torch.tensor(3)), ONE),
        ((tv_tensors.Image(X[0]), soft_labels(1)[0]), ONE),
        ((X[0], soft_labels(1)[0]), ONE),
        ({"image": tv_tensors.Image(X[0]), "label": 3}, ONE),
        ((PIL.Image.new("RGB", (8, 8)), 3), "got a PIL image"),
        (SAMPLES, "got a list of 8 samples"),
        (tuple(SAMPLES), "got a list of 8 samples"),
        ([{"image": x, "label": y} for x, y in SAMPLES], "got a list of 8 samples"),
        (([1.0, 2.0], Y), "no images found"),
        ((X.numpy(), Y), "batch[0] is a NumPy array"),
        (
            (X, Y.numpy()),
            "batch[1] is a NumPy array",
        ),
        ({"image": X.numpy(), "label": Y}, "batch['image'] is a NumPy array"),
        ((X, Y.tolist()), "batch[1] is a list of numbers"),
        ({"image": X, "label": Y.tolist()}, "batch['label'] is a list of numbers"),
        ((X, Y[:, None]), "labels.squeeze(1)"),
        ((X, torch.eye(3).long()[Y]), "one-hot rows have to be floats"),
        ((X, torch.tensor([[1, 1, 0]] * 8)), "multi-hot rows have to be floats"),
        ((X, torch.randint(2, 9, (8, 4))), "apply OneHot(num_classes) before"),
        ((X, torch.randint(9, (8, 6, 5))), "wrap a segmentation mask in tv_tensors.Mask"),
        ((X, Y[:4]), "same batch size"),
    ],
)
def test_what_is_said(make, batch, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        make(num_classes=3)(batch)
    assert words in str(caught.value)


def test_eight_images_against_four_labels_are_no_single_sample():
    with pytest.raises(ValueError, match="same batch size") as caught:
        RandomMixup(num_classes=3)(X, Y[:4])
    assert "one sample" not in str(caught.value)


def test_a_mixer_as_collate_fn():
    loader = DataLoader(SAMPLES, batch_size=4, collate_fn=RandomMixup(num_classes=3))
    with pytest.raises(TypeError, match="got a list of 4 samples"):
        next(iter(loader))


def test_a_mixer_in_a_pipeline_of_samples():
    pipeline = v2.Compose([v2.RandomHorizontalFlip(), RandomMixup(num_classes=3)])
    with pytest.raises(ValueError, match="this is one sample"):
        pipeline(tv_tensors.Image(X[0]), 3)


def test_columns_of_images_are_no_list_of_samples():
    pairs = ((tv_tensors.Image(X), tv_tensors.Image(X + 1)), {"label": Y})
    (first, _), _ = RandomMixup(num_classes=3)(pairs)
    assert first.shape == X.shape
    assert RandomMixup(num_classes=3)([X, Y])[0].shape == X.shape


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("num_classes", 0, ValueError),
        ("num_classes", 2.5, TypeError),
        ("num_classes", torch.nn.Parameter(torch.ones(1)), TypeError),
        ("per_sample", 1, TypeError),
        ("inplace", None, TypeError),
        ("dominant", "yes", TypeError),
        ("labels_getter", 3, TypeError),
        ("images_getter", None, TypeError),
        ("generator", torch.Generator(), AttributeError),
    ],
)
def test_settings_are_checked_whenever_they_are_set(name, value, error):
    mix = RandomMixup()
    before = repr(mix)
    with pytest.raises(error):
        setattr(mix, name, value)
    assert repr(mix) == before


@pytest.mark.parametrize(
    ("thing", "name", "value"),
    [
        (OneHot(3), "num_classes", 0),
        (OneHot(3), "label_smoothing", 1),
        (OneHot(3), "ignore_index", 2),
        (SampleLabels(), "ignore_index", 0.5),
        (PresentLabels(), "threshold", 1),
        (RandomResizeMix(), "scale", (0.9, 0.1)),
        (RandomFMix(), "decay_power", 0),
        (RandomMosaic(), "centre", (0.9, 0.1)),
        (RandomMosaic(), "size", (0, 9)),
        (RandomChoice([RandomMixup()]), "p", [1.0]),
        (MixedDataset(SAMPLES, RandomMixup(), seed=0), "seed", -1),
        (MixedDataset(SAMPLES, RandomMixup(), seed=0), "partner_weights", [1]),
        (MixedStream(SAMPLES, RandomMixup(), seed=0), "buffer", 0),
        (MixCollate(RandomMixup()), "transform", RandomMixup),
        (MixCollate(RandomMixup()), "collate_fn", 0),
    ],
)
def test_settings_of_everything_else_are_checked_too(thing, name, value):
    before = getattr(thing, name)
    with pytest.raises((TypeError, ValueError), match=f"^{name} must"):
        setattr(thing, name, value)
    assert getattr(thing, name) == before


def test_a_subclass_that_hands_on_its_settings_shows_them():
    class Wide(RandomMixup):
        def __init__(self, *, width=3, hidden=0, **settings):
            super().__init__(**settings)
            self.width = width

    shown = repr(Wide(width=5, alpha=0.5))
    assert shown.startswith("Wide(width=5, alpha=0.5, p=1.0, num_classes=None,")
    assert "hidden" not in shown


def test_a_setting_that_is_set_holds():
    mix = RandomMixup()
    mix.num_classes = 3
    assert mix(X, Y)[1].shape == (8, 3)
