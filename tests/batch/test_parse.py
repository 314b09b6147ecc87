"""Each task that the method serves, on its real shapes and in the batches that it comes in."""

import pytest
import torch
import torch.nn.functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    ToLabelMixture,
    functional,
)
from tests.strategies import generator_of, soft_labels


def combined(values, params):
    lam = params["lam"].view(-1, *[1] * (values.ndim - 1))
    return lam * values + (1 - lam) * values[params["partner"]]


# Segmentation

IMAGE = tv_tensors.Image(torch.rand(4, 3, 16, 20))
MASK = tv_tensors.Mask(torch.randint(0, 5, (4, 16, 20)))
MASK[:, :3] = 255


@pytest.mark.parametrize("make", [RandomCutMix, RandomFMix, RandomMosaic, RandomResizeMix])
def test_hard_masks_keep_the_ignore_index(make):
    _, mixed = make(generator=generator_of(0))(IMAGE, MASK)
    assert mixed.dtype == torch.int64
    assert set(mixed.unique().tolist()) == {0, 1, 2, 3, 4, 255}
    logits = torch.randn(4, 5, 16, 20, requires_grad=True)
    F.cross_entropy(logits, mixed.as_subclass(torch.Tensor), ignore_index=255).backward()
    ignored = (mixed == 255).as_subclass(torch.Tensor)
    assert (logits.grad.abs().sum(1)[ignored] == 0).all()
    assert (logits.grad.abs().sum(1)[~ignored] > 0).all()


def test_soft_masks_under_mixup_give_no_gradient_where_ignored():
    mix = v2.Compose([OneHot(5, ignore_index=255), RandomMixup(generator=generator_of(0))])
    _, mixed = mix(IMAGE, MASK)
    assert type(mixed) is tv_tensors.Mask
    assert mixed.shape == (4, 5, 16, 20)
    logits = torch.randn(4, 5, 16, 20, requires_grad=True)
    F.cross_entropy(logits, mixed.as_subclass(torch.Tensor)).backward()
    assert (logits.grad[:, :, :3] == 0).all()
    assert (logits.grad[:, :, 3:].abs().sum(1) > 0).all()


def test_masks_beside_image_labels():
    batch = {"image": IMAGE, "mask": MASK, "labels": torch.arange(4)}
    out = RandomCutMix(num_classes=4, generator=generator_of(0))(batch)
    assert type(out["mask"]) is tv_tensors.Mask
    torch.testing.assert_close(out["labels"].sum(1), torch.ones(4))
    with pytest.raises(ValueError, match="same batch size"):
        RandomCutMix()(IMAGE, tv_tensors.Mask(MASK[:3]))


# Generation


def test_a_discriminators_loss_on_real_and_generated():
    real = torch.rand(8, 1, 6, 6)
    generated = torch.rand(8, 1, 6, 6, requires_grad=True)
    lam = RandomMixup(alpha=0.2, generator=generator_of(0)).make_params([real])["lam"]
    mixed = functional.mixup(real, torch.arange(8), lam, others=generated)
    torch.testing.assert_close(
        mixed, lam.view(8, 1, 1, 1) * real + (1 - lam.view(8, 1, 1, 1)) * generated
    )
    discriminator = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 1))
    F.binary_cross_entropy_with_logits(discriminator(mixed).squeeze(1), lam).backward()
    assert (generated.grad.flatten(1).abs().sum(1) > 0)[lam < 1].all()


# Regression, tables, multi-label, text, audio


@pytest.mark.parametrize("target", [torch.randn(8), torch.randn(8, 3), torch.randn(8, 2, 5)])
def test_regression_on_tables(target):
    rows = torch.randn(8, 10)
    mix = RandomMixup(generator=generator_of(0))
    params = mix.make_params([rows])
    x, y = mix.replay(params, rows, target)
    torch.testing.assert_close(x, combined(rows, params))
    torch.testing.assert_close(y, combined(target, params))


def test_multi_label():
    present = (torch.rand(8, 6) > 0.5).float()
    mix = RandomMixup(generator=generator_of(0))
    params = mix.make_params([torch.rand(8, 3, 4, 4)])
    _, mixed = mix.replay(params, torch.rand(8, 3, 4, 4), present)
    torch.testing.assert_close(mixed, combined(present, params))
    logits = torch.randn(8, 6)
    loss = F.binary_cross_entropy_with_logits(logits, mixed, reduction="none")
    of_each = F.binary_cross_entropy_with_logits(logits, present, reduction="none")
    partners = F.binary_cross_entropy_with_logits(
        logits, present[params["partner"]], reduction="none"
    )
    lam = params["lam"][:, None]
    torch.testing.assert_close(loss, lam * of_each + (1 - lam) * partners)


