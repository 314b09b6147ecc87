"""KeepVisible against the painter: properties, then cases by name."""

import copy
import math
import pickle
import re
from collections import UserDict
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxFormat, is_rotated_bounding_format

from mixup_transforms import (
    KeepVisible,
    MixCollate,
    MixedDataset,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
)
from tests import painter
from tests.accelerator import Accelerator
from tests.bits import same
from tests.object_batches import forms, object_batches
from tests.painted import plain, region_of
from tests.strategies import generator_of

SIZE = (10, 20)
OF_OBJECTS = (
    *("boxes", "masks", "keypoints", "labels", "area", "iscrowd", "names"),
    *("weights", "keypoint_weights"),
)


# What the painter measures


def sides_of(target, n, size):
    """The sides of an object, an upright one as far as it lies in its image; None without area."""
    part = painter.unmixed(size, size)[0]
    boxed = {key: value for key, value in target.items() if key != "masks" or "boxes" not in target}
    region = region_of(boxed, n)
    if "corners" in region:
        sides = [math.dist(*pair) for pair in pairwise([*region["corners"], region["corners"][0]])]
        return None if min(sides) < 1e-6 else sides
    seen = painter.seen(part, **region)
    if seen is None:
        return None
    x1, y1, x2, y2 = seen.tight
    return [x2 - x1, y2 - y1]


def expected_rows(target, size, min_weight, min_size):
    rows = []
    for n in range(len(target.get("labels", ()))):
        sides = sides_of(target, n, size)
        weight = float(target["weights"][n]) if "weights" in target else 1.0
        if sides is not None and min(sides) >= min_size and weight >= min_weight:
            rows.append(n)
    return rows


def assert_kept(target, kept, rows):
    """Check that a target has the given rows of another, and the rest of it as it was."""
    assert type(kept) is type(target)
    assert kept is not target
    assert list(kept) == list(target)
    for key, value in target.items():
        found = kept[key]
        if key not in OF_OBJECTS:
            assert found is value, f"{key!r} has to stay what it was"
        elif isinstance(value, torch.Tensor):
            assert type(found) is type(value)
            assert same([plain(found)], [plain(value)[rows]]), f"{key!r}: rows {rows} wanted"
            for name in ("format", "canvas_size", "clamping_mode"):
                assert getattr(found, name, None) == getattr(value, name, None)
        else:
            assert type(found) is type(value)
            assert list(found) == [value[n] for n in rows], f"{key!r}: rows {rows} wanted"


@given(
    data=st.data(),
    min_weight=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    min_size=st.sampled_from([0, 0.9, 1.1, 2.6]),  # which no side is, but for rounding
)
@pytest.mark.parametrize("rotated", [False, True], ids=["upright", "rotated"])
def test_what_is_kept_is_what_the_painter_finds_large_and_visible_enough(
    rotated, data, min_weight, min_size
):
    formats = [form for form in BoundingBoxFormat if is_rotated_bounding_format(form) == rotated]
    regions = ["boxes", "both"] if rotated else ["boxes", "masks", "both"]
    form = forms(formats=formats, regions=regions, semantic=(None, torch.int64))
    images, targets = batch = data.draw(object_batches(form=form), label="batch")
    before = copy.deepcopy(batch)
    kept_images, kept = KeepVisible(min_weight=min_weight, min_size=min_size)(images, targets)
    assert kept_images is images
    assert type(kept) is type(targets)
    for image, target, new in zip(images, targets, kept, strict=True):
        size = tuple(image.shape[-2:])
        assert_kept(target, new, expected_rows(target, size, min_weight, min_size))
    assert all(map(torch.equal, before[0], images))
    for old, target in zip(before[1], targets, strict=True):
        assert_kept(old, {**target, **rest_of(old)}, range(len(old.get("labels", ()))))


def rest_of(target):
    return {key: value for key, value in target.items() if key not in OF_OBJECTS}


@given(data=st.data())
def test_a_sample_is_sifted_like_a_batch_of_it(data):
    images, targets = data.draw(object_batches(max_batch=1), label="batch")
    _, (expected,) = KeepVisible(min_size=2)(images, targets)
    image, target = KeepVisible(min_size=2)(images[0], targets[0])
    assert same([image], [images[0]])
    assert_same_target(target, expected)


