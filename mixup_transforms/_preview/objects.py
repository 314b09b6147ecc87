"""What a picture of a mixed batch of objects shows: panels, captions and the objects over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import convert_bounding_box_format

from mixup_transforms._batch.objects import KEYPOINT_WEIGHTS, WEIGHTS, Keys, Targets
from mixup_transforms._batch.parse import unwrap
from mixup_transforms._core import checks
from mixup_transforms._core.ragged import Ragged
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._mixers.plan import Params
from mixup_transforms._preview.marks import OWN, PARTNER, Mark
from mixup_transforms._preview.rows import (
    Row,
    check_names,
    partners_of,
    pixels,
    plain_mixer,
    shown_partners,
)

# What the panel of shares shows where no image has pixels: anything but a grey.
UNCOVERED = (0.80, 0.47, 0.65)

# A key that no target has of its own: from which image each object comes.
_ORIGIN = object()

_Target = Mapping[Any, Any]


def are_targets(labels: object) -> bool:
    """Whether labels are those of objects: a list of one dict for each image."""
    if not isinstance(labels, list | tuple):
        return False
    return not labels or any(isinstance(target, Mapping) for target in labels)


def object_rows(
    images: Tensor | Sequence[Tensor],
    targets: Sequence[_Target],
    mix: Mixer,
    *,
    class_names: Sequence[str] | None,
    max_samples: int,
) -> list[Row]:
    """Mix a batch of objects, and return what :func:`preview` shows of it."""
    mixer = plain_mixer(mix)
    max_samples = checks.integer("max_samples", max_samples, minimum=1)
    own = _pixels(images)
    given = _checked(targets, own)
    check_names(class_names)
    for i, target in enumerate(targets):
        if given.has(i):
            _check_values(f"labels[{i}]", target, given.keys, class_names)
    # Nothing is drawn of semantic masks, which need no form but that which a mixer pastes by.
    told = _with_origins(given, left_out=() if mixer.needs_classes else given.keys.semantic)
    with torch.no_grad():
        params = mix.make_params([own, told])
        # Copies, since the mixer may work in place.
        copies = own.clone() if isinstance(own, Tensor) else [image.clone() for image in own]
        mixed, joined = mixer.replay(params, copies, told)
        shares = _shares(mix, params, own)
    pairs = zip(partners_of(params), params["lam"].tolist(), strict=True)
    return [
        _row(i, partners, lam, given, class_names, (own, shares, mixed), joined[i])
        for i, (partners, lam) in zip(range(max_samples), pairs, strict=False)
    ]


def _with_origins(given: Targets, *, left_out: Sequence[Any]) -> list[_Target]:
    """Return targets whose objects say where they come from, without what is left out."""
    # Mixers join whatever has a row for each object.
    return [
        {key: value for key, value in target.items() if key not in left_out}
        | ({_ORIGIN: [i] * given.counts[i]} if given.has(i) else {})
        for i, target in enumerate(given.given)
    ]


def _row(
    i: int,
    partners: Sequence[int],
    lam: float,
    given: Targets,
    class_names: Sequence[str] | None,
    panels: tuple[Any, Any, Any],
    joined: _Target,
) -> Row:
    """Return what is shown of one sample, of whose objects ``joined`` are what became."""
    (own, shares, mixed), keys = panels, given.keys
    colours = [OWN if k == i else PARTNER for k in joined.get(_ORIGIN, ())]
    first, theirs = partners[0], sum(given.counts[j] for j in partners)
    alone = len(partners) == 1  # of several, made small, there is no room for marks
    whose = "partner's" if alone else "partners'"
    marks = (
        _marks(given.given[i], keys, [OWN] * given.counts[i]),
        _marks(given.given[first], keys, [PARTNER] * given.counts[first]) if alone else (),
        (),
        _marks(joined, keys, colours, **_words(joined, keys, class_names)),
    )
    caption = (
        f"λ = {lam:.2f}: {colours.count(OWN)} of {given.counts[i]} own objects and "
        f"{colours.count(PARTNER)} of {theirs} of the {whose}"
    )
    return Row((own[i], shown_partners(own, i, partners), shares[i], mixed[i]), caption, marks)


def _pixels(images: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    if not isinstance(images, list | tuple):
        return pixels("images", images)  # type: ignore[arg-type]
    if not images:
        raise ValueError("images must hold at least one image, got none")
    return [pixels(f"images[{i}]", image, batched=False) for i, image in enumerate(images)]


def _checked(targets: Sequence[_Target], images: Tensor | list[Tensor]) -> Targets:
    if len(targets) != len(images):
        raise ValueError(
            f"labels must hold one target for each of {len(images)} images, got {len(targets)}"
        )
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    return Targets.of("labels", targets, sizes)


def _check_values(
    name: str, target: _Target, keys: Keys, class_names: Sequence[str] | None
) -> None:
    """Refuse objects that have no place in a picture, or no name."""
    for key in keys.geometry:
        value = _held(f"{name}[{key!r}]", target[key])
        if value.is_floating_point() and not value.isfinite().all():
            got = value[~value.isfinite()][0].item()
            raise ValueError(f"{name}[{key!r}] must be finite to be drawn, got {got}")
    key = _labels_key(keys)
    if key is None:
        return
    name = f"{name}[{key!r}]"
    if isinstance(target[key], Tensor):
        _held(name, target[key])
    for label in _labels(target, keys):
        if isinstance(label, bool) or not isinstance(label, Integral):
            raise TypeError(f"{name} must hold a class index for each object, got {label!r}")
        if class_names is not None and not 0 <= int(label) < len(class_names):
            raise ValueError(
                f"{name} must lie in [0, {len(class_names)}), one for each of class_names, "
                f"got {label}"
            )


def _held(name: str, value: Tensor) -> Tensor:
    if checks.tensor(name, value).is_meta:
        raise ValueError(f"{name} must hold values, got a meta tensor")
    return value


def _shares(mix: Mixer, params: Params, images: Tensor | list[Tensor]) -> list[Tensor]:
    """Return how much of each pixel is the sample's own, in a colour where it is nobody's."""
    white, black = (
        [torch.full_like(image[:1], value, dtype=torch.float32) for image in images]
        for value in (1, 0)
    )

    def applied(planes: list[Tensor], others: list[Tensor]) -> list[Tensor]:
        if isinstance(images, Tensor):
            return [*mix.apply(torch.stack(planes), params, others=torch.stack(others))]
        return mix.apply(Ragged(planes), params, others=Ragged(others)).samples

    shares = []
    for own, other in zip(applied(white, black), applied(black, white), strict=True):
        colour = own.new_tensor(UNCOVERED).view(3, 1, 1)
        shares.append(torch.where(own + other > 0, own, colour))
    return shares


def _marks(target: _Target, keys: Keys, colours: Sequence[str], **words: list[str]) -> list[Mark]:
    """Return a target's objects, each in its colour, with what is said of each."""
    columns: dict[str, Iterable[Any]] = {"colour": colours, **words}
    if colours and keys.boxes is not None:
        columns["corners"] = _corners(target[keys.boxes]).tolist()
    if colours and keys.masks is not None:
        columns["mask"] = unwrap(target[keys.masks]).cpu() != 0
    if colours and keys.keypoints is not None:
        points = unwrap(target[keys.keypoints])
        seen = target.get(KEYPOINT_WEIGHTS, torch.ones_like(points[..., 0])) > 0
        pairs = zip(points.tolist(), seen.tolist(), strict=True)
        columns["points"] = [[*compress(*pair)] for pair in pairs]
    rows = zip(*columns.values(), strict=True)
    return [Mark(**dict(zip(columns, row, strict=True))) for row in rows]


