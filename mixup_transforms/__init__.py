"""Batch transforms that mix training samples, compatible with ``torchvision.transforms.v2``."""

from mixup_transforms import functional
from mixup_transforms.choice import RandomChoice
from mixup_transforms.cutmix import RandomCutMix
from mixup_transforms.fmix import RandomFMix
from mixup_transforms.mixup import RandomMixup
from mixup_transforms.one_hot import OneHot
from mixup_transforms.resizemix import RandomResizeMix

__all__ = [
    "OneHot",
    "RandomChoice",
    "RandomCutMix",
    "RandomFMix",
    "RandomMixup",
    "RandomResizeMix",
    "functional",
]
