"""Generation
==========

Let a small GAN write digits, with and without mixing real and generated ones.

In section 3.5 of the mixup paper (arXiv 1710.09412) the discriminator sees mixes of real and
generated digits and says how much of each is real: max_g min_d E loss(d(λ·x + (1−λ)·g(z)), λ). In
the plain game it sees them apart. In both the generator maximises what the discriminator minimises.

A discriminator far ahead leaves a generator little to learn from. Here it takes five steps for each
one of the generator. Both games are played with Adam at PyTorch's defaults, and with settings of it
that suit this GAN better, since how well a GAN does depends a lot on them.

The score is the Fréchet distance between the features that a small classifier of digits sees in
generated digits and in test digits (mean and covariance, as in FID): lower is better. A few seeds
say little about games whose spreads overlap, as they do here with the better settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure, SubFigure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from training import (
    batches,
    draw_curves,
    generators,
    log_scale,
    one_thread,
    option_parser,
    part_of,
    picture,
    positive,
    print_table,
    run_all,
    whole_number,
)

from mixup_transforms import RandomMixup, functional

ADAM = {
    "default Adam": {"lr": 1e-3, "betas": (0.9, 0.999)},
    "tuned Adam": {"lr": 2e-3, "betas": (0.5, 0.9)},
}
VARIANTS = {
    f"{game}, {name}": (game, settings)
    for name, settings in ADAM.items()
    for game in ("plain", "mixup")
}
CLASSES = 10
PIXELS = 8 * 8
NOISE = 16
TRAINING_SIZE = 900
BATCH_SIZE = 64
SHOWN = 6 * 8


# %%
# The digits
# ----------
#
# They are real ones, 8×8 pixels each. A small classifier of them is trained first, by whose
# features generated digits are compared with them.


class Task(NamedTuple):
    """What stays the same in all trainings: real digits, and the features to compare them by."""

    training: Tensor
    test: Tensor
    features: nn.Module


def make_task(device: torch.device) -> Task:
    """Split the digits at random, and train a classifier on the half that the GANs also see."""
    splitting, shuffling = generators(0, 2)
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=splitting)
    images = torch.tensor(digits.images, dtype=torch.float32).flatten(1)[order] / 16  # ink: 0 to 16
    labels = torch.tensor(digits.target)[order]
    training, test = images.to(device).tensor_split([TRAINING_SIZE])
    labels = labels[:TRAINING_SIZE].to(device)

    torch.manual_seed(0)
    features = nn.Sequential(nn.Linear(PIXELS, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
    classifier = nn.Sequential(features, nn.Linear(32, CLASSES)).to(device)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3, fused=True)
    for _ in range(40):
        for rows in batches(len(training), BATCH_SIZE, shuffling):
            descend(optimizer, F.cross_entropy(classifier(training[rows]), labels[rows]))
    return Task(training, test, features)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step towards a smaller loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def draw_digits(figure: Figure | SubFigure, title: str, images: Tensor) -> None:
    """Draw some digits side by side."""
    figure.suptitle(title)
    axes = figure.subplots()
    rows = F.pad(images.view(6, 8, 8, 8), (1, 1, 1, 1))
    tiles = rows.transpose(1, 2).flatten(2).flatten(0, 1)
    axes.imshow(tiles.numpy(), cmap="gray_r", vmin=0, vmax=1)
    axes.set_axis_off()


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(__doc__, seeds=3, epochs=150, over="digits", out="gan_digits.png")
    add = parser.add_argument
    add("--alpha", type=positive, default=0.2, help="lam ~ Beta(alpha, alpha)")
    add("--steps", type=whole_number, default=5, help="discriminator steps for each generator step")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = parse_options()
    with picture(part_of(options.out, "real"), size=(8, 6)) as figure:
        draw_digits(figure, "real digits", make_task(options.device).training[:SHOWN].cpu())

# %%
# Generator and discriminator
# ---------------------------
#
# Both are small.


def make_generator() -> nn.Module:
    """Make the model g, from noise to pixels."""
    return nn.Sequential(
        nn.Linear(NOISE, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, PIXELS),
        nn.Sigmoid(),
    )


def make_discriminator() -> nn.Module:
    """Make the model d, from pixels to the logit of how real they are."""
    return nn.Sequential(
        nn.Linear(PIXELS, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 1),
        nn.Flatten(0),
    )


# %%
# The two games
# -------------
#
# In the plain one the discriminator says real or generated. With mixup it is shown mixes, and says
# how much of each is real: ``others`` is the batch to mix with, and λ is the target. Gradients
# reach the generator through the mix.


def plain_loss(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Judge real digits to be real and generated ones to be not."""
    realness = torch.cat([torch.ones(len(real)), torch.zeros(len(fake))])
    return judge(discriminator, torch.cat([real, fake]), realness)


