"""The mixers that the law's tests run over: a new one joins by adding a line to MIXERS."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from mixup_transforms import (
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomResizeMix,
    functional,
)
from mixup_transforms._mixers.base import Mixer, Params
from mixup_transforms._testing.law import (
    as_it_is,
    constant_share,
    of_choice,
    on_mask,
    outside_box,
    shrunk_into_box,
)


@dataclass(frozen=True)
class Case:
    """A mixer beside a plain statement of what its params mean for one sample.

    ``own_share(params, i, image)`` is m_i, broadcastable against the image; ``view(image, params,
    i)`` is T(partner).
    """

    name: str
    make: Callable[..., Mixer]
    own_share: Callable[[Params, int, Tensor], Tensor]
    view: Callable[[Tensor, Params, int], Tensor] = as_it_is
    spatial: bool = True
    has_alpha: bool = True

    def __repr__(self):
        return self.name

    @property
    def resizes(self):
        """Whether pixels come from a resize, which differs in the last bits from way to way."""
        return self.name.startswith(("resizemix", "choice"))


def make_choice(*, generator=None, per_sample=True, p=1.0, **shared):
    mixers = [case.make(p=p, **shared) for case in CHOSEN]
    return RandomChoice(mixers, weights=[1, 2, 2, 3], per_sample=per_sample, generator=generator)


CHOSEN = [
    Case("mixup", RandomMixup, constant_share, spatial=False),
    Case("cutmix", RandomCutMix, outside_box),
    Case("resizemix", RandomResizeMix, outside_box, shrunk_into_box, has_alpha=False),
    Case("fmix", RandomFMix, on_mask),
]
CHOICE = of_choice(CHOSEN)
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
    Case("choice", make_choice, CHOICE.own_share, CHOICE.view, has_alpha=False),
]


# The kernel of each, and the params that it takes besides the partner.
KERNELS = {
    "mixup": (functional.mixup, "lam"),
    "cutmix": (functional.cutmix, "box"),
    "resizemix": (functional.resizemix, "box"),
    "fmix": (functional.fmix, "mask"),
}
