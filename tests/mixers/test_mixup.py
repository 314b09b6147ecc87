import copy
import pickle
import weakref

import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    LabelMixture,
    OneHot,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    functional,
)
from tests.accelerator import Accelerator
from tests.strategies import generator_of, lams, seeds, soft_labels

IMAGES, LABELS = torch.rand(4, 3, 5, 6), torch.tensor([0, 1, 2, 3])
PARAMS = {"partner": torch.tensor([1, 2, 3, 0]), "lam": torch.tensor([0.1, 0.5, 0.9, 1.0])}
TWINS = [copy.copy, copy.deepcopy, lambda mix: pickle.loads(pickle.dumps(mix))]
MIXED = RandomMixup(num_classes=4).replay(PARAMS, IMAGES, LABELS)


def image(*shape):
    return tv_tensors.Image(torch.rand(shape))


def test_numbers_are_samples_too():
    values, labels = RandomMixup(num_classes=4)(torch.arange(4.0), LABELS)
    torch.testing.assert_close(labels @ torch.arange(4.0), values)


# λ


@given(seed=seeds, alpha=st.floats(0.01, 100), per_sample=st.booleans())
def test_dominant_keeps_the_larger_share(seed, alpha, per_sample):
    plain, folded = (
        RandomMixup(
            alpha=alpha,
            dominant=dominant,
            per_sample=per_sample,
            generator=generator_of(seed),
        ).make_params([torch.rand(6, 2)])["lam"]
        for dominant in (False, True)
    )
    torch.testing.assert_close(folded, torch.maximum(plain, 1 - plain))


def test_per_batch_and_per_sample_lam():
    assert len(RandomMixup(per_sample=False).make_params([IMAGES])["lam"].unique()) == 1
    assert len(RandomMixup(per_sample=True).make_params([IMAGES])["lam"].unique()) == 4


def test_p_gates_samples_or_whole_batches():
    mix = RandomMixup(p=0.3, generator=generator_of(0))
    lam = mix.make_params([torch.rand(10_000, 1)])["lam"]
    assert (lam != 1).double().mean().item() == pytest.approx(0.3, abs=0.02)
    mix = RandomMixup(p=0.3, per_sample=False, generator=generator_of(0))
    gates = [(mix.make_params([torch.rand(3, 1)])["lam"] != 1).tolist() for _ in range(2000)]
    assert all(len(set(gate)) == 1 for gate in gates)
    assert sum(gate[0] for gate in gates) / 2000 == pytest.approx(0.3, abs=0.04)


def test_p_is_kept_to_the_last_digit():
    mix = RandomMixup(p=0.3)
    assert mix.p == 0.3
    mix.p = 0.7
    assert mix.p == 0.7
    with pytest.raises(ValueError, match="p must lie"):
        mix.p = 2
    assert mix.p == 0.7


def test_alpha_may_be_an_integer():
    RandomMixup(alpha=1)(IMAGES, soft_labels(4))


# Batches


@pytest.mark.parametrize("labels_getter", ["default", "labels", lambda b: b["labels"]])
def test_dicts_in_any_order(labels_getter):
    mix = RandomMixup(num_classes=4, labels_getter=labels_getter)
    names = ["a", "b", "c", "d"]
    for keys in (("labels", "pixel_values"), ("pixel_values", "labels")):
        values = {"labels": LABELS, "pixel_values": IMAGES}
        out = mix.replay(PARAMS, {"names": names, **{k: values[k] for k in keys}})
        assert list(out) == ["names", *keys]
        assert torch.equal(out["pixel_values"], MIXED[0])
        assert torch.equal(out["labels"], MIXED[1])
        assert out["names"] == names


def test_tuples_lists_and_nested_trees():
    mix = RandomMixup(num_classes=4)
    assert isinstance(mix.replay(PARAMS, (IMAGES, LABELS)), tuple)
    assert isinstance(mix.replay(PARAMS, [IMAGES, LABELS]), list)
    extra = torch.rand(2)
    out = mix.replay(PARAMS, IMAGES, {"labels": LABELS, "extra": extra})
    assert torch.equal(out[1]["labels"], MIXED[1])
    assert out[1]["extra"] is extra
    out = RandomMixup(num_classes=4, labels_getter="label").replay(
        PARAMS, IMAGES, {"target": {"label": LABELS}, "extra": extra}
    )
    assert torch.equal(out[1]["target"]["label"], MIXED[1])
    assert out[1]["extra"] is extra


