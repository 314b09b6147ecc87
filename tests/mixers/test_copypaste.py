"""CopyPaste against a plain loop; what becomes of objects the painter says, in tests/batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchvision import tv_tensors

from mixup_transforms import RandomChoice, RandomCopyPaste, RandomCutMix, RandomFMix, RandomMixup
from tests.accelerator import DEVICE, Accelerator
from tests.object_batches import forms, object_batches
from tests.painted import assert_painted, plain, revealed, sizes_of
from tests.strategies import generator_of, seeds

MASKS = forms(regions=["masks", "both"])


def scene(size, *objects, **more):
    """A target whose objects are rectangles x1, y1, x2, y2, labelled 10, 11, …"""
    masks = torch.zeros(len(objects), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, objects, strict=True):
        mask[y1:y2, x1:x2] = True
    labels = torch.arange(len(objects)) + 10
    return {"masks": tv_tensors.Mask(masks), "labels": labels, **more}


def pair(own, other, size=(4, 8)):
    """A black and a white image with the objects given, of which the second has labels from 20."""
    targets = [scene(size, *own), scene(size, *other)]
    targets[1]["labels"] += 10
    return [torch.zeros(1, *size), torch.ones(1, *size)], targets


def pasted_into_first(batch, *chosen, mix=None):
    """Paste objects of the second sample into the first, which alone is mixed."""
    mask = torch.ones(2, *batch[0][0].shape[1:], dtype=torch.bool)
    for n in chosen:
        mask[0] &= plain(batch[1][1]["masks"][n]) == 0
    params = {"partner": torch.tensor([1, 0]), "mask": mask}
    images, targets = (mix or RandomCopyPaste()).replay(params, *batch)
    return images[0], targets[0]


# What is drawn, against a plain loop


def expected_mask(targets, sizes, params, canvas):
    """True but where one of the partner's objects that are pasted lies, on the own canvas."""
    mask = torch.ones(len(sizes), *canvas, dtype=torch.bool)
    for i, j in enumerate(params["partner"].tolist()):
        for n, pasted in enumerate(params["pasted"][i].tolist()):
            if not pasted:
                continue
            for y, row in enumerate(plain(targets[j]["masks"])[n].tolist()):
                for x, inside in enumerate(row):
                    if inside and y < sizes[i][0] and x < sizes[i][1]:
                        mask[i, y, x] = False
    return mask


@given(
    batch=object_batches(form=MASKS),
    p_object=st.sampled_from([0.0, 0.5, 1.0]),
    p=st.sampled_from([0.5, 1.0]),
    per_sample=st.booleans(),
    seed=seeds,
)
def test_the_mask_is_false_on_the_objects_pasted(batch, p_object, p, per_sample, seed):
    images, targets = batch
    sizes = sizes_of(images)
    settings = {"p_object": p_object, "p": p, "per_sample": per_sample}
    params = RandomCopyPaste(**settings, generator=generator_of(seed)).make_params([*batch])
    counts = [len(target.get("labels", ())) for target in targets]
    pasted = params["pasted"]
    assert pasted.shape == (len(images), max(counts))
    for i, j in enumerate(params["partner"].tolist()):
        assert not pasted[i, counts[j] :].any()
        if p_object == 0 or len(images) == 1:
            assert not pasted[i].any()
        elif p_object == p == 1:
            assert pasted[i, : counts[j]].all()
        own = params["mask"][i, : sizes[i][0], : sizes[i][1]]
        assert params["lam"][i].item() == pytest.approx(own.float().mean().item())
    canvas = [max(lengths) for lengths in zip(*sizes, strict=True)]
    assert torch.equal(params["mask"], expected_mask(targets, sizes, params, canvas))


