"""The mixers that the law's tests run over: a new one joins by adding a line to MIXERS."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torchvision import tv_tensors

from mixup_transforms import (
    RandomChoice,
    RandomClassMix,
    RandomCopyPaste,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    functional,
)
from mixup_transforms._batch.objects import Keys, Targets
from mixup_transforms._batch.parse import unwrap
from mixup_transforms._batch.tree import Tree
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._testing import law
from mixup_transforms._testing.law import (
    Parts,
    around_centre,
    constant_share,
    of_choice,
    on_mask,
    outside_box,
    shrunk_into_box,
    two,
)
from tests.strategies import generator_of


@dataclass(frozen=True)
class Case:
    """A mixer beside a plain statement of what its params mean for one sample, ``parts``."""

    name: str
    make: Callable[..., Mixer]
    parts: Parts
    spatial: bool = True
    has_alpha: bool = True
    dims: int = 2

    def __repr__(self):
        return self.name

    @property
    def kernel(self):
        """The kernel of a member, and the param that it takes besides the partner."""
        return KERNELS[self.name.partition("-")[0]]

    def image(self, x):
        """Images in torchvision's type, which has its channels where volumes have their depth."""
        return x if self.dims == 3 else tv_tensors.Image(x)

    def plane(self, x):
        """A channel of images, or all where the third last dimension is no channel."""
        return x if self.dims == 3 else x[:, 0]

    @property
    def resizes(self):
        """Whether pixels come from a resize, which differs in the last bits from way to way."""
        return self.name.startswith(("resizemix", "choice"))


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


def choice_of(members):
    """A choice among mixers, each case in turn likelier than the one before."""

    def make(*, generator=None, per_sample=True, p=1.0, **shared):
        mixers = [case.make(p=p, **shared) for case in members]
        weights = [*range(1, len(mixers) + 1)]
        return RandomChoice(mixers, weights=weights, per_sample=per_sample, generator=generator)

    parts = of_choice([case.parts for case in members])
    return Case("choice", make, parts, has_alpha=False)


MEMBERS = [
    Case("mixup", RandomMixup, two(constant_share), spatial=False),
    Case("cutmix", RandomCutMix, two(outside_box)),
    Case("resizemix", RandomResizeMix, two(outside_box, shrunk_into_box), has_alpha=False),
    Case("fmix", RandomFMix, two(on_mask)),
    Case("mosaic", RandomMosaic, around_centre, has_alpha=False),
]
CHOICE = choice_of(MEMBERS)
# Spans of sequences and blocks of volumes.
OF_DIMS = [
    Case(f"{name}-{dims}d", partial(mixer, dims=dims), two(own_share), dims=dims)
    for name, mixer, own_share in (
        ("cutmix", RandomCutMix, outside_box),
        ("fmix", RandomFMix, on_mask),
    )
    for dims in (1, 3)
]
MIXERS = [
    *MEMBERS,
    *OF_DIMS,
    Case("mixup-dominant", partial(RandomMixup, dominant=True), two(constant_share), spatial=False),
    Case(
        "resizemix-whole",
        partial(RandomResizeMix, scale=(1, 1)),
        two(outside_box, shrunk_into_box),
        has_alpha=False,
    ),
    CHOICE,
    Case("classmix", ClassMixOfAnything, two(on_mask), has_alpha=False),
    Case("copypaste", CopyPasteOfAnything, two(on_mask), has_alpha=False),
]

# Those in which a sample has one partner, whatever else is in the batch.
SINGLE = [case for case in MEMBERS if case.name != "mosaic"]
OF_ONE_PARTNER = [
    *SINGLE,
    *(case for case in MIXERS if case.name in ("mixup-dominant", "resizemix-whole")),
    choice_of(SINGLE),
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
every_mixer_of_one_partner = pytest.mark.parametrize("case", OF_ONE_PARTNER, ids=repr)
every_member = pytest.mark.parametrize("case", [*MEMBERS, *OF_DIMS], ids=repr)
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


def assert_law(case, *batch, **options):
    """Check every sample of a mixed batch against the law, in float64."""
    law.assert_law(case.parts, *batch, **options)