@given(data=st.data())
def test_what_was_kept_once_is_kept_again(data):
    batch = data.draw(object_batches(), label="batch")
    keep = KeepVisible(min_weight=0.3, min_size=1.5)
    images, once = keep(*batch)
    _, twice = keep(images, once)
    for one, other in zip(once, twice, strict=True):
        assert_same_target(one, other)


def assert_same_target(one, other):
    assert list(one) == list(other)
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert type(value) is type(other[key])
            assert same([plain(value)], [plain(other[key])])
        else:
            assert value == other[key]


# By name


def boxes(rows, **settings):
    settings = {"format": "XYXY", "canvas_size": SIZE, **settings}
    return tv_tensors.BoundingBoxes(torch.tensor(rows), **settings)


def target_of(rows, **more):
    return {"boxes": boxes(rows), "labels": torch.arange(len(rows)), **more}


def labels_kept(target, size=SIZE, **settings):
    _, kept = KeepVisible(**settings)(torch.rand(3, *size), target)
    return kept["labels"].tolist()


SQUARE = [0.0, 0.0, 5.0, 5.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("limit", [0.1, 0.3, 0.7])
def test_a_weight_that_is_the_limit_is_kept_in_any_dtype(dtype, limit):
    below = torch.tensor(limit, dtype=dtype).nextafter(torch.zeros((), dtype=dtype))
    weights = torch.stack([torch.tensor(limit, dtype=dtype), below])
    target = target_of([SQUARE] * 2, weights=weights)
    assert labels_kept(target, min_weight=limit) == [0]


def test_without_weights_all_weigh_one():
    assert labels_kept(target_of([SQUARE] * 2), min_weight=1) == [0, 1]


def test_a_weight_that_is_no_number_is_dropped():
    target = target_of([SQUARE] * 2, weights=torch.tensor([torch.nan, 1.0]))
    assert labels_kept(target, min_weight=0) == [1]


def test_a_side_that_is_the_limit_is_kept():
    rows = [[3.0, 3.0, 4.0, 9.0], [3.0, 3.0, 9.0, 4.0], [3.0, 3.0, 3.75, 9.0], [3.0, 3.0, 9.0, 3.9]]
    assert labels_kept(target_of(rows)) == [0, 1]
    assert labels_kept(target_of(rows), min_size=0.8) == [0, 1, 3]


def test_of_a_box_over_the_edge_what_lies_in_the_image_counts():
    rows = [[-9.0, 0.0, 0.5, 9.0], [-9.0, 0.0, 1.0, 9.0], [19.5, 0.0, 99.0, 9.0]]
    assert labels_kept(target_of(rows)) == [1]
    assert labels_kept(target_of([[25.0, 2.0, 30.0, 9.0]]), min_size=0) == []


@pytest.mark.parametrize("min_size", [0, 1])
@pytest.mark.parametrize(
    "row", [[3.0, 1.0, 3.0, 5.0], [3.0, 1.0, 5.0, 1.0], [5.0, 1.0, 3.0, 5.0], [3.0, 3.0, 3.0, 3.0]]
)
def test_a_box_without_area_is_always_dropped(row, min_size):
    assert labels_kept(target_of([row, SQUARE]), min_size=min_size, min_weight=0) == [1]


@pytest.mark.parametrize("row", [[math.nan, 0.0, 5.0, 5.0], [0.0, 0.0, 5.0, math.nan]])
def test_a_box_of_no_numbers_is_dropped(row):
    assert labels_kept(target_of([row, SQUARE]), min_size=0, min_weight=0) == [1]


@pytest.mark.parametrize(("form", "row"), [("XYWH", [8, 4, 3, 2]), ("CXCYWH", [9, 5, 3, 2])])
def test_sides_of_whole_numbers_are_exact_in_any_format(form, row):
    target = {"boxes": boxes([row], format=form), "labels": torch.tensor([7])}
    assert labels_kept(target, min_size=2) == [7]
    assert labels_kept(target, min_size=2.01) == []


def test_whole_numbers_are_read_as_torchvision_rounds_them():
    target = {"boxes": boxes([[0, 5, 3, 4]], format="CXCYWH"), "labels": torch.tensor([7])}
    corners = v2.functional.convert_bounding_box_format(target["boxes"], new_format="XYXY")
    assert plain(corners)[0, 2] == 1  # 1.5, rounded down; older ones round -1.5 to -2
    assert labels_kept(target, min_size=1) == [7]
    assert labels_kept(target, min_size=1.2) == []


def test_a_rotated_box_is_as_large_as_its_own_sides():
    rows = [[10.0, 5.0, 4.0, 1.0, 33.0], [10.0, 5.0, 0.9, 4.0, 45.0]]
    for form in ("CXCYWHR", "XYWHR"):
        target = {"boxes": boxes(rows, format=form), "labels": torch.arange(2)}
        assert labels_kept(target) == [0]
    corners = [[2.0, 2.0, 6.0, 2.0, 6.0, 3.0, 2.0, 3.0], [2.0, 2.0, 6.0, 2.0, 6.0, 2.5, 2.0, 2.5]]
    target = {"boxes": boxes(corners, format="XYXYXYXY"), "labels": torch.arange(2)}
    assert labels_kept(target) == [0]


def test_without_boxes_the_tight_rectangle_around_a_mask_counts():
    masks = torch.zeros(4, *SIZE, dtype=torch.uint8)
    masks[0, 2, 3] = masks[0, 4, 5] = 1  # 3 × 3, though only two pixels are set
    masks[1, 2, :] = 7
    masks[2] = 1
    target = {"masks": tv_tensors.Mask(masks), "labels": torch.arange(4)}
    assert labels_kept(target) == [0, 1, 2]
    assert labels_kept(target, min_size=2) == [0, 2]
    assert labels_kept(target, min_size=3.5) == [2]


def test_beside_boxes_masks_are_dropped_and_not_measured():
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[1] = True
    target = target_of([SQUARE, [3.0, 3.0, 3.0, 5.0]], masks=tv_tensors.Mask(masks))
    _, kept = KeepVisible()(torch.rand(3, *SIZE), target)
    assert kept["labels"].tolist() == [0]
    assert type(kept["masks"]) is tv_tensors.Mask
    assert kept["masks"].shape == (1, *SIZE)
    assert not kept["masks"].any()


def test_all_that_belongs_to_an_object_goes_with_it():
    points = torch.arange(12.0).reshape(3, 2, 2)
    target = target_of(
        [SQUARE, [3.0, 3.0, 3.2, 5.0], SQUARE],
        weights=torch.tensor([0.05, 1.0, 0.5]),
        keypoints=tv_tensors.KeyPoints(points, canvas_size=SIZE),
        keypoint_weights=torch.arange(6.0).reshape(3, 2),
        names=("one", "two", "three"),
        scores=np.array([0.1, 0.2, 0.3]),
        iscrowd=[0, 0, 1],
        image_id=torch.tensor([1, 2, 3]),
        semantic=tv_tensors.Mask(torch.zeros(SIZE)),
    )
    _, kept = KeepVisible()(torch.rand(3, *SIZE), target)
    assert kept["labels"].tolist() == [2]
    assert kept["weights"].tolist() == [0.5]
    assert plain(kept["keypoints"]).tolist() == points[2:].tolist()
    assert tuple(kept["keypoints"].canvas_size) == SIZE
    assert kept["keypoint_weights"].tolist() == [[4, 5]]
    assert kept["names"] == ("three",)
    assert isinstance(kept["scores"], np.ndarray)
    assert kept["scores"].tolist() == [0.3]
    assert kept["iscrowd"] == [1]
    assert kept["image_id"] is target["image_id"]
    assert kept["semantic"] is target["semantic"]


def test_what_loses_nothing_is_what_it_was():
    target = target_of([SQUARE], weights=torch.ones(1))
    _, kept = KeepVisible()(torch.rand(3, *SIZE), target)
    assert kept is not target
    assert all(kept[key] is value for key, value in target.items())


def test_an_image_may_lose_all_its_objects_and_keeps_the_forms_of_them():
    target = target_of([SQUARE] * 2, weights=torch.zeros(2), area=[25, 25])
    _, kept = KeepVisible()(torch.rand(3, *SIZE), target)
    assert type(kept["boxes"]) is tv_tensors.BoundingBoxes
    assert kept["boxes"].shape == (0, 4)
    assert kept["labels"].shape == kept["weights"].shape == (0,)
    assert kept["area"] == []


@pytest.mark.parametrize("images", [[], (), torch.rand(0, 3, 4, 4)], ids=["list", "tuple", "stack"])
def test_an_empty_batch_stays_one(images):
    kept_images, kept = KeepVisible()(images, [])
    assert kept_images is images
    assert kept == []


def test_images_without_objects_pass():
    bare = [{"image_id": 3}, {"image_id": 4}]
    images = [torch.rand(3, 4, 5), torch.rand(3, 6, 7)]
    assert KeepVisible()(images, bare) == (images, bare)
    assert KeepVisible()(images[0], bare[0]) == (images[0], bare[0])
    empty = target_of([]) | {"boxes": boxes(torch.zeros(0, 4).tolist()).reshape(0, 4)}
    empty["boxes"] = tv_tensors.wrap(empty["boxes"], like=boxes([SQUARE]))
    _, kept = KeepVisible()(torch.rand(3, *SIZE), empty)
    assert kept["boxes"].shape == (0, 4)


def test_an_image_without_annotations_beside_others_stays_without():
    images = [torch.rand(3, *SIZE)] * 2
    _, (bare, kept) = KeepVisible()(images, [{"image_id": 3}, target_of([SQUARE, [0.0] * 4])])
    assert bare == {"image_id": 3}
    assert kept["labels"].tolist() == [0]


def test_only_some_targets_have_weights():
    images = [torch.rand(3, *SIZE)] * 2
    weighed = target_of([SQUARE] * 2, weights=torch.tensor([0.0, 1.0]))
    _, (one, other) = KeepVisible()(images, [weighed, target_of([SQUARE])])
    assert one["labels"].tolist() == [1]
    assert other["labels"].tolist() == [0]
    assert "weights" not in other


@pytest.mark.parametrize("count", [1, 2])
def test_in_mappings_whatever_their_type(count):
    class Sample(UserDict):
        pass

    images = [torch.rand(3, *SIZE) for _ in range(count)]
    targets = [UserDict(target_of([SQUARE, [0.0] * 4])) for _ in range(count)]
    batch = Sample(image=images, target=targets, epoch=3)
    kept = KeepVisible()(batch)
    assert type(kept) is Sample
    assert kept["image"] is images
    assert kept["epoch"] == 3
    assert all(type(target) is UserDict for target in kept["target"])
    assert all(target["labels"].tolist() == [0] for target in kept["target"])
    sample = KeepVisible()(Sample(image=images[0], target=targets[0], epoch=3))
    assert type(sample) is Sample
    assert sample["epoch"] == 3
    assert sample["target"]["labels"].tolist() == [0]


def test_what_follows_a_sample_passes_through():
    _, target, name = KeepVisible()(torch.rand(3, *SIZE), target_of([[0.0] * 4]), "a street")
    assert target["labels"].tolist() == []
    assert name == "a street"


def test_a_stacked_batch_stays_stacked():
    images = tv_tensors.Image(torch.rand(2, 3, *SIZE))
    kept_images, kept = KeepVisible()((images, [target_of([SQUARE, [0.0] * 4])] * 2))
    assert kept_images is images
    assert [target["labels"].tolist() for target in kept] == [[0], [0]]


def test_in_eval_mode_too():
    _, kept = KeepVisible().eval()(torch.rand(3, *SIZE), target_of([[0.0] * 4]))
    assert kept["labels"].tolist() == []


# In pipelines


def paired(samples):
    return tuple(zip(*samples, strict=True))


def samples():
    sizes = [(6, 8), (4, 9), (7, 5)]
    return [
        (
            torch.rand(3, *size),
            {
                "boxes": boxes([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 5.0, 3.0]], canvas_size=size),
                "labels": torch.tensor([2 * i, 2 * i + 1]),
            },
        )
        for i, size in enumerate(sizes)
    ]


