"""What a mixer of this package promises besides: params, gate, modes and streams."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mixup_transforms._core.streams import PLACE
from mixup_transforms._testing.law import Parts, assert_law
from mixup_transforms._testing.trial import (
    Trial,
    attempt,
    drawing_from,
    expect,
    global_states,
    own_states,
    same,
)


def evaluates(trial: Trial) -> None:
    """In ``eval()`` mode nothing is mixed, and nothing drawn."""
    mix = trial.fresh().eval()
    _unchanged(trial, mix, "in eval() mode")
    images, labels = trial.noise(), trial.labels(trial.some_classes())
    lam = trial.draw(mix, images, labels)["lam"]
    expect((lam == 1).all(), "in eval() mode make_params returns a lam that is not 1")
    with drawing_from(mix, trial.seed):
        before = own_states(mix)
        attempt("it", lambda: mix(images, labels))
        after = own_states(mix)
    expect(all(map(torch.equal, before, after)), "in eval() mode it draws from its stream")


def gates(trial: Trial) -> None:
    """A sample that is gated off is bit for bit its old self, even beside NaN."""
    mix = trial.fresh(p=0.0)
    lam = trial.draw(mix, trial.noise(), trial.soft_labels())["lam"]
    expect((lam == 1).all(), "with p=0 lam is not 1, and so the labels are changed")
    _unchanged(trial, mix, "with p=0")
    mix, images, labels = trial.fresh(p=0.5), trial.noise(), trial.soft_labels()
    params = trial.draw(mix, images, labels)
    off = params["lam"] == 1
    labels[~off] = torch.nan
    if trial.dtype.is_floating_point:
        images[~off] = torch.nan
    before, before_labels = images[off], labels[off]
    with drawing_from(mix, trial.seed):
        mixed, rows = attempt("replay", lambda: mix.replay(params, images, labels))
    expect(
        same(mixed[off], before), "a sample whose lam is 1 is changed, or takes NaN from a partner"
    )
    expect(same(rows[off], before_labels), "the label of a sample whose lam is 1 is changed")


def is_seeded(trial: Trial) -> None:
    """All that is random comes from the mixer's own stream."""
    images, labels = trial.noise(), trial.labels(trial.some_classes())
    mix = trial.fresh()
    with drawing_from(mix, trial.seed):
        before = global_states()
        attempt("it", lambda: mix(images, labels))
        after = global_states()
    for whose, state in after.items():
        expect(
            state == before[whose],
            f"{whose} global stream is drawn from, which its seed does not decide; "
            "draw with generator=plan.generator",
        )
    first, second = (trial.draw(trial.fresh(), images, labels) for _ in range(2))
    for name, value in first.items():
        expect(
            name in second and same(value, second[name]),
            f"its seed does not decide {name!r}; draw with generator=plan.generator",
        )


def draws_alike(trial: Trial) -> None:
    """The amount drawn depends on the batch and the settings alone."""
    batch = [trial.noise(), trial.labels(trial.some_classes())]

    def stands(seed: int, p: float) -> list[Tensor]:
        mix = trial.fresh(p=p)
        with drawing_from(mix, seed):
            attempt("make_params", partial(mix.make_params, batch))
            return own_states(mix)

    mixed = stands(trial.seed, 1.0)
    expect(
        all(map(torch.equal, stands(trial.seed, 0.0), mixed)),
        "the amount drawn is not fixed: its stream stands elsewhere after p=0 than after p=1",
    )
    pairs = zip(mixed, stands((trial.seed + 1) % 2**64, 1.0), strict=True)
    expect(
        all(torch.equal(one[PLACE], other[PLACE]) for one, other in pairs),
        "the amount drawn is not fixed: it depends on what is drawn",
    )


def forgets(trial: Trial) -> None:
    """A batch is mixed alike whatever was mixed before."""
    other = replace(trial, seed=(trial.seed + 1) % 2**64)
    images, labels = trial.noise(), trial.labels(trial.some_classes())
    expected = trial.call(trial.fresh(), images, labels)
    mix = trial.fresh()
    other.call(mix, other.noise(), other.labels(other.some_classes()))
    found = trial.call(mix, images, labels)
    expect(all(map(same, expected, found)), "what comes of a batch depends on the batch before")


def replays(trial: Trial) -> None:
    """A call is the replay of the params that the same seed draws, whenever it is replayed."""
    images, labels = trial.noise(), trial.labels(trial.some_classes())
    called = trial.call(trial.fresh(), images, labels)
    mix = trial.fresh()
    params = trial.draw(mix, images, labels)
    for _ in range(2):
        replayed = trial.replay(mix, params, images, labels)
        expect(
            same(called[0], replayed[0]), "a replay of its params has other pixels than the call"
        )
        expect(
            same(called[1], replayed[1]), "a replay of its params has other labels than the call"
        )


def combines(trial: Trial, meaning: Parts | None) -> None:
    """Random images and labels are combined as the params say."""
    images, labels = trial.noise(), trial.soft_labels()
    for per_sample in (True, False):
        mix = trial.fresh(per_sample=per_sample)
        try:
            params = trial.draw(mix, images, labels)
            mixed, rows = trial.replay(mix, params, images, labels)
            if meaning is not None:
                assert_law(meaning, params, images, mixed, labels, rows)
        except AssertionError as error:
            if per_sample:
                raise
            raise AssertionError(f"with per_sample=False {error}") from error.__cause__


def leaves_one_alone(trial: Trial) -> None:
    """A batch of one has no partner but itself."""
    if trial.batch == 1:
        _unchanged(trial, trial.fresh(), "in a batch of one")


def writes_in_place(trial: Trial) -> None:
    """With ``inplace`` the images given hold what is returned otherwise."""
    images, labels = trial.noise(), trial.labels(trial.some_classes())
    expected = trial.call(trial.fresh(), images, labels)
    found = trial.call(trial.fresh(inplace=True), images, labels, inplace=True)
    expect(found[0] is images, "inplace=True returns other images than it was given")
    expect(all(map(same, expected, found)), "inplace=True gives something else than inplace=False")


def _unchanged(trial: Trial, mix: object, when: str) -> None:
    images, classes = trial.noise(), trial.some_classes()
    mixed, rows = trial.call(mix, images, trial.labels(classes))  # type: ignore[arg-type]
    expect(same(mixed, images), f"{when} the images are changed")
    expect(same(rows, trial.rows(classes)), f"{when} the labels are changed")


FROM_INSIDE = (
    leaves_one_alone,
    gates,
    evaluates,
    is_seeded,
    draws_alike,
    replays,
    forgets,
    writes_in_place,
)
