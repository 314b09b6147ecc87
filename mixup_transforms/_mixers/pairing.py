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


def paired(
    batch: Batch, pairing: Pairing | None, generator: torch.Generator | None, *, count: int
) -> Tensor:
    """Return the partners of each sample: without a rule the next ones along one cycle.

    Returns:
        int64 ``(B,)``, or from two partners on ``(B, count)``.
    """
    if pairing is None or not batch.size:
        return _along(draws.cycle(batch.size, generator=generator), count)
    asked = [_asked(batch, pairing, generator) for _ in range(count)]
    partner = asked[0] if count == 1 else torch.stack(asked, 1)
    # The host has to know whose objects are whose.
    return partner if batch.objects is None else partner.cpu()


def beside(size: int, generator: torch.Generator | None, *, count: int) -> Tensor:
    """Return the partners of a second batch: the sample in one's place, then along one cycle."""
    own = torch.arange(size, device="cpu")
    if count == 1:
        return own
    others = _along(draws.cycle(size, generator=generator), count - 1).view(size, count - 1)
    return torch.cat((own.to(others.device).unsqueeze(1), others), 1)


def _along(cycle: Tensor, count: int) -> Tensor:
    """Return the first powers of a cycle."""
    powers = [cycle]
    while len(powers) < count:
        powers.append(cycle[powers[-1]])
    return cycle if count == 1 else torch.stack(powers, 1)


def _asked(batch: Batch, pairing: Pairing, generator: torch.Generator | None) -> Tensor:
    labels = _as_found(batch)
    partner: Any = pairing(batch.finish({}), labels=labels, generator=generator)
    name = f"what pairing {getattr(pairing, '__name__', repr(pairing))} returned"
    if partner is None:
        raise TypeError(f"{name} must be the index of each sample's partner, int64 (B,), got None")
    checks.partner(partner, batch=batch.size, pool=batch.size, name=name)
    if partner.dtype != torch.int64:
        raise TypeError(
            f"{name} must be int64, got {checks.describe(partner)}; return partner.long()"
        )
    device = unwrap(batch.leaves[batch.images[0]]).device
    if partner.device not in (device, draws.device_of(generator)):
        raise ValueError(
            f"{name} must be on the device of the images or of the generator, "
            f"got {partner.device}, and images on {device}"
        )
    return partner  # type: ignore[no-any-return]


def alone(partner: Tensor) -> Tensor:
    """Tell the samples that are their own partners, the first of several; bool ``(B,)``."""
    first = partner if partner.ndim == 1 else partner[:, 0]
    return first == torch.arange(len(first), device=first.device)


def _as_found(batch: Batch) -> Any:
    """Return the labels, or else the masks: the one leaf that they are, or all of them."""
    found = [batch.leaves[i] for i in batch.labels or batch.masks]
    return found[0] if len(found) == 1 else found or None
