"""Batches of objects that cannot be mixed: each with its own words, and nothing written."""

import copy

import pytest
import torch
from torch.utils.data import DataLoader, default_collate
from torchvision import tv_tensors

from mixup_transforms import (
    MixCollate,
    RandomChoice,
    RandomClassMix,
    RandomCopyPaste,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
)

SIZE = (4, 6)
RAGGED = [torch.rand(3, 4, 6), torch.rand(3, 5, 6)]


def boxes(count=2, size=SIZE):
    rows = torch.tensor([[0.0, 0.0, 2.0, 3.0]] * count).reshape(count, 4)
    return tv_tensors.BoundingBoxes(rows, format="XYXY", canvas_size=size)


def masks(count=2, size=SIZE):
    return tv_tensors.Mask(torch.ones(count, *size, dtype=torch.bool))


def keypoints(count=2, size=SIZE):
    return tv_tensors.KeyPoints(torch.ones(count, 3, 2), canvas_size=size)


def good(**changed):
    """A target of two objects, with some of its keys changed, or left out where None is given."""
    target = {"boxes": boxes(), "labels": torch.tensor([1, 2]), **changed}
    return {key: value for key, value in target.items() if value is not None}


def batch(**changed):
    """Two good samples, of which the second has some keys changed."""
    return [torch.rand(3, *SIZE), torch.rand(3, *SIZE)], [good(), good(**changed)]


def both(**changed):
    """Two samples that both have some keys changed."""
    return [torch.rand(3, *SIZE), torch.rand(3, *SIZE)], [good(**changed), good(**changed)]


def ragged():
    return RAGGED, [good(), good(boxes=boxes(size=(5, 6)))]


EVERY = [RandomMixup, RandomCutMix, RandomResizeMix, RandomFMix, RandomMosaic]
# A batch, and words that its error has to hold.
WRONG = {
    "fewer targets than images": (lambda: (batch()[0], batch()[1][:1]), ("2", "1", "target")),
    "more targets than images": (lambda: (batch()[0], batch()[1] * 2), ("2", "4", "target")),
    "labels beside neither boxes nor masks": (
        lambda: both(boxes=None),
        ("labels", "boxes", "masks"),
    ),
    "keypoints beside neither boxes nor masks": (
        lambda: both(boxes=None, labels=None, keypoints=keypoints()),
        ("keypoints", "boxes", "masks"),
    ),
    "plain boxes": (
        lambda: both(boxes=torch.rand(2, 4)),
        ("boxes", "tv_tensors.BoundingBoxes"),
    ),
    "plain masks": (
        lambda: both(masks=torch.ones(2, *SIZE, dtype=torch.bool)),
        ("masks", "tv_tensors.Mask"),
    ),
    "plain keypoints": (
        lambda: both(keypoints=torch.rand(2, 3, 2)),
        ("keypoints", "tv_tensors.KeyPoints"),
    ),
    "plain boxes in one target": (lambda: batch(boxes=torch.rand(2, 4)), ("boxes",)),
    "arrays under masks": (
        lambda: both(masks=masks().numpy()),
        ("masks", "NumPy array of shape (2, 4, 6)", "tv_tensors.Mask"),
    ),
    "lists under keypoints": (
        lambda: both(keypoints=keypoints().tolist()),
        ("keypoints", "a list of 2", "tv_tensors.KeyPoints"),
    ),
    "lists of boxes in one target": (
        lambda: batch(boxes=boxes().tolist()),
        ("[1]['boxes']", "a list of 2", "tv_tensors.BoundingBoxes"),
    ),
    "lists of boxes beside masks": (
        lambda: both(boxes=boxes().tolist(), masks=masks()),
        ("boxes", "a list of 2", "tv_tensors.BoundingBoxes"),
    ),
    "no boxes, said by None": (
        lambda: (batch()[0], [good(), {"boxes": None, "labels": torch.tensor([])}]),
        ("[1]['boxes']", "BoundingBoxes", "zero rows"),
    ),
    "plain boxes in one target under a key of one's own": (
        lambda: (batch()[0], [{"bbox": boxes()}, {"bbox": torch.rand(2, 4)}]),
        ("[1]['bbox']", "BoundingBoxes", "a plain tensor, float32 (2, 4)"),
    ),
    "instances in one target and classes in the other": (
        lambda: (batch()[0], [good(mask=masks()), good(mask=tv_tensors.Mask(torch.zeros(SIZE)))]),
        ("[1]['mask']", "Mask (N, H, W)", "float32 (4, 6)"),
    ),
    "more labels than boxes": (lambda: batch(labels=torch.tensor([1, 2, 3])), ("labels", "2", "3")),
    "more masks than boxes": (lambda: batch(masks=masks(3)), ("masks", "2", "3")),
    "more masks than boxes in both": (lambda: both(masks=masks(3)), ("masks", "2", "3")),
    "more keypoints than boxes": (lambda: both(keypoints=keypoints(3)), ("keypoints", "2", "3")),
    "more weights than boxes": (lambda: both(weights=torch.ones(3)), ("weights", "2", "3")),
    "weights of no number": (lambda: both(weights=["much", "little"]), ("weights",)),
    "boxes of another canvas": (
        lambda: batch(boxes=boxes(size=(9, 9))),
        ("boxes", "canvas_size", "(9, 9)", "(4, 6)"),
    ),
    "keypoints of another canvas": (
        lambda: both(keypoints=keypoints(size=(9, 9))),
        ("keypoints", "canvas_size", "(9, 9)", "(4, 6)"),
    ),
    "masks of another size": (lambda: both(masks=masks(size=(5, 6))), ("masks", "5", "4")),
    "a semantic mask of another size": (
        lambda: both(semantic=tv_tensors.Mask(torch.zeros(5, 6))),
        ("semantic", "5", "4"),
    ),
    "a semantic mask of one image alone": (
        lambda: batch(semantic=tv_tensors.Mask(torch.zeros(SIZE))),
        ("[0]", "semantic", "whole image"),
    ),
    "a semantic mask of all images but one without objects": (
        lambda: (batch()[0], [good(semantic=tv_tensors.Mask(torch.zeros(SIZE))), {"image_id": 1}]),
        ("[1]", "semantic", "whole image"),
    ),
    "uint8 images beside float ones": (
        lambda: ([torch.rand(3, *SIZE), torch.zeros(3, *SIZE, dtype=torch.uint8)], batch()[1]),
        ("uint8", "float32"),
    ),
    "grey images beside coloured ones": (
        lambda: ([torch.rand(3, *SIZE), torch.rand(1, *SIZE)], batch()[1]),
        ("(3, 4, 6)", "(1, 4, 6)"),
    ),
    "boxes in two formats": (
        lambda: batch(
            boxes=tv_tensors.BoundingBoxes(torch.ones(2, 4), format="XYWH", canvas_size=SIZE)
        ),
        ("XYXY", "XYWH"),
    ),
    "a target that is no dict": (lambda: (batch()[0], [good(), [1, 2]]), ("[1]", "dict", "list")),
}


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("inplace", [False, True], ids=["out of place", "in place"])
def test_what_is_said_and_nothing_is_written(fault, make, inplace):
    wrong, words = WRONG[fault]
    images, targets = wrong()
    before = copy.deepcopy((images, targets))
    with pytest.raises((ValueError, TypeError)) as caught:
        make(inplace=inplace)(images, targets)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
    assert all(map(torch.equal, before[0], images))
    assert [list(target) for target in before[1]] == [list(target) for target in targets]


