"""Boxes, masks and keypoints under every mixer, against the painter: properties, then cases."""

import copy

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.tv_tensors import BoundingBoxFormat

from mixup_transforms import (
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
)
from tests import painter
from tests.bits import unchanged
from tests.object_batches import FORMATS, forms, given_params, object_batches
from tests.painted import KINDS, assert_painted, plain, revealed, sizes_of
from tests.strategies import generator_of, seeds

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=repr)
upright = [form for form in FORMATS if not tv_tensors.is_rotated_bounding_format(form)]


def replayed(data, kind, batch, **settings):
    """Draw params for a batch and apply them: scenes and the mixed batch."""
    sizes = sizes_of(batch[0])
    params = data.draw(given_params(kind, sizes), label="params")
    return kind.scenes(params, sizes), kind.make(**settings).replay(params, *batch)


# The law, over given params


@every_kind
@pytest.mark.parametrize("regions", ["boxes", "masks", "both"])
@given(data=st.data())
def test_objects_are_what_the_painter_sees(kind, regions, data):
    if regions not in kind.regions:
        pytest.skip("refused")
    form = kind.forms(regions=[regions], formats=upright)
    batch = data.draw(kind.batches(form=form), label="batch")
    scenes, mixed = replayed(data, kind, batch)
    assert_painted(scenes, batch, mixed)


@every_kind
@pytest.mark.parametrize("rotated", ["XYWHR", "CXCYWHR", "XYXYXYXY"])
@given(data=st.data())
def test_rotated_boxes_are_what_the_painter_sees(kind, rotated, data):
    form = kind.forms(regions=["boxes", "both"], formats=[BoundingBoxFormat[rotated]])
    batch = data.draw(kind.batches(form=form), label="batch")
    scenes, mixed = replayed(data, kind, batch)
    assert_painted(scenes, batch, mixed)


@every_kind
@given(data=st.data())
def test_a_semantic_mask_goes_with_its_image(kind, data):
    form = kind.forms(semantic=kind.classes)
    batch = data.draw(kind.batches(form=form), label="batch")
    scenes, mixed = replayed(data, kind, batch)
    assert_painted(scenes, batch, mixed)


@every_kind
@given(data=st.data(), inplace=st.booleans())
def test_only_images_are_ever_written_and_only_in_place(kind, data, inplace):
    batch = data.draw(kind.batches(), label="batch")
    before = copy.deepcopy(batch)
    scenes, (images, targets) = replayed(data, kind, batch, inplace=inplace)
    assert_painted(scenes, before, (images, targets))
    assert unchanged(before[1], batch[1])
    assert all(new is not old for new, old in zip(targets, batch[1], strict=True))
    if not inplace:
        assert unchanged(before[0], batch[0])
        return
    for i, scene in enumerate(scenes):
        if scene.canvas == tuple(batch[0][i].shape[-2:]):
            assert images[i].data_ptr() == batch[0][i].data_ptr()
            assert torch.equal(plain(images[i]), plain(batch[0][i]))
        else:
            assert unchanged(before[0][i], batch[0][i])


@every_kind
@given(data=st.data())
def test_a_mapping_that_holds_the_pair_is_mixed_like_it_and_its_labels_tell_the_share(kind, data):
    images, targets = batch = data.draw(kind.batches(), label="batch")
    labels = torch.eye(len(images))
    params = data.draw(given_params(kind, sizes_of(images)), label="params")
    inputs = {"image": images, "target": targets, "label": labels}
    mixed = kind.make().replay(params, inputs)
    assert list(mixed) == ["image", "target", "label"]
    scenes = kind.scenes(params, sizes_of(images))
    assert_painted(scenes, batch, (mixed["image"], mixed["target"]))
    assert_labels(scenes, labels, mixed["label"])


