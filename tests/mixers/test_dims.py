"""CutMix and FMix in sequences and volumes: spans, blocks, and blobs of one to three dimensions."""

import copy
import pickle
from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from mixup_transforms import (
    LabelMixture,
    MixCollate,
    MixedDataset,
    MixedStream,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomResizeMix,
    functional,
    preview,
)
from mixup_transforms._core import draws
from mixup_transforms._testing.law import assert_law, constant_share, of_choice, on_mask, two
from mixup_transforms._testing.law import outside_box as outside
from tests.accelerator import Accelerator
from tests.strategies import FLOATS, INTEGERS, generator_of, noise, seeds, soft_labels

every_dims = pytest.mark.parametrize("dims", [1, 2, 3])
every_new_dims = pytest.mark.parametrize("dims", [1, 3])
both = pytest.mark.parametrize("mixer", [RandomCutMix, RandomFMix])
SIZES = {1: (9,), 2: (5, 6), 3: (3, 5, 6)}


def images_of(dims, batch=6):
    return torch.rand(batch, 2, *SIZES[dims], generator=generator_of(1))


# The kernels beside plain loops


@st.composite
def batches(draw):
    """Images of one to three dimensions, with none to two more before these."""
    dims = draw(st.integers(1, 3))
    size = draw(st.tuples(*[st.integers(1, 6)] * dims))
    before = draw(st.lists(st.integers(1, 3), max_size=2))
    batch, dtype = draw(st.integers(0, 4)), draw(st.sampled_from(FLOATS + INTEGERS))
    values = noise((batch, *before, *size), dtype, draw(seeds))
    partner = draw(st.lists(st.integers(0, max(0, batch - 1)), min_size=batch, max_size=batch))
    return values, torch.tensor(partner, dtype=torch.int64), size


def by_loop(images, partner, size, keeps):
    """Copy pixel by pixel: the sample's own where ``keeps(i, place)``, else its partner's."""
    mixed, kept = images.clone(), [0] * len(images)
    for i, j in enumerate(partner.tolist()):
        for place in product(*map(range, size)):
            if keeps(i, place):
                kept[i] += 1
            else:
                mixed[(i, ..., *place)] = images[(j, ..., *place)]
    return mixed, [count / prod(size) for count in kept]


@given(batch=batches(), data=st.data(), inplace=st.booleans())
def test_a_box_is_cut_as_a_loop_cuts_it(path, batch, data, inplace):
    images, partner, size = batch
    ends = [
        [sorted(data.draw(st.tuples(*[st.integers(0, length)] * 2))) for length in size]
        for _ in partner
    ]
    # Corners begin with the last dimension.
    rows = [[pair[k] for k in (0, 1) for pair in reversed(pairs)] for pairs in ends]
    box = torch.tensor(rows, dtype=torch.int64).view(len(images), 2 * len(size))

    def keeps(i, place):
        return not all(low <= p < high for p, (low, high) in zip(place, ends[i], strict=True))

    expected, shares = by_loop(images, partner, size, keeps)
    mixed = functional.cutmix(images, partner, box, inplace=inplace)
    assert torch.equal(mixed, expected)
    assert (mixed is images) == inplace
    torch.testing.assert_close(functional.box_share(box, *size), torch.tensor(shares))


@given(batch=batches(), seed=seeds, inplace=st.booleans())
def test_a_mask_selects_as_a_loop_selects(path, batch, seed, inplace):
    images, partner, size = batch
    mask = torch.rand(len(images), *size, generator=generator_of(seed)) < 0.5
    expected, shares = by_loop(images, partner, size, lambda i, place: mask[(i, *place)])
    mixed = functional.fmix(images, partner, mask, inplace=inplace)
    assert torch.equal(mixed, expected)
    assert (mixed is images) == inplace
    torch.testing.assert_close(functional.mask_share(mask), torch.tensor(shares))


