"""Mixing where the data is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.data import Dataset, default_collate
from torch.utils.data._utils.collate import collate, default_collate_fn_map
from torchvision.transforms import v2

from mixup_transforms import _checks, _kernels, sampling
from mixup_transforms._base import LabelTransform, Mixer, Seeded
from mixup_transforms._batch import first_sample, stack, unwrap
from mixup_transforms._kernels import Unstacked


class MixedDataset(Dataset[Any]):
    """A dataset whose every sample is mixed with a partner from the whole dataset.

    Sample *i* depends on (seed, epoch, i) and on the samples themselves alone: it is the same for
    any batch size, number of workers, start method, number of ranks, and after a resume in
    mid-epoch. Transforms inside the dataset given stay seeded by their own means.

    Args:
        dataset: map-style, with ``__len__`` and samples that end in tensors and numbers, such as
            ``(image, 3)``; any pytree. Each sample is loaded beside a partner's, so twice in all.
        transform: a mixer, or a pipeline such as ``v2.Compose([OneHot(10), RandomMixup()])``,
            without generators of its own. It sees a batch of the sample and its partner.
        seed: at least 0.

    Raises:
        TypeError: for a dataset without ``__len__``, a seed that is not an integer, and samples
            that are PIL images.
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

    def __init__(self, dataset: Dataset[Any], transform: Callable[..., Any], *, seed: int) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                "dataset must be map-style, with __len__ and __getitem__, "
                f"got {type(dataset).__name__}"
            )
        if not callable(transform):
            raise TypeError(f"transform must be a mixer or a pipeline, got {transform!r}")
        for part in _parts(transform):
            if isinstance(part, Seeded) and part.generator is not None:
                raise ValueError(
                    f"{type(part).__name__} must have generator=None in a MixedDataset, whose seed "
                    "and epoch decide"
                )
        self.dataset = dataset
        self.transform = transform
        self.seed = _checks.integer("seed", seed, minimum=0)
        # In shared memory, so that set_epoch reaches the live workers of a DataLoader.
        self._epoch = torch.zeros((), dtype=torch.int64, device="cpu")
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """The epoch whose partners and λ are drawn."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw the partners and λ of another epoch, in live DataLoader workers too."""
        self._epoch.fill_(_checks.integer("epoch", epoch, minimum=0))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        size = len(self)
        place = _checks.integer("index", index)
        if not -size <= place < size:
            raise IndexError(f"index must lie in [{-size}, {size}), got {place}")
        place %= size
        samples = [self.dataset[place]]
        if size > 1:
            step = 1 + sampling.hashed_seed(self.seed, self.epoch, place) % (size - 1)
            samples.append(self.dataset[(place + step) % size])
        batch, stacked = stack(samples)
        # A batch of two is always one pair, so that the first meets the second.
        with sampling.keyed(self.seed, self.epoch, place):
            mixed = self.transform(batch)
        return first_sample(mixed, stacked)


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
        if self.collate_fn is not default_collate or not _mixes_first(self.transform):
            return self.transform(self.collate_fn(samples))
        batch = collate(samples, collate_fn_map={**default_collate_fn_map, Tensor: _unstacked})
        return tree_map_only(Unstacked, Unstacked.stacked, self.transform(batch))


def _unstacked(samples: list[Tensor], *, collate_fn_map: dict[Any, Any]) -> Tensor:
    """Leave large samples for the mixer to stack; stack the others as torch does."""
    first = samples[0]
    lazy = first.numel() >= _kernels.LARGE_SAMPLE and all(
        sample.shape == first.shape
        and sample.dtype == first.dtype
        and sample.layout == torch.strided
        and not sample.is_nested
        and sample.device.type == "cpu"
        and not sample.requires_grad
        for sample in samples
    )
    return Unstacked([*map(unwrap, samples)]) if lazy else default_collate_fn_map[Tensor](samples)


def _mixes_first(transform: object) -> bool:
    """Whether a mixer takes the images as they were collated."""
    for part in _parts(transform):
        if not isinstance(part, LabelTransform) and type(part) not in (v2.Compose, nn.Sequential):
            return isinstance(part, Mixer)
    return False


def _parts(transform: Any) -> Iterable[Any]:
    """Walk a pipeline; torchvision's containers hold their transforms in a plain list."""
    yield transform
    for part in getattr(transform, "transforms", None) or getattr(transform, "children", list)():
        yield from _parts(part)
