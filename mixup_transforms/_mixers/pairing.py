"""Who is mixed with whom: one random cycle, or a rule of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mixup_transforms._batch.parse import Batch, unwrap
from mixup_transforms._core import checks, draws

# pairing(batch, labels=…, generator=…) returns the partner of each sample, int64 (B,).
Pairing = Callable[..., Tensor]


def check_pairing(name: str, pairing: object) -> Pairing | None:
    """Refuse what is neither a callable nor ``None``, and a class that was meant to be one."""
    if isinstance(pairing, type):
        raise TypeError(
            f"{name} must be an instance, such as {pairing.__name__}(...), "
            f"got the class {pairing.__name__}"
        )
    if pairing is None or callable(pairing):
        return pairing
    raise TypeError(f"{name} must be a callable or None, got {pairing!r}")


def paired(batch: Batch, pairing: Pairing | None, generator: torch.Generator | None) -> Tensor:
    """Return the partner of each sample; without a rule along one cycle."""
    if pairing is None or not batch.size:
        return draws.cycle(batch.size, generator=generator)
    labels = _as_found(batch)
    partner: Any = pairing(batch.finish({}), labels=labels, generator=generator)
    name = f"what pairing {getattr(pairing, '__name__', repr(pairing))} returned"
    checks.partner(partner, batch=batch.size, pool=batch.size, name=name)
    if partner.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, got {checks.describe(partner)}")
    device = unwrap(batch.leaves[batch.images[0]]).device
    if partner.device not in (device, draws.device_of(generator)):
        raise ValueError(
            f"{name} must be on the device of the images or of the generator, "
            f"got {partner.device}, and images on {device}"
        )
    # The host has to know whose objects are whose.
    return partner if batch.objects is None else partner.cpu()  # type: ignore[no-any-return]


def alone(partner: Tensor) -> Tensor:
    """Tell the samples that are their own partners; bool ``(B,)``."""
    return partner == torch.arange(len(partner), device=partner.device)


def _as_found(batch: Batch) -> Any:
    """Return the labels, or else the masks: the one leaf that they are, or all of them."""
    found = [batch.leaves[i] for i in batch.labels or batch.masks]
    return found[0] if len(found) == 1 else found or None
