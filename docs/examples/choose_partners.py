"""Choosing partners
=================

Measure on handwritten digits what it is worth to choose who is mixed with whom.

- ``classes``: partners of another class only, or of the same.
- ``rare``: the most frequent class has twenty times as many training digits as the rarest. Partners
  of all classes equally often (Balanced-MixUp, arXiv 2109.09850), or samples, or both.
- ``colours``: digits below five are mostly of one colour in training and the others of another, but
  not so in the test. LISA's two rules: partners of the same class in the other colour, or of the
  other class in the same colour (Yao et al., arXiv 2201.00299).

Each network is measured by its mean accuracy over groups of test digits, and by its accuracy on the
worst of them. The groups are the classes, and with colours each class in each colour.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, RandomSampler, WeightedRandomSampler
from tqdm import tqdm
from train_digits import BATCH_SIZE, CLASSES, LARGEST_SIZE, network
from training import generators, one_thread, option_parser, print_columns

from mixup_transforms import MatchedPairing, MixedDataset, RandomMixup

ALPHA = 1.0
MOST, FEWEST = 80, 4  # training digits of the most frequent and the rarest class
USUAL_COLOUR = 0.95  # share of the training digits that have the colour of their class


# %%
# The digits
# ----------
#
# All of them, few of some classes, or in two colours.


class Digits(NamedTuple):
    """Images ``(N, C, 8, 8)``, what class they are and what colour they have."""

    images: Tensor
    labels: Tensor
    colours: Tensor

    @property
    def groups(self) -> Tensor:
        """Number the classes in their colours."""
        pairs = torch.stack([self.labels, self.colours], dim=1)
        return pairs.unique(dim=0, return_inverse=True)[1]

    @property
    def rarity(self) -> Tensor:
        """Weigh the samples so that all groups weigh the same."""
        return 1 / self.groups.bincount()[self.groups]


def shuffled(generator: Generator) -> Digits:
    """Load all digits in random order, in one colour."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=generator)
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # ink is 0 to 16
    labels = torch.tensor(digits.target)[order]
    return Digits(images[order], labels, torch.zeros_like(labels))


def split(digits: Digits, training: Tensor) -> tuple[Digits, Digits]:
    """Take some rows for training; all but the first 900 are for the test."""
    return Digits(*(each[training] for each in digits)), Digits(
        *(each[LARGEST_SIZE:] for each in digits)
    )


def many(generator: Generator, *, size: int, noise: float = 0.0) -> tuple[Digits, Digits]:
    """Take so many training digits, and make some of their labels random."""
    digits = shuffled(generator)
    replaced = round(noise * size)
    digits.labels[:replaced] = torch.randint(CLASSES, (replaced,), generator=generator)
    return split(digits, torch.arange(size))


def imbalanced(generator: Generator) -> tuple[Digits, Digits]:
    """Take from most to fewest training digits of the classes, which come in random order."""
    digits = shuffled(generator)
    counts = torch.logspace(1, 0, CLASSES, base=MOST / FEWEST).mul(FEWEST).round().int().tolist()
    classes = torch.randperm(CLASSES, generator=generator)
    of_class = [(digits.labels[:LARGEST_SIZE] == label).nonzero()[:, 0] for label in classes]
    rows = [found[:count] for found, count in zip(of_class, counts, strict=True)]
    return split(digits, torch.cat(rows))


