import copy
import pickle
import time
from collections import OrderedDict, UserDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    LabelMixture,
    MixedDataset,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    SampleLabels,
    ToLabelMixture,
)
from mixup_transforms._batch.samples import first_sample, stack
from mixup_transforms._core import streams
from tests.bits import same
from tests.processes import Numbers

IDENTITY = OneHot(48)


def partners(dataset, epoch=0):
    dataset.set_epoch(epoch)
    return [(dataset[i][1] > 0).nonzero().flatten().tolist() for i in range(len(dataset))]


def test_a_sample_is_mixed_with_a_partner_of_the_whole_dataset():
    dataset = MixedDataset(Numbers(12), RandomMixup(num_classes=12), seed=0)
    counts = torch.zeros(12, 12)
    for epoch in range(200):
        for i, classes in enumerate(partners(dataset, epoch)):
            assert i in classes
            assert len(classes) == 2
            counts[i, next(c for c in classes if c != i)] += 1
    for i in range(12):
        others = [counts[i, j].item() for j in range(12) if j != i]
        assert stats.chisquare(others).pvalue > 1e-5


def test_the_label_tells_the_truth():
    dataset = MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=5)
    for image, label in dataset:
        torch.testing.assert_close(label @ torch.arange(48.0), image[0])


def test_another_seed_and_another_epoch_are_other_pairs():
    drawn = [partners(MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=s)) for s in (0, 1)]
    again = partners(MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0), epoch=1)
    assert drawn[0] != drawn[1]
    assert drawn[0] != again


def test_the_global_streams_are_untouched():
    state = torch.get_rng_state()
    MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0)[3]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("make", [RandomMixup, RandomResizeMix, RandomMosaic])
def test_a_dataset_of_one_is_the_identity(make):
    sample = (torch.rand(3, 8, 8), 0)
    image, label = MixedDataset([sample], make(num_classes=2), seed=0)[0]
    assert torch.equal(image, sample[0])
    assert label.tolist() == [1, 0]


def test_images_that_end_in_a_tensor_masks_and_other_leaves():
    def load(i):
        picture = PIL.Image.new("L", (6, 5), 10 * i)
        mask = tv_tensors.Mask(torch.full((5, 6), i))
        return {"image": v2.functional.to_image(picture), "mask": mask, "name": f"no. {i}"}

    dataset = MixedDataset([load(i) for i in range(4)], RandomCutMix(), seed=0)
    for i, sample in enumerate(dataset):
        assert sample["name"] == f"no. {i}"
        assert type(sample["image"]) is tv_tensors.Image
        assert type(sample["mask"]) is tv_tensors.Mask
        assert sample["image"].shape == (1, 5, 6)
        assert torch.equal(sample["image"][0].long(), 10 * sample["mask"])


def test_label_mixtures():
    mix = v2.Compose([ToLabelMixture(), RandomMixup(), RandomMixup()])
    image, label = MixedDataset(Numbers(), mix, seed=0)[7]
    assert label.classes.shape == (4,)
    torch.testing.assert_close((label.classes * label.weights).sum(), image[0])


def test_partners_are_drawn_for_each_sample_and_epoch():
    dataset = MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0)
    for epoch in range(2):
        pairs = enumerate(partners(dataset, epoch))
        steps = {(sum(classes) - 2 * i) % 48 for i, classes in pairs if len(classes) == 2}
        assert len(steps) > 20
    shares = []
    for epoch, i in ((0, 0), (0, 1), (1, 0)):
        dataset.set_epoch(epoch)
        shares.append(dataset[i][1][i].item())
    assert len(set(shares)) == 3


def test_samples_of_a_fixed_seed_never_change():
    rows = [(row, row) for row in torch.eye(5)]
    dataset = MixedDataset(rows, RandomMixup(alpha=0.4), seed=7)
    dataset.set_epoch(3)
    expected = torch.zeros(5, 5)
    for own, (partner, lam) in enumerate(
        [(3, 0.00112065), (2, 0.00032936), (3, 0.08385439), (4, 0.00346316), (3, 0.45069700)]
    ):
        expected[own, own], expected[own, partner] = lam, 1 - lam
    torch.testing.assert_close(torch.stack([row for row, _ in dataset]), expected)


