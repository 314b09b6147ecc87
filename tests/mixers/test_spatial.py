"""The mixers whose geometry lies in the image: CutMix, ResizeMix, FMix."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import RandomCutMix, RandomFMix, RandomResizeMix, functional
from mixup_transforms._core import draws
from tests.accelerator import Accelerator
from tests.cases import MEMBERS, MIXERS, every_mixer, outside_box
from tests.strategies import generator_of, seeds, soft_labels

every_planar = pytest.mark.parametrize(
    "case", [case for case in MIXERS if case.spatial and case.dims == 2], ids=repr
)
COPYING = [case for case in MEMBERS if case.name in ("cutmix", "fmix")]


def params_for(mix, batch, *size):
    return mix.make_params([torch.zeros(1).expand(batch, 1, *size)])


# Constant images: the test that other libraries fail


@every_mixer
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (8, 8), (5, 12), (33, 17)])
@pytest.mark.parametrize("lam", [None, 0.0, 1.0])
def test_the_mean_of_constant_images_is_the_mean_of_their_labels(case, size, lam, force_lam):
    if lam is not None:
        force_lam([lam] * 16)
    constants = torch.arange(16, dtype=torch.float64) / 16
    x = constants.view(16, 1, 1, 1).expand(16, 3, *size).contiguous()
    mix = case.make(num_classes=16, generator=generator_of(0))
    for _ in range(8):
        mixed, labels = mix(x, torch.arange(16))
        torch.testing.assert_close(
            mixed.mean(dim=(1, 2, 3)), labels.double() @ constants, atol=1e-6, rtol=0
        )


# CutMix


@pytest.mark.parametrize("size", [(9,), (6, 9), (4, 6, 9)])
def test_box_centres_and_areas_follow_the_closed_form(size):
    trials, dims = 100_000, len(size)
    lam = torch.rand(trials, dtype=torch.float64, generator=generator_of(1))
    box = draws.centred_boxes(lam, size, generator=generator_of(0))
    assert box.dtype == torch.int64
    side = (1 - lam) ** (1 / dims)
    ends = box.unbind(1)
    for low, high, length in zip(ends[:dims], ends[dims:], reversed(size), strict=True):
        assert ((low >= 0) & (low <= high) & (high <= length)).all()
        extent = (side * length).round().long()
        for e in range(length + 1):
            # With the centre uniform over the pixels, each clipped extent has a known chance.
            spans = [(max(c - e // 2, 0), min(c - e // 2 + e, length)) for c in range(length)]
            drawn = [*zip(low[extent == e].tolist(), high[extent == e].tolist(), strict=True)]
            kinds = sorted(set(spans))
            assert set(drawn) <= set(kinds)
            if len(kinds) > 1:
                expected = np.array([spans.count(k) for k in kinds]) / length * len(drawn)
                counts = [drawn.count(k) for k in kinds]
                assert stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("size", [(11,), (7, 11), (3, 7, 11)])
def test_lam_is_recomputed_from_the_clipped_box(size):
    dims = len(size)
    params = params_for(RandomCutMix(dims=dims, generator=generator_of(0)), 500, *size)
    sides = params["box"][:, dims:] - params["box"][:, :dims]
    torch.testing.assert_close(params["lam"], 1 - sides.prod(1) / float(math.prod(size)))


@pytest.mark.parametrize("case", COPYING, ids=repr)
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.complex64, torch.float16, torch.uint8, torch.uint16, torch.int64]
)
def test_what_only_copies_takes_every_dtype(case, dtype, path):
    x = (torch.rand(6, 2, 5, 7) * 2).to(dtype)
    mix = case.make(generator=generator_of(0))
    params = mix.make_params([x])
    mixed, _ = mix.replay(params, x, soft_labels(6))
    assert mixed.dtype == dtype
    if dtype == torch.uint16:  # old versions of torch cannot index it
        x, mixed = x.int(), mixed.int()
    for i, j in enumerate(params["partner"]):
        own = case.parts(params, i, [x[i], x[j]])[0][0].bool().expand_as(x[i])
        assert torch.equal(mixed[i][own], x[i][own])
        assert torch.equal(mixed[i][~own], x[j][~own])


# ResizeMix


@given(seed=seeds, height=st.integers(1, 40), width=st.integers(1, 40))
def test_the_partner_is_wholly_inside(seed, height, width):
    mix = RandomResizeMix(generator=generator_of(seed))
    x1, y1, x2, y2 = params_for(mix, 20, height, width)["box"].unbind(1)
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= width)).all()
    assert ((y1 >= 0) & (y1 < y2) & (y2 <= height)).all()


def test_the_place_is_uniform_and_the_side_in_scale():
    mix = RandomResizeMix(scale=(0.5, 0.5), generator=generator_of(0))
    x1, y1, x2, y2 = params_for(mix, 20_000, 10, 20)["box"].unbind(1)
    assert set((y2 - y1).tolist()) == {5}
    assert set((x2 - x1).tolist()) == {10}
    assert stats.chisquare(y1.bincount(minlength=6)).pvalue > 1e-4
    assert stats.chisquare(x1.bincount(minlength=11)).pvalue > 1e-4
    sides = params_for(RandomResizeMix(generator=generator_of(0)), 20_000, 1000, 1000)["box"]
    shares = (sides[:, 2] - sides[:, 0]) / 1000
    assert stats.kstest(shares.numpy(), stats.uniform(0.1, 0.7).cdf).pvalue > 1e-4


@pytest.mark.parametrize("height", range(1, 8))
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("wants_grad", [False, True])
def test_the_view_is_the_triangle_filter(height, width, wants_grad):
    x = torch.rand(2, 2, 8, 6, requires_grad=wants_grad)
    box = torch.tensor([[0, 0, width, height]] * 2)
    mixed = functional.resizemix(x, torch.tensor([1, 0]), box).detach()
    for row in range(height):
        for column in range(width):
            expected, total = torch.zeros(2, 2), 0.0
            for y in range(8):
                for k in range(6):
                    down = 1 - abs((y + 0.5) * height / 8 - row - 0.5)
                    across = 1 - abs((k + 0.5) * width / 6 - column - 0.5)
                    weight = max(0, down) * max(0, across)
                    total += weight
                    expected += weight * x.detach()[:, :, y, k]
            torch.testing.assert_close(mixed[:, :, row, column].flip(0), expected / total)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_the_view_is_torchvisions_antialiased_resize(dtype):
    x = (torch.rand(2, 3, 24, 30) * 255).to(dtype)
    box = torch.tensor([[4, 3, 19, 15], [0, 0, 0, 0]])
    mixed = functional.resizemix(x, torch.tensor([1, 0]), box)
    expected = v2.functional.resize(x[1].float(), [12, 15], antialias=True)
    torch.testing.assert_close(
        mixed[0, :, 3:15, 4:19].float(),
        expected,
        atol=0.51 if dtype == torch.uint8 else 1e-3,
        rtol=0,
    )
    assert torch.equal(mixed[1], x[1])


# FMix


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 9), (8, 8), (31, 17), (1,), (2,), (101,), (1, 1, 1), (5, 1, 4), (4, 6, 7)]
)
def test_fmix_keeps_exactly_the_rounded_share(size, force_lam):
    lam = torch.linspace(0, 1, 50, dtype=torch.float64)
    force_lam(lam)
    params = params_for(RandomFMix(dims=len(size), generator=generator_of(0)), 50, *size)
    assert params["mask"].shape == (50, *size)
    kept = params["mask"].flatten(1).sum(1)
    assert torch.equal(kept, (lam * math.prod(size)).round().long())
    torch.testing.assert_close(params["lam"], kept / math.prod(size))


def test_fmix_of_a_large_image(force_lam):
    force_lam([0.3, 0.7])
    params = params_for(RandomFMix(generator=generator_of(0)), 2, 4200, 4200)
    assert params["mask"].sum(dim=(1, 2)).tolist() == [5_292_000, 12_348_000]


def test_top_share_of_ties():
    flat = torch.zeros(3, 4, 5)
    mask = functional.top_share(flat, torch.tensor([0.0, 0.35, 1.0]))
    assert mask.sum(dim=(1, 2)).tolist() == [0, 7, 20]


@given(
    levels=st.integers(1, 5),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    shares=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    seed=seeds,
)
def test_top_share_is_the_highest_pixels_first_come_first_kept(levels, dtype, shares, seed):
    scores = torch.randint(levels, (3, 4, 5), generator=generator_of(seed)).to(dtype)
    share = torch.tensor(shares, dtype=torch.float64)
    mask = functional.top_share(scores, share)
    for image, kept, wanted in zip(scores.flatten(1), mask.flatten(1), share * 20, strict=True):
        ranked = sorted(range(20), key=lambda i: (-image[i], i))
        assert sorted(ranked[: round(wanted.item())]) == kept.nonzero().flatten().tolist()
    with Accelerator() as accelerator:
        on_device = functional.top_share(accelerator.put(scores), share)
    assert torch.equal(accelerator.take(on_device), mask)


@given(
    pixels=st.integers(8_000, 12_000),
    levels=st.sampled_from([2, 300, 2**30]),
    order=st.sampled_from(["any", "rising", "rare"]),
    share=st.floats(0, 1),
    seed=seeds,
)
def test_top_share_of_many_pixels_is_what_sorting_finds(pixels, levels, order, share, seed):
    scores = torch.randint(levels, (1, pixels), generator=generator_of(seed)).double()
    if order == "rising":
        scores = scores.sort().values
    if order == "rare":  # where a sample at equal steps sees nothing
        scores = torch.where(torch.arange(pixels) % 5 > 0, scores, 0.0)
    mask = functional.top_share(scores, torch.tensor([share], dtype=torch.float64))
    ranked = scores.argsort(dim=1, descending=True, stable=True)[0]
    kept = ranked[: round(share * pixels)].sort().values
    assert torch.equal(mask[0].nonzero().flatten(), kept)


def components(mask):
    return ndimage.label(mask.numpy())[1]


@pytest.mark.parametrize("decay_power", [2.0, 3.0, 5.0])
def test_fmix_masks_are_low_frequency(decay_power):
    mix = RandomFMix(decay_power=decay_power, generator=generator_of(0))
    params = params_for(mix, 30, 48, 64)
    noise = torch.rand(30, 48, 64, generator=generator_of(1))
    of_noise = functional.top_share(noise, params["lam"])
    assert torch.equal(of_noise.sum((1, 2)), params["mask"].sum((1, 2)))
    smooth, rough = (sum(map(components, masks)) for masks in (params["mask"], of_noise))
    assert smooth < rough / 5


def test_a_steeper_decay_is_smoother():
    counts = []
    for decay_power in (1.0, 2.0, 4.0, 1000.0):
        mix = RandomFMix(decay_power=decay_power, generator=generator_of(0))
        counts.append(sum(map(components, params_for(mix, 30, 64, 64)["mask"])))
    assert counts == sorted(counts, reverse=True)


# Masks, video and sizes


@every_planar
@pytest.mark.parametrize("shape", [(6, 12, 16), (6, 1, 12, 16)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_masks_are_cut_and_pasted_with_the_images(case, shape, dtype):
    if case.name == "choice":
        pytest.skip("has mixup, which averages")
    ids = torch.randint(0, 255, shape, generator=generator_of(0)).to(dtype)
    image, mask = tv_tensors.Image(ids.view(6, 1, 12, 16)), tv_tensors.Mask(ids)
    mixed, mixed_mask = case.make(generator=generator_of(1))(image, mask)
    assert type(mixed_mask) is tv_tensors.Mask
    assert mixed_mask.dtype == dtype
    if case.name.startswith("resizemix"):
        assert set(mixed_mask.flatten().tolist()) <= set(ids.flatten().tolist())
    else:
        assert torch.equal(mixed_mask.reshape(6, 1, 12, 16), mixed)


def test_a_resized_mask_shows_its_partner_in_the_box():
    blocks = torch.tensor([[1, 2], [3, 4]]).repeat_interleave(8, 0).repeat_interleave(8, 1)
    mask = tv_tensors.Mask(torch.stack([torch.zeros_like(blocks), blocks]))
    image = tv_tensors.Image(torch.rand(2, 1, 16, 16))
    params = {"partner": torch.tensor([1, 0]), "box": torch.tensor([[2, 4, 10, 12], [0, 0, 0, 0]])}
    _, mixed = RandomResizeMix().replay(params, image, mask)
    assert torch.equal(mixed[0, 4:12, 2:10], blocks[::2, ::2])
    assert mixed[0].sum() == blocks[::2, ::2].sum()
    assert torch.equal(mixed[1], mask[1])


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=seeds,
    dtype=st.sampled_from([torch.int64, torch.uint16, torch.float32]),
    inplace=st.booleans(),
    frames=st.booleans(),
)
def test_a_mask_is_resized_alike_where_boxes_cannot_be_read(size, seed, dtype, inplace, frames):
    shape = (4, 2, *size) if frames else (4, *size)
    ids = torch.randint(0, 255, shape, generator=generator_of(seed)).to(dtype)
    side = torch.rand(4, generator=generator_of(seed + 1))
    side[0] = 0
    box = draws.inner_boxes(side, size, generator=generator_of(seed + 2))
    paste = partial(functional.resizemix, partner=torch.tensor([1, 2, 3, 0]), box=box, nearest=True)
    expected = paste(ids)
    with Accelerator() as accelerator:
        mixed = paste(accelerator.put(ids), inplace=inplace)
    assert torch.equal(accelerator.take(mixed).long(), expected.long())


def test_doubles_are_resized_as_finely_where_boxes_cannot_be_read():
    x, partner = torch.rand(4, 3, 9, 11, dtype=torch.float64), torch.tensor([1, 2, 3, 0])
    box = draws.inner_boxes(torch.rand(4), (9, 11), generator=generator_of(0))
    expected = functional.resizemix(x, partner, box)
    with Accelerator() as accelerator:
        mixed = functional.resizemix(accelerator.put(x), partner, box)
    torch.testing.assert_close(accelerator.take(mixed), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("box", [[3, 0, 3, 5], [0, 4, 6, 4], [2, 2, 2, 2]])
@pytest.mark.parametrize("kernel", [functional.cutmix, functional.resizemix])
def test_a_box_without_height_or_width_changes_nothing(kernel, box, path):
    x = torch.rand(2, 3, 5, 6)
    assert torch.equal(kernel(x, torch.tensor([1, 0]), torch.tensor([box, box])), x)


@every_planar
def test_all_frames_of_a_video_are_mixed_alike(case):
    frame = torch.rand(4, 1, 3, 8, 10)
    video = tv_tensors.Video(frame.expand(4, 5, 3, 8, 10))
    mixed, _ = case.make(generator=generator_of(0))(video, soft_labels(4))
    assert type(mixed) is tv_tensors.Video
    assert (mixed == mixed[:, :1]).all()
    assert not torch.equal(mixed, video)


# Bad input


@every_planar
@pytest.mark.parametrize("shape", [(4, 7), (4,), (4, 3, 0, 7), (4, 0, 7)])
def test_images_without_pixels_in_two_dimensions(case, shape):
    with pytest.raises(ValueError, match=r"\(B, …, H, W\)"):
        case.make()(torch.rand(shape), soft_labels(4))


@pytest.mark.parametrize("mixer", [RandomCutMix, RandomResizeMix])
@pytest.mark.parametrize(
    ("box", "error", "message"),
    [
        (torch.tensor([[0, 0, 9, 4]] * 2), ValueError, r"got \[0, 0, 9, 4\]"),
        (torch.tensor([[0, 0, 4, 7]] * 2), ValueError, r"got \[0, 0, 4, 7\]"),
        (torch.tensor([[-1, 0, 4, 4]] * 2), ValueError, r"got \[-1, 0, 4, 4\]"),
        (torch.tensor([[4, 0, 2, 4]] * 2), ValueError, r"got \[4, 0, 2, 4\]"),
        (torch.tensor([[0, 4, 2, 2]] * 2), ValueError, r"got \[0, 4, 2, 2\]"),
        (torch.tensor([[0, 0, 1, 1]]), ValueError, "box must have shape"),
        (torch.rand(2, 4), TypeError, "box must hold integer pixels"),
        (None, ValueError, "params must have 'box'"),
    ],
)
def test_bad_boxes(mixer, box, error, message):
    x, labels = torch.rand(2, 3, 6, 8), soft_labels(2)
    before = x.clone()
    params = {"partner": torch.tensor([1, 0]), "lam": torch.ones(2)}
    if box is not None:
        params["box"] = box
    with pytest.raises(error, match=message):
        mixer(inplace=True).replay(params, x, labels)
    assert torch.equal(x, before)


def test_an_injected_box_sets_lam_whatever_lam_was_given():
    x, labels = torch.rand(2, 3, 6, 8), torch.eye(2)
    params = {
        "partner": torch.tensor([1, 0]),
        "lam": torch.tensor([0.123, 0.456]),
        "box": torch.tensor([[1, 2, 5, 5], [0, 0, 8, 6]]),
    }
    mixed, mixed_labels = RandomCutMix().replay(params, x, labels)
    assert mixed_labels.tolist() == [[0.75, 0.25], [1.0, 0.0]]
    own = outside_box(params, 0, x[0]).bool()
    assert torch.equal(mixed[0][:, own], x[0][:, own])
    assert torch.equal(mixed[1], x[0])


# A second batch as the partners


@every_mixer
@pytest.mark.parametrize("inplace", [False, True])
def test_partners_from_another_batch(case, inplace, path):
    own, others = torch.rand(5, 3, 6, 8), torch.rand(5, 3, 6, 8)
    mix = case.make(generator=generator_of(0))
    params = mix.make_params([own])
    doubled = {name: torch.cat([value, value]) for name, value in params.items()}
    doubled["partner"] = torch.cat([params["partner"] + 5, params["partner"]])
    expected = mix.apply(torch.cat([own, others]), doubled)[:5]
    target, version = own.clone(), others._version
    mixed = mix.apply(target, params, others=others, inplace=inplace)
    assert torch.equal(mixed, expected)
    assert torch.equal(target, expected if inplace else own)
    assert (mixed is target) == inplace
    assert others._version == version
    masks, other_masks = case.plane(own).clone(), case.plane(others)
    expected = mix.apply_to_masks(torch.cat([masks, other_masks]), doubled)[:5]
    mixed = mix.apply_to_masks(masks, params, others=other_masks, inplace=inplace)
    assert torch.equal(mixed, expected)
    assert (mixed is masks) == inplace