@every_dims
def test_the_highest_of_all_dimensions_are_kept(dims):
    scores, share = images_of(dims)[:, 0], torch.linspace(0, 1, 6)
    mask = functional.top_share(scores, share)
    for row, kept, wanted in zip(scores, mask, share, strict=True):
        count = round(wanted.item() * row.numel())
        assert kept.sum() == count
        assert torch.equal(
            row[kept].sort().values, row.flatten().sort().values[row.numel() - count :]
        )


# The draws


@every_dims
def test_boxes_are_drawn_alike_where_they_are_not_on_the_host(dims, monkeypatch):
    class Elsewhere(torch.Tensor):
        is_cpu = False

    lam = torch.rand(500, generator=generator_of(2), dtype=torch.float64)
    expected = draws.centred_boxes(lam, SIZES[dims], generator=generator_of(0))
    there = lam.as_subclass(Elsewhere)
    box = draws.centred_boxes(there, SIZES[dims], generator=generator_of(0))
    assert torch.equal(box.as_subclass(torch.Tensor), expected)


@pytest.mark.parametrize("size", [(16,), (15,), (8, 8, 8), (7, 8, 9)])
@pytest.mark.parametrize("decay_power", [1.0, 3.0])
def test_the_power_of_noise_falls_with_frequency(size, decay_power):
    images = draws.low_frequency_noise(4000, size, decay_power, generator=generator_of(0))
    dims = [*range(1, 1 + len(size))]
    power = torch.fft.rfftn(images.double(), dim=dims).abs().square().mean(0)
    for place in product(*(range(length) for length in power.shape)):
        waves = [min(k, length - k) / length for k, length in zip(place, size, strict=True)]
        frequency = max(sum(wave**2 for wave in waves) ** 0.5, 1 / max(size))
        real = all(2 * k % length == 0 for k, length in zip(place, size, strict=True))
        if place[-1] == 0 or 2 * place[-1] == size[-1]:
            continue  # of which a real image keeps one half
        assert not real
        expected = 2 * (frequency * max(size)) ** (-2 * decay_power)
        assert power[place] == pytest.approx(expected, rel=0.15)


@every_new_dims
def test_blobs_hold_together(dims):
    size = (400,) if dims == 1 else (12, 14, 16)
    x = torch.zeros(1).expand(20, *size)
    mask = RandomFMix(dims=dims, generator=generator_of(0)).make_params([x])["mask"]
    assert mask.shape == (20, *size)
    changes = sum((mask.diff(dim=axis) != 0).double().mean() for axis in range(1, dims + 1)) / dims
    assert changes < 0.1


@both
@every_new_dims
def test_one_draw_for_the_batch(mixer, dims):
    mix = mixer(dims=dims, per_sample=False, generator=generator_of(0))
    params = mix.make_params([images_of(dims)])
    geometry = params["box" if mixer is RandomCutMix else "mask"]
    assert (geometry == geometry[:1]).all()
    assert geometry.shape == ((6, 2 * dims) if mixer is RandomCutMix else (6, *SIZES[dims]))


# What goes with the pixels


@both
@every_new_dims
@pytest.mark.parametrize("channels", [(), (1,)])
def test_masks_are_cut_and_pasted_with_what_they_lie_on(mixer, dims, channels):
    ids = torch.randint(0, 255, (6, *channels, *SIZES[dims]), generator=generator_of(0))
    x = ids.view(6, 1, *SIZES[dims]).float()
    mixed, mask = mixer(dims=dims, generator=generator_of(1))(x, tv_tensors.Mask(ids))
    assert type(mask) is tv_tensors.Mask
    assert mask.dtype == ids.dtype
    assert not torch.equal(mask, ids)
    assert torch.equal(mask.view_as(mixed).float(), mixed)


@both
@every_dims
@pytest.mark.parametrize("inplace", [False, True])
def test_a_soft_label_of_each_step_or_voxel_goes_with_it(mixer, dims, inplace):
    x = images_of(dims)
    labels = x.clone()[:, :1].repeat(1, 3, *[1] * dims)
    mixed, soft = mixer(dims=dims, inplace=inplace, generator=generator_of(1))(x, labels)
    assert (soft is labels) == inplace
    assert torch.equal(soft, mixed[:, :1].expand_as(soft))


