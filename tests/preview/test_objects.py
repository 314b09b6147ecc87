"""A picture of a mixed batch of objects: its panels, the objects over them, and what is said."""

import copy
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from mixup_transforms import (
    RandomChoice,
    RandomClassMix,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomResizeMix,
)
from mixup_transforms._preview.grid import GAP, MARGIN, SMALLEST, preview
from mixup_transforms._preview.marks import OWN, PARTNER
from mixup_transforms._preview.objects import UNCOVERED, object_rows
from mixup_transforms._preview.rows import partners_of
from tests.batch.test_objects import unchanged
from tests.object_batches import object_batches
from tests.painted import OF_ANY_OBJECTS, plain, sizes_of
from tests.strategies import generator_of, seeds

FONT = ImageFont.load_default(size=17)
every_kind = pytest.mark.parametrize("kind", OF_ANY_OBJECTS.values(), ids=repr)


def choice(**settings):
    return RandomChoice(
        [RandomMixup(), RandomCutMix(), RandomResizeMix()], per_sample=True, **settings
    )


every_object_mixer = pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(kind.make, id=name) for name, kind in OF_ANY_OBJECTS.items()),
        pytest.param(choice, id="choice"),
    ],
)


def rows_of(images, targets, mix, *, class_names=None, max_samples=9):
    return object_rows(images, targets, mix, class_names=class_names, max_samples=max_samples)


def whose(partners):
    return "partner's" if partners == 1 else "partners'"


def drawn_batches(make):
    # Float or uint8, since nothing else can be drawn.
    return object_batches(one_size=make is RandomFMix)


# What a row shows


