"""Detection
=========

Find and read handwritten digits on photographs after few scenes, with and without mixing.

Scenes are digits of several sizes on parts of photographs; neither the digits nor the photographs
of the test scenes are seen in training. The detector has no anchors: for each class a heat map of
the objects' centres, and at each centre the distances to the box's four sides (in the manner of
CenterNet, arXiv 1904.07850). Every mixer mixes half of the scenes and gives each object a weight,
the share of it that is still to be seen. Compared are losses that multiply each object's terms by
its weight with losses that do not, and objects that are all kept with those of 0.3 and more.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from skimage import color, data
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torchmetrics.detection import MeanAveragePrecision
from torchvision import tv_tensors
from torchvision.ops import generalized_box_iou_loss, masks_to_boxes
from torchvision.transforms import v2
from training import (
    COLOURS,
    batches,
    generators,
    mean_and_spread,
    option_parser,
    picture,
    train_all,
    whole_number,
)

from mixup_transforms import (
    KeepVisible,
    RandomCopyPaste,
    RandomCutMix,
    RandomMixup,
    RandomMosaic,
)

# sphinx_gallery_thumbnail_path = "images/detect_digits.png"

CLASSES = 10
SIDE = 64
STRIDE = 4  # pixels a side in a cell of the heat maps
TRAINING_DIGITS = 900  # of 1797; the others are for the test scenes
TEST_SIZE = 150
BATCH_SIZE = 16
TRAINING_PHOTOGRAPHS = [
    "astronaut",
    "camera",
    "clock",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "rocket",
]
TEST_PHOTOGRAPHS = ["brick", "chelsea", "coffee", "moon"]
SHOWN = 4

Target = dict[str, Any]
Run = tuple[str, str, int]  # a variant, a setting and a seed
Scores = dict[tuple[str, str], Tensor]  # of a variant and a setting, (seeds,)


# %%
# The scenes
# ----------
#
# Up to four digits on a part of a photograph, each with its box, its instance mask and its class.


def load_data(
    options: argparse.Namespace, generator: torch.Generator
) -> tuple[tuple[Tensor, list[Target]], tuple[Tensor, list[Target]]]:
    """Split the digits at random, and make training and test scenes of them."""
    digits = load_digits()
    inks = torch.tensor(digits.images, dtype=torch.float32) / 16  # ink is 0 to 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=generator)

    def scenes(part: Tensor, names: list[str], number: int) -> tuple[Tensor, list[Target]]:
        photographs = [load_photograph(name) for name in names]
        pairs = [
            make_scene(photographs, inks[part], labels[part], generator) for _ in range(number)
        ]
        images, targets = zip(*pairs, strict=True)
        on_device = [
            {key: value.to(options.device) for key, value in target.items()} for target in targets
        ]
        return torch.stack(images).to(options.device), on_device

    return (
        scenes(order[:TRAINING_DIGITS], TRAINING_PHOTOGRAPHS, options.scenes),
        scenes(order[TRAINING_DIGITS:], TEST_PHOTOGRAPHS, TEST_SIZE),
    )


def load_photograph(name: str) -> Tensor:
    """Load one of scikit-image's photographs, ``(3, H, W)`` from 0 to 1."""
    pixels = getattr(data, name)()
    pixels = color.gray2rgb(pixels) if pixels.ndim == 2 else pixels
    return torch.tensor(pixels).movedim(-1, 0) / 255


