"""The objects of a batch: found in a list of one dict for each image, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np  # comes with torchvision
from torch import Tensor
from torchvision import tv_tensors

from mixup_transforms._batch.tree import Path, with_items
from mixup_transforms._core import checks
from mixup_transforms._core.regions import Size

# What makes a list of samples the batch that mixers take.
COLLATE = "lambda samples: tuple(zip(*samples))"

# What is said of an image, however many rows it has.
_OF_IMAGES = ("image_id", "size", "orig_size", "index")
# What is said of its objects, a row for each.
_OF_OBJECTS = ("labels", "area", "iscrowd", "scores")
# What mixers add, and multiply into what is there.
WEIGHTS, KEYPOINT_WEIGHTS = "weights", "keypoint_weights"
_LISTED = (list, tuple, np.ndarray)
_KINDS = {
    "boxes": "BoundingBoxes",
    "masks": "a Mask (N, H, W)",
    "keypoints": "KeyPoints",
    "semantic": "a Mask (H, W)",
}
_WRAPPERS = {
    "boxes": "tv_tensors.BoundingBoxes(…, format=…, canvas_size=(height, width))",
    "masks": "tv_tensors.Mask(…)",
    "keypoints": "tv_tensors.KeyPoints(…, canvas_size=(height, width))",
}


@dataclass(frozen=True)
class Keys:
    """Under which keys of its targets a batch has what of its objects.

    Attributes:
        boxes: that of ``BoundingBoxes``.
        masks: that of a ``Mask`` ``(N, H, W)``, of instances.
        keypoints: that of ``KeyPoints`` ``(N, K, 2)``.
        semantic: those of each ``Mask`` ``(H, W)``.
        rows: those of whatever else has a row for each object.
    """

    boxes: Any
    masks: Any
    keypoints: Any
    semantic: tuple[Any, ...]
    rows: tuple[Any, ...]

    @property
    def geometry(self) -> tuple[Any, ...]:
        """The keys of what lies in the image."""
        return tuple(key for key in (self.boxes, self.masks, self.keypoints) if key is not None)


@dataclass(frozen=True)
class Targets:
    """The targets of a batch, one for each image, checked.

    Attributes:
        given: the dicts.
        sizes: the height and width of each image.
        keys: where the objects are in them.
        counts: how many objects each has.
    """

    given: Sequence[Mapping[Any, Any]]
    sizes: Sequence[Size]
    keys: Keys
    counts: Sequence[int]

    @classmethod
    def of(cls, name: str, given: Sequence[Any], sizes: Sequence[Size]) -> Targets:
        """Check targets, of which ``name`` says how they are reached."""
        for i, target in enumerate(given):
            _check_types(f"{name}[{i}]", target)
        kinds = _geometry(name, given)
        counts = [
            _check_rows(f"{name}[{i}]", target, kinds, size)
            for i, (target, size) in enumerate(zip(given, sizes, strict=True))
        ]
        full = [
            (i, target, count)
            for i, (target, count) in enumerate(zip(given, counts, strict=True))
            if count is not None
        ]
        _check_same_keys(name, full, kinds)
        _check_semantic(name, given, kinds)
        bare = [target for target, count in zip(given, counts, strict=True) if count is None]
        rows = tuple(_companions(name, full, bare, kinds))
        one = {kind: kinds.get(kind, [None])[0] for kind in _WRAPPERS}
        keys = Keys(**one, semantic=tuple(kinds.get("semantic", ())), rows=rows)
        targets = cls(given, sizes, keys, [count or 0 for count in counts])
        targets._check_bare(name, counts)
        targets._check_forms(name)
        targets._check_weights(name)
        return targets

    def has(self, i: int) -> bool:
        """Whether a target has objects, if none in number; else it takes the others' forms."""
        return any(key in self.given[i] for key in self.keys.geometry)

    def like(self, key: Any) -> Any:
        """Return what a target has under a key of objects; None where no target has it."""
        return next((target[key] for target in self.given if key in target), None)

    def filled(self, new: Sequence[dict[Any, Any]]) -> Any:
        """Return new targets, with new items each, in a list or tuple as they came."""
        pairs = zip(self.given, new, strict=True)
        filled = (with_items(target, {**target, **items}) for target, items in pairs)
        return type(self.given)(filled)  # type: ignore[call-arg]

    @property
    def rotated(self) -> bool:
        """Whether boxes are rotated."""
        boxes = None if self.keys.boxes is None else self.like(self.keys.boxes)
        return boxes is not None and tv_tensors.is_rotated_bounding_format(boxes.format)

    def _check_bare(self, name: str, counts: Sequence[int | None]) -> None:
        for i, (target, count) in enumerate(zip(self.given, counts, strict=True)):
            if count is not None:
                continue
            for key, value in target.items():
                if (_is(key, "labels") or key in self.keys.rows) and _rows_of(value):
                    raise ValueError(
                        f"{name}[{i}][{key!r}] has {_rows_of(value)} rows, but the target has "
                        "neither boxes nor masks to place objects by; for labels of whole images "
                        "give (images, labels), with labels a tensor"
                    )

    def _check_weights(self, name: str) -> None:
        for i, (target, count) in enumerate(zip(self.given, self.counts, strict=True)):
            shapes = {WEIGHTS: (count,)}
            if self.keys.keypoints in target:
                shapes[KEYPOINT_WEIGHTS] = tuple(target[self.keys.keypoints].shape[:2])
            for key, shape in shapes.items():
                if key not in target:
                    continue
                value = target[key]
                fits = isinstance(value, Tensor) and value.is_floating_point()
                if not fits or tuple(value.shape) != shape:
                    got = checks.describe(value) if isinstance(value, Tensor) else repr(value)
                    raise ValueError(
                        f"{name}[{i}][{key!r}] must be a floating tensor {shape}, how much of "
                        f"each is left so far, got {got}"
                    )

    def _check_forms(self, name: str) -> None:
        """Refuse what cannot be joined with what another target has under its key."""
        for key in (*self.keys.geometry, *self.keys.semantic, *self.keys.rows):
            forms = {_form(target[key]): i for i, target in enumerate(self.given) if key in target}
            if len(forms) > 1:
                (one, i), (other, k) = [*forms.items()][:2]
                raise ValueError(
                    f"{name}[{i}][{key!r}] and {name}[{k}][{key!r}] must be of one form, so that "
                    f"objects can be joined, got {one} and {other}"
                )


