"""What a mixer draws for a batch, and what it draws it from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mixup_transforms._batch.parse import Batch, unwrap
from mixup_transforms._core import draws, streams
from mixup_transforms._core.ragged import Images, Sizes, largest, lengths

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """What every mixer draws, and what it needs to draw its own geometry.

    Attributes:
        batch: the batch as it was given.
        partner: int64 ``(B,)``, or of a mixer of several partners ``(B, partners)``.
        mixed: bool ``(rows,)``, false where ``p`` gated a sample off.
        generator: where the geometry is drawn from.
        alone: bool ``(B,)``, true where a sample is its own partner; ``None`` where nobody is.
        pool: the batch that partners come from; ``None`` for the batch itself.
        chosen: the samples that it is for, int64 on the host; ``None`` for all.
        dims: how many of the last dimensions the mixer's geometry lies in.
    """

    batch: Batch
    partner: Tensor
    mixed: Tensor
    generator: torch.Generator | None
    alone: Tensor | None = None
    pool: Batch | None = None
    chosen: Tensor | None = None
    dims: int = 2

    @property
    def images(self) -> Images:
        """The first images of the batch."""
        images: Images = unwrap(self.batch.leaves[self.batch.images[0]])
        return images

    @property
    def rows(self) -> int:
        """How many rows to draw: one for each sample, or one for the batch."""
        return self.mixed.shape[0]

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of the images, where all have one, or as many lengths as ``dims``."""
        return largest(self.images, self.dims)

    @property
    def sizes(self) -> Sizes:
        """Heights and widths of the images: of each where they lie in a list.

        Or as many lengths as ``dims``.
        """
        return lengths(self.images, self.chosen, self.dims)

    @property
    def partner_sizes(self) -> Sizes:
        """The same of the partners' images."""
        pool = self.pool or self.batch
        images: Images = unwrap(pool.leaves[pool.images[0]])
        return lengths(images, self.partner, self.dims)

    def off(self) -> Plan:
        """Return the plan in which nobody is mixed; it draws from a stream that nobody has."""
        mixed = torch.zeros_like(self.mixed)
        return replace(self, mixed=mixed, generator=streams.detached(), alone=None)

    def draw_lam(self, alpha: float) -> Tensor:
        """Draw λ ~ Beta(α, α) for each row, and 1 where it is gated off."""
        lam = draws.symmetric_beta(self.rows, alpha, generator=self.generator)
        return draws.gated(lam, self.mixed)

    def params(self, *, lam: Tensor, **geometry: Tensor) -> Params:
        """Collect params, with one row for each sample of the batch."""
        batch = self.partner.shape[0]
        drawn = {"lam": lam.float(), **geometry}
        if self.rows != batch:
            drawn = {k: v.expand(batch, *v.shape[1:]).contiguous() for k, v in drawn.items()}
        return {"partner": self.partner, **drawn}


def required(params: Mapping[str, Any], name: str) -> Any:
    """Return one of the params, or say that it is missing."""
    if name not in params:
        raise ValueError(f"params must have {name!r}, got the keys {sorted(map(str, params))}")
    return params[name]
