"""A call that fails leaves what it was given as it was, whichever step of it fails."""

import copy
from contextlib import suppress

import pytest
import torch
from torchvision import tv_tensors

from mixup_transforms import (
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
)
from mixup_transforms._batch import columns, joining, objects, parse
from mixup_transforms._batch import labels as forms
from mixup_transforms._batch.tree import Tree
from mixup_transforms._core import checks, classes, draws, kernels, ragged, regions, shares, tiles
from mixup_transforms._mixers import mixing
from tests.bits import unchanged
from tests.steps import fail_at
from tests.strategies import generator_of, soft_labels


def make_choice(**settings):
    mixers = [RandomMixup(**settings), RandomCutMix(**settings), RandomMosaic(**settings)]
    return RandomChoice(mixers, per_sample=True, generator=generator_of(1))


MAKERS = [RandomMixup, RandomCutMix, RandomResizeMix, RandomFMix, RandomMosaic, make_choice]
STEPS = [
    (Tree, "of"),
    (parse.Batch, "parse"),
    (parse.Batch, "finish"),
    (checks, "partner"),
    (checks, "writable"),
    (draws, "cycle"),
    (draws, "uniform"),
    (shares, "box_share"),
    (shares, "mask_share"),
    (shares, "top_share"),
    (shares, "quadrant_shares"),
    (forms, "check_form"),
    (forms, "mix_labels"),
    (forms, "mix_labels_of_many"),
    (forms, "blend_dense"),
    (classes, "blend_classes"),
    (classes, "one_hot"),
    (kernels, "_run"),
    (kernels, "take"),
    (kernels, "mosaic"),
    (tiles, "paint"),
]
LABELS = {
    "indices": lambda: torch.tensor([0, 3, 1, 2, 2]),
    "dense": lambda: soft_labels(5),
    "double": lambda: soft_labels(5).double(),
    "pixels": lambda: torch.rand(5, 4, 6, 5),
}


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=lambda step: getattr(step, "__name__", step))
@pytest.mark.parametrize("labels", LABELS)
def test_each_step_fails_in_turn(make, owner, name, labels, monkeypatch):
    for turn in range(1, 20):
        batch = {
            "image": tv_tensors.Image(torch.rand(5, 3, 6, 5)),
            "other": tv_tensors.Image(torch.rand(5, 1, 6, 5)),
            "mask": tv_tensors.Mask(torch.rand(5, 6, 5)),
            "labels": LABELS[labels](),
        }
        before = {key: value.clone() for key, value in batch.items()}
        mix = make(inplace=True, num_classes=4)
        with monkeypatch.context() as patch:
            calls = fail_at(patch, owner, name, turn)
            with suppress(MemoryError):
                mix(batch)
        if len(calls) < turn:
            return
        if name == "finish":
            continue  # by then all is written, and whole
        assert all(torch.equal(batch[key], before[key]) for key in batch), f"torn at {name} {turn}"
    pytest.fail("never came to an end")


@pytest.mark.parametrize("name", ["of", "blend_classes", "take", "check_form"])
def test_the_steps_are_reached(name, monkeypatch):
    owner = next(owner for owner, step in STEPS if step == name)
    calls = fail_at(monkeypatch, owner, name, 1)
    with pytest.raises(MemoryError):
        RandomMixup(num_classes=4)(torch.rand(5, 3), torch.tensor([0, 3, 1, 2, 2]))
    assert calls


def leaf_view():
    return torch.eye(4, requires_grad=True)[:]


def chunk():
    return (torch.eye(8, requires_grad=True) * 1).chunk(2)[0]


def inference():
    with torch.inference_mode():
        return torch.eye(4)


@pytest.mark.parametrize("make", [leaf_view, chunk, inference])
@pytest.mark.parametrize("place", ["images", "labels"])
def test_what_cannot_be_written_is_found_before_anything_is(make, place):
    odd, other = make(), torch.rand(4, 3)
    before = other.clone()
    batch = (odd, other) if place == "images" else (other, odd)
    with pytest.raises(ValueError, match="use inplace=False"):
        RandomMixup(inplace=True)(*batch)
    assert torch.equal(other, before)
    mixed = RandomMixup()(*batch)
    assert mixed[0].shape == batch[0].shape