# Those that need a mask of classes have it in the targets, and take no other.
@pytest.mark.parametrize("kind", [k for k in KINDS.values() if not k.needs_classes], ids=repr)
@given(data=st.data(), seed=seeds, inplace=st.booleans())
def test_what_is_said_of_each_pixel_goes_with_a_list_as_with_its_stack(kind, data, seed, inplace):
    images, targets = data.draw(kind.batches(one_size=True, min_batch=2), label="batch")
    images = [plain(image) for image in images]
    size = images[0].shape[-2:]
    planes = torch.rand(len(images), 2, *size, generator=generator_of(seed))
    mixed = []
    for each in (images, torch.stack(images)):
        inputs = {"image": each, "target": targets, "mask": tv_tensors.Mask(planes)}
        mix = kind.make(generator=generator_of(seed), inplace=inplace, images_getter="image")
        mixed.append(mix({**copy.deepcopy(inputs), "label": planes.clone()}))
    (one, other), truth = mixed, [plain(mix["mask"]) for mix in mixed]
    assert torch.equal(torch.stack([*map(plain, one["image"])]), plain(other["image"]))
    assert torch.equal(*truth)
    assert torch.equal(one["label"], other["label"])
    # What is a label of each pixel is mixed as a mask is.
    assert torch.allclose(plain(one["label"]), truth[0])


def assert_labels(scenes, labels, mixed):
    """Labels of whole images go by the shares of all parents."""
    for scene, label in zip(scenes, mixed, strict=True):
        shares = torch.tensor(painter.shares(scene.parts), dtype=torch.float32)
        expected = shares @ labels[[*scene.parents]]
        assert torch.allclose(label, expected, atol=1e-6), (
            f"parents {scene.parents} have the shares {shares.tolist()}, got {label.tolist()}"
        )


# The law, over what the mixers draw: every image has a colour of its own, which tells its share


def assert_revealed(batch, mixed, *, resizes):
    scenes = [revealed(image, i, batch[0], resizes=resizes) for i, image in enumerate(mixed[0])]
    assert_painted(scenes, batch, mixed)


def coloured(kind, **settings):
    """Batches whose pixels tell their parents, each of which is there once."""
    few = kind.partners + 1 if kind.partners > 1 else 1
    return kind.batches(**{"min_batch": few, **settings}, dtypes=[torch.float32], colours=True)


@every_kind
@given(data=st.data(), seed=seeds, p=st.sampled_from([0.5, 1.0]), per_sample=st.booleans())
def test_what_a_call_draws_is_what_the_painter_sees(kind, data, seed, p, per_sample):
    batch = data.draw(coloured(kind), label="batch")
    assume(kind.takes(batch[0], p=p, per_sample=per_sample))
    mix = kind.make(p=p, per_sample=per_sample, generator=generator_of(seed))
    assert_revealed(batch, mix(*batch), resizes=kind.name == "resizemix")


@every_kind
@given(data=st.data(), seed=seeds)
def test_between_takes_the_partners_objects_from_the_other_batch(kind, data, seed):
    twice = 2 * (kind.partners if kind.partners > 1 else 1)
    both = data.draw(
        coloured(kind, min_batch=twice, max_batch=max(4, twice)).filter(
            lambda batch: len(batch[0]) % 2 == 0
        ),
        label="both batches",
    )
    half = len(both[0]) // 2
    own, other = ((both[0][part], both[1][part]) for part in (slice(half), slice(half, None)))
    for _, targets in (own, other):
        assume(any("labels" in target for target in targets))
    mix = kind.make(generator=generator_of(seed))
    before = copy.deepcopy((own, other))
    mixed = mix.between(own, other)
    assert unchanged(before, (own, other))
    scenes = []
    for i, image in enumerate(mixed[0]):
        first = [half + i] if kind.partners == 1 else range(half, 2 * half)
        resizes = kind.name == "resizemix"
        scenes.append(revealed(image, i, both[0], resizes=resizes, partners=first))
    assert_painted(scenes, own, mixed, pool=both)


@given(data=st.data(), seed=seeds, per_sample=st.booleans(), one_size=st.booleans())
def test_a_choice_for_each_sample_is_what_the_painter_sees(data, seed, per_sample, one_size):
    batch = data.draw(coloured(KINDS["mosaic"], one_size=one_size), label="batch")
    mixers = [RandomMixup(), RandomCutMix(), RandomMosaic(), *([RandomFMix()] if one_size else [])]
    mix = RandomChoice(mixers, per_sample=per_sample, generator=generator_of(seed))
    assert_revealed(batch, mix(*batch), resizes=False)


