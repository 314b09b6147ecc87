"""Values of the epoch, and nothing else: whatever the way to it, and all of them or none."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR
from torchvision.transforms import v2

from mixup_transforms import (
    MixCollate,
    Mixer,
    MixScheduler,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    RandomResizeMix,
)
from mixup_transforms._core import checks
from mixup_transforms._core.settings import Followed
from tests.strategies import generator_of

MIX = RandomMixup()
EPOCHS = 12
tables = st.lists(st.floats(0, 1), min_size=EPOCHS, max_size=EPOCHS)
positive_tables = st.lists(st.floats(0, 100, exclude_min=True), min_size=EPOCHS, max_size=EPOCHS)


def choice():
    members = [RandomMixup(p=0.5), RandomResizeMix(p=0.5), RandomCutMix(p=0.5)]
    return RandomChoice(members, generator=generator_of(0))


def settings_of(mix):
    members = [*mix.transforms] if isinstance(mix, RandomChoice) else []
    return [(each.p, getattr(each, "alpha", None)) for each in (mix, *members)]


@given(
    ps=tables,
    alphas=positive_tables,
    moves=st.lists(st.none() | st.integers(0, EPOCHS - 1), max_size=20),
)
def test_the_values_are_those_of_the_epoch_however_it_was_reached(ps, alphas, moves):
    mix = RandomMixup()
    scheduler = MixScheduler(mix, p=ps.__getitem__, alpha=alphas.__getitem__)
    epoch = 0
    for move in (*moves, 0):
        assert scheduler.last_epoch == epoch
        assert (mix.p, mix.alpha) == (ps[epoch], alphas[epoch])
        if move is None and epoch + 1 < EPOCHS:
            scheduler.step()
            epoch += 1
        elif move is not None:
            scheduler.load_state_dict({"last_epoch": move})
            epoch = move


def test_epochs_are_counted_as_lambda_lr_counts_them():
    def decay(epoch):
        return 0.9**epoch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    mix = RandomMixup(p=0.1)
    theirs, ours = LambdaLR(optimizer, decay), MixScheduler(mix, p=decay)
    for _ in range(5):
        assert mix.p == optimizer.param_groups[0]["lr"]
        assert ours.last_epoch == theirs.last_epoch
        optimizer.step()
        theirs.step()
        ours.step()


@pytest.mark.parametrize("name", ["p", "alpha"])
def test_what_has_no_function_stays_as_it_is(name):
    mix = RandomMixup(p=0.3, alpha=0.4)
    scheduler = MixScheduler(mix, **{name: lambda epoch: 1 / (epoch + 2)})
    scheduler.step()
    kept = {"p": 0.3, "alpha": 0.4}
    assert {"p": mix.p, "alpha": mix.alpha} == {**kept, name: 1 / 3}


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_numbers_of_any_kind_are_values(number):
    mix = RandomMixup()
    MixScheduler(mix, p=lambda epoch: number, alpha=lambda epoch: number)
    assert (mix.p, mix.alpha) == (number, number)


def test_of_a_choice_its_own_gate_and_the_alpha_of_its_members():
    mix = choice()
    scheduler = MixScheduler(mix, p=lambda epoch: 1 / (epoch + 1), alpha=lambda epoch: epoch + 0.25)
    for epoch in range(3):
        alpha = epoch + 0.25
        assert settings_of(mix) == [
            (1 / (epoch + 1), None),
            (0.5, alpha),
            (0.5, None),
            (0.5, alpha),
        ]
        scheduler.step()


def test_a_member_may_have_a_scheduler_of_its_own():
    mix = choice()
    gates = MixScheduler(mix, p=lambda epoch: 0.75)
    member = MixScheduler(mix.transforms[2], p=lambda epoch: 0.25, alpha=lambda epoch: 2.0)
    gates.step()
    member.step()
    assert settings_of(mix) == [(0.75, None), (0.5, 1.0), (0.5, None), (0.25, 2.0)]


def test_a_mixer_follows_inside_of_what_holds_it():
    mix = RandomMixup(num_classes=4)
    samples = [(torch.full((2,), float(i)), i) for i in range(4)]
    collate = MixCollate(v2.Compose([torch.nn.Identity(), mix]))
    scheduler = MixScheduler(mix, p=lambda epoch: float(epoch == 0))
    assert (collate(samples)[1].max(dim=1).values < 1).all()
    scheduler.step()
    assert torch.equal(collate(samples)[1], torch.eye(4))


@pytest.mark.parametrize("make", [lambda: RandomMixup(generator=generator_of(0)), choice])
def test_a_resumed_run_goes_on_as_the_whole_one(make):
    def begin():
        mix = make()
        images = torch.arange(8.0)[:, None, None, None].expand(8, 1, 6, 6)
        scheduler = MixScheduler(mix, p=lambda epoch: 1 - epoch / 8, alpha=lambda epoch: 2.0**epoch)

        def train(epochs):
            for _ in range(epochs):
                yield from (mix(images, torch.eye(8))[0] for _ in range(3))
                scheduler.step()

        return mix, scheduler, train

    _, _, train = begin()
    whole = [*train(6)]
    mix, scheduler, train = begin()
    stopped = [*train(4)]
    file = io.BytesIO()
    torch.save({"mix": mix.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)

    resumed, scheduler, train = begin()
    resumed.load_state_dict(checkpoint["mix"])
    scheduler.load_state_dict(checkpoint["scheduler"])
    assert scheduler.last_epoch == 4
    assert settings_of(resumed) == settings_of(mix)
    assert torch.equal(torch.stack([*stopped, *train(2)]), torch.stack(whole))


# The door


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: MixScheduler(RandomMixup, p=abs),
            TypeError,
            r"^mixer must be an instance, such as RandomMixup\(...\), got the class RandomMixup$",
        ),
        (
            lambda: MixScheduler(v2.Compose([OneHot(3), MIX]), p=abs),
            TypeError,
            r"^mixer must be a mixer, .* got Compose; of a pipeline or a MixCollate give the mixer",
        ),
        (lambda: MixScheduler(MixCollate(MIX), p=abs), TypeError, "got MixCollate; of a pipeline"),
        (lambda: MixScheduler(OneHot(3), p=abs), TypeError, "got OneHot"),
        (lambda: MixScheduler([MIX], p=abs), TypeError, "got list"),
        (lambda: MixScheduler(MIX), TypeError, "^p, alpha or both must be given, such as p=lambda"),
        (
            lambda: MixScheduler(MIX, p=0.25),
            TypeError,
            r"^p must be a function of the epoch, such as p=lambda epoch: 0\.25, got 0\.25$",
        ),
        (
            lambda: MixScheduler(MIX, alpha=[0.5]),
            TypeError,
            r"^alpha must be a function .*, such as alpha=lambda epoch: 0\.5, got \[0\.5\]$",
        ),
        (
            lambda: MixScheduler(RandomResizeMix(), alpha=abs),
            ValueError,
            "^alpha must be for a mixer that has one, got RandomResizeMix$",
        ),
        (
            lambda: MixScheduler(RandomChoice([RandomResizeMix()] * 2), p=abs, alpha=abs),
            ValueError,
            "^alpha must be for a mixer that has one, got RandomResizeMix, RandomResizeMix$",
        ),
        (lambda: MixScheduler(MIX, alpha=abs), ValueError, "^at epoch 0, alpha must be above 0"),
    ],
)
def test_what_cannot_be_scheduled(make, error, message):
    before = settings_of(MIX)
    with pytest.raises(error, match=message):
        make()
    assert settings_of(MIX) == before


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"p": 1.5}, ValueError, r"^at epoch 2, p must lie in \[0, 1\], got 1\.5$"),
        ({"p": -0.1}, ValueError, r"^at epoch 2, p must lie in \[0, 1\], got -0\.1$"),
        ({"p": float("nan")}, ValueError, "^at epoch 2, p must be finite, got nan$"),
        ({"p": None}, TypeError, r"^at epoch 2, p must be a number, got None \(NoneType\)$"),
        ({"p": torch.ones(())}, TypeError, r"^at epoch 2, p must be a number, got tensor\(1\.\)"),
        ({"alpha": 0}, ValueError, "^at epoch 2, alpha must be above 0, got 0$"),
        ({"alpha": float("inf")}, ValueError, "^at epoch 2, alpha must be finite, got inf$"),
        ({"alpha": "high"}, TypeError, "^at epoch 2, alpha must be a number, got 'high'"),
        ({"p": 2, "alpha": -1}, ValueError, "^at epoch 2, p must lie in"),
    ],
)
@pytest.mark.parametrize("make", [lambda: RandomMixup(p=0.1, alpha=0.2), choice])
@pytest.mark.parametrize("way", ["step", "load"])
def test_a_value_out_of_range_names_its_epoch_and_nothing_is_torn(
    make, way, values, error, message
):
    mix = make()
    scheduler = MixScheduler(
        mix,
        p=lambda epoch: values.get("p", 0.9) if epoch == 2 else 0.25 * epoch,
        alpha=lambda epoch: values.get("alpha", 9.0) if epoch == 2 else 1.0 + epoch,
    )
    scheduler.step()
    before = settings_of(mix)
    with pytest.raises(error, match=message):
        scheduler.step() if way == "step" else scheduler.load_state_dict({"last_epoch": 2})
    assert settings_of(mix) == before
    assert scheduler.last_epoch == 1
    scheduler.load_state_dict({"last_epoch": 3})
    assert settings_of(mix)[0][0] == 0.75


def test_a_function_that_fails_leaves_the_mixer_as_it_was():
    mix = RandomMixup()
    scheduler = MixScheduler(
        mix, p=lambda epoch: 1 - epoch / 4, alpha=lambda epoch: 1 / (1 - epoch)
    )
    with pytest.raises(ZeroDivisionError):
        scheduler.step()
    assert settings_of(mix) == [(1.0, 1.0)]
    assert scheduler.last_epoch == 0


def test_a_member_that_refuses_a_value_takes_it_back_from_all():
    def at_most_two(name, value):
        if checks.positive(name, value) > 2:
            raise ValueError(f"{name} must be 2 at most, got {value}")
        return float(value)

    class Mild(RandomMixup):
        alpha = Followed(at_most_two, "α")

    class Fixed(Mixer):
        draw = apply = realise = None

        @property
        def alpha(self):
            return 0.5

    mix = RandomChoice([RandomMixup(), Mild(), RandomCutMix()])
    scheduler = MixScheduler(mix, p=lambda epoch: 1 / (1 + epoch), alpha=lambda epoch: 1.5 + epoch)
    before = settings_of(mix)
    with pytest.raises(ValueError, match=r"^at epoch 1, alpha must be 2 at most, got 2\.5$"):
        scheduler.step()
    assert settings_of(mix) == before
    fixed = RandomChoice([RandomMixup(), Fixed()])
    with pytest.raises(AttributeError):
        MixScheduler(fixed, p=lambda epoch: 0.5, alpha=lambda epoch: 2.0)
    assert settings_of(fixed) == [(1.0, None), (1.0, 1.0), (1.0, 0.5)]


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"last_epoch": -1}, ValueError, "^last_epoch must be at least 0, got -1$"),
        ({"last_epoch": 1.0}, TypeError, "^last_epoch must be an integer, got 1.0"),
        ({}, ValueError, r"^state_dict must be what .* {'last_epoch': epoch}, got dict of \[\]$"),
        ({"last_epoch": 3, "base_lrs": [1]}, ValueError, r"got dict of \['last_epoch', 'base_lrs'"),
        (3, ValueError, "got int$"),
        (None, ValueError, "got NoneType$"),
    ],
)
def test_what_is_no_state(state, error, message):
    mix = RandomMixup()
    scheduler = MixScheduler(mix, p=lambda epoch: 1 / (1 + epoch))
    scheduler.step()
    with pytest.raises(error, match=message):
        scheduler.load_state_dict(state)
    assert (scheduler.last_epoch, mix.p) == (1, 0.5)


def test_the_epoch_is_not_set_by_hand():
    with pytest.raises(AttributeError):
        MixScheduler(RandomMixup(), p=lambda epoch: 1.0).last_epoch = 3