def test_what_autograd_may_write_is_written():
    x = torch.rand(4, 3, requires_grad=True)
    hidden = (x * 2).view(4, 3)
    out, _ = RandomMixup(inplace=True)(hidden, torch.eye(4))
    assert out is hidden
    out.sum().backward()
    torch.testing.assert_close(x.grad.sum(), torch.tensor(24.0))
    with torch.no_grad():
        RandomMixup(inplace=True)(x, torch.eye(4))
    with torch.inference_mode():
        made = torch.rand(4, 3)
        assert RandomMixup(inplace=True)(made, torch.eye(4))[0] is made


@pytest.mark.parametrize("odd", [torch.eye(4, device="meta"), torch.eye(4).double()])
def test_two_batches_that_differ_in_their_labels(odd):
    x = torch.rand(4, 3)
    before = x.clone()
    with pytest.raises(ValueError, match="same shape, dtype and device"):
        RandomMixup(inplace=True).between((x, torch.eye(4)), (torch.rand(4, 3), odd))
    assert torch.equal(x, before)


def test_more_classes_than_there_is_memory():
    x = torch.rand(4, 3)
    before = x.clone()
    with pytest.raises(RuntimeError):
        RandomMixup(inplace=True, num_classes=2**60)(x, torch.arange(4))
    assert torch.equal(x, before)


def interleaved():
    buffer = torch.rand(4, 3, 2, 10)
    return buffer[..., ::2], buffer[..., 1::2]


@pytest.mark.parametrize("make", [RandomMixup, RandomCutMix])
def test_disjoint_views_of_one_buffer_are_written(make):
    first, second = interleaved()
    batch = {"a": tv_tensors.Image(first), "b": tv_tensors.Image(second), "labels": torch.eye(4)}
    expected = make(generator=generator_of(0))(batch)
    out = make(generator=generator_of(0), inplace=True)(batch)
    assert out["a"] is batch["a"]
    assert all(torch.equal(out[key], expected[key]) for key in "ab")


def test_expanded_labels_that_are_not_written():
    x, same = torch.rand(4, 3), torch.tensor(1).expand(4)
    out, labels = RandomMixup(inplace=True, num_classes=2)(x, same)
    assert out is x
    assert torch.equal(labels, torch.tensor([[0.0, 1.0]] * 4))


# Objects


OBJECT_STEPS = [
    (Tree, "of"),
    (parse.Batch, "parse"),
    (parse.Batch, "finish"),
    (objects.Targets, "of"),
    (checks, "writable"),
    (draws, "cycle"),
    (draws, "uniform"),
    (mixing, "on_host"),
    (mixing, "joined"),
    (objects, "with_items"),
    (regions, "moved"),
    (regions.Sights, "see_boxes"),
    (regions.Sights, "see_points"),
    (joining, "see_masks"),
    (columns, "take"),
    (joining, "convert_bounding_box_format"),
    (tv_tensors, "wrap"),
    (forms, "mix_labels"),
    (ragged, "_painted"),
    (kernels, "_run"),
    (kernels, "take"),
]


