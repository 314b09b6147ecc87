"""The mixers that the law's tests run over: a new one joins by adding a line to MIXERS."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors

from mixup_transforms import (
    RandomChoice,
    RandomClassMix,
    RandomCopyPaste,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomResizeMix,
    functional,
)
from mixup_transforms._batch.objects import Keys, Targets
from mixup_transforms._batch.parse import unwrap
from mixup_transforms._batch.tree import Tree
from mixup_transforms._mixers.base import Mixer, Params
from tests.strategies import generator_of


@dataclass(frozen=True)
class Case:
    """A mixer beside a plain statement of what its params mean for one sample.

    ``own_share(params, i, image)`` is m_i, broadcastable against the image; ``view(params, i,
    image)`` is T(partner).
    """

    name: str
    make: Callable[..., Mixer]
    own_share: Callable[[Params, int, Tensor], Tensor]
    view: Callable[[Params, int, Tensor], Tensor] = lambda params, i, image: image
    spatial: bool = True
    has_alpha: bool = True

    def __repr__(self):
        return self.name

    @property
    def resizes(self):
        """Whether pixels come from a resize, which differs in the last bits from way to way."""
        return self.name.startswith(("resizemix", "choice"))


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


def beside(plan, change):
    """A plan whose batches say more of their images."""
    return replace(plan, batch=change(plan.batch), pool=plan.pool and change(plan.pool))


def with_classes(batch):
    """A batch with a semantic mask of four classes beside its images."""
    images = unwrap(batch.leaves[batch.images[0]])
    shape = (len(images), *images.shape[-2:])
    classes = torch.randint(4, shape, generator=generator_of(4), device="cpu")
    # Not tv_tensors.Mask(…), which moves what it is given to torch's default device.
    tree = Tree.of(([*batch.leaves, classes.as_subclass(tv_tensors.Mask)],))
    return replace(batch, tree=tree, masks=[len(batch.leaves)])


def with_objects(batch):
    """A batch with up to three objects in each of its images, some of them of no pixels."""
    images = unwrap(batch.leaves[batch.images[0]])
    size = tuple(images.shape[-2:])
    shape = (len(images), 3, *size)
    masks = torch.randint(5, shape, generator=generator_of(5), device="cpu") < 2
    counts = [i % 4 for i in range(len(images))]
    given = [{"masks": masks[i, :n].as_subclass(tv_tensors.Mask)} for i, n in enumerate(counts)]
    keys = Keys(None, "masks", None, (), ())
    return replace(batch, targets=Targets(given, [size] * len(images), keys, counts))


class ClassMixOfAnything(RandomClassMix):
    """ClassMix in batches without a semantic mask, which it finds in the images' sizes."""

    needs_classes = False

    def draw(self, plan):
        return super().draw(beside(plan, with_classes))


class CopyPasteOfAnything(RandomCopyPaste):
    """CopyPaste in batches without objects, which it finds in the images' sizes."""

    needs_instances = False

    def draw(self, plan):
        return super().draw(beside(plan, with_objects))


def by_choice(field):
    def chosen(params, i, image):
        return getattr(CHOSEN[int(params["choice"][i])], field)(params, i, image)

    return chosen


def make_choice(*, generator=None, per_sample=True, p=1.0, **shared):
    mixers = [case.make(p=p, **shared) for case in CHOSEN]
    return RandomChoice(mixers, weights=[1, 2, 2, 3], per_sample=per_sample, generator=generator)


CHOSEN = [
    Case("mixup", RandomMixup, constant_share, spatial=False),
    Case("cutmix", RandomCutMix, outside_box),
    Case("resizemix", RandomResizeMix, outside_box, shrunk_into_box, has_alpha=False),
    Case("fmix", RandomFMix, on_mask),
]
CHOICE = Case("choice", make_choice, by_choice("own_share"), by_choice("view"), has_alpha=False)
MIXERS = [
    *CHOSEN,
    Case("mixup-dominant", partial(RandomMixup, dominant=True), constant_share, spatial=False),
    Case(
        "resizemix-whole",
        partial(RandomResizeMix, scale=(1, 1)),
        outside_box,
        shrunk_into_box,
        has_alpha=False,
    ),
    CHOICE,
    Case("classmix", ClassMixOfAnything, on_mask, has_alpha=False),
    Case("copypaste", CopyPasteOfAnything, on_mask, has_alpha=False),
]

# The kernel of each, and the params that it takes besides the partner.
KERNELS = {
    "mixup": (functional.mixup, "lam"),
    "cutmix": (functional.cutmix, "box"),
    "resizemix": (functional.resizemix, "box"),
    "fmix": (functional.fmix, "mask"),
}

every_mixer = pytest.mark.parametrize("case", MIXERS, ids=repr)
every_chosen = pytest.mark.parametrize("case", CHOSEN, ids=repr)
every_kernel = pytest.mark.parametrize("name", KERNELS)


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
    for i, j in enumerate(params["partner"].tolist()):
        own, other = before[i], case.view(params, i, before[j])
        share = case.own_share(params, i, own)
        assert torch.isclose(params["lam"][i].double(), share.mean(), rtol=1e-6, atol=1e-7), (
            "lam is not the share of own pixels"
        )
        low, high = torch.minimum(own, other), torch.maximum(own, other)
        if last_bits:
            low, high = low.double() - leeway, high.double() + leeway
        assert ((low <= after[i]) & (after[i] <= high)).all(), "a pixel leaves its parents' range"
        expected = share * own.double() + (1 - share) * other.double()
        slack = 4 * working.eps * torch.maximum(own.double().abs(), other.double().abs())
        if floating:
            slack += torch.finfo(dtype).eps * expected.abs() + torch.finfo(dtype).tiny
        else:
            slack += 0.5
        off = (after[i].double() - expected).abs()
        assert (off <= slack + leeway).all(), "a pixel is not the mix"
        lam = params["lam"][i].double()
        target = lam * labels[i].double() + (1 - lam) * labels[j].double()
        assert torch.allclose(mixed_labels[i].double(), target, atol=1e-6), "the label lies"
