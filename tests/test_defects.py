"""What goes wrong in other mixing libraries, one test each, named after it."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from mixup_transforms import OneHot, RandomChoice, RandomCutMix, RandomMixup, functional
from mixup_transforms._core import draws
from tests.bits import same
from tests.cases import every_mixer
from tests.processes import Mixing, Numbers
from tests.strategies import generator_of, soft_labels


def pure_colours(batch, height, width):
    """Images whose mean says which labels they should have."""
    colours = torch.arange(batch, dtype=torch.float64) / batch
    return colours.view(-1, 1, 1, 1).expand(batch, 3, height, width).contiguous(), colours


def assert_labels_match_pixels(images, labels, colours):
    torch.testing.assert_close(
        images.mean(dim=(1, 2, 3)), labels.double() @ colours, atol=1e-6, rtol=0
    )


@every_mixer
def test_label_weight_is_corrected_for_clipping(case):
    x, colours = pure_colours(64, 224, 224)
    mix = case.make(num_classes=64, generator=generator_of(0))
    assert_labels_match_pixels(*mix(x, torch.arange(64)), colours)


@every_mixer
def test_the_partners_weight_is_not_given_to_the_own_label(case):
    x, labels = torch.rand(32, 3, 8, 8), torch.eye(32)
    mix = case.make(generator=generator_of(0))
    params = mix.make_params([x])
    _, mixed = mix.replay(params, x, labels)
    torch.testing.assert_close(mixed.diagonal(), params["lam"])


@every_mixer
def test_a_box_is_not_float_where_pixels_are_integers(case):
    x, colours = pure_colours(64, 8, 8)
    mix = case.make(num_classes=64, generator=generator_of(1))
    assert_labels_match_pixels(*mix(x, torch.arange(64)), colours)


def test_beta_is_not_uniform_for_every_alpha():
    def spread(alpha):
        return draws.symmetric_beta(20_000, alpha, generator=generator_of(0)).var().item()

    for alpha in (0.2, 1.0, 8.0):
        assert spread(alpha) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


@every_mixer
def test_a_pair_of_the_same_class_sums_to_one(case):
    _, labels = case.make(num_classes=3)(torch.rand(8, 3, 8, 8), torch.full((8,), 2))
    torch.testing.assert_close(labels, torch.tensor([[0.0, 0.0, 1.0]]).expand(8, 3))


@every_mixer
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_tiny_and_odd_last_batches(case, batch):
    images, labels = case.make(num_classes=5)(torch.rand(batch, 3, 8, 8), torch.arange(batch) % 5)
    assert images.shape == (batch, 3, 8, 8)
    torch.testing.assert_close(labels.sum(1), torch.ones(batch))


@every_mixer
def test_uint8_images_have_the_labels_of_their_pixels(case):
    x = (torch.arange(4) * 60).to(torch.uint8).view(4, 1, 1, 1).expand(4, 3, 9, 12).contiguous()
    images, labels = case.make(num_classes=4, generator=generator_of(0))(x, torch.arange(4))
    means = images.double().mean(dim=(1, 2, 3))
    expected = labels.double() @ torch.tensor([0.0, 60.0, 120.0, 180.0], dtype=torch.float64)
    assert (means - expected).abs().max() <= 0.5 + 1e-4


@every_mixer
def test_two_dimensional_labels_keep_their_shape(case):
    assert case.make()(torch.rand(6, 3, 8, 8), soft_labels(6))[1].shape == (6, 4)


def test_cutmix_of_video_cuts_height_and_width_not_time():
    video = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 5, 3, 6, 8)
    mixed, _ = RandomCutMix(generator=generator_of(0))(video, soft_labels(4))
    assert torch.equal(mixed, mixed[:, :1, :1].expand_as(mixed))


@every_mixer
def test_integer_labels_are_never_blended_unchecked(case):
    with pytest.raises(ValueError, match="OneHot"):
        case.make()(torch.rand(4, 3, 8, 8), torch.arange(4))


def test_a_seed_repeats_lam():
    draws = [RandomMixup(generator=generator_of(3)).make_params([torch.rand(8, 2)]) for _ in "ab"]
    assert torch.equal(draws[0]["lam"], draws[1]["lam"])


@every_mixer
def test_numpys_global_stream_is_not_reseeded(case):
    np.random.seed(5)
    random.seed(5)
    expected = np.random.RandomState(5).rand(), random.Random(5).random()
    case.make()(torch.rand(4, 3, 8, 8), soft_labels(4))
    assert (np.random.rand(), random.random()) == expected


def test_p_is_applied_once():
    mix = RandomCutMix(p=0.5, alpha=1000.0, generator=generator_of(0))
    lam = mix.make_params([torch.zeros(1).expand(5000, 1, 32, 32)])["lam"]
    assert (lam != 1).double().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_labels_are_not_cast_to_the_images_dtype(dtype):
    labels = torch.tensor([997, 998, 999, 1000])
    _, mixed = RandomMixup(num_classes=1001)(torch.rand(4, 3).to(dtype), labels)
    assert mixed.dtype == torch.float32
    assert torch.equal((mixed.sum(0) > 0).nonzero().flatten(), labels)


@pytest.mark.parametrize("size", [(5, 30), (30, 5)])
@every_mixer
def test_height_and_width_are_not_swapped(case, size):
    x, colours = pure_colours(64, *size)
    mix = case.make(num_classes=64, generator=generator_of(0))
    assert_labels_match_pixels(*mix(x, torch.arange(64)), colours)


@every_mixer
def test_no_sample_is_mixed_with_itself(case):
    for seed in range(50):
        params = case.make(generator=generator_of(seed)).make_params([torch.rand(5, 3, 8, 8)])
        assert (params["partner"].view(5, -1)[:, 0] != torch.arange(5)).all()


@pytest.mark.parametrize("alpha", [-1.0, 0.0])
def test_the_check_of_alpha_holds_under_compile(alpha):
    @torch.compile(backend="eager")
    def run(x, y):
        return RandomMixup(alpha=alpha)(x, y)

    with pytest.raises(Exception, match="alpha must be above 0"):
        run(torch.rand(4, 3), soft_labels(4))


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_workers_do_not_replay_one_stream():
    loader = DataLoader(
        Numbers(16), batch_size=8, num_workers=2, collate_fn=Mixing(0),
        multiprocessing_context="fork",
    )  # fmt: skip
    lams = [tuple(lam.tolist()) for _ in range(2) for _, lam in loader]
    assert len(set(lams)) == 4


def test_labels_are_never_mixed_without_their_images():
    batch = {"labels": soft_labels(4), "pixel_values": torch.rand(4, 3, 8, 8)}
    out = RandomMixup(generator=generator_of(0))(batch)
    assert not torch.equal(out["pixel_values"], batch["pixel_values"])
    with pytest.raises(ValueError, match="no images found"):
        RandomMixup()({"labels": soft_labels(4)})


def test_a_labels_getter_that_returns_a_copy_is_named():
    with pytest.raises(ValueError, match="not a copy or a conversion"):
        RandomMixup(labels_getter=lambda batch: batch[1].clone())(torch.rand(4, 3), soft_labels(4))


def test_an_integer_alpha_works():
    RandomMixup(alpha=1)(torch.rand(4, 3), soft_labels(4))


def test_a_class_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"labels must lie .* got 10"):
        v2.Compose([OneHot(10), RandomMixup()])(torch.rand(2, 3), torch.tensor([0, 10]))


@every_mixer
def test_inputs_are_not_mutated_by_default(case):
    x, labels = torch.rand(4, 3, 8, 8), soft_labels(4)
    before = x.clone(), labels.clone()
    case.make()(x, labels)
    assert torch.equal(x, before[0])
    assert torch.equal(labels, before[1])


def test_a_choice_is_seeded():
    def run():
        mix = RandomChoice([RandomMixup(), RandomCutMix()], generator=generator_of(0))
        return [mix(torch.ones(4, 3, 8, 8), torch.eye(4))[1] for _ in range(5)]

    assert same(run(), run())


def test_quantile_of_a_large_mask_is_not_needed():
    scores = torch.rand(1, 4200, 4200, generator=generator_of(0))
    assert functional.top_share(scores, torch.tensor([0.25])).sum() == 4_410_000
