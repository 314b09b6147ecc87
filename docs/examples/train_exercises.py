"""Sequences
=========

Recognise shoulder exercises from two seconds of a smartwatch, of people who were not in training.

Ten people did seven exercises with a watch that measured acceleration and rotation along three
axes, 50 times a second (Burns, Leung, Hardisty, Whyne, Henry, McLachlin, *Shoulder Physiotherapy
Exercise Recognition: Machine Learning the Inertial Signals from a Smartwatch*, 2018, arXiv
1802.01489; the package seglearn brings the data). A network is trained on windows of some of the
people and tested on those of all others. Mixup blends two windows; with ``dims=1`` CutMix shows a
span of the partner's, and FMix one or several.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from seglearn.datasets import load_watch
from torch import Tensor, nn
from training import (
    batches,
    draw_curves,
    generators,
    option_parser,
    part_of,
    picture,
    positive,
    print_table,
    run_all,
    whole_number,
)

from mixup_transforms import RandomCutMix, RandomFMix, RandomMixup

STEPS = 100  # of a window, two seconds
CLASSES = 7
# %%
# The recordings
# --------------
#
# Windows of two seconds are cut out of them, and split by people, not by windows.


def load_windows() -> tuple[Tensor, Tensor, Tensor]:
    """Cut the recordings into windows ``(B, 6, 100)``; say which exercise and whose each is."""
    watch = load_watch()
    windows, exercises, people = [], [], []
    for recording, exercise, person in zip(watch["X"], watch["y"], watch["subject"], strict=True):
        found = torch.tensor(recording).float().unfold(0, STEPS, STEPS)
        windows.append(found)
        exercises += [int(exercise)] * len(found)
        people += [int(person)] * len(found)
    return torch.cat(windows), torch.tensor(exercises), torch.tensor(people)


def split_data(
    options: argparse.Namespace, generator: torch.Generator
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Split the people at random; make mean 0 and variance 1 what they are in training."""
    windows, exercises, people = load_windows()
    known = people.unique()[torch.randperm(10, generator=generator)[: options.people]]
    training = torch.isin(people, known)
    mean = windows[training].mean(dim=(0, 2), keepdim=True)
    deviation = windows[training].std(dim=(0, 2), keepdim=True)
    windows = ((windows - mean) / deviation).to(options.device)
    exercises = exercises.to(options.device)
    return (windows[training], exercises[training]), (windows[~training], exercises[~training])


# %%
# The mixers
# ----------
#
# ``dims=1`` says that the last dimension alone is cut: time.

MIXERS = {
    "mixup": RandomMixup,
    "cutmix": partial(RandomCutMix, dims=1),
    "fmix": partial(RandomFMix, dims=1),
}


# %%
# What the network sees
# ---------------------
#
# One axis of a window of one exercise and of one of another, and what each mixer makes of them.


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(__doc__, seeds=10, epochs=30, over="windows", out="train_exercises.png")
    add = parser.add_argument
    add("--people", type=whole_number, default=4, choices=range(2, 9), help="how many to train on")
    add("--alpha", type=positive, default=1.0, help="lam ~ Beta(alpha, alpha)")
    return parser.parse_args(arguments)


def draw_mixed_windows(figure: Figure) -> None:
    """Draw one axis of a window, its partner's, and what each mixer makes of them."""
    windows, exercises, _ = load_windows()
    pair = torch.stack([windows[exercises == k][0, :1] for k in (0, 6)])
    panels = figure.subplots(1 + len(MIXERS), 1, sharex=True, sharey=True)
    for values, label in zip(pair[:, 0], ("own", "partner"), strict=True):
        panels[0].plot(values, label=label)
    panels[0].legend(loc="right", fontsize="small")
    panels[0].set_title("acceleration along one axis")
    for axes, (name, make) in zip(panels[1:], MIXERS.items(), strict=True):
        mix = make(alpha=8.0, generator=torch.Generator().manual_seed(2))
        params = mix.make_params([pair])
        axes.plot(mix.replay(params, pair, torch.eye(2))[0][0, 0], color="black")
        axes.set_title(f"{name}, lam = {params['lam'][0]:.2f}")
    panels[-1].set_xlabel("step")


if __name__ == "__main__":
    options = parse_options()
    with picture(part_of(options.out, "mixed"), size=(8, 6)) as figure:
        draw_mixed_windows(figure)

# %%
# Training
# --------
#
# The mixer gets class numbers, and makes them soft by ``num_classes``.


def block(channels: int, width: int) -> list[nn.Module]:
    """Make a convolution that halves a sequence."""
    convolution = nn.Conv1d(channels, width, 5, stride=2, padding=2, bias=False)
    return [convolution, nn.BatchNorm1d(width), nn.ReLU()]


def train(options: argparse.Namespace, variant: str, seed: int) -> Iterator[float]:
    """Train one network and yield its test error in % after each epoch."""
    splitting, shuffling, mixing = generators(seed, 3)
    (windows, exercises), (test_windows, test_exercises) = split_data(options, splitting)
    make = MIXERS.get(variant)
    mix = make and make(alpha=options.alpha, num_classes=CLASSES, generator=mixing)

    torch.manual_seed(seed)  # the only way to seed a model's first weights
    model = nn.Sequential(
        *block(6, 32),
        *block(32, 32),
        *block(32, 32),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    ).to(options.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs)

    for _ in range(options.epochs):
        model.train()
        for rows in batches(len(windows), 64, shuffling):
            inputs, targets = windows[rows], exercises[rows]
            if mix:
                inputs, targets = mix(inputs, targets)
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            wrong = model(test_windows).argmax(dim=1) != test_exercises
        yield 100 * wrong.double().mean().item()


# %%
# What it is worth
# ----------------
#
# Which people are in training matters most, as the spread over the seeds says.


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with and without mixing, print the test errors and draw them."""
    options = parse_options(arguments)
    errors = run_all(
        partial(train, options), ["plain", *MIXERS], seeds=options.seeds, epochs=options.epochs
    )
    task = f"{options.people} people in training, {10 - options.people} others in the test"
    print_table(f"{task}: test error in %", errors)

    with picture(options.out, size=(8, 6)) as figure:
        axes = figure.subplots()
        axes.set_title(task)
        draw_curves(axes, errors)
        axes.set_ylabel("test error in %")


if __name__ == "__main__":
    main()
