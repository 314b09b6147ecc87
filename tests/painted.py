"""A mixed batch of objects against the painter: every pixel, every object, every number."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxFormat, is_rotated_bounding_format

from mixup_transforms import (
    RandomClassMix,
    RandomCopyPaste,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
)
from tests import painter
from tests.object_batches import forms, object_batches
from tests.painter import Part, Seen, View

COMPANIONS = ("labels", "area", "iscrowd", "names", "origin")
UNTOUCHED = Seen(1.0, True, np.zeros(4))


@dataclass(frozen=True)
class Kind:
    """A mixer, beside the painter's own statement of it and the params that both take.

    ``canvas`` is the size of every mixed image, where that is not the sample's; ``regions`` are the
    forms of objects that it takes; ``classes`` the dtypes of semantic masks.
    """

    name: str
    make: Callable
    paint: Callable
    geometry: str
    one_size: bool = False
    canvas: tuple | None = None
    regions: tuple = ("boxes", "masks", "both")
    classes: tuple = (torch.int64, torch.uint8)
    needs_classes: bool = False

    def __repr__(self):
        return self.name

    def forms(self, *, regions=("boxes", "masks", "both"), semantic=(None,), **limits):
        """Forms of targets that it takes, among those asked for."""
        regions = [each for each in regions if each in self.regions]
        semantic = self.classes if self.needs_classes else semantic
        return forms(regions=regions, semantic=semantic, **limits)

    def batches(self, *, form=None, **limits):
        """Batches that it takes."""
        form = self.forms() if form is None else form
        return object_batches(form=form, **{"one_size": self.one_size, **limits})

    @property
    def partners(self):
        return self.make().partners

    def scenes(self, params, sizes):
        """Say for each sample who its parents are, and what part of the canvas shows whom."""
        scenes = []
        for i, row in enumerate(params["partner"].view(len(sizes), -1).tolist()):
            parents, value = (i, *row), params[self.geometry][i].numpy()
            scenes.append(Scene(parents, self.paint([sizes[k] for k in parents], value)))
        return scenes

    def takes(self, images, *, p=1, per_sample=True):
        """Whether a stack of images can hold what comes out."""
        whole = p == 1 or not per_sample
        return not (self.canvas and isinstance(images, torch.Tensor)) or whole


def of_two(paint):
    return lambda sizes, value: paint(*sizes, value)


def in_quadrants(canvas=None):
    return lambda sizes, value: painter.mosaic(*sizes, centre=tuple(value), canvas=canvas)


LARGE = (9, 11)
KINDS = {
    kind.name: kind
    for kind in (
        Kind("mixup", RandomMixup, of_two(painter.mixup), "lam", classes=(torch.float32,)),
        Kind("cutmix", RandomCutMix, of_two(painter.cutmix), "box"),
        Kind("resizemix", RandomResizeMix, of_two(painter.resizemix), "box"),
        Kind("fmix", RandomFMix, of_two(painter.fmix), "mask", one_size=True),
        Kind("mosaic", RandomMosaic, in_quadrants(), "centre"),
        Kind(
            "mosaic-large",
            partial(RandomMosaic, size=LARGE),
            in_quadrants(LARGE),
            "centre",
            canvas=LARGE,
        ),
        Kind(
            "copypaste",
            RandomCopyPaste,
            of_two(painter.pasted),
            "mask",
            regions=("masks", "both"),
        ),
        Kind("classmix", RandomClassMix, of_two(painter.pasted), "mask", needs_classes=True),
    )
}


# Those that take any objects, and draw for them whatever else is in the batch.
OF_ANY_OBJECTS = {
    name: kind for name, kind in KINDS.items() if name not in ("copypaste", "classmix")
}


@dataclass(frozen=True)
class Scene:
    """What became of one sample: who its parents are, itself first, and the part of each."""

    parents: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def mixed(self):
        return any(part.share.any() for part in self.parts[1:])

    @property
    def canvas(self):
        return self.parts[0].share.shape


def sizes_of(images):
    return [tuple(image.shape[-2:]) for image in images]


def plain(tensor):
    return tensor.as_subclass(torch.Tensor)


def revealed(mixed, i, images, *, resizes, partners=None):
    """Read a scene off an image in which every parent had a channel of its own, and its places.

    ``partners`` are the only channels that may show beside i, if they are known.
    """
    pixels, count = plain(mixed).double().numpy(), len(images)
    sizes, shares = sizes_of(images), pixels[:count]
    shown = [j for j in range(count) if shares[j].any()]
    assert partners is None or {*shown} <= {i, *partners}, f"sample {i} shows {shown}"
    if np.isin(shares, (0, 1)).all() and not resizes:
        return revealed_copies(pixels, i, images)
    others = [j for j in shown if j != i]
    assert len(others) <= 1, f"sample {i} shows {len(others)} partners: {others}"
    if not others:
        return Scene((i,), painter.unmixed(tuple(mixed.shape[-2:])))
    (j,) = others
    view = View.as_it_is(sizes[j])
    if resizes:
        shares = shares.round()
        rows, columns = shares[j].nonzero()
        corner = (columns.max() + 1, rows.max() + 1)
        view = View(sizes[j], (int(columns.min()), int(rows.min()), *map(int, corner)))
    return Scene((i, j), (Part(shares[i], View.as_it_is(sizes[i])), Part(shares[j], view)))


def revealed_copies(pixels, i, images):
    """Read a scene off an image all of whose pixels are copies, by where each comes from."""
    count, canvas = len(images), pixels.shape[1:]
    parts = {}
    for row, column in np.argwhere(pixels[:count].any(0)):
        colours, place = pixels[:count, row, column], pixels[count:, row, column]
        (j,) = colours.nonzero()[0].tolist()
        ((y, x),) = np.argwhere((plain(images[j])[count:].numpy() == place[:, None, None]).all(0))
        view = View.as_it_is(images[j].shape[-2:]).shifted(int(column - x), int(row - y))
        parts.setdefault((j, view), Part(np.zeros(canvas), view)).share[row, column] = 1
    # In the order in which a mosaic lays them out, which others leave open.
    placed = sorted(parts.items(), key=lambda item: reading_order(item[1].share, parts.values()))
    if not placed or placed[0][0][0] != i:
        own = next((item for item in placed if item[0][0] == i), None)
        hidden = ((i, None), Part(np.zeros(canvas), View.as_it_is(images[i].shape[-2:])))
        placed = [own or hidden, *(item for item in placed if item is not own)]
    return Scene(tuple(j for (j, _), _ in placed), tuple(part for _, part in placed))


def reading_order(share, parts):
    """Whether a part lies below the first of them, and then how far to the right."""
    rows, columns = share.nonzero()
    first = min(part.share.nonzero()[0].max() for part in parts)
    return bool(rows.min() > first), int(columns.min())


# The whole batch


def assert_painted(scenes, batch, mixed, pool=None):
    """Check a mixed batch against its scenes; ``pool`` holds the partners, if it is another."""
    (images, targets), (mixed_images, mixed_targets) = batch, mixed
    other_images, other_targets = pool or batch
    assert type(mixed_images) is type(images), "the images come in another form"
    assert type(mixed_targets) is type(targets), "the targets come in another form"
    assert len(mixed_images) == len(images)
    assert len(mixed_targets) == len(targets)
    # What a target without objects has to look like.
    like = next(target for target in (*targets, *other_targets) if "labels" in target)
    for i, scene in enumerate(scenes):
        others = scene.parents[1:]
        pixels = [images[i], *(other_images[j] for j in others)]
        parents = [targets[i], *(other_targets[j] for j in others)]
        try:
            assert_pixels(scene, pixels, mixed_images[i])
            assert_target(scene, parents, mixed_targets[i], like)
        except AssertionError as error:
            raise AssertionError(f"sample {i}, mixed with {others}: {error}") from error


# Pixels


def assert_pixels(scene, parents, mixed):
    own = parents[0]
    assert type(mixed) is type(own)
    assert mixed.dtype == own.dtype
    expected_shape = (*own.shape[:-2], *scene.canvas)
    assert mixed.shape == expected_shape, f"canvas {tuple(mixed.shape)}, expected {expected_shape}"
    mixed, values = plain(mixed), [plain(parent).numpy() for parent in parents]
    if not scene.mixed:
        assert torch.equal(mixed, plain(own)), "not mixed, and yet its pixels changed"
        return
    expected = torch.from_numpy(painter.mixed_pixels(scene.parts, values))
    scaled = any(part.view.scale != (1, 1) for part in scene.parts)
    exact = all(np.isin(part.share, (0, 1)).all() for part in scene.parts) and not scaled
    if exact:
        slack = 0
    elif mixed.is_floating_point():
        slack = 1e-4 if scaled else 1e-5
    else:
        slack = 1.001 if scaled else 0.501
    off = (mixed.double() - expected).abs()
    worst = np.unravel_index(int(off.argmax()), off.shape)
    assert off.max() <= slack, (
        f"pixel {tuple(map(int, worst))}: expected {expected[worst]:.5f}, got {mixed[worst]}"
    )


def assert_semantic(scene, parents, mixed):
    """A mask of classes goes with its image."""
    assert type(mixed) is tv_tensors.Mask
    assert mixed.dtype == parents[0].dtype
    assert mixed.shape == scene.canvas
    planes = [plain(parent).numpy() for parent in parents]
    expected = planes[0]
    if scene.mixed:
        expected = sum(
            part.share * part.view.nearest(plane, scene.canvas)
            for part, plane in zip(scene.parts, planes, strict=True)
        )
    np.testing.assert_allclose(plain(mixed).numpy(), expected, atol=1e-5, err_msg="semantic mask")


# Objects


@dataclass(frozen=True)
class Row:
    """An object of one parent, and what the painter sees of it."""

    k: int
    n: int
    source: dict
    part: Part
    seen: Seen | None

    @property
    def label(self):
        return int(self.source["labels"][self.n])

    @property
    def weighs_hardly(self):
        """Whether a polygon reaches so little into view that rounding may take it away."""
        boxes = self.source.get("boxes")
        rotated = boxes is not None and is_rotated_bounding_format(boxes.format)
        return rotated and self.seen.weight < 1e-4

    def __str__(self):
        parent = f"partner {self.k}" if self.k else "the sample itself"
        geometry = ""
        if "boxes" in self.source:
            boxes = self.source["boxes"]
            geometry = f", {boxes.format.name} {plain(boxes)[self.n].tolist()}"
        return f"object {self.n} of {parent} (label {self.label}{geometry})"


def region_of(target, n):
    """The region R of an object: its instance mask, else its box."""
    if "masks" in target:
        return {"mask": plain(target["masks"])[n].numpy()}
    form = target["boxes"].format
    if is_rotated_bounding_format(form):
        box = plain(target["boxes"])[n].tolist()
        return {"corners": painter.corners_of(box, form.name)}
    return {"box": xyxy(target["boxes"])[n].tolist()}


def xyxy(boxes):
    return F.convert_bounding_box_format(
        plain(boxes), old_format=boxes.format, new_format=BoundingBoxFormat.XYXY
    )


def assert_target(scene, parents, mixed, like):
    own = parents[0]
    assert isinstance(mixed, dict)
    assert mixed is not own, "a target has to be a new dict"
    objects = {key for key in like if key in COMPANIONS or is_of_objects(like[key])}
    wanted = set(own) | objects | {"weights"}
    if "keypoints" in like:
        wanted.add("keypoint_weights")
    assert set(mixed) == wanted, f"keys {sorted(mixed)}, expected {sorted(wanted)}"
    for key in set(own) - objects - {"weights", "keypoint_weights", "semantic"}:
        assert equal(mixed[key], own[key]), f"{key!r} has to stay the sample's own"
    if "semantic" in own:
        assert_semantic(scene, [parent["semantic"] for parent in parents], mixed["semantic"])
    rows = kept_rows(scene, parents, mixed["labels"].tolist())
    for key in objects & set(COMPANIONS):
        assert_companion(key, rows, mixed[key], like[key])
    assert_weights(scene, rows, mixed["weights"])
    if "boxes" in like:
        assert_boxes(scene, rows, mixed["boxes"], like["boxes"])
    if "masks" in like:
        assert_masks(scene, rows, mixed["masks"], like["masks"])
    if "keypoints" in like:
        assert_keypoints(scene, rows, mixed, like["keypoints"])


def is_of_objects(value):
    kinds = tv_tensors.BoundingBoxes | tv_tensors.KeyPoints
    return isinstance(value, kinds) or (isinstance(value, tv_tensors.Mask) and value.ndim == 3)


def equal(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else type(a) is type(b) and a == b


def kept_rows(scene, parents, found):
    """Pair the objects found with those expected: own objects first, each in its old order."""
    rows = []
    for k, (part, source) in enumerate(zip(scene.parts, parents, strict=True)):
        if k and not scene.mixed:
            break
        for n in range(len(source.get("labels", ()))):
            seen = painter.seen(part, **region_of(source, n)) if scene.mixed else UNTOUCHED
            rows.append(Row(k, n, source, part, seen))
    kept = []
    for r, row in enumerate(rows):
        here = len(kept) < len(found) and found[len(kept)] == row.label
        # Of a parent that is there twice what is hidden in one place may be seen in another.
        later = any(other.seen and other.label == row.label for other in rows[r + 1 :])
        if row.seen is None:
            assert not here or later, f"{row}: nothing of it is visible, and yet it is there"
        elif here:
            kept.append(row)
        else:
            assert row.weighs_hardly, (
                f"{row}: expected weight {row.seen.weight:.5f}, got no such object at place "
                f"{len(kept)} of the labels {found}"
            )
    extra = found[len(kept) :]
    assert not extra, f"objects with the labels {extra} are there without being expected"
    return kept


def assert_companion(key, rows, found, like):
    assert type(found) is type(like), f"{key!r} comes as {type(found).__name__}"
    expected = [row.source[key][row.n] for row in rows]
    if isinstance(like, torch.Tensor):
        assert found.dtype == like.dtype, f"{key!r} comes in {found.dtype}"
        assert found.shape[1:] == like.shape[1:]
        found, expected = found.tolist(), [value.tolist() for value in expected]
    assert found == expected, f"{key!r}: expected {expected}, got {found}"


def assert_weights(scene, rows, found):
    assert found.dtype == torch.float32
    assert found.shape == (len(rows),), f"{tuple(found.shape)} weights, {len(rows)} objects"
    for row, weight in zip(rows, found.tolist(), strict=True):
        before = float(row.source["weights"][row.n]) if "weights" in row.source else 1.0
        expected = before * row.seen.weight
        slack = 1e-4 if "corners" in region_of(row.source, row.n) else 1e-5
        exact = not scene.mixed
        assert weight == expected if exact else abs(weight - expected) <= slack, (
            f"{row}: expected weight {expected:.6f}, got {weight:.6f}"
        )


def assert_boxes(scene, rows, found, like):
    assert type(found) is tv_tensors.BoundingBoxes
    assert found.format == like.format
    assert found.dtype == like.dtype
    assert tuple(found.canvas_size) == tuple(scene.canvas), f"canvas_size {found.canvas_size}"
    assert getattr(found, "clamping_mode", 0) == getattr(like, "clamping_mode", 0)
    assert found.shape == (len(rows), like.shape[1]), f"boxes of shape {tuple(found.shape)}"
    rotated = is_rotated_bounding_format(like.format)
    for row, box in zip(rows, plain(found), strict=True):
        before = plain(row.source["boxes"])[row.n]
        view = row.part.view
        if (row.seen.wholly or rotated) and not view.moves:
            assert torch.equal(box, before), f"{row}: its box changed to {box.tolist()}"
            continue
        if rotated:
            expected = laid_out_rotated(before, like.format, view)
            if expected is None:
                continue
        elif row.seen.wholly:
            corners = xyxy(row.source["boxes"])[row.n]
            expected = in_format(painter.laid_out_box(corners.numpy(), view), like)
        else:
            expected = in_format(row.seen.tight, like)
        slack = 1e-3 if rotated else 1e-4 if box.is_floating_point() else 0
        off = (box.double() - expected.double()).abs().max()
        assert off <= slack, f"{row}: expected box {expected.tolist()}, got {box.tolist()}"


def in_format(corners, like):
    """Put x1, y1, x2, y2 into the format and dtype of a batch; whole numbers round outward."""
    if not like.dtype.is_floating_point:
        corners = np.array([*np.floor(corners[:2]), *np.ceil(corners[2:])])
    return F.convert_bounding_box_format(
        torch.from_numpy(corners).to(like.dtype),
        old_format=BoundingBoxFormat.XYXY,
        new_format=like.format,
    )


def laid_out_rotated(box, form, view):
    """Lay a rotated box out; unequally scaled it is no rectangle, which leaves it open."""
    across, down = view.scale
    if form is BoundingBoxFormat.XYXYXYXY:
        return torch.from_numpy(view.points(box.reshape(4, 2).numpy()).ravel())
    if across != down:
        return None
    place = view.points(box[:2].numpy())
    return torch.tensor([*place, box[2] * across, box[3] * across, box[4]], dtype=torch.float64)


def assert_masks(scene, rows, found, like):
    assert type(found) is tv_tensors.Mask
    assert found.dtype == like.dtype
    assert found.shape == (len(rows), *scene.canvas), f"masks of shape {tuple(found.shape)}"
    for row, mask in zip(rows, plain(found), strict=True):
        before = plain(row.source["masks"])[row.n].numpy()
        expected = painter.visible_mask(row.part, before) if scene.mixed else before
        got = mask.numpy()
        assert np.array_equal(got, expected), (
            f"{row}: expected the mask\n{expected.astype(int)}\ngot\n{got.astype(int)}"
        )


def assert_keypoints(scene, rows, mixed, like):
    found, weights = mixed["keypoints"], mixed["keypoint_weights"]
    count = like.shape[1]
    assert type(found) is tv_tensors.KeyPoints
    assert found.dtype == like.dtype
    assert tuple(found.canvas_size) == tuple(scene.canvas)
    assert found.shape == (len(rows), count, 2), f"keypoints of shape {tuple(found.shape)}"
    assert weights.dtype == torch.float32
    assert weights.shape == (len(rows), count), f"keypoint weights {tuple(weights.shape)}"
    for r, row in enumerate(rows):
        before = plain(row.source["keypoints"])[row.n]
        if row.part.view.moves:
            expected = torch.from_numpy(row.part.view.points(before.numpy()))
            off = (plain(found)[r].double() - expected).abs().max()
            assert off <= 1e-4, f"{row}: expected keypoints {expected.tolist()}, got {found[r]}"
        else:
            assert torch.equal(plain(found)[r], before), f"{row}: its keypoints changed"
        known = row.source.get("keypoint_weights")
        prior = torch.ones(count) if known is None else known[row.n]
        share = torch.from_numpy(painter.point_weights(row.part, before.numpy()))
        off = (weights[r].double() - prior * share).abs()
        if not scene.mixed:
            # Unmixed, a keypoint off its image keeps its weight or has none: the text says neither.
            off = torch.where(share == 0, torch.minimum(off, (weights[r] - prior).abs()), off)
        expected, got = (prior * share).tolist(), weights[r].tolist()
        assert off.max() <= 1e-5, f"{row}: expected keypoint weights {expected}, got {got}"