@every_kind
@given(data=st.data(), seed=seeds)
def test_replaying_what_was_drawn_gives_what_the_call_gave(kind, data, seed):
    batch = data.draw(kind.batches(), label="batch")
    first, second = (kind.make(generator=generator_of(seed))(*batch) for _ in range(2))
    assert unchanged(first, second)


@every_kind
@pytest.mark.parametrize("off", ["p", "eval"])
@given(data=st.data())
def test_without_mixing_every_object_stays_bit_for_bit_with_weight_one(kind, off, data):
    batch = data.draw(kind.batches(), label="batch")
    mix = kind.make(p=0 if off == "p" else 1)
    if off == "eval":
        mix.eval()
    scenes = kind.scenes(unmixed_params(kind, batch[0]), sizes_of(batch[0]))
    assert not any(scene.mixed for scene in scenes)
    assert_painted(scenes, batch, mix(*batch))


def unmixed_params(kind, images):
    count = len(images)
    partner = torch.arange(count).roll(1)
    params = {"partner": partner if kind.partners == 1 else partner.repeat(kind.partners, 1).T}
    far = [kind.canvas or size for size in sizes_of(images)]
    largest = [max(lengths) for lengths in zip(*far, strict=True)]
    geometry = {
        "lam": lambda: torch.ones(count),
        "mask": lambda: torch.ones(count, *largest, dtype=torch.bool),
        "box": lambda: torch.zeros(count, 4, dtype=torch.int64),
        "centre": lambda: torch.tensor([(width, height) for height, width in far]),
    }
    return {**params, kind.geometry: geometry[kind.geometry]()}


@given(data=st.data(), seed=seeds)
def test_replaying_what_a_choice_drew_gives_what_its_call_gave(data, seed):
    batch = data.draw(object_batches(), label="batch")
    first, second = (
        RandomChoice(
            [RandomMixup(), RandomCutMix(), RandomResizeMix()],
            per_sample=True,
            generator=generator_of(seed),
        )
        for _ in range(2)
    )
    assert unchanged(first(*batch), second.replay(second.make_params([*batch]), *batch))


# Chains


def relabelled(targets):
    """Tell all objects of a batch apart again, one of which may be there twice."""
    return type(targets)(
        {**target, "labels": 100 * i + torch.arange(len(target["labels"]))}
        for i, target in enumerate(targets)
    )


@pytest.mark.parametrize("second", KINDS.values(), ids=repr)
@pytest.mark.parametrize("first", KINDS.values(), ids=repr)
@given(data=st.data())
def test_a_second_mixer_goes_on_from_the_weights_of_the_first(first, second, data):
    one_size = first.one_size or second.one_size
    classes = (None,)
    if first.needs_classes or second.needs_classes:
        classes = [dtype for dtype in first.classes if dtype in second.classes]
        if not classes:
            pytest.skip("one averages masks, and one takes class indices")
    regions = [each for each in first.regions if each in second.regions]
    # Rotated or scaled, real boxes end between the numbers that two ways of counting share.
    formats = upright if first.name == "resizemix" else FORMATS
    form = forms(regions=regions, formats=formats, semantic=classes)
    form = form.filter(lambda form: not blurred(first, form))
    batch = data.draw(object_batches(one_size=one_size, form=form), label="batch")
    scenes, halfway = replayed(data, first, batch)
    assert_painted(scenes, batch, halfway)
    halfway = halfway[0], relabelled(halfway[1])
    scenes, mixed = replayed(data, second, halfway)
    assert_painted(scenes, halfway, mixed)


def blurred(first, form):
    return first.name == "resizemix" and form.regions == "boxes" and form.dtype.is_floating_point


