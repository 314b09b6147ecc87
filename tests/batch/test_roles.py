"""Which leaf is the image is never guessed: it is so by the written rule, or an error says so."""

import copy
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._pytree import register_pytree_node
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    LabelMixture,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
)
from mixup_transforms._batch.parse import IMAGE_KEYS
from tests.strategies import generator_of, soft_labels

X, Y = torch.rand(8, 3, 6, 5), torch.arange(8) % 3
PARAMS = {"partner": torch.arange(8).roll(1), "lam": torch.full((8,), 0.25)}


def mix(batch, **settings):
    return RandomMixup(num_classes=3, **settings).replay(PARAMS, batch)


def is_mixed(found, before=X):
    return torch.allclose(found, 0.25 * before + 0.75 * before.roll(1, 0))


# What has to come out right


def test_a_row_with_an_id_first():
    row = {"id": torch.arange(8), "image": X, "label": Y}
    out = mix(row)
    assert out["id"] is row["id"]
    assert is_mixed(out["image"])
    assert out["label"].shape == (8, 3)


@pytest.mark.parametrize("key", [*IMAGE_KEYS, "Image", "PIXEL_VALUES"])
def test_well_known_keys_come_before_other_tensors(key):
    row = {"id": torch.arange(8), "weight": torch.rand(8), key: X, "label": Y, "n": 3}
    out = mix(row)
    assert is_mixed(out[key])
    assert all(out[name] is row[name] for name in ("id", "weight", "n"))


def test_a_well_known_key_may_hold_another_mapping():
    out = mix({"inputs": {"image": X, "id": torch.arange(8)}, "label": Y})
    assert is_mixed(out["inputs"]["image"])


def test_the_only_tensor_beside_the_labels():
    assert is_mixed(mix({"scan": X, "label": Y, "name": "a"})["scan"])
    assert is_mixed(mix(({"scan": X, "names": ["a"] * 8}, Y))[0]["scan"])
    assert is_mixed(mix({"batch": {"scan": X, "label": Y}}, labels_getter="label")["batch"]["scan"])
    assert is_mixed(mix((Y, X), labels_getter=lambda batch: batch[0])[1])


@pytest.mark.parametrize(
    "getter", ["depth", ["depth"], lambda batch: batch["depth"]], ids=["key", "keys", "callable"]
)
def test_what_is_named_is_not_questioned(getter):
    batch = {"image": X, "depth": X + 1, "label": Y}
    out = mix(batch, images_getter=getter)
    assert out["image"] is X
    assert is_mixed(out["depth"], X + 1)


@pytest.mark.parametrize("getter", [("image", "depth"), lambda b: (b["image"], b["depth"])])
def test_several_images_may_be_named(getter):
    out = mix({"image": X, "depth": X[:, :1], "label": Y}, images_getter=getter)
    assert is_mixed(out["image"])
    assert is_mixed(out["depth"], X[:, :1])


def test_named_integers_are_averaged_and_named_ids_too():
    counts = torch.arange(16).view(8, 2)
    out = mix({"counts": counts, "label": Y}, images_getter="counts")
    assert torch.equal(out["counts"], (0.25 * counts + 0.75 * counts.roll(1, 0)).round().long())


def test_one_tensor_in_two_places_has_two_roles():
    out = mix({"image": X, "copy": X, "label": Y}, images_getter=lambda batch: batch["copy"])
    assert out["image"] is X
    assert is_mixed(out["copy"])


Item = namedtuple("Item", ["image", "label"])


class Frozen(dict):
    """A mapping of its own type, which torch's pytrees take for a leaf."""


class Encoding(UserDict):
    """As transformers has them: the items beside other attributes."""

    def __init__(self, data, extra=None):
        super().__init__(data)
        self.extra = extra


