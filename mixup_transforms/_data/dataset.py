"""Mixing where each sample is loaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from mixup_transforms._batch.samples import first_sample, stack
from mixup_transforms._core import checks, streams
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.seeded import Seeded
from mixup_transforms._core.settings import Copied, Followed
from mixup_transforms._data.pipeline import checked_pipeline, is_own, parts


class MixedDataset(Copied, Dataset[Any]):
    """A dataset whose every sample is mixed with a partner from the whole dataset.

    Sample *i* depends on (seed, epoch, i) and on the samples themselves alone: it is the same for
    any batch size, number of workers, start method, number of ranks, and after a resume in
    mid-epoch. Transforms inside the dataset given stay seeded by their own means.

    Args:
        dataset: map-style, with ``__len__`` and samples that end in tensors and numbers, such as
            ``(image, 3)``; any pytree. Each sample is loaded beside a partner's, so twice in all.
        transform: a mixer, or a pipeline such as ``v2.Compose([OneHot(10), RandomMixup()])``,
            without generators of its own. It sees a batch of the sample and its partner: of
            samples with objects, ``(image, target)``, a list of images, which may differ in size.
        seed: from 0 to 2⁶⁴ − 1.

    Raises:
        TypeError: for a dataset without ``__len__``, a seed that is not an integer, and samples
            that are PIL images, and a class for ``transform``.
        ValueError: for a transform that has a generator, and samples that cannot be stacked.
        IndexError: for an index out of range.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from mixup_transforms import MixedDataset, RandomMixup
        >>> digits = TensorDataset(torch.rand(100, 1, 8, 8), torch.randint(10, (100,)))
        >>> mixed = MixedDataset(digits, RandomMixup(num_classes=10), seed=0)
        >>> mixed.set_epoch(1)
        >>> image, label = mixed[42]
        >>> image.shape, label.shape
        (torch.Size([1, 8, 8]), torch.Size([10]))
    """

    seed = Checked(checks.seed)
    epoch = Followed(
        partial(checks.integer, minimum=0), "The epoch whose partners and λ are drawn."
    )

    def __init__(self, dataset: Dataset[Any], transform: Callable[..., Any], *, seed: int) -> None:
        sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        if not sized or isinstance(dataset, IterableDataset | type):
            got = repr(dataset) if isinstance(dataset, type) else type(dataset).__name__
            raise TypeError(f"dataset must be map-style, with __len__ and __getitem__, got {got}")
        self.dataset: Any = dataset
        self.transform = checked_pipeline("transform", transform)
        for part in parts(transform):
            if isinstance(part, Seeded) and part.generator is not None:
                raise ValueError(
                    f"{type(part).__name__} must have generator=None in a MixedDataset, whose seed "
                    "and epoch decide"
                )
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the partners and λ of another epoch, in live DataLoader workers too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        size = len(self)
        if getattr(index, "ndim", None) == 0:  # a number of torch or NumPy
            index = index.item()
        place = checks.integer("index", index)
        if not -size <= place < size:
            raise IndexError(f"index must lie in [{-size}, {size}), got {place}")
        place %= size
        key = (self.seed, self.epoch, place)
        samples = [self.dataset[place]]
        if size > 1:
            step = 1 + streams.hashed_seed(*key) % (size - 1)
            samples.append(self.dataset[(place + step) % size])
        batch, stacked = stack(samples)
        # A batch of two is always one pair, so that the first meets the second.
        with streams.keyed(*key), self._foreign_keyed(*key):
            mixed = self.transform(batch)
        return first_sample(mixed, stacked)

    def _foreign_keyed(self, *key: int) -> AbstractContextManager[None]:
        """Key the global stream, apart from the mixers', where somebody may draw from it."""
        if all(is_own(part) for part in parts(self.transform)):
            return nullcontext()
        return streams.globally_keyed(*key, 1)