def test_compose_and_random_apply():
    pipeline = v2.Compose([OneHot(4), v2.RandomApply([RandomMixup()], p=1.0)])
    mixed, labels = pipeline(IMAGES, LABELS)
    assert not torch.equal(mixed, IMAGES)
    torch.testing.assert_close(labels.sum(1), torch.ones(4))


def test_every_image_and_video_is_mixed_alike_and_keeps_its_type():
    first, second = tv_tensors.Image(IMAGES), tv_tensors.Video(IMAGES[:, None].flip(1))
    plain = torch.rand(4, 2)
    mix = RandomMixup(num_classes=4, labels_getter=lambda batch: batch[3])
    out = mix.replay(PARAMS, first, second, plain, LABELS)
    assert [type(leaf) for leaf in out] == [
        tv_tensors.Image,
        tv_tensors.Video,
        torch.Tensor,
        torch.Tensor,
    ]
    assert torch.equal(out[0], MIXED[0])
    assert torch.equal(out[1][:, 0], MIXED[0])
    assert out[2] is plain


def test_in_place_returns_the_very_tv_tensor():
    images = tv_tensors.Image(IMAGES.clone())
    out, labels = RandomMixup(inplace=True, num_classes=4).replay(PARAMS, images, LABELS)
    assert out is images
    assert torch.equal(images, MIXED[0])
    assert torch.equal(labels, MIXED[1])
    assert LABELS.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("gap", [-1, 0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_in_place_refuses_tensors_that_share_one_element(gap, layout):
    flat = torch.rand(2 * 48 + gap)
    halves = (flat[:48], flat[48 + gap :])
    first, second = (half.view(4, 2, 2, 3).permute(0, 3, 1, 2) for half in halves)
    if layout == torch.contiguous_format:
        first, second = (half.view(4, 3, 2, 2) for half in halves)
    batch = {"b": tv_tensors.Image(second), "a": tv_tensors.Image(first), "labels": torch.eye(4)}
    mix = RandomMixup(inplace=True)
    if gap < 0:
        with pytest.raises(ValueError, match="share memory"):
            mix(batch)
    else:
        assert mix(batch)["a"] is batch["a"]


def test_in_place_takes_several_tensors_that_have_no_memory():
    for images in (torch.rand(0, 3, 2, 2), torch.rand(4, 3, 2, 2, device="meta")):
        batch = {"a": tv_tensors.Image(images), "b": tv_tensors.Image(images)}
        out = RandomMixup(inplace=True, labels_getter=None)(batch)
        assert out["a"] is batch["a"]


def test_roles_are_decided_by_position():
    # One tensor stands for images and labels: torchvision's `is` would take both for labels.
    both = torch.rand(4, 3)
    mix = RandomMixup(labels_getter=lambda batch: batch[1])
    images, labels = mix.replay(PARAMS, both, both)
    assert torch.equal(images, labels)
    assert images is not labels
    same_label_twice = RandomMixup(images_getter="a", labels_getter="b").replay(
        PARAMS, {"a": both, "b": both, "c": both}
    )
    assert same_label_twice["c"] is both
    assert not torch.equal(same_label_twice["a"], both)
    assert not torch.equal(same_label_twice["b"], both)


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("kind", ["tensor", "mixture"])
def test_a_getter_tells_two_places_of_one_object_apart(kind, place):
    mixture = LabelMixture(LABELS[:, None], torch.ones(4, 1))
    both = torch.rand(4, 3) if kind == "tensor" else mixture
    mix = RandomMixup(labels_getter=lambda batch: (None, batch[place]))
    out = mix.replay(PARAMS, image(4, 3, 5, 6), both, both, "name", "name")
    assert out[3 - place] is both
    assert out[place] is not both
    assert out[3:] == ("name", "name")


def test_a_getter_may_know_the_labels_from_elsewhere():
    labels = torch.eye(4)
    mix = RandomMixup(labels_getter=lambda batch: labels)
    assert torch.equal(mix.replay(PARAMS, IMAGES, "a", labels)[2], MIXED[1])


def test_a_getter_sees_every_leaf_in_its_type():
    seen, view = [], image(4, 3, 5, 6)
    mix = RandomMixup(labels_getter=lambda batch: seen.extend(map(type, batch)) or batch[2])
    mix(view, view, torch.eye(4))
    assert seen == [tv_tensors.Image, tv_tensors.Image, torch.Tensor]


def test_the_key_labels_comes_before_other_label_keys():
    batch = {"images": IMAGES, "label_weights": torch.rand(4), "Labels": torch.eye(4)}
    out = RandomMixup().replay(PARAMS, batch)
    assert torch.equal(out["Labels"], MIXED[1])
    assert out["label_weights"] is batch["label_weights"]


def test_dense_labels_may_have_positions_after_the_classes():
    labels = torch.rand(4, 3, 5)
    _, mixed = RandomMixup(num_classes=3).replay(PARAMS, IMAGES, labels)
    lam = PARAMS["lam"].view(4, 1, 1)
    torch.testing.assert_close(mixed, lam * labels + (1 - lam) * labels[PARAMS["partner"]])


def test_labels_getter_none_mixes_images_alone():
    out = RandomMixup(labels_getter=None).replay(PARAMS, IMAGES)
    assert torch.equal(out, MIXED[0])


def test_labels_of_several_tasks():
    age = torch.rand(4)
    mix = RandomMixup(labels_getter=lambda batch: (batch[1], batch[2]))
    _, labels, ages = mix.replay(PARAMS, IMAGES, torch.eye(4), age)
    assert torch.equal(labels, MIXED[1])
    lam, partner = PARAMS["lam"], PARAMS["partner"]
    torch.testing.assert_close(ages, lam * age + (1 - lam) * age[partner])


def test_floating_masks_are_labels():
    mask = tv_tensors.Mask(torch.rand(4, 2, 5, 6, dtype=torch.float16))
    images, mixed = RandomMixup().replay(PARAMS, tv_tensors.Image(IMAGES), mask)
    assert torch.equal(images, MIXED[0])
    assert type(mixed) is tv_tensors.Mask
    assert mixed.dtype == torch.float32
    lam, soft = PARAMS["lam"].view(4, 1, 1, 1), mask.float()
    torch.testing.assert_close(
        torch.Tensor(mixed), torch.Tensor(lam * soft + (1 - lam) * soft[PARAMS["partner"]])
    )


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_labels_come_out_in_the_same_form_in_every_case(p, training):
    for labels in (LABELS, LABELS.int(), LABELS.to(torch.uint8), torch.eye(4).half()):
        mix = RandomMixup(p=p, num_classes=4).train(training)
        mixed = mix(IMAGES, labels)[1]
        assert mixed.dtype == torch.float32
        assert mixed.shape == (4, 4)
    assert RandomMixup(p=p).train(training)(IMAGES, torch.rand(4).double())[1].dtype == torch.double


def test_an_empty_batch():
    mixed, labels = RandomMixup(num_classes=4)(torch.rand(0, 3, 5, 6), LABELS[:0])
    assert mixed.shape == (0, 3, 5, 6)
    assert labels.shape == (0, 4)


def test_pickle_keeps_settings():
    mix = RandomMixup(alpha=0.3, p=0.5, num_classes=7, dominant=True)
    assert repr(pickle.loads(pickle.dumps(mix))) == repr(mix)


@pytest.mark.parametrize("twin", TWINS)
def test_a_copy_has_settings_of_its_own(twin):
    mix = RandomMixup(alpha=0.5)
    copied = twin(mix)
    mix.p, copied.alpha = 0.25, 3.0
    assert (mix.p, mix.alpha) == (0.25, 0.5)
    assert (copied.p, copied.alpha) == (1.0, 3.0)


@pytest.mark.parametrize("make", [RandomMixup, RandomCutMix, RandomFMix])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("alpha", -1, ValueError),
        ("alpha", "1", TypeError),
        ("p", 1.5, ValueError),
        ("p", torch.nn.Parameter(torch.ones(())), TypeError),
    ],
)
def test_settings_are_checked_when_set(make, name, value, error):
    mix = make(alpha=0.5)
    with pytest.raises(error, match=f"^{name} must"):
        setattr(mix, name, value)
    assert (mix.alpha, mix.p) == (0.5, 1.0)


