"""What the benchmark times, and how."""

from __future__ import annotations

import argparse
import ctypes
import gc
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    MixCollate,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    functional,
)

CLASSES = 1000
LARGE = (128, 3, 224, 224)
SIZES = ((8, 3, 32, 32), (512, 3, 32, 32), LARGE, (64, 3, 512, 512))
DTYPES = (torch.float32, torch.bfloat16, torch.uint8)

Size = tuple[int, ...]
Functions = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Row:
    """What one function took, in milliseconds and in megabytes."""

    name: str
    median: float
    low: float
    high: float
    memory: float | None


Table = tuple[str, list[Row]]


def whole_calls(images: Tensor, labels: Tensor) -> Functions:
    """Return the calls to compare, each from class indices to mixed soft labels."""
    out, own = images.clone(), images.clone()
    shared = {"num_classes": CLASSES}
    mixers = {
        "v2.MixUp": v2.MixUp(alpha=1.0, **shared),
        "v2.CutMix": v2.CutMix(alpha=1.0, **shared),
        "RandomMixup": RandomMixup(**shared),
        "RandomCutMix": RandomCutMix(**shared),
        "RandomResizeMix": RandomResizeMix(**shared),
        "RandomFMix": RandomFMix(**shared),
        "RandomMosaic": RandomMosaic(**shared),
        **peers(),
    }
    in_place = {
        "RandomMixup, in place": RandomMixup(**shared, inplace=True),
        "RandomCutMix, in place": RandomCutMix(**shared, inplace=True),
        "RandomMosaic, in place": RandomMosaic(**shared, inplace=True),
    }
    if images.is_cuda:
        mixers |= {f"{name}, compiled": torch.compile(mix) for name, mix in mixers.items()}
    return {
        "out.copy_(x)": lambda: out.copy_(images),
        "x.clone()": images.clone,
        **{name: lambda mix=mix: mix(images, labels) for name, mix in mixers.items()},
        **{name: lambda mix=mix: mix(own, labels) for name, mix in in_place.items()},
    }


def peers() -> Functions:
    """Return the mixers of other libraries, those that are installed."""
    found: Functions = {}
    if find_spec("timm"):
        from timm.data import Mixup

        for name, alphas in (
            ("timm Mixup, in place", {"mixup_alpha": 1.0}),
            ("timm Mixup as CutMix, in place", {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}),
        ):
            found[name] = Mixup(**alphas, label_smoothing=0.0, num_classes=CLASSES)
    if find_spec("kornia"):
        from kornia.augmentation import RandomCutMixV2, RandomMixUpV2

        for mix in (RandomMixUpV2, RandomCutMixV2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[f"kornia {mix.__name__}"] = mix(data_keys=["input", "class"])
    return found


def collating(images: Tensor, labels: Tensor) -> Functions:
    """Return the ways from samples to a mixed batch."""
    samples = [*zip(images.unbind(), labels.tolist(), strict=True)]
    mix = RandomMixup(num_classes=CLASSES)
    torchvisions = v2.MixUp(alpha=1.0, num_classes=CLASSES)
    mixing = MixCollate(mix)
    calls: Functions = {
        "default_collate": lambda: default_collate(samples),
        "MixCollate(RandomMixup())": lambda: mixing(samples),
        "default_collate, RandomMixup": lambda: mix(*default_collate(samples)),
        "default_collate, v2.MixUp": lambda: torchvisions(*default_collate(samples)),
    }
    if find_spec("timm") and images.dtype == torch.uint8:
        from timm.data import FastCollateMixup

        arrays = [(image.numpy(), label) for image, label in samples]
        fast = FastCollateMixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=CLASSES)
        calls["timm FastCollateMixup"] = lambda: fast(arrays)
    return calls


OBJECTS = 20
PICTURES = (16, 3, 480, 640)


def with_objects(images: Tensor) -> Functions:
    """Return the calls that show what objects cost beside their pixels."""
    out, targets = images.clone(), [boxes_and_masks(images) for _ in images]
    kinds = {
        "no objects": [{} for _ in images],
        f"{OBJECTS} boxes each": [without(target, "masks") for target in targets],
        f"{OBJECTS} masks each": targets,
    }
    calls: Functions = {"out.copy_(x)": lambda: out.copy_(images), "x.clone()": images.clone}
    samples, no_pixels = [*images], [*images[:, :0]]
    for maker in (RandomMixup, RandomCutMix, RandomResizeMix, RandomFMix):
        mix = maker(labels_getter=None)
        calls[f"{maker.__name__}, pixels alone"] = lambda mix=mix: mix(images)
        for name, objects in kinds.items():
            calls[f"{maker.__name__}, {name}"] = partial(mix, samples, objects)
            # Of images without a channel what a call does is all for the objects.
            calls[f"{maker.__name__}, {name}, no pixels"] = partial(mix, no_pixels, objects)
    return calls