def test_samples_that_are_mixtures():
    def sample(i):
        return torch.full((2,), float(i)), LabelMixture(torch.tensor([i]), torch.ones(1))

    samples = [sample(i) for i in range(3)]
    image, label = MixedDataset(samples, RandomMixup(), seed=0)[1]
    assert isinstance(label, LabelMixture)
    assert label.classes.shape == label.weights.shape == (2,)
    torch.testing.assert_close((label.weights * label.classes).sum(), image[0])


def test_a_function_may_be_the_transform():
    image, label = MixedDataset(Numbers(), lambda batch: batch, seed=0)[3]
    assert (image[0], label) == (3, 3)


def test_epochs_beyond_what_a_float_can_count():
    dataset = MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0)
    dataset.set_epoch(2**24 + 1)
    assert dataset.epoch == 2**24 + 1


def test_indices_from_the_end():
    dataset = MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0)
    assert torch.equal(dataset[-1][1], dataset[47][1])
    assert torch.equal(dataset[-48][1], dataset[0][1])
    for index in (48, -49):
        with pytest.raises(IndexError, match="index must lie"):
            dataset[index]


@pytest.mark.parametrize(
    "make", [torch.tensor, np.array, np.int32, lambda i: torch.tensor(i).int()]
)
def test_numbers_of_torch_and_numpy_are_indices(make):
    dataset = MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0)
    for i in (0, 3, 47, -1, -48):
        assert same(dataset[make(i)], dataset[i])
    with pytest.raises(IndexError, match=r"index must lie .* got 48"):
        dataset[make(48)]


def test_datasets_of_datasets():
    dataset = MixedDataset(Numbers(12), RandomMixup(num_classes=12), seed=0)
    order = torch.randperm(12)
    for i, sample in zip(order.tolist(), Subset(dataset, order), strict=True):
        assert same(sample, dataset[i])
    joined = ConcatDataset([dataset, dataset])
    assert torch.equal(joined[-1][1], dataset[11][1])
    inside = ConcatDataset([Numbers(5), Subset(Numbers(12), torch.arange(5, 12))])
    for i in range(12):
        sample = MixedDataset(inside, RandomMixup(num_classes=12), seed=0)[torch.tensor(i)]
        assert same(sample, dataset[i])


@pytest.mark.parametrize("index", [torch.tensor([3]), torch.tensor(True), torch.tensor(1.0), None])
def test_what_is_no_index(index):
    with pytest.raises(TypeError, match=r"^index must be an integer"):
        MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0)[index]


def test_a_dataset_may_grow_and_be_empty():
    samples = []
    dataset = MixedDataset(samples, RandomMixup(num_classes=4), seed=0)
    assert [*dataset] == []
    with pytest.raises(IndexError, match=r"index must lie .* got 0"):
        dataset[0]
    for i in range(4):
        samples.append((torch.full((2,), float(i)), i))
        assert len(dataset) == i + 1
        for image, label in dataset:
            torch.testing.assert_close(image[0], label @ torch.arange(4.0))


CLASS_INDICES = [int, np.int64, np.uint8, np.array, torch.tensor, lambda i: torch.tensor(i).short()]
TARGETS = [float, np.float32, np.float64, lambda i: np.array(i, np.float32), lambda i: i]


@pytest.mark.parametrize("own", CLASS_INDICES)
@pytest.mark.parametrize("other", CLASS_INDICES)
def test_classes_of_any_kind(own, other):
    samples = [(torch.zeros(2), own(0)), (torch.ones(2), other(1))]
    for image, label in MixedDataset(samples, RandomMixup(num_classes=2), seed=0):
        torch.testing.assert_close(label, torch.stack([1 - image[0], image[0]]))


@pytest.mark.parametrize("own", TARGETS[:4])
@pytest.mark.parametrize("other", TARGETS)
def test_numbers_of_any_kind(own, other):
    samples = [(torch.zeros(2), own(0)), (torch.ones(2), other(1))]
    mixed = [*MixedDataset(samples, RandomMixup(), seed=0)]
    assert len({label.dtype for _, label in mixed}) == 1
    for image, label in mixed:
        torch.testing.assert_close(label.float(), image[0])