def make_scene(
    photographs: list[Tensor], inks: Tensor, labels: Tensor, generator: torch.Generator
) -> tuple[Tensor, Target]:
    """Write 1 to 4 digits on a part of a photograph, side by side."""

    def between(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    photograph = photographs[between(0, len(photographs) - 1)]
    size = between(SIDE, 4 * SIDE)
    top, left = (between(0, length - size) for length in photograph.shape[1:])
    part = photograph[:, top : top + size, left : left + size]
    image = F.interpolate(part[None], (SIDE, SIDE), mode="bilinear", antialias=True)[0]

    free = torch.ones(SIDE, SIDE, dtype=torch.bool)
    masks, classes = [], []
    wanted = between(1, 4)
    for _ in range(4 * wanted):
        if len(masks) == wanted:
            break
        side = between(14, 30)
        top, left = between(0, SIDE - side), between(0, SIDE - side)
        place = (..., slice(top, top + side), slice(left, left + side))
        if not free[place].all():
            continue
        digit = between(0, len(inks) - 1)
        ink = F.interpolate(inks[None, None, digit], (side, side), mode="bilinear")[0, 0]
        colour = 0.4 * torch.rand(3, 1, 1, generator=generator)
        colour = colour if image[place].mean() > 0.5 else 1 - colour
        image[place] = torch.lerp(image[place], colour, ink)
        mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        mask[place] = ink >= 0.5
        free[place] = False
        masks.append(mask)
        classes.append(labels[digit])

    stacked = torch.stack(masks)
    boxes = masks_to_boxes(stacked) + torch.tensor([0, 0, 1, 1])  # to the far edge of the pixel
    return image, {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(SIDE, SIDE)),
        "masks": tv_tensors.Mask(stacked),
        "labels": torch.stack(classes),
    }


# %%
# The mixers
# ----------
#
# Half of the scenes are mixed. ``KeepVisible`` drops objects of which less is left than is asked
# for.

MIXERS: dict[str, Callable[[torch.Generator], nn.Module]] = {
    "mixup-8": lambda generator: RandomMixup(alpha=8.0, p=0.5, generator=generator),
    "mixup-1": lambda generator: RandomMixup(alpha=1.0, p=0.5, generator=generator),
    "cutmix": lambda generator: RandomCutMix(alpha=1.0, p=0.5, generator=generator),
    "mosaic": lambda generator: RandomMosaic(p=0.5, generator=generator),
    "copypaste": lambda generator: RandomCopyPaste(p_object=0.5, p=0.5, generator=generator),
}

# Whether the loss has weights, and the weight below which objects are dropped.
SETTINGS = {
    "weights": (True, 0.0),
    "weights, ≥ 0.3": (True, 0.3),
    "no weights": (False, 0.0),
    "no weights, ≥ 0.3": (False, 0.3),
}


def batch_transform(variant: str, min_weight: float, generator: torch.Generator) -> nn.Module:
    """Make the transform of a training batch; a variant that is no mixer changes nothing."""
    if variant not in MIXERS:
        return v2.Identity()
    return v2.Compose([MIXERS[variant](generator), KeepVisible(min_weight=min_weight)])


# %%
# The detector
# ------------
#
# The loss of an object is multiplied by its weight, where the loss has weights.


class Detector(nn.Module):
    """Images ``(B, 3, H, W)`` to logits ``(B, 10, h, w)`` and distances ``(B, 4, h, w)`` in cells.

    The distances are those from the middle of a cell to the left, upper, right and lower side.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(convolution(3, 16, stride=2), convolution(16, 32, stride=2))
        self.coarse = nn.Sequential(
            convolution(32, 64, stride=2),
            convolution(64, 64),
            convolution(64, 64),
            nn.Upsample(scale_factor=2),
        )
        self.head = nn.Sequential(convolution(96, 32), nn.Conv2d(32, CLASSES + 4, 1))
        nn.init.constant_(self.head[-1].bias[:CLASSES], -4.0)  # most cells hold no centre

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(images)
        both = self.head(torch.cat([fine, self.coarse(fine)], dim=1))
        return both[:, :CLASSES], F.softplus(both[:, CLASSES:])


def convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """Make a convolution, normalised and with an activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