@pytest.mark.parametrize("context", [torch.inference_mode, lambda: torch.device("meta")])
def test_a_mixer_made_in_a_mode_of_torch_can_be_set_outside_of_it(context):
    with context():
        mix = RandomMixup(alpha=0.5, num_classes=4, generator=generator_of(0))
        pickle.dumps(mix)
    mix.p = mix.alpha = 0.75
    assert (mix.p, mix.alpha) == (0.75, 0.75)
    mix(IMAGES, LABELS)
    mix.load_state_dict(mix.state_dict())


def test_repr_shows_the_settings():
    mix = RandomMixup(alpha=0.3, generator=generator_of(5))
    assert repr(mix) == (
        "RandomMixup(alpha=0.3, p=1.0, num_classes=None, per_sample=True, dominant=False, "
        "pairing=None, inplace=False, generator=<cpu generator, seed 5>, images_getter='default', "
        "labels_getter='default')"
    )


# Bad input


SOFT = soft_labels(4)
BOXES = tv_tensors.BoundingBoxes(torch.rand(4, 4), format="XYXY", canvas_size=(5, 6))


@pytest.mark.parametrize(
    ("settings", "batch", "error", "message"),
    [
        ({}, (IMAGES, LABELS), ValueError, "or give it num_classes"),
        ({"num_classes": 3}, (IMAGES, LABELS), ValueError, "labels must lie.* got 3"),
        ({"num_classes": 4}, (IMAGES, LABELS - 1), ValueError, "labels must lie.* got -1"),
        ({"num_classes": 4}, (IMAGES, LABELS[:3]), ValueError, "same batch size"),
        ({"num_classes": 4}, (IMAGES, torch.rand(4)), ValueError, "class indices or have"),
        ({"num_classes": 5}, (IMAGES, SOFT), ValueError, "num_classes=5 columns"),
        ({"num_classes": 4}, (IMAGES, LABELS[:, None]), ValueError, r"squeeze\(1\)"),
        ({}, (IMAGES, LABELS > 1), TypeError, "floating or integer, got bool"),
        ({}, (IMAGES, torch.tensor(1.0)), ValueError, "labels .* a batch dimension"),
        ({}, (IMAGES,), ValueError, "no labels found"),
        ({}, ({"pixel_values": IMAGES},), ValueError, "no labels found"),
        ({}, ({"labels": SOFT},), ValueError, "no images found"),
        ({}, ("images", SOFT), ValueError, "no images found"),
        ({}, (), TypeError, "expected a batch"),
        ({}, (torch.rand(3, 5, 6), SOFT[0]), ValueError, "this is one sample"),
        ({}, (image(3, 5, 6), SOFT[:3]), ValueError, "at least 4 dimensions"),
        ({}, (tv_tensors.Video(IMAGES), SOFT), ValueError, "at least 5 dimensions"),
        ({}, (PIL.Image.new("RGB", (4, 4)), SOFT), TypeError, "a PIL image"),
        ({}, (IMAGES > 0.5, SOFT), TypeError, "to be mixed, got bool"),
        ({}, (IMAGES + 1j, SOFT), TypeError, "to be mixed, got complex64"),
        ({}, (image(4, 3, 5, 6), image(5, 3, 5, 6)), ValueError, "same batch size"),
        (
            {},
            (image(4, 3, 5, 6), tv_tensors.Mask(torch.zeros(4, 5, 6, dtype=torch.long))),
            ValueError,
            "masks .* must be floating",
        ),
        (
            {},
            {
                "images": image(4, 3, 5, 6),
                "labels": SOFT,
                "boxes": BOXES,
            },
            TypeError,
            "takes BoundingBoxes in a list",
        ),
        ({"labels_getter": "target"}, ({"x": IMAGES, "y": SOFT},), ValueError, "the key 'target'"),
        (
            {"labels_getter": lambda b: b[1].clone()},
            (IMAGES, SOFT),
            ValueError,
            "not an object of the batch",
        ),
        ({}, ({"label_a": SOFT, "label_b": SOFT, "x": IMAGES},), ValueError, "has several labels"),
        ({}, (IMAGES, (SOFT, SOFT)), ValueError, "2 tensors where"),
    ],
)  # fmt: skip
def test_bad_batches(settings, batch, error, message):
    batch = (batch,) if isinstance(batch, dict) else batch
    kept = [leaf.clone() for leaf in batch if isinstance(leaf, torch.Tensor)]
    mix = RandomMixup(**settings)
    calls = [mix, lambda *b: mix.replay(PARAMS, *b), lambda *b: mix.eval()(*b)]
    for call in calls:
        with pytest.raises(error, match=message):
            call(*batch)
    after = [leaf for leaf in batch if isinstance(leaf, torch.Tensor)]
    assert all(torch.equal(a, b) for a, b in zip(kept, after, strict=True))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((SOFT, SOFT), "share memory"),
        ((IMAGES[:1].expand(4, 3, 5, 6), SOFT), "several times"),
    ],
)
def test_what_cannot_be_written_is_refused_only_where_it_would_be(batch, message):
    mix = RandomMixup(inplace=True)
    for call in (mix, lambda *b: mix.replay(PARAMS, *b)):
        with pytest.raises(ValueError, match=message):
            call(*batch)
    images, labels = mix.eval()(*batch)
    assert images is batch[0]
    assert torch.equal(labels, batch[1])


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (
            {**PARAMS, "partner": torch.tensor([1, 2, 4, 0])},
            ValueError,
            "partner must hold",
        ),
        ({**PARAMS, "lam": PARAMS["lam"] * 2}, ValueError, "lam must lie"),
        ({**PARAMS, "lam": PARAMS["lam"][:3]}, ValueError, "lam must have shape"),
        ({"lam": PARAMS["lam"]}, ValueError, "params must have 'partner'"),
        ([PARAMS], TypeError, "params must be a dict"),
    ],
)
def test_bad_params(params, error, message):
    images = IMAGES.clone()
    with pytest.raises(error, match=message):
        RandomMixup(num_classes=4, inplace=True).replay(params, images, LABELS)
    assert torch.equal(images, IMAGES)


