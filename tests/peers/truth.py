"""Measure how far the labels of mixers, ours and others', are from their pixels.

    python -m tests.peers.truth

Prints the table of docs/truth.md. Libraries that are not installed are left out.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

import mixup_transforms
from mixup_transforms._testing.outside import pixel_slack, shown_and_told
from mixup_transforms._testing.trial import Trial

CLASSES = 10
IMAGE = (3, 32, 32)
PAIR = 2  # one black image, one white
FLOAT, HALF, BYTES = torch.float32, torch.bfloat16, torch.uint8

Pair = tuple[Tensor, Tensor]
Mixer = Callable[[Tensor, Tensor], Pair]


@dataclass(frozen=True)
class Library:
    """A library, what its lines need, and how its documentation says a mixer is called."""

    name: str
    package: str
    names: Callable[[], dict[str, object]]
    call: Callable[[Callable[..., object]], Mixer]
    lines: tuple[tuple[str, tuple[torch.dtype, ...]], ...]


def directly(mix: Mixer) -> Mixer:
    return mix


def timms(mix: Mixer) -> Mixer:
    """Give the class that collates samples, and a copy to the other, which writes in place."""
    from timm.data import FastCollateMixup

    if isinstance(mix, FastCollateMixup):
        return lambda images, labels: mix(
            [
                (image.numpy().copy(), int(label))
                for image, label in zip(images, labels, strict=True)
            ]
        )
    return lambda images, labels: mix(images.clone(), labels)


def kornias(mix: Mixer) -> Mixer:
    """Read λ as the docstrings define it: the partner's, or with use_correct_lambda one's own."""

    def call(images: Tensor, labels: Tensor) -> Pair:
        mixed, rows = mix(images, labels)
        own, partner, lam = rows.view(-1, 3).unbind(-1)
        lam = lam if getattr(mix, "use_correct_lambda", False) else 1 - lam
        return mixed, lam[:, None] * one_hot(own) + (1 - lam[:, None]) * one_hot(partner)

    return call


def fastais(callback: object) -> Mixer:
    """Train for one batch, and read the weights of the classes from the loss's gradient."""
    from fastai.basics import SGD, Callback, CrossEntropyLossFlat, DataLoader, DataLoaders, Learner

    class Guess(nn.Module):
        """Guess the same, whatever it sees."""

        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Parameter(torch.zeros(PAIR, CLASSES))

        def forward(self, images: Tensor) -> Tensor:
            if self.training:
                self.seen = images.clone()
            return 1.0 * self.output

    class Keep(Callback):
        def after_backward(self) -> None:
            self.model.slope = self.model.output.grad.clone()

    def call(images: Tensor, labels: Tensor) -> Pair:
        samples = DataLoader([*zip(images, labels, strict=True)], bs=PAIR)
        guess, settings = Guess(), {"loss_func": CrossEntropyLossFlat(), "opt_func": SGD}
        learner = Learner(DataLoaders(samples, samples), guess, cbs=[callback, Keep()], **settings)
        with learner.no_logging():
            learner.fit(1, lr=0.0)
        # The gradient of a cross-entropy is (softmax − weights) / B.
        return guess.seen, 1 / CLASSES - PAIR * guess.slope

    return call


def kerases(mix: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Mixer:
    def call(images: Tensor, labels: Tensor) -> Pair:
        batch = {"images": images.movedim(1, -1), "labels": one_hot(labels)}
        mixed = mix(batch, training=True)
        return mixed["images"].movedim(-1, 1), mixed["labels"]

    return call


def monais(mix: Mixer) -> Mixer:
    mix.set_random_state(0)
    return lambda images, labels: mix(images, one_hot(labels))


def monais_with_maps(mix: Mixer) -> Mixer:
    """Give a label to each pixel, and take their mean."""
    mix.set_random_state(0)

    def call(images: Tensor, labels: Tensor) -> Pair:
        maps = one_hot(labels)[..., None, None].expand(-1, -1, *IMAGE[1:])
        mixed, maps = mix(images, maps)
        return mixed, maps.mean(dim=(2, 3))

    return call


def one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels.long(), CLASSES).float()


def of_timm() -> dict[str, object]:
    from timm.data import FastCollateMixup, Mixup

    return {"Mixup": Mixup, "FastCollateMixup": FastCollateMixup}


def of_kornia() -> dict[str, object]:
    import kornia.augmentation

    return {"K": kornia.augmentation}


def of_fastai() -> dict[str, object]:
    from fastai.callback import mixup

    return {"MixUp": mixup.MixUp, "CutMix": mixup.CutMix}


def of_keras() -> dict[str, object]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return {"keras": keras}


def of_monai() -> dict[str, object]:
    from monai.transforms import CutMix, MixUp

    return {"MixUp": MixUp, "CutMix": CutMix}


