"""Segmentation
============

Segment handwritten digits after a few labelled images, with and without mixing.

The mask of an image gives each pixel a class: background or one of ten digits. CutMix cuts and
pastes masks along with their images, so class indices stay class indices. Pixels of faint ink are
void, neither digit nor background: no loss and no score counts them.

With --unlabelled there are images without masks too, which get pseudo-labels from a teacher, the
running mean of the model (as in ClassMix, arXiv 2007.07936); what it is unsure of is void. The
labelled images alone are then compared with pseudo-labels as they are, and with images that are
mixed with pseudo-labelled ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from training import (
    checked,
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

from mixup_transforms import (
    OneHot,
    RandomClassMix,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomResizeMix,
)

CLASSES = 11  # background is class 0, digit d is class d + 1
VOID = 255
SURE = 0.9  # the probability from which a pixel's pseudo-label counts
SIDE = 32
TRAINING_DIGITS = 900  # of 1797; the others are for the test images
TEST_SIZE = 60

# Paul Tol's muted colours and black for the digits: colour-blind readers can tell them apart.
COLOURS = {
    "background": "#FFFFFF",
    "0": "#332288",
    "1": "#88CCEE",
    "2": "#44AA99",
    "3": "#117733",
    "4": "#999933",
    "5": "#DDCC77",
    "6": "#CC6677",
    "7": "#882255",
    "8": "#AA4499",
    "9": "#000000",
    "void": "#C8C8C8",
}
FRAME = "#808080"

# %%
# Images and masks
# ----------------
#
# Each image has three to five digits on grey paper. Half of scikit-learn's digits are written on
# images for training, the other half on those of the test.


def load_data(
    options: argparse.Namespace, generator: torch.Generator
) -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """Split the digits at random, and draw training, test and unlabelled images with them."""
    digits = load_digits()
    inks = torch.tensor(digits.images, dtype=torch.float32) / 16  # ink is 0 to 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=generator)

    def draw(part: Tensor, number: int) -> TensorDataset:
        images = torch.empty(number, 1, SIDE, SIDE)
        masks = torch.empty(number, SIDE, SIDE, dtype=torch.long)
        for i in range(number):
            images[i], masks[i] = draw_image(inks[part], labels[part], generator)
        return TensorDataset(images.to(options.device), masks.to(options.device))

    training_set = draw(order[:TRAINING_DIGITS], options.images)
    test_set = draw(order[TRAINING_DIGITS:], TEST_SIZE)
    return training_set, test_set, draw(order[:TRAINING_DIGITS], options.unlabelled)


def draw_image(inks: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Write 3 to 5 digits on grey paper; return the image ``(1, H, W)`` and its mask ``(H, W)``."""
    paper = 0.3 * torch.rand((), generator=generator)
    image = paper.repeat(SIDE, SIDE)
    mask = torch.zeros(SIDE, SIDE, dtype=torch.long)

    def below(end: int) -> int:
        return int(torch.randint(end, (), generator=generator))

    for _ in range(3 + below(3)):
        digit, top, left = below(len(inks)), below(SIDE - 7), below(SIDE - 7)
        place = (slice(top, top + 8), slice(left, left + 8))
        ink = inks[digit]
        classes = torch.where(ink >= 0.5, labels[digit] + 1, VOID)
        image[place] = torch.where(ink > 0, paper + (1 - paper) * ink, image[place])
        mask[place] = torch.where(ink > 0, classes, mask[place])
    noise = 0.05 * torch.randn(SIDE, SIDE, generator=generator)
    return (image + noise).clamp(0, 1).unsqueeze(0), mask


# %%
# The mixers
# ----------
#
# Those that cut and paste take a mask of class indices as it is. Mixup makes it class
# probabilities.

