"""What a picture of a mixed batch shows: panels and captions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixup_transforms import functional
from mixup_transforms._core import checks, resize
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._mixers.plan import Params
from mixup_transforms._preview.marks import Mark

HEADINGS = ("own", "partner", "own share", "mixed")


@dataclass(frozen=True)
class Row:
    """What is shown of one sample.

    Attributes:
        panels: ``(1 or 3, H, W)``, in the order of ``HEADINGS``.
        caption: what is said of it.
        marks: the objects over each panel.
    """

    panels: tuple[Tensor, ...]
    caption: str
    marks: tuple[Sequence[Mark], ...] = ((),) * len(HEADINGS)


def rows(
    images: Tensor,
    labels: Tensor,
    mix: Mixer,
    *,
    class_names: Sequence[str] | None,
    max_samples: int,
) -> list[Row]:
    """Mix a batch, and return what :func:`preview` shows of it."""
    mixer = plain_mixer(mix)
    max_samples = checks.integer("max_samples", max_samples, minimum=1)
    own = pixels("images", images)
    soft = _soft_labels(labels, mix, class_names, batch=len(own))
    mixer.num_classes = soft.shape[1]  # or rows as long as an image is wide could be of its columns
    with torch.no_grad():
        params = mix.make_params([own, soft])
        # Copies, since the mixer may work in place.
        mixed, targets = mixer.replay(params, own.clone(), soft.clone())
        white = torch.ones_like(own[:, :1], dtype=torch.float32)
        share = mix.apply(white, params, others=torch.zeros_like(white))
    pairs = zip(partners_of(params), params["lam"].tolist(), strict=True)
    return [
        Row(
            (own[i], shown_partners(own, i, partners), share[i], mixed[i]),
            caption(lam, targets[i], class_names),
        )
        for i, (partners, lam) in zip(range(max_samples), pairs, strict=False)
    ]


def partners_of(params: Params) -> list[list[int]]:
    """Return the partners of each sample, without those that the sample does not show."""
    partner = params["partner"]
    if partner.ndim == 1:
        return [[j] for j in partner.tolist()]
    several = (params["share"][:, 2:] > 0).any(1).tolist()
    return [row if more else row[:1] for row, more in zip(partner.tolist(), several, strict=True)]


def shown_partners(images: Tensor | Sequence[Tensor], i: int, partners: Sequence[int]) -> Tensor:
    """Return the panel of one partner, or of three around the sample's own faded place."""
    if len(partners) == 1:
        return images[partners[0]]
    height, width = (max(1, side // 2) for side in images[i].shape[-2:])
    faded = _faded(images[i])
    small = [
        resize.nearest(image, [0, 0, width, height])
        for image in (faded, *(images[j] for j in partners))
    ]
    return torch.cat((torch.cat(small[:2], -1), torch.cat(small[2:], -1)), -2)


def _faded(image: Tensor) -> Tensor:
    white = 255 if image.dtype == torch.uint8 else 1.0
    return (image.float() * 0.25 + white * 0.75).to(image.dtype)


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


def plain_mixer(mix: Mixer) -> Mixer:
    """Return a mixer of the same settings for batches whose images come first, labels second."""
    if not isinstance(mix, Mixer):
        raise TypeError(f"mix must be a mixer such as RandomMixup, got {type(mix).__name__}")
    if mix.spatial and mix.dims > 2:
        raise ValueError(
            "mix must cut images in height and width, dims=2, or in columns, dims=1, to be drawn, "
            f"got dims={mix.dims}"
        )
    mixer = copy.copy(mix)
    mixer.images_getter = mixer.labels_getter = "default"  # others are for a training loop
    return mixer


def pixels(name: str, images: Tensor, *, batched: bool = True) -> Tensor:
    """Return images without their type, or refuse what cannot be drawn."""
    checks.mixable(name, images)
    form = "(B, 1 or 3, H, W), at least one image of" if batched else "(1 or 3, H, W),"
    fits = images.ndim == 3 + batched and images.shape[-3] in (1, 3)
    if images.is_meta or not fits or 0 in images.shape:
        raise ValueError(
            f"{name} must have shape {form} at least one pixel, "
            f"got {checks.describe(images)} on {images.device}"
        )
    plain = images.detach().as_subclass(Tensor)
    if plain.is_floating_point():
        low, high = (bound.item() for bound in plain.aminmax())
        if not (low >= 0 and high <= 1):  # also refuses NaN
            raise ValueError(
                f"{name} must lie in [0, 1], got values from {low:.4g} to {high:.4g}; "
                "give them before they are normalised"
            )
    elif plain.dtype != torch.uint8:
        raise TypeError(f"{name} must be floating in [0, 1] or uint8, got {checks.describe(plain)}")
    return plain


def check_names(class_names: Sequence[str] | None) -> None:
    """Refuse what is no list of names."""
    if isinstance(class_names, str) or not isinstance(class_names, Sequence | None):
        raise TypeError(f"class_names must be a list of names, got {class_names!r}")


def _label_values(labels: Tensor, batch: int) -> Tensor:
    """Return labels that can be drawn, on the host, or raise."""
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
    return values


def _soft_labels(
    labels: Tensor, mix: Mixer, class_names: Sequence[str] | None, *, batch: int
) -> Tensor:
    values = _label_values(labels, batch)
    soft = values.is_floating_point()
    check_names(class_names)
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