OURS = Library(
    "mixup_transforms",
    "mixup-transforms",
    lambda: vars(mixup_transforms),
    directly,
    (
        ("RandomMixup(num_classes=10)", (FLOAT, HALF, BYTES)),
        ("RandomCutMix(num_classes=10)", (FLOAT, BYTES)),
        ("RandomResizeMix(num_classes=10)", (FLOAT, BYTES)),
        ("RandomFMix(num_classes=10)", (FLOAT, BYTES)),
    ),
)
PEERS = (
    Library(
        "torchvision",
        "torchvision",
        lambda: {"v2": v2},
        directly,
        (
            ("v2.MixUp(num_classes=10)", (FLOAT, HALF, BYTES)),
            ("v2.CutMix(num_classes=10)", (FLOAT, BYTES)),
        ),
    ),
    Library(
        "timm",
        "timm",
        of_timm,
        timms,
        (
            ("Mixup({})", (FLOAT, HALF, BYTES)),
            ('Mixup(mode="elem", {})', (FLOAT, HALF, BYTES)),
            ("Mixup(mixup_alpha=0, cutmix_alpha=1.0, {})", (FLOAT, BYTES)),
            ('Mixup(mixup_alpha=0, cutmix_alpha=1.0, mode="elem", {})', (FLOAT, BYTES)),
            ("Mixup(mixup_alpha=0, cutmix_alpha=1.0, correct_lam=False, {})", (FLOAT,)),
            ("FastCollateMixup({})", (BYTES,)),
            ('FastCollateMixup(mode="elem", {})', (BYTES,)),
            ("FastCollateMixup(mixup_alpha=0, cutmix_alpha=1.0, {})", (BYTES,)),
        ),
    ),
    Library(
        "kornia",
        "kornia",
        of_kornia,
        kornias,
        (
            ("K.RandomMixUpV2({})", (FLOAT, HALF, BYTES)),
            ("K.RandomCutMixV2({})", (FLOAT,)),
            ("K.RandomCutMixV2(use_correct_lambda=True, {})", (FLOAT,)),
        ),
    ),
    Library(
        "fastai",
        "fastai",
        of_fastai,
        fastais,
        (("MixUp()", (FLOAT,)), ("CutMix()", (FLOAT,))),
    ),
    Library(
        "Keras",
        "keras",
        of_keras,
        kerases,
        (
            ('keras.layers.MixUp(seed=0, data_format="channels_last")', (FLOAT,)),
            ('keras.layers.CutMix(seed=0, data_format="channels_last")', (FLOAT,)),
        ),
    ),
    *(
        Library(
            name,
            "monai",
            of_monai,
            call,
            (("MixUp(batch_size=2)", (FLOAT,)), ("CutMix(batch_size=2)", (FLOAT,))),
        )
        for name, call in (("MONAI", monais), ("MONAI, label maps", monais_with_maps))
    ),
)
# What the lines of a library have in common, left out of the table.
COMMON = {
    "timm": "label_smoothing=0, num_classes=10",
    "kornia": 'data_keys=["input", "class"]',
}


def label_errors(mix: Mixer, dtype: torch.dtype, batches: int) -> Tensor:
    """Return by how much each label's weight of a class is off the share that its pixels have."""
    off = []
    for seed in range(batches):
        trial = Trial(mix, CLASSES, True, PAIR, IMAGE, dtype, seed)
        shown, told, _ = shown_and_told(trial)
        off.append((shown - told).abs())
    return torch.cat(off)


def measured(mix: Mixer, dtype: torch.dtype, batches: int) -> tuple[str, str, str]:
    """Return the mean and the worst label error and a verdict, or what goes wrong before."""
    try:
        off = label_errors(mix, dtype, batches)
    except AssertionError as error:
        return "–", "–", str(error).partition(":")[0].removeprefix("it ")
    right = (off <= pixel_slack(dtype) + 1e-6).all()
    return f"{off.mean():.2g}", f"{off.max():.2g}", "right" if right else "off"


def table(batches: int) -> Iterator[list[str]]:
    for library in (OURS, *PEERS):
        if find_spec(library.package.replace("-", "_")) is None:
            continue
        names, common = library.names(), COMMON.get(library.name, "")
        for line, dtypes in library.lines:
            shown = line.replace(", {}", "").replace("{}", "")
            for dtype in dtypes:
                mix = library.call(eval(line.format(common), dict(names)))
                name, *kind = library.name.split(", ")
                made = ", ".join((f"{name} {version(library.package)}", *kind))
                yield [made, f"`{shown}`", str(dtype)[6:], *measured(mix, dtype, batches)]


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m tests.peers.truth", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--batches", type=int, default=1000, help="pairs of images for each row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # kornia warns of its own default
    print("| library | mixer | images | mean | worst | verdict |\n|---|---|---|--:|--:|---|")
    for row in table(options.batches):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