def loss_of(model: nn.Module, images: Tensor, targets: list[Target], *, weighted: bool) -> Tensor:
    """Take CenterNet's focal loss of the centres and the GIoU loss of the boxes there."""
    logits, sides = model(images)
    boxes = torch.cat([target["boxes"].as_subclass(Tensor) for target in targets]) / STRIDE
    labels = torch.cat([target["labels"] for target in targets])
    weights = torch.ones_like(boxes[:, 0])
    if weighted and "weights" in targets[0]:
        weights = torch.cat([target["weights"] for target in targets])
    counts = torch.tensor([len(target["labels"]) for target in targets], device=labels.device)
    rows = torch.arange(len(targets), device=labels.device).repeat_interleave(counts)
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).long().clamp(0, logits.shape[-1] - 1).T

    cells = torch.arange(logits.shape[-1], device=labels.device)
    across, down = ((boxes[:, 2:] - boxes[:, :2]) / 6).clamp(min=0.3).unsqueeze(-1).unbind(1)
    bumps = torch.einsum(
        "nh,nw->nhw",
        (-(((cells - y[:, None]) / down) ** 2) / 2).exp(),
        (-(((cells - x[:, None]) / across) ** 2) / 2).exp(),
    )
    planes = (CLASSES * rows + labels)[:, None, None].expand_as(bumps)
    near = torch.zeros_like(logits).flatten(0, 1)
    near = near.scatter_reduce(0, planes, bumps, "amax").view_as(logits)
    chance = logits.sigmoid()
    elsewhere = (1 - near) ** 4 * chance**2 * F.softplus(logits)
    centres = (rows, labels, y, x)
    missed = (1 - chance[centres]) ** 2 * F.softplus(-logits[centres])
    misfit = generalized_box_iou_loss(boxes_around(x, y, sides[rows, :, y, x]), boxes)
    return (elsewhere.sum() + (weights * (missed + misfit)).sum()) / max(len(boxes), 1)


def boxes_around(x: Tensor, y: Tensor, sides: Tensor) -> Tensor:
    """Return the boxes ``(…, 4)`` of cells, from the distances to their sides."""
    middle = torch.stack([x, y], dim=-1) + 0.5
    return torch.cat([middle - sides[..., :2], middle + sides[..., 2:]], dim=-1)


