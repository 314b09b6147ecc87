"""The check for anybody's mixer: what it passes, what it catches, and how it says so."""

import dataclasses
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from mixup_transforms import BoxMixer, Mixer, OneHot, RandomCutMix, RandomMixup
from mixup_transforms.testing import check_mixer
from tests.cases import MIXERS
from tests.strategies import generator_of

DOCS = Path(__file__).parents[2] / "docs"
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
# Enough where a fault does not depend on the dtype.
PLAIN = {"dtypes": [torch.float32], "trials": 1}


def own_mixer():
    names = {"__name__": "own_mixer"}
    exec((DOCS / "own_mixer.py").read_text(), names)
    return names["RandomSideBySide"]


# What it passes.


@pytest.mark.parametrize("case", MIXERS, ids=repr)
def test_every_mixer_of_the_package_passes(case):
    check_mixer(case.make(generator=generator_of(3), num_classes=5), trials=1)
    check_mixer(case.make(), **PLAIN)


@pytest.mark.parametrize(
    "chosen",
    [{"p": 0.3}, {"per_sample": False}, {"inplace": True}, {"labels_getter": "y"}],
    ids=str,
)
def test_whatever_a_mixers_settings_are_it_passes(chosen):
    check_mixer(RandomCutMix(**chosen), **PLAIN)
    check_mixer(RandomCutMix(**chosen).eval(), **PLAIN)


def test_the_mixer_of_ones_own_passes():
    check_mixer(own_mixer()(alpha=0.5), trials=1)


def test_a_mixer_of_rows_passes_on_rows():
    check_mixer(RandomMixup(), shapes=[(), (1,), (5,)], dtypes=FLOATS, trials=1)


@pytest.mark.parametrize("num_classes", [10, 4, None])
@pytest.mark.parametrize("mixer", [v2.MixUp, v2.CutMix])
def test_torchvisions_mixers_pass_on_floats(mixer, num_classes):
    check_mixer(mixer(num_classes=num_classes), dtypes=FLOATS, trials=10)


def test_a_pipeline_passes():
    check_mixer(v2.Compose([OneHot(10), RandomMixup(generator=generator_of(0))]))


def test_a_mixer_in_a_pipeline_is_seeded_too():
    drawn = []

    class Telling(RandomMixup):
        def draw(self, plan):
            drawn.append(super().draw(plan))
            return drawn[-1]

    check_mixer(v2.Compose([OneHot(10), Telling(generator=generator_of(0))]), seed=4, **PLAIN)
    first, drawn[:] = drawn[-1]["lam"], []
    check_mixer(v2.Compose([OneHot(10), Telling(generator=generator_of(1))]), seed=4, **PLAIN)
    assert torch.equal(drawn[-1]["lam"], first)
    check_mixer(v2.Compose([OneHot(10), Telling(generator=generator_of(0))]), seed=5, **PLAIN)
    assert not torch.equal(drawn[-1]["lam"], first)


@pytest.mark.parametrize("wrap", [lambda mix: mix, lambda mix: v2.Compose([OneHot(10), mix])])
def test_a_mixer_and_the_global_streams_are_left_as_they_were(wrap):
    mix = RandomCutMix(p=0.5, generator=generator_of(0)).eval()

    def everything():
        streams = torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())
        return str(mix), mix.generator.get_state().tolist(), mix.training, streams

    before = everything()
    check_mixer(wrap(mix.train()), **PLAIN)
    mix.eval()
    assert everything() == before
    check_mixer(mix, **PLAIN)
    assert everything() == before


def test_torchs_default_device_and_dtype_change_nothing():
    with torch.device("meta"):
        check_mixer(RandomCutMix(), **PLAIN)
    torch.set_default_dtype(torch.float64)
    try:
        check_mixer(RandomMixup(), **PLAIN)
    finally:
        torch.set_default_dtype(torch.float32)


# What it catches: mixers of this package's base.


class Swapped(RandomMixup):
    def draw(self, plan):
        params = super().draw(plan)
        return {**params, "lam": 1 - params["lam"]}

    def apply(self, images, params, **options):
        return super().apply(images, {**params, "lam": 1 - params["lam"]}, **options)