@pytest.mark.parametrize("labels", [torch.randint(0, 7, (4,)), torch.randint(0, 7, (4, 12))])
def test_text(labels):
    batch = {
        "inputs_embeds": torch.randn(4, 12, 16),
        "attention_mask": torch.ones(4, 12, dtype=torch.long),
        "labels": labels,
    }
    out = v2.Compose([OneHot(7), RandomMixup(generator=generator_of(0))])(batch)
    assert out["attention_mask"] is batch["attention_mask"]
    assert not torch.equal(out["inputs_embeds"], batch["inputs_embeds"])
    assert out["labels"].shape == (4, 7, *labels.shape[1:])
    torch.testing.assert_close(out["labels"].sum(1), torch.ones_like(labels, dtype=torch.float32))


@pytest.mark.parametrize("shape", [(4, 2, 16_000), (4, 1, 64, 100)])
def test_audio_waveforms_and_spectrograms(shape):
    x, labels = torch.randn(shape), soft_labels(4)
    mix = RandomMixup(alpha=0.4, p=0.5, generator=generator_of(0))
    params = mix.make_params([x])
    mixed, _ = mix.replay(params, x, labels)
    torch.testing.assert_close(mixed, combined(x, params))


# Two batches


@pytest.mark.parametrize(
    "mix",
    [
        RandomMixup(generator=generator_of(0)),
        RandomCutMix(generator=generator_of(0)),
        RandomChoice([RandomMixup(), RandomFMix()], per_sample=True, generator=generator_of(0)),
    ],
    ids=lambda mix: type(mix).__name__,
)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_second_batch_as_the_partner(mix, batch):
    zeros, ones = torch.zeros(batch, 3, 6, 8), torch.ones(batch, 3, 6, 8)
    own, other = torch.tensor([[1.0, 0.0]] * batch), torch.tensor([[0.0, 1.0]] * batch)
    mixed, labels = mix.between((zeros, own), (ones, other))
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), labels[:, 1])
    assert (labels[:, 1] > 0).all()
    assert zeros.sum() == 0
    mixed, labels = mix.eval().between((zeros, own), (ones, other))
    mix.train()
    assert torch.equal(mixed, zeros)
    assert torch.equal(labels, own)


def test_a_second_batch_with_mixtures_and_class_indices():
    x, more = torch.rand(4, 3), torch.rand(4, 3)
    to_mixture = ToLabelMixture()
    mix = RandomMixup(num_classes=4, generator=generator_of(0), inplace=True)
    _, dense = mix.between((x.clone(), torch.arange(4)), (more, torch.zeros(4).long()))
    mix = RandomMixup(generator=generator_of(0))
    _, mixture = mix.between(
        to_mixture(x, torch.arange(4)), to_mixture(more, torch.zeros(4).long())
    )
    torch.testing.assert_close(mixture.dense(4), dense)


def test_out_of_training_a_second_batch_draws_nothing():
    generator = generator_of(0)
    state = generator.get_state()
    mix = RandomMixup(generator=generator).eval()
    x, labels = torch.rand(4, 3), soft_labels(4)
    mixed, mixed_labels = mix.between((x, labels), (x.flip(0), labels.flip(0)))
    assert torch.equal(mixed, x)
    assert torch.equal(mixed_labels, labels)
    assert torch.equal(generator.get_state(), state)


def test_second_batches_that_share_memory_in_place():
    x, labels = torch.rand(4, 3), soft_labels(4)
    with pytest.raises(ValueError, match="share memory"):
        RandomMixup(inplace=True).between((x, labels), (x.flip(0), labels))
    mixed, _ = RandomMixup().between((x, labels), (x, labels))
    torch.testing.assert_close(mixed, x)


# Batches as training code has them


def test_hugging_face_dicts_with_tensors_that_must_pass_through():
    ids = torch.arange(4)
    for names in (("input_ids", "pixel_values", "labels"), ("labels", "pixel_values", "input_ids")):
        values = {
            "pixel_values": torch.rand(4, 3, 6, 6),
            "labels": soft_labels(4),
            "input_ids": ids,
        }
        batch = {name: values[name] for name in names}
        out = RandomMixup(generator=generator_of(0))(batch)
        assert list(out) == [*names]
        assert out["input_ids"] is ids
        assert not torch.equal(out["pixel_values"], batch["pixel_values"])


def test_two_views_of_a_sample_are_mixed_alike():
    view = torch.rand(4, 3, 8, 8)
    views = (tv_tensors.Image(view), tv_tensors.Image(view.flip(1)))
    (first, second), labels = RandomCutMix(generator=generator_of(0))((views, soft_labels(4)))
    assert torch.equal(first, second.flip(1))
    assert not torch.equal(first, view)
    torch.testing.assert_close(labels.sum(1), torch.ones(4))
