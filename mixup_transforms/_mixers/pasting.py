"""Regions of partners, pasted where they lie in their own images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mixup_transforms._core import shares
from mixup_transforms._core.memory import moved
from mixup_transforms._core.ragged import Images, Ragged, largest, sizes
from mixup_transforms._mixers.plan import Params, Plan

_HOST = torch.device("cpu")


def pasted_params(plan: Plan, region: Images, **more: Tensor) -> Params:
    """Return params whose ``mask`` is false where partners are pasted.

    Args:
        plan: whom it is for, and who of them is mixed.
        region: what of each one's partner is pasted: bool ``(B, H, W)``, or ``(H, W)`` in a list,
            of the partner's size or, where nothing is, of no pixels.
        **more: further params.
    """
    images = plan.images
    table = sizes(images) if plan.chosen is None else sizes(images)[plan.chosen.numpy()]
    if isinstance(region, Tensor):
        mask = ~region
    else:
        # Where objects are seen is worked out on the host: one wait, for the whole mask.
        (mask,) = moved(_HOST, _outside(region, table.tolist(), largest(images)))
    (mixed,) = moved(mask.device, plan.mixed)
    mask |= ~mixed.view(-1, 1, 1)
    return plan.params(lam=shares.mask_share(mask, table), mask=mask, **more)


def _outside(region: Ragged, own: Sequence[Sequence[int]], canvas: Sequence[int]) -> Tensor:
    """Return a mask that is false on a region of each image, as far as it lies in the image."""
    shape = (len(region), *canvas)
    mask = torch.ones(shape, dtype=torch.bool, device=region.device)
    for outside, pasted, (height, width) in zip(mask, region, own, strict=True):
        inside = pasted[:height, :width]
        outside[: inside.shape[0], : inside.shape[1]] = ~inside
    return mask
