"""The mixers that the law's tests run over: a new one joins by adding a line to MIXERS."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

from mixup_transforms import (
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    functional,
)
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


def make_choice(*, generator=None, per_sample=True, p=1.0, **shared):
    mixers = [case.make(p=p, **shared) for case in MEMBERS]
    weights = [1, 2, 2, 3, 2]
    return RandomChoice(mixers, weights=weights, per_sample=per_sample, generator=generator)


CHOSEN = [
    Case("mixup", RandomMixup, two(constant_share), spatial=False),
    Case("cutmix", RandomCutMix, two(outside_box)),
    Case("resizemix", RandomResizeMix, two(outside_box, shrunk_into_box), has_alpha=False),
    Case("fmix", RandomFMix, two(on_mask)),
]
MOSAIC = Case("mosaic", RandomMosaic, around_centre, has_alpha=False)
MEMBERS = [*CHOSEN, MOSAIC]
CHOICE = Case("choice", make_choice, of_choice([c.parts for c in MEMBERS]), has_alpha=False)
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


def assert_law(case, *batch, **options):
    """Check every sample of a mixed batch against the law, in float64."""
    law.assert_law(case.parts, *batch, **options)