@pytest.mark.parametrize("second", ["cutmix", "fmix", "copypaste"])
@pytest.mark.parametrize("first", ["cutmix", "fmix", "copypaste"])
@given(data=st.data())
def test_after_two_cuts_a_masks_weight_is_the_share_of_it_that_is_left(first, second, data):
    form = forms(regions=["both"], formats=[BoundingBoxFormat.XYXY]).filter(
        lambda form: not form.weighted
    )
    one_size = "fmix" in (first, second)
    images, targets = data.draw(object_batches(one_size=one_size, form=form), label="batch")
    origin = {
        int(label): (plain(target["masks"])[n], plain(target["boxes"])[n])
        for target in targets
        for n, label in enumerate(target.get("labels", ()))
    }
    mixed = images, targets
    for kind in (KINDS[first], KINDS[second]):
        _, mixed = replayed(data, kind, mixed)
    for i, target in enumerate(mixed[1]):
        for n, label in enumerate(target["labels"].tolist()):
            mask, box = plain(target["masks"])[n], plain(target["boxes"])[n]
            whole, old_box = origin[label]
            share = mask.sum().item() / whole.sum().item() if whole.any() else 1.0
            weight = target["weights"][n].item()
            where = f"sample {i}, label {label}"
            assert weight == pytest.approx(share, abs=1e-6), where
            if share == 1:
                assert torch.equal(box, old_box), where
            else:
                rows, columns = mask.nonzero().unbind(1)
                tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert box.tolist() == [int(side) for side in tight], where


# By name


def boxes(rows, size, **settings):
    settings = {"format": "XYXY", **settings}
    return tv_tensors.BoundingBoxes(torch.tensor(rows), canvas_size=size, **settings)


def pair(first, second, size=(4, 8)):
    """Two samples of one size with a box each, the second of other pixels."""
    images = [torch.zeros(3, *size), torch.ones(3, *size)]
    targets = [
        {"boxes": boxes([first], size), "labels": torch.tensor([1])},
        {"boxes": boxes([second], size), "labels": torch.tensor([2])},
    ]
    return images, targets


SWAPPED = torch.tensor([1, 0])


def cut(batch, *geometry):
    params = {"partner": SWAPPED, "box": torch.tensor(geometry)}
    return RandomCutMix().replay(params, *batch)


def test_a_box_that_is_half_covered_weighs_one_half():
    batch = pair([2, 0, 6, 4], [0, 0, 2, 2])
    _, (first, second) = cut(batch, [4, 0, 8, 4], [0, 0, 0, 0])
    assert first["labels"].tolist() == [1]
    assert first["weights"].tolist() == [0.5]
    assert plain(first["boxes"]).tolist() == [[2, 0, 4, 4]]
    assert second["labels"].tolist() == [2]
    assert second["weights"].tolist() == [1]


def test_a_hole_in_the_middle_keeps_the_box_and_both_objects_are_there():
    batch = pair([0, 0, 8, 4], [2, 1, 6, 3])
    _, (first, _) = cut(batch, [2, 1, 6, 3], [0, 0, 0, 0])
    assert first["labels"].tolist() == [1, 2]
    assert first["weights"].tolist() == [0.75, 1]
    assert plain(first["boxes"]).tolist() == [[0, 0, 8, 4], [2, 1, 6, 3]]


def test_mixup_gives_each_object_the_share_of_its_image():
    batch = pair([0, 0, 8, 4], [2, 1, 6, 3])
    params = {"partner": SWAPPED, "lam": torch.tensor([0.25, 0.75])}
    _, (first, second) = RandomMixup().replay(params, *batch)
    assert first["labels"].tolist() == [1, 2]
    assert first["weights"].tolist() == [0.25, 0.75]
    assert second["labels"].tolist() == [2, 1]
    assert second["weights"].tolist() == [0.75, 0.25]


