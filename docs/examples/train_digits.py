"""Wrong labels
============

Train on handwritten digits of which some have a wrong label, with and without mixing.

In small what the mixup paper found on corrupted labels (arXiv 1710.09412, section 3.4): a network
that only ever sees mixed digits cannot learn the wrong labels by heart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2
from training import (
    checked,
    draw_curves,
    fraction,
    generators,
    log_scale,
    option_parser,
    part_of,
    picture,
    positive,
    print_table,
    run_all,
)

from mixup_transforms import (
    MixScheduler,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomResizeMix,
)

CLASSES = 10
LARGEST_SIZE = 900  # the other 897 digits are for the test
BATCH_SIZE = 64

# %%
# The digits
# ----------
#
# Of scikit-learn's 1,797 real digits, 8×8 pixels each, 900 are for training and the rest for the
# test. A part of the training labels is replaced by random ones; the test labels are right.


def load_data(
    options: argparse.Namespace, generator: torch.Generator
) -> tuple[TensorDataset, TensorDataset]:
    """Split the digits at random into training and test; replace some training labels."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # ink is 0 to 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=generator)

    replaced = order[: round(options.noise * options.size)]
    labels[replaced] = torch.randint(CLASSES, replaced.shape, generator=generator)

    def subset(part: Tensor) -> TensorDataset:
        return TensorDataset(images[part].to(options.device), labels[part].to(options.device))

    return subset(order[: options.size]), subset(order[LARGEST_SIZE:])


# %%
# The mixers
# ----------
#
# A mixer takes a batch, and :class:`~mixup_transforms.OneHot` ahead of it makes the labels soft.
# The generator makes the mixes repeat.

MIXERS: dict[str, Callable[[float, torch.Generator], nn.Module]] = {
    "mixup": lambda alpha, generator: RandomMixup(alpha=alpha, generator=generator),
    "cutmix": lambda alpha, generator: RandomCutMix(alpha=alpha, generator=generator),
    "resizemix": lambda alpha, generator: RandomResizeMix(generator=generator),
    "fmix": lambda alpha, generator: RandomFMix(alpha=alpha, generator=generator),
    "choice": lambda alpha, generator: RandomChoice(
        [RandomMixup(alpha=alpha), RandomCutMix(alpha=alpha)], generator=generator
    ),
}


def batch_transform(variant: str, alpha: float, generator: torch.Generator) -> v2.Compose:
    """Make the transform of a training batch; a variant that is no mixer only gets OneHot."""
    mixers = [MIXERS[variant](alpha, generator)] if variant in MIXERS else []
    return v2.Compose([OneHot(CLASSES), *mixers])


# %%
# What the network sees
# ---------------------
#
# The command line says how to mix. This is what becomes of twelve digits, under the labels that
# they get; the weights in them are the shares of the two digits that are in the picture.


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(__doc__, seeds=3, epochs=60, over="digits", out="train_digits.png")
    size = checked(
        int,
        lambda n: BATCH_SIZE <= n <= LARGEST_SIZE,
        f"a whole number from {BATCH_SIZE} to {LARGEST_SIZE}",
    )
    add = parser.add_argument
    add("--mix", choices=MIXERS, default="mixup", help="how to mix; choice draws mixup or cutmix")
    add("--alpha", type=positive, default=8.0, help="lam ~ Beta(alpha, alpha); not for resizemix")
    add("--noise", type=fraction, default=0.2, help="fraction of training labels made random")
    add("--size", type=size, default=LARGEST_SIZE, help="how many digits to train on")
    return parser.parse_args(arguments)


def draw_mixed_digits(figure: Figure, options: argparse.Namespace) -> None:
    """Draw digits as the transform mixed them, under the labels that it gave them."""
    splitting, mixing = generators(0, 2)
    _, digits = load_data(options, splitting)  # test digits: none of them has a wrong label
    mix = batch_transform(options.mix, options.alpha, mixing)
    images, labels = mix(*digits[:12])

    for axes, image, label in zip(figure.subplots(3, 4).flat, images.cpu(), labels, strict=True):
        axes.imshow(image[0].numpy(), cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(caption(label), fontsize="medium")
        axes.set_axis_off()


def caption(label: Tensor) -> str:
    """Write a soft label as its two largest weights, such as 0.72·3 + 0.28·8."""
    weights, classes = label.topk(2)
    terms = zip(weights.tolist(), classes.tolist(), strict=True)
    return " + ".join(f"{weight:.2f}·{digit}" for weight, digit in terms if weight > 0)


if __name__ == "__main__":
    options = parse_options()
    with picture(part_of(options.out, "mixed"), size=(8, 5.5)) as figure:
        draw_mixed_digits(figure, options)

# %%
# Training
# --------
#
# One line of the loop mixes, and a ``MixScheduler`` can end that some epochs before the training.


def network(*, channels: int = 1, classes: int = CLASSES) -> nn.Sequential:
    """Make a small network for 8×8 digits."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, classes),
    )


def fit(
    options: argparse.Namespace, variant: str, seed: int, *, plain_last: int = 0
) -> Iterator[tuple[nn.Module, TensorDataset, TensorDataset]]:
    """Train one model and yield it after each epoch, with the training and the test set.

    The last epochs can be plain, whatever the variant.
    """
    splitting, shuffling, mixing = generators(seed, 3)
    training_set, test_set = load_data(options, splitting)
    loader = DataLoader(
        training_set, batch_size=BATCH_SIZE, shuffle=True, drop_last=True, generator=shuffling
    )
    mix = batch_transform(variant, options.alpha, mixing)
    schedules = []
    if variant in MIXERS:
        mixed_epochs = options.epochs - plain_last
        schedules.append(
            MixScheduler(mix.transforms[-1], p=lambda epoch: float(epoch < mixed_epochs))
        )

    torch.manual_seed(seed)  # the only way to seed a model's first weights
    model = network().to(options.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedules.append(CosineAnnealingLR(optimizer, T_max=options.epochs))

    for _ in range(options.epochs):
        model.train()
        for images, labels in loader:
            images, labels = mix(images, labels)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for schedule in schedules:
            schedule.step()
        yield model, training_set, test_set


@torch.no_grad()
def percent_wrong(model: nn.Module, digits: TensorDataset) -> float:
    """Return the share of digits whose label is not what the model says, in %."""
    model.eval()
    images, labels = digits.tensors
    wrong = model(images).argmax(dim=1) != labels
    return 100 * wrong.float().mean().item()


# %%
# What it is worth
# ----------------
#
# Each network is trained with several seeds, with the mixer and without. Without it the error falls
# fast, and rises again as the network learns the wrong labels.


def train(options: argparse.Namespace, variant: str, seed: int) -> Iterator[float]:
    """Train one model and yield its test error in % after each epoch."""
    for model, _, test_set in fit(options, variant, seed):
        yield percent_wrong(model, test_set)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with and without mixing, print the test errors and draw them."""
    options = parse_options(arguments)
    errors = run_all(
        partial(train, options), ["plain", options.mix], seeds=options.seeds, epochs=options.epochs
    )
    task = f"{options.size} training digits, {100 * options.noise:g}% of the labels random"
    print_table(f"{task}: test error in %", errors)

    with picture(options.out, size=(8, 5.5)) as figure:
        axes = figure.subplots()
        axes.set_title(task)
        draw_curves(axes, errors)
        axes.set_ylabel("test error in %")
        log_scale(axes)


if __name__ == "__main__":
    main()