MIXERS: dict[str, Callable[[float, torch.Generator], nn.Module]] = {
    "cutmix": lambda alpha, generator: RandomCutMix(alpha=alpha, generator=generator),
    "fmix": lambda alpha, generator: RandomFMix(alpha=alpha, generator=generator),
    "resizemix": lambda alpha, generator: RandomResizeMix(generator=generator),
    "classmix": lambda alpha, generator: RandomClassMix(ignore_index=VOID, generator=generator),
    # Two classes in one pixel are no class index, so mixup needs masks of class probabilities.
    "mixup": lambda alpha, generator: v2.Compose(
        [OneHot(CLASSES, ignore_index=VOID), RandomMixup(alpha=alpha, generator=generator)]
    ),
}


def batch_transform(variant: str, alpha: float, generator: torch.Generator) -> nn.Module:
    """Make the transform of a training batch; a variant that is no mixer changes nothing."""
    return MIXERS[variant](alpha, generator) if variant in MIXERS else v2.Identity()


# %%
# What the model sees
# -------------------
#
# Mixed images, each above the mask that it gets. Where a digit of the partner begins, its class
# begins too.


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(__doc__, seeds=3, epochs=100, over="images", out="segment_digits.png")
    add = parser.add_argument
    add("--mix", choices=MIXERS, default="cutmix", help="how to mix")
    add(
        "--alpha",
        type=positive,
        default=1.0,
        help="lam ~ Beta(alpha, alpha), for those that draw it",
    )
    add("--images", type=whole_number, default=40, help="how many labelled images to train on")
    count = checked(int, lambda n: n >= 0, "a whole number, at least 0")
    add("--unlabelled", type=count, default=0, help="how many images without masks to train on")
    options = parser.parse_args(arguments)
    if options.unlabelled and options.mix == "mixup":
        parser.error("--unlabelled needs masks of class indices, which mixup cannot mix")
    return options


def draw_mixed_images(figure: Figure, options: argparse.Namespace) -> None:
    """Draw images as the transform mixed them, each above the mask that it gave it."""
    drawing, mixing = generators(0, 2)
    _, test_set, _ = load_data(options, drawing)
    mix = batch_transform(options.mix, options.alpha, mixing)
    images, masks = test_set[:10]
    images, masks = mix(tv_tensors.Image(images), tv_tensors.Mask(masks))

    grey = 1 - images.cpu().movedim(1, -1).expand(-1, -1, -1, 3)
    pairs = torch.cat([grey, painted(masks)], dim=1)
    for axes, pair in zip(figure.subplots(2, 5).flat, pairs, strict=True):
        axes.imshow(pair.numpy())
        axes.axhline(SIDE - 0.5, color=FRAME, linewidth=1)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=FRAME)
    figure.legend(
        handles=[Patch(fc=colour, ec=FRAME, label=name) for name, colour in COLOURS.items()],
        loc="outside lower center",
        ncols=len(COLOURS),
        columnspacing=0.8,
        handlelength=0.8,
        handletextpad=0.3,
    )


def painted(masks: Tensor) -> Tensor:
    """Return masks in the colours of their classes, blended where mixup did: ``(B, H, W, 3)``."""
    if not masks.is_floating_point():
        masks = OneHot(CLASSES, ignore_index=VOID)(masks)
    void = 1 - masks.sum(dim=1, keepdim=True)
    weights = torch.cat([masks, void], dim=1).cpu()
    colours = torch.tensor([to_rgb(name) for name in COLOURS.values()])
    return torch.einsum("bchw,cr->bhwr", weights, colours).clamp(0, 1)


if __name__ == "__main__":
    options = parse_options()
    with picture(part_of(options.out, "mixed"), size=(8, 5.5)) as figure:
        figure.suptitle(f"mixed images above their masks: {options.mix}")
        draw_mixed_images(figure, options)

# %%
# Training
# --------
#
# The mixer stands in one line of the loop. With images without masks it mixes labelled ones with
# them, ``mix.between(batch, others)``.

PSEUDO = "pseudo-labels"


