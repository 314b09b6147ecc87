"""MixCollate gives what mixing after collating gives, in one pass over memory."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    MixCollate,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    ToLabelMixture,
)
from mixup_transforms._core import unstacked
from tests.bits import same
from tests.cases import every_member, every_mixer
from tests.processes import Large, Scenes
from tests.strategies import generator_of, images_for, seeds

pytestmark = [
    pytest.mark.usefixtures("path"),
    # Samples are stacked first where they are gathered, and never where they are mixed one by one.
    pytest.mark.parametrize("path", ["by sample", "gathered"], indirect=True),
]


@every_mixer
@given(
    data=st.data(),
    seed=seeds,
    p=st.sampled_from([0.5, 1.0]),
    per_sample=st.booleans(),
    inplace=st.booleans(),
)
def test_it_is_collating_and_then_mixing(case, data, seed, p, per_sample, inplace):
    x = data.draw(images_for(case, min_batch=1))
    samples = [(image, i % 4) for i, image in enumerate(x)]
    settings = {"num_classes": 4, "p": p, "per_sample": per_sample}
    expected = case.make(generator=generator_of(seed), **settings)(*default_collate(samples))
    before = x.clone()
    collate = MixCollate(case.make(generator=generator_of(seed), inplace=inplace, **settings))
    mixed = collate(samples)
    assert [type(leaf) for leaf in mixed] == [torch.Tensor, torch.Tensor]
    assert same(mixed, expected)
    assert same(x, before)


HALF = v2.Normalize([0.5], [2])


def mixup(generator, **settings):
    return RandomMixup(num_classes=4, generator=generator, **settings)


def cutmix(generator):
    return RandomCutMix(num_classes=4, generator=generator)


PIPELINES = {
    "labels first": lambda g: v2.Compose([OneHot(4), RandomMixup(generator=g)]),
    "mixtures": lambda g: nn.Sequential(ToLabelMixture(), RandomMixup(generator=g)),
    "after mixing": lambda g: v2.Compose([mixup(g), HALF]),
    "before mixing": lambda g: v2.Compose([HALF, cutmix(g)]),
    "two mixers": lambda g: v2.Compose([mixup(g), cutmix(g)]),
    "any function": lambda g: lambda batch: mixup(g)(batch),
    "in eval mode": lambda g: mixup(g).eval(),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines(name):
    samples = [{"image": torch.rand(1, 6, 8), "label": i, "name": f"{i}"} for i in range(4)]
    mixed = MixCollate(PIPELINES[name](generator_of(0)))(samples)
    expected = PIPELINES[name](generator_of(0))(default_collate(samples))
    assert same(mixed["image"], expected["image"])
    assert type(mixed["image"]) is torch.Tensor
    assert mixed["name"] == ["0", "1", "2", "3"]
    assert type(mixed["label"]) is type(expected["label"])
    assert same(mixed["label"], expected["label"])


def test_a_mixer_that_knows_nothing_of_samples():
    class Doubling(RandomMixup):
        def apply(self, images, params, *, others=None, inplace=False):
            assert images.mean() == images.clone().mean()
            return super().apply(images * 2, params)

    samples = [(torch.rand(3, 4), i) for i in range(3)]
    mixed, _ = MixCollate(Doubling(num_classes=3, generator=generator_of(0)))(samples)
    expected = RandomMixup(labels_getter=None, generator=generator_of(0))(
        default_collate(samples)[0] * 2
    )
    assert torch.equal(mixed, expected)


def test_what_is_collated_by_hand_is_mixed_as_it_comes():
    def padded(samples):
        longest = max(len(x) for x, _ in samples)
        x = torch.stack([nn.functional.pad(x, (0, longest - len(x))) for x, _ in samples])
        return x, torch.tensor([y for _, y in samples])

    samples = [(torch.ones(n), n - 1) for n in (1, 2, 3)]
    mixed, labels = MixCollate(RandomMixup(num_classes=3), padded)(samples)
    assert mixed.shape == (3, 3)
    assert torch.allclose(mixed[:, 0], torch.ones(3))
    assert labels.shape == (3, 3)


@every_member
@pytest.mark.parametrize("wrap", [lambda mix: mix, lambda mix: v2.Compose([OneHot(4), mix])])
def test_large_samples_are_never_stacked_before_they_are_mixed(case, wrap, path, monkeypatch):
    if path == "gathered":
        pytest.skip("small samples are stacked")
    monkeypatch.setattr(unstacked.Unstacked, "stacked", None)
    samples = [(torch.rand(3, 6, 8), i) for i in range(4)]
    mix = case.make(num_classes=4, generator=generator_of(0))
    mixed, _ = MixCollate(wrap(mix))(samples)
    expected, _ = case.make(generator=generator_of(0), num_classes=4)(*default_collate(samples))
    assert same(mixed, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_worker_shares_what_it_stacks(dtype, path, monkeypatch):
    if path == "gathered":
        pytest.skip("small samples are stacked by torch")
    monkeypatch.setattr(unstacked, "get_worker_info", lambda: "a worker")
    samples = [(torch.rand(3, 6, 8).mul(255).to(dtype), i) for i in range(4)]
    expected = default_collate(samples)[0]
    for mix in (RandomMixup(num_classes=4, p=0.0), RandomMixup(num_classes=4).eval()):
        images, _ = MixCollate(mix)(samples)
        assert images.is_shared()
        assert same(images, expected)


def test_an_unstacked_batch_is_stacked_by_any_other_operation():
    samples = [torch.rand(3, 6) for _ in range(4)]
    batch, stacked = unstacked.Unstacked(samples), torch.stack(samples)
    assert not stacked.is_shared()
    assert same(batch.sum(dim=0, dtype=torch.float64), stacked.sum(dim=0, dtype=torch.float64))
    assert not batch.stacked().is_shared()


KINDS = {
    tv_tensors.Image: (3, 6, 8),
    tv_tensors.Video: (2, 3, 6, 8),
    tv_tensors.Mask: (6, 8),
}


def scenes(n=4):
    """Make samples whose pixels all say what the mask says."""
    masks = [tv_tensors.Mask(torch.randint(5, (6, 8))) for _ in range(n)]
    return [(tv_tensors.Image(mask.expand(3, 6, 8).float()), mask) for mask in masks]


SEGMENTING = {
    "cutmix": lambda g: RandomCutMix(generator=g),
    "in eval mode": lambda g: RandomCutMix(generator=g).eval(),
    "gated off": lambda g: RandomCutMix(generator=g, p=0.0),
    "choice": lambda g: RandomChoice([RandomCutMix(), RandomFMix()], per_sample=True, generator=g),
    "resizing": lambda g: v2.Compose([v2.Resize(3), RandomCutMix(generator=g)]),
    "probabilities": lambda g: v2.Compose([OneHot(5), RandomMixup(generator=g)]),
    "converted after": lambda g: v2.Compose([RandomCutMix(generator=g), v2.Resize(3)]),
    "converted in eval": lambda g: v2.Compose([RandomCutMix(generator=g).eval(), v2.Resize(3)]),
    "mosaic": lambda g: RandomMosaic(generator=g),
    "mosaic, larger": lambda g: RandomMosaic(size=(8, 9), generator=g),
    "two mixers": lambda g: v2.Compose([RandomCutMix(generator=g), RandomFMix(generator=g)]),
    "any function": lambda g: lambda batch: RandomCutMix(generator=g)(batch),
}


@pytest.mark.parametrize("name", SEGMENTING)
def test_images_and_masks_keep_their_types(name):
    samples = scenes()
    images, masks = default_collate(samples)
    batch = [tv_tensors.Image(images), tv_tensors.Mask(masks)]
    mixed = MixCollate(SEGMENTING[name](generator_of(0)))(samples)
    expected = SEGMENTING[name](generator_of(0))(batch)
    assert [type(leaf) for leaf in mixed] == [tv_tensors.Image, tv_tensors.Mask]
    assert same(mixed, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mix", [RandomMixup, RandomCutMix])
def test_every_type_that_can_be_stacked_is_kept(kind, mix):
    leaf = {kind: kind(torch.rand(KINDS[kind]))}
    sample = {"image": tv_tensors.Image(torch.rand(3, 6, 8)), **leaf, "name": "a"}
    mixed = MixCollate(mix(generator=generator_of(0), labels_getter=None))([sample] * 3)
    assert type(mixed[kind]) is kind
    assert mixed[kind].shape == (3, *KINDS[kind])
    assert mixed["name"] == ["a"] * 3


def test_masks_of_large_samples_are_never_stacked_before_they_are_mixed(path, monkeypatch):
    if path == "gathered":
        pytest.skip("small samples are stacked")
    monkeypatch.setattr(unstacked.Unstacked, "stacked", None)
    images, masks = MixCollate(RandomCutMix(generator=generator_of(0)))(scenes())
    assert same(images[:, 0], masks.float())


class Passing(RandomCutMix):
    """Gives back what it was given."""

    def apply(self, images, params, *, others=None, inplace=False):
        return images


@pytest.mark.parametrize("mix", [RandomCutMix(), RandomCutMix().eval(), Passing()], ids=repr)
def test_nothing_stays_unstacked_in_an_object_of_ones_own(mix):
    class Own:
        def __init__(self, batch):
            self.batch = batch

    samples = [(*scene, {"no image": torch.randint(9, (3, 6, 8))}) for scene in scenes()]
    images, masks, other = MixCollate(v2.Compose([mix, Own]))(samples).batch
    kinds = [type(images), type(masks), type(other["no image"])]
    assert kinds == [tv_tensors.Image, tv_tensors.Mask, torch.Tensor]
    assert same(other["no image"], torch.stack([scene[2]["no image"] for scene in samples]))


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        (
            [tv_tensors.Mask(torch.ones(4, 5)), torch.ones(4, 5)],
            "what is collated must be of one type",
        ),
        (
            [tv_tensors.BoundingBoxes([[0, 0, 2, 2]], format="XYXY", canvas_size=(4, 5))] * 2,
            "what is collated must not be BoundingBoxes",
        ),
    ],
)
@pytest.mark.parametrize("transform", [RandomCutMix(), lambda batch: batch])
def test_types_that_cannot_be_stacked(leaves, message, transform):
    with pytest.raises(TypeError, match=message):
        MixCollate(transform)([(torch.rand(3, 4, 5), leaf) for leaf in leaves])


def test_samples_of_differing_shapes_end_as_in_default_collate():
    samples = [(torch.rand(3), 0), (torch.rand(4), 1)]
    for collate in (default_collate, MixCollate(RandomMixup(num_classes=2))):
        with pytest.raises(RuntimeError, match="stack expects each tensor"):
            collate(samples)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_worker_writes_straight_into_shared_memory(start, dtype):
    collate = MixCollate(RandomMixup(num_classes=4, generator=generator_of(0)))
    loader = DataLoader(
        Large(dtype),
        batch_size=4,
        collate_fn=collate,
        num_workers=1,
        multiprocessing_context=start,
        generator=generator_of(0),
    )
    for mixed, labels in loader:
        assert mixed.is_shared()
        assert mixed.dtype == dtype
        expected = (labels * torch.arange(4)).sum(1)
        slack = 0.5 if dtype == torch.uint8 else 1e-5
        assert (mixed.flatten(1).float() - expected[:, None]).abs().max() <= slack


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize("mix", [RandomCutMix(), RandomCutMix().eval()], ids=["train", "eval"])
def test_types_come_through_live_workers(start, mix, path):
    loader = DataLoader(
        Scenes(8 if path == "gathered" else 160),
        batch_size=4,
        collate_fn=MixCollate(mix),
        num_workers=1,
        multiprocessing_context=start,
        persistent_workers=True,
        generator=generator_of(0),
    )
    for _ in range(2):
        for images, masks in loader:
            assert type(images) is tv_tensors.Image
            assert type(masks) is tv_tensors.Mask
            assert images.is_shared()
            assert masks.is_shared()
            assert same(images[:, 0], masks.float())


@pytest.mark.parametrize("count", [1, 3])
def test_any_form_of_sample(count):
    class Scene(NamedTuple):
        image: torch.Tensor
        label: object

    def sample(i):
        image = torch.full((2, 6, 8), float(i))
        return {
            "tuple": (image, i),
            "named": Scene(image, np.int64(i)),
            "list": [image, torch.tensor(i)],
            "dict": {"image": image.permute(2, 1, 0), "label": i, "name": str(i), "of": (1, 2)},
            "array": (image.numpy(), np.array(i)),
            "gradient": (image.clone().requires_grad_(), i),
        }

    for form in sample(0):
        samples = [sample(i)[form] for i in range(count)]
        mixed = MixCollate(RandomMixup(num_classes=3, generator=generator_of(0)))(samples)
        expected = RandomMixup(num_classes=3, generator=generator_of(0))(default_collate(samples))
        assert type(mixed) is type(expected)
        image, label = [*mixed.values()][:2] if form == "dict" else mixed
        assert type(image) is type(label) is torch.Tensor
        torch.testing.assert_close(image.flatten(1)[:, 0], label @ torch.arange(3.0))
        assert image.requires_grad == (form == "gradient")


def test_a_pipeline_may_collate():
    collate = MixCollate(RandomMixup(), v2.Compose([default_collate, OneHot(3)]))
    _, labels = collate([(torch.rand(3), i) for i in range(3)])
    assert labels.shape == (3, 3)


def test_it_prints_its_transform():
    assert repr(MixCollate(RandomMixup(alpha=0.2))).startswith("MixCollate(RandomMixup(alpha=0.2")
