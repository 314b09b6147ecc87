import PIL.Image
import pytest
import torch
from scipy import stats
from torch.utils.data import TensorDataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    LabelMixture,
    MixedDataset,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    RandomResizeMix,
    ToLabelMixture,
)
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


@pytest.mark.parametrize("make", [RandomMixup, RandomResizeMix])
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
        with pytest.raises(IndexError, match=r"index must lie in \[-48, 48\), got"):
            dataset[index]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((Endless(), IDENTITY, 0), TypeError, "must be map-style, with __len__ .* got Endless"),
        ((Numbers(), 3, 0), TypeError, "transform must be a mixer or a pipeline, got 3"),
        ((Numbers(), IDENTITY, 0.5), TypeError, "seed must be an integer, got 0.5"),
        ((Numbers(), IDENTITY, -1), ValueError, "seed must be at least 0, got -1"),
        ((Numbers(), IDENTITY, None), TypeError, "seed must be an integer, got None"),
        (
            (Numbers(), v2.Compose([IDENTITY, RandomMixup(generator=torch.Generator())]), 0),
            ValueError,
            "RandomMixup must have generator=None in a MixedDataset",
        ),
        (
            (Numbers(), RandomChoice([RandomMixup(generator=torch.Generator())]), 0),
            ValueError,
            "RandomMixup must have generator=None",
        ),
    ],
)
def test_bad_settings(arguments, error, message):
    dataset, transform, seed = arguments
    with pytest.raises(error, match=message):
        MixedDataset(dataset, transform, seed=seed)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (
            [(torch.rand(3, 4), 0), (torch.rand(3, 5), 1)],
            ValueError,
            r"^\[0\] in the dataset\'s samples must have one shape, got \(3, 4\) and \(3, 5\)",
        ),
        ([(torch.rand(3), 0), [torch.rand(3), 1]], ValueError, "must all have the same form"),
        ([(PIL.Image.new("L", (4, 4)), 0)] * 2, TypeError, r"PIL image; .*v2\.ToImage"),
    ],
)
def test_samples_that_cannot_be_mixed(samples, error, message):
    with pytest.raises(error, match=message):
        MixedDataset(samples, RandomMixup(num_classes=2), seed=0)[0]


def test_set_epoch_takes_numbers_from_0():
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        MixedDataset(Numbers(), IDENTITY, seed=0).set_epoch(-1)


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
    assert all(map(torch.equal, [images for images, _ in resumed], whole[2:]))
