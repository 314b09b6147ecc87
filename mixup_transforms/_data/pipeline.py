"""Pipelines of transforms, walked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torchvision.transforms import v2

from mixup_transforms._mixers.base import Mixer
from mixup_transforms._targets.base import LabelTransform

_CONTAINERS = (v2.Compose, nn.Sequential)
_PACKAGE = __name__.partition(".")[0]


def parts(transform: Any) -> Iterable[Any]:
    """Walk a pipeline; torchvision's containers hold their transforms in a plain list."""
    yield transform
    for part in getattr(transform, "transforms", None) or getattr(transform, "children", list)():
        yield from parts(part)


def is_own(part: object) -> bool:
    """Whether a part of a pipeline draws from its generator, or not at all."""
    return type(part) in _CONTAINERS or type(part).__module__.startswith(f"{_PACKAGE}.")


def mixes_first(transform: object) -> bool:
    """Whether a mixer takes the images as they were collated."""
    for part in parts(transform):
        if not isinstance(part, LabelTransform) and type(part) not in _CONTAINERS:
            return isinstance(part, Mixer)
    return False
