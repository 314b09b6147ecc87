"""What a picture of a mixed batch shows: panels and captions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixup_transforms import functional
from mixup_transforms._core import checks
from mixup_transforms._mixers.base import Mixer

HEADINGS = ("own", "partner", "own share", "mixed")


@dataclass(frozen=True)
class Row:
    """One sample: its panels ``(1 or 3, H, W)`` in the order of ``HEADINGS``, and its caption."""

    panels: tuple[Tensor, ...]
    caption: str


def rows(
    images: Tensor,
    labels: Tensor,
    mix: Mixer,
    *,
    class_names: Sequence[str] | None,
    max_samples: int,
) -> list[Row]:
    """Mix a batch, and return what :func:`preview` shows of it."""
    if not isinstance(mix, Mixer):
        raise TypeError(f"mix must be a mixer such as RandomMixup, got {type(mix).__name__}")
    max_samples = checks.integer("max_samples", max_samples, minimum=1)
    own = _pixels(images)
    soft = _soft_labels(labels, mix, class_names, batch=len(own))
    # Getters are made for the batches of a training loop; here images come first, labels second.
    mixer = copy.copy(mix)
    mixer.images_getter = mixer.labels_getter = "default"
    with torch.no_grad():
        params = mix.make_params([own, soft])
        # Copies, since the mixer may work in place.
        mixed, targets = mixer.replay(params, own.clone(), soft.clone())
        white = torch.ones_like(own[:, :1], dtype=torch.float32)
        share = mix.apply(white, params, others=torch.zeros_like(white))
    pairs = zip(params["partner"].tolist(), params["lam"].tolist(), strict=True)
    return [
        Row((own[i], own[j], share[i], mixed[i]), caption(lam, targets[i], class_names))
        for i, (j, lam) in zip(range(max_samples), pairs, strict=False)
    ]


def caption(lam: float, weights: Tensor, class_names: Sequence[str] | None) -> str:
    """Say λ and the two largest of a label's weights ``(C,)``, without those that round to 0."""
    top = weights.topk(min(2, len(weights)))
    shown = [
        f"{weight:.2f} {class_names[c] if class_names else f'class {c}'}"
        for weight, c in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        if abs(weight) >= 0.005
    ]
    rest = float(weights.double().sum() - top.values.double().sum())
    shown += [f"{rest:.2f} others"] if abs(rest) >= 0.005 else []
    return f"λ = {lam:.2f}: {' + '.join(shown) or 'no label'}"


def _pixels(images: Tensor) -> Tensor:
    checks.mixable("images", images)
    if images.is_meta or images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            "images must have shape (B, 1 or 3, H, W), at least one image of at least one pixel, "
            f"got {checks.describe(images)} on {images.device}"
        )
    pixels = images.detach().as_subclass(Tensor)
    if pixels.is_floating_point():
        low, high = (bound.item() for bound in pixels.aminmax())
        if not (low >= 0 and high <= 1):  # also refuses NaN
            raise ValueError(
                f"images must lie in [0, 1], got values from {low:.4g} to {high:.4g}; "
                "give them before they are normalised"
            )
    elif pixels.dtype != torch.uint8:
        raise TypeError(
            f"images must be floating in [0, 1] or uint8, got {checks.describe(images)}"
        )
    return pixels


def _soft_labels(
    labels: Tensor, mix: Mixer, class_names: Sequence[str] | None, *, batch: int
) -> Tensor:
    checks.mixable("labels", labels)
    if labels.is_meta:
        raise ValueError("labels must hold values, got a meta tensor")
    values = labels.detach().as_subclass(Tensor).cpu()
    soft = values.is_floating_point()
    if values.ndim != 1 + soft or len(values) != batch or 0 in values.shape:
        raise ValueError(
            f"labels must be class indices of shape ({batch},) or floating ({batch}, C), one for "
            f"each of {batch} images, got {checks.describe(labels)}"
        )
    if soft and not values.isfinite().all():
        raise ValueError(f"labels must be finite, got {values[~values.isfinite()][0].item()}")
    if isinstance(class_names, str) or not isinstance(class_names, Sequence | None):
        raise TypeError(f"class_names must be a list of names, got {class_names!r}")
    if soft:
        classes = values.shape[1]
    else:
        seen = max(int(values.long().max()), 0) + 1
        classes = mix.num_classes or len(class_names or range(seen))
    if mix.num_classes not in (None, classes):
        raise ValueError(
            f"labels must have {mix.num_classes} columns, the num_classes of mix, "
            f"got {checks.describe(labels)}"
        )
    if class_names is not None and len(class_names) != classes:
        raise ValueError(
            f"class_names must hold one name for each of {classes} classes, got {len(class_names)}"
        )
    return values if soft else functional.one_hot(values, classes)
