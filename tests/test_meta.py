"""The law's tests can fail: a kernel broken on purpose is caught."""

import pytest
import torch

from mixup_transforms._batch import labels
from tests.bits import same
from tests.cases import MIXERS, assert_law, every_mixer
from tests.strategies import generator_of, soft_labels


def mix_and_check(case):
    generator = generator_of(0)
    x, soft = torch.rand(6, 3, 8, 12, generator=generator), soft_labels(6)
    mix = case.make(generator=generator)
    params = mix.make_params([x])
    mixed, mixed_labels = mix.replay(params, x, soft)
    assert_law(case, params, x, mixed, soft, mixed_labels)


@every_mixer
def test_labels_with_lam_and_its_complement_swapped(case, monkeypatch):
    mix_and_check(case)
    honest = labels.mix_labels

    def lying(values, partner, lam, **options):
        return honest(values, partner, 1 - lam, **options)

    def lying_of_many(values, partner, share, **options):
        return honest_of_many(values, partner, share.flip(1), **options)

    honest_of_many = labels.mix_labels_of_many
    monkeypatch.setattr(labels, "mix_labels", lying)
    monkeypatch.setattr(labels, "mix_labels_of_many", lying_of_many)
    with pytest.raises(AssertionError, match="the label lies"):
        mix_and_check(case)


@pytest.mark.parametrize(
    "case", [case for case in MIXERS if case.name != "resizemix-whole"], ids=repr
)
def test_lam_that_the_pixels_did_not_get(case, monkeypatch):
    mixer = type(case.make())
    draw, apply = mixer.draw, mixer.apply

    def drawn_elsewhere(self, plan):
        params = draw(self, plan)
        return {**params, "lam": params["lam"].roll(1)}

    def honest_pixels(self, images, params, **options):
        return apply(self, images, {**params, "lam": params["lam"].roll(-1)}, **options)

    monkeypatch.setattr(mixer, "draw", drawn_elsewhere)
    monkeypatch.setattr(mixer, "realise", lambda self, params, images: params)
    monkeypatch.setattr(mixer, "apply", honest_pixels)
    with pytest.raises(AssertionError, match=r"a pixel is not the mix|lam is not the share"):
        mix_and_check(case)


def test_what_differs_in_one_bit_is_not_the_same():
    x = torch.tensor([0.0, torch.nan])
    assert same([x, (x[0],)], [x.clone(), (x[0],)])
    for other in (torch.tensor([-0.0, torch.nan]), -x, x.double(), x[None], x.view(torch.int32)):
        assert not same([x], [other])
    assert not same([x, x], [x])
