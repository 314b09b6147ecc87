"""Images in a list are mixed as a stack of them is, whatever they are made of."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from mixup_transforms import RandomChoice, RandomMixup, RandomResizeMix
from tests.bits import same, unchanged
from tests.object_batches import given_params
from tests.painted import OF_ANY_OBJECTS
from tests.strategies import FLOATS, INTEGERS, generator_of, laid_out, layouts, noise, seeds

every_kind = pytest.mark.parametrize("kind", OF_ANY_OBJECTS.values(), ids=repr)
# Wider than torch computes with, or than most of its operations take.
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def with_targets(images):
    return images, [{"image_id": i} for i in range(len(images))]


def mixed(kind, params, images, **settings):
    return kind.make(**settings).replay(params, *with_targets(images))[0]


@every_kind
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *UNSIGNED], ids=str)
@given(data=st.data(), seed=seeds, layout=layouts, inplace=st.booleans())
def test_a_list_of_one_size_is_mixed_as_its_stack_is(kind, dtype, data, seed, layout, inplace):
    count, height, width = (data.draw(st.integers(1, 5)) for _ in range(3))
    stack, other = (laid_out(noise((count, 3, height, width), dtype, seed), layout) for _ in "ab")
    params = data.draw(given_params(kind, [(height, width)] * count))
    expected, images = mixed(kind, params, stack), [*other]
    found = mixed(kind, params, images, inplace=inplace)
    assert same(found, [*expected])
    for new, old in zip(found, images, strict=True):
        assert (new is old) == (inplace and new.shape == old.shape)
    if not inplace:
        assert same(images, [*stack])


@every_kind
@given(data=st.data(), seed=seeds)
def test_no_image_depends_on_the_memory_format_of_another(kind, data, seed):
    sizes = data.draw(
        st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4)
    )
    sizes = sizes[:1] * len(sizes) if kind.one_size else sizes
    params = data.draw(given_params(kind, sizes))
    images = [noise((3, *size), torch.float32, seed) for size in sizes]
    expected = mixed(kind, params, images)
    odd = [laid_out(image, data.draw(layouts)) for image in images]
    assert same(mixed(kind, params, odd), expected)
    assert same(mixed(kind, params, odd, inplace=True), expected)


@every_kind
def test_bools_are_moved_and_never_averaged(kind):
    images = [noise((1, 4, 6), torch.int8, seed) > 0 for seed in (1, 2)]
    params = params_of(kind)
    if kind.name in ("mixup", "resizemix"):
        with pytest.raises(TypeError, match=r"images \(batch\[0\]\)\[0\] .* got bool"):
            mixed(kind, params, images)
        return
    expected = mixed(kind, params, [image.byte() for image in images])
    assert same(mixed(kind, params, images), [image.bool() for image in expected])


# Two samples of two sizes

SIZES = [(4, 6), (5, 3)]
PARAMS = {
    "mixup": {"lam": torch.tensor([0.25, 0.625])},
    "cutmix": {"box": torch.tensor([[1, 1, 5, 3], [0, 0, 3, 2]])},
    "resizemix": {"box": torch.tensor([[1, 1, 5, 3], [0, 2, 2, 5]])},
    "fmix": {"mask": torch.arange(48).view(2, 4, 6) % 3 > 0},
    "mosaic": {"centre": torch.tensor([[2, 1], [1, 3]])},
    "mosaic-large": {"centre": torch.tensor([[5, 4], [3, 6]])},
}


def params_of(kind, partner=(1, 0)):
    of_one = torch.tensor(partner)
    others = of_one if kind.partners == 1 else torch.stack([of_one, 1 - of_one, of_one], 1)
    return {"partner": others, **PARAMS[kind.name]}


def two_images(kind, dtype=torch.float32):
    sizes = SIZES[:1] * 2 if kind.one_size else SIZES
    return [noise((2, *size), dtype, seed) for seed, size in enumerate(sizes)]


@every_kind
@pytest.mark.parametrize("inplace", [False, True], ids=["anew", "in place"])
@pytest.mark.parametrize("partner", [[1, 0], [1, 1]], ids=str)
def test_gradients_reach_both_parents(kind, inplace, partner):
    params = params_of(kind, partner)

    def mix(*images):
        hidden = [image * 1 for image in images] if inplace else images
        return tuple(mixed(kind, params, hidden, inplace=inplace))

    images = [image.requires_grad_() for image in two_images(kind, torch.float64)]
    assert torch.autograd.gradcheck(mix, images)


@every_kind
def test_gradients_reach_both_batches(kind):
    images = [image.requires_grad_() for image in two_images(kind, torch.float64)]

    def mix(own, other):
        mixer = kind.make(generator=generator_of(2))
        return tuple(mixer.between(with_targets([own]), with_targets([other]))[0])

    assert not torch.equal(mix(*images)[0], images[0])
    assert torch.autograd.gradcheck(mix, images)


def choice(generator):
    mixers = [OF_ANY_OBJECTS[name].make() for name in ("mixup", "cutmix", "resizemix")]
    return RandomChoice(mixers, per_sample=True, generator=generator)


def test_gradients_through_a_choice_for_each_sample():
    pair = two_images(OF_ANY_OBJECTS["mixup"], torch.float64)
    images = [image.requires_grad_() for image in pair * 2]

    def mix(*images):
        return tuple(choice(generator_of(1))(*with_targets(images))[0])

    assert torch.autograd.gradcheck(mix, images)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int16], ids=str)
@pytest.mark.parametrize("ambient", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(kind, dtype, ambient):
    # Beyond what float16 can hold.
    images = [image * 300 for image in two_images(kind, dtype)]
    targets = [{"boxes": boxes_in(image)} for image in images]
    expected = kind.make(generator=generator_of(0))(images, targets)
    with torch.autocast("cpu", dtype=ambient):
        found = kind.make(generator=generator_of(0))(images, targets)
    assert unchanged(expected, found)


def boxes_in(image):
    size = tuple(image.shape[1:])
    rows = torch.tensor([[0.1, 0.2, 2.3, 3.4], [1.0, 0.0, 3.0, 2.5]])
    return tv_tensors.BoundingBoxes(rows, format="CXCYWH", canvas_size=size)


@every_kind
def test_images_that_keep_their_size_keep_their_memory_format(kind):
    images = [noise((4, 6, 3), torch.float32, seed).permute(2, 0, 1) for seed in (1, 2)]
    params = params_of(kind)
    if kind.name == "resizemix":
        params["box"] = torch.tensor([[1, 1, 5, 3], [0, 2, 2, 4]])
    for image in mixed(kind, params, images):
        assert image.stride() == images[0].stride() or image.shape != images[0].shape


def test_more_channels_than_three_and_none():
    for channels in (0, 1, 7):
        images = [torch.rand(channels, *size) for size in SIZES]
        for mix in (RandomMixup(), RandomResizeMix()):
            assert [image.shape[0] for image in mix(*with_targets(images))[0]] == [channels] * 2