@torch.no_grad()
def detect(model: nn.Module, images: Tensor) -> list[Target]:
    """Return the 20 highest peaks in the heat maps of each image."""
    model.eval()
    logits, sides = model(images)
    width = logits.shape[-1]
    peaks = logits.where(logits == F.max_pool2d(logits, 3, stride=1, padding=1), -torch.inf)
    scores, places = peaks.flatten(1).topk(20)
    labels, cells = places // width**2, places % width**2
    chosen = sides.flatten(2).gather(2, cells.unsqueeze(1).expand(-1, 4, -1)).transpose(1, 2)
    boxes = STRIDE * boxes_around(cells % width, cells // width, chosen)
    found = zip(boxes.clamp(0, SIDE), scores.sigmoid(), labels, strict=True)
    return [{"boxes": b, "scores": s, "labels": c} for b, s, c in found]


# %%
# Training
# --------
#
# With every mixer, with weights and without, with several seeds.


def train(options: argparse.Namespace, run: Run) -> tuple[float, list[Target]]:
    """Train one model; return its test mAP in % and what it detects in the first test scenes."""
    variant, setting, seed = run
    weighted, min_weight = SETTINGS[setting]
    drawing, shuffling, mixing = generators(seed, 3)
    (images, targets), (test_images, test_targets) = load_data(options, drawing)
    mix = batch_transform(variant, min_weight, mixing)

    torch.manual_seed(seed)  # the only way to seed a model's first weights
    model = Detector().to(options.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.05)
    steps = options.epochs * len(batches(len(images), BATCH_SIZE, torch.Generator()))
    schedule = OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)

    model.train()
    for _ in range(options.epochs):
        for rows in batches(len(images), BATCH_SIZE, shuffling):
            mixed = mix(images[rows], [targets[row] for row in rows])
            loss = loss_of(model, *mixed, weighted=weighted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    detected = detect(model, test_images)
    precision = MeanAveragePrecision()
    precision.update(detected, test_targets)
    return 100 * precision.compute()["map"].item(), detected[:SHOWN]


def measure(options: argparse.Namespace) -> tuple[Scores, dict[str, list[Target]]]:
    """Train every model; return the test scores, and what those of seed 0 detect."""
    variants = [*MIXERS] if options.mix == "all" else [options.mix]
    keys = [("plain", "no weights"), *product(variants, SETTINGS)]
    runs = [(*key, seed) for seed in range(options.seeds) for key in keys]
    scores = {key: torch.empty(options.seeds) for key in keys}
    shown = {}
    for (variant, setting, seed), (score, detected) in train_all(train, options, runs):
        scores[variant, setting][seed] = score
        if seed == 0:
            shown.setdefault(variant, detected)
    return scores, shown


def print_scores(heading: str, scores: Scores) -> None:
    """Print one line for each variant, one column for each setting."""
    seeds = len(next(iter(scores.values())))
    over = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "1 seed"
    print(f"{heading}, {over}\n  {'':<9}" + "".join(f"{name:>19}" for name in SETTINGS))
    for variant in dict.fromkeys(variant for variant, _ in scores):
        cells = []
        for setting in SETTINGS:
            if (variant, setting) not in scores:
                cells.append("")
                continue
            mean, spread = mean_and_spread(scores[variant, setting])
            cells.append(f"{mean:.1f}" + (f" ± {spread:.1f}" if seeds > 1 else ""))
        print((f"  {variant:<9}" + "".join(f"{cell:>19}" for cell in cells)).rstrip())


# %%
# The result
# ----------
#
# What follows from it is in :doc:`Choosing α and λ </choosing>`. It takes too long to be run for
# this page, which shows what it drew:
#
# .. image:: /images/detect_digits.png
#    :alt: Training scenes with the weights of their objects, and what is found in test scenes


def draw(figure: Figure, options: argparse.Namespace, shown: dict[str, list[Target]]) -> None:
    """Draw for each variant training scenes on the left, and test scenes on the right."""
    drawing, *_ = generators(0, 3)
    (images, targets), (test_images, _) = load_data(options, drawing)
    left, right = figure.subfigures(1, 2)
    left.suptitle("training scenes, weights of the objects")
    right.suptitle("test scenes, what is detected")
    rows = zip(*(half.subplots(len(shown), SHOWN) for half in (left, right)), strict=True)
    for (variant, detected), (before, after) in zip(shown.items(), rows, strict=True):
        before[0].set_ylabel(variant)
        mix = batch_transform(variant, 0.0, torch.Generator().manual_seed(0))
        mixed = mix(images[:BATCH_SIZE], targets[:BATCH_SIZE])
        for axes, image, target in zip(before, *mixed, strict=False):
            draw_scene(axes, image, target, target.get("weights"))
        for axes, image, found in zip(after, test_images, detected, strict=False):
            sure = {key: values[found["scores"] >= 0.3] for key, values in found.items()}
            draw_scene(axes, image, sure, sure["scores"])


def draw_scene(axes: Axes, image: Tensor, target: Target, numbers: Tensor | None) -> None:
    """Draw an image and its boxes, each with its class and a number of its own."""
    axes.imshow(image.cpu().movedim(0, -1).clamp(0, 1).numpy(), extent=(0, SIDE, SIDE, 0))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for i, (x1, y1, x2, y2) in enumerate(target["boxes"].tolist()):
        size = x2 - x1, y2 - y1
        axes.add_patch(Rectangle((x1, y1), *size, fill=False, edgecolor=COLOURS[1]))
        number = "" if numbers is None else f": {numbers[i]:.2f}"
        axes.text(
            min(x1, SIDE - 6 - 3 * len(number)),
            max(y1, 8),
            f"{target['labels'][i]}{number}",
            fontsize=7,
            color="white",
            bbox={"facecolor": COLOURS[1], "linewidth": 0, "pad": 0.5},
        )


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser(
        __doc__, seeds=3, epochs=15, over="scenes", out="detect_digits.png", jobs=2
    )
    add = parser.add_argument
    add("--mix", choices=["all", *MIXERS], default="all", help="how to mix")
    add("--scenes", type=whole_number, default=400, help="how many scenes to train on")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with and without mixing, print the test scores and draw scenes."""
    options = parse_options(arguments)
    scores, shown = measure(options)
    print_scores(f"{options.scenes} training scenes: test mAP in %", scores)
    with picture(options.out, size=(13, 1.7 * len(shown) + 0.4)) as figure:
        draw(figure, options, shown)


if __name__ == "__main__":
    main()