@both
def test_a_map_of_a_volumes_last_two_dimensions_is_a_label_of_the_whole(mixer):
    x = images_of(3)
    labels = torch.rand(6, 4, *SIZES[3][1:])
    mix = mixer(dims=3, generator=generator_of(1))
    params = mix.make_params([x])
    _, mixed = mix.replay(params, x, labels)
    expected = functional.mix_labels(labels, params["partner"], params["lam"])
    assert torch.equal(mixed, expected)


@both
def test_rows_as_long_as_a_sequence_are_never_guessed(mixer):
    x, labels = images_of(1), soft_labels(6, classes=9)
    for train in (True, False):
        with pytest.raises(ValueError, match="a row of classes or a value for each of 9 steps"):
            mixer(dims=1).train(train)(x, labels)
    mix = mixer(dims=1, num_classes=9, generator=generator_of(0))
    params = mix.make_params([x])
    _, rows = mix.replay(params, x, labels)
    assert torch.equal(rows, functional.mix_labels(labels, params["partner"], params["lam"]))
    mix.num_classes = None
    _, steps = mix.replay(params, x, labels.unsqueeze(1))
    assert torch.equal(steps[:, 0], mix.apply(labels, params))
    _, steps = mix.replay(params, x, tv_tensors.Mask(labels))
    assert torch.equal(torch.Tensor(steps), mix.apply(labels, params))
    # Of one step there is nothing to guess.
    assert mixer(dims=1)(x[..., :1], torch.rand(6, 1))[1].shape == (6, 1)


@both
def test_a_mixture_is_mixed_by_the_span(mixer):
    mixture = LabelMixture(torch.arange(6).unsqueeze(1), torch.ones(6, 1))
    mix = mixer(dims=1, generator=generator_of(0))
    params = mix.make_params([images_of(1)])
    _, mixed = mix.replay(params, images_of(1), mixture)
    expected = functional.mix_labels(torch.eye(6), params["partner"], params["lam"])
    assert torch.equal(mixed.dense(6), expected)


@both
@pytest.mark.parametrize("key", ["waveform", "AUDIO", "input_values", "x"])
def test_sequences_are_found_by_the_rule_of_roles(mixer, key):
    row = {"id": torch.arange(6), key: images_of(1), "label": torch.arange(6)}
    make = {"dims": 1, "num_classes": 6}
    mixed = mixer(**make, generator=generator_of(0))(row)
    assert mixed["id"] is row["id"]
    x, labels = mixer(**make, generator=generator_of(0))(images_of(1), torch.arange(6))
    assert torch.equal(mixed[key], x)
    assert torch.equal(mixed["label"], labels)


# In the other parts of the package


@every_new_dims
@given(seed=seeds, per_sample=st.booleans())
def test_a_choice_among_mixers_of_one_dims_tells_the_truth(dims, seed, per_sample):
    mixers = [RandomMixup(), RandomCutMix(dims=dims), RandomFMix(dims=dims, p=0.7)]
    mix = RandomChoice(mixers, per_sample=per_sample, generator=generator_of(seed))
    assert mix.dims == dims
    x, labels = images_of(dims, batch=9), soft_labels(9)
    params = mix.make_params([x])
    mixed, rows = mix.replay(params, x, labels)
    meaning = of_choice([two(constant_share), two(outside), two(on_mask)])
    assert_law(meaning, params, x, mixed, labels, rows)


@pytest.mark.parametrize("other", [RandomCutMix(), RandomResizeMix(), RandomFMix(dims=3)])
def test_a_choice_among_mixers_of_different_dims_is_refused(other):
    with pytest.raises(ValueError, match=r"must cut in the same dimensions, got dims=1 of Random"):
        RandomChoice([RandomMixup(), RandomCutMix(dims=1), other])