@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=6),
    lam=st.lists(lams, min_size=6, max_size=6),
    dtype=st.sampled_from([torch.uint8, torch.int64]),
)
def test_class_indices_mix_to_the_bit_as_one_hot_rows_do(labels, lam, dtype):
    indices, share = torch.tensor(labels, dtype=dtype), torch.tensor(lam[: len(labels)])
    params = {"partner": torch.arange(len(labels)).roll(1), "lam": share}
    x = torch.rand(len(labels), 2)
    _, mixed = RandomMixup(num_classes=4).replay(params, x, indices)
    _, expected = RandomMixup().replay(params, x, functional.one_hot(indices, 4))
    assert torch.equal(mixed, expected)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_class_indices_out_of_range_that_cannot_be_read_become_nan(dtype):
    params = {"partner": torch.tensor([2, 0, 1, 4, 3]), "lam": torch.full((5,), 0.75)}
    with Accelerator() as accelerator:
        labels = accelerator.put(torch.tensor([0, -1, 3, 4, 1], dtype=dtype))
        _, mixed = RandomMixup(num_classes=4).replay(params, torch.rand(5, 2), labels)
        mixed, rows = accelerator.take((mixed, functional.one_hot(labels, 4)))
    nan = torch.nan
    expected = torch.tensor([[0.75, 0, 0, 0.25], *[[nan] * 4] * 4])
    torch.testing.assert_close(mixed, expected, equal_nan=True)
    kept = torch.tensor([True, False, True, False, True])
    assert torch.equal(rows[kept], torch.eye(4)[[0, 3, 1]])
    assert rows[~kept].isnan().all()


