"""Mixing where each sample is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np  # comes with torchvision
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mixup_transforms._batch.samples import first_sample, stack
from mixup_transforms._core import checks, streams
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.seeded import Seeded
from mixup_transforms._core.settings import Copied, Followed
from mixup_transforms._data.partners import check_count, checked_partner_weights
from mixup_transforms._data.pipeline import checked_pipeline, is_own, parts

Weights = Sequence[float] | npt.NDArray[Any] | Tensor


class MixedDataset(Copied, Dataset[Any]):
    """A dataset whose every sample is mixed with a partner from the whole dataset.

    Sample *i* depends on (seed, epoch, i) and on the samples themselves alone: it is the same for
    any batch size, number of workers, start method, number of ranks, and after a resume in
    mid-epoch. Transforms inside the dataset given stay seeded by their own means.

    Args:
        dataset: map-style, with ``__len__`` and samples that end in tensors and numbers, such as
            ``(image, 3)``; any pytree. Each sample is loaded beside a partner's, so twice in all.
        transform: a mixer, or a pipeline such as ``v2.Compose([OneHot(10), RandomMixup()])``,
            without generators of its own. It sees a batch of the sample and its partner.
        seed: from 0 to 2⁶⁴ − 1.
        partner_weights: ``(N,)``, a list, array or tensor: sample *j* is the partner of *i* in
            proportion to its weight among all but *i*, so that no sample meets itself. One of
            weight 0 is nobody's partner; one of whose others none has weight comes back as it
            is. ``1 / labels.bincount()[labels]`` takes partners from all classes equally often.
            All weigh the same by default.

    Raises:
        TypeError: for a dataset without ``__len__``, a seed that is not an integer, samples that
            are PIL images, a class for ``transform``, and weights that are not numbers.
        ValueError: for a transform that has a generator, samples that cannot be stacked, and
            weights of another number than samples, negative, not finite, or all 0.
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

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Callable[..., Any],
        *,
        seed: int,
        partner_weights: Weights | None = None,
    ) -> None:
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
        self.seed = seed
        self.epoch = 0
        self.partner_weights = partner_weights

    @property
    def partner_weights(self) -> npt.NDArray[np.float64] | None:
        """What each sample weighs as a partner, float64 ``(N,)``; ``None`` where all are alike.

        Workers that are there when it is set go on with the weights that they have.
        """
        return None if self._partner_weights is None else self._partner_weights.weights

    @partner_weights.setter
    def partner_weights(self, weights: Weights | None) -> None:
        checked = None if weights is None else checked_partner_weights(weights, len(self))
        self._partner_weights = checked

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
        partner = self._partner(place, size, drawn=streams.hashed_seed(*key))
        if partner != place:
            samples.append(self.dataset[partner])
        batch, stacked = stack(samples)
        # A batch of two is always one pair, so that the first meets the second.
        with streams.keyed(*key), self._foreign_keyed(*key):
            mixed = self.transform(batch)
        return first_sample(mixed, stacked)

    def _partner(self, place: int, size: int, *, drawn: int) -> int:
        """Return the partner that 64 random bits give a sample; itself where nobody fits."""
        if self._partner_weights is not None:
            check_count(self._partner_weights.weights.shape, size)
            return self._partner_weights.partner(place, drawn / 2**64)
        step = 1 + drawn % (size - 1) if size > 1 else 0
        return (place + step) % size

    def _foreign_keyed(self, *key: int) -> AbstractContextManager[None]:
        """Key the global stream, apart from the mixers', where somebody may draw from it."""
        if all(is_own(part) for part in parts(self.transform)):
            return nullcontext()
        return streams.globally_keyed(*key, 1)
