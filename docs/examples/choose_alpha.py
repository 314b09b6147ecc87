"""Choosing alpha
==============

Measure how the error depends on alpha, on wrong labels and on the number of training digits.

The network and the digits are those of train_digits.py. Every network takes the same number of
steps, however few digits it sees. The training error is counted on the digits as they are, unmixed,
with the labels that they were given, wrong ones among them: the network that has learnt its
training set by heart has none.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from torch import Tensor
from tqdm import tqdm
from train_digits import BATCH_SIZE, LARGEST_SIZE, fit, percent_wrong
from training import COLOURS, log_scale, mean_and_spread, one_thread, option_parser, picture

# sphinx_gallery_thumbnail_path = "images/choose_alpha.png"

# %%
# What is compared
# ----------------
#
# Nine values of α with no mixing, in five settings.

ALPHAS = [0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
MODELS = ["plain", *(f"{alpha:g}" for alpha in ALPHAS)]
SETTINGS = {
    "no noise": {"size": LARGEST_SIZE, "noise": 0.0},
    "20% noise": {"size": LARGEST_SIZE, "noise": 0.2},
    "50% noise": {"size": LARGEST_SIZE, "noise": 0.5},
    "300 digits": {"size": 300, "noise": 0.0},
    "100 digits": {"size": 100, "noise": 0.0},
}
PANELS = {
    f"{LARGEST_SIZE} training digits, labels made random": {
        "none": "no noise",
        "20%": "20% noise",
        "50%": "50% noise",
    },
    "no wrong labels, fewer training digits": {
        f"{LARGEST_SIZE}": "no noise",
        "300": "300 digits",
        "100": "100 digits",
    },
}
LINES = [("o", "solid"), ("s", "dashed"), ("^", "dotted")]

Errors = dict[tuple[str, str], Tensor]  # of a setting and a model: training and test, (seeds, 2)


# %%
# Measuring
# ---------
#
# Every model is trained in every setting, with several seeds.


def measure(options: argparse.Namespace) -> Errors:
    """Train every model in every setting with every seed."""
    steps = options.epochs * (LARGEST_SIZE // BATCH_SIZE)
    errors = {key: torch.empty(options.seeds, 2) for key in product(SETTINGS, MODELS)}
    runs = tqdm([*product(range(options.seeds), errors)], unit="run")
    with one_thread():
        for seed, (setting, model) in runs:
            run = argparse.Namespace(
                **SETTINGS[setting],
                alpha=None if model == "plain" else float(model),
                epochs=steps // (SETTINGS[setting]["size"] // BATCH_SIZE),
                device=options.device,
            )
            for state in fit(run, "plain" if model == "plain" else "mixup", seed):
                trained, *sets = state
            errors[setting, model][seed] = torch.tensor([percent_wrong(trained, s) for s in sets])
    return errors


# %%
# The result
# ----------
#
# What it prints and what follows from it is in :doc:`Choosing α and λ </choosing>`. It takes too
# long to be run for this page, which shows what it drew with ``--seeds 5``:
#
# .. image:: /images/choose_alpha.png
#    :alt: Training and test error against alpha, in five settings


def print_errors(heading: str, errors: Errors, column: int) -> None:
    """Print one line for each model, one column for each setting."""
    print(f"\n{heading}\n{'alpha':<6}" + "".join(f"{setting:>15}" for setting in SETTINGS))
    for model in MODELS:
        cells = []
        for setting in SETTINGS:
            mean, spread = mean_and_spread(errors[setting, model][:, column])
            cells.append(f"{f'{mean:.2f} ± {spread:.2f}':>15}")
        print(f"{model:<6}" + "".join(cells))


def draw_errors(axes: Axes, lines: dict[str, str], errors: Errors, column: int) -> None:
    """Draw the mean over the seeds against alpha, with bars of one standard deviation."""
    for (name, setting), (marker, style), colour in zip(
        lines.items(), LINES, COLOURS, strict=False
    ):
        mean, spread = zip(
            *(mean_and_spread(errors[setting, model][:, column]) for model in MODELS), strict=True
        )
        for part, linestyle in (slice(1), "none"), (slice(1, None), style):
            axes.errorbar(
                range(len(MODELS))[part],
                mean[part],
                yerr=spread[part],
                color=colour,
                marker=marker,
                linestyle=linestyle,
                capsize=3,
                label=name if part.start else None,
            )
    axes.set_xticks(range(len(MODELS)), MODELS)
    axes.xaxis.set_minor_locator(NullLocator())


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(
        __doc__, seeds=3, epochs=60, over="digits, all 900 of them", out="choose_alpha.png"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train everything, print the errors and draw them."""
    options = parse_options(arguments)
    errors = measure(options)
    over = f"mean ± standard deviation of {options.seeds} seeds" if options.seeds > 1 else "1 seed"
    for column, part in enumerate(("training", "test")):
        print_errors(f"{part} error in %, {over}", errors, column)

    with picture(options.out, size=(12, 8)) as figure:
        grid = figure.subplots(2, 2, sharey="row", sharex="col")
        for (title, lines), (above, below) in zip(PANELS.items(), grid.T, strict=True):
            above.set_title(title)
            draw_errors(above, lines, errors, column=1)
            log_scale(above)
            draw_errors(below, lines, errors, column=0)
            below.set_xlabel("alpha")
            above.legend(ncols=3, loc="upper center")
        for axes, part in zip(grid[:, 0], ("test", "training"), strict=True):
            axes.set_ylabel(f"{part} error in %")


if __name__ == "__main__":
    main()