def test_a_batch_of_the_same_form_is_still_checked_for_its_values():
    mix = RandomMixup(num_classes=4)
    mix(IMAGES, torch.tensor([0, 1, 2, 3]))
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 4\), got 4"):
        mix(IMAGES, torch.tensor([0, 1, 2, 4]))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_classes", None, "apply OneHot"),
        ("num_classes", 3, r"labels must lie in \[0, 3\), got 3"),
        ("labels_getter", "label", "names the key 'label'"),
        ("images_getter", lambda batch: batch[1].double(), "not an object of the batch"),
    ],
)
def test_a_batch_of_the_same_form_meets_settings_as_they_are_now(name, value, message):
    mix = RandomMixup(num_classes=4)
    mix(IMAGES, torch.tensor([0, 1, 2, 3]))
    setattr(mix, name, value)
    with pytest.raises(ValueError, match=message):
        mix(IMAGES, torch.tensor([0, 1, 2, 3]))


@pytest.mark.parametrize(
    "second",
    [
        (IMAGES.bool(), torch.arange(4)),
        (IMAGES, torch.arange(3)),
        (IMAGES, torch.arange(4).unsqueeze(1)),
        (IMAGES.to_sparse(), torch.arange(4)),
        (IMAGES, torch.arange(4), IMAGES.unsqueeze(1)),
    ],
    ids=["dtype", "size", "shape", "layout", "leaves"],
)
def test_a_batch_of_another_form_is_checked_anew(second):
    mix = RandomMixup(num_classes=4)
    mix(IMAGES, torch.arange(4))
    with pytest.raises((TypeError, ValueError)):
        mix(*second)


def test_a_mixer_keeps_no_batch_alive():
    mix, images = RandomMixup(num_classes=4), torch.rand(4, 2)
    mix(images, torch.arange(4))
    held = weakref.ref(images)
    del images
    assert held() is None