@given(
    both=object_batches(form=MASKS, min_batch=2).filter(lambda batch: len(batch[0]) % 2 == 0),
    seed=seeds,
)
def test_between_it_is_the_other_batch_whose_objects_are_pasted(both, seed):
    half = len(both[0]) // 2
    own, other = ((both[0][part], both[1][part]) for part in (slice(half), slice(half, None)))
    mixed, _ = RandomCopyPaste(p_object=1, generator=generator_of(seed)).between(own, other)
    counts = torch.tensor([len(target.get("labels", ())) for target in other[1]])
    params = {"partner": torch.arange(half)}
    params["pasted"] = torch.arange(max(counts)) < counts.unsqueeze(1)
    sizes = sizes_of(own[0])
    canvas = [max(lengths) for lengths in zip(*sizes, strict=True)]
    masks = expected_mask(other[1], sizes, params, canvas)
    for i, (height, width) in enumerate(sizes):
        expected = plain(own[0][i]).clone()
        for y, x in (~masks[i, :height, :width]).nonzero().tolist():
            expected[:, y, x] = other[0][i][:, y, x]
        assert torch.equal(plain(mixed[i]), expected)


def drawn(trials, counts, **settings):
    """Which objects were pasted in many batches of as many objects as given."""
    images = torch.rand(len(counts), 1, 2, 3)
    targets = [scene((2, 3), *[(0, 0, 1, 1)] * count) for count in counts]
    mix = RandomCopyPaste(**settings, generator=generator_of(0))
    return [mix.make_params([images, targets]) for _ in range(trials)]


@pytest.mark.parametrize("p_object", [0.2, 0.5, 0.9])
def test_objects_are_pasted_one_by_one_with_the_same_probability(p_object):
    every = torch.cat([each["pasted"] for each in drawn(1000, [3, 3, 3], p_object=p_object)])
    combinations, counts = every.unique(dim=0, return_counts=True)
    sums = combinations.sum(1).numpy()
    assert len(sums) == 8
    expected = 3000 * p_object**sums * (1 - p_object) ** (3 - sums)
    assert stats.chisquare(counts.numpy(), expected).pvalue > 1e-4


def test_the_gate_and_one_draw_for_the_batch():
    gated = torch.cat([each["pasted"] for each in drawn(1000, [1, 1], p=0.3, p_object=1)])
    assert gated.float().mean().item() == pytest.approx(0.3, abs=0.04)
    for params in drawn(50, [2, 3, 1], per_sample=False):
        counts = torch.tensor([2, 3, 1])[params["partner"]]
        exists = torch.arange(3) < counts.unsqueeze(1)
        assert torch.equal(params["pasted"], params["pasted"].any(0) & exists)


def test_the_amount_drawn_depends_on_the_largest_number_of_objects_alone():
    def state(counts, **settings):
        images = torch.rand(len(counts), 1, 2, 3)
        targets = [scene((2, 3), *[(0, 0, 1, 1)] * count) for count in counts]
        mix = RandomCopyPaste(**settings, generator=generator_of(0))
        mix.make_params([images, targets])
        return mix.generator.get_state().numpy().tobytes()

    same = {
        state([3, 0, 1]),
        state([3, 3, 3]),
        state([1, 3, 0], p=0.0),
        state([2, 2, 3], p_object=0.0),
    }
    assert len(same) == 1
    assert state([4, 0, 0]) not in same


# What is seen, by name


def test_a_pasted_object_comes_whole_with_all_that_belongs_to_it():
    images, targets = pair([], [(1, 1, 3, 3), (5, 0, 8, 2)])
    for target, names in zip(targets, ([], ["cup", "table"]), strict=True):
        target |= {"names": names, "area": torch.tensor([4.0, 6.0])[: len(names)], "image_id": 3}
    image, target = pasted_into_first((images, targets), 1)
    assert image.sum() == 6
    assert (target["labels"].tolist(), target["names"]) == ([21], ["table"])
    assert (target["area"].tolist(), target["weights"].tolist()) == ([6.0], [1.0])
    assert torch.equal(target["masks"], targets[1]["masks"][1:])


def test_objects_under_the_paste_lose_weight_and_hidden_ones_go():
    batch = pair([(0, 0, 4, 4), (5, 1, 6, 2)], [(2, 0, 8, 4)])
    _, target = pasted_into_first(batch, 0)
    assert target["labels"].tolist() == [10, 20]
    assert target["weights"].tolist() == [0.5, 1.0]
    assert target["masks"].sum((1, 2)).tolist() == [8, 24]