class UNet(nn.Module):
    """A U-Net of two levels: images ``(B, 1, H, W)`` to logits ``(B, C, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = convolution(1, 16, size=5)
        self.coarse = nn.Sequential(
            nn.MaxPool2d(2),
            convolution(16, 32, size=3),
            convolution(32, 32, size=3),
            convolution(32, 16, size=1),
            nn.Upsample(scale_factor=2),
        )
        self.classify = nn.Sequential(convolution(32, 16, size=3), nn.Conv2d(16, CLASSES, 1))

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        return self.classify(torch.cat([fine, self.coarse(fine)], dim=1))


def convolution(inputs: int, outputs: int, *, size: int) -> nn.Sequential:
    """Make a convolution that keeps height and width, normalised and with an activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


def train(options: argparse.Namespace, variant: str, seed: int) -> Iterator[float]:
    """Train one model and yield its test score in % after each epoch."""
    drawing, shuffling, mixing, choosing = generators(seed, 4)
    training_set, test_set, unlabelled = load_data(options, drawing)
    length = max(options.images, options.unlabelled)
    sampler = RandomSampler(training_set, num_samples=length, generator=shuffling)
    loader = DataLoader(training_set, batch_size=5, sampler=sampler, generator=shuffling)
    mix = batch_transform(variant, options.alpha, mixing)

    torch.manual_seed(seed)  # the only way to seed a model's first weights
    model = UNet().to(options.device, memory_format=torch.channels_last)
    teacher = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    schedule = CosineAnnealingLR(optimizer, T_max=options.epochs)

    for _ in range(options.epochs):
        model.train()
        for images, masks in loader:
            # A collated batch is of plain tensors; the mixers know a mask by its type.
            batch = tv_tensors.Image(images), tv_tensors.Mask(masks)
            if not options.unlabelled:
                loss = loss_of(model, *mix(*batch))
            else:
                loss = loss_of(model, *batch)
                if variant != "plain":
                    rows = torch.randint(options.unlabelled, (len(images),), generator=choosing)
                    others = pseudo_labelled(teacher, unlabelled[rows][0])
                    mixed = others if variant == PSEUDO else mix.between(batch, others)
                    loss = loss + loss_of(model, *mixed)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            teacher.update_parameters(model)
        schedule.step()
        yield mean_iou(model, *test_set.tensors)


@torch.no_grad()
def pseudo_labelled(teacher: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return images with what a model says of their pixels, void where it is not sure."""
    teacher.eval()
    chances, classes = teacher(images).softmax(dim=1).max(dim=1)
    return tv_tensors.Image(images), tv_tensors.Mask(classes.where(chances >= SURE, VOID))


def loss_of(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    """Take the cross entropy with masks of class indices or of class probabilities."""
    logits = model(images)
    weight = logits.new_ones(CLASSES)
    weight[0] = 0.2  # most pixels are background
    if masks.is_floating_point():  # void is all zero there, so that nothing need be ignored
        return F.cross_entropy(logits, masks, weight)
    return F.cross_entropy(logits, masks, weight, ignore_index=VOID)


@torch.no_grad()
def mean_iou(model: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Return intersection over union, the mean over the classes, in %."""
    model.eval()
    predicted = model(images).argmax(dim=1)
    known = masks != VOID
    pairs = CLASSES * masks[known] + predicted[known]
    counts = pairs.bincount(minlength=CLASSES**2).view(CLASSES, CLASSES)
    intersection = counts.diagonal()
    union = counts.sum(dim=0) + counts.sum(dim=1) - intersection
    return 100 * (intersection / union).mean().item()


# %%
# What it is worth
# ----------------
#
# A model is trained with and without mixing, with several seeds each.


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with and without mixing, print the test scores and draw them."""
    options = parse_options(arguments)
    variants = ["plain", *([PSEUDO] if options.unlabelled else []), options.mix]
    scores = run_all(partial(train, options), variants, seeds=options.seeds, epochs=options.epochs)
    task = f"digits segmented after {options.images} labelled images"
    task += f", {options.unlabelled} without labels" if options.unlabelled else ""
    print_table(f"{task}: test mean IoU in %", scores)

    with picture(options.out, size=(8, 5.5)) as figure:
        axes = figure.subplots()
        axes.set_title(task)
        draw_curves(axes, scores)
        axes.set_ylabel("test mean IoU in %")


if __name__ == "__main__":
    main()
