"""Does the truth pay?
===================

Measure what CutMix loses or gains where the label does not say what the image shows.

A box that reaches over the image's edge is clipped, and shows less of the partner than was drawn.
CutMix's authors' code once kept the drawn λ for the label, as timm's ``correct_lam=False`` does; on
birds that was better (huggingface/pytorch-image-models, issue 8). Here the label's λ is, from the
same boxes and so with the same pixels:

- ``realised``: the share of the pixels that is the sample's own, as in ``RandomCutMix``.
- ``drawn``: what it would be if no box were clipped.
- ``noisy``: the realised share and noise.
- ``unrelated``: the realised share of another sample.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import torch
from choose_mixer import Part, fit, load_mnist, percent_wrong, predicted, resnet, split
from sklearn.datasets import load_digits
from torch import Generator, Tensor, nn
from train_digits import BATCH_SIZE, CLASSES, network
from training import generators, option_parser, print_columns, train_all

from mixup_transforms import RandomMixup, functional

ALPHAS = (0.2, 1.0, 4.0)
NOISE = 0.3  # standard deviation of what is added to the noisy λ


class Data(NamedTuple):
    """Digits, how many of them to train on, which are for the test, and what learns them."""

    load: Callable[[], Part]
    size: int
    largest: int
    network: Callable[[], nn.Module]


def load_small() -> Part:
    """Return scikit-learn's images ``(1797, 1, 8, 8)``, of ink from 0 to 1, and their labels."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    return images, torch.tensor(digits.target)


SETS = {
    "900 digits of 8×8": Data(load_small, 900, 900, network),
    "1000 digits of 28×28": Data(load_mnist, 1000, 3000, resnet),
}
# How the label's λ comes from the drawn and the realised one.
LABELS: dict[str, Callable[[Tensor, Tensor, Generator], Tensor]] = {
    "realised": lambda drawn, shown, generator: shown,
    "drawn": lambda drawn, shown, generator: drawn,
    "noisy": lambda drawn, shown, generator: (
        shown + NOISE * torch.randn(shown.shape, generator=generator)
    ).clamp(0, 1),
    "unrelated": lambda drawn, shown, generator: shown[
        torch.randperm(len(shown), generator=generator)
    ],
}
ARMS = ["plain", *(f"{label} {alpha:g}" for alpha, label in product(ALPHAS, LABELS))]

Run = tuple[str, str, int]  # data, arm and seed


# %%
# The boxes and their labels
# --------------------------
#
# A box is made by hand, so that the λ that was drawn for it is known.


def boxes(drawn: Tensor, height: int, width: int, generator: Generator) -> Tensor:
    """Return boxes of area 1 − λ around uniform pixels, clipped to the image: x1, y1, x2, y2."""
    length = torch.tensor([width, height])
    centre = (torch.rand(len(drawn), 2, generator=generator) * length).long()
    extent = ((1 - drawn).sqrt().unsqueeze(1) * length).round().long()
    low = centre - extent // 2
    return torch.cat([low.clamp(min=0), torch.minimum(low + extent, length)], dim=1)


class CutMix:
    """CutMix, with another λ in its label than in its image."""

    def __init__(self, label: str, alpha: float, mixing: Generator, noising: Generator) -> None:
        self.weight = LABELS[label]
        self.draw = RandomMixup(alpha=alpha, generator=mixing)
        self.mixing, self.noising = mixing, noising
        self.errors: list[Tensor] = []

    def __call__(self, images: Tensor, labels: Tensor) -> Part:
        """Mix a batch, and keep by how much its labels are off."""
        params = self.draw.make_params([images])
        partner, drawn = params["partner"], params["lam"]
        size = images.shape[-2:]
        box = boxes(drawn, *size, self.mixing)
        shown = functional.box_share(box, *size)
        lam = self.weight(drawn, shown, self.noising)
        self.errors.append((lam - shown).abs())
        soft = functional.mix_labels(functional.one_hot(labels, CLASSES), partner, lam)
        return functional.cutmix(images, partner, box), soft


# %%
# Training
# --------
#
# The same split, first weights and pixels for every label of a seed.


def plain(images: Tensor, labels: Tensor) -> Part:
    """Mix nothing."""
    return images, functional.one_hot(labels, CLASSES)


def train(options: argparse.Namespace, run: Run) -> Tensor:
    """Train one network; return its test error and the mean error of its labels, in %."""
    name, arm, seed = run
    data = SETS[name]
    splitting, shuffling, mixing, noising = generators(seed, 4)
    training, (test, truth) = split(data.load(), data.size, data.largest, splitting)
    mix: Callable[[Tensor, Tensor], Part] = plain
    if arm != "plain":
        label, alpha = arm.split()
        mix = CutMix(label, float(alpha), mixing, noising)
    torch.manual_seed(seed)  # the only way to seed a model's first weights
    model = fit(
        data.network(),
        training,
        mix,
        steps=options.epochs * (data.size // BATCH_SIZE),
        shuffling=shuffling,
        device=options.device,
    )
    wrong = percent_wrong(predicted(model, test, options.device), truth)
    off = torch.cat(mix.errors).mean().item() if isinstance(mix, CutMix) else 0.0
    return torch.tensor([wrong, 100 * off])


def columns(scores: dict[str, Tensor], which: int) -> dict[str, Tensor]:
    """Return a score of each label, ``(seeds, alphas)``."""
    return {
        label: torch.stack([scores[f"{label} {alpha:g}"][:, which] for alpha in ALPHAS], dim=1)
        for label in LABELS
    }


def print_scores(name: str, scores: dict[str, Tensor]) -> None:
    """Print test errors, how they differ from those with the realised λ, and label errors."""
    heads = [f"alpha {alpha:g}" for alpha in ALPHAS]
    errors = columns(scores, 0)
    known = errors["realised"]
    print_columns(f"{name}: test error in %", heads, {"plain": scores["plain"][:, :1], **errors})
    differences = {label: values - known for label, values in errors.items() if label != "realised"}
    print_columns(f"{name}: test error minus that of realised, in points", heads, differences)
    print_columns(f"{name}: error of the labels in %", heads, columns(scores, 1))


# %%
# The result
# ----------
#
# What it prints and what follows from it is in :doc:`Choosing α and λ </choosing>`; it takes too
# long to be run for this page.


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(__doc__, seeds=5, epochs=40, over="digits", out=None, jobs=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with every label and every alpha, and print the errors."""
    options = parse_options(arguments)
    scores = {name: {arm: torch.empty(options.seeds, 2) for arm in ARMS} for name in SETS}
    runs = [*product(SETS, ARMS, range(options.seeds))]
    for (name, arm, seed), score in train_all(train, options, runs):
        scores[name][arm][seed] = score
    for name in SETS:
        print_scores(name, scores[name])


if __name__ == "__main__":
    main()
