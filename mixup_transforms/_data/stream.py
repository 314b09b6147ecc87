"""Mixing where samples come as a stream."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mixup_transforms._core import checks, streams
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.settings import Copied, Followed
from mixup_transforms._data.keyed import Key, Keyed, keyed_pipeline
from mixup_transforms._data.source import Mark, Source, can_resume


class MixedStream(Copied, IterableDataset[Any]):
    """A stream whose every sample is mixed with one that came shortly before it.

    Each sample is loaded once. Its partner is drawn from the last ``buffer`` samples of the same
    worker; the first of all has none, and stays plain. What comes out depends on (seed, epoch,
    rank, worker, position) and the samples themselves alone, and one sample comes out for each that
    goes in. How workers and ranks share the source is the source's business, as with any
    ``IterableDataset``: one that gives the same in each worker is seen once for each worker.

    An iteration can be stopped and gone on with, by ``state_dict()`` and ``load_state_dict()`` of
    the stream or of its iterator, as ``torchdata``'s loaders call them. A state holds no samples.
    It holds numbers, and the source's own state as it was ``buffer`` to 2 × ``buffer`` samples
    before; these are loaded again to go on. A source without ``state_dict()`` and
    ``load_state_dict()`` is read again from its beginning.

    Args:
        dataset: an ``IterableDataset`` or another iterable of samples, such as ``(image, 3)``; any
            pytree of tensors and numbers. If it has a ``set_epoch``, it is told the epoch.
        transform: a mixer, or a pipeline such as ``v2.Compose([OneHot(10), RandomMixup()])``,
            without generators of its own. It sees a batch of the sample and its partner.
        seed: from 0 to 2⁶⁴ − 1.
        buffer: how many samples are kept for partners, at least 1.
        rank: at least 0; ``None`` for the rank in ``torch.distributed`` where that is initialised
            when the stream is made, else 0.

    Raises:
        TypeError: for a dataset that is not iterable or gives batches, a class for ``transform``,
            numbers that are not integers, and samples that are PIL images.
        ValueError: for a transform that has a generator, numbers out of range, samples that cannot
            be stacked, and a state that another seed, buffer, rank or worker saved, or another
            number of ranks.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, IterableDataset
        >>> from mixup_transforms import MixedStream, RandomMixup
        >>> class Digits(IterableDataset):
        ...     def __iter__(self):
        ...         for i in range(100):
        ...             yield torch.rand(1, 8, 8), i % 10
        >>> mixed = MixedStream(Digits(), RandomMixup(num_classes=10), seed=0)
        >>> mixed.set_epoch(1)
        >>> images, labels = next(iter(DataLoader(mixed, batch_size=20)))
        >>> images.shape, labels.shape
        (torch.Size([20, 1, 8, 8]), torch.Size([20, 10]))
    """

    seed = Checked(checks.seed)
    buffer = Checked(partial(checks.integer, minimum=1))
    rank = Checked(partial(checks.integer, minimum=0))
    epoch = Followed(
        partial(checks.integer, minimum=0), "The epoch whose partners and λ are drawn."
    )

    def __init__(
        self,
        dataset: Iterable[Any],
        transform: Callable[..., Any],
        *,
        seed: int,
        buffer: int = 64,
        rank: int | None = None,
    ) -> None:
        _check_samples(dataset)
        self.transform = transform
        self._keyed()
        self.seed = seed
        self.buffer = buffer
        self.rank = (streams.initialised_rank() or 0) if rank is None else rank
        # Of a rank that was named nobody knows among how many it is.
        self._ranks = streams.group_size() if rank is None else None
        self.epoch = 0
        self._source = Source(dataset)
        self._latest: _Place | None = None
        self._resumed: dict[str, Any] | None = None

    @property
    def dataset(self) -> Iterable[Any]:
        """Where the samples come from."""
        return self._source.dataset

    def set_epoch(self, epoch: int) -> None:
        """Draw the partners and λ of another epoch, in live DataLoader workers too."""
        self.epoch = epoch
        self._source.tell(self.epoch)

    def __iter__(self) -> Iterator[Any]:
        place = self._start()
        if self._resumed is not None and self._resumed["epoch"] == place.epoch:
            place.load(self._resumed)
        iteration = _Iteration(self._source, self._keyed(), place)
        self._latest, self._resumed = place, None
        return iteration

    def _keyed(self) -> Keyed:
        """Look the pipeline through as it is now, since mixers can be set."""
        return keyed_pipeline(self.transform, holder=type(self).__name__, partners_by="buffer")

    def state_dict(self) -> dict[str, Any]:
        """Say where the iteration is that was begun last."""
        if self._resumed is not None:
            return self._resumed
        return (self._latest or self._start()).state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where another was, in its epoch."""
        place = self._start()
        place.load(state)
        self.epoch = place.epoch
        self._resumed = dict(state)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy, or a worker, begins its own iterations with."""
        return {**super().__getstate__(), "_latest": None}

    def _start(self) -> _Place:
        worker = get_worker_info()
        number = 0 if worker is None else worker.id
        return _Place(self.seed, self.rank, self._ranks, number, self.buffer, epoch=self.epoch)


def _check_samples(dataset: object) -> None:
    """Refuse what is no iterable, and what gives batches."""
    if not hasattr(dataset, "__iter__") or isinstance(dataset, type):
        got = repr(dataset) if isinstance(dataset, type) else type(dataset).__name__
        sized = hasattr(dataset, "__len__") and not isinstance(dataset, type)
        remedy = "; MixedDataset takes what is map-style" if sized else ""
        raise TypeError(f"dataset must be an iterable of samples, got {got}{remedy}")
    if isinstance(dataset, DataLoader) and dataset.batch_sampler is not None:
        raise TypeError(
            "dataset must be an iterable of samples, got a DataLoader, which gives batches; mix "
            "these, mix(*batch), or give the loader a MixedStream of what it loads"
        )


# The keys of a state: what has to be the same again, and where the iteration was.
_SETTINGS = ("seed", "rank", "ranks", "worker", "buffer")
_WHERE = ("epoch", "position", "source")


@dataclass
class _Place:
    """Where an iteration is: all that its state says."""

    seed: int
    rank: int
    ranks: int | None
    worker: int
    buffer: int
    epoch: int
    position: int = 0
    # The last two, of which the older lies a buffer back or more.
    marks: deque[Mark] = field(default_factory=partial(deque, maxlen=2))
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key(self) -> Key:
        """What decides about the next sample."""
        return self.seed, self.epoch, self.rank, self.worker, self.position

    def mark_behind(self) -> Mark | None:
        """Return the newest mark from which all possible partners are loaded again."""
        start = max(self.position - self.buffer, 0)
        return next((mark for mark in reversed(self.marks) if mark["position"] <= start), None)

    def state_dict(self) -> dict[str, Any]:
        with self.lock:
            settings = {name: getattr(self, name) for name in _SETTINGS}
            where = (self.epoch, self.position, self.mark_behind())
            return {**settings, **dict(zip(_WHERE, where, strict=True))}

    def load(self, state: Any) -> None:
        if not isinstance(state, Mapping) or {*state} != {*_SETTINGS, *_WHERE}:
            got = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"state must be what state_dict() of a MixedStream gave, got {got}")
        for name in _SETTINGS:
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"state was saved with {name}={state[name]!r}, got a stream with "
                    f"{name}={getattr(self, name)!r}; give each stream, on each rank and in each "
                    "worker, the state that the same one saved, or begin an epoch anew"
                )
        epoch, position = (
            checks.integer(f"state[{name!r}]", state[name], minimum=0)
            for name in ("epoch", "position")
        )
        with self.lock:
            self.epoch, self.position = epoch, position
            self.marks.clear()
            if state["source"] is not None:
                self.marks.append(state["source"])


class _Iteration(Iterator[Any]):
    """One pass over a source, mixed."""

    def __init__(self, source: Source, keyed: Keyed, place: _Place) -> None:
        self._source = source
        self._keyed = keyed
        self._place = place
        self._begin()

    def __next__(self) -> Any:
        place = self._place
        with place.lock:
            self._catch_up()
            key, partners = place.key, self._partners()
            sample = self._load()
            place.position = self._loaded
        return self._keyed.mix(sample, partners, key)

    def state_dict(self) -> dict[str, Any]:
        """Say where this iteration is."""
        return self._place.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another iteration was."""
        self._place.load(state)
        self._begin()

    def _begin(self) -> None:
        place, mark = self._place, self._place.mark_behind()
        self._recent: deque[Any] = deque(maxlen=place.buffer)
        self._samples = self._source.open(place.epoch, mark)
        self._loaded = 0 if mark is None else mark["position"]
        if mark is None:
            place.marks.append(self._source.mark(self._samples, 0))

    def _catch_up(self) -> None:
        """Load the partners of a resumed iteration again."""
        while self._loaded < self._place.position:
            try:
                self._load()
            except StopIteration:
                raise ValueError(
                    f"the dataset ended after {self._loaded} samples, but its state was saved "
                    f"after {self._place.position}; a MixedStream goes on only with a dataset that "
                    "begins anew, and gives the same"
                ) from None

    def _load(self) -> Any:
        """Load a sample, which may be a partner from now on."""
        place, newest = self._place, self._place.marks[-1]
        due = self._loaded % place.buffer == 0 and self._loaded > newest["position"]
        if due and can_resume(newest):
            place.marks.append(self._source.mark(self._samples, self._loaded))
        sample = next(self._samples)
        self._recent.append(sample)
        self._loaded += 1
        return sample

    def _partners(self) -> list[Any]:
        """Draw partners from the last samples."""
        recent, count = self._recent, self._keyed.partners
        drawn = streams.distinct(*self._place.key, count=count, below=len(recent))
        return [recent[-1 - back] for back in drawn]