@pytest.mark.parametrize("fault", WRONG)
def test_a_choice_says_it_too(fault):
    wrong, words = WRONG[fault]
    with pytest.raises((ValueError, TypeError)) as caught:
        RandomChoice([RandomMixup(), RandomCutMix()], per_sample=True)(*wrong())
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"


@pytest.mark.parametrize("fault", WRONG)
def test_it_is_said_in_eval_mode_and_with_p_zero_too(fault):
    for mix in (RandomMixup().eval(), RandomMixup(p=0)):
        with pytest.raises((ValueError, TypeError)):
            mix(*WRONG[fault][0]())


def test_the_good_batch_beside_these_is_mixed():
    for make in EVERY:
        _, targets = make()(*both(masks=masks(), keypoints=keypoints(), weights=torch.ones(2)))
        assert all("weights" in target for target in targets)


@pytest.mark.parametrize("make", EVERY)
def test_default_collate_is_told_how_to_collate_objects(make):
    samples = [
        (torch.rand(3, *SIZE), good()),
        (torch.rand(3, *SIZE), good(boxes=boxes(3), labels=torch.arange(3))),
    ]
    with pytest.raises((ValueError, TypeError)) as caught:
        MixCollate(make())(samples)
    assert "lambda samples: tuple(zip(*samples))" in str(caught.value)
    loader = DataLoader(samples, batch_size=2, collate_fn=MixCollate(make()))
    with pytest.raises((ValueError, TypeError), match="lambda samples"):
        next(iter(loader))


@pytest.mark.parametrize("key", ["boxes", "keypoints"])
def test_what_default_collate_makes_of_as_many_objects_is_told_too(key):
    target = good(**{"boxes": None, key: torch.rand(2, 4)})
    given = default_collate([(torch.rand(3, *SIZE), target)] * 2)
    with pytest.raises(TypeError, match=rf"\['{key}'\] is one plain .* lambda samples"):
        RandomCutMix()(given)


