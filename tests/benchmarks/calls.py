"""Whole calls, from images and class indices to mixed images and soft labels, ours and others'."""

from __future__ import annotations

import argparse
import warnings
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.transforms import v2

from mixup_transforms import (
    MixCollate,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
)
from tests.benchmarks.timing import Functions, Table, measure

CLASSES = 1000
LARGE = (128, 3, 224, 224)
LARGEST = (64, 3, 512, 512)
SMALL = ((8, 3, 32, 32), (512, 3, 32, 32))
DTYPES = (torch.float32, torch.bfloat16, torch.uint8)
# Batches of the largest images show nothing in other dtypes that those of LARGE do not.
BATCHES = [(size, dtype) for size in (*SMALL, LARGE) for dtype in DTYPES]
BATCHES.append((LARGEST, torch.float32))

Size = tuple[int, ...]


def whole_calls(images: Tensor, labels: Tensor) -> Functions:
    """Return the calls to compare."""
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
        **kornias(),
    }
    in_place = {
        **timms(),
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


def timms() -> Functions:
    """Return timm's mixers, which write into the batch, where it is installed."""
    if not find_spec("timm"):
        return {}
    from timm.data import Mixup

    shared = {"label_smoothing": 0.0, "num_classes": CLASSES}
    return {
        "timm Mixup, in place": Mixup(mixup_alpha=1.0, **shared),
        "timm Mixup as CutMix, in place": Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, **shared),
    }


def kornias() -> Functions:
    """Return kornia's mixers, where it is installed."""
    if not find_spec("kornia"):
        return {}
    from kornia.augmentation import RandomCutMixV2, RandomMixUpV2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            f"kornia {mix.__name__}": mix(data_keys=["input", "class"])
            for mix in (RandomMixUpV2, RandomCutMixV2)
        }


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


def whole_table(options: argparse.Namespace, size: Size, dtype: torch.dtype, threads: int) -> Table:
    """Time whole calls on one kind of batch."""
    torch.set_num_threads(threads)
    calls = whole_calls(*batch(options, size, dtype))
    return title(options, size, dtype, threads), measure(calls, options)


def collating_table(options: argparse.Namespace, dtype: torch.dtype) -> Table:
    """Time the ways from samples to a mixed batch, with one thread, as in a worker."""
    torch.set_num_threads(1)
    calls = collating(*batch(options, LARGE, dtype))
    return f"collating {title(options, LARGE, dtype, 1)}", measure(calls, options)


def batch(options: argparse.Namespace, size: Size, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Make random images and class indices."""
    images = (torch.rand(size) * 255).to(dtype)
    return images.to(options.device), torch.randint(CLASSES, size[:1]).to(options.device)


def title(options: argparse.Namespace, size: Size, dtype: torch.dtype, threads: int) -> str:
    """Name a kind of batch, and what it is mixed on."""
    where = f"{threads} thread{'s' * (threads > 1)}" if options.device == "cpu" else options.device
    return f"{named(size, dtype)}, {where}"


def named(size: Size, dtype: torch.dtype) -> str:
    """Name a kind of batch."""
    return f"{'×'.join(map(str, size))} {str(dtype)[6:]}"
