"""Batch transforms that mix training samples, compatible with ``torchvision.transforms.v2``."""

from mixup_transforms import functional
from mixup_transforms.choice import RandomChoice
from mixup_transforms.cutmix import RandomCutMix
from mixup_transforms.data import MixCollate, MixedDataset
from mixup_transforms.fmix import RandomFMix
from mixup_transforms.labels import MixtureLoss, SampleLabels, ToLabelMixture, mixed_accuracy
from mixup_transforms.mixture import LabelMixture
from mixup_transforms.mixup import RandomMixup
from mixup_transforms.one_hot import OneHot
from mixup_transforms.preview import preview
from mixup_transforms.resizemix import RandomResizeMix
from mixup_transforms.sampling import seeded_generator

__all__ = [
    "LabelMixture",
    "MixCollate",
    "MixedDataset",
    "MixtureLoss",
    "OneHot",
    "RandomChoice",
    "RandomCutMix",
    "RandomFMix",
    "RandomMixup",
    "RandomResizeMix",
    "SampleLabels",
    "ToLabelMixture",
    "functional",
    "mixed_accuracy",
    "preview",
    "seeded_generator",
]
