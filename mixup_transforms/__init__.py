"""Batch transforms that mix training samples, compatible with ``torchvision.transforms.v2``."""

from importlib.metadata import PackageNotFoundError as _NotInstalled
from importlib.metadata import version as _installed_version

from mixup_transforms import functional
from mixup_transforms._batch.labels import LabelMixture
from mixup_transforms._core.streams import seeded_generator
from mixup_transforms._data.collate import MixCollate
from mixup_transforms._data.dataset import MixedDataset
from mixup_transforms._data.stream import MixedStream
from mixup_transforms._mixers.base import BoxMixer, MaskMixer, Mixer
from mixup_transforms._mixers.choice import RandomChoice
from mixup_transforms._mixers.classmix import RandomClassMix
from mixup_transforms._mixers.copypaste import RandomCopyPaste
from mixup_transforms._mixers.cutmix import RandomCutMix
from mixup_transforms._mixers.fmix import RandomFMix
from mixup_transforms._mixers.mixup import RandomMixup
from mixup_transforms._mixers.mosaic import RandomMosaic
from mixup_transforms._mixers.resizemix import RandomResizeMix
from mixup_transforms._mixers.rules import MatchedPairing, NearPairing
from mixup_transforms._mixers.scheduler import MixScheduler
from mixup_transforms._preview.grid import preview
from mixup_transforms._targets.accuracy import mixed_accuracy
from mixup_transforms._targets.keep import KeepVisible
from mixup_transforms._targets.losses import MixtureLoss
from mixup_transforms._targets.mixture import ToLabelMixture
from mixup_transforms._targets.one_hot import OneHot
from mixup_transforms._targets.present import PresentLabels
from mixup_transforms._targets.sample import SampleLabels

__all__ = [
    "BoxMixer",
    "KeepVisible",
    "LabelMixture",
    "MaskMixer",
    "MatchedPairing",
    "MixCollate",
    "MixScheduler",
    "MixedDataset",
    "MixedStream",
    "Mixer",
    "MixtureLoss",
    "NearPairing",
    "OneHot",
    "PresentLabels",
    "RandomChoice",
    "RandomClassMix",
    "RandomCopyPaste",
    "RandomCutMix",
    "RandomFMix",
    "RandomMixup",
    "RandomMosaic",
    "RandomResizeMix",
    "SampleLabels",
    "ToLabelMixture",
    "__version__",
    "functional",
    "mixed_accuracy",
    "preview",
    "seeded_generator",
]

try:
    __version__ = _installed_version("mixup-transforms")
    """The version of the package that is installed, such as ``"0.1.0"``."""
except _NotInstalled:  # a copy on the path, which nobody installed
    __version__ = "0+unknown"