def pair(value: Any, images_getter: object = "default") -> tuple[Path, Path] | None:
    """Return where a batch of objects has its images and its targets; None for other batches."""
    if isinstance(value, tuple | list):
        listed = len(value) >= 2 and isinstance(value[0], Tensor | tuple | list)
        if listed and _are_targets(value[1], beside=value[0]):
            return (0,), (1,)
        return None
    if isinstance(value, Mapping):
        found = [key for key, part in value.items() if _are_targets(part)]
        images = [key for key, part in value.items() if key not in found and _are_images(part)]
        if len(images) > 1:
            images = _named(value, images, images_getter)
        if len(found) == 1 and len(images) == 1:
            return (images[0],), (found[0],)
    return None


def _named(value: Mapping[Any, Any], images: list[Any], getter: object) -> list[Any]:
    """Return those of several keys of images that a getter names; all where it names none."""
    if isinstance(getter, str | tuple):
        names = (getter,) if isinstance(getter, str) else getter
        return [key for key in images if key in names] or images
    chosen = getter(value) if callable(getter) else None
    return [key for key in images if value[key] is chosen] or images


def sample_pair(samples: Sequence[Any]) -> tuple[Path, Path] | None:
    """Return where samples have an image and the target of its objects; None for other samples."""
    items = [_items(sample) for sample in samples]
    places = {_image_and_target(parts) for parts in items}
    place = places.pop() if len(places) == 1 else None
    if place is None:
        return None
    image, target = place
    targets = [parts[target] for parts in items]
    sizes = {parts[image].shape for parts in items}
    # Without any objects targets are told from other dicts by their images, or those by their name.
    told = any(any(map(_kind, each.values())) or "image_id" in each for each in targets)
    return ((image,), (target,)) if told or len(sizes) > 1 else None


def _items(sample: Any) -> Mapping[Any, Any]:
    if isinstance(sample, tuple | list):
        return dict(enumerate(sample[:2]))
    return sample if isinstance(sample, Mapping) else {}


def _image_and_target(items: Mapping[Any, Any]) -> tuple[Any, Any] | None:
    targets = [key for key, part in items.items() if _may_have_objects(part)]
    images = [key for key, part in items.items() if isinstance(part, Tensor) and part.ndim == 3]
    return (images[0], targets[0]) if len(targets) == len(images) == 1 else None


def check_pool(name: str, own: Targets, others: Targets) -> None:
    """Refuse targets of a second batch that cannot be joined with those of the first."""
    full = [any(map(each.has, range(len(each.given)))) for each in (own, others)]
    # Of their pixels images without objects speak as well.
    other_planes = set(own.keys.semantic) != set(others.keys.semantic)
    if other_planes or (all(full) and own.keys != others.keys):
        raise ValueError(
            f"{name} of the two batches must have the same keys of objects, "
            f"got {_listed(own.keys)} and {_listed(others.keys)}"
        )
    for key in (*own.keys.geometry, *own.keys.semantic, *own.keys.rows):
        one, other = own.like(key), others.like(key)
        if None not in (one, other) and _form(one) != _form(other):
            raise ValueError(
                f"{name}[i][{key!r}] of the two batches must be of one form, so that objects can "
                f"be joined, got {_form(one)} and {_form(other)}"
            )


