"""Mixing where a batch is collated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from mixup_transforms._batch.parse import unwrap
from mixup_transforms._core import kernels
from mixup_transforms._core.unstacked import Unstacked
from mixup_transforms._data.pipeline import mixes_first


class MixCollate:
    """A ``collate_fn`` that mixes: for a ``DataLoader`` whose workers hand out mixed batches.

    Gives what ``transform(collate_fn(samples))`` gives. With torch's own ``default_collate`` and a
    mixer as the first to take the images, large samples are stacked and mixed in one pass over
    memory, in a worker straight into the memory that it shares with the loader.

    Args:
        transform: a mixer, or a pipeline such as ``v2.Compose([OneHot(10), RandomMixup()])``.
        collate_fn: how samples become a batch.

    Raises:
        TypeError: for arguments that cannot be called.

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

    def __init__(
        self,
        transform: Callable[..., Any],
        collate_fn: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        if not callable(transform):
            raise TypeError(f"transform must be a mixer or a pipeline, got {transform!r}")
        if not callable(collate_fn):
            raise TypeError(f"collate_fn must be a function of a list, got {collate_fn!r}")
        self.transform = transform
        self.collate_fn = collate_fn

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transform!r}, {self.collate_fn!r})"

    def __call__(self, samples: list[Any]) -> Any:
        """Collate samples and mix the batch."""
        if self.collate_fn is not default_collate or not mixes_first(self.transform):
            return self.transform(self.collate_fn(samples))
        batch = collate(samples, collate_fn_map={**default_collate_fn_map, Tensor: _unstacked})
        return tree_map_only(Unstacked, Unstacked.stacked, self.transform(batch))


def _unstacked(samples: list[Tensor], *, collate_fn_map: dict[Any, Any]) -> Tensor:
    """Leave large samples for the mixer to stack; stack the others as torch does."""
    first = samples[0]
    lazy = first.numel() >= kernels.LARGE_SAMPLE and all(
        sample.shape == first.shape
        and sample.dtype == first.dtype
        and sample.layout == torch.strided
        and not sample.is_nested
        and sample.device.type == "cpu"
        and not sample.requires_grad
        for sample in samples
    )
    return Unstacked([*map(unwrap, samples)]) if lazy else default_collate_fn_map[Tensor](samples)
