"""The law's tests can fail: a kernel broken on purpose is caught."""

import pytest
import torch

from mixup_transforms import functional
from tests.mixers import MIXERS, assert_law
from tests.strategies import soft_labels


def mix_and_check(case):
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.rand(6, 3, 8, 12, generator=generator), soft_labels(6)
    mix = case.make(generator=generator)
    params = mix.make_params([x])
    mixed, mixed_labels = mix.replay(params, x, labels)
    assert_law(case, params, x, mixed, labels, mixed_labels)


@pytest.mark.parametrize("case", MIXERS, ids=repr)
def test_labels_with_lam_and_its_complement_swapped(case, monkeypatch):
    mix_and_check(case)
    honest = functional.mix_labels
    monkeypatch.setattr(
        functional, "mix_labels", lambda y, partner, lam, **kw: honest(y, partner, 1 - lam, **kw)
    )
    with pytest.raises(AssertionError, match="the label lies"):
        mix_and_check(case)


@pytest.mark.parametrize("case", MIXERS, ids=repr)
def test_lam_that_the_pixels_did_not_get(case, monkeypatch):
    make = case.make
    params_of = type(make()).make_params

    def drawn_elsewhere(self, flat_inputs):
        params = params_of(self, flat_inputs)
        return {**params, "lam": params["lam"].roll(1)}

    real_transform = type(make()).transform

    def honest_pixels(self, inpt, params):
        return real_transform(self, inpt, {**params, "lam": params["lam"].roll(-1)})

    monkeypatch.setattr(type(make()), "make_params", drawn_elsewhere)
    monkeypatch.setattr(type(make()), "transform", honest_pixels)
    with pytest.raises(AssertionError, match=r"a pixel is not the mix|lam is not the share"):
        mix_and_check(case)