@pytest.mark.parametrize(
    "make",
    [
        dict,
        OrderedDict,
        lambda items: defaultdict(list, items),
        UserDict,
        Frozen,
        lambda items: Encoding(items, extra="kept"),
        MappingProxyType,
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_mappings_of_every_kind_come_back_as_their_own_type(make, nested):
    row = make({"id": torch.arange(8), "image": X, "label": Y})
    out = mix((row,), labels_getter="label")[0] if nested else mix(row)
    assert type(out) is type(row)
    assert out is not row
    assert is_mixed(out["image"])
    assert out["id"] is row["id"]
    assert row["image"] is X
    assert getattr(out, "extra", None) == getattr(row, "extra", None)
    assert getattr(out, "default_factory", None) == getattr(row, "default_factory", None)
    assert OneHot(3)(row)["label"].shape == (8, 3)


def test_the_types_of_transformers():
    transformers = pytest.importorskip("transformers")
    feature = transformers.BatchFeature({"pixel_values": X, "labels": Y})
    out = mix(feature)
    assert type(out) is transformers.BatchFeature
    assert is_mixed(out["pixel_values"])
    encoding = transformers.BatchEncoding(
        {"inputs_embeds": X, "attention_mask": torch.ones(8, 3).long(), "labels": Y}
    )
    out = mix(encoding)
    assert type(out) is transformers.BatchEncoding
    assert is_mixed(out["inputs_embeds"])
    assert torch.equal(out["attention_mask"], torch.ones(8, 3).long())


def test_named_tuples_keep_their_type():
    out = mix(Item(X, Y))
    assert type(out) is Item
    assert is_mixed(out.image)


@dataclass
class Checked:
    """A container that checks what it is made of."""

    image: torch.Tensor
    label: torch.Tensor

    def __post_init__(self):
        if not isinstance(self.image, torch.Tensor) or self.image.ndim != 4:
            raise TypeError(f"image must be a batch, got {self.image!r}")


register_pytree_node(
    Checked, lambda c: ([c.image, c.label], None), lambda parts, _: Checked(*parts)
)


def test_containers_that_check_what_they_hold():
    out = mix(Checked(X, Y), labels_getter=lambda batch: batch.label)
    assert type(out) is Checked
    assert is_mixed(out.image)
    assert out.label.shape == (8, 3)
    assert type(OneHot(3, labels_getter=lambda batch: batch.label)(Checked(X, Y))) is Checked


def test_masks_of_the_images_size_as_one_hot_rows():
    masks = torch.randint(3, (8, 6, 5))
    _, soft = v2.Compose([OneHot(3), RandomMixup(generator=generator_of(0))])(X, masks)
    params = RandomMixup(generator=generator_of(0)).make_params([X])
    lam, rows = params["lam"].view(-1, 1, 1, 1), OneHot(3)(masks)
    torch.testing.assert_close(soft, lam * rows + (1 - lam) * rows[params["partner"]])


@pytest.mark.parametrize("make", [RandomCutMix, RandomFMix, RandomMosaic, RandomResizeMix])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("inplace", [False, True])
def test_dense_labels_are_cut_and_pasted_with_their_pixels(make, dtype, inplace):
    masks = torch.randint(5, (8, 6, 5))
    rows = OneHot(5)(masks).to(dtype)
    cut = make(generator=generator_of(0), inplace=inplace)
    params = cut.make_params([X, rows])
    _, soft = cut.replay(params, X.clone(), rows.clone())
    _, expected = cut.replay(
        params, tv_tensors.Image(X.clone()), tv_tensors.Mask(masks.unsqueeze(1).clone())
    )
    assert soft.dtype == torch.float32
    assert ((soft == 0) | (soft == 1)).all(), "blended, not pasted"
    assert torch.equal(soft, OneHot(5)(torch.Tensor(expected).long().squeeze(1)))


def test_a_choice_pastes_or_blends_each_samples_dense_label_as_its_pixels():
    colour = torch.linspace(0, 1, 8).view(8, 1, 1, 1)
    images, dense = colour.expand(8, 3, 6, 5).clone(), colour.expand(8, 1, 6, 5).clone()
    mixers = [RandomMixup(), RandomCutMix(), RandomFMix(), RandomMosaic()]
    choice = RandomChoice(mixers, per_sample=True, generator=generator_of(0))
    mixed, labels = choice(images, dense)
    torch.testing.assert_close(labels.expand_as(mixed), mixed)


# What has to raise, with all candidates in the words

BOXES = torch.rand(8, 7, 4)


@pytest.mark.parametrize(
    ("batch", "settings", "words"),
    [
        (
            {
                "input_ids": torch.randint(99, (8, 16)),
                "attention_mask": torch.ones(8, 16).long(),
                "labels": Y,
            },
            {},
            "2 tensors could be the images",
        ),
        ({"input_ids": torch.randint(99, (8, 16)), "labels": Y}, {}, "an index or token ids"),
        ({"inputs": torch.randint(99, (8, 16)), "labels": Y}, {}, "an index or token ids"),
        ({"depth": X[:, :1], "image": X, "labels": Y}, {}, "batch['depth'] would be left as it is"),
        ({"image": X, "depth": X[:, 0]}, {}, "batch['depth'] would be left as it is"),
        ({"image": X, "pixel_values": X, "label": Y}, {}, "['image', 'pixel_values'] all name"),
        ((X, X + 1, Y), {}, "another view or a dense label"),
        ((X, X + 1, tv_tensors.Mask(Y.view(8, 1, 1))), {}, "another view or a dense label"),
        (({"inputs": {"image": X}, "target": Y},), {}, 'labels_getter="target"'),
        ((X, BOXES), {"labels_getter": None}, "batch[1] would be left as it is"),
        ((X, {"image": X}), {"labels_getter": None}, "would be left as it is"),
        ((X, {"image": X}), {}, "would be left as it is"),
        ((torch.arange(8), X, soft_labels(8)), {}, "images_getter=lambda batch: batch[1]"),
        (([X, X], Y), {}, "would be left as it is"),
        (({"left": X, "right": X}, Y), {}, "2 tensors could be the images"),
        ((["a"] * 8, Y), {}, "no images found"),
        ({"label": Y}, {}, "no images found"),
        ((tv_tensors.Image(X), Y, X), {}, "batch[2] would be left as it is"),
        ({"image": X, "label": Y}, {"images_getter": "label"}, "both the images and the labels"),
        ((X, Y), {"images_getter": lambda batch: batch[1]}, "both the images and the labels"),
        ({"image": X, "label": Y}, {"images_getter": "img"}, "images_getter names the key 'img'"),
        (
            {"image": X, "label": Y},
            {"images_getter": lambda batch: batch["image"].clone()},
            "not an object of the batch",
        ),
        ({"image": X, "name": "a", "label": Y}, {"images_getter": "name"}, "must name tensors"),
    ],
)
@pytest.mark.parametrize("make", [RandomMixup, RandomCutMix])
def test_what_is_not_clear_raises(batch, settings, words, make):
    batch = batch[0] if isinstance(batch, tuple) and len(batch) == 1 else batch
    before = copy.deepcopy(batch)
    with pytest.raises((ValueError, TypeError)) as caught:
        make(num_classes=3, inplace=True, **settings)(batch)
    assert words in str(caught.value)
    assert str(before) == str(batch)


@pytest.mark.parametrize("getter", [None, 3, [], ["a", 3], b"x"])
def test_a_getter_that_names_nothing(getter):
    with pytest.raises(TypeError, match="images_getter must be"):
        RandomMixup(images_getter=getter)


def test_label_transforms_never_look_for_images():
    batch = {"image": X, "depth": X, "pixel_values": X, "labels": Y}
    out = OneHot(3)(batch)
    assert torch.equal(out["labels"], OneHot(3)(Y))
    assert all(out[key] is batch[key] for key in ("image", "depth", "pixel_values"))


# Random trees of named leaves, against the rule written once more

NAMES = ("image", "pixel_values", "x", "id", "depth", "scan", "weight", "label", "target", "note")
LEAVES = {
    "images": X,
    "other images": X[:, :1] + 2,
    "rows": torch.rand(8, 4),
    "sequence": torch.rand(8, 4, 3),
    "ids": torch.arange(8),
    "tokens": torch.arange(32).view(8, 4),
    "small": torch.rand(3, 2, 2),
    "classes": Y,
    "soft": soft_labels(8),
    "bytes": (X * 255).to(torch.uint8),
    "mixture": LabelMixture(Y[:, None], torch.ones(8, 1)),
    "text": "a note",
    "number": 3,
}
leaf = st.sampled_from(sorted(LEAVES))
mapping = st.dictionaries(st.sampled_from(NAMES), leaf, min_size=1, max_size=5)
trees = st.one_of(
    mapping,
    st.lists(st.one_of(leaf, mapping), min_size=1, max_size=4).map(tuple),
    st.dictionaries(st.sampled_from(NAMES), st.one_of(leaf, mapping), min_size=1, max_size=4),
)


def filled(tree):
    if isinstance(tree, str):
        return LEAVES[tree]
    if isinstance(tree, dict):
        return {key: filled(value) for key, value in tree.items()}
    return tuple(map(filled, tree))


def walk(tree, path=()):
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        if isinstance(value, dict) or type(value) is tuple:
            yield from walk(value, (*path, key))
        else:
            yield (*path, key), value


def is_plain(value):
    return isinstance(value, torch.Tensor)


def labels_of(tree):
    """The second item, or what it or the dict has under a label key."""
    place, path = tree, ()
    if isinstance(tree, tuple):
        if len(tree) < 2:
            return set()
        place, path = tree[1], (1,)
        if not isinstance(place, dict):
            return {path} if is_plain(place) or isinstance(place, LabelMixture) else set()
    return {(*path, key) for key, _ in place.items() if "label" in key}


def image_of(tree, labels, path=()):
    """The place that the rule finds from the root down; None for none."""
    if not isinstance(tree, dict | tuple):
        return path if is_plain(tree) else None
    pure = [p for p, v in walk(tree, path) if is_plain(v) and not under(p, labels)]
    pairs = tree.items() if isinstance(tree, dict) else [(0, tree[0])]

    def has_one(key):
        return any(p[: len(path) + 1] == (*path, key) for p in pure)

    known = [k for k, _ in pairs if has_one(k) and (k == 0 or str(k) in IMAGE_KEYS)]
    if len(known) == 1:
        return image_of(tree[known[0]], labels, (*path, known[0]))
    return pure[0] if len(pure) == 1 and not known else None


def under(path, places):
    return any(path[: len(place)] == place for place in places)


@given(tree=trees)
def test_images_by_the_rule_are_mixed_and_nothing_else_or_an_error_names_all(tree):
    batch = filled(tree)
    leaves = dict(walk(batch))
    try:
        out = dict(walk(mix(batch)))
    except (ValueError, TypeError) as error:
        names = ["batch" + "".join(f"[{key!r}]" for key in path) for path in leaves]
        unnamed = [name for name in names if name not in str(error)]
        if unnamed and "images_getter" in str(error):
            pytest.fail(f"{unnamed} are not in the words: {error}")
        return
    labels = labels_of(batch)
    expected = image_of(batch, labels)
    assert out.keys() == leaves.keys()
    assert expected is not None
    for path, before in leaves.items():
        if path == expected:
            found = out[path].double()
            target = 0.25 * before.double() + 0.75 * before.double().roll(1, 0)
            assert torch.allclose(found, target, atol=0.51 if before.dtype == torch.uint8 else 1e-6)
            assert not (before.dtype == torch.int64 and before.ndim <= 2)
        elif not under(path, labels):
            assert out[path] is before
            spare = is_plain(before) and before.is_floating_point() and before.ndim >= 3
            assert not (spare and len(before) == 8), "left without a role"