def choice():
    return RandomChoice([RandomMixup(), RandomCutMix()], per_sample=True)


@pytest.mark.parametrize("make", [RandomMixup, RandomCutMix, choice])
def test_after_a_mixer_only_what_weighs_enough_is_left(make):
    dropped = 0
    for seed in range(10):
        torch.manual_seed(seed)
        _, mixed = make()(*paired(samples()))
        torch.manual_seed(seed)
        pipeline = v2.Compose([make(), KeepVisible(min_weight=0.4, min_size=2)])
        for old, new in zip(mixed, pipeline(*paired(samples()))[1], strict=True):
            rows = expected_rows(old, tuple(old["boxes"].canvas_size), 0.4, 2)
            dropped += len(old["labels"]) - len(rows)
            assert_kept(old, new, rows)
    assert dropped


def test_in_a_loader_and_in_a_dataset():
    pipeline = v2.Compose([RandomMixup(generator=generator_of(0)), KeepVisible(min_weight=0.5)])
    loader = DataLoader(
        samples(), batch_size=3, num_workers=2, collate_fn=MixCollate(pipeline, collate_fn=paired)
    )
    ((_, targets),) = loader
    assert all((target["weights"] >= 0.5).all() for target in targets)
    assert sum(len(target["labels"]) for target in targets) < 12
    mixed = MixedDataset(
        samples(), v2.Compose([RandomMixup(), KeepVisible(min_weight=0.5)]), seed=0
    )
    assert all((target["weights"] >= 0.5).all() for _, target in map(mixed.__getitem__, range(3)))


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda keep: pickle.loads(pickle.dumps(keep))])
def test_a_copy_keeps_the_same(twin):
    keep = twin(KeepVisible(min_weight=0.5, min_size=3))
    assert (keep.min_weight, keep.min_size) == (0.5, 3)
    assert not keep.state_dict()


