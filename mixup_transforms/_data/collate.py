"""Mixing where a batch is collated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np  # comes with torchvision
import PIL.Image
from torch import Tensor
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from mixup_transforms._batch.objects import COLLATE, sample_pair
from mixup_transforms._batch.parse import rewrap, unwrap
from mixup_transforms._batch.samples import fault_of_types
from mixup_transforms._core import small
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.unstacked import Unstacked, can_wait
from mixup_transforms._data.pipeline import checked_collate_fn, checked_pipeline, mixes_first


class MixCollate:
    """A ``collate_fn`` that mixes: for a ``DataLoader`` whose workers hand out mixed batches.

    Gives what ``transform(collate_fn(samples))`` gives, and keeps ``tv_tensors.Image``, ``Video``
    and ``Mask``, of which ``default_collate`` alone makes plain tensors. With ``default_collate``
    and a mixer as the first to take the images, large samples are stacked and mixed in one pass
    over memory, in a worker straight into the memory that it shares with the loader.

    Args:
        transform: a mixer, or a pipeline such as ``v2.Compose([OneHot(10), RandomMixup()])``.
        collate_fn: how samples become a batch.

    Raises:
        TypeError: for arguments that cannot be called, a class instead of an instance, a
            mixer for ``collate_fn``, a batch instead of samples, and samples with objects without
            a ``collate_fn`` for them, such as ``lambda samples: tuple(zip(*samples))``.
        ValueError: for an empty list of samples.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> from mixup_transforms import MixCollate, RandomMixup
        >>> digits = TensorDataset(torch.rand(100, 1, 8, 8), torch.randint(10, (100,)))
        >>> mix = RandomMixup(num_classes=10, generator=torch.Generator().manual_seed(0))
        >>> loader = DataLoader(digits, batch_size=20, collate_fn=MixCollate(mix))
        >>> images, labels = next(iter(loader))
        >>> images.shape, labels.shape
        (torch.Size([20, 1, 8, 8]), torch.Size([20, 10]))
    """

    transform = Checked(checked_pipeline)
    collate_fn = Checked(checked_collate_fn)

    def __init__(
        self,
        transform: Callable[..., Any],
        collate_fn: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        self.transform = transform
        self.collate_fn = collate_fn

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transform!r}, {self.collate_fn!r})"

    def __call__(self, samples: list[Any]) -> Any:
        """Collate samples and mix the batch."""
        if self.collate_fn is not default_collate:
            return self.transform(self.collate_fn(samples))
        _check_samples(samples)
        stack = _lazily_stacked if mixes_first(self.transform) else _stacked
        known = {**default_collate_fn_map, Tensor: stack, PIL.Image.Image: _refused_pictures}
        batch = collate(samples, collate_fn_map=known)
        return self.transform(batch)


def _check_samples(samples: Any) -> None:
    """Refuse a batch in the place of samples, and no samples."""
    listed = isinstance(samples, Sequence)
    arrays = [leaf for leaf in samples if isinstance(leaf, Tensor | np.ndarray)] if listed else []
    shapes = sorted({tuple(leaf.shape) for leaf in arrays})
    if not listed or len(shapes) > 1:
        got = f"tensors of shapes {shapes}" if listed else type(samples).__name__
        raise TypeError(
            "samples must be a list, as a DataLoader gives it, whose tensors have one shape, "
            f"got {got}; if it is a batch, give it to the transform without MixCollate"
        )
    if sample_pair(samples) is not None:
        raise TypeError(
            "samples hold objects, of which images have different numbers; give "
            f"collate_fn={COLLATE}"
        )
    if not len(samples):
        raise ValueError("samples must hold at least one sample, got none")


def _stacked(samples: list[Tensor], *, collate_fn_map: dict[Any, Any]) -> Any:
    """Stack samples as torch does, and keep their torchvision type."""
    if fault := fault_of_types(samples):
        raise TypeError(f"what is collated {fault}, or give a collate_fn of your own")
    stacked = default_collate_fn_map[Tensor]([*map(unwrap, samples)])
    return rewrap(stacked, like=samples[0])


def _refused_pictures(samples: list[Any], *, collate_fn_map: dict[Any, Any]) -> Any:
    raise TypeError(
        "what is collated must not be a PIL image; convert each image in the dataset with "
        "v2.ToImage(), or give a collate_fn of your own"
    )


def _lazily_stacked(samples: list[Tensor], *, collate_fn_map: dict[Any, Any]) -> Any:
    """Leave large samples for the mixer to stack; stack the others at once."""
    first = samples[0]
    lazy = first.numel() >= small.LARGE_SAMPLE and can_wait(samples)
    if not lazy or fault_of_types(samples):
        return _stacked(samples, collate_fn_map=collate_fn_map)
    return rewrap(Unstacked([*map(unwrap, samples)]), like=first)
