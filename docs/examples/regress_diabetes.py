"""Regression
==========

Predict from the records of 300 patients how their diabetes progresses, with and without mixing.

Mixup needs no classes: a mix of two patients gets the mix of their outcomes. The network is large
enough to learn its patients by heart, and its error on other patients shows what that costs. Ridge
regression on the same splits shows how well a plain linear model does, and the mean of the training
outcomes what to expect of no model at all. The curves show where stopping early would have led.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
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
)

from mixup_transforms import RandomMixup

TRAINING_SIZE = 300
BODY_MASS_INDEX = 2


# %%
# The patients
# ------------
#
# Ten numbers are known of each patient, age, sex, body mass index, blood pressure and six of the
# blood serum, and how far the disease went in a year.


def load_data() -> tuple[Tensor, Tensor]:
    """Load ten numbers for each patient, and how far the disease went in the year after."""
    patients = load_diabetes(scaled=False)  # the scaled form has seen the test patients
    return torch.tensor(patients.data).float(), torch.tensor(patients.target).float()


class Split(NamedTuple):
    """Standardised records and outcomes of two sets of patients, and what an outcome's unit was."""

    training: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    unit: float


def split_data(generator: torch.Generator) -> Split:
    """Split the patients at random; make mean 0 and variance 1 what they are in training."""
    records, outcomes = load_data()
    order = torch.randperm(len(records), generator=generator)
    training, test = order.tensor_split([TRAINING_SIZE])

    def standardised(values: Tensor) -> Tensor:
        return (values - values[training].mean(dim=0)) / values[training].std(dim=0)

    unit = outcomes[training].std().item()
    records, outcomes = standardised(records), standardised(outcomes)
    return Split((records[training], outcomes[training]), (records[test], outcomes[test]), unit)


# %%
# Between two patients
# --------------------
#
# Mixup puts a new patient on the line between two. The larger α is, the nearer to its middle; the
# colours are those of the curves below.


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(
        __doc__, seeds=10, epochs=100, over="patients", out="regress_diabetes.png"
    )
    add = parser.add_argument
    add(
        "--alpha",
        type=positive,
        nargs="+",
        default=[0.2, 1.0, 8.0],
        help="lam ~ Beta(alpha, alpha), for each of these",
    )
    return parser.parse_args(arguments)


def variants(options: argparse.Namespace) -> dict[str, float]:
    """Name what is compared with plain training: mixup with each alpha."""
    return {f"mixup, alpha {alpha:g}": alpha for alpha in options.alpha}


def draw_mixed_patients(axes: Axes, alphas: dict[str, float]) -> None:
    """Draw some patients, a line from each to its partner, and on it what each alpha makes of them.

    Variants have the colours that they have among the curves.
    """
    records, outcomes = load_data()
    axes.plot(records[:, BODY_MASS_INDEX], outcomes, ".", color="silver")
    records, outcomes = records[:8], outcomes[:8]
    for colour, alpha in enumerate(alphas.values(), start=1):
        # The same seed gives every alpha the same partners.
        mix = RandomMixup(alpha=alpha, generator=torch.Generator().manual_seed(0))
        params = mix.make_params([records])
        mixed_records, mixed_outcomes = mix.replay(params, records, outcomes)
        axes.plot(mixed_records[:, BODY_MASS_INDEX], mixed_outcomes, "o", color=f"C{colour}")
    partner = params["partner"]
    axes.plot(
        torch.stack([records[:, BODY_MASS_INDEX], records[partner, BODY_MASS_INDEX]]),
        torch.stack([outcomes, outcomes[partner]]),
        color="gray",
        linewidth=1,
        zorder=1,
    )
    axes.set_xlabel("body mass index")
    axes.set_ylabel("disease progression")


if __name__ == "__main__":
    options = parse_options()
    with picture(part_of(options.out, "mixed"), size=(8, 6)) as figure:
        axes = figure.subplots()
        axes.set_title("eight patients, mixed with one another")
        draw_mixed_patients(axes, variants(options))

# %%
# Training
# --------
#
# The mixer takes the batch as a tuple, whose second item are the labels: here one number for each
# patient.


def network(inputs: int) -> nn.Sequential:
    """Make a network large enough to learn some hundred outcomes by heart."""
    return nn.Sequential(
        nn.Linear(inputs, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, 1),
        nn.Flatten(0),
    )


def train(
    options: argparse.Namespace, alphas: dict[str, float], variant: str, seed: int
) -> Iterator[float]:
    """Train one network and yield its test error after each epoch."""
    splitting, shuffling, mixing = generators(seed, 3)
    training, test, unit = split_data(splitting)
    records, outcomes = (values.to(options.device) for values in training)
    test_records, test_outcomes = (values.to(options.device) for values in test)
    mix = (
        RandomMixup(alpha=alphas[variant], generator=mixing) if variant in alphas else nn.Identity()
    )

    torch.manual_seed(seed)  # the only way to seed a model's first weights
    model = network(records.shape[1]).to(options.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)

    for _ in range(options.epochs):
        for rows in batches(len(records), 100, shuffling):
            mixed_records, mixed_outcomes = mix((records[rows], outcomes[rows]))
            loss = F.mse_loss(model(mixed_records), mixed_outcomes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            yield unit * root_mean_square(model(test_records) - test_outcomes)


def root_mean_square(errors: Tensor) -> float:
    """Return the size of a typical error."""
    return errors.square().mean().sqrt().item()


# %%
# What it is worth
# ----------------
#
# All come as low as ridge regression in the first epochs. From there on the network gets worse with
# every epoch without mixing, and mixup holds it the better the larger α is.


def baselines(seeds: int) -> dict[str, Tensor]:
    """Return the test errors of ridge regression and of the mean outcome, ``(seeds, 1)``."""
    errors = {name: torch.empty(seeds, 1) for name in ("ridge regression", "mean outcome")}
    for seed in range(seeds):
        splitting, *_ = generators(seed, 3)
        training, (test_records, test_outcomes), unit = split_data(splitting)
        ridge = RidgeCV(np.logspace(-2, 3, 11)).fit(*(values.numpy() for values in training))
        predicted = torch.from_numpy(ridge.predict(test_records.numpy()))
        errors["ridge regression"][seed] = unit * root_mean_square(predicted - test_outcomes)
        errors["mean outcome"][seed] = unit * root_mean_square(test_outcomes)  # the mean is 0
    return errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with and without mixing, print the test errors and draw them."""
    options = parse_options(arguments)
    alphas = variants(options)
    errors = run_all(
        partial(train, options, alphas),
        ["plain", *alphas],
        seeds=options.seeds,
        epochs=options.epochs,
    )
    references = baselines(options.seeds)
    task = f"{TRAINING_SIZE} training patients"
    print_table(f"{task}: root mean square test error", {**errors, **references})

    with picture(options.out, size=(8, 6)) as figure:
        axes = figure.subplots()
        axes.set_title(task)
        draw_curves(axes, errors)
        for (name, values), style in zip(references.items(), ("dashed", "dotted"), strict=True):
            axes.axhline(values.mean().item(), color="black", linestyle=style, label=name)
        axes.set_ylabel("root mean square test error")
        axes.get_legend().remove()
        figure.legend(loc="outside lower center", ncols=3)


if __name__ == "__main__":
    main()