def _words(target: _Target, keys: Keys, class_names: Sequence[str] | None) -> dict[str, list[str]]:
    """Say of each of a target's objects what it weighs, and its class if it has one."""
    names = [class_names[c] if class_names else f"class {c}" for c in _labels(target, keys)]
    weights = [f"{weight:.2f}" for weight in target[WEIGHTS].tolist()]
    return {"weight": weights, "name": names} if names else {"weight": weights}


def _corners(boxes: tv_tensors.BoundingBoxes) -> Tensor:
    """Return the corners of boxes of any format, ``(N, 4, 2)``."""
    rotated = tv_tensors.is_rotated_bounding_format(boxes.format)
    form = tv_tensors.BoundingBoxFormat["XYXYXYXY" if rotated else "XYXY"]
    ends: Tensor = convert_bounding_box_format(unwrap(boxes).double(), boxes.format, form)
    return (ends if rotated else ends[:, [0, 1, 2, 1, 2, 3, 0, 3]]).view(-1, 4, 2)


def _labels_key(keys: Keys) -> Any:
    return next((key for key in keys.rows if str(key).lower() == "labels"), None)


def _labels(target: _Target, keys: Keys) -> list[Any]:
    """Return what a target has for the classes of its objects, where it has any."""
    labels = target.get(_labels_key(keys), [])
    return labels.tolist() if hasattr(labels, "tolist") else [*labels]
