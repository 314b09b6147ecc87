"""The mixers that the law's tests run over: a new one joins by adding a line to MIXERS."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mixup_transforms import RandomMixup
from mixup_transforms._base import Mixer, Params


@dataclass(frozen=True)
class Case:
    """A mixer beside a plain statement of what its params mean for one sample.

    ``own_share(params, i, image)`` is m_i, broadcastable against the image; ``view(image, params,
    i)`` is T(partner).
    """

    name: str
    make: Callable[..., Mixer]
    own_share: Callable[[Params, int, Tensor], Tensor]
    view: Callable[[Tensor, Params, int], Tensor] = lambda image, params, i: image

    def __repr__(self):
        return self.name


def constant_share(params, i, image):
    return params["lam"][i].double()


MIXERS = [
    Case("mixup", RandomMixup, constant_share),
    Case("mixup-dominant", partial(RandomMixup, dominant=True), constant_share),
]


def assert_law(case: Case, params: Params, before: Tensor, after: Tensor, labels, mixed_labels):
    """Check every sample of a mixed batch against the law, in float64."""
    assert after.shape == before.shape
    assert after.dtype == before.dtype
    dtype, floating = before.dtype, before.is_floating_point()
    wide = dtype in (torch.float64, torch.int32, torch.int64)
    working = torch.finfo(torch.float64 if wide else torch.float32)
    for i, j in enumerate(params["partner"].tolist()):
        own, other = before[i], case.view(before[j], params, i)
        share = case.own_share(params, i, own)
        assert torch.isclose(params["lam"][i].double(), share.mean(), rtol=1e-6, atol=1e-7), (
            "lam is not the share of own pixels"
        )
        low, high = torch.minimum(own, other), torch.maximum(own, other)
        assert ((low <= after[i]) & (after[i] <= high)).all(), "a pixel leaves its parents' range"
        expected = share * own.double() + (1 - share) * other.double()
        slack = 4 * working.eps * torch.maximum(own.double().abs(), other.double().abs())
        if floating:
            slack += torch.finfo(dtype).eps * expected.abs() + torch.finfo(dtype).tiny
        else:
            slack += 0.5
        assert ((after[i].double() - expected).abs() <= slack).all(), "a pixel is not the mix"
        lam = params["lam"][i].double()
        target = lam * labels[i].double() + (1 - lam) * labels[j].double()
        assert torch.allclose(mixed_labels[i].double(), target, atol=1e-6), "the label lies"