def test_an_object_on_a_pasted_one_is_seen_there_and_gone_where_it_is_not():
    batch = pair([], [(0, 0, 4, 4), (3, 0, 5, 4), (6, 0, 7, 1)])
    _, target = pasted_into_first(batch, 0)
    assert target["labels"].tolist() == [20, 21]
    assert target["weights"].tolist() == [1.0, 0.5]


def test_boxes_and_keypoints_of_pasted_objects_come_too():
    images, targets = pair([], [(1, 1, 3, 3)])
    for target, rows in zip(targets, ([], [[0.5, 1.0, 3.5, 3.0]]), strict=True):
        boxes = torch.tensor(rows).reshape(-1, 4)
        points = torch.tensor([[[1.5, 1.5], [7.0, 0.0]]])[: len(rows)]
        target["boxes"] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(4, 8))
        target["keypoints"] = tv_tensors.KeyPoints(points, canvas_size=(4, 8))
    _, target = pasted_into_first((images, targets), 0)
    assert torch.equal(target["boxes"], targets[1]["boxes"])
    assert torch.equal(target["keypoints"], targets[1]["keypoints"])
    assert target["keypoint_weights"].tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    "other",
    [{"image_id": 2}, scene((4, 8)), scene((4, 8), (0, 0, 0, 0), (2, 3, 2, 4))],
    ids=["no annotations", "no objects", "objects of no pixels"],
)
def test_a_partner_without_anything_to_paste_leaves_the_sample_whole(other):
    empty = scene((4, 8), (0, 0, 0, 0), (0, 0, 4, 4))
    images = [torch.rand(3, 4, 8), torch.rand(3, 4, 8)]
    mix = RandomCopyPaste(p_object=1, generator=generator_of(0))
    (image, _), (target, _) = mix(images, [empty, other])
    assert torch.equal(image, images[0])
    assert target["labels"].tolist() == [10, 11]
    assert target["weights"].tolist() == [1.0, 1.0]
    assert torch.equal(target["masks"], empty["masks"])
    params = mix.make_params([images, [empty, other]])
    assert params["lam"][0] == 1


def test_only_what_lies_on_the_samples_own_canvas_is_pasted():
    images = [torch.zeros(1, 3, 4), torch.ones(1, 5, 6)]
    targets = [scene((3, 4), (0, 0, 4, 3)), scene((5, 6), (3, 2, 6, 5), (4, 3, 6, 5))]
    mix = RandomCopyPaste(p_object=1, generator=generator_of(0))
    params = mix.make_params([images, targets])
    assert params["pasted"].tolist() == [[True, True], [True, False]]
    assert params["lam"].tolist() == pytest.approx([11 / 12, 18 / 30])
    mixed, new = mix.replay(params, images, targets)
    assert [image.shape for image in mixed] == [image.shape for image in images]
    assert mixed[0].nonzero().tolist() == [[0, 2, 3]]
    assert new[0]["weights"].tolist() == pytest.approx([11 / 12, 1 / 9])
    assert (mixed[1] == 0).sum() == 12
    assert new[1]["labels"].tolist() == [10, 11, 10]


def test_a_batch_in_which_nobody_has_an_object_is_returned_as_it_is():
    images = [torch.rand(3, 4, 8), torch.rand(3, 5, 5)]
    mixed, targets = RandomCopyPaste()(images, [{"image_id": 1}, {"image_id": 2}])
    assert all(map(torch.equal, mixed, images))
    assert [target["image_id"] for target in targets] == [1, 2]
    assert RandomCopyPaste()([], []) == ([], [])


def test_a_batch_of_one_stays_as_it_is():
    images, targets = pair([(0, 0, 2, 2)], [])
    mixed, new = RandomCopyPaste(p_object=1)(images[:1], targets[:1])
    assert torch.equal(mixed[0], images[0])
    assert new[0]["weights"].tolist() == [1.0]


# Beside others


@given(data=st.data(), seed=seeds, per_sample=st.booleans(), one_size=st.booleans())
def test_in_a_choice_it_is_what_the_painter_sees(data, seed, per_sample, one_size):
    batches = object_batches(form=MASKS, one_size=one_size, dtypes=[torch.float32], colours=True)
    batch = data.draw(batches, label="batch")
    mixers = [RandomMixup(), RandomCopyPaste(), RandomCutMix(), *[RandomFMix()] * one_size]
    mix = RandomChoice(mixers, per_sample=per_sample, generator=generator_of(seed))
    params = mix.make_params([*batch])
    mixed = mix.replay(params, *batch)
    scenes = [revealed(image, i, batch[0], resizes=False) for i, image in enumerate(mixed[0])]
    assert_painted(scenes, batch, mixed)
    again = RandomChoice(mixers, per_sample=per_sample, generator=generator_of(seed))(*batch)
    assert all(map(torch.equal, again[0], mixed[0]))