def batch_of_objects(sizes, *, masks):
    images = [torch.rand(3, *size) for size in sizes]
    targets = []
    for i, (height, width) in enumerate(sizes):
        rows = torch.tensor([[0.0, 0.0, 4.0, 3.0], [1.0, 2.0, width, height]])
        target = {
            "boxes": tv_tensors.BoundingBoxes(rows, format="XYWH", canvas_size=(height, width)),
            "keypoints": tv_tensors.KeyPoints(rows.view(2, 2, 2), canvas_size=(height, width)),
            "semantic": tv_tensors.Mask(torch.rand(height, width)),
            "labels": torch.tensor([i, 10 + i]),
            "weights": torch.tensor([0.5, 1.0]),
        }
        if masks:
            target["masks"] = tv_tensors.Mask(torch.rand(2, height, width) < 0.5)
        targets.append(target)
    return {"image": images, "target": targets, "label": soft_labels(len(sizes))}


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("form", ["list", "sizes", "stacked"])
@pytest.mark.parametrize("inplace", [False, True], ids=["anew", "in place"])
@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_each_step_fails_in_turn_on_objects(make, form, inplace, masks, monkeypatch):
    sizes = [(5, 6)] * 3
    if form == "sizes" and make is not RandomFMix:
        sizes = [(5, 6), (4, 8), (6, 6)]
    for owner, name in OBJECT_STEPS:
        for turn in range(1, 100):
            batch = batch_of_objects(sizes, masks=masks)
            if form == "stacked":
                batch["image"] = torch.stack(batch["image"])
            before = copy.deepcopy(batch)
            mix = make(inplace=inplace)
            with monkeypatch.context() as patch:
                calls = fail_at(patch, owner, name, turn)
                with suppress(MemoryError):
                    mix(batch)
            if len(calls) < turn:
                break
            if inplace and name == "finish":
                continue  # by then all is written, and whole
            assert unchanged(before, batch), f"torn at {name} {turn}"
        else:
            pytest.fail(f"{name} never came to an end")


@pytest.mark.parametrize(("owner", "name"), OBJECT_STEPS, ids=lambda step: step)
def test_the_steps_of_objects_are_reached(owner, name, monkeypatch):
    calls = fail_at(monkeypatch, owner, name, turn=1000)
    for masks in (False, True):
        batch = batch_of_objects([(5, 6)] * 3, masks=masks)
        RandomCutMix(inplace=True)(batch)
        RandomFMix()({**batch, "image": torch.stack(batch["image"])})
    assert calls


def overlapping():
    buffer = torch.rand(3, 4, 8)
    return [buffer[..., :6], buffer[..., 2:]]


def one_twice():
    return [torch.rand(3, 4, 6)] * 2


def views_of_a_stack():
    return [*torch.rand(2, 3, 4, 6)]


def with_grad():
    return [torch.rand(3, 4, 6), torch.rand(3, 4, 6, requires_grad=True)]


def with_inferred():
    with torch.inference_mode():
        odd = torch.rand(3, 4, 6)
    return [torch.rand(3, 4, 6), odd]


def expanded():
    return [torch.rand(3, 4, 6), torch.rand(1, 4, 6).expand(3, 4, 6)]


def with_targets(images):
    return images, [{"image_id": i} for i in range(len(images))]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    ("images", "words"),
    [
        (overlapping, "two tensors share memory"),
        (one_twice, "two tensors share memory"),
        (with_grad, r"batch\[0\]\[1\] is a leaf that requires grad"),
        (with_inferred, r"batch\[0\]\[1\] was made in inference mode"),
        (expanded, r"batch\[0\]\[1\] .* one memory location several times"),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_a_list_that_cannot_be_written_is_found_before_any_image_is(make, images, words):
    given = images()
    before = [image.detach().clone() for image in given]
    with pytest.raises(ValueError, match=words):
        make(inplace=True)(*with_targets(given))
    assert all(torch.equal(image, old) for image, old in zip(given, before, strict=True))
    mixed, _ = make()(*with_targets(given))
    assert [image.shape for image in mixed] == [image.shape for image in given]
    assert all(torch.equal(image, old) for image, old in zip(given, before, strict=True))


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_disjoint_images_of_one_buffer_are_written(make):
    def mixed(**settings):
        torch.manual_seed(0)
        return make(**settings)(*with_targets(images))[0]

    images = views_of_a_stack()
    expected = mixed()
    written = mixed(inplace=True)
    for image, new, anew in zip(images, written, expected, strict=True):
        assert new is image
        assert torch.equal(image, anew)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_two_batches_of_the_same_images_are_not_written(make):
    batch = with_targets(views_of_a_stack())
    before = copy.deepcopy(batch)
    with pytest.raises(ValueError, match="two tensors share memory"):
        make(inplace=True).between(batch, batch)
    assert unchanged(before, batch)
    make().between(batch, batch)
    assert unchanged(before, batch)