def test_arrays_are_mixed_as_tensors_and_words_are_kept():
    samples = [(np.full((2, 3), i, np.float32), i, np.array("a"), {f"{i}"}) for i in range(3)]
    image, label, *rest = MixedDataset(samples, RandomMixup(num_classes=3), seed=0)[1]
    torch.testing.assert_close(image[0, 0], label @ torch.arange(3.0))
    assert rest == [np.array("a"), {"1"}]


def test_keys_may_come_in_any_order():
    samples = [{"image": torch.zeros(2), "label": 0}, {"label": 1, "image": torch.ones(2)}]
    for sample in MixedDataset(samples, RandomMixup(num_classes=2), seed=0):
        torch.testing.assert_close(sample["label"][1], sample["image"][0])


@pytest.mark.parametrize("kind", [UserDict, OrderedDict, MappingProxyType])
def test_samples_may_be_mappings_of_any_kind(kind):
    samples = [{"id": f"{i}", "image": torch.full((1, 2), i / 2), "label": i} for i in range(3)]
    mix = RandomMixup(num_classes=3)
    for own, sample in zip(
        MixedDataset([*map(kind, samples)], mix, seed=0),
        MixedDataset(samples, mix, seed=0),
        strict=True,
    ):
        assert type(own) is kind
        assert own["id"] == sample["id"]
        assert same(own["image"], sample["image"])
        assert same(own["label"], sample["label"])


def test_an_image_in_a_mapping_is_mixed_with_its_partner_and_not_with_itself():
    channels = torch.arange(3.0).view(3, 1, 1).expand(3, 4, 4)
    samples = [UserDict(image=channels), UserDict(image=channels)]
    for sample in MixedDataset(samples, RandomMixup(labels_getter=None), seed=0):
        assert same(sample["image"], channels)


@dataclass
class Scene:
    """A sample that checks itself, as no tree of positions could pass."""

    image: torch.Tensor
    label: torch.Tensor

    def __post_init__(self):
        if not isinstance(self.image, torch.Tensor) or not isinstance(self.label, torch.Tensor):
            raise TypeError("a scene is made of tensors")


class Keyless:
    """A container whose leaves have no names."""

    def __init__(self, *leaves):
        self.leaves = leaves


pytree.register_pytree_node(
    Scene, lambda scene: ([scene.image, scene.label], None), lambda leaves, _: Scene(*leaves)
)
pytree.register_pytree_node(
    Keyless, lambda value: ([*value.leaves], None), lambda leaves, _: Keyless(*leaves)
)


def test_samples_that_check_themselves_are_made_of_what_they_hold():
    samples = [Scene(torch.full((2,), float(i)), torch.eye(3)[i]) for i in range(3)]
    batch, stacked = stack(samples)
    assert type(batch) is Scene
    assert batch.image.shape == (3, 2)
    sample = first_sample(batch, stacked)
    assert same(sample, samples[0])


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(())


class Counted(Endless):
    def __len__(self):
        return 3


SEEDED = RandomMixup(generator=torch.Generator())
HOLDERS = {
    "Compose": lambda: v2.Compose([SEEDED]),
    "Compose of a tuple": lambda: v2.Compose((IDENTITY, SEEDED)),
    "Sequential": lambda: nn.Sequential(IDENTITY, SEEDED),
    "RandomApply": lambda: v2.RandomApply([SEEDED]),
    "RandomApply of modules": lambda: v2.RandomApply(nn.ModuleList([SEEDED])),
    "v2.RandomChoice": lambda: v2.RandomChoice([IDENTITY, SEEDED]),
    "RandomOrder": lambda: v2.RandomOrder([IDENTITY, SEEDED]),
    "RandomChoice": lambda: RandomChoice([RandomMixup(), SEEDED]),
    "nested": lambda: v2.Compose([v2.RandomApply([nn.Sequential(v2.RandomOrder([SEEDED]))])]),
    "module": lambda: Holding(),
}


class Holding(nn.Module):
    """Has a list, and a mixer beside it."""

    def __init__(self):
        super().__init__()
        self.transforms = [IDENTITY]
        self.mix = SEEDED


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_generator_is_found_wherever_it_is_held(holder):
    with pytest.raises(ValueError, match="RandomMixup must have generator=None"):
        MixedDataset(Numbers(), HOLDERS[holder](), seed=0)


