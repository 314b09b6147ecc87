"""The mixers that the law's tests run over: a new one joins by adding a line to MIXERS."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mixup_transforms import (
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    functional,
)
from mixup_transforms._mixers.base import Mixer, Params

# Of sample i, with the pixels of its parents, its own first: m and T(x) of each.
Parts = Callable[[Params, int, list[Tensor]], list[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Case:
    """A mixer beside a plain statement of what its params mean for one sample, ``parts``."""

    name: str
    make: Callable[..., Mixer]
    parts: Parts
    spatial: bool = True
    has_alpha: bool = True

    def __repr__(self):
        return self.name

    @property
    def resizes(self):
        """Whether pixels come from a resize, which differs in the last bits from way to way."""
        return self.name.startswith(("resizemix", "choice"))


def parents_of(params, i):
    """The places of a sample's parents in the batch, its own first."""
    return [i, *params["partner"][i].reshape(-1).tolist()]


def two(own_share, view=lambda params, i, image: image):
    """Say what a mixer of one partner makes: the sample by m, T(partner) by the rest."""

    def parts(params, i, images):
        own, other = images[:2]
        share = own_share(params, i, own)
        return [(share, own), (1 - share, view(params, i, other))]

    return parts


def constant_share(params, i, image):
    return params["lam"][i].double()


def outside_box(params, i, image):
    share = torch.ones(image.shape[-2:], dtype=torch.float64)
    x1, y1, x2, y2 = params["box"][i].tolist()
    share[y1:y2, x1:x2] = 0
    return share


def on_mask(params, i, image):
    return params["mask"][i].double()


def shrunk_into_box(params, i, image):
    x1, y1, x2, y2 = params["box"][i].tolist()
    canvas = image.clone()
    if x1 < x2 and y1 < y2:
        wide = image.dtype in (torch.float64, torch.int32, torch.int64)
        pixels = image.to(torch.float64 if wide else torch.float32)
        size = (y2 - y1, x2 - x1)
        planes = pixels.reshape(1, -1, *image.shape[-2:])
        # torch is wrong where the width, and not the height, is 1.
        narrow = size[1] == 1
        planes, target = (planes.mT, size[::-1]) if narrow else (planes, size)
        small = F.interpolate(planes, target, mode="bilinear", antialias=True)
        small = (small.mT if narrow else small).reshape(*image.shape[:-2], *size)
        canvas[..., y1:y2, x1:x2] = small if image.is_floating_point() else small.round()
    return canvas


def around_centre(params, i, images):
    x, y = params["centre"][i].tolist()
    parts = []
    for k, image in enumerate(images):
        right, below = k in (1, 3), k in (2, 3)
        share = torch.zeros(image.shape[-2:], dtype=torch.float64)
        share[slice(y, None) if below else slice(y), slice(x, None) if right else slice(x)] = 1
        height, width = image.shape[-2:]
        # Each has its inner corner at the centre; of what is rolled in nothing shows.
        shifted = image.roll((y if below else y - height, x if right else x - width), (-2, -1))
        parts.append((share, shifted))
    return parts


def by_choice(params, i, images):
    return MEMBERS[int(params["choice"][i])].parts(params, i, images)


def make_choice(*, generator=None, per_sample=True, p=1.0, **shared):
    mixers = [case.make(p=p, **shared) for case in MEMBERS]
    weights = [1, 2, 2, 3, 2]
    return RandomChoice(mixers, weights=weights, per_sample=per_sample, generator=generator)


MEMBERS = [
    Case("mixup", RandomMixup, two(constant_share), spatial=False),
    Case("cutmix", RandomCutMix, two(outside_box)),
    Case("resizemix", RandomResizeMix, two(outside_box, shrunk_into_box), has_alpha=False),
    Case("fmix", RandomFMix, two(on_mask)),
    Case("mosaic", RandomMosaic, around_centre, has_alpha=False),
]
CHOICE = Case("choice", make_choice, by_choice, has_alpha=False)
MIXERS = [
    *MEMBERS,
    Case("mixup-dominant", partial(RandomMixup, dominant=True), two(constant_share), spatial=False),
    Case(
        "resizemix-whole",
        partial(RandomResizeMix, scale=(1, 1)),
        two(outside_box, shrunk_into_box),
        has_alpha=False,
    ),
    CHOICE,
]

# The kernel of each, and the param that it takes besides the partner.
KERNELS = {
    "mixup": (functional.mixup, "lam"),
    "cutmix": (functional.cutmix, "box"),
    "resizemix": (functional.resizemix, "box"),
    "fmix": (functional.fmix, "mask"),
    "mosaic": (functional.mosaic, "centre"),
}

every_mixer = pytest.mark.parametrize("case", MIXERS, ids=repr)
every_member = pytest.mark.parametrize("case", MEMBERS, ids=repr)
every_kernel = pytest.mark.parametrize("name", KERNELS)


def partners_for(name, partner):
    """As many partners as a kernel takes: those along a permutation."""
    if name != "mosaic":
        return partner
    return torch.stack((partner, partner[partner], partner[partner[partner]]), 1)


def labels_by(params, labels):
    """Mix dense labels by the shares of all parents."""
    lam, batch = params["lam"].unsqueeze(1), len(labels)
    share = params.get("share", torch.cat((lam, 1 - lam), 1))
    parents = torch.cat((torch.arange(batch).unsqueeze(1), params["partner"].view(batch, -1)), 1)
    return torch.einsum("bk,bk...->b...", share, labels[parents])


def assert_law(
    case: Case, params: Params, before: Tensor, after: Tensor, labels, mixed_labels, *, last_bits=0
):
    """Check every sample of a mixed batch against the law, in float64.

    ``last_bits`` is by how many bits of the working dtype at the images' largest value a pixel may
    differ, and then be rounded the other way.
    """
    assert after.shape == before.shape
    assert after.dtype == before.dtype
    dtype, floating = before.dtype, before.is_floating_point()
    wide = dtype in (torch.float64, torch.int32, torch.int64)
    working = torch.finfo(torch.float64 if wide else torch.float32)
    leeway = 0
    if last_bits and before.numel():
        largest = before.double().abs().max()
        rounding = torch.finfo(dtype).eps * largest if floating else 1
        leeway = last_bits * working.eps * largest + rounding
    for i in range(len(before)):
        parents = parents_of(params, i)
        parts = case.parts(params, i, [before[k] for k in parents])
        means = [share.mean() for share, _ in parts]
        assert torch.isclose(params["lam"][i].double(), means[0], rtol=1e-6, atol=1e-7), (
            "lam is not the share of own pixels"
        )
        shown = torch.stack([view.double() for _, view in parts])
        low, high = shown.amin(0) - leeway, shown.amax(0) + leeway
        assert ((low <= after[i]) & (after[i] <= high)).all(), "a pixel leaves its parents' range"
        expected = sum(share * view.double() for share, view in parts)
        slack = 4 * working.eps * shown.abs().amax(0)
        if floating:
            slack += torch.finfo(dtype).eps * expected.abs() + torch.finfo(dtype).tiny
        else:
            slack += 0.5
        off = (after[i].double() - expected).abs()
        assert (off <= slack + leeway).all(), "a pixel is not the mix"
        pairs = zip(means, parents[: len(parts)], strict=True)
        target = sum(mean * labels[k].double() for mean, k in pairs)
        assert torch.allclose(mixed_labels[i].double(), target, atol=1e-6), "the label lies"