class Unclipped(RandomCutMix):
    def draw(self, plan):
        lam = plan.draw_lam(self.alpha)
        height, width = plan.size
        side = (1 - lam).sqrt()
        place = torch.rand(2, plan.rows, generator=plan.generator)
        low = torch.stack((place[0] * width, place[1] * height), 1)
        half = side[:, None] / 2 * torch.tensor([width, height])
        limit = torch.tensor([width, height])
        box = torch.cat((low - half, low + half), 1).round().long()
        return plan.params(lam=lam, box=box.clamp(min=0).minimum(limit.repeat(2)))


class Turned(BoxMixer):
    """Takes the width for the height."""

    def draw(self, plan):
        width, height = plan.size
        box = torch.tensor([0, 0, (width + 1) // 2, height]) * plan.mixed[:, None]
        return plan.params(lam=1 - box[:, 2] * box[:, 3] / (height * width), box=box)


class Writing(RandomMixup):
    def apply(self, images, params, *, others=None, inplace=False):
        return super().apply(images, params, others=others, inplace=True)


class Unseeded(RandomMixup):
    def draw(self, plan):
        lam = torch.where(plan.mixed, torch.rand(plan.rows), 1.0)
        return plan.params(lam=lam)


class OfNumPy(RandomMixup):
    def draw(self, plan):
        lam = torch.where(plan.mixed, np.random.rand(), 1.0)
        return plan.params(lam=lam)


class OfNobody(RandomMixup):
    def draw(self, plan):
        lam = torch.where(plan.mixed, random.SystemRandom().random(), 1.0)
        return plan.params(lam=lam)


class DrawingWhileApplied(RandomMixup):
    def apply(self, images, params, **options):
        torch.rand(())
        return super().apply(images, params, **options)


class LabelsAlways(RandomCutMix):
    def draw(self, plan):
        params = super().draw(plan)
        return {**params, "lam": torch.where(plan.mixed, params["lam"], 0.5)}


class PixelsAlways(BoxMixer):
    def draw(self, plan):
        height, width = plan.size
        box = torch.tensor([0, 0, width, height]).repeat(plan.rows, 1)
        return plan.params(lam=torch.where(plan.mixed, 0.0, 1.0), box=box)


class Sleepless(RandomCutMix):
    def forward(self, *inputs):
        return self.replay(self.make_params([*inputs]), *inputs)

    def plan(self, batch, partner, generator, *, off, **more):
        training, self.training = self.training, True
        plan = super().plan(batch, partner, generator, off=off, **more)
        self.training = training
        return plan


class Restive(RandomCutMix):
    """Draws what it would mix in eval mode too."""

    def plan(self, batch, partner, generator, *, off, **more):
        mixed = torch.full((len(partner) if self.per_sample else 1,), not off)
        plan = super().plan(batch, partner, generator, off=off, **more)
        return plan if self.training else dataclasses.replace(plan, mixed=mixed)


class Crossed(RandomCutMix):
    """Draws boxes for images of the other shape."""

    def draw(self, plan):
        box = torch.tensor([0, 0, 0, plan.size[1]]) * plan.mixed[:, None]
        return plan.params(lam=torch.ones(plan.rows), box=box)


class Redrawing(RandomCutMix):
    def replay(self, params, *inputs):
        return super().replay(self.make_params([*inputs]), *inputs)


class NeverAlone(RandomMixup):
    def draw(self, plan):
        if len(plan.partner) == 1:
            raise IndexError("no partner in a batch of 1")
        return super().draw(plan)


class Wrapping(RandomMixup):
    """Takes the mean of two images in their own dtype."""

    def draw(self, plan):
        return plan.params(lam=torch.where(plan.mixed, 0.5, 1.0))

    def apply(self, images, params, **options):
        mixed = super().apply(images, params, **options)
        if images.dtype == torch.uint8:
            half = params["lam"] == 0.5
            mixed[half] = (images + images[params["partner"]])[half] // 2
        return mixed


class Truncating(RandomMixup):
    def apply(self, images, params, **options):
        if images.dtype != torch.uint8:
            return super().apply(images, params, **options)
        lam = params["lam"].view(-1, *[1] * (images.ndim - 1))
        return (lam * images + (1 - lam) * images[params["partner"]]).byte()


class OfAnother(RandomMixup):
    """Mixes pixels with one partner and labels with the next."""

    def apply(self, images, params, **options):
        partner = params["partner"]
        return super().apply(images, {**params, "partner": partner[partner]}, **options)


class Spreading(RandomMixup):
    """Multiplies a partner that does not count by 0."""

    def apply(self, images, params, **options):
        if not images.is_floating_point():
            return super().apply(images, params, **options)
        lam = params["lam"].view(-1, *[1] * (images.ndim - 1)).double()
        return (lam * images + (1 - lam) * images[params["partner"]]).to(images.dtype)


class Rejecting(RandomMixup):
    """Draws as long as it does not like what it gets."""

    def draw(self, plan):
        lam = plan.draw_lam(self.alpha)
        if plan.mixed.any():
            plan.draw_lam(self.alpha)
        return plan.params(lam=lam)


class Waiting(RandomMixup):
    """Draws until it likes what it gets, mixed or not."""

    def draw(self, plan):
        while torch.rand((), generator=plan.generator) < 0.8:
            pass
        return super().draw(plan)


class Keeping(RandomMixup):
    """Draws for the first batch, and has the same for all others of its size."""

    def draw(self, plan):
        kept = self.__dict__.setdefault("_kept", {})
        return kept.setdefault(plan.rows, super().draw(plan))


class Wide(RandomMixup):
    def draw(self, plan):
        return {**super().draw(plan), "lam": plan.draw_lam(self.alpha).double()}


class Rowless(RandomMixup):
    def draw(self, plan):
        return {**super().draw(plan), "angle": torch.zeros(())}


class Copying(RandomCutMix):
    def apply(self, images, params, *, others=None, inplace=False):
        return super().apply(images, params, others=others)

    def _mix(self, batch, params, pool=None):
        inplace, self.inplace = self.inplace, False
        result = super()._mix(batch, params, pool)
        self.inplace = inplace
        return result


class Overwriting(RandomMixup):
    """Mixes in place with partners that are mixed already."""

    def apply(self, images, params, *, others=None, inplace=False):
        if not inplace:
            return super().apply(images, params, others=others)
        for i, j in enumerate(params["partner"].tolist()):
            own = {"partner": torch.tensor([0]), "lam": params["lam"][i : i + 1]}
            images[i : i + 1] = super().apply(images[i : i + 1], own, others=images[j : j + 1])
        return images


class Wakeful(RandomMixup):
    """Draws in eval mode what it does not need."""

    def forward(self, *inputs):
        torch.rand((), generator=self.generator)
        return super().forward(*inputs)


class Restless(RandomMixup):
    """Turns a sample that has no partner."""

    def apply(self, images, params, **options):
        mixed = super().apply(images, params, **options)
        return mixed.flip(-1, -2) if len(images) == 1 else mixed


class OneForEach(RandomMixup):
    """Draws one for each sample, whatever per_sample says."""

    def draw(self, plan):
        lam = torch.rand(len(plan.partner), generator=plan.generator)
        lam[~plan.mixed] = 1.0
        return plan.params(lam=lam)


class Consuming(RandomMixup):
    def replay(self, params, *inputs):
        mixed = super().replay(params, *inputs)
        params["lam"].fill_(1.0)
        return mixed


class SpreadingLabels(RandomMixup):
    def replay(self, params, *inputs):
        images, rows = super().replay(params, *inputs)
        return images, rows + 0 * rows.sum()


class Crossing(BoxMixer):
    """Shows its partner upside down, which a box does not say."""

    def draw(self, plan):
        height, width = plan.size
        box = torch.tensor([0, 0, width, height]) * plan.mixed[:, None]
        return plan.params(lam=torch.where(plan.mixed, 0.0, 1.0), box=box)

    def apply(self, images, params, *, others=None, inplace=False):
        others = (images if others is None else others).flip(-2)
        return super().apply(images, params, others=others, inplace=inplace)


PLAN = r"draw with generator=plan\.generator"
BROKEN = [
    (Swapped, r"the label lies: 0\.\d+ of sample \d is of class \d, which its label gives 0\.\d+"),
    (Unclipped, "the label lies"),
    (Turned, "the label lies"),
    (Writing, "the images that it was given are changed"),
    (Unseeded, f"torch's global stream is drawn from.*{PLAN}"),
    (OfNumPy, f"NumPy's global stream is drawn from.*{PLAN}"),
    (OfNobody, f"its seed does not decide 'lam'; {PLAN}"),
    (DrawingWhileApplied, "torch's global stream is drawn from"),
    (LabelsAlways, "with p=0 lam is not 1, and so the labels are changed"),
    (PixelsAlways, "with p=0 the images are changed"),
    (Sleepless, r"in eval\(\) mode the images are changed"),
    (Restive, r"in eval\(\) mode make_params returns a lam that is not 1"),
    (Crossed, "replay raises ValueError: box must be x1, y1, x2, y2"),
    (Redrawing, "a replay of its params has other pixels than the call"),
    (NeverAlone, "it raises IndexError: no partner in a batch of 1"),
    (Wrapping, "a pixel leaves its parents' range"),
    (Truncating, "the label lies"),
    (OfAnother, "the label lies"),
    (Spreading, "a sample whose lam is 1 is changed, or takes NaN from a partner"),
    (Rejecting, "the amount drawn is not fixed"),
    (Waiting, "the amount drawn is not fixed: it depends on what is drawn"),
    (Keeping, "what comes of a batch depends on the batch before"),
    (Wide, "'lam' of make_params must be torch.float32"),
    (Rowless, r"'angle' of make_params is float32 \(\), without a row for each sample"),
    (Copying, "inplace=True returns other images"),
    (Overwriting, "inplace=True gives something else than inplace=False"),
    (Wakeful, r"in eval\(\) mode it draws from its stream"),
    (Restless, "in a batch of one the images are changed"),
    (OneForEach, "with per_sample=False make_params raises IndexError"),
    (Consuming, "a replay of its params has other pixels than the call"),
    (SpreadingLabels, "the label of a sample whose lam is 1 is changed"),
    (Crossing, "a pixel leaves its parents' range|a pixel is not the mix"),
]


@pytest.mark.parametrize(
    ("broken", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_mixer_is_caught_by_the_right_word(broken, words):
    with pytest.raises(AssertionError, match=words):
        check_mixer(
            broken(), batch_sizes=[1] if broken in (NeverAlone, Restless) else [2, 7], trials=1
        )
    with pytest.raises(AssertionError):
        check_mixer(broken())


# Functions, as another library's mixers are to the check.


def half(images, labels):
    """An honest one."""
    rows = F.one_hot(labels, 10).float()
    mixed = 0.5 * images.double() + 0.5 * images.flip(0).double()
    if not images.is_floating_point():
        mixed = mixed.round()
    return mixed.to(images.dtype), 0.5 * rows + 0.5 * rows.flip(0)


def swapped(images, labels):
    rows = F.one_hot(labels, 10).float()
    mixed = 0.75 * images.double() + 0.25 * images.flip(0).double()
    return mixed.to(images.dtype), 0.25 * rows + 0.75 * rows.flip(0)


def of_thirds(images, labels):
    """A third of the rows of the partner, whatever the height: 1 / 3 is told."""
    height = images.shape[-2]
    mixed, rows = images.clone(), F.one_hot(labels, 10).float()
    mixed[..., : height // 3, :] = images.flip(0)[..., : height // 3, :]
    return mixed, 2 / 3 * rows + 1 / 3 * rows.flip(0)


def writing(images, labels):
    images[:] = half(images, labels)[0]
    return images, half(images, labels)[1]


def writing_labels(images, labels):
    mixed = half(images, labels)
    labels.zero_()
    return mixed


def pairs_only(images, labels):
    assert len(images) % 2 == 0, "Batch size should be even"
    return half(images, labels)


def widening(images, labels):
    mixed, rows = half(images, labels)
    return mixed.float(), rows


def hardening(images, labels):
    return half(images, labels)[0], labels


def losing(images, labels):
    mixed, rows = half(images, labels)
    return mixed, 0.9 * rows


def below_zero(images, labels):
    mixed, rows = half(images, labels)
    return mixed, rows + torch.tensor([0.1, -0.1] + 8 * [0])


def a_third_item(images, labels):
    return *half(images, labels), 0.5


def brightening(images, labels):
    mixed, rows = half(images, labels)
    return mixed * 1.01, rows


def blanking(images, labels):
    """Shows grey where nobody's pixels are."""
    mixed, rows = half(images, labels)
    return torch.full_like(mixed, 0.5), rows


def with_holes(images, labels):
    mixed, rows = half(images, labels)
    return mixed / 0, rows


def of_others(images, labels):
    mixed, rows = half(images, labels)
    return mixed, rows.roll(1, dims=1)


def of_nobody(images, labels):
    mixed, rows = half(images, labels)
    return mixed, torch.where(rows == 0.5, torch.nan, rows)


def four_swapped(images, labels):
    rows = F.one_hot(labels, 10).float()
    return images, rows.flip(0) if len(rows) == 4 else rows


FUNCTIONS = [
    (of_nobody, "a label is no distribution: that of sample 0 sums to nan"),
    (four_swapped, "the label lies: . of sample . is of class"),
    (swapped, "the label lies: 0.25 of sample 0 is of class ., which its label gives 0.75"),
    (of_thirds, "the label lies: 0 of sample . is of class ., which its label gives 0.333"),
    (writing, "the images that it was given are changed"),
    (writing_labels, "the labels that it was given are changed"),
    (pairs_only, "it raises AssertionError: Batch size should be even"),
    (widening, r"images come back as float32 \(2, 3, 1, 9\), not as float64"),
    (hardening, r"labels come back as int64 \(2,\), not as float \(2, 10\)"),
    (losing, "a label is no distribution: that of sample 0 sums to 0.9"),
    (below_zero, "a label is no distribution: .* its least weight is -0.1"),
    (a_third_item, r"it returns tuple, not tensors \(images, labels\)"),
    (brightening, "a pixel leaves its parents' range: .* come back as .1.0"),
    (blanking, "a pixel leaves its parents' range: .* come back as .0.5"),
    (with_holes, "a pixel leaves its parents' range: .* come back as .inf"),
    (of_others, "the label lies: where all samples of a batch are of one class"),
    (v2.RandomApply([v2.MixUp(num_classes=10)], p=0.5), "labels come back as int64"),
    (v2.MixUp(num_classes=10), "it raises RuntimeError: result type Float can't be cast"),
]


def test_an_honest_function_passes():
    check_mixer(half)


def test_a_fault_of_four_samples_alone_is_found():
    with pytest.raises(AssertionError, match="a batch of 4"):
        check_mixer(four_swapped)


@pytest.mark.parametrize(
    ("broken", "words"), FUNCTIONS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_function_is_caught_by_the_right_word(broken, words):
    sizes = [2, 7] if broken is pairs_only else [2, 4]
    with pytest.raises(AssertionError, match=words):
        check_mixer(broken, batch_sizes=sizes)


# What it says of params.


class Ramp(Mixer):
    """Fades from left to right, from the sample to its partner."""

    spatial = True

    def draw(self, plan):
        lam = torch.where(plan.mixed, 0.5, 1.0)
        return plan.params(lam=lam)

    def apply(self, images, params, *, others=None, inplace=False):
        own = torch.stack([self.share(params, i, image) for i, image in enumerate(images)])
        own = own.view(len(images), *[1] * (images.ndim - 2), -1)
        others = images if others is None else others
        mixed = torch.where(own == 1, images, own * images + (1 - own) * others[params["partner"]])
        return images.copy_(mixed) if inplace else mixed.to(images.dtype)

    def realise(self, params, images):
        return {"lam": params["lam"]}

    @staticmethod
    def share(params, i, image):
        fading = torch.linspace(1, 0, image.shape[-1] + 2, dtype=torch.float64)[1:-1]
        return fading if params["lam"][i] < 1 else torch.ones_like(fading)


def test_own_share_says_what_params_mean_where_no_base_does():
    floats = {"dtypes": [torch.float32, torch.float64], "batch_sizes": [1, 2, 5]}
    check_mixer(Ramp(), **floats)
    check_mixer(Ramp(), own_share=Ramp.share, **floats)
    with pytest.raises(AssertionError, match=r"a pixel is not the mix[^$]*own_share=own_share\)"):
        check_mixer(
            Ramp(),
            own_share=lambda params, i, image: Ramp.share(params, i, image).flip(0),
            **floats,
        )
    with pytest.raises(AssertionError, match="lam is not the share of own pixels: sample 0 keeps"):
        check_mixer(Ramp(), own_share=lambda params, i, image: torch.tensor(0.3).double(), **floats)


def test_view_says_what_is_seen_of_a_partner():
    check_mixer(Crossing(), view=lambda params, i, image: image.flip(-2), **PLAIN)
    with pytest.raises(AssertionError, match=r"view=view\)"):
        check_mixer(Crossing(), view=lambda params, i, image: image.flip(-1), **PLAIN)


# How it says it.


LINE = re.compile(r"to repeat it: (check_mixer\(.*\))$", re.DOTALL)


def repeated(message, mixer):
    """Run the line that a message ends with."""
    with pytest.raises(AssertionError) as again:
        eval(LINE.search(message)[1], {"check_mixer": check_mixer, "mixer": mixer, "torch": torch})
    return str(again.value)


@pytest.mark.parametrize("broken", [Swapped(), Unclipped(), of_thirds, Truncating()], ids=repr)
def test_the_line_that_it_ends_with_repeats_what_it_says(broken):
    with pytest.raises(AssertionError) as caught:
        check_mixer(broken, seed=5, num_classes=7 if isinstance(broken, Mixer) else 10)
    assert repeated(str(caught.value), broken) == str(caught.value)


@settings(max_examples=10)
@given(
    batch=st.integers(2, 6),
    width=st.integers(1, 6),
    dtype=st.sampled_from(FLOATS),
    seed=st.integers(0, 2**64 - 10),
)
def test_the_case_that_it_shows_is_the_smallest_that_fails(batch, width, dtype, seed):
    def broken(images, labels):
        fails = len(images) >= batch and images.shape[-1] >= width and images.dtype == dtype
        return (losing if fails else half)(images, labels)

    with pytest.raises(AssertionError) as caught:
        check_mixer(
            broken,
            batch_sizes=[*range(7, 0, -1)],
            shapes=[(2, side) for side in range(6, 0, -1)],
            dtypes=FLOATS,
            seed=seed,
        )
    said = f"smallest failing case: a batch of {batch}, each (2, {width}), {dtype}, seed {seed}\n"
    assert said in str(caught.value)


def test_a_mixer_is_named_by_its_settings_and_a_function_by_its_name():
    with pytest.raises(AssertionError, match=r"\nmixer: Swapped\(alpha=0\.3, p=1\.0, .*\)\n"):
        check_mixer(Swapped(alpha=0.3), **PLAIN)
    with pytest.raises(AssertionError, match=r"\nmixer: swapped\n"):
        check_mixer(swapped, **PLAIN)
    with pytest.raises(AssertionError, match=r"\nmixer: RandomApply\( MixUp\(.*\)\)\n"):
        check_mixer(v2.RandomApply([v2.MixUp(num_classes=10)], p=0.0), **PLAIN)


def test_what_a_mixer_raises_is_the_cause():
    with pytest.raises(AssertionError) as caught:
        check_mixer(NeverAlone(), **PLAIN)
    assert isinstance(caught.value.__cause__, IndexError)


def test_the_law_is_checked_without_assert_statements():
    for path in (Path(check_mixer.__code__.co_filename).parent / "_testing").glob("*.py"):
        assert not re.search(r"^ *assert ", path.read_text(), re.MULTILINE), "python -O drops it"
