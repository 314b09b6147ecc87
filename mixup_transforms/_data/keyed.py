"""Mixing one sample with its partners, by a key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from mixup_transforms._batch.samples import first_sample, stack
from mixup_transforms._core import streams
from mixup_transforms._core.seeded import Seeded
from mixup_transforms._data.pipeline import checked_pipeline, is_own, parts
from mixup_transforms._mixers.base import Mixer

Key = tuple[int, ...]
"""A seed, and what tells its samples apart."""


def mix(sample: Any, partners: list[Any], transform: Callable[..., Any], key: Key) -> Any:
    """Mix a sample with its partners; all that is drawn depends on the key alone."""
    batch, stacked = stack([sample, *partners])
    # A batch of two is always one pair, so that the first meets the second.
    with streams.keyed(*key), _foreign_keyed(transform, key):
        mixed = transform(batch)
    return first_sample(mixed, stacked)


def partner_count(transform: object) -> int:
    """Return how many partners a pipeline wants: one, unless a mixer has more ``partners``."""
    mixers = [part for part in parts(transform) if isinstance(part, Mixer)]
    return max((getattr(mixer, "partners", 1) for mixer in mixers), default=1)


def checked_keyed(transform: Any, *, holder: str, partners_by: str) -> Callable[..., Any]:
    """Refuse what is no pipeline, and what would decide beside the key."""
    pipeline = checked_pipeline("transform", transform)
    for part in parts(pipeline):
        if isinstance(part, Mixer) and part.pairing is not None:
            raise ValueError(
                f"{type(part).__name__} must have pairing=None in a {holder}, which chooses "
                f"partners itself, by {partners_by}"
            )
        if isinstance(part, Seeded) and part.generator is not None:
            raise ValueError(
                f"{type(part).__name__} must have generator=None in a {holder}, whose seed "
                "and epoch decide"
            )
    return pipeline


def _foreign_keyed(transform: object, key: Key) -> AbstractContextManager[None]:
    """Key the global stream, apart from the mixers', where somebody may draw from it."""
    if all(is_own(part) for part in parts(transform)):
        return nullcontext()
    return streams.globally_keyed(*key, 1)
