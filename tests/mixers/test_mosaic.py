"""Mosaic: a sample and three partners around a centre, and what that asks of everything else."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader, IterableDataset
from torchvision import tv_tensors

from mixup_transforms import (
    LabelMixture,
    MixCollate,
    MixedDataset,
    MixedStream,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    ToLabelMixture,
)
from tests.accelerator import DEVICE, Accelerator
from tests.bits import same
from tests.paths import on_path
from tests.strategies import generator_of, seeds, soft_labels

SIZE = (6, 8)


def pictures(batch, size=SIZE):
    """Images of one colour each, so that their means tell the shares: i + 1 all over image i."""
    colours = torch.arange(1.0, batch + 1).view(-1, 1, 1, 1)
    return colours.expand(batch, 2, *size).contiguous()


def mosaic(images, i, partner, centre, canvas):
    """One mosaic, pixel by pixel."""
    x, y = centre
    out = np.zeros((*images[i].shape[:-2], *canvas), dtype=images[i].numpy().dtype)
    for row in range(canvas[0]):
        for column in range(canvas[1]):
            right, below = column >= x, row >= y
            image = images[[i, *partner][right + 2 * below]].numpy()
            height, width = image.shape[-2:]
            from_row = row - y + (0 if below else height)
            from_column = column - x + (0 if right else width)
            if 0 <= from_row < height and 0 <= from_column < width:
                out[..., row, column] = image[..., from_row, from_column]
    return torch.from_numpy(out)


def given_params(batch, canvas, *, seed=0):
    generator = generator_of(seed)
    partner = torch.randint(batch, (batch, 3), generator=generator)
    height, width = canvas
    x = torch.randint(width + 1, (batch,), generator=generator)
    y = torch.randint(height, (batch,), generator=generator)  # never the far corner
    return {"partner": partner, "centre": torch.stack((x, y), 1)}


def assert_mosaics(params, images, mixed, canvas):
    for i, (partner, centre) in enumerate(
        zip(params["partner"].tolist(), params["centre"].tolist(), strict=True)
    ):
        assert torch.equal(mixed[i], mosaic(images, i, partner, centre, canvas)), f"sample {i}"


# Partners


@pytest.mark.parametrize("batch", [4, 5, 8])
@given(seed=seeds)
def test_partners_are_the_next_three_along_one_cycle(batch, seed):
    params = RandomMosaic(generator=generator_of(seed)).make_params([torch.zeros(batch, 1, *SIZE)])
    first, second, third = params["partner"].T
    walked, i = [], 0
    for _ in range(batch):
        walked.append(i)
        i = first[i].item()
    assert sorted(walked) == [*range(batch)]
    assert torch.equal(second, first[first])
    assert torch.equal(third, first[second])
    parents = torch.cat((torch.arange(batch).unsqueeze(1), params["partner"]), 1)
    assert all(len({*row}) == 4 for row in parents.tolist())


def test_of_fewer_than_four_samples_some_repeat():
    two = RandomMosaic().make_params([torch.zeros(2, 1, *SIZE)])["partner"]
    assert two.tolist() == [[1, 0, 1], [0, 1, 0]]
    three = RandomMosaic().make_params([torch.zeros(3, 1, *SIZE)])["partner"]
    assert all({*row[:2]} | {i} == {0, 1, 2} for i, row in enumerate(three.tolist()))
    assert three[:, 2].tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", [None, (12, 16)])
@pytest.mark.parametrize("batch", [0, 1])
def test_nobody_and_one_alone_stay_as_they_are(batch, size):
    x, labels = torch.rand(batch, 3, *SIZE), soft_labels(batch)
    params = RandomMosaic(size=size).make_params([x])
    assert params["partner"].shape == (batch, 3)
    assert params["share"].tolist() == [[1, 0, 0, 0]] * batch
    assert params["lam"].tolist() == [1] * batch
    mixed, mixed_labels = RandomMosaic(size=size)(x, labels)
    assert same(mixed, x) or (batch == 0 and mixed.shape[:2] == x.shape[:2])
    assert same(mixed_labels, labels)


def test_a_pairing_is_asked_three_times_and_shows_what_it_gets():
    asked = []

    def rule(batch, *, labels, generator):
        asked.append(labels)
        return torch.tensor([[1, 0, 2], [1, 1, 1], [0, 1, 2]][len(asked) - 1])

    x, labels = pictures(3), torch.eye(3)
    mix = RandomMosaic(centre=(0.5, 0.5), pairing=rule)
    mixed, soft = mix(x, labels)
    assert len(asked) == 3
    assert all(each is labels for each in asked)
    partner = torch.tensor([[1, 1, 0], [0, 1, 1], [2, 1, 2]])
    assert_mosaics({"partner": partner, "centre": torch.tensor([[4, 3]] * 3)}, x, mixed, SIZE)
    # One's own image may be a partner's too, and nobody is alone.
    assert soft.tolist() == [[0.5, 0.5, 0], [0.25, 0.75, 0], [0, 0.25, 0.75]]


# Geometry


@pytest.mark.parametrize("span", [(0.25, 0.75), (0, 1), (0.5, 0.5), (0.1, 0.4)])
def test_the_centre_is_uniform_in_its_span(span):
    height, width = 400, 1000
    mix = RandomMosaic(centre=span, generator=generator_of(0))
    params = mix.make_params([torch.zeros(1).expand(20_000, 1, height, width)])
    for drawn, length in zip(params["centre"].double().T, (width, height), strict=True):
        low, high = (end * length for end in span)
        assert low - 0.5 <= drawn.min() <= drawn.max() <= high + 0.5
        if low < high:
            # Within the pixel that it was rounded to it may lie anywhere.
            spread = drawn + torch.rand(len(drawn), dtype=torch.float64) - 0.5
            shape = stats.uniform(low, high - low)
            assert stats.kstest(spread.numpy(), shape.cdf).statistic < 0.015
    x, y = params["centre"].double().T
    if span[0] < span[1]:
        assert abs(np.corrcoef(x, y)[0, 1]) < 0.03


@pytest.mark.parametrize("size", [None, (12, 16), (7, 5), (1, 1), (40, 3)])
@given(batch=st.integers(1, 6), seed=seeds)
def test_every_pixel_is_where_the_definition_puts_it(size, batch, seed):
    x = torch.rand(batch, 2, *SIZE, generator=generator_of(seed))
    canvas = size or SIZE
    params = given_params(batch, canvas, seed=seed)
    mixed, _ = RandomMosaic(size=size).replay(params, x, soft_labels(batch))
    assert_mosaics(params, x, mixed, canvas)


@pytest.mark.parametrize("size", [None, (12, 16), (7, 5), (1, 1), (40, 3)])
@given(batch=st.integers(1, 6), seed=seeds)
def test_shares_are_those_of_the_pixels_that_somebody_covers(size, batch, seed):
    canvas = size or SIZE
    params = given_params(batch, canvas, seed=seed)
    mixed, soft = RandomMosaic(size=size).replay(params, pictures(batch), torch.eye(batch))
    for i in range(batch):
        colours = mixed[i, 0].flatten().long()
        shown = colours[colours > 0]
        expected = shown.bincount(minlength=batch + 1)[1:] / len(shown)
        torch.testing.assert_close(soft[i], expected.float())


def test_a_canvas_twice_as_large_holds_all_of_everybody_at_its_middle():
    x = torch.rand(4, 3, *SIZE)
    mix = RandomMosaic(centre=(0.5, 0.5), size=(12, 16), num_classes=4)
    mixed, labels = mix(x, torch.arange(4))
    assert mixed.shape == (4, 3, 12, 16)
    assert torch.equal(mixed[:, :, :6, :8], x)
    assert labels.tolist() == [[0.25] * 4] * 4


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_is_kept_on_another_canvas(layout, path):
    x = torch.rand(4, 3, *SIZE).contiguous(memory_format=layout)
    mixed, _ = RandomMosaic(size=(7, 9))(x, soft_labels(4))
    assert mixed.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("shape", [(5, 6, 8), (5, 2, 3, 6, 8)])
def test_whatever_lies_before_height_and_width_is_mixed_alike(shape, path):
    x = torch.rand(shape)
    params = given_params(5, (7, 9))
    mixed, _ = RandomMosaic(size=(7, 9)).replay(params, x, soft_labels(5))
    assert_mosaics(params, x, mixed, (7, 9))


@pytest.mark.parametrize("size", [None, (7, 9)])
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.complex64, torch.float16, torch.uint8, torch.uint16, torch.int64]
)
def test_it_copies_pixels_of_every_dtype(dtype, size, path):
    x = (torch.rand(5, 2, *SIZE) * 2).to(dtype)
    params = given_params(5, size or SIZE)
    mixed, _ = RandomMosaic(size=size).replay(params, x, soft_labels(5))
    assert mixed.dtype == dtype
    assert_mosaics(params, x, mixed, size or SIZE)


# Gates


@pytest.mark.parametrize("per_sample", [False, True])
def test_who_is_not_mixed_keeps_every_bit_of_image_and_label(per_sample):
    x, labels = torch.rand(64, 2, *SIZE), torch.randn(64, 3)
    x[::2], labels[::2] = -0.0, -0.0
    mix = RandomMosaic(p=0.5, per_sample=per_sample, generator=generator_of(3))
    seen = set()
    for _ in range(8):
        params = mix.make_params([x])
        mixed, soft = mix.replay(params, x, labels)
        off = params["lam"] == 1
        seen |= {*off.tolist()}
        assert per_sample or len({*off.tolist()}) == 1
        assert (params["centre"][off] == torch.tensor([8, 6])).all()
        assert same(mixed[off], x[off])
        assert same(soft[off], labels[off])
    assert seen == {False, True}


def test_without_mixing_a_stack_keeps_its_size_whatever_the_canvas():
    x, labels = torch.rand(4, 3, *SIZE), soft_labels(4)
    for inplace in (False, True):
        mix = RandomMosaic(size=(12, 16), p=0, inplace=inplace)
        mixed, soft = mix(x, labels)
        assert same((mixed, soft), (x, labels))
        assert (mixed is x) == inplace
    assert RandomMosaic(size=(12, 16)).eval()(x, labels)[0] is x


def test_a_whole_batch_is_gated_where_a_stack_gets_another_size():
    x, labels = torch.rand(4, 3, *SIZE), soft_labels(4)
    mix = RandomMosaic(size=(12, 16), p=0.5, per_sample=False, generator=generator_of(0))
    sizes = {tuple(mix(x, labels)[0].shape[-2:]) for _ in range(20)}
    assert sizes == {SIZE, (12, 16)}


def test_a_stack_cannot_hold_two_sizes():
    x, labels = torch.rand(4, 3, *SIZE), soft_labels(4)
    words = r"RandomMosaic makes images of another size than \(6, 8\), so that a stack"
    mix = RandomMosaic(size=(12, 16), p=0.5)
    before = mix.generator
    with pytest.raises(ValueError, match=words):
        mix(x, labels)
    assert mix.generator is before
    assert RandomMosaic(size=SIZE, p=0.5)(x, labels)[0].shape == x.shape
    params = given_params(4, (12, 16))
    params["centre"][1] = torch.tensor([16, 12])
    with pytest.raises(ValueError, match=r"size \(12, 16\) gives mixed images another size"):
        RandomMosaic(size=(12, 16)).replay(params, x, labels)


def test_a_list_may_hold_two_sizes():
    images = [torch.rand(3, *SIZE) for _ in range(16)]
    mix = RandomMosaic(size=(12, 16), p=0.5, generator=generator_of(0))
    mixed, _ = mix(images, [{"image_id": i} for i in range(16)])
    assert {tuple(image.shape[-2:]) for image in mixed} == {SIZE, (12, 16)}
    for image, own in zip(mixed, images, strict=True):
        assert image.shape != own.shape or torch.equal(image, own)


@pytest.mark.parametrize("listed", [False, True])
def test_a_centre_drawn_on_the_far_corner_mixes_all_the_same(listed):
    x = torch.rand(4, 3, *SIZE)
    mix = RandomMosaic(centre=(1, 1), size=(12, 16))
    if listed:
        mixed, _ = mix([*x], [{"image_id": i} for i in range(4)])
    else:
        mixed, _ = mix(x, soft_labels(4))
    assert all(image.shape == (3, 12, 16) for image in mixed)


# Labels, masks


FORMS = {
    "class indices": torch.tensor([0, 3, 1, 2, 2]),
    "one-hot": torch.eye(4)[[0, 3, 1, 2, 2]],
    "half precision": torch.eye(4)[[0, 3, 1, 2, 2]].half(),
    "numbers": torch.randn(5),
    "positions": torch.rand(5, 4, 3),
}


@pytest.mark.parametrize("labels", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("second", [False, True], ids=["a batch", "between two"])
def test_labels_weigh_as_the_four_shares(labels, second):
    x, other = torch.rand(2, 5, 3, *SIZE)
    mix = RandomMosaic(num_classes=4 if "int" in str(labels.dtype) else None)
    mix.num_classes = mix.num_classes if labels.dtype == torch.int64 else None
    dense = torch.eye(4)[labels] if labels.dtype == torch.int64 else labels.float()
    params = RandomMosaic(generator=generator_of(4)).make_params([x])
    if second:
        twin = RandomMosaic(num_classes=mix.num_classes, generator=generator_of(4))
        _, soft = twin.between((x, labels), (other, labels.flip(0)))
        pool, partner = dense.flip(0), along_second_batch(5, generator_of(4))
        centre = centres_of(4, 5)
    else:
        _, soft = mix.replay(params, x, labels)
        pool, partner, centre = dense, params["partner"], params["centre"]
    assert soft.dtype == torch.float32
    height, width = SIZE
    for i, (cx, cy) in enumerate(centre.tolist()):
        shares = [cx * cy, (width - cx) * cy, cx * (height - cy), (width - cx) * (height - cy)]
        parents = [dense[i], *pool[partner[i]]]
        expected = sum(
            share / (height * width) * label for share, label in zip(shares, parents, strict=True)
        )
        torch.testing.assert_close(soft[i], expected)


def along_second_batch(batch, generator):
    cycle = RandomMixup(generator=generator).make_params([torch.zeros(batch, 1)])["partner"]
    return torch.stack((torch.arange(batch), cycle, cycle[cycle]), 1)


def centres_of(seed, batch):
    return RandomMosaic(generator=generator_of(seed)).make_params([torch.zeros(batch, 1, *SIZE)])[
        "centre"
    ]


def test_a_mixture_grows_to_four_times_its_classes():
    classes, weights = torch.arange(12).view(4, 3) % 5, soft_labels(4, 3)
    given, mix = LabelMixture(classes, weights), RandomMosaic(generator=generator_of(0))
    params = mix.make_params([torch.zeros(4, 1, *SIZE)])
    x = torch.rand(4, 3, *SIZE)
    _, mixed = mix.replay(params, x, given)
    assert isinstance(mixed, LabelMixture)
    assert mixed.classes.shape == mixed.weights.shape == (4, 12)
    _, dense = mix.replay(params, x, given.dense(5))
    torch.testing.assert_close(mixed.dense(5), dense)
    _, again = mix.replay(params, x, mixed)
    assert again.classes.shape == (4, 48)
    assert same(given, LabelMixture(classes, weights))


def test_masks_and_soft_maps_go_with_the_pixels():
    x = torch.randint(5, (4, 1, *SIZE))
    params = given_params(4, (7, 9))
    mix = RandomMosaic(size=(7, 9))
    batch = {"image": tv_tensors.Image(x), "mask": tv_tensors.Mask(x[:, 0])}
    mixed = mix.replay(params, batch)
    assert type(mixed["mask"]) is tv_tensors.Mask
    assert mixed["mask"].dtype == torch.int64
    assert torch.equal(mixed["mask"].as_subclass(torch.Tensor), mixed["image"][:, 0])
    soft = torch.rand(4, 5, *SIZE).half()
    _, mixed_soft = mix.replay(params, x.float(), soft)
    assert mixed_soft.dtype == torch.float32
    assert_mosaics(params, soft.float(), mixed_soft, (7, 9))


def test_a_label_without_a_share_may_be_nan():
    x, labels = torch.rand(4, 3, *SIZE), torch.eye(4)
    labels[3] = torch.nan
    params = {"partner": torch.tensor([[1, 2, 3]] * 4), "centre": torch.tensor([[4, 6]] * 4)}
    _, soft = RandomMosaic().replay(params, x, labels)
    assert soft[:2].tolist() == [[0.5, 0.5, 0, 0], [0, 1, 0, 0]]
    assert soft[3].isnan().any()


# Params


def test_params_may_be_given_by_hand_and_only_the_centre_counts():
    x, labels = pictures(4), torch.eye(4)
    params = {
        "partner": torch.tensor([[1, 2, 3], [2, 3, 0], [3, 0, 1], [0, 1, 2]], dtype=torch.int32),
        "centre": torch.tensor([[4, 3], [0, 0], [8, 0], [8, 6]], dtype=torch.uint8),
        "lam": torch.zeros(4),
        "share": torch.zeros(4, 4),
    }
    mixed, soft = RandomMosaic().eval().replay(params, x, labels)
    assert_mosaics(params, x, mixed, SIZE)
    assert soft.tolist() == [[0.25] * 4, [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]


PAIR = {"partner": torch.tensor([[1, 0, 1], [0, 1, 0]]), "centre": torch.tensor([[4, 3], [2, 2]])}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"partner": torch.tensor([1, 0])}, ValueError, r"partner must have shape \(2, 3\)"),
        ({"partner": torch.tensor([[1, 0, 2]] * 2)}, ValueError, r"in \[0, 2\), got 2"),
        ({"partner": torch.tensor([[1, 0, -1]] * 2)}, ValueError, r"in \[0, 2\), got -1"),
        ({"partner": torch.rand(2, 3)}, TypeError, "partner must hold integer indices"),
        ({"centre": torch.tensor([[4, 3]])}, ValueError, r"centre must have shape \(2, 2\)"),
        ({"centre": torch.tensor([4, 3])}, ValueError, r"centre must have shape \(2, 2\)"),
        ({"centre": torch.tensor([[4, 3], [9, 3]])}, ValueError, r"got \[9, 3\] for sample 1"),
        ({"centre": torch.tensor([[4, 7], [9, 3]])}, ValueError, r"got \[4, 7\] for sample 0"),
        ({"centre": torch.tensor([[4, 3], [-1, 3]])}, ValueError, r"got \[-1, 3\] for sample 1"),
        ({"centre": torch.tensor([[4, 3], [1, -3]])}, ValueError, r"got \[1, -3\] for sample 1"),
        ({"centre": torch.rand(2, 2)}, TypeError, "centre must hold integer pixels"),
        ({"centre": [[4, 3], [2, 2]]}, TypeError, "centre must be a tensor"),
        ({"centre": None}, TypeError, "centre must be a tensor"),
    ],
)
def test_wrong_params_are_named_and_nothing_is_written(changed, error, message):
    x, labels = torch.rand(2, 3, *SIZE), torch.eye(2)
    before = x.clone()
    choosing = RandomChoice([RandomMosaic(inplace=True)])
    for mix in (RandomMosaic(inplace=True), choosing):
        choice = {"choice": torch.zeros(2, dtype=torch.int64)}
        # A choice looks at the number of rows before it knows whose they are.
        words = f"{message}|must have one row for each" if mix is choosing else message
        with pytest.raises(error, match=words):
            mix.replay({**PAIR, **choice, **changed}, x, labels)
        assert same((x, labels), (before, torch.eye(2)))
    without = {name: value for name, value in PAIR.items() if name not in changed}
    with pytest.raises(ValueError, match=f"params must have '{next(iter(changed))}'"):
        RandomMosaic().replay(without, x, labels)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"centre": 0.5}, TypeError, r"centre must be a pair \(low, high\), got 0.5"),
        ({"centre": (0.2, 0.5, 0.7)}, TypeError, r"centre must be a pair"),
        ({"centre": ("a", 1)}, TypeError, "centre must be a number"),
        ({"centre": (-0.1, 1)}, ValueError, r"centre must lie in \[0, 1\], got -0.1"),
        ({"centre": (0, 1.1)}, ValueError, r"centre must lie in \[0, 1\], got 1.1"),
        ({"centre": (0.7, 0.3)}, ValueError, "with 0 ≤ low ≤ high ≤ 1"),
        ({"centre": (0, float("nan"))}, ValueError, "centre must be finite"),
        ({"size": 224}, TypeError, r"size must be a pair \(height, width\) or None, got 224"),
        ({"size": (224,)}, TypeError, "size must be a pair"),
        ({"size": (0, 5)}, ValueError, r"a pair \(height, width\) .* at least 1, got \(0, 5\)"),
        ({"size": (5, 5.0)}, TypeError, r"a pair \(height, width\) of integers .*, got \(5, 5.0\)"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        RandomMosaic(**settings)
    mix, (name, value) = RandomMosaic(), *settings.items()
    before = repr(mix)
    with pytest.raises(error, match=message):
        setattr(mix, name, value)
    assert repr(mix) == before


def test_repr():
    assert repr(RandomMosaic(size=[2, 3], centre=[0, 1])) == (
        "RandomMosaic(centre=(0.0, 1.0), size=(2, 3), p=1.0, num_classes=None, per_sample=True, "
        "pairing=None, inplace=False, generator=None, images_getter='default', "
        "labels_getter='default')"
    )


# A second batch


def test_of_a_second_batch_the_first_partner_is_the_sample_in_ones_place():
    own, other = pictures(5), -pictures(5)
    mix = RandomMosaic(centre=(0.5, 0.5), generator=generator_of(2))
    before = other.clone()
    mixed, soft = mix.between((own, torch.eye(5)), (other, torch.eye(5)))
    assert torch.equal(other, before)
    cycle = along_second_batch(5, generator_of(2))
    for i, (first, second, third) in enumerate(cycle.tolist()):
        corners = mixed[i, 0, [0, 0, -1, -1], [0, -1, 0, -1]].tolist()
        assert corners == [i + 1.0, -first - 1.0, -second - 1.0, -third - 1.0]
        assert first == i
        expected = torch.zeros(5)
        for k in (i, first, second, third):
            expected[k] += 0.25
        assert torch.equal(soft[i], expected)


@pytest.mark.parametrize("batch", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [None, (12, 16)])
def test_second_batches_of_few(batch, size):
    own, other = torch.rand(2, batch, 3, *SIZE)
    first, second = (own, soft_labels(batch)), (other, soft_labels(batch, seed=1))
    mixed, soft = RandomMosaic(size=size).between(first, second)
    assert mixed.shape == (batch, 3, *(size if size and batch else SIZE))
    assert soft.shape == (batch, 4)


# In place


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
@given(seed=seeds)
def test_in_place_all_see_each_other_as_they_were(batch, path, seed):
    x, labels = torch.rand(batch, 2, *SIZE, generator=generator_of(seed)), soft_labels(batch)
    params = given_params(batch, SIZE, seed=seed)  # any partners, oneself too
    before = x.clone()
    mixed, soft = RandomMosaic(inplace=True).replay(params, x, labels)
    assert mixed is x
    assert soft is labels
    assert_mosaics(params, before, x, SIZE)


def test_on_another_canvas_nothing_is_written_in_place(path):
    x, masks = torch.rand(4, 2, *SIZE), torch.randint(9, (4, *SIZE))
    batch = {"image": x, "mask": tv_tensors.Mask(masks), "label": soft_labels(4)}
    kept, labels = x.clone(), batch["label"]
    params = given_params(4, (12, 16))
    mixed = RandomMosaic(size=(12, 16), inplace=True).replay(params, batch)
    assert_mosaics(params, kept, mixed["image"], (12, 16))
    assert_mosaics(params, masks, mixed["mask"].as_subclass(torch.Tensor), (12, 16))
    assert torch.equal(x, kept)
    assert mixed["label"] is labels


def test_in_place_along_a_cycle_few_samples_are_kept_aside(monkeypatch):
    x = torch.rand(64, 2, *SIZE)
    params = RandomMosaic(generator=generator_of(0)).make_params([x])
    alive, most = set(), [0]
    clone = torch.Tensor.clone

    class Kept:
        def __init__(self, number):
            self.number = number

        def __del__(self):
            alive.discard(self.number)

    def counted(tensor, **options):
        assert tensor.numel() < x.numel()
        made = clone(tensor, **options)
        made.kept = Kept(len(alive) and max(alive) + 1)
        alive.add(made.kept.number)
        most[0] = max(most[0], len(alive))
        return made

    monkeypatch.setattr(torch.Tensor, "clone", counted)
    with on_path("by sample"):  # of torch's tensors, whose copies can be counted
        RandomMosaic(inplace=True).apply(x, params, inplace=True)
    assert 0 < most[0] <= 5


@given(seed=seeds, shift=st.integers(-2, 2), inplace=st.booleans())
def test_partners_may_lie_in_the_memory_that_is_written(path, seed, shift, inplace):
    buffer = torch.rand(8, 2, *SIZE, generator=generator_of(seed))
    own, others = buffer[2:6], buffer[2 + shift : 6 + shift]
    params = given_params(4, SIZE, seed=seed)
    mix = RandomMosaic()
    expected = mix.apply(own.clone(), params, others=others.clone())
    mixed = mix.apply(own, params, others=others, inplace=inplace)
    assert same(mixed, expected)


# In a choice


def members(**settings):
    return [
        RandomMixup(**settings),
        RandomCutMix(**settings),
        RandomResizeMix(**settings),
        RandomMosaic(**settings),
    ]


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_choice_beside_mixers_of_one_partner(per_sample):
    x, labels = torch.rand(64, 3, *SIZE), soft_labels(64)
    mix = RandomChoice(members(), per_sample=per_sample, generator=generator_of(0))
    chosen = set()
    for _ in range(6):
        params = mix.make_params([x])
        chosen |= {*params["choice"].tolist()}
        assert params["partner"].shape == (64, 3)
        assert params["share"].shape == (64, 4)
        torch.testing.assert_close(params["share"].sum(1), torch.ones(64))
        assert torch.equal(params["share"][:, 0], params["lam"])
        mixed, soft = mix.replay(params, x, labels)
        for k, mixer in enumerate(mix.transforms):
            rows = params["choice"] == k
            if not rows.any():
                continue
            few = params["partner"] if mixer.partners == 3 else params["partner"][:, 0]
            geometry = {name: v for name, v in params.items() if name not in ("choice", "share")}
            alone, alone_labels = mixer.replay({**geometry, "partner": few}, x, labels)
            assert same(mixed[rows], alone[rows])
            torch.testing.assert_close(soft[rows], alone_labels[rows])
            if mixer.partners == 1:
                assert not params["share"][rows][:, 2:].any()
    assert chosen == {0, 1, 2, 3}


@pytest.mark.parametrize("per_sample", [False, True])
def test_mixtures_of_a_choice_are_padded_with_nothing(per_sample):
    x, given = ToLabelMixture()(torch.rand(16, 3, *SIZE), torch.arange(16) % 5)
    mix = RandomChoice(members(), per_sample=per_sample, generator=generator_of(0))
    for _ in range(6):
        params = mix.make_params([x])
        _, mixed = mix.replay(params, x, given)
        assert mixed.classes.shape == (16, 4)
        _, dense = mix.replay(params, x, given.dense(5))
        torch.testing.assert_close(mixed.dense(5), dense)
        few = params["choice"] < 3
        assert not mixed.weights[few][:, 2:].any()


def test_in_a_choice_who_is_alone_stays_under_mixers_of_one_partner():
    def rule(batch, *, labels, generator):
        return torch.tensor([0, 2, 1, 3] * 16) + torch.arange(64) // 4 * 4

    x, labels = torch.rand(64, 3, *SIZE), soft_labels(64)
    mix = RandomChoice(members(pairing=rule), per_sample=True, generator=generator_of(0))
    params = mix.make_params([x, labels])
    mixed, soft = mix.replay(params, x, labels)
    alone = params["partner"][:, 0] == torch.arange(64)
    few = params["choice"] < 3
    assert (params["lam"][alone & few] == 1).all()
    assert same(mixed[alone & few], x[alone & few])
    assert same(soft[alone & few], labels[alone & few])
    assert (params["lam"][alone & ~few] < 1).all()
    assert (params["lam"][~alone] < 1).any()


@pytest.mark.parametrize("inplace", [False, True])
def test_a_choice_of_two_mosaics_on_a_larger_canvas(inplace):
    x, labels = torch.rand(16, 3, *SIZE), soft_labels(16)
    mixers = [
        RandomMosaic(size=(12, 16), centre=centre, inplace=inplace)
        for centre in ((0.25, 0.25), (0.75, 0.75))
    ]
    before = x.clone()
    mix = RandomChoice(mixers, per_sample=True, generator=generator_of(0))
    params = mix.make_params([x])
    assert len({*params["choice"].tolist()}) == 2
    mixed, _ = mix.replay(params, x, labels.clone())
    assert_mosaics(params, before, mixed, (12, 16))
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("settings", "takes"),
    [
        ([{"size": (12, 16)}, {"size": (12, 16)}], True),
        ([{"size": (12, 16)}, {}], False),
        ([{"size": SIZE}, {}], True),
        ([{"size": (12, 16), "p": 0.5}, {"size": (12, 16)}], False),
        ([{"size": (12, 16), "p": 0.5, "per_sample": False}, {"size": (12, 16)}], False),
        ([{"size": (12, 16), "p": 0}, {"size": (12, 16)}], False),
        ([{"size": (12, 16), "p": 0}, {"size": (7, 9), "p": 0}], True),
    ],
)
def test_a_choice_for_each_sample_of_a_stack_takes_one_canvas(settings, takes):
    x, labels = torch.rand(32, 3, *SIZE), soft_labels(32)
    mixers = [RandomMosaic(**each) for each in settings]
    mix = RandomChoice(mixers, per_sample=True, generator=generator_of(0))
    if takes:
        assert len({image.shape for image in mix(x, labels)[0]}) == 1
    else:
        with pytest.raises(ValueError, match="a stack cannot hold them"):
            mix(x, labels)
    whole = RandomChoice(mixers, generator=generator_of(0))
    if all(each.get("p", 1) in (0, 1) or not each.get("per_sample", True) for each in settings):
        for _ in range(6):
            assert len({image.shape for image in whole(x, labels)[0]}) == 1


def test_labels_of_whole_images_take_the_realised_share_in_a_choice_too():
    images = [torch.rand(1, 4, 4), torch.rand(1, 4, 8), torch.rand(1, 2, 2)]
    targets = [{"image_id": i} for i in range(3)]
    batch = {"image": images, "target": targets, "label": torch.eye(3)}
    params = {
        "choice": torch.zeros(3, dtype=torch.int64),
        "partner": torch.tensor([[1, 0, 0], [2, 0, 0], [0, 1, 1]]),
        "lam": torch.tensor([0.5, 0.25, 0.0]),
    }
    mixed = RandomChoice([RandomMixup(), RandomMosaic()]).replay(params, batch)
    # Half of 16 pixels of 32; all of 32 but three quarters of four; nothing of 16 but ...
    expected = RandomMixup().replay({**params, "partner": params["partner"][:, 0]}, batch)
    torch.testing.assert_close(mixed["label"], expected["label"])
    torch.testing.assert_close(mixed["label"][0], torch.tensor([0.25, 0.75, 0]))


# Datasets, streams, loaders


SAMPLES = [(torch.full((1, 4, 4), float(i)), i) for i in range(10)]


class Counting:
    """A dataset that says what was asked of it."""

    def __init__(self, samples):
        self.samples, self.asked = samples, []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.samples[i]


def test_a_dataset_loads_three_different_partners_for_each_sample():
    source = Counting(SAMPLES)
    mixed = MixedDataset(source, RandomMosaic(num_classes=10, centre=(0.5, 0.5)), seed=3)
    partners = set()
    for epoch in range(20):
        mixed.set_epoch(epoch)
        for i in range(10):
            source.asked.clear()
            image, label = mixed[i]
            own, *rest = source.asked
            assert own == i
            assert len({own, *rest}) == 4
            partners.add((i, frozenset(rest)))
            # Shown in some order, each where its label says.
            assert image[0, 0, 0] == i
            assert {*image.flatten().long().tolist()} == {*source.asked}
            assert label[source.asked].tolist() == [0.25] * 4
            assert same(mixed[i], (image, label))
    assert len(partners) > 150


def test_a_dataset_mixes_as_many_as_it_has():
    for count in (1, 2, 3):
        mixed = MixedDataset(SAMPLES[:count], RandomMosaic(num_classes=10), seed=0)
        image, label = mixed[0]
        assert label.sum().item() == pytest.approx(1)
        assert {*image.flatten().long().tolist()} <= {*range(count)}
        assert count > 1 or torch.equal(image, SAMPLES[0][0])


def test_a_dataset_of_a_choice_loads_for_whoever_wants_most():
    source = Counting(SAMPLES)
    transform = RandomChoice([RandomMixup(num_classes=10), RandomMosaic(num_classes=10)])
    mixed = MixedDataset(source, transform, seed=3)
    image, label = mixed[4]
    assert len(source.asked) == 4
    assert (image.shape, label.shape) == ((1, 4, 4), (10,))


@pytest.mark.parametrize("size", [(8, 8), (3, 5)])
def test_a_dataset_of_mosaics_on_another_canvas(size):
    mixed = MixedDataset(SAMPLES, RandomMosaic(num_classes=10, size=size), seed=3)
    images, _ = next(iter(DataLoader(mixed, batch_size=10)))
    assert images.shape == (10, 1, *size)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(SAMPLES)


def test_a_stream_mixes_with_three_that_came_before():
    def stream():
        transform = RandomMosaic(num_classes=10, centre=(0.5, 0.5))
        return [*MixedStream(Stream(), transform, seed=5, buffer=4)]

    mixed = stream()
    assert same(mixed, stream())
    assert torch.equal(mixed[0][0], SAMPLES[0][0])
    for i, (image, label) in enumerate(mixed):
        shown = {*image.flatten().long().tolist()}
        assert i in shown
        assert shown <= {*range(max(0, i - 4), i + 1)}
        assert len(shown) == min(4, i + 1)
        assert label[i] > 0
        assert label.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("size", [None, (160, 128)])
def test_a_loader_stacks_and_mixes_large_samples(workers, size):
    samples = [(torch.rand(3, 128, 96), i) for i in range(8)]
    mix = RandomMosaic(num_classes=8, size=size, inplace=True, generator=generator_of(0))
    loader = DataLoader(samples, 4, collate_fn=MixCollate(mix), num_workers=workers)
    for images, labels in loader:
        assert images.shape == (4, 3, *(size or (128, 96)))
        torch.testing.assert_close(labels.sum(1), torch.ones(4))
    if workers == 0:
        plain = RandomMosaic(num_classes=8, size=size, generator=generator_of(0))
        batches = DataLoader(samples, 4)
        expected = [plain(*batch) for batch in batches]
        mix = RandomMosaic(num_classes=8, size=size, inplace=True, generator=generator_of(0))
        assert same([*DataLoader(samples, 4, collate_fn=MixCollate(mix))], expected)


# Elsewhere


@pytest.mark.parametrize("size", [None, (12, 16)])
def test_a_pickled_twin_goes_on_alike(size):
    x, labels = torch.rand(5, 3, *SIZE), torch.arange(5)
    mix = RandomMosaic(size=size, num_classes=5, generator=generator_of(0))
    mix(x, labels)
    twin = pickle.loads(pickle.dumps(mix))
    assert same(mix(x, labels), twin(x, labels))


@pytest.mark.parametrize("size", [None, (12, 16)])
@pytest.mark.parametrize("batch", [0, 1, 2, 8])
@pytest.mark.parametrize("p", [0, 1])
def test_an_accelerator_is_never_waited_for(size, batch, p):
    x, labels = torch.rand(batch, 3, *SIZE), soft_labels(batch)
    expected = RandomMosaic(size=size, p=p, generator=generator_of(0))(x, labels)
    with Accelerator() as accelerator:
        mix = RandomMosaic(size=size, p=p, generator=generator_of(0))
        mixed = mix(*accelerator.put((x, labels)))
        assert mixed[0].device == DEVICE
        assert accelerator.waits == 0
        # Of the params, for the images and for the labels.
        copies = len([bytes for bytes in accelerator.copies if bytes])
        assert copies == 2 if batch == 8 and p == 1 else copies <= 2
        assert same(accelerator.take(mixed), expected)


@pytest.mark.parametrize("off", [False, True])
def test_a_centre_on_the_accelerator_decides_about_a_stack_all_the_same(off):
    x, labels = torch.rand(4, 3, *SIZE), soft_labels(4)
    params = given_params(4, (12, 16))
    if off:
        params["centre"][:] = torch.tensor([16, 12])
    mix = RandomMosaic(size=(12, 16))
    expected = mix.replay(params, x, labels)
    with Accelerator() as accelerator:
        x, labels, params = accelerator.put((x, labels, params))
        with accelerator.waiting():  # since the size of what comes out depends on it
            mixed = mix.replay(params, x, labels)
        assert accelerator.waits == 1
        assert same(accelerator.take(mixed), expected)
        with accelerator.waiting():
            RandomMosaic().replay({**params, "centre": params["centre"].clamp(max=4)}, x, labels)
        assert accelerator.waits == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [None, (12, 16)])
@pytest.mark.parametrize("p", [0, 1])
def test_a_compiled_mixer_does_as_it_does_uncompiled(size, p):
    torch._dynamo.reset()
    x, labels = torch.rand(5, 3, *SIZE), torch.arange(5)
    eager, mix = (
        RandomMosaic(size=size, p=p, num_classes=5, generator=generator_of(0)) for _ in range(2)
    )
    compiled = torch.compile(mix, backend="eager")
    for _ in range(3):
        expected, found = eager(x, labels), compiled(x, labels)
        assert same(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])


def test_gradients_reach_all_parents_that_show():
    x = torch.rand(4, 1, *SIZE, requires_grad=True)
    params = {"partner": torch.tensor([[1, 2, 3]] * 4), "centre": torch.tensor([[4, 3]] * 4)}
    mixed, _ = RandomMosaic(size=(7, 9)).replay(params, x, OneHot(4)(torch.arange(4)))
    (gradient,) = torch.autograd.grad(mixed[0].sum(), x)
    expected = [3 * 4, 3 * 5, 4 * 4, 4 * 5]
    assert gradient.sum((1, 2, 3)).tolist() == expected


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_gradients_are_there_in_place_too(inplace, listed):
    leaf = torch.rand(5, 2, *SIZE, dtype=torch.float64, requires_grad=True)
    params = given_params(5, SIZE)
    mix = RandomMosaic(inplace=inplace)

    def mixed(x):
        if listed:
            images, _ = mix.replay(
                params, [row * 1 for row in x], [{"image_id": i} for i in range(5)]
            )
            return torch.stack([*images])
        return mix.replay(params, x * 1, soft_labels(5))[0]

    assert torch.autograd.gradcheck(mixed, (leaf,))


def test_a_copy_with_settings_of_its_own_is_held_to_them():
    batch = torch.rand(4, 3, 6, 8), torch.arange(4)
    mix = RandomMosaic(size=(9, 11), num_classes=4)
    mix(*batch)
    other = copy.copy(mix)
    other.p = 0.5
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="a stack cannot hold them"):
        other(*batch)
    assert torch.equal(torch.get_rng_state(), before)
