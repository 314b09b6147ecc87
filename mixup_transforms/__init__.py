"""Batch transforms that mix training samples, compatible with ``torchvision.transforms.v2``."""

from mixup_transforms import functional
from mixup_transforms.mixup import RandomMixup
from mixup_transforms.one_hot import OneHot

__all__ = ["OneHot", "RandomMixup", "functional"]