def test_it_shows_its_settings():
    assert repr(KeepVisible()) == "KeepVisible(min_weight=0.1, min_size=1.0)"


def test_under_compile_it_runs_as_it_is():
    keep = torch.compile(KeepVisible(), backend="eager")
    _, kept = keep(torch.rand(3, *SIZE), target_of([SQUARE, [0.0] * 4]))
    assert kept["labels"].tolist() == [0]


def test_an_accelerator_waits_once():
    masks = torch.zeros(3, *SIZE, dtype=torch.bool)
    masks[1:, 3:6, 3:6] = True
    targets = [
        {
            "masks": tv_tensors.Mask(masks),
            "labels": torch.arange(3),
            "weights": torch.tensor([1.0, 0.01, 1.0]),
        }
        for _ in range(4)
    ]
    with Accelerator() as accelerator:
        batch = accelerator.put(([torch.rand(3, *SIZE)] * 4, targets))
        with accelerator.waiting():
            _, kept = KeepVisible()(*batch)
        assert accelerator.waits == 1
        kept = accelerator.take(kept)
    assert [target["labels"].tolist() for target in kept] == [[2]] * 4
    assert all(torch.equal(plain(target["masks"]), masks[2:]) for target in kept)


# Mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_weight": 1.5}, "min_weight must lie in [0, 1], got 1.5"),
        ({"min_weight": "half"}, "min_weight must be a number, got 'half' (str)"),
        ({"min_size": -1}, "min_size must be at least 0, got -1"),
        ({"min_size": math.inf}, "min_size must be finite, got inf"),
        ({"min_size": None}, "min_size must be a number, got None (NoneType)"),
    ],
)
def test_settings_are_checked_whenever_they_are_set(settings, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        KeepVisible(**settings)
    keep = KeepVisible()
    ((name, value),) = settings.items()
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        setattr(keep, name, value)
    assert (keep.min_weight, keep.min_size) == (0.1, 1)


@pytest.mark.parametrize(
    "batch",
    [
        (torch.rand(4, 3, 8, 8), torch.arange(4)),
        (torch.rand(3, 8, 8), 3),
        ("a street", target_of([SQUARE])),
        ([(torch.rand(3, *SIZE), target_of([SQUARE]))] * 2,),
        ({"image": torch.rand(4, 3, 8, 8), "label": torch.arange(4)},),
    ],
)
def test_what_has_no_objects_is_refused(batch):
    with pytest.raises(ValueError, match=r"no objects found: give \(images, targets\)"):
        KeepVisible()(*batch)


def test_targets_that_cannot_be_are_refused_by_name_and_nothing_changes():
    images, good = [torch.rand(3, *SIZE)] * 2, target_of([SQUARE, [0.0] * 4])
    with pytest.raises(ValueError, match=r"\[1\]\['labels'\] must have a row for each of 2"):
        KeepVisible()(images, [good, {**good, "labels": torch.arange(3)}])
    with pytest.raises(ValueError, match="one target for each of 2 images"):
        KeepVisible()(images, [good])
    assert good["labels"].tolist() == [0, 1]