def _listed(keys: Keys) -> list[Any]:
    return [*keys.geometry, *keys.semantic, *keys.rows]


def _are_targets(value: Any, *, beside: Any = None) -> bool:
    if not isinstance(value, tuple | list):
        return False
    if not value:  # a batch without images, which has to be one of objects by its form alone
        return isinstance(beside, Tensor | tuple | list) and not len(beside)
    dicts = [isinstance(target, Mapping) for target in value]
    return all(dicts) or (any(dicts) and _are_images(beside))


def _are_images(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return bool(value) and all(_is_image(image) and image.ndim == 3 for image in value)
    return _is_image(value) and value.ndim >= 4


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and _kind(value) is None


def _may_have_objects(target: object) -> bool:
    """Whether a value is a target with objects, or one that might have had some."""
    if not isinstance(target, Mapping):
        return False
    kinds = [*map(_kind, target.values())]
    labelled = any("label" in str(key).lower() for key in target)
    return any(kinds) or not labelled


def _is(key: object, name: str) -> bool:
    return str(key).lower() == name


def _kind(value: object) -> str | None:
    """Return what a value is of an image's objects; None for what has no place in it."""
    if isinstance(value, tv_tensors.BoundingBoxes):
        return "boxes"
    if isinstance(value, tv_tensors.KeyPoints):
        return "keypoints"
    if isinstance(value, tv_tensors.Mask):
        return "semantic" if value.ndim == 2 else "masks"
    return None


def _check_types(name: str, target: Any) -> None:
    if not isinstance(target, Mapping):
        raise TypeError(
            f"{name} must be a dict, the target of one image, got {type(target).__name__}"
        )
    for key, value in target.items():
        wrapper = _WRAPPERS.get(str(key).lower())
        if wrapper and _kind(value) is None and isinstance(value, (Tensor, *_LISTED)):
            raise TypeError(
                f"{name}[{key!r}] is {_described(value)}, of which nothing says how it lies in "
                f"the image; wrap it: {wrapper}"
            )


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        kind = type(value).__name__ if _kind(value) else "a plain tensor,"
        return f"{kind} {checks.describe(value)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array of shape {value.shape}"
    length = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    return f"a {type(value).__name__}{length}"


def _geometry(name: str, given: Sequence[Mapping[Any, Any]]) -> dict[str, list[Any]]:
    """Return the keys of each kind."""
    kinds: dict[str, list[Any]] = {}
    for target in given:
        for key, value in target.items():
            kind = _kind(value)
            if kind and key not in kinds.setdefault(kind, []):
                kinds[kind].append(key)
    for kind in _WRAPPERS:
        if len(kinds.get(kind, [])) > 1:
            raise ValueError(
                f"{name}[i] must have its {kind} under one key, the same for all, got {kinds[kind]}"
            )
    _check_kinds(name, given, kinds)
    return kinds


def _check_kinds(
    name: str, given: Sequence[Mapping[Any, Any]], kinds: Mapping[str, list[Any]]
) -> None:
    """Refuse a key under which only some targets have what the others have there."""
    for kind, keys in kinds.items():
        for key in keys:
            for i, target in enumerate(given):
                if key in target and _kind(target[key]) != kind:
                    raise TypeError(
                        f"{name}[{i}][{key!r}] must be {_KINDS[kind]}, as in other targets, "
                        f"got {_described(target[key])}; where there are no objects give zero "
                        "rows, or leave the key out"
                    )


def _check_rows(
    name: str, target: Mapping[Any, Any], kinds: Mapping[str, list[Any]], size: Size
) -> int | None:
    """Check a target's objects, and return how many there are; None where it has none by form."""
    rows: dict[Any, int] = {}
    for kind in ("boxes", "masks", "keypoints", "semantic"):
        for key in kinds.get(kind, []):
            if key in target:
                _check_place(f"{name}[{key!r}]", kind, target[key], size)
                if kind != "semantic":
                    rows[key] = target[key].shape[0]
    if not rows:
        return None
    (first, count), *others = rows.items()
    for key, number in others:
        if number != count:
            raise ValueError(
                f"{name}[{key!r}] must have a row for each object, but has {number}, and "
                f"{first!r} has {count}"
            )
    placed = any(key in target for kind in ("boxes", "masks") for key in kinds.get(kind, []))
    if count and not placed:
        raise ValueError(
            f"{name}[{first!r}] has {count} rows, but the target has neither boxes nor masks, "
            "which say what of an object is hidden; give it boxes around them"
        )
    return count


def _check_place(name: str, kind: str, value: Any, size: Size) -> None:
    got = f"got shape {tuple(value.shape)}"
    if kind == "keypoints" and value.ndim != 3:
        raise ValueError(f"{name} must have shape (N, K, 2), K points for each object, {got}")
    if kind in ("masks", "semantic"):
        if value.ndim not in (2, 3):
            raise ValueError(
                f"{name} must have shape (N, H, W), one for each object, or (H, W), {got}"
            )
        if tuple(value.shape[-2:]) != size:
            raise ValueError(f"{name} must have its image's height and width {size}, {got}")
    elif tuple(value.canvas_size) != size:
        raise ValueError(
            f"{name} must have its image's height and width {size} for canvas_size, "
            f"got {tuple(value.canvas_size)}; transform both together"
        )
    if kind == "masks" and (value.is_floating_point() or value.is_complex()):
        raise TypeError(
            f"{name} must be bool or integer, 0 off the object, got {checks.describe(value)}; "
            "such as masks > 0.5"
        )


_Full = Sequence[tuple[int, Mapping[Any, Any], int]]


def _check_same_keys(name: str, full: _Full, kinds: Mapping[str, list[Any]]) -> None:
    for kind in _WRAPPERS:
        for key in kinds.get(kind, []):
            lacking = [i for i, target, _ in full if key not in target]
            if lacking:
                raise ValueError(
                    f"{name}[{lacking[0]}] has objects but no {key!r}, which other targets have; "
                    "give it to all of them or to none, with zero rows where there are no objects"
                )


def _check_semantic(
    name: str, given: Sequence[Mapping[Any, Any]], kinds: Mapping[str, list[Any]]
) -> None:
    for key in kinds.get("semantic", []):
        for i, target in enumerate(given):
            if key not in target:
                raise ValueError(
                    f"{name}[{i}] has no {key!r}, a mask of its whole image, which other targets "
                    "have; give one to all of them or to none"
                )


def _companions(
    name: str, full: _Full, bare: Sequence[Mapping[Any, Any]], kinds: Mapping[str, list[Any]]
) -> Iterator[Any]:
    """Find the keys under which every target has a row for each of its objects."""
    taken = {WEIGHTS, KEYPOINT_WEIGHTS} | {key for keys in kinds.values() for key in keys}
    seen = dict.fromkeys(key for _, target, _ in full for key in target if key not in taken)
    for key in seen:
        if str(key).lower() in _OF_IMAGES:
            continue
        rows = [_rows_of(target[key]) if key in target else None for _, target, _ in full]
        fits = [number == count for number, (_, _, count) in zip(rows, full, strict=True)]
        # What has rows beside no objects is said of the image.
        none = all(_rows_of(target[key]) == 0 for target in bare if key in target)
        if all(fits) and (none or str(key).lower() in _OF_OBJECTS):
            yield key
        elif str(key).lower() in _OF_OBJECTS:
            i, _, count = full[fits.index(False)]
            number = rows[fits.index(False)]
            has = "has none" if number is None else f"has {number}"
            raise ValueError(
                f"{name}[{i}][{key!r}] must have a row for each of {count} objects, but {has}"
            )


def _rows_of(value: object) -> int | None:
    if isinstance(value, Tensor | np.ndarray):
        # Not len, which takes long of torchvision's types.
        rows: tuple[int, ...] = value.shape[:1]
        return rows[0] if rows else None
    return len(value) if isinstance(value, list | tuple) else None


def _form(value: Any) -> str:
    """Say what has to be the same for values to be joined."""
    if isinstance(value, np.ndarray):
        # Strings differ in length alone.
        kind = value.dtype.type.__name__ if value.dtype.kind in "US" else str(value.dtype)
        return f"a NumPy array {kind} ({', '.join(map(str, ('N', *value.shape[1:])))})"
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    kind = str(value.dtype).removeprefix("torch.")
    rest = ", ".join(map(str, ("N", *value.shape[1:])))
    shape = f"({rest})" if value.ndim > 1 else "(N,)"
    if isinstance(value, tv_tensors.BoundingBoxes):
        kind = f"{value.format.value} {kind}"
    if isinstance(value, tv_tensors.Mask):
        shape = "(N, H, W)" if value.ndim > 2 else "(H, W)"
    return f"{type(value).__name__} {kind} {shape} on {value.device}"