@both
@every_new_dims
def test_datasets_streams_and_collating_tell_the_truth(mixer, dims):
    count = 8
    constants = torch.arange(count, dtype=torch.float64) / count
    samples = [
        (torch.full((2, *SIZES[dims]), value), row)
        for value, row in zip(constants.tolist(), torch.eye(count).double(), strict=True)
    ]
    dataset = MixedDataset(samples, mixer(dims=dims), seed=0)
    stream = MixedStream(samples, mixer(dims=dims), seed=0)
    x, rows = MixCollate(mixer(dims=dims, generator=generator_of(0)))(samples)
    mixed = [*(dataset[i] for i in range(count)), *stream, *zip(x, rows, strict=True)]
    assert len(mixed) == 3 * count
    changed = 0
    for image, row in mixed:
        torch.testing.assert_close(image.double().mean(), row @ constants, rtol=1e-6, atol=1e-6)
        changed += row.max() < 1
    assert changed > count


@both
@every_new_dims
@pytest.mark.parametrize("batch", [0, 1, 2, 7])
def test_between_two_batches(mixer, dims, batch):
    own, others = images_of(dims, batch), 2 + images_of(dims, batch)
    mix = mixer(dims=dims, generator=generator_of(0))
    mixed, rows = mix.between((own, torch.zeros(batch, 1)), (others, torch.ones(batch, 1)))
    shown = (mixed >= 2).flatten(1).double().mean(1)
    torch.testing.assert_close(shown, rows[:, 0].double(), rtol=1e-6, atol=1e-6)


@both
@every_new_dims
def test_copies_keep_their_dims(mixer, dims):
    mix = mixer(dims=dims)
    for twin in (copy.deepcopy(mix), pickle.loads(pickle.dumps(mix))):
        assert twin.dims == dims
        assert f"dims={dims}" in repr(twin)
    mix.dims = 2
    assert mix.make_params([images_of(2)])["partner"].shape == (6,)


@both
@every_dims
def test_params_of_other_dims_are_refused(mixer, dims):
    x = images_of(3)
    for other in {1, 2, 3} - {dims}:
        params = mixer(dims=other).make_params([x])
        with pytest.raises(ValueError, match=r"(box|mask) must have shape \(6, "):
            mixer(dims=dims).replay(params, x, soft_labels(6))


@every_dims
def test_shares_on_an_accelerator(dims):
    x = images_of(dims)
    box = draws.centred_boxes(torch.rand(6), SIZES[dims], generator=generator_of(0))
    mask = x[:, 0] < 0.5
    with Accelerator() as accelerator:
        outside = functional.box_share(accelerator.put(box), *SIZES[dims])
        kept = functional.mask_share(accelerator.put(mask))
    assert torch.equal(accelerator.take(outside), functional.box_share(box, *SIZES[dims]))
    assert torch.equal(accelerator.take(kept), functional.mask_share(mask))


@pytest.mark.parametrize("kind", [tv_tensors.Image, tv_tensors.Video])
def test_images_are_cut_in_columns_but_their_channels_are_no_depth(kind):
    x = kind(torch.rand(6, 5, 3, 4, 7) if kind is tv_tensors.Video else torch.rand(6, 3, 4, 7))
    mixed, _ = RandomCutMix(dims=1, generator=generator_of(0))(x, soft_labels(6))
    assert type(mixed) is kind
    own = torch.Tensor(mixed == x).flatten(1, -2)
    assert (own == own[:, :1]).all()
    with pytest.raises(ValueError, match="whose third last dimension holds channels"):
        RandomCutMix(dims=3)(x, soft_labels(6))


def test_volumes_in_torchvisions_type_are_mixed():
    x = tv_tensors.Image(torch.rand(6, 1, 3, 4, 7))
    mixed, _ = RandomFMix(dims=3, generator=generator_of(0))(x, soft_labels(6))
    assert type(mixed) is tv_tensors.Image


def test_a_picture_shows_columns_and_refuses_blocks():
    images, labels = torch.rand(4, 3, 8, 4), torch.arange(4)
    assert preview(images, labels, RandomCutMix(dims=1)).mode == "RGB"
    with pytest.raises(ValueError, match="got dims=3"):
        preview(images, labels, RandomFMix(dims=3))
