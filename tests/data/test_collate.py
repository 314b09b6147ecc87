"""MixCollate gives what mixing after collating gives, in one pass over memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import MixCollate, OneHot, RandomCutMix, RandomMixup, ToLabelMixture
from mixup_transforms._core import kernels, unstacked
from tests import strategies
from tests.cases import MIXERS
from tests.processes import Large
from tests.strategies import generator_of, inner_shapes, seeds, spatial_shapes
from tests.test_law import same


@pytest.fixture(params=[0, 2**62], ids=["unstacked", "stacked"], autouse=True)
def limit(request, monkeypatch):
    monkeypatch.setattr(kernels, "LARGE_SAMPLE", request.param)
    return request.param


@pytest.mark.parametrize("case", MIXERS, ids=repr)
@given(
    data=st.data(),
    seed=seeds,
    p=st.sampled_from([0.5, 1.0]),
    per_sample=st.booleans(),
    inplace=st.booleans(),
)
def test_it_is_collating_and_then_mixing(case, data, seed, p, per_sample, inplace):
    shapes = spatial_shapes if case.spatial else inner_shapes
    x = strategies.image_like(data.draw(strategies.images(shapes, min_batch=1)))
    samples = [(image, i % 4) for i, image in enumerate(x)]
    settings = {"num_classes": 4, "p": p, "per_sample": per_sample}
    expected = case.make(generator=generator_of(seed), **settings)(*default_collate(samples))
    before = x.clone()
    collate = MixCollate(case.make(generator=generator_of(seed), inplace=inplace, **settings))
    mixed = collate(samples)
    assert [type(leaf) for leaf in mixed] == [torch.Tensor, torch.Tensor]
    assert all(same(a, b) for a, b in zip(mixed, expected, strict=True))
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
    label, wanted = mixed["label"], expected["label"]
    assert all(map(torch.equal, label, wanted)) if isinstance(label, tuple) else same(label, wanted)


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


@pytest.mark.parametrize("case", MIXERS[:4], ids=repr)
@pytest.mark.parametrize("wrap", [lambda mix: mix, lambda mix: v2.Compose([OneHot(4), mix])])
def test_large_samples_are_never_stacked_before_they_are_mixed(case, wrap, limit, monkeypatch):
    if limit:
        pytest.skip("small samples are stacked")
    monkeypatch.setattr(unstacked.Unstacked, "stacked", None)
    samples = [(torch.rand(3, 6, 8), i) for i in range(4)]
    mix = case.make(num_classes=4, generator=generator_of(0))
    mixed, _ = MixCollate(wrap(mix))(samples)
    expected, _ = case.make(generator=generator_of(0), num_classes=4)(*default_collate(samples))
    assert same(mixed, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_worker_shares_what_it_stacks(dtype, limit, monkeypatch):
    if limit:
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


def test_images_of_torchvision_are_stacked_as_torch_does():
    samples = [(tv_tensors.Image(torch.rand(3, 4, 5)), i) for i in range(3)]
    mixed, _ = MixCollate(RandomMixup(num_classes=3, generator=generator_of(0)))(samples)
    assert type(mixed) is type(default_collate(samples)[0]) is torch.Tensor


def test_samples_of_differing_shapes_end_as_in_default_collate():
    samples = [(torch.rand(3), 0), (torch.rand(4), 1)]
    for collate in (default_collate, MixCollate(RandomMixup(num_classes=2))):
        with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((RandomMixup(), None), "collate_fn must be a function of a list, got None"),
        (("mixup",), "transform must be a mixer or a pipeline, got 'mixup'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(TypeError, match=message):
        MixCollate(*arguments)


def test_it_prints_its_transform():
    assert repr(MixCollate(RandomMixup(alpha=0.2))).startswith("MixCollate(RandomMixup(alpha=0.2")
