"""The digits that every recipe trains on, and a small model for them."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Split 1,797 real digits, float (1, 8, 8) with an index, into 900 to train on and a test."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16  # ink is 0 to 16
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    training, test = order[:900], order[900:]
    return TensorDataset(images[training], labels[training]), TensorDataset(
        images[test], labels[test]
    )


def small_cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def fit(model: nn.Module, batches: Iterable[Any]) -> None:
    """Take a step of SGD with momentum on each batch of images and soft labels."""
    if not hasattr(model, "optimizer"):
        model.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        model.optimizer.zero_grad()
        loss.backward()
        model.optimizer.step()


def accuracy(model: nn.Module, test: TensorDataset) -> float:
    """Return the share of the test digits that the model gets right."""
    images, labels = test.tensors
    with torch.no_grad():
        return (model.eval()(images).argmax(1) == labels).float().mean().item()


def report(train: Callable[[str, int], float], variants: Sequence[str]) -> None:
    """Print the accuracy of the last variant; of all over N seeds where the command line says N."""
    if not sys.argv[1:]:
        print(f"test accuracy: {train(variants[-1], 0):.1%}")
        return
    for variant in variants:
        found = 100 * torch.tensor([train(variant, seed) for seed in range(int(sys.argv[1]))])
        print(f"test accuracy, {variant}: {found.mean():.1f} ± {found.std():.1f}%")
