"""What surrounds mixing: a chain of steps in one compiled function, and an epoch of training."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision.transforms import v2

from mixup_transforms import MixCollate, RandomMixup
from tests.benchmarks.calls import LARGE, batch
from tests.benchmarks.timing import Table, measure

CHAIN = Path(__file__).parents[2] / "docs" / "compiled_chain.py"


def chain(options: argparse.Namespace) -> Table:
    """Time uint8 to float, normalising and mixing, as steps and as one compiled function."""
    torch.set_num_threads(options.threads[0])
    names: dict[str, object] = {"__name__": "compiled_chain"}
    exec(CHAIN.read_text(), names)
    names |= {name: names[name].to(options.device) for name in ("MEAN", "STD")}
    images, labels = batch(options, LARGE, torch.uint8)
    mean, std = (names[name].flatten().tolist() for name in ("MEAN", "STD"))
    normalised = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    mix = RandomMixup(num_classes=names["CLASSES"])
    functions = {
        "cloning its output": images.float().clone,
        "the steps one by one": lambda: mix(normalised(images), labels),
        "docs/compiled_chain.py": lambda: names["mixed"](images, labels),
    }
    return f"chain, uint8 to mixed float32, {'×'.join(map(str, LARGE))}", measure(
        functions, options
    )


def epoch(options: argparse.Namespace) -> Table:
    """Time an epoch of a small network on digits enlarged to 224×224, loaded by two workers."""
    torch.set_num_threads(options.threads[0])
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)[:512]
    dataset = TensorDataset(F.interpolate(images, (224, 224)), torch.tensor(digits.target)[:512])
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 7, stride=2), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.LazyLinear(10)),
    )
    model(dataset.tensors[0][:1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    mix = RandomMixup(num_classes=10, inplace=True)

    def train(
        collate_fn: Callable[..., object], after: Callable[..., tuple[Tensor, Tensor]]
    ) -> None:
        for loaded in DataLoader(dataset, 64, shuffle=True, num_workers=2, collate_fn=collate_fn):
            images, labels = after(*loaded)
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()

    def unmixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images, labels

    batches = [*DataLoader(dataset, 64)]
    return "an epoch of 512 digits at 1×224×224, 2 workers", measure(
        {
            "the mixing alone": lambda: [mix(*loaded) for loaded in batches],
            "no mixing": lambda: train(default_collate, unmixed),
            "RandomMixup after the loader": lambda: train(default_collate, mix),
            "MixCollate in the workers": lambda: train(MixCollate(mix), unmixed),
        },
        options,
    )