def test_resizemix_scales_objects_into_the_box_and_whole_numbers_round_outward():
    batch = pair([0, 0, 8, 4], [1, 1, 7, 3])
    params = {"partner": SWAPPED, "box": torch.tensor([[2, 1, 6, 3], [0, 0, 0, 0]])}
    _, (first, _) = RandomResizeMix().replay(params, *batch)
    assert first["labels"].tolist() == [1, 2]
    assert first["weights"].tolist() == [0.75, 1]
    # 2 + 1 · 4 / 8 = 2.5 and 2 + 7 · 4 / 8 = 5.5; 1 + 1 · 2 / 4 = 1.5 and 1 + 3 · 2 / 4 = 2.5
    assert plain(first["boxes"]).tolist() == [[0, 0, 8, 4], [2, 1, 6, 3]]


def test_a_degenerate_box_stays_while_its_sample_is_not_mixed_and_goes_when_it_is():
    batch = pair([3, 1, 3, 3], [0, 0, 2, 2])
    _, (kept, _) = cut(batch, [0, 0, 0, 0], [0, 0, 0, 0])
    assert kept["labels"].tolist() == [1]
    assert kept["weights"].tolist() == [1]
    _, (gone, _) = cut(batch, [0, 0, 1, 1], [0, 0, 0, 0])
    assert gone["labels"].tolist() == [2]


def test_a_small_partner_that_the_box_misses_leaves_the_sample_as_it_was():
    images = [torch.zeros(3, 4, 8), torch.ones(3, 2, 2)]
    targets = [
        {"boxes": boxes([[2, 1, 2, 4], [0, 0, 9, 9]], (4, 8)), "labels": torch.tensor([1, 3])},
        {"boxes": boxes([[0, 0, 2, 2]], (2, 2)), "labels": torch.tensor([2])},
    ]
    out, (first, _) = cut((images, targets), [3, 2, 8, 4], [0, 0, 0, 0])
    assert torch.equal(out[0], images[0])
    assert first["labels"].tolist() == [1, 3]
    assert first["weights"].tolist() == [1, 1]
    assert unchanged(first["boxes"], targets[0]["boxes"])


def test_an_image_without_annotations_takes_the_forms_of_the_others():
    images, targets = pair([0, 0, 8, 4], [2, 1, 6, 3])
    targets = [
        {"image_id": 7},
        {
            **targets[1],
            "image_id": 8,
            "area": [8.0],
            "iscrowd": [0],
            "masks": tv_tensors.Mask(torch.ones(1, 4, 8, dtype=torch.uint8)),
        },
        {"image_id": 9},
    ]
    images.append(torch.ones(3, 4, 8))
    params = {"partner": torch.tensor([1, 2, 0]), "lam": torch.tensor([0.25, 0.5, 0.5])}
    _, (gains, keeps, empty) = RandomMixup().replay(params, images, targets)
    assert [gains["image_id"], keeps["image_id"], empty["image_id"]] == [7, 8, 9]
    assert gains["labels"].tolist() == [2]
    assert gains["weights"].tolist() == [0.75]
    assert (gains["area"], gains["iscrowd"]) == ([8.0], [0])
    assert keeps["weights"].tolist() == [0.5]
    assert (empty["area"], empty["iscrowd"]) == ([], [])
    assert type(empty["boxes"]) is tv_tensors.BoundingBoxes
    assert empty["boxes"].shape == (0, 4)
    assert empty["masks"].shape == (0, 4, 8)
    assert empty["masks"].dtype == torch.uint8
    assert empty["labels"].dtype == torch.int64
    assert empty["weights"].shape == (0,)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
@pytest.mark.parametrize("form", upright)
def test_narrow_integers_are_boxes_like_wide_ones(form, dtype):
    # A centre near the corner, and sides whose sums leave a byte.
    rows = {"XYXY": [[0, 0, 9, 9], [70, 60, 120, 110]], "XYWH": [[0, 0, 9, 9], [70, 60, 50, 50]]}
    given = torch.tensor(rows.get(form.value, [[4, 3, 9, 9], [95, 85, 50, 50]]))
    cut = {"partner": torch.tensor([1, 0]), "box": torch.tensor([[100, 0, 126, 126], [0, 0, 0, 0]])}
    found = []
    for each in (dtype, torch.int64):
        boxes = tv_tensors.BoundingBoxes(given.to(each), format=form, canvas_size=(126, 126))
        images = [torch.zeros(1, 126, 126)] * 2
        _, (first, _) = RandomCutMix().replay(cut, images, [{"boxes": boxes}] * 2)
        found.append((plain(first["boxes"]), first["weights"]))
    (narrow, light), (wide, heavy) = found
    assert narrow.dtype == dtype
    assert narrow.tolist() == wide.tolist()
    assert torch.equal(light, heavy)
    assert len(wide) == 3


