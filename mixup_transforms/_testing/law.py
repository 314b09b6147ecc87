"""The law, written down a second time and in the plainest way, to compare a mixed batch with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mixup_transforms._core import checks
from mixup_transforms._mixers.base import BoxMixer, MaskMixer, Mixer
from mixup_transforms._mixers.choice import RandomChoice
from mixup_transforms._mixers.resizemix import RandomResizeMix

Params = Mapping[str, Tensor]
OwnShare = Callable[[Params, int, Tensor], Tensor]
View = Callable[[Tensor, Params, int], Tensor]


class SaysWhatParamsMean(Protocol):
    """``own_share(params, i, image)`` is m_i, ``view(image, params, i)`` is T(partner)."""

    @property
    def own_share(self) -> OwnShare: ...
    @property
    def view(self) -> View: ...


@dataclass(frozen=True)
class Meaning:
    """What params mean for one sample."""

    own_share: OwnShare
    view: View


def precision(dtype: torch.dtype) -> torch.dtype:
    """Say what values of a dtype must be averaged in: 32 bits do not fit into float32."""
    wide = dtype in (torch.float64, torch.int32, torch.int64)
    return torch.float64 if wide else torch.float32


def constant_share(params: Params, i: int, image: Tensor) -> Tensor:
    """Read ``lam`` as mixup does: the same share everywhere."""
    return params["lam"][i].double()


def outside_box(params: Params, i: int, image: Tensor) -> Tensor:
    """Read ``box``: 0 inside, 1 outside."""
    share = torch.ones(image.shape[-2:], dtype=torch.float64, device=image.device)
    x1, y1, x2, y2 = params["box"][i].tolist()
    share[y1:y2, x1:x2] = 0
    return share


def on_mask(params: Params, i: int, image: Tensor) -> Tensor:
    """Read ``mask``: 1 where it is true."""
    return params["mask"][i].double()


def as_it_is(image: Tensor, params: Params, i: int) -> Tensor:
    """Show the partner in its own place."""
    return image


def shrunk_into_box(image: Tensor, params: Params, i: int) -> Tensor:
    """Show the whole partner, resized into ``box``."""
    x1, y1, x2, y2 = params["box"][i].tolist()
    canvas = image.clone()
    if x1 < x2 and y1 < y2:
        size = (y2 - y1, x2 - x1)
        planes = image.to(precision(image.dtype)).reshape(1, -1, *image.shape[-2:])
        # torch is wrong where the width, and not the height, is 1.
        narrow = size[1] == 1
        planes, target = (planes.mT, size[::-1]) if narrow else (planes, size)
        small = F.interpolate(planes, target, mode="bilinear", antialias=True)
        small = (small.mT if narrow else small).reshape(*image.shape[:-2], *size)
        canvas[..., y1:y2, x1:x2] = small if image.is_floating_point() else small.round()
    return canvas


def meaning_of(mixer: Mixer) -> Meaning | None:
    """Say what a mixer's params mean, where its base says so."""
    if isinstance(mixer, RandomChoice):
        meanings = [meaning_of(each) for each in mixer.transforms]  # type: ignore[arg-type]
        known = [meaning for meaning in meanings if meaning is not None]
        return of_choice(known) if len(known) == len(meanings) else None
    if isinstance(mixer, BoxMixer):
        resizes = isinstance(mixer, RandomResizeMix)
        return Meaning(outside_box, shrunk_into_box if resizes else as_it_is)
    if isinstance(mixer, MaskMixer):
        return Meaning(on_mask, as_it_is)
    # Where there is a geometry in height and width, ``lam`` is only its mean.
    return None if mixer.spatial else Meaning(constant_share, as_it_is)


def of_choice(meanings: Sequence[SaysWhatParamsMean]) -> Meaning:
    """Read ``choice``: what each sample's params mean is for its mixer to say."""

    def own_share(params: Params, i: int, image: Tensor) -> Tensor:
        return meanings[int(params["choice"][i])].own_share(params, i, image)

    def view(image: Tensor, params: Params, i: int) -> Tensor:
        return meanings[int(params["choice"][i])].view(image, params, i)

    return Meaning(own_share, view)


def assert_law(
    meaning: SaysWhatParamsMean,
    params: Params,
    before: Tensor,
    after: Tensor,
    labels: Tensor,
    mixed_labels: Tensor,
    *,
    last_bits: int = 0,
) -> None:
    """Check every sample of a mixed batch against the law, in float64.

    ``last_bits`` is by how many bits of the working dtype at the images' largest value a pixel may
    differ, and then be rounded the other way.
    """
    if (after.shape, after.dtype) != (before.shape, before.dtype):
        raise AssertionError(
            f"images {checks.describe(before)} come back as {checks.describe(after)}"
        )
    floating = before.is_floating_point()
    working = torch.finfo(precision(before.dtype))
    leeway: Any = 0
    if last_bits and before.numel():
        largest = before.double().abs().max()
        rounding = torch.finfo(before.dtype).eps * largest if floating else 1
        leeway = last_bits * working.eps * largest + rounding
    for i, j in enumerate(params["partner"].tolist()):
        own, other = before[i], meaning.view(before[j], params, i)
        share, lam = meaning.own_share(params, i, own), params["lam"][i].double()
        if not torch.isclose(lam, share.mean(), rtol=1e-6, atol=1e-7):
            raise AssertionError(
                f"lam is not the share of own pixels: sample {i} keeps {share.mean():.6g} of them, "
                f"its lam is {lam:.6g}"
            )
        low, high = torch.minimum(own, other), torch.maximum(own, other)
        if last_bits:
            low, high = low.double() - leeway, high.double() + leeway
        _every(
            (low <= after[i]) & (after[i] <= high),
            f"a pixel leaves its parents' range: sample {i}, partner {j}",
            *(own, other, after[i]),
        )
        expected = share * own.double() + (1 - share) * other.double()
        slack = 4 * working.eps * torch.maximum(own.double().abs(), other.double().abs())
        if floating:
            slack += torch.finfo(before.dtype).eps * expected.abs() + torch.finfo(before.dtype).tiny
        else:
            slack += 0.5
        _every(
            (after[i].double() - expected).abs() <= slack + leeway,
            f"a pixel is not the mix: sample {i}, partner {j}",
            *(own, other, after[i], expected),
        )
        target = lam * labels[i].double() + (1 - lam) * labels[j].double()
        if not torch.allclose(mixed_labels[i].double(), target, atol=1e-6):
            off = (mixed_labels[i].double() - target).abs().max()
            raise AssertionError(
                f"the label lies: that of sample {i} is off by {off:.3g} from {lam:.6g} of its own "
                f"and {1 - lam:.6g} of its partner's"
            )


def _every(held: Tensor, words: str, *values: Tensor) -> None:
    """Raise with the first place where something does not hold, and its values."""
    if not held.all():
        place = tuple((~held).nonzero()[0].tolist())
        names = ("own", "partner's", "mixed", "expected")
        shown = ", ".join(
            f"{name} {value.expand(held.shape)[place].item():.6g}"
            for name, value in zip(names, values, strict=False)
        )
        raise AssertionError(f"{words}, at {place}: {shown}")
