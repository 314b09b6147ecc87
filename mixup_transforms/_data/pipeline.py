"""Pipelines of transforms, walked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from torchvision.transforms import v2

from mixup_transforms._core.seeded import Seeded
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._targets.base import LabelTransform

_CONTAINERS = (v2.Compose, nn.Sequential, nn.ModuleList)
_PACKAGE = __name__.partition(".")[0]


def checked_pipeline(name: str, transform: Any) -> Callable[..., Any]:
    """Refuse what cannot be called, and a class that was meant to be an instance of it."""
    _check_instances(name, transform)
    if not callable(transform):
        raise TypeError(f"{name} must be a mixer or a pipeline, got {transform!r}")
    return transform  # type: ignore[no-any-return]


def checked_collate_fn(name: str, collate_fn: Any) -> Callable[[list[Any]], Any]:
    """Refuse what cannot be called, and what takes batches."""
    _check_instances(name, collate_fn)
    if not callable(collate_fn):
        raise TypeError(f"{name} must be a function of a list, got {collate_fn!r}")
    first = next(_steps(collate_fn), None)
    if isinstance(first, Seeded):
        raise TypeError(
            f"{name} must make a batch of a list of samples, got {type(first).__name__}, which "
            "takes a batch; the order is MixCollate(transform, collate_fn)"
        )
    return collate_fn  # type: ignore[no-any-return]


def parts(transform: Any) -> Iterator[Any]:
    """Walk a pipeline; what a plain function calls cannot be seen."""
    yield transform
    if isinstance(transform, type):  # its attributes are those of the instances to come
        return
    for part in _held(transform):
        yield from parts(part)


def _held(transform: Any) -> list[Any]:
    # torchvision's containers hold their transforms in a plain list, which is no child.
    listed = getattr(transform, "transforms", None)
    children = transform.children() if isinstance(transform, nn.Module) else []
    return [*(listed if isinstance(listed, Sequence) else []), *children]


def is_own(part: object) -> bool:
    """Whether a part of a pipeline draws from its generator, or not at all."""
    return type(part) in _CONTAINERS or type(part).__module__.startswith(f"{_PACKAGE}.")


def mixes_first(transform: object) -> bool:
    """Whether a mixer takes the images as they were collated."""
    for part in _steps(transform):
        if not isinstance(part, LabelTransform):
            return isinstance(part, Mixer)
    return False


def mixes_once(transform: object) -> bool:
    """Whether the images go through one mixer, of this package, and nothing else."""
    mixing = [part for part in _steps(transform) if not isinstance(part, LabelTransform)]
    mixers = [part for part in mixing if isinstance(part, Mixer)]
    return len(mixing) == len(mixers) == 1 and all(map(is_own, parts(transform)))


def _steps(transform: Any) -> Iterator[Any]:
    """Walk what a pipeline does, one after the other, without what only holds others."""
    if type(transform) in _CONTAINERS:
        for part in _held(transform):
            yield from _steps(part)
    else:
        yield transform


def _check_instances(name: str, transform: object) -> None:
    for part in parts(transform):
        if isinstance(part, type) and issubclass(part, nn.Module):
            raise TypeError(
                f"{name} must be made of instances, such as {part.__name__}(...), "
                f"got the class {part.__name__}"
            )