def mixup_loss(mix: RandomMixup, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Judge a mix of real and generated digits to be as real as it is."""
    lam = mix.make_params([real])["lam"]
    mixed = functional.mixup(real, torch.arange(len(real)), lam, others=fake)
    return judge(discriminator, mixed, lam)


def judge(discriminator: nn.Module, images: Tensor, realness: Tensor) -> Tensor:
    """Return how badly the discriminator judges how real images are, from 0 to 1."""
    logits = discriminator(images)
    return F.binary_cross_entropy_with_logits(logits, realness.to(logits.device))


# %%
# Playing
# -------
#
# The discriminator takes several steps for each one of the generator.


def train(
    options: argparse.Namespace, task: Task, gallery: dict[str, Tensor], variant: str, seed: int
) -> Iterator[float]:
    """Train one GAN and yield its score after each epoch; put what seed 0 wrote in the gallery."""
    game, settings = VARIANTS[variant]
    shuffling, mixing, drawing, showing = generators(seed, 4)
    mix = RandomMixup(alpha=options.alpha, generator=mixing)
    loss = partial(mixup_loss, mix) if game == "mixup" else plain_loss

    def noise(number: int, source: torch.Generator) -> Tensor:
        return torch.randn(number, NOISE, generator=source).to(options.device)

    torch.manual_seed(seed)  # the only way to seed a model's first weights
    generator = make_generator().to(options.device)
    discriminator = make_discriminator().to(options.device)
    adam = partial(torch.optim.Adam, **settings, fused=True)
    generating, discriminating = adam(generator.parameters()), adam(discriminator.parameters())
    shown_noise = noise(len(task.test), showing)

    step = 0
    for _ in range(options.epochs):
        generator.train()
        for rows in batches(len(task.training), BATCH_SIZE, shuffling):
            real = task.training[rows]
            fake = generator(noise(len(real), drawing))
            descend(discriminating, loss(discriminator, real, fake.detach()))
            step += 1
            if step % options.steps == 0:
                descend(generating, -loss(discriminator, real, fake))

        generator.eval()
        with torch.no_grad():
            written = generator(shown_noise)
        if seed == 0:
            gallery[variant] = written[:SHOWN].cpu()
        yield frechet_distance(task.features, written, task.test)


# %%
# How well they write
# -------------------
#
# What the score is lies in the features, above. The dotted line is the distance of the real digits
# that were trained on.


@torch.no_grad()
def frechet_distance(features: nn.Module, images: Tensor, others: Tensor) -> float:
    """Compare mean and covariance of what the features are on two sets of images."""
    one, two = (features(part).cpu().double() for part in (images, others))
    shift = (one.mean(dim=0) - two.mean(dim=0)).square().sum()
    first, second = one.T.cov(), two.T.cov()
    overlap = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return (shift + first.trace() + second.trace() - 2 * overlap).item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Play both games, print the scores, draw them and what the generators wrote."""
    options = parse_options(arguments)
    gallery: dict[str, Tensor] = {}
    with one_thread():
        task = make_task(options.device)
        floor = frechet_distance(task.features, task.training, task.test)
        scores = run_all(
            partial(train, options, task, gallery),
            [*VARIANTS],
            seeds=options.seeds,
            epochs=options.epochs,
        )
    print_table(f"Fréchet distance to test digits ({floor:.2f} for training digits)", scores)

    with picture(options.out, size=(13, 6)) as figure:
        left, right = figure.subfigures(1, 2, width_ratios=(5, 6))
        axes = left.subplots()
        draw_curves(axes, scores)
        axes.axhline(floor, color="black", linestyle="dotted", label="training digits")
        axes.get_legend().remove()
        left.legend(loc="outside lower center", ncols=2)
        axes.set_ylabel("Fréchet distance to test digits")
        log_scale(axes)
        panels = right.subfigures(2, 2).flat
        for panel, (variant, images) in zip(panels, gallery.items(), strict=True):
            draw_digits(panel, variant, images)


if __name__ == "__main__":
    main()