@pytest.mark.parametrize("dataset", [Endless(), Counted(), Numbers])
def test_what_is_not_map_style(dataset):
    with pytest.raises(TypeError, match="dataset must be map-style"):
        MixedDataset(dataset, IDENTITY, seed=0)


def test_leaves_without_names_are_counted():
    samples = [Keyless(torch.rand(3), 1), Keyless(torch.rand(3), None)]
    with pytest.raises(ValueError, match=r"^\[1\] in .* int and NoneType"):
        MixedDataset(samples, RandomMixup(), seed=0)[0]


def test_a_transform_that_loses_leaves():
    mix = v2.Compose([RandomMixup(num_classes=48), lambda batch: batch[0]])
    with pytest.raises(ValueError, match="transform must return the leaves"):
        MixedDataset(Numbers(), mix, seed=0)[0]


# torchdata's loader touches a name that newer torch has deprecated.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_any_loader_can_stop_and_resume():
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    data = TensorDataset(torch.rand(20, 3), torch.arange(20))

    def batches():
        mixed = MixedDataset(data, RandomMixup(num_classes=20), seed=0)
        return stateful(mixed, batch_size=4, num_workers=1)

    whole = [images for images, _ in batches()]
    stopped = batches()
    iterator = iter(stopped)
    for _ in range(2):
        next(iterator)
    state = stopped.state_dict()
    resumed = batches()
    resumed.load_state_dict(state)
    assert same([images for images, _ in resumed], whole[2:])


# Threads


class Echo(Dataset):
    """Sample i is i, after another thread has had time to come between."""

    def __len__(self):
        return 64

    def __getitem__(self, i):
        time.sleep(1e-4)
        return torch.full((2,), float(i)), torch.eye(64)[i]


class Jitter(v2.Transform):
    """Somebody else's transform, which draws from the global stream twice."""

    def transform(self, inpt, params):
        first = torch.rand(())
        time.sleep(1e-4)
        return inpt + first + torch.rand(())


PIPELINES = {
    "mixer": lambda: RandomMixup(),
    "choice": lambda: RandomChoice([RandomMixup(), RandomMixup(alpha=0.2)], per_sample=True),
    "labels": lambda: v2.Compose([RandomMixup(), SampleLabels()]),
    "foreign first": lambda: v2.Compose([Jitter(), RandomMixup()]),
    "foreign last": lambda: torch.nn.Sequential(RandomMixup(), Jitter()),
    "function": lambda: lambda batch: Jitter()(RandomMixup()(batch)),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_samples_are_the_same_in_threads(name):
    dataset = MixedDataset(Echo(), PIPELINES[name](), seed=0)
    state = torch.get_rng_state()
    expected = [dataset[i] for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        drawn = [*pool.map(dataset.__getitem__, [*range(64)] * 2)]
    assert same(drawn, expected * 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_global_stream_is_left_alone_where_nobody_draws_from_it(monkeypatch):
    monkeypatch.setattr(streams, "globally_keyed", None)
    for name in ("mixer", "choice", "labels"):
        MixedDataset(Echo(), PIPELINES[name](), seed=0)[3]


def test_what_mixers_draw_is_not_what_others_draw():
    drawn = []

    class Watch(v2.Transform):
        def transform(self, inpt, params):
            drawn.append(torch.rand(4).tolist())
            return inpt

    class Own(RandomMixup):
        def draw(self, plan):
            drawn.append(torch.rand(4, generator=plan.generator).tolist())
            return super().draw(plan)

    pipeline = v2.Compose([Own(), Watch()])
    MixedDataset(Echo(), pipeline, seed=0)[3]
    assert len({number for numbers in drawn for number in numbers}) == 4 * len(drawn)


def test_a_mixer_of_ones_own_may_draw_from_the_global_stream():
    class Own(RandomMixup):
        def draw(self, plan):
            return plan.params(lam=torch.rand(plan.rows))

    first, second = (MixedDataset(Echo(), Own(), seed=0)[3] for _ in range(2))
    assert same(first, second)


def test_out_of_the_dataset_a_mixer_draws_from_the_global_stream_again():
    mix = RandomMixup()
    MixedDataset(Echo(), mix, seed=0)[3]
    assert mix.generator is None
    with pytest.raises(ValueError, match="one shape"):
        MixedDataset([(torch.rand(2), 0), (torch.rand(3), 1)], mix, seed=0)[0]
    assert mix.generator is None


def test_a_failing_transform_leaves_the_streams_as_they_were():
    mix, state = RandomMixup(), torch.get_rng_state()

    def fail(batch):
        raise RuntimeError(mix.generator)

    with pytest.raises(RuntimeError, match="Generator"):
        MixedDataset(Echo(), fail, seed=0)[3]
    assert mix.generator is None
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_has_an_epoch_of_its_own(make):
    dataset = MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0)
    dataset.set_epoch(3)
    twin = make(dataset)
    dataset.set_epoch(4)
    assert (dataset.epoch, twin.epoch) == (4, 3)
    twin.set_epoch(5)
    assert (dataset.epoch, twin.epoch) == (4, 5)


def test_seeds_and_epochs_of_64_bits():
    dataset = MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=2**64 - 1)
    dataset.set_epoch(2**63 - 1)
    assert dataset.epoch == 2**63 - 1
    assert dataset[0][1].sum() == 1


def test_a_dataset_made_in_inference_mode():
    with torch.inference_mode():
        dataset = MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0)
    dataset.set_epoch(1)
    expected = MixedDataset(Numbers(), RandomMixup(num_classes=48), seed=0)
    expected.set_epoch(1)
    assert torch.equal(dataset[3][1], expected[3][1])