def boxes_and_masks(images: Tensor) -> dict[str, Tensor]:
    """Make a target of rectangles up to a quarter of an image's sides."""
    height, width = images.shape[-2:]
    sides = torch.tensor([width, height])
    corner = torch.rand(OBJECTS, 2) * sides * 0.75
    boxes = torch.cat((corner, corner + torch.rand(OBJECTS, 2) * sides / 4), 1)
    x, y = torch.arange(width), torch.arange(height)[:, None]
    x1, y1, x2, y2 = boxes.round().view(-1, 4, 1, 1).unbind(1)
    masks = (x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)
    device = images.device
    return {
        "boxes": tv_tensors.BoundingBoxes(
            boxes.to(device), format="XYXY", canvas_size=(height, width)
        ),
        "masks": tv_tensors.Mask(masks.to(device)),
        "labels": torch.randint(CLASSES, (OBJECTS,)).to(device),
    }


def without(target: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Leave one key out."""
    return {key: value for key, value in target.items() if key != name}


def measure(functions: Functions, options: argparse.Namespace) -> list[Row]:
    """Time functions in turns, each in short bursts whose first call only warms the memory."""
    synchronise = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    times: dict[str, list[float]] = {}
    bursts: dict[str, int] = {}
    for name, function in functions.items():
        try:
            function()
            start = time.perf_counter()
            function()
            synchronise()
        except Exception:  # a peer that cannot take this dtype
            continue
        taken = time.perf_counter() - start
        bursts[name] = 1 if taken > 0.2 else max(2, min(100, int(0.005 / taken)))
        times[name] = []
    for _ in range(options.repeats):
        for name, burst in bursts.items():
            functions[name]()
            synchronise()
            start = time.perf_counter()
            for _ in range(burst):
                functions[name]()
            synchronise()
            times[name].append((time.perf_counter() - start) / burst * 1e3)
    rows = []
    for name, taken in times.items():
        low, _, high = quantiles(taken, n=4)
        rows.append(Row(name, median(taken), low, high, peak_memory(functions[name])))
    return rows


def peak_memory(function: Callable[[], object]) -> float | None:
    """Return how much a call adds to the memory of this process at its highest, in MB."""
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        kept = function()
        peak = status("VmHWM") - before
        del kept
    except (OSError, AttributeError):
        return None  # only Linux tells
    return max(0, peak) / 1024


def status(field: str) -> int:
    """Return a field of /proc/self/status in KiB."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text)[1])


def whole_table(options: argparse.Namespace, size: Size, dtype: torch.dtype, threads: int) -> Table:
    """Time whole calls on one kind of batch."""
    torch.set_num_threads(threads)
    return f"{title(options, size, dtype, threads)}", measure(
        whole_calls(*batch(options, size, dtype)), options
    )


def collating_table(options: argparse.Namespace, dtype: torch.dtype, threads: int) -> Table:
    """Time the ways from samples to a mixed batch."""
    torch.set_num_threads(threads)
    return f"collating {title(options, LARGE, dtype, threads)}", measure(
        collating(*batch(options, LARGE, dtype)), options
    )


def objects_table(options: argparse.Namespace, threads: int) -> Table:
    """Time what objects cost beside their pixels."""
    torch.set_num_threads(threads)
    images = torch.rand(PICTURES).to(options.device)
    return f"objects, {title(options, PICTURES, images.dtype, threads)}", measure(
        with_objects(images), options
    )


def batch(options: argparse.Namespace, size: Size, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Make random images and class indices."""
    images = (torch.rand(size) * 255).to(dtype)
    return images.to(options.device), torch.randint(CLASSES, size[:1]).to(options.device)


def title(options: argparse.Namespace, size: Size, dtype: torch.dtype, threads: int) -> str:
    """Name a kind of batch, and what it is mixed on."""
    where = options.device if options.device != "cpu" else f"{threads} threads"
    return f"{'×'.join(map(str, size))} {str(dtype)[6:]}, {where}"


def chain(options: argparse.Namespace) -> Table:
    """Time uint8 to float, normalising and mixing, as steps and as one compiled function."""
    images = torch.randint(256, LARGE, dtype=torch.uint8).to(options.device)
    labels = torch.randint(CLASSES, LARGE[:1]).to(options.device)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    mean, std = mean.to(options.device), std.to(options.device)
    mix = RandomMixup(num_classes=CLASSES)
    steps = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.2] * 3)])

    def normalised(images: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
        return functional.mixup((images / 255 - mean) / std, partner, lam)

    fused = torch.compile(normalised, fullgraph=True)

    def one_graph() -> Tensor:
        params = mix.make_params([images])
        return fused(images, params["partner"], params["lam"])

    out = images.float()
    return f"uint8 to mixed float32, {'×'.join(map(str, LARGE))}", measure(
        {
            "x.clone()": out.clone,
            "v2 steps, RandomMixup": lambda: mix(steps(images), labels),
            "one compiled function": one_graph,
        },
        options,
    )


def epoch(options: argparse.Namespace) -> Table:
    """Time an epoch of a small network on digits enlarged to 224×224, loaded by two workers."""
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
        for batch in DataLoader(dataset, 64, shuffle=True, num_workers=2, collate_fn=collate_fn):
            images, labels = after(*batch)
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()

    def unmixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images, labels

    batches = [*DataLoader(dataset, 64)]
    return "an epoch of 512 digits at 1×224×224, 2 workers", measure(
        {
            "the mixing alone": lambda: [mix(*batch) for batch in batches],
            "no mixing": lambda: train(default_collate, unmixed),
            "RandomMixup after the loader": lambda: train(default_collate, mix),
            "MixCollate in the workers": lambda: train(MixCollate(mix), unmixed),
        },
        options,
    )