@every_object_mixer
@given(data=st.data(), seed=seeds)
def test_a_row_shows_what_the_mixer_makes_of_the_sample(make, data, seed):
    images, targets = data.draw(drawn_batches(make), label="batch")
    shown = rows_of(images, targets, make(generator=generator_of(seed)))
    same = make(generator=generator_of(seed))
    params = same.make_params([images, targets])
    mixed, joined = same.replay(params, images, targets)
    assert len(shown) == len(images)
    for i, row in enumerate(shown):
        partners = partners_of(params)[i]
        labels = joined[i].get("labels", torch.zeros(0)).tolist()
        own, partner, _, result = row.panels
        assert torch.equal(own, plain(images[i]))
        if len(partners) == 1:
            assert torch.equal(partner, plain(images[partners[0]]))
        assert torch.equal(result, plain(mixed[i]))
        marks = row.marks[3]
        assert [mark.weight for mark in marks] == [f"{w:.2f}" for w in joined[i]["weights"]]
        assert [mark.name for mark in marks] == [f"class {label}" for label in labels]
        # Labels tell the objects of all images apart.
        assert [mark.colour == OWN for mark in marks] == [label // 10 == i for label in labels]
        mine = sum(label // 10 == i for label in labels)
        before, *theirs = (len(targets[k].get("labels", ())) for k in (i, *partners))
        assert row.caption == (
            f"λ = {params['lam'][i]:.2f}: {mine} of {before} own objects "
            f"and {len(labels) - mine} of {sum(theirs)} of the {whose(len(partners))}"
        )


@every_kind
@given(data=st.data(), seed=seeds)
def test_the_own_share_is_what_the_painter_says_and_corners_of_nobody_are_unlike_it(
    kind, data, seed
):
    images, targets = data.draw(drawn_batches(kind.make), label="batch")
    params = kind.make(generator=generator_of(seed)).make_params([images, targets])
    scenes = kind.scenes(params, sizes_of(images))
    shown = rows_of(images, targets, kind.make(generator=generator_of(seed)))
    for row, scene in zip(shown, scenes, strict=True):
        own, *others = (part.share for part in scene.parts)
        pixels = row.panels[2].expand(3, -1, -1).double().numpy()
        expected = np.where(own + sum(others) > 0, own, np.array(UNCOVERED).reshape(3, 1, 1))
        np.testing.assert_allclose(pixels, expected, atol=1e-6)


@every_object_mixer
@given(data=st.data())
def test_objects_are_drawn_where_they_lie(make, data):
    images, targets = data.draw(drawn_batches(make), label="batch")
    for i, row in enumerate(rows_of(images, targets, make().eval())):
        own, _, none, mixed = row.marks
        assert none == ()
        target = targets[i]
        count = len(target.get("labels", ()))
        assert len(own) == len(mixed) == count
        for n, (before, after) in enumerate(zip(own, mixed, strict=True)):
            assert before.colour == after.colour == OWN
            assert before.weight == ""
            assert after.weight == f"{target['weights'][n] if 'weights' in target else 1:.2f}"
            for mark in (before, after):
                assert bool(mark.corners) == ("boxes" in target)
                if "boxes" in target:
                    assert_around(mark.corners, target["boxes"], n)
                if "masks" in target:
                    assert torch.equal(mark.mask, plain(target["masks"])[n] != 0)
                if "keypoints" in target:
                    seen = plain(target["keypoints"])[n].tolist()
                    assert all(list(point) in seen for point in mark.points)


def assert_around(corners, boxes, n):
    """Check corners against a box: x and y of upright ones, the centre of rotated ones."""
    form, box = boxes.format.name, plain(boxes)[n].double().tolist()
    xs, ys = zip(*corners, strict=True)
    if form == "XYXYXYXY":
        assert [z for corner in corners for z in corner] == box
    elif form in ("XYXY", "XYWH", "CXCYWH"):
        x, y, w, h = box
        expected = {
            "XYXY": (x, y, w, h),
            "XYWH": (x, y, x + w, y + h),
            "CXCYWH": (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
        }[form]
        assert corners[0] + corners[2] == pytest.approx([*expected])
        assert (xs[0], xs[1], ys[1], ys[2]) == (xs[3], xs[2], ys[0], ys[3])
    else:
        x, y = box[:2]
        if form == "CXCYWHR":
            assert (sum(xs) / 4, sum(ys) / 4) == pytest.approx((x, y), abs=1e-4)
        else:
            assert min(np.hypot(np.subtract(xs, x), np.subtract(ys, y))) < 1e-4


def test_a_keypoint_that_is_hidden_is_no_dot():
    images = torch.zeros(2, 1, 4, 8)
    target = {
        "boxes": tv_tensors.BoundingBoxes([[0, 0, 8, 4]], format="XYXY", canvas_size=(4, 8)),
        "keypoints": tv_tensors.KeyPoints([[[1, 1], [6, 1], [20, 1]]], canvas_size=(4, 8)),
    }

    class LeftHalf(RandomCutMix):
        def draw(self, plan):
            box = torch.tensor([[0, 0, 4, 4]] * len(plan.partner))
            return plan.params(lam=torch.full((len(box),), 0.5), box=box)

    for row in rows_of(images, [target, target], LeftHalf()):
        assert [mark.points for mark in row.marks[0]] == [[[1, 1], [6, 1], [20, 1]]]
        assert [mark.points for mark in row.marks[3]] == [[[6, 1]], [[1, 1]]]
        assert [mark.colour for mark in row.marks[3]] == [OWN, PARTNER]


# The picture


def written(monkeypatch):
    """Note all that is written, and where."""
    texts = []
    write = ImageDraw.ImageDraw.text

    def spy(self, xy, text, *args, **options):
        texts.append((text, xy))
        return write(self, xy, text, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    return texts


@every_object_mixer
@given(data=st.data(), seed=seeds)
def test_every_weight_can_be_read_in_the_picture(make, data, seed):
    images, targets = data.draw(drawn_batches(make), label="batch")
    _, joined = make(generator=generator_of(seed))(images, targets)
    expected = Counter(
        f"{weight:.2f} class {label}"
        for target in joined
        for weight, label in zip(
            target["weights"].tolist(), target.get("labels", torch.zeros(0)).tolist(), strict=True
        )
    )
    with pytest.MonkeyPatch.context() as patched:
        texts = written(patched)
        grid = preview(images, targets, make(generator=generator_of(seed)))
    tags = [(text, place) for text, place in texts if text in expected]
    assert Counter(text for text, _ in tags) == expected
    for text, (x, y) in tags:
        assert_shows(grid, text, x, y)


def assert_shows(grid, text, x, y):
    """Check that nothing is drawn over a tag whose words begin at a place."""
    small = FONT.font_variant(size=13)
    size = math.ceil(small.getlength(text)) + 6, sum(small.getmetrics()) + 2
    left, top = x - 3, y - 1
    assert left >= MARGIN
    assert left + size[0] <= grid.width - MARGIN
    tag = grid.crop((left, top, left + size[0], top + size[1]))
    fresh = {}
    for colour in (OWN, PARTNER):
        fresh[colour] = Image.new("RGB", size, colour)
        pen = ImageDraw.Draw(fresh[colour])
        pen.rectangle((0, 0, size[0] - 1, size[1] - 1), outline="#000000")
        pen.text((3, 1), text, font=small, fill="#000000")
    assert tag.tobytes() in [image.tobytes() for image in fresh.values()]


def panels_in(grid, shapes, scale):
    """Cut the panels out of a grid, of which the shapes are given row by row."""
    line = sum(FONT.getmetrics()) + 2
    cells = [max(SMALLEST, *(w * scale for _, w in column)) for column in zip(*shapes, strict=True)]
    y = MARGIN + line
    for row in shapes:
        y, x = y + GAP, MARGIN
        for (height, width), cell in zip(row, cells, strict=True):
            left = x + (cell - width * scale) // 2
            box = (left, y, left + width * scale, y + height * scale)
            yield pil_to_tensor(grid.crop(box))
            x += cell + GAP
        y += max(height for height, _ in row) * scale + GAP + line + 14


@every_object_mixer
def test_tiles_of_different_sizes_lie_on_one_scale_and_under_their_headings(make):
    sizes = [(4, 8), (8, 3), (1, 2), (5, 5)] if make is not RandomFMix else [(3, 8)] * 3
    images = [torch.rand(3, *size, generator=generator_of(7)) for size in sizes]
    targets = [{}] * len(images)
    shown = rows_of(images, targets, make(generator=generator_of(2)))
    shapes = [[tuple(panel.shape[-2:]) for panel in row.panels] for row in shown]
    grid = preview(images, targets, make(generator=generator_of(2)))
    # Large enough that tags can be read.
    scale = math.ceil(256 / max(side for row in shapes for shape in row for side in shape))
    found = panels_in(grid, shapes, scale)
    for row in shown:
        for panel in row.panels:
            enlarged = (panel.double() * 255).round().to(torch.uint8).expand(3, -1, -1)
            enlarged = enlarged.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
            assert torch.equal(next(found), enlarged)


@pytest.mark.parametrize(
    ("size", "width"), [((30, 40), 280), ((300, 200), 200), ((999, 2000), 512)]
)
def test_largest_tiles_are_neither_too_small_for_tags_nor_huge(size, width):
    images = [torch.zeros(1, *size), torch.ones(1, 1, 1)]
    grid = preview(images, [{}, {}], RandomMixup(generator=generator_of()))
    assert grid.width == 2 * MARGIN + 4 * width + 3 * GAP


@every_object_mixer
@pytest.mark.parametrize("ground", [0.0, 1.0])
def test_boxes_have_their_images_colours_at_their_corners(make, ground):
    images = torch.full((2, 3, 32, 32), ground)
    boxes = [[3, 4, 20, 15], [6, 9, 30, 28]]
    targets = [{"boxes": boxes_in([box], (32, 32))} for box in boxes]
    grid = preview(images, targets, make().eval())
    panels = panels_in(grid, [[(32, 32)] * 4] * 2, 8)
    colours = [OWN, PARTNER, None, OWN]
    for i in range(2):
        for k, colour in enumerate(colours):
            panel = next(panels)
            if colour is None:
                continue
            x1, y1, x2, y2 = (8 * z for z in boxes[1 - i if k == 1 else i])
            expected = torch.tensor(Image.new("RGB", (1, 1), colour).getpixel((0, 0)))
            for y, x in ((y1, x2 - 1), (y2 - 1, x1), (y2 - 1, x2 - 1)):  # the tag may hide one
                assert panel[:, y, x].tolist() == expected.tolist()
                assert panel[:, (y1 + y2) // 2, x].tolist() == expected.tolist()


def boxes_in(rows, size, form="XYXY"):
    data = torch.tensor(rows, dtype=torch.float32)
    return tv_tensors.BoundingBoxes(data, format=form, canvas_size=size)


def test_no_more_rows_than_asked_for():
    images = torch.rand(4, 3, 8, 8)
    heights = [
        preview(images, [{}] * 4, RandomMixup(), max_samples=n).height for n in (1, 2, 3, 4, 5)
    ]
    assert heights[1] - heights[0] == heights[2] - heights[1] == heights[3] - heights[2] > 256
    assert heights[4] == heights[3]


def test_a_crowd_and_long_names_stay_within_the_margins():
    size = (40, 40)
    corners = torch.rand(30, 2, generator=generator_of(1)) * 30
    crowd = torch.cat([corners, corners + 8], 1).tolist()
    target = {"boxes": boxes_in(crowd, size), "labels": torch.arange(30)}
    names = ["a name of many words " * 9] * 30
    grid = preview(torch.rand(2, 3, *size), [target] * 2, RandomMixup(), class_names=names)
    edge = pil_to_tensor(grid)[:, :, -MARGIN + 1 :]
    assert (edge == 255).all()
    assert (pil_to_tensor(grid)[:, -MARGIN + 4 :] == 255).all()


def test_a_font_may_be_given():
    large = ImageFont.load_default(size=40)
    target = {"boxes": boxes_in([[1, 1, 5, 5]], (8, 8)), "labels": torch.tensor([0])}
    batch = torch.rand(2, 3, 8, 8), [target] * 2
    grid = preview(*batch, RandomMixup(), class_names=["猫"], font=large)
    assert grid.height > preview(*batch, RandomMixup(), class_names=["猫"]).height


# What may be given


def scene(*sizes):
    """Images of sizes, each with two objects of all kinds."""
    images, targets = [], []
    for i, size in enumerate(sizes):
        images.append(torch.rand(3, *size, generator=generator_of(i)))
        targets.append(
            {
                "boxes": boxes_in([[1, 1, 4, 3], [0, 2, 5, 6]], size),
                "masks": tv_tensors.Mask(torch.rand(2, *size) < 0.5),
                "keypoints": tv_tensors.KeyPoints(torch.ones(2, 3, 2), canvas_size=size),
                "labels": torch.tensor([2 * i, 2 * i + 1]),
                "image_id": i,
            }
        )
    return images, targets


def test_stacks_and_lists_and_types_of_torchvision_give_one_picture():
    images, targets = scene(*[(6, 8)] * 3)
    pictures = {
        preview(form, rows, RandomCutMix(generator=generator_of())).tobytes()
        for form in (
            images,
            tuple(images),
            torch.stack(images),
            tv_tensors.Image(torch.stack(images)),
            [tv_tensors.Image(image) for image in images],
        )
        for rows in (targets, tuple(targets))
    }
    assert len(pictures) == 1


@every_object_mixer
@pytest.mark.parametrize("targets", [[{}, {}], [{"image_id": 3}, {"image_id": 4}]])
def test_a_batch_without_objects_is_drawn_all_the_same(make, targets):
    images = torch.rand(2, 3, 8, 8)
    for row in rows_of(images, targets, make()):
        assert not any(row.marks)
        theirs = whose(make().partners)
        assert row.caption.endswith(f": 0 of 0 own objects and 0 of 0 of the {theirs}")
    preview(images, targets, make())


@every_object_mixer
def test_an_image_without_objects_and_an_empty_target_take_part(make):
    images, targets = scene(*[(6, 8)] * 3)
    targets[1] = {"image_id": 1}
    none = {key: value[:0] for key, value in targets[2].items() if key != "image_id"}
    targets[2] = {
        key: tv_tensors.wrap(rows, like=targets[0][key]) if key != "labels" else rows
        for key, rows in none.items()
    }
    shown = rows_of(images, targets, make(generator=generator_of(5)))
    assert [len(row.marks[0]) for row in shown] == [2, 0, 0]
    # Of several partners, made small, there is no room for marks.
    seen = [0, 0, 2] if make().partners == 1 else [0, 0, 0]
    assert sorted(len(row.marks[1]) for row in shown) == seen
    preview(images, targets, make())


@every_object_mixer
def test_a_mixer_that_is_off_shows_the_batch_as_it_is(make):
    images, targets = scene(*[(6, 8)] * 3)
    for mix in (make(p=0.0) if make is not choice else make().eval(), make().eval()):
        for i, row in enumerate(rows_of(images, targets, mix)):
            assert torch.equal(row.panels[3], images[i])
            assert (row.panels[2] == 1).all()
            assert [mark.weight for mark in row.marks[3]] == ["1.00", "1.00"]
            assert row.caption == "λ = 1.00: 2 of 2 own objects and 0 of 2 of the partner's"


def test_a_batch_of_one_is_its_own_partner():
    images, targets = scene((6, 8))
    (row,) = rows_of(images, targets, RandomMixup())
    assert torch.equal(row.panels[3], images[0])
    assert [mark.colour for mark in row.marks[3]] == [OWN, OWN]


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (torch.tensor([1, 0]), ["cat", "dog"], ["dog", "cat"]),
        ([1, 0], ["cat", "dog"], ["dog", "cat"]),
        (np.array([1, 0]), ("cat", "dog"), ["dog", "cat"]),
        ([np.int64(1), 0], ["cat", "dog"], ["dog", "cat"]),
        (torch.tensor([90, 3], dtype=torch.uint8), None, ["class 90", "class 3"]),
        (None, ["cat", "dog"], ["", ""]),
    ],
)
def test_objects_are_named_by_their_labels(labels, names, expected):
    images, targets = scene((6, 8), (6, 8))
    for target in targets:
        del target["labels"]
        if labels is not None:
            target["Labels"] = labels
    for row in rows_of(images, targets, RandomMixup().eval(), class_names=names):
        assert [mark.name for mark in row.marks[3]] == expected


def test_masks_of_classes_need_no_form_that_the_mixer_takes():
    images, targets = scene((6, 8), (6, 8))
    for target in targets:
        target["semantic"] = tv_tensors.Mask(torch.ones(6, 8, dtype=torch.int64))
    preview(images, targets, RandomMixup())


@pytest.mark.parametrize("other", [None, RandomCutMix])
def test_classes_are_pasted_by_the_masks_of_classes(other):
    images, targets = scene((6, 8), (9, 4), (7, 7))
    generator = generator_of(3)
    for target, (_, height, width) in zip(targets, map(np.shape, images), strict=True):
        plane = torch.randint(4, (height, width), generator=generator)
        target["classes"] = tv_tensors.Mask(plane)

    def mix():
        classes = RandomClassMix() if other else RandomClassMix(generator=generator_of(5))
        return RandomChoice([classes, other()], generator=generator_of(5)) if other else classes

    mixed, _ = mix()(images, targets)
    for row, image in zip(rows_of(images, targets, mix()), mixed, strict=True):
        assert torch.equal(row.panels[3], image)


def test_getters_of_a_training_loop_do_not_matter():
    images, targets = scene((6, 8), (9, 4))
    plain, named = (
        preview(images, targets, RandomMixup(generator=generator_of(), **getters))
        for getters in ({}, {"images_getter": "x", "labels_getter": "y"})
    )
    assert plain.tobytes() == named.tobytes()


# What it leaves alone


@every_object_mixer
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
def test_nothing_given_is_changed(make, inplace, stacked):
    images, targets = scene(*[(6, 8)] * 3)
    images = torch.stack(images) if stacked else images
    mix = make(inplace=inplace) if make is not choice else choice()
    kept, settings = copy.deepcopy((images, targets)), repr(mix)
    preview(images, targets, mix)
    tensors = [*images, *(v for t in targets for v in t.values() if isinstance(v, torch.Tensor))]
    assert all(tensor._version == 0 for tensor in tensors)
    assert unchanged(kept, (images, targets))
    assert repr(mix) == settings


def test_what_requires_grad_is_drawn():
    images, targets = scene((6, 8), (9, 4))
    images = [image.requires_grad_() for image in images]
    targets[0]["boxes"].requires_grad_()
    preview(images, targets, RandomMixup(inplace=True))
    assert all(image.grad is None for image in images)


def test_it_draws_from_the_stream_of_the_mixer_what_a_call_draws():
    images, targets = scene((6, 8), (9, 4))
    first, second = RandomCutMix(generator=generator_of()), RandomCutMix(generator=generator_of())
    before = torch.get_rng_state()
    preview(images, targets, first)
    second(images, targets)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.generator.get_state(), second.generator.get_state())


# Bad input

IMAGES, TARGETS = scene((6, 8), (6, 8))


def with_(**items):
    """The targets, of which the first has other items."""
    return [{**TARGETS[0], **items}, TARGETS[1]]


@pytest.mark.parametrize(
    ("images", "targets", "options", "error", "message"),
    [
        ([], [], {}, ValueError, "images must hold at least one image"),
        ("ab", TARGETS, {}, TypeError, "images must be a tensor, got str"),
        (["a", "b"], TARGETS, {}, TypeError, r"images\[0\] must be a tensor"),
        ([IMAGES[0], IMAGES[1][0]], TARGETS, {}, ValueError, r"images\[1\] must have shape"),
        ([IMAGES[0], IMAGES[1][:2]], TARGETS, {}, ValueError, r"images\[1\] must have shape"),
        ([IMAGES[0], IMAGES[1][..., :0]], TARGETS, {}, ValueError, r"images\[1\] must have shape"),
        ([IMAGES[0], IMAGES[1] * 2 - 1], TARGETS, {}, ValueError, r"images\[1\] must lie in"),
        ([IMAGES[0], IMAGES[1].long()], TARGETS, {}, TypeError, r"images\[1\] must be floating"),
        ([IMAGES[0], IMAGES[1].half()], TARGETS, {}, ValueError, "images must be of one type"),
        ([IMAGES[0], IMAGES[1][:1]], TARGETS, {}, ValueError, "images must be of one type"),
        (IMAGES[0], TARGETS, {}, ValueError, "images must have shape"),
        (IMAGES, torch.tensor([0, 1]), {}, TypeError, "images must be a tensor, got list"),
        (IMAGES, TARGETS[:1], {}, ValueError, "labels must hold one target for each of 2 images"),
        (IMAGES, [], {}, ValueError, "labels must hold one target for each of 2 images, got 0"),
        (IMAGES, [TARGETS[0], None], {}, TypeError, r"labels\[1\] must be a dict"),
        (IMAGES, with_(boxes=torch.ones(2, 4)), {}, TypeError, r"labels\[0\]\['boxes'\] is a pla"),
        (IMAGES, with_(boxes=boxes_in([[0, 0, 1, 1]], (6, 8))), {}, ValueError, r"labels\[0\]\["),
        (IMAGES, with_(boxes=boxes_in([[0, 0, 1, 1]] * 2, (9, 9))), {}, ValueError, "canvas_size"),
        (
            IMAGES,
            with_(boxes=boxes_in([[0, 0, 1, torch.inf]] * 2, (6, 8))),
            {},
            ValueError,
            r"labels\[0\]\['boxes'\] must be finite to be drawn, got inf",
        ),
        (
            IMAGES,
            [{"masks": tv_tensors.Mask(torch.ones(2, 6, 8, device="meta").bool())}] * 2,
            {},
            ValueError,
            r"labels\[0\]\['masks'\] must hold values, got a meta tensor",
        ),
        (IMAGES, with_(labels=[0]), {}, ValueError, r"labels\[0\]\['labels'\] must have a row"),
        (IMAGES, with_(labels=torch.rand(2)), {}, ValueError, "must be of one form"),
        (IMAGES, with_(labels=torch.rand(2, 3)), {}, ValueError, "must be of one form"),
        (IMAGES, TARGETS, {"class_names": ["cat"]}, ValueError, r"must lie in \[0, 1\)"),
        (IMAGES, TARGETS, {"class_names": "cats"}, TypeError, "class_names must be a list"),
        (IMAGES, TARGETS, {"max_samples": 0}, ValueError, "max_samples must be at least"),
        (IMAGES, TARGETS, {"font": "Arial"}, TypeError, "font must be"),
    ],
)
def test_bad_input(images, targets, options, error, message):
    generator = generator_of()
    state = generator.get_state()
    for mixer in (RandomMixup, RandomCutMix):
        with pytest.raises(error, match=message):
            preview(images, targets, mixer(generator=generator), **options)
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("labels", [[0.5, 1.0], ["cat", "dog"], [True, False], [[0, 1], [1, 0]]])
def test_labels_of_objects_that_are_no_classes_are_refused(labels):
    targets = [{**target, "labels": labels} for target in TARGETS]
    with pytest.raises(TypeError, match=r"labels\[0\]\['labels'\] must hold a class index"):
        preview(IMAGES, targets, RandomMixup())


def test_a_mixer_that_wants_one_size_says_so():
    with pytest.raises(ValueError, match="RandomFMix needs images of one height and width"):
        preview(*scene((6, 8), (8, 6)), RandomFMix())