# Batched fetches


class Batched(Numbers):
    """Reads a batch at once, and counts how often."""

    def __init__(self, size=48):
        super().__init__(size)
        self.reads = []

    def __getitems__(self, indices):
        self.reads.append(indices)
        return [self[i] for i in indices]


@given(
    st.integers(1, 48),
    st.lists(st.integers(0, 10**6), max_size=60),
    st.integers(0, 3),
    st.sampled_from([Numbers, Batched]),
)
def test_a_batch_is_the_samples_one_by_one(size, indices, epoch, make):
    dataset = MixedDataset(make(size), RandomMixup(num_classes=48), seed=0)
    dataset.set_epoch(epoch)
    indices = [i % (2 * size) - size for i in indices]
    drawn = dataset.__getitems__(indices)
    assert len(drawn) == len(indices)
    for i, sample in zip(indices, drawn, strict=True):
        assert all(map(torch.equal, sample, dataset[i]))


def test_a_batch_and_its_partners_are_read_at_once():
    inside = Batched()
    dataset = MixedDataset(inside, RandomMixup(num_classes=48), seed=0)
    batches = [*DataLoader(dataset, batch_size=16)]
    expected = [*DataLoader(MixedDataset(Numbers(), dataset.transform, seed=0), batch_size=16)]
    assert [len(indices) for indices in inside.reads] == [32, 32, 32]
    assert inside.reads[0][::2] == [*range(16)]
    for batch, other in zip(batches, expected, strict=True):
        assert all(map(torch.equal, batch, other))
    part = Subset(dataset, [3, 1])
    assert len(part.__getitems__([0, 1])) == 2
    assert inside.reads[3][::2] == [3, 1]


def test_what_has_no_batches_to_give_is_read_one_by_one():
    inside = Batched()
    inside.__getitems__ = None
    dataset = MixedDataset(inside, RandomMixup(num_classes=48), seed=0)
    assert len(dataset.__getitems__([2, 3])) == 2


def test_a_batch_of_bad_indices():
    dataset = MixedDataset(Batched(), RandomMixup(num_classes=48), seed=0)
    with pytest.raises(IndexError, match=r"index must lie in \[-48, 48\), got 48"):
        dataset.__getitems__([0, 48])
    assert dataset.dataset.reads == []


def test_a_dataset_that_loses_samples_of_a_batch():
    inside = Batched()
    inside.__getitems__ = lambda indices: [inside[i] for i in {*indices}]
    dataset = MixedDataset(inside, RandomMixup(num_classes=48), seed=0)
    with pytest.raises(ValueError, match=r"must return a sample for each index, got \d+ for 96"):
        dataset.__getitems__(range(48))
