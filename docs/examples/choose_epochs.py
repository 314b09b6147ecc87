"""Choosing how long to mix
=========================

Measure how the error depends on the length of training with mixup, and on plain last epochs.

In small what Liu, Wang, Guo and Mao found (*Over-Training with Mixup May Hurt Generalization*, ICLR
2023, arXiv 2303.01475): with mixup, the test error falls and then rises again as training gets
longer. The network and the digits are those of train_digits.py. Every point is a training of its
own, whose learning rate falls to zero at its end. The training error is counted on the digits as
they are, unmixed, with the labels that they were given, wrong ones among them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from torch import Tensor
from tqdm import tqdm
from train_digits import LARGEST_SIZE, fit, percent_wrong
from training import fraction, log_scale, mean_and_spread, one_thread, option_parser, picture

# sphinx_gallery_thumbnail_path = "images/choose_epochs.png"

# %%
# What is compared
# ----------------
#
# Training without mixing and with, mixed to the end or not.

SHORTEST = 10


class Mixing(NamedTuple):
    """How a model is trained: plain all along, or at the end of a training with mixup."""

    alpha: float | None
    plain_share: float = 0.0


MODELS = {
    "plain": Mixing(None),
    "alpha 1": Mixing(1.0),
    "alpha 1, last tenth plain": Mixing(1.0, 0.1),
    "alpha 8": Mixing(8.0),
    "alpha 8, last tenth plain": Mixing(8.0, 0.1),
}
LINES = ["C0o-", "C1s-", "C1s:", "C2^-", "C2^:"]

Errors = dict[tuple[str, int], Tensor]  # of a model and a length: training and test, (seeds, 2)


def lengths(longest: int) -> list[int]:
    """Halve the longest training down to some ten epochs."""
    return [longest] if longest < 2 * SHORTEST else [*lengths(longest // 2), longest]


# %%
# Measuring
# ---------
#
# Every model is trained for every length, with several seeds.


def measure(options: argparse.Namespace) -> Errors:
    """Train every model for every length with every seed."""
    errors = {
        key: torch.empty(options.seeds, 2) for key in product(MODELS, lengths(options.epochs))
    }
    runs = [*product(range(options.seeds), errors)]
    with one_thread(), tqdm(total=sum(epochs for _, (_, epochs) in runs), unit="epoch") as bar:
        for seed, (name, epochs) in runs:
            alpha, plain_share = MODELS[name]
            run = argparse.Namespace(
                size=LARGEST_SIZE,
                noise=options.noise,
                alpha=alpha,
                epochs=epochs,
                device=options.device,
            )
            variant, plain_last = "plain" if alpha is None else "mixup", round(plain_share * epochs)
            for state in fit(run, variant, seed, plain_last=plain_last):
                trained, *sets = state
                bar.update()
            errors[name, epochs][seed] = torch.tensor([percent_wrong(trained, s) for s in sets])
    return errors


# %%
# The result
# ----------
#
# What it prints and what follows from it is in :doc:`Choosing α and λ </choosing>`. It takes too
# long to be run for this page, which shows what it drew:
#
# .. image:: /images/choose_epochs.png
#    :alt: Training and test error against the length of training


def print_errors(heading: str, errors: Errors, column: int) -> None:
    """Print one line for each model, one column for each length."""
    columns = sorted({epochs for _, epochs in errors})
    width = max(map(len, MODELS))
    print(f"\n{heading}\n{'epochs':<{width}}" + "".join(f"{epochs:>14}" for epochs in columns))
    for name in MODELS:
        cells = []
        for epochs in columns:
            mean, spread = mean_and_spread(errors[name, epochs][:, column])
            cells.append(f"{f'{mean:.2f} ± {spread:.2f}':>14}")
        print(f"{name:<{width}}" + "".join(cells))


def draw_errors(axes: Axes, errors: Errors, column: int) -> None:
    """Draw the mean over the seeds against the length, with bars of one standard deviation."""
    columns = sorted({epochs for _, epochs in errors})
    for name, line in zip(MODELS, LINES, strict=True):
        mean, spread = zip(
            *(mean_and_spread(errors[name, epochs][:, column]) for epochs in columns), strict=True
        )
        axes.errorbar(columns, mean, yerr=spread, fmt=line, capsize=3, label=name)
    axes.set_xscale("log")
    axes.set_xticks(columns, map(str, columns))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("epochs of training")


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(
        __doc__, seeds=3, epochs=320, over="digits in the longest training", out="choose_epochs.png"
    )
    parser.add_argument(
        "--noise", type=fraction, default=0.2, help="fraction of training labels made random"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train everything, print the errors and draw them."""
    options = parse_options(arguments)
    errors = measure(options)
    over = f"mean ± standard deviation of {options.seeds} seeds" if options.seeds > 1 else "1 seed"
    for column, part in enumerate(("training", "test")):
        print_errors(f"{part} error in %, {over}", errors, column)

    with picture(options.out, size=(12, 5)) as figure:
        left, right = figure.subplots(1, 2)
        figure.suptitle(f"{LARGEST_SIZE} digits, {100 * options.noise:g}% of the labels random")
        draw_errors(left, errors, column=1)
        log_scale(left)
        left.set_ylabel("test error in %")
        draw_errors(right, errors, column=0)
        right.set_ylabel("training error in %")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)


if __name__ == "__main__":
    main()