def test_default_collate_is_told_of_images_of_different_sizes_too():
    with pytest.raises((ValueError, TypeError)) as caught:
        MixCollate(RandomMixup())(list(zip(*ragged(), strict=True)))
    assert "lambda samples: tuple(zip(*samples))" in str(caught.value)


STACK = torch.rand(2, 1, *SIZE)
MORE = {
    "a stack": STACK,
    "a stack of images by their type": tv_tensors.Image(torch.zeros(2, 1, *SIZE)),
    "bytes, images by their type": tv_tensors.Image(torch.zeros(2, 1, *SIZE, dtype=torch.uint8)),
    "a list": [*STACK],
    "a tuple of images by their type": tuple(map(tv_tensors.Image, STACK)),
    "a list in a dict": {"depth": [*STACK]},
}


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("more", MORE)
def test_further_images_are_not_left_behind(more, stacked):
    images, targets = batch()
    images = torch.stack(images) if stacked else images
    with pytest.raises(ValueError, match=r"batch\[2\]\S* would be left as it is.*batch\[0\]"):
        RandomCutMix()(images, targets, MORE[more])


@pytest.mark.parametrize(
    "other",
    [torch.rand(2, 5), torch.zeros(2, 4, 6, dtype=torch.int64), torch.rand(3, 4, 6), ["a", "b"]],
    ids=["rows", "integers", "of another number", "strings"],
)
def test_what_does_not_look_like_images_stays(other):
    assert RandomCutMix()(*batch(), other)[2] is other or other == ["a", "b"]


def test_where_images_are_named_others_stay():
    images, targets = batch()
    mix = RandomCutMix(images_getter=lambda given: given[0])
    assert mix(images, targets, STACK)[2] is STACK
    both = {"image": images, "depth": STACK, "target": targets}
    assert RandomCutMix(images_getter="image")(both)["depth"] is STACK


@pytest.mark.parametrize("make", EVERY)
def test_one_stack_of_masks_cannot_lie_on_images_of_different_sizes(make):
    stack = tv_tensors.Mask(torch.rand(2, 3, *SIZE))
    # FMix wants its images of one size, whatever lies beside them.
    with pytest.raises(ValueError, match=r"the height and width of all|of one height and width"):
        make()(*ragged(), stack)


@pytest.mark.parametrize("make", [RandomCutMix, RandomResizeMix, RandomFMix, RandomMosaic])
def test_a_stack_of_masks_beside_a_list_has_its_size(make):
    with pytest.raises(ValueError, match=r"of all images, got \(4, 5\) beside \[\(4, 6\)\]"):
        make()(*batch(), tv_tensors.Mask(torch.rand(2, 3, 4, 5)))


def test_a_mosaic_of_another_size_cannot_stack_masks_beside_unmixed_ones():
    images, targets = batch()
    mix, stack = RandomMosaic(size=(9, 9), p=0.5), tv_tensors.Mask(torch.rand(2, 3, *SIZE))
    with pytest.raises(ValueError, match="a stack cannot hold them"):
        mix(images, targets, stack)
    mix.labels_getter = lambda given: given[2]
    with pytest.raises(ValueError, match="a stack cannot hold them"):
        mix(images, targets, torch.rand(2, 3, *SIZE))


@pytest.mark.parametrize("getter", ["image", ["image"], lambda given: given["image"]])
def test_of_several_lists_the_named_one_is_mixed(getter):
    images, targets = batch()
    both = {"image": images, "right": [*STACK], "target": targets}
    mixed = RandomCutMix(images_getter=getter)(both)
    assert all(map(torch.equal, mixed["right"], STACK))
    assert not all(map(torch.equal, mixed["image"], images))


@pytest.mark.parametrize(
    ("getter", "words"),
    [
        ("img", "names the key 'img'"),
        (["image", "depth"], r"\['image'\], got batch\['image'\] and batch\['depth'\]"),
        (lambda given: given["depth"], r"\['image'\], got batch\['depth'\]"),
        (lambda given: [*given["image"]], "not an object of the batch"),
        (lambda given: None, "got nothing"),
    ],
)
def test_a_name_for_other_images_is_refused(getter, words):
    images, targets = batch()
    given = {"image": images, "depth": torch.rand(2, 6), "target": targets}
    with pytest.raises(ValueError, match=words):
        RandomCutMix(images_getter=getter)(given)
    with pytest.raises(ValueError, match="names the key 'img'"):
        RandomCutMix(images_getter="img")(images, targets)


