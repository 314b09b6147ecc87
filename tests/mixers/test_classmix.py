"""ClassMix against a plain loop: half of the partner's classes, all of each or nothing."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from mixup_transforms import (
    MixCollate,
    MixedDataset,
    OneHot,
    RandomChoice,
    RandomClassMix,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
)
from tests.accelerator import DEVICE, Accelerator
from tests.bits import same
from tests.paths import on_path
from tests.strategies import generator_of, seeds

IGNORED = 255


def scenes(batch=4, size=(5, 6), classes=4, dtype=torch.int64, seed=0):
    """Images of which each pixel tells where it comes from, and masks with ignored pixels."""
    count = batch * size[0] * size[1]
    images = torch.arange(count, dtype=torch.float32).view(batch, 1, *size)
    masks = torch.randint(classes + 1, (batch, *size), generator=generator_of(seed))
    masks[masks == classes] = IGNORED
    return images, tv_tensors.Mask(masks.to(dtype))


def samples_of(images, masks):
    return [*zip(map(tv_tensors.Image, images), map(tv_tensors.Mask, masks), strict=True)]


def plain(tensor):
    return tensor.as_subclass(torch.Tensor)


def assert_half_is_pasted(own, other, mixed, ignore_index):
    """Check one sample; pixels of images tell their origin, pixels of masks their class."""
    (image, mask), (other_image, other_mask), (mixed_image, mixed_mask) = (
        [plain(part).tolist() for part in (image[0], mask)] for image, mask in (own, other, mixed)
    )
    classes = {c for row in other_mask for c in row if c != ignore_index}
    pasted = set()
    for y, row in enumerate(image):
        for x, pixel in enumerate(row):
            if mixed_image[y][x] == other_image[y][x]:
                pasted.add(other_mask[y][x])
                assert mixed_mask[y][x] == other_mask[y][x]
            else:
                assert mixed_image[y][x] == pixel
                assert mixed_mask[y][x] == mask[y][x]
    assert pasted <= classes
    assert len(pasted) == (len(classes) + 1) // 2
    for y, row in enumerate(other_mask):
        for x, c in enumerate(row):
            assert (mixed_image[y][x] == other_image[y][x]) == (c in pasted)
    return pasted


@given(
    batch=st.integers(2, 5),
    size=st.tuples(st.integers(1, 7), st.integers(1, 8)),
    classes=st.integers(1, 9),
    dtype=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64]),
    ignore_index=st.sampled_from([None, IGNORED, 0]),
    per_sample=st.booleans(),
    inplace=st.booleans(),
    seed=seeds,
)
def test_half_of_the_partners_classes_are_pasted_whole(
    batch, size, classes, dtype, ignore_index, per_sample, inplace, seed
):
    images, masks = scenes(batch, size, classes, dtype, seed)
    settings = {"ignore_index": ignore_index, "per_sample": per_sample}
    mix = RandomClassMix(**settings, generator=generator_of(seed), inplace=inplace)
    params = mix.make_params([images, masks])
    before = images.clone(), masks.clone()
    mixed_images, mixed_masks = mix.replay(params, images, masks)
    assert (mixed_images is images) == (mixed_masks is masks) == inplace
    assert mixed_masks.dtype == dtype
    for i, j in enumerate(params["partner"].tolist()):
        samples = [[part[k] for part in before] for k in (i, j)]
        assert_half_is_pasted(*samples, (mixed_images[i], mixed_masks[i]), ignore_index)
        own = mixed_images[i] == before[0][i]
        assert params["lam"][i].item() == pytest.approx(own.float().mean().item())
        assert torch.equal(params["mask"][i], own[0])


@given(data=st.data(), seed=seeds, ignore_index=st.sampled_from([None, 0]))
def test_images_of_different_sizes_show_what_lies_on_their_own_canvas(data, seed, ignore_index):
    sides = st.tuples(st.integers(1, 7), st.integers(1, 8))
    sizes = data.draw(st.lists(sides, min_size=2, max_size=4))
    generator = generator_of(seed)
    images = [torch.full((1, *size), float(i)) for i, size in enumerate(sizes)]
    planes = [torch.randint(4, size, generator=generator) for size in sizes]
    targets = [{"classes": tv_tensors.Mask(plane)} for plane in planes]
    mix = RandomClassMix(ignore_index=ignore_index, generator=generator)
    params = mix.make_params([images, targets])
    mixed, new = mix.replay(params, images, targets)
    for i, j in enumerate(params["partner"].tolist()):
        present = {*planes[j].flatten().tolist()} - {ignore_index}
        here = planes[j][: sizes[i][0], : sizes[i][1]]
        reach = mixed[i][0, : here.shape[0], : here.shape[1]]
        shown = {*here[reach == j].tolist()}
        assert shown <= present
        assert len(shown) <= (len(present) + 1) // 2
        hidden = {*here[reach == i].tolist()}
        assert not shown & hidden
        expected = planes[i].clone()
        expected[: here.shape[0], : here.shape[1]][reach == j] = here[reach == j]
        assert torch.equal(plain(new[i]["classes"]), expected)
        assert (mixed[i] == j).sum() == (reach == j).sum()
        assert params["lam"][i].item() == pytest.approx((mixed[i] == i).float().mean().item())


def test_a_list_and_a_stack_are_mixed_alike():
    images, masks = scenes(6)
    listed = [*images], [{"classes": tv_tensors.Mask(plane)} for plane in masks]
    mixes = [RandomClassMix(generator=generator_of(0)) for _ in range(4)]
    first, second = mixes[0].make_params([images, masks]), mixes[1].make_params([*listed])
    assert same([*first.values()], [*second.values()])
    mixed, targets = mixes[2](images, masks), mixes[3](*listed)
    assert torch.equal(torch.stack(targets[0]), mixed[0])
    assert all(
        same(target["classes"], tv_tensors.Mask(mask))
        for target, mask in zip(targets[1], mixed[1], strict=True)
    )


def test_an_image_of_which_nothing_has_a_class_lends_nothing():
    images, masks = scenes(2)
    masks[1] = IGNORED
    mix = RandomClassMix(ignore_index=IGNORED, generator=generator_of(0))
    params = mix.make_params([images, masks])
    assert params["lam"][0] == 1
    mixed, mixed_masks = mix.replay(params, images, masks)
    assert same(mixed[0], images[0])
    assert same(mixed_masks[0], masks[0])
    assert torch.equal(plain(mixed_masks)[1] == IGNORED, params["mask"][1])


def test_the_ignore_index_of_the_sample_itself_stays_where_nothing_is_pasted():
    images, masks = scenes(8)
    mix = RandomClassMix(ignore_index=IGNORED, generator=generator_of(0))
    params = mix.make_params([images, masks])
    mixed = plain(mix.replay(params, images, masks)[1])
    assert torch.equal(mixed == IGNORED, (plain(masks) == IGNORED) & params["mask"])


def test_each_class_is_pasted_as_often_as_every_other():
    plane = torch.tensor([[0, 1, 2, 30, 254]])
    images, masks = torch.rand(4000, 1, 1, 5), tv_tensors.Mask(plane.expand(4000, 1, 5))
    mask = RandomClassMix(generator=generator_of(0)).make_params([images, masks])["mask"]
    assert ((~mask).sum((1, 2)) == 3).all()
    halves = Counter(map(tuple, mask[:, 0].tolist()))
    assert len(halves) == 10
    assert stats.chisquare([*halves.values()]).pvalue > 1e-4


def test_one_draw_for_the_batch_puts_the_classes_in_one_order():
    plane = torch.arange(6).view(2, 3)
    images, masks = torch.rand(50, 1, 2, 3), tv_tensors.Mask(plane.repeat(50, 1, 1))
    for per_sample, most in ((False, 1), (True, 20)):
        mix = RandomClassMix(per_sample=per_sample, generator=generator_of(0))
        halves = {*map(str, mix.make_params([images, masks])["mask"].tolist())}
        assert (len(halves) == 1) if most == 1 else (5 < len(halves) <= most)


def test_the_seed_and_the_classes_decide_whatever_else_the_mask_holds():
    images, masks = scenes(4, classes=5)
    params = RandomClassMix(generator=generator_of(3)).make_params([images, masks])
    order = torch.randperm(30, generator=generator_of(1))
    shuffled = plain(masks).flatten(1)[:, order].view_as(masks)
    again = RandomClassMix(generator=generator_of(3)).make_params(
        [images, tv_tensors.Mask(shuffled)]
    )
    assert torch.equal(again["seed"], params["seed"])
    assert torch.equal(again["mask"], params["mask"].flatten(1)[:, order].view_as(masks))


def test_the_amount_drawn_does_not_depend_on_the_masks():
    states = set()
    for classes in (1, 3, 40):
        generator = generator_of(0)
        images, masks = scenes(classes=classes)
        RandomClassMix(generator=generator).make_params([images, masks])
        states.add(generator.get_state().numpy().tobytes())
    assert len(states) == 1


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 1, 5, 6)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16, torch.int64])
def test_masks_of_every_integer_dtype(shape, dtype):
    images, masks = scenes(classes=2, dtype=torch.int64)
    masks = tv_tensors.Mask(plain(masks).view(shape).clamp(max=1).to(dtype))
    mix = RandomClassMix(generator=generator_of(0))
    params = mix.make_params([images, masks])
    mixed_images, mixed_masks = mix.replay(params, images, masks)
    assert (mixed_masks.dtype, mixed_masks.shape) == (dtype, shape)
    for i, j in enumerate(params["partner"].tolist()):
        samples = [(images[k], masks[k].view(5, 6).int()) for k in (i, j)]
        mixed = mixed_images[i], mixed_masks[i].view(5, 6).int()
        assert_half_is_pasted(*samples, mixed, None)


def test_floating_masks_beside_it_are_cut_and_pasted_with_it():
    images, masks = scenes()
    trust = tv_tensors.Mask(images.clone())
    mix = RandomClassMix(generator=generator_of(0))
    mixed = mix({"image": images, "classes": masks, "trust": trust})
    assert torch.equal(plain(mixed["trust"]), mixed["image"])


def test_labels_of_whole_images_follow_the_pixels():
    images, masks = scenes()
    batch = {"image": images, "mask": masks, "label": torch.tensor([0, 1, 2, 1])}
    mix = RandomClassMix(num_classes=3, generator=generator_of(0))
    params = mix.make_params([images, masks])
    labels = mix.replay(params, batch)["label"]
    for i, j in enumerate(params["partner"].tolist()):
        expected = torch.zeros(3)
        expected[batch["label"][i]] += params["lam"][i]
        expected[batch["label"][j]] += 1 - params["lam"][i]
        assert torch.allclose(labels[i], expected)


# Batches of every form


def test_between_pastes_classes_of_a_pseudo_labelled_batch_into_a_labelled_one():
    images, masks = scenes(seed=0)
    others, pseudo = images + 1000, scenes(seed=1)[1]
    mix = RandomClassMix(ignore_index=IGNORED, generator=generator_of(0))
    before = others.clone(), pseudo.clone()
    mixed_images, mixed_masks = mix.between((images, masks), (others, pseudo))
    assert same([others, pseudo], [*before])
    for i in range(4):
        mixed = mixed_images[i], mixed_masks[i]
        assert_half_is_pasted((images[i], masks[i]), (others[i], pseudo[i]), mixed, IGNORED)
    # A batch of one has no partner in itself, but in the other one.
    one, other = ((x[:1], tv_tensors.Mask(y[:1])) for x, y in ((images, masks), (others, pseudo)))
    assert not same(mix.between(one, other), one)


@pytest.mark.parametrize("off", ["p", "eval", "a batch of one", "nobody fits"])
def test_what_is_not_mixed_comes_back_bit_for_bit(off):
    images, masks = scenes(1 if off == "a batch of one" else 4)
    mix = RandomClassMix(p=0.0 if off == "p" else 1.0, generator=generator_of(0))
    if off == "eval":
        mix.eval()
    elif off == "nobody fits":
        mix.pairing = lambda batch, *, labels, generator: torch.arange(4)
    assert same(mix(images, masks), (images, masks))
    params = mix.make_params([images, masks])
    assert params["mask"].all()
    assert (params["lam"] == 1).all()


def test_an_empty_batch():
    images, masks = torch.rand(0, 3, 5, 6), tv_tensors.Mask(torch.zeros(0, 5, 6).long())
    mixed = RandomClassMix()(images, masks)
    assert [part.shape for part in mixed] == [images.shape, masks.shape]
    assert RandomClassMix()([], []) == ([], [])


def test_a_dataset_mixes_as_it_is_loaded():
    images, masks = scenes(6)
    dataset = samples_of(images, masks)
    mixed = MixedDataset(dataset, RandomClassMix(ignore_index=IGNORED), seed=0)
    for i in range(6):
        image, mask = mixed[i]
        assert same(mixed[i], (image, mask))
        shown = (plain(image) // 30).unique().long().tolist()
        (j,) = {*shown} - {i} or {i}
        assert_half_is_pasted(dataset[i], dataset[j], (image, mask), IGNORED)


@pytest.mark.parametrize("path", ["gathered", "by sample"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_mixes_as_it_collates(path, workers):
    images, masks = scenes(4)
    dataset = samples_of(images, masks)
    with on_path(path):
        collate = MixCollate(RandomClassMix(generator=generator_of(0)))
        ((mixed, classes),) = DataLoader(
            dataset, batch_size=4, collate_fn=collate, num_workers=workers
        )
    assert type(classes) is tv_tensors.Mask
    for i in range(4):
        (j,) = {*(plain(mixed[i]) // 30).unique().long().tolist()} - {i} or {i}
        assert_half_is_pasted(dataset[i], dataset[j], (mixed[i], classes[i]), None)


def test_a_copy_goes_on_alike_and_a_saved_state_too():
    batch = scenes()
    mix = RandomClassMix(ignore_index=7, generator=generator_of(0))
    mix(*batch)
    copied, resumed = pickle.loads(pickle.dumps(mix)), RandomClassMix(generator=generator_of(9))
    resumed.load_state_dict(mix.state_dict())
    assert copied.ignore_index == 7
    expected = mix(*batch)
    assert same(copied(*batch), expected)
    assert same(resumed(*batch), expected)


# Beside others


@pytest.mark.parametrize("per_sample", [False, True])
def test_in_a_choice_beside_others_that_cut_and_paste(per_sample):
    batch = scenes(40)
    mixers = [RandomClassMix(), RandomCutMix(), RandomFMix()]
    mix = RandomChoice(mixers, per_sample=per_sample, generator=generator_of(0))
    params = mix.make_params([*batch])
    mixed = mix.replay(params, *batch)
    for i in range(40):
        j = int(params["partner"][i])
        own, other = ((batch[0][k], batch[1][k]) for k in (i, j))
        if params["choice"][i] == 0:
            assert_half_is_pasted(own, other, (mixed[0][i], mixed[1][i]), None)
        elif "seed" in params:
            assert params["seed"][i] == 0
    assert mix.between(batch, batch)[0].shape == batch[0].shape
    assert same(mix.eval()(*batch), batch)


@pytest.mark.parametrize("others", [[RandomMixup()], [RandomCutMix(), RandomMixup()]])
def test_a_choice_has_no_batch_for_it_and_a_mixer_that_averages_masks(others):
    with pytest.raises(ValueError, match="RandomMixup averages masks"):
        RandomChoice([*others, RandomClassMix()])


# On an accelerator


def on_both(act, batch, **settings):
    """What a mixer makes of a batch on the host, and of one on a device that nobody waits for."""
    given = copy.deepcopy(batch)
    expected = act(RandomClassMix(generator=generator_of(0), **settings), given)
    with Accelerator() as accelerator:
        mixed = act(RandomClassMix(generator=generator_of(0), **settings), accelerator.put(batch))
        assert accelerator.waits == 0
    for part in mixed:
        assert part.device == DEVICE
    return [*map(accelerator.take, mixed)], [*expected]


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("ignore_index", [None, IGNORED])
@pytest.mark.parametrize("batch", [0, 1, 2, 5])
def test_on_an_accelerator_classes_are_found_without_a_wait(
    per_sample, inplace, ignore_index, batch
):
    settings = {"per_sample": per_sample, "inplace": inplace, "ignore_index": ignore_index}
    given = scenes(batch, dtype=torch.uint8)
    mixed, expected = on_both(lambda mix, batch: mix(*batch), given, p=0.7, **settings)
    assert same(mixed, expected)


def test_on_an_accelerator_labels_beside_a_second_batch_do_not_wait_either():
    images, masks = scenes()
    batch = {"image": images, "mask": masks, "label": torch.eye(4)}

    def act(mix, batch):
        return mix.between(batch, {**batch, "image": batch["image"] + 1000}).values()

    mixed, expected = on_both(act, batch)
    assert same(mixed, expected)


def test_on_an_accelerator_a_pairing_of_the_device_or_of_the_host_makes_nobody_wait():
    for put in (True, False):

        def act(mix, batch, put=put):
            partner = torch.tensor([1, 1, 3, 2])
            if put and batch[0].device == DEVICE:
                partner = torch.stack([batch[0].flatten()[j] for j in partner]).long()
            mix.pairing = lambda batch, **_: partner
            return mix(*batch)

        mixed, expected = on_both(act, scenes())
        assert same(mixed, expected)


@pytest.mark.parametrize("per_sample", [False, True])
def test_on_an_accelerator_a_choice_does_not_wait(per_sample):
    batch = *scenes(12), torch.eye(12)

    def act(put):
        mixers = [RandomCutMix(labels_getter="label"), RandomClassMix(labels_getter="label")]
        mix = RandomChoice(mixers, per_sample=per_sample, generator=generator_of(1))
        images, masks, labels = put(batch)
        return [*mix({"image": images, "mask": masks, "label": labels}).values()]

    expected = act(lambda batch: batch)
    with Accelerator() as accelerator:
        mixed = act(accelerator.put)
        assert accelerator.waits == 0
    torch.testing.assert_close(accelerator.take(mixed), expected)


# Bad input: the words are in messages.txt


X = torch.rand(4, 3, 8, 8)
CLASSES = torch.zeros(4, 8, 8, dtype=torch.int64)
WRONG = {
    "labels alone": (lambda: (X, torch.arange(4)), ValueError, "tv_tensors.Mask"),
    "a plain mask": (lambda: (X, CLASSES), ValueError, "wrap it in tv_tensors.Mask"),
    "probabilities": (lambda: (X, OneHot(3)(tv_tensors.Mask(CLASSES))), TypeError, "after"),
    "two masks": (
        lambda: {"image": X, "a": tv_tensors.Mask(CLASSES), "b": tv_tensors.Mask(CLASSES)},
        ValueError,
        "one semantic mask",
    ),
    "frames of a mask": (
        lambda: (X, tv_tensors.Mask(CLASSES[:, None].expand(4, 2, 8, 8))),
        ValueError,
        r"\(4, 8, 8\)",
    ),
    "a smaller mask": (lambda: (X, tv_tensors.Mask(CLASSES[:, :5])), ValueError, r"\(4, 8, 8\)"),
    "fewer masks": (lambda: (X, tv_tensors.Mask(CLASSES[:3])), ValueError, r"\(3, 8, 8\)"),
    "a list without masks": (
        lambda: ([*X], [{"image_id": i} for i in range(4)]),
        ValueError,
        "2-D one in each target",
    ),
    "floating masks in a list": (
        lambda: ([*X], [{"classes": tv_tensors.Mask(torch.rand(8, 8))} for _ in X]),
        TypeError,
        "batch.*'classes'",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("mode", ["train", "eval", "p = 0", "in place", "choice"])
def test_what_cannot_be_mixed_is_refused_before_anything_is_drawn_or_written(fault, mode):
    wrong, error, words = WRONG[fault]
    generator = generator_of(0)
    state, before = generator.get_state(), X.clone()
    mix = RandomClassMix(p=float(mode != "p = 0"), inplace=mode == "in place", generator=generator)
    if mode == "choice":
        mix = RandomChoice([RandomCutMix(), RandomClassMix()], generator=generator)
    mix.train(mode != "eval")
    batch = wrong()
    with pytest.raises(error, match=words):
        mix(batch)
    with pytest.raises(error, match=words):
        mix.between(batch, batch)
    if isinstance(batch, tuple):
        with pytest.raises(error):
            mix.make_params([*batch])
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(X, before)


@pytest.mark.parametrize(("value", "error"), [(1.5, TypeError), ("none", TypeError)])
def test_a_setting_of_a_wrong_type(value, error):
    with pytest.raises(error, match="ignore_index must be an integer"):
        RandomClassMix(ignore_index=value)
    mix = RandomClassMix(ignore_index=3)
    with pytest.raises(error):
        mix.ignore_index = value
    assert mix.ignore_index == 3
    assert "ignore_index=3, p=1.0" in repr(mix)
