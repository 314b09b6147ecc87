"""Mixing where each sample is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np  # comes with torchvision
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mixup_transforms._core import checks, streams
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.settings import Copied, Followed
from mixup_transforms._data.keyed import Key, Keyed, keyed_pipeline
from mixup_transforms._data.partners import check_count, checked_partner_weights

Weights = Sequence[float] | npt.NDArray[Any] | Tensor


class MixedDataset(Copied, Dataset[Any]):
    """A dataset whose every sample is mixed with a partner from the whole dataset.

    Sample *i* depends on (seed, epoch, i) and on the samples themselves alone: it is the same for
    any batch size, number of workers, start method, number of ranks, and after a resume in
    mid-epoch. Transforms inside the dataset given stay seeded by their own means.

    Args:
        dataset: map-style, with ``__len__`` and samples that end in tensors and numbers, such as
            ``(image, 3)``; any pytree. Each sample is loaded beside a partner's, so twice in all:
            one by one, or a batch at once where it has ``__getitems__``.
        transform: a mixer, or a pipeline such as ``v2.Compose([OneHot(10), RandomMixup()])``,
            without generators of its own. It sees a batch of the sample and its partner: of
            samples with objects, ``(image, target)``, a list of images, which may differ in size.
        seed: from 0 to 2⁶⁴ − 1.
        partner_weights: ``(N,)``, a list, array or tensor: sample *j* is the partner of *i* in
            proportion to its weight among all but *i*, so that no sample meets itself. One of
            weight 0 is nobody's partner; one of whose others none has weight comes back as it
            is. ``1 / labels.bincount()[labels]`` takes partners from all classes equally often.
            All weigh the same by default.

    Raises:
        TypeError: for a dataset without ``__len__``, a seed that is not an integer, samples that
            are PIL images, a class for ``transform``, and weights that are not numbers.
        ValueError: for a transform that has a generator, samples that cannot be stacked, a batch of
            another number of samples than were asked for, and weights of another number than
            samples, negative, not finite, or all 0.
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
        self.transform = transform
        self._keyed()
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
        key, keyed = self._key(index), self._keyed()
        sample, *partners = (self.dataset[place] for place in self._places(key, keyed.partners))
        return keyed.mix(sample, partners, key)

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:
        """Return the samples of a batch, all loaded at once where the dataset can do that."""
        if not callable(getattr(self.dataset, "__getitems__", None)):
            return [self[index] for index in indices]
        keys, keyed = [self._key(index) for index in indices], self._keyed()
        places = [self._places(key, keyed.partners) for key in keys]
        wanted = [*chain.from_iterable(places)]
        loaded = self.dataset.__getitems__(wanted)
        if len(loaded) != len(wanted):
            raise ValueError(
                "dataset.__getitems__ must return a sample for each index, "
                f"got {len(loaded)} for {len(wanted)}"
            )
        samples = iter(loaded)
        return [
            keyed.mix(next(samples), [*islice(samples, len(own) - 1)], key)
            for key, own in zip(keys, places, strict=True)
        ]

    def _keyed(self) -> Keyed:
        """Look the pipeline through as it is now, since mixers can be set."""
        holder = type(self).__name__
        return keyed_pipeline(self.transform, holder=holder, partners_by="partner_weights")

    def _key(self, index: Any) -> Key:
        """Return what decides about the sample of an index."""
        size = len(self)
        if getattr(index, "ndim", None) == 0:  # a number of torch or NumPy
            index = index.item()
        place = checks.integer("index", index)
        if not -size <= place < size:
            raise IndexError(f"index must lie in [{-size}, {size}), got {place}")
        return self.seed, self.epoch, place % size

    def _places(self, key: Key, count: int) -> list[int]:
        """Return where a sample and its partners are."""
        size, place = len(self), key[-1]
        if self._partner_weights is None:
            steps = streams.distinct(*key, count=count, below=size - 1)
            return [place, *((place + 1 + step) % size for step in steps)]
        check_count(self._partner_weights.weights.shape, size)
        chances = [
            streams.hashed_seed(*key, *([turn] if turn else [])) / 2**64 for turn in range(count)
        ]
        partners = [self._partner_weights.partner(place, chance) for chance in chances]
        return [place, *(partner for partner in partners if partner != place)]