@pytest.mark.parametrize(
    "form",
    [
        lambda images, targets: {"left": images, "right": images, "target": targets},
        lambda images, targets: {"image": images, "own": targets, "others": targets},
        lambda images, targets: (targets, images),
        lambda images, targets: ((images, targets), "name"),
        lambda images, targets: (iter(images), targets),
    ],
    ids=["two lists of images", "two of targets", "the other way round", "deeper", "an iterator"],
)
def test_targets_without_one_list_of_images_say_so(form):
    with pytest.raises(TypeError, match=r"not one list of images.*images_getter="):
        RandomCutMix()(form(*batch()))


@pytest.mark.parametrize("stacked", [False, True])
def test_annotations_of_a_coco_file_are_no_targets(stacked):
    images, _ = batch()
    annotations = ([{"bbox": [0, 0, 2, 2], "category_id": 1}] * 2, [])
    with pytest.raises(TypeError, match="wrap_dataset_for_transforms_v2"):
        RandomCutMix()(torch.stack(images) if stacked else tuple(images), annotations)


def test_a_dense_label_that_is_named_is_no_image():
    images, targets = batch()
    mix = RandomCutMix(labels_getter=lambda given: given[2])
    assert mix(torch.stack(images), targets, STACK)[2].shape == STACK.shape


def test_fmix_wants_one_size():
    with pytest.raises(ValueError, match="RandomFMix") as caught:
        RandomFMix()(*ragged())
    assert all(word in str(caught.value) for word in ("(4, 6)", "(5, 6)"))


@pytest.mark.parametrize("make", [*EVERY, RandomCopyPaste, RandomClassMix])
@pytest.mark.parametrize("size", [(4, 6), (5, 6), (9, 9)])
def test_a_stack_of_masks_is_not_that_of_images_of_different_sizes(make, size):
    dtype = torch.float32 if make is RandomMixup else torch.int64
    stack = tv_tensors.Mask(torch.zeros(2, *size, dtype=dtype))
    batch = {"image": RAGGED, "target": [{"masks": masks(1, (4, 6))}, {}], "mask": stack}
    for mix in (make(), make().eval()):
        with pytest.raises(ValueError, match="height and width"):
            mix(batch)


def test_a_stack_of_masks_beside_a_list_takes_one_canvas():
    stack = tv_tensors.Mask(torch.zeros(2, *SIZE, dtype=torch.int64))
    batch = {"image": [torch.rand(3, *SIZE)] * 2, "target": [{}, {}], "mask": stack}
    assert RandomMosaic(size=(8, 12))(batch)["mask"].shape == (2, 8, 12)
    with pytest.raises(ValueError, match="p=1 or per_sample=False"):
        RandomMosaic(size=(8, 12), p=0.5)(batch)


def test_class_indices_cannot_be_blended():
    semantic = tv_tensors.Mask(torch.zeros(SIZE, dtype=torch.int64))
    with pytest.raises((ValueError, TypeError), match="semantic"):
        RandomMixup()(*both(semantic=semantic))
    RandomCutMix()(*both(semantic=semantic))


@pytest.mark.parametrize("box", [[0, 0, 7, 4], [0, 0, 6, 5], [-1, 0, 2, 2], [3, 0, 2, 2]])
def test_a_given_box_has_to_lie_on_the_samples_own_canvas(box):
    params = {"partner": torch.tensor([1, 0]), "box": torch.tensor([box, [0, 0, 2, 2]])}
    for make in (RandomCutMix, RandomResizeMix):
        with pytest.raises(ValueError, match="box"):
            make().replay(params, *ragged())


def test_between_wants_as_many_samples_on_both_sides():
    images, targets = batch()
    with pytest.raises(ValueError, match=r"2.*1|1.*2"):
        RandomMixup().between((images, targets), (images[:1], targets[:1]))


def test_between_wants_semantic_masks_on_both_sides_or_on_none():
    semantic = tv_tensors.Mask(torch.zeros(SIZE))
    bare = batch()[0], [{"semantic": semantic}] * 2
    for own, other in ((bare, batch()), (batch(), bare), (both(semantic=semantic), batch())):
        with pytest.raises(ValueError, match=r"same keys.*semantic"):
            RandomMixup().between(own, other)


def test_between_wants_the_same_forms_on_both_sides():
    with pytest.raises((ValueError, TypeError), match="masks"):
        RandomMixup().between(batch(), both(masks=masks()))
    images, _ = batch()
    planes = [{"semantic": tv_tensors.Mask(torch.zeros(SIZE))} for _ in images]
    for own, others in ((planes, [{}, {}]), ([{}, {}], planes)):
        with pytest.raises(ValueError, match="semantic"):
            RandomMixup().between((images, own), (images, others))