# On an accelerator


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_on_an_accelerator_it_is_the_same(stacked, inplace):
    def mixed_by(put):
        sizes = [(5, 6)] * 3 if stacked else [(5, 6), (4, 7), (6, 6)]
        images = [torch.full((1, *size), float(i)) for i, size in enumerate(sizes)]
        objects = [[(0, 0, 3, 3), (2, 2, 6, 5)], [], [(1, 1, 5, 4)]]
        targets = [scene(size, *rows) for size, rows in zip(sizes, objects, strict=True)]
        images = torch.stack(images) if stacked else images
        mix = RandomCopyPaste(p_object=0.8, inplace=inplace, generator=generator_of(0))
        return mix(*put((images, targets)))

    expected_images, expected = mixed_by(lambda batch: batch)
    with Accelerator() as accelerator:
        with accelerator.waiting():
            images, targets = mixed_by(accelerator.put)
        images = [*images]
    assert accelerator.waits == 2  # for the mask, and for what is seen of the objects
    for image, wanted in zip(images, expected_images, strict=True):
        assert image.device == DEVICE
        assert torch.equal(accelerator.take(image), wanted)
    for target, wanted in zip(targets, expected, strict=True):
        assert target.keys() == wanted.keys()
        for key, value in target.items():
            assert torch.equal(accelerator.take(value), wanted[key]), key


# Bad input: the words are in messages.txt


def boxed(size=(4, 8)):
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    return {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.tensor([1]),
    }


X = torch.rand(2, 3, 4, 8)
WRONG = {
    "labels": (lambda: (X, torch.eye(2)), "no place for"),
    "class indices": (lambda: (X, torch.arange(2)), "tv_tensors.Mask"),
    "images alone": (lambda: {"image": X}, "instance masks"),
    "a mask of the whole batch": (
        lambda: (X, tv_tensors.Mask(torch.zeros(2, 4, 8).long())),
        r"tv_tensors.Mask \(N, H, W\)",
    ),
    "boxes alone": (lambda: ([*X], [boxed(), boxed()]), "no instance masks"),
    "boxes alone beside an empty image": (lambda: (X, [{}, boxed()]), "no instance masks"),
    "a mask of the whole image": (
        lambda: (X, [{"masks": tv_tensors.Mask(torch.ones(4, 8).bool())}] * 2),
        r"mask\[None\]",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("mode", ["train", "eval", "p = 0", "in place", "choice"])
def test_what_cannot_be_mixed_is_refused_before_anything_is_drawn_or_written(fault, mode):
    wrong, words = WRONG[fault]
    generator = generator_of(0)
    state, before = generator.get_state(), X.clone()
    mix = RandomCopyPaste(p=float(mode != "p = 0"), inplace=mode == "in place", generator=generator)
    if mode == "choice":
        mix = RandomChoice([RandomCutMix(), RandomCopyPaste()], generator=generator)
    mix.train(mode != "eval")
    batch = wrong()
    with pytest.raises(ValueError, match=words):
        mix(batch)
    with pytest.raises(ValueError, match=words):
        mix.between(batch, batch)
    if isinstance(batch, tuple):
        with pytest.raises(ValueError, match=words):
            mix.make_params([*batch])
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(X, before)


@pytest.mark.parametrize(
    ("value", "error"), [(1.5, ValueError), (-0.1, ValueError), ("all", TypeError)]
)
def test_a_setting_out_of_range(value, error):
    with pytest.raises(error, match="p_object"):
        RandomCopyPaste(p_object=value)
    mix = RandomCopyPaste(p_object=0.25)
    with pytest.raises(error, match="p_object"):
        mix.p_object = value
    assert mix.p_object == 0.25
    assert "p_object=0.25, p=1.0" in repr(mix)