def test_what_is_said_of_an_image_without_objects_stays_its_own():
    full, size = one_object(), torch.tensor([4])
    full["height"] = torch.tensor([9])  # as many rows as objects, by chance
    bare = {"image_id": 1, "height": size}
    images = [torch.rand(3, 4, 4), torch.rand(3, 4, 4)]
    params = {"partner": torch.tensor([1, 0]), "lam": torch.tensor([0.5, 0.5])}
    _, (first, second) = RandomMixup().replay(params, images, [full, bare])
    assert first["height"].tolist() == [9]
    assert second["height"] is size
    assert second["labels"].tolist() == [7]
    assert len(second["boxes"]) == 1


def one_object():
    boxes = tv_tensors.BoundingBoxes([[0.0, 0, 2, 2]], format="XYXY", canvas_size=(4, 4))
    return {"boxes": boxes, "labels": torch.tensor([7])}


def test_a_batch_of_images_without_annotations_is_mixed_all_the_same():
    images = [torch.zeros(3, 4, 4), torch.ones(3, 4, 4)]
    params = {"partner": SWAPPED, "lam": torch.tensor([0.25, 0.5])}
    out, targets = RandomMixup().replay(params, images, [{"image_id": 7}, {"image_id": 8}])
    assert out[0].unique().item() == 0.75
    assert [target["image_id"] for target in targets] == [7, 8]
    assert all(target["weights"].shape == (0,) for target in targets)


def test_a_batch_of_one_keeps_its_objects():
    images, targets = [torch.rand(3, 4, 8)], pair([0, 0, 8, 4], [2, 1, 6, 3])[1][:1]
    for kind in KINDS.values():
        if "boxes" not in kind.regions or kind.needs_classes:
            continue
        out, (target,) = kind.make()(images, targets)
        assert torch.equal(out[0], images[0])
        assert target["weights"].tolist() == [1]
        assert unchanged(target["boxes"], targets[0]["boxes"])


def test_uncovered_corners_of_a_joined_canvas_are_black_and_nobodys():
    images = [torch.ones(1, 2, 4), torch.ones(1, 4, 2)]
    params = {"partner": SWAPPED, "lam": torch.tensor([0.25, 1.0])}
    targets = [
        {"boxes": boxes([[0, 0, 1, 1]], (2, 4)), "labels": torch.tensor([1])},
        {"boxes": boxes([[0, 0, 1, 1]], (4, 2)), "labels": torch.tensor([2])},
    ]
    out, mixed = RandomMixup().replay(params, images, targets)
    assert out[0].shape == (1, 4, 4)
    assert not out[0][:, 2:, 2:].any()
    assert (out[0][:, :2] == 1).all()
    assert tuple(mixed[0]["boxes"].canvas_size) == (4, 4)
    assert torch.equal(out[1], images[1])


def test_int_labels_need_no_num_classes_and_stay_whole():
    _, targets = RandomMixup(generator=generator_of(0))(*pair([0, 0, 8, 4], [2, 1, 6, 3]))
    assert all(target["labels"].dtype == torch.int64 for target in targets)
    assert sorted(targets[0]["labels"].tolist()) == [1, 2]


def test_a_shared_lam_is_one_for_the_batch():
    images = [torch.zeros(3, 4, 8), torch.ones(3, 6, 4), torch.ones(3, 4, 4)]
    targets = [
        {"boxes": boxes([[0, 0, 2, 2]], image.shape[1:]), "labels": torch.tensor([i])}
        for i, image in enumerate(images)
    ]
    mix = RandomMixup(per_sample=False, generator=generator_of(0))
    _, targets = mix(images, targets)
    assert len({target["weights"][0].item() for target in targets}) == 1