def coloured(generator: Generator) -> tuple[Digits, Digits]:
    """Tell small digits from large ones, each in a colour, and in the test in both."""
    digits = shuffled(generator)
    digits = digits._replace(labels=(digits.labels >= CLASSES // 2).long())
    training, test = split(digits, torch.arange(LARGEST_SIZE))
    usual = torch.rand(LARGEST_SIZE, generator=generator) < USUAL_COLOUR
    training = painted(training, torch.where(usual, training.labels, 1 - training.labels))
    both = [painted(test, torch.full_like(test.labels, colour)) for colour in (0, 1)]
    return training, Digits(*map(torch.cat, zip(*both, strict=True)))


def painted(digits: Digits, colours: Tensor) -> Digits:
    """Put the ink into the channel of its colour."""
    channels = F.one_hot(colours, 2)[:, :, None, None]
    return Digits(digits.images * channels, digits.labels, colours)


# %%
# Who is mixed with whom
# ----------------------
#
# A pairing is a function of the batch, so that two can be joined by a coin. Weights of partners
# belong to :class:`~mixup_transforms.MixedDataset`, which finds them in all of the data.

Pairing = Callable[..., Tensor]


def either(first: Pairing, second: Pairing) -> Pairing:
    """Toss a coin for each batch."""

    def pairing(batch: object, *, labels: Tensor, generator: Generator) -> Tensor:
        chosen = first if torch.rand((), generator=generator) < 0.5 else second
        return chosen(batch, labels=labels, generator=generator)

    return pairing


class Variant(NamedTuple):
    """How to train: mixed with whom, or not, and with digits or partners of all groups alike."""

    p: float = 1.0
    pairing: Pairing | None = None
    even: bool = False
    even_partners: bool = False


PLAIN = Variant(p=0.0)
OTHER_COLOUR = MatchedPairing(same="labels", other="colour")
OTHER_CLASS = MatchedPairing(same="colour", other="labels")
LISA = either(OTHER_COLOUR, OTHER_CLASS)
VARIANTS = {
    "classes": {
        "no mixing": PLAIN,
        "mixup": Variant(),
        "other class": Variant(pairing=MatchedPairing(other="labels")),
        "same class": Variant(pairing=MatchedPairing(same="labels")),
    },
    "rare": {
        "no mixing": PLAIN,
        "mixup": Variant(),
        "balanced partners": Variant(even_partners=True),
        "resampled": PLAIN._replace(even=True),
        "resampled, mixup": Variant(even=True),
        "resampled, balanced partners": Variant(even=True, even_partners=True),
    },
    "colours": {
        "no mixing": PLAIN,
        "mixup": Variant(),
        "same class, other colour": Variant(pairing=OTHER_COLOUR),
        "same colour, other class": Variant(pairing=OTHER_CLASS),
        "one or the other": Variant(pairing=LISA),
        "resampled": PLAIN._replace(even=True),
        "resampled, mixup": Variant(even=True),
        "resampled, one or the other": Variant(even=True, pairing=LISA),
    },
}
SETTINGS: dict[str, dict[str, Callable[[Generator], tuple[Digits, Digits]]]] = {
    "classes": {
        "900 training digits": lambda generator: many(generator, size=900),
        "100 training digits": lambda generator: many(generator, size=100),
        "900, 20% of the labels random": lambda generator: many(generator, size=900, noise=0.2),
    },
    "rare": {f"{MOST} to {FEWEST} training digits of a class": imbalanced},
    "colours": {f"{USUAL_COLOUR:.0%} in the colour of their class": coloured},
}


# %%
# Training
# --------
#
# Every variant is a loader of mixed batches; the loop is the same for all.


def train(options: argparse.Namespace, task: str, setting: str, variant: str, seed: int) -> Tensor:
    """Train one network; return its mean accuracy over the groups and that of the worst, in %."""
    splitting, shuffling, mixing = generators(seed, 3)
    training, test = SETTINGS[task][setting](splitting)
    classes = len(training.labels.unique())
    torch.manual_seed(seed)  # the only way to seed a model's first weights
    model = network(channels=training.images.shape[1], classes=classes).to(options.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    epochs = round(options.epochs * LARGEST_SIZE / len(training.labels))
    schedule = CosineAnnealingLR(optimizer, T_max=epochs)
    for batches in mixed_epochs(VARIANTS[task][variant], training, shuffling, mixing, epochs):
        for batch in batches:
            images, labels = batch["image"].to(options.device), batch["label"].to(options.device)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return score(model, Digits(*(each.to(options.device) for each in test)))


def mixed_epochs(
    variant: Variant, digits: Digits, shuffling: Generator, mixing: Generator, epochs: int
) -> Iterator[Iterator[dict[str, Tensor]]]:
    """Yield the batches of each epoch, mixed."""
    rows = [
        {"image": image, "label": label, "colour": colour}
        for image, label, colour in zip(
            digits.images, F.one_hot(digits.labels).float(), digits.colours, strict=True
        )
    ]
    sampler = RandomSampler(rows, generator=shuffling)
    if variant.even:
        sampler = WeightedRandomSampler(digits.rarity, len(rows), generator=shuffling)
    mix = RandomMixup(alpha=ALPHA, p=variant.p, pairing=variant.pairing, generator=mixing)
    if variant.even_partners:
        mix, seed = nn.Identity(), mixing.initial_seed()
        rows = MixedDataset(
            rows, RandomMixup(alpha=ALPHA), seed=seed, partner_weights=digits.rarity
        )
    loader = DataLoader(rows, batch_size=BATCH_SIZE, sampler=sampler)
    for epoch in range(epochs):
        if variant.even_partners:
            rows.set_epoch(epoch)
        yield map(mix, loader)


# %%
# The result
# ----------
#
# What it prints and what follows from it is in :doc:`Choosing α and λ </choosing>`; it takes too
# long to be run for this page.


def score(model: nn.Module, test: Digits) -> Tensor:
    """Return the mean accuracy over the groups and that of the worst, in %."""
    with torch.no_grad():
        right = (model(test.images).argmax(dim=1) == test.labels).float()
    of_group = torch.stack([right[test.groups == group].mean() for group in test.groups.unique()])
    return 100 * torch.stack([of_group.mean(), of_group.min()])


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(
        __doc__,
        seeds=5,
        epochs=30,
        over="digits; fewer than 900 are passed over more often",
        out=None,
    )
    parser.add_argument("task", choices=SETTINGS, help="which choice to measure")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with every choice of partners and print how many test digits come out right."""
    options = parse_options(arguments)
    settings, variants = SETTINGS[options.task], VARIANTS[options.task]
    runs = [*product(settings, variants, range(options.seeds))]
    scores = {
        setting: {name: torch.empty(options.seeds, 2) for name in variants} for setting in settings
    }
    with one_thread():
        for setting, variant, seed in tqdm(runs, unit="run"):
            scores[setting][variant][seed] = train(options, options.task, setting, variant, seed)
    for setting in settings:
        print_columns(f"{setting}: test accuracy in %", ["mean", "worst"], scores[setting])


if __name__ == "__main__":
    main()
