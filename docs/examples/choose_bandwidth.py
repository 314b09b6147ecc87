"""Choosing a bandwidth
====================

Measure on three regression sets what it is worth to mix samples whose outcomes are near.

C-Mixup (Yao et al., arXiv 2210.05775) takes a partner the more often the nearer its outcome is. The
bandwidth says what is near, in standard deviations of the training outcomes. A fifth of each set is
for validation, and a fifth for the test. The bandwidth that does best in validation is chosen, for
each seed anew, and so is the epoch at which to stop, the rival of every other remedy. Ridge
regression shows what a plain linear model does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from mlxtend.data import autompg_data, boston_housing_data
from regress_diabetes import network, root_mean_square
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn
from tqdm import tqdm
from training import batches, generators, one_thread, option_parser, print_columns

from mixup_transforms import NearPairing, RandomMixup

BATCH_SIZE = 64
ALPHA = 1.0
BANDWIDTHS = (0.05, 0.2, 0.5, 1.0)
SETS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "diabetes": lambda: load_diabetes(return_X_y=True, scaled=False),
    "autompg": lambda: (autompg_data()[0][:, :-1], autompg_data()[1]),  # the last are names
    "boston": boston_housing_data,
}
NEAR = {f"bandwidth {width:g}": NearPairing(width) for width in BANDWIDTHS}
PAIRINGS = {"mixup": None, **NEAR}
MIXES = ["no mixing", *PAIRINGS]

Part = tuple[Tensor, Tensor]  # standardised inputs and outcomes


# %%
# The data
# --------
#
# Three sets, each split into training, validation and test.


def split_data(name: str, generator: torch.Generator) -> tuple[list[Part], float]:
    """Return training, validation and test, and what an outcome's unit was."""
    inputs, outcomes = (torch.from_numpy(values).float() for values in SETS[name]())
    order = torch.randperm(len(inputs), generator=generator)
    fifth = len(inputs) // 5
    parts = order.split([len(inputs) - 2 * fifth, fifth, fifth])

    def standardised(values: Tensor) -> Tensor:
        return (values - values[parts[0]].mean(dim=0)) / values[parts[0]].std(dim=0)

    unit = outcomes[parts[0]].std().item()
    inputs, outcomes = standardised(inputs), standardised(outcomes)
    return [(inputs[part], outcomes[part]) for part in parts], unit


# %%
# Training
# --------
#
# Of all bandwidths and epochs, validation chooses.


def train(options: argparse.Namespace, name: str, mix: str, seed: int) -> Tensor:
    """Train one network; return validation and test error after each epoch, ``(2, epochs)``."""
    splitting, shuffling, mixing = generators(seed, 3)
    parts, unit = split_data(name, splitting)
    (inputs, outcomes), *held_out = [[each.to(options.device) for each in part] for part in parts]
    transform: nn.Module = nn.Identity()
    if mix in PAIRINGS:
        transform = RandomMixup(alpha=ALPHA, pairing=PAIRINGS[mix], generator=mixing)
    torch.manual_seed(seed)  # the only way to seed a model's first weights
    model = network(inputs.shape[1]).to(options.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    errors = torch.empty(2, options.epochs)
    for epoch in range(options.epochs):
        for rows in batches(len(inputs), BATCH_SIZE, shuffling):
            mixed_inputs, mixed_outcomes = transform((inputs[rows], outcomes[rows]))
            loss = F.mse_loss(model(mixed_inputs), mixed_outcomes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            for i, (given, wanted) in enumerate(held_out):
                errors[i, epoch] = unit * root_mean_square(model(given) - wanted)
    return errors


def chosen(errors: Tensor) -> Tensor:
    """Return the test errors where the validation errors are lowest, ``(seeds,)``.

    Both stand in ``errors``, ``(seeds, 2, choices)``.
    """
    return errors[:, 1].gather(1, errors[:, 0].argmin(dim=1, keepdim=True))[:, 0]


def test_errors(errors: dict[str, Tensor], epochs: slice) -> dict[str, Tensor]:
    """Stop at the best of some epochs and take the best of the bandwidths, in validation."""
    best = {name: values[..., epochs].flatten(2) for name, values in errors.items()}
    best["bandwidth chosen"] = torch.cat([best[name] for name in NEAR], dim=2)
    return {name: chosen(values) for name, values in best.items()}


# %%
# The result
# ----------
#
# What it prints and what follows from it is in :doc:`Choosing α and λ </choosing>`; it takes too
# long to be run for this page.


def ridge_error(name: str, seed: int) -> float:
    """Return the test error of ridge regression."""
    parts, unit = split_data(name, generators(seed, 3)[0])
    training, _, (inputs, outcomes) = ([each.numpy() for each in part] for part in parts)
    predicted = RidgeCV(np.logspace(-2, 3, 11)).fit(*training).predict(inputs)
    return unit * float(np.sqrt(np.mean((predicted - outcomes) ** 2)))


def measure(options: argparse.Namespace, name: str) -> dict[str, Tensor]:
    """Train with every mix and every seed; return ``(seeds, 2, epochs)`` of each."""
    errors = {mix: torch.empty(options.seeds, 2, options.epochs) for mix in MIXES}
    with one_thread():
        for mix, seed in tqdm([*product(MIXES, range(options.seeds))], unit="run", desc=name):
            errors[mix][seed] = train(options, name, mix, seed)
    return errors


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(__doc__, seeds=10, epochs=100, over="samples", out=None)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with partners near and far, and print the test errors."""
    options = parse_options(arguments)
    for name in SETS:
        errors = measure(options, name)
        columns = [test_errors(errors, epochs) for epochs in (slice(-1, None), slice(None))]
        table = {mix: torch.stack([column[mix] for column in columns], 1) for mix in columns[0]}
        ridge = torch.tensor([ridge_error(name, seed) for seed in range(options.seeds)])
        table["ridge regression"] = ridge[:, None]
        heading = f"{name}: root mean square test error"
        print_columns(heading, ["last epoch", "stopped early"], table)


if __name__ == "__main__":
    main()
