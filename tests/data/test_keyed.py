"""One sample mixed with its partners: what a batch of them would give, without mixing the rest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    MixedDataset,
    MixedStream,
    OneHot,
    PresentLabels,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    SampleLabels,
    ToLabelMixture,
)
from mixup_transforms._core import small, streams, unstacked
from mixup_transforms._data.keyed import Keyed
from tests.bits import same
from tests.cases import every_member, every_mixer
from tests.strategies import images_for, seeds

pytestmark = [
    pytest.mark.usefixtures("path"),
    pytest.mark.parametrize("path", ["by sample", "gathered"], indirect=True),
]
KEY = (7, 3)


def first(batch):
    return [part[0] for part in batch]


def by_key(seed):
    return torch.Generator().manual_seed(streams.hashed_seed(*KEY, seed))


@every_mixer
@given(
    data=st.data(),
    seed=seeds,
    p=st.sampled_from([0.5, 1.0]),
    per_sample=st.booleans(),
    inplace=st.booleans(),
)
def test_it_is_the_first_sample_of_the_mixed_batch(case, data, seed, p, per_sample, inplace):
    x = data.draw(images_for(case, min_batch=1))[:4]
    samples = [(image, i) for i, image in enumerate(x)]
    settings = {"num_classes": 4, "p": p, "per_sample": per_sample}
    expected = case.make(generator=by_key(seed), **settings)(x.clone(), torch.arange(len(x)))
    before = x.clone()
    keyed = Keyed.of(case.make(inplace=inplace, **settings))
    mixed = keyed.mix(samples[0], samples[1:], (*KEY, seed))
    assert [type(leaf) for leaf in mixed] == [torch.Tensor, torch.Tensor]
    assert same([*mixed], first(expected))
    assert same(x, before)


class Doubled(RandomCutMix):
    """A mixer of one's own, which looks at all that was mixed."""

    def apply(self, images, params, *, others=None, inplace=False):
        mixed = super().apply(images, params, others=others)
        return mixed + mixed.sum(0)


PIPELINES = {
    "labels first": lambda g: v2.Compose([OneHot(4), RandomMixup(generator=g)]),
    "labels behind": lambda g: nn.Sequential(
        RandomCutMix(num_classes=4, generator=g), PresentLabels()
    ),
    "mixtures": lambda g: nn.Sequential(ToLabelMixture(), RandomMixup(generator=g)),
    "sampled": lambda g: v2.Compose(
        [RandomMixup(num_classes=4, generator=g), SampleLabels(generator=g)]
    ),
    "two mixers": lambda g: v2.Compose(
        [RandomCutMix(num_classes=4, generator=g), RandomFMix(generator=g)]
    ),
    "choice": lambda g: RandomChoice(
        [RandomMixup(num_classes=4), RandomCutMix(num_classes=4)], generator=g, per_sample=True
    ),
    "in eval mode": lambda g: RandomCutMix(num_classes=4, generator=g).eval(),
    "gated off": lambda g: RandomCutMix(num_classes=4, generator=g, p=0.0),
    "of one's own": lambda g: Doubled(num_classes=4, generator=g),
    "before": lambda g: v2.Compose([v2.Pad(1), RandomCutMix(num_classes=4, generator=g)]),
    "behind": lambda g: v2.Compose([RandomCutMix(num_classes=4, generator=g), across]),
    "no mixer": lambda g: OneHot(4),
    "any function": lambda g: lambda batch: RandomCutMix(num_classes=4, generator=g)(batch),
}


def across(batch):
    """A function of one's own, which looks at all that was mixed."""
    images, labels = batch
    return images + images.sum(0), labels


@pytest.mark.parametrize("name", PIPELINES)
def test_whatever_the_pipeline_looks_at(name):
    x, labels = torch.rand(2, 3, 6, 8), torch.tensor([3, 1])
    for seed in range(5):
        expected = PIPELINES[name](by_key(seed))((x, labels))
        samples = [*zip(x, labels.tolist(), strict=True)]
        mixed = Keyed.of(PIPELINES[name](None)).mix(samples[0], samples[1:], (*KEY, seed))
        assert same(mixed[0], expected[0][0])
        leaves = torch.utils._pytree.tree_leaves
        assert same(leaves(mixed[1]), [leaf[0] for leaf in leaves(expected[1])])


def samples_of(kind=torch.Tensor):
    return [(torch.rand(3, 6, 8).as_subclass(kind), i) for i in range(4)]


def of_stream(samples, transform):
    return [*MixedStream(samples, transform, seed=0)][1:]  # the first of all has no partner


def of_dataset(samples, transform):
    return [*MixedDataset(samples, transform, seed=0)]


@every_member
@pytest.mark.parametrize("make", [of_stream, of_dataset])
@pytest.mark.parametrize("wrap", [lambda mix: mix, lambda mix: v2.Compose([OneHot(4), mix])])
def test_large_samples_are_never_stacked_nor_their_partners_mixed(
    case, make, wrap, path, monkeypatch
):
    if path == "gathered":
        pytest.skip("small samples are stacked")
    monkeypatch.setattr(small, "LARGE_SAMPLE", 16)  # but numbers are never large
    monkeypatch.setattr(unstacked.Unstacked, "stacked", None)
    for image, _ in make(samples_of(), wrap(case.make(num_classes=4))):
        assert image.untyped_storage().nbytes() == image.nbytes


@pytest.mark.parametrize("kind", [tv_tensors.Image, torch.Tensor])
def test_types_and_samples_stay_as_they_were(kind):
    samples = samples_of(kind)
    before = [image.clone() for image, _ in samples]
    for image, _ in of_stream(samples, RandomMixup(num_classes=4, inplace=True)):
        assert type(image) is kind
        image.fill_(-1)
    assert same([image for image, _ in samples], before)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.uint8, torch.uint8)])
def test_samples_of_several_dtypes_are_stacked_as_torch_does(dtypes):
    samples = [(torch.arange(24).view(1, 4, 6).to(dtype), 0) for dtype in dtypes]
    mixed, _ = MixedDataset(samples, RandomMixup(num_classes=1), seed=0)[0]
    assert mixed.dtype == torch.promote_types(*dtypes)


@pytest.mark.parametrize("make", [MixedDataset, MixedStream])
def test_what_a_mixer_is_given_later_is_refused_when_it_would_count(make):
    mix = RandomMixup(num_classes=4)
    samples = make([(torch.rand(3, 4, 4), i) for i in range(4)], mix, seed=0)
    mix.pairing = lambda batch, *, labels, generator: torch.arange(2)
    with pytest.raises(ValueError, match=f"must have pairing=None in a {make.__name__}"):
        next(iter(samples))
    samples.transform = RandomMixup(num_classes=4, generator=torch.Generator())
    with pytest.raises(ValueError, match=f"must have generator=None in a {make.__name__}"):
        next(iter(samples))
    samples.transform = RandomMixup
    with pytest.raises(TypeError, match="RandomMixup"):
        next(iter(samples))
