"""On an accelerator objects come out as on the CPU, and the host waits once: to count them."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.tv_tensors import BoundingBoxFormat

from mixup_transforms import RandomChoice
from tests.accelerator import WAIT, Accelerator, assert_as_on_cpu
from tests.object_batches import forms, given_params, object_batches
from tests.painted import OF_ANY_OBJECTS, plain, sizes_of
from tests.strategies import generator_of, seeds
from tests.test_device import placements

few = settings(max_examples=10)
every_kind = pytest.mark.parametrize("kind", OF_ANY_OBJECTS.values(), ids=repr)
upright = [BoundingBoxFormat.XYXY, BoundingBoxFormat.CXCYWH]
rotated = [BoundingBoxFormat.XYXYXYXY, BoundingBoxFormat.CXCYWHR]
# A resize of a stack is one product of matrices there; polygons are cut to other pixels.
ROUNDING = 64


@pytest.fixture
def accelerator():
    with Accelerator() as accelerator:
        yield accelerator


def batches(kind, *, formats=upright, **settings):
    """Batches of images in half precision, by which their launches are told from all others."""
    semantic = (
        [None, torch.float32] if kind is None or kind.name == "mixup" else [None, torch.int64]
    )
    return object_batches(
        one_size=kind is None or kind.one_size,
        form=forms(formats=formats, semantic=semantic),
        dtypes=[torch.bfloat16],
        **settings,
    )


def counts_objects(kind, params, batch):
    """Whether any mixed canvas has objects of its own or shows a partner that has some.

    These have to be counted.
    """
    images, targets = batch
    return any(
        scene.mixed and len(targets[k].get("labels", ())) and (own or part.share.any())
        for scene in kind.scenes(params, sizes_of(images))
        for k, part, own in zip(scene.parents, scene.parts, (True, *[False] * 3), strict=False)
    )


def assert_waits_after_the_pixels(accelerator, *, inplace):
    """Check that the launches of pixels come before the host waits, or in place after it."""
    if WAIT not in accelerator.log:
        return
    when = accelerator.log.index(WAIT)
    early, late = accelerator.log[:when], accelerator.log[when + 1 :]
    assert {torch.bfloat16} not in (early if inplace else late)


def called(accelerator, mix, batch, waits):
    """Mix a batch on the device, where the host waits as often as it is said to."""
    given = accelerator.put(batch)
    accelerator.log.clear()
    with accelerator.waiting():
        mixed = mix(*given)
    assert accelerator.waits == waits
    return given, mixed


def flipped(images):
    """Return images in the opposite order, in the form that they had."""
    if isinstance(images, torch.Tensor):
        return tv_tensors.wrap(plain(images).flip(0), like=images)
    return type(images)(reversed(images))


# Everything, over all forms of objects


@every_kind
@pytest.mark.parametrize("formats", [upright, rotated], ids=["upright", "rotated"])
@few
@given(data=st.data(), inplace=st.booleans())
def test_objects_come_out_as_on_the_cpu_after_one_wait(accelerator, kind, formats, data, inplace):
    batch = data.draw(batches(kind, formats=formats), label="batch")
    params = data.draw(given_params(kind, sizes_of(batch[0])), label="params")
    mix = kind.make(inplace=inplace)
    waits = counts_objects(kind, params, batch)
    given, mixed = called(accelerator, partial(mix.replay, params), batch, waits)
    assert_waits_after_the_pixels(accelerator, inplace=inplace)
    if not inplace:
        assert_as_on_cpu(accelerator, given, batch, last_bits=0)
    assert_as_on_cpu(accelerator, given[1], batch[1], last_bits=0)
    expected = mix.replay(params, *copy.deepcopy(batch))
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=ROUNDING)


@every_kind
@few
@given(data=st.data(), seed=seeds, inplace=st.booleans(), per_sample=st.booleans())
def test_what_is_drawn_is_what_the_cpu_draws(accelerator, kind, data, seed, inplace, per_sample):
    batch = data.draw(batches(kind), label="batch")
    assume(kind.takes(batch[0], p=0.7, per_sample=per_sample))

    def make():
        settings = {"p": 0.7, "inplace": inplace, "per_sample": per_sample}
        return kind.make(generator=generator_of(seed), **settings)

    waits = counts_objects(kind, make().make_params([*batch]), batch)
    _, mixed = called(accelerator, make(), batch, waits)
    assert_as_on_cpu(accelerator, mixed, make()(*copy.deepcopy(batch)), last_bits=ROUNDING)


@every_kind
@few
@given(data=st.data(), seed=seeds, inplace=st.booleans())
def test_between_two_batches(accelerator, kind, data, seed, inplace):
    first = data.draw(batches(kind), label="first")
    images, targets = copy.deepcopy(first)
    second = flipped(images), type(targets)(reversed(targets))

    def mix(batch):
        mixer = kind.make(generator=generator_of(seed), inplace=inplace)
        return mixer.between(batch[0], batch[1])

    given = accelerator.put((first, second))
    accelerator.log.clear()
    with accelerator.waiting():
        mixed = mix(given)
    assert accelerator.waits <= 1
    assert_as_on_cpu(accelerator, mixed, mix(copy.deepcopy((first, second))), last_bits=ROUNDING)


@few
@given(data=st.data(), seed=seeds, inplace=st.booleans(), per_sample=st.booleans())
def test_a_choice_for_each_sample(accelerator, data, seed, inplace, per_sample):
    batch = data.draw(batches(None), label="batch")

    def make():
        kinds = [kind for kind in OF_ANY_OBJECTS.values() if not kind.canvas]
        mixers = [kind.make(inplace=inplace) for kind in kinds]
        return RandomChoice(mixers, per_sample=per_sample, generator=generator_of(seed))

    given = accelerator.put(batch)
    accelerator.log.clear()
    with accelerator.waiting():
        mixed = make()(*given)
    assert accelerator.waits <= 1
    assert_as_on_cpu(accelerator, mixed, make()(*copy.deepcopy(batch)), last_bits=ROUNDING)


@every_kind
@pytest.mark.parametrize("off", ["p", "eval"])
@few
@given(data=st.data())
def test_where_nobody_is_mixed_nobody_waits(accelerator, kind, off, data):
    batch = data.draw(batches(kind), label="batch")
    mix = kind.make(p=0).train(off == "p")
    given = accelerator.put(batch)
    assert_as_on_cpu(accelerator, mix(*given), mix(*batch), last_bits=0)


# By name


def pair(size=(6, 8)):
    """Two samples with two objects each, in all forms."""
    images = [torch.full((3, *size), value, dtype=torch.bfloat16) for value in (0.25, 1)]
    masks = torch.zeros(2, *size, dtype=torch.uint8)
    masks[0, 1:4, 1:6] = masks[1, :2] = 3
    boxes = torch.tensor([[1.0, 1.0, 6.0, 4.0], [0.0, 0.0, 8.0, 2.0]])
    points = torch.tensor([[[1.0, 2.0]], [[7.5, 1.5]]])
    targets = [
        {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "masks": tv_tensors.Mask(masks),
            "keypoints": tv_tensors.KeyPoints(points, canvas_size=size),
            "labels": torch.tensor([i, 10 + i]),
            "area": [15.0, 16.0],
            "weights": torch.tensor([0.5, 1.0]),
        }
        for i in range(2)
    ]
    return images, targets


PARAMS = {
    "mixup": {"lam": torch.tensor([0.25, 0.5])},
    "cutmix": {"box": torch.tensor([[2, 1, 7, 5], [0, 0, 8, 3]])},
    "resizemix": {"box": torch.tensor([[2, 1, 7, 5], [0, 0, 4, 3]])},
    "fmix": {"mask": torch.arange(96).view(2, 6, 8) % 3 > 0},
    "mosaic": {"centre": torch.tensor([[3, 4], [5, 2]])},
    "mosaic-large": {"centre": torch.tensor([[3, 4], [5, 2]])},
}
SWAPPED = torch.tensor([1, 0])


def stacked(batch):
    return torch.stack(batch[0]), batch[1]


@every_kind
@pytest.mark.parametrize("form", [tuple, stacked], ids=["list", "stacked"])
def test_params_on_the_device_take_one_more_wait(accelerator, kind, form):
    batch = form(pair())
    partner = SWAPPED if kind.partners == 1 else SWAPPED.unsqueeze(1).expand(2, kind.partners)
    params = {"partner": partner, **PARAMS[kind.name]}
    expected = kind.make().replay(params, *batch)
    for there in placements(params):
        placed = {k: accelerator.put(v) if k in there else v for k, v in params.items()}
        replay = partial(kind.make().replay, placed)
        # Whether a stack changes its size depends on whether anything is mixed.
        asks_for_size = kind.canvas and form is stacked and "centre" in there
        waits = 1 + bool(there) + bool(asks_for_size)
        _, mixed = called(accelerator, replay, batch, waits)
        assert_as_on_cpu(accelerator, mixed, expected, last_bits=ROUNDING)


@every_kind
def test_a_rule_that_pairs_on_the_device_takes_one_more_wait(accelerator, kind):
    def on_the_device(batch, *, labels, generator):
        return accelerator.put(SWAPPED)

    def on_the_host(batch, *, labels, generator):
        return SWAPPED

    mix = kind.make(pairing=on_the_device, generator=generator_of(0))
    _, mixed = called(accelerator, mix, pair(), waits=2)
    expected = kind.make(pairing=on_the_host, generator=generator_of(0))(*pair())
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=ROUNDING)


@every_kind
@pytest.mark.parametrize("inplace", [False, True])
def test_pixels_are_launched_before_the_host_waits_and_in_place_after(accelerator, kind, inplace):
    mix = kind.make(inplace=inplace, generator=generator_of(0))
    called(accelerator, mix, pair(), waits=1)
    assert {torch.bfloat16} in accelerator.log
    assert_waits_after_the_pixels(accelerator, inplace=inplace)


@every_kind
def test_labels_beside_the_targets(accelerator, kind):
    images, targets = pair()
    batch = {"image": images, "target": targets, "label": torch.eye(2)}
    given = accelerator.put(batch)
    accelerator.log.clear()
    with accelerator.waiting():
        mixed = kind.make(generator=generator_of(0))(given)
    assert accelerator.waits == 1
    expected = kind.make(generator=generator_of(0))(batch)
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=ROUNDING)


@every_kind
def test_targets_on_the_host_beside_images_on_the_device_take_no_wait(accelerator, kind):
    images, targets = pair()
    mixed, objects = kind.make(generator=generator_of(0))(accelerator.put(images), targets)
    expected = kind.make(generator=generator_of(0))(images, targets)
    assert_as_on_cpu(accelerator, mixed, expected[0], last_bits=ROUNDING)
    assert_as_on_cpu(accelerator, accelerator.put(objects), expected[1], last_bits=ROUNDING)


@every_kind
def test_labels_of_objects_on_the_host_beside_boxes_on_the_device(accelerator, kind):
    images, targets = pair()
    expected = kind.make(generator=generator_of(0))(images, targets)
    given = [
        {
            key: value if key in ("labels", "weights") else accelerator.put(value)
            for key, value in target.items()
        }
        for target in targets
    ]
    accelerator.log.clear()
    with accelerator.waiting():
        mixed = kind.make(generator=generator_of(0))(accelerator.put(images), given)
    assert accelerator.waits == 1
    for target in mixed[1]:
        target["labels"] = accelerator.put(target["labels"])
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=ROUNDING)


@every_kind
def test_a_batch_without_objects_takes_no_wait(accelerator, kind):
    images = accelerator.put(pair()[0])
    mixed, targets = kind.make(generator=generator_of(0))(images, [{"image_id": 7}, {}])
    assert [target["weights"].shape for target in targets] == [(0,), (0,)]
    expected, _ = kind.make(generator=generator_of(0))(pair()[0], [{"image_id": 7}, {}])
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=ROUNDING)
