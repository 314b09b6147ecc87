"""Mixing one sample with its partners, by a key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from mixup_transforms._batch.samples import first_sample, stack
from mixup_transforms._core import streams
from mixup_transforms._core.seeded import Seeded
from mixup_transforms._data.pipeline import checked_pipeline, is_own, mixes_once, parts
from mixup_transforms._mixers.base import Mixer

Key = tuple[int, ...]
"""A seed, and what tells its samples apart."""


@dataclass(frozen=True)
class Keyed:
    """A pipeline that mixes one sample after the other, looked through once.

    Attributes:
        transform: the pipeline.
        partners: how many a sample wants: one, unless a mixer has more.
        foreign: whether somebody in it may draw from the global stream.
        first_alone: whether nobody in it looks at the mixed images of the partners.
    """

    transform: Callable[..., Any]
    partners: int
    foreign: bool
    first_alone: bool

    @classmethod
    def of(cls, transform: Callable[..., Any]) -> Keyed:
        """Look a pipeline through."""
        walked = [*parts(transform)]
        counts = [part.partners for part in walked if isinstance(part, Mixer)]
        foreign = not all(map(is_own, walked))
        return cls(transform, max(counts, default=1), foreign, mixes_once(transform))

    def mix(self, sample: Any, partners: list[Any], key: Key) -> Any:
        """Mix a sample with its partners; all that is drawn depends on the key alone."""
        batch, stacked = stack([sample, *partners], first_alone=self.first_alone)
        # A batch of two is always one pair, so that the first meets the second.
        with streams.keyed(*key), self._foreign_keyed(key):
            mixed = self.transform(batch)
        return first_sample(mixed, stacked)

    def _foreign_keyed(self, key: Key) -> AbstractContextManager[None]:
        """Key the global stream, apart from the mixers', where somebody may draw from it."""
        return streams.globally_keyed(*key, 1) if self.foreign else nullcontext()


def keyed_pipeline(transform: Any, *, holder: str, partners_by: str) -> Keyed:
    """Look a pipeline through; refuse what is none, and what would decide beside the key."""
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
    return Keyed.of(pipeline)
