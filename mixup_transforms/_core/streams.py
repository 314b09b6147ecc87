"""Where randomness comes from: generators, their keys, and their way into workers and files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar
from weakref import WeakValueDictionary

import numpy as np  # comes with torchvision
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mixup_transforms._core import checks
from mixup_transforms._core.draws import device_of


def fork(generator: torch.Generator | None) -> torch.Generator:
    """Start an independent generator from one draw, so that what it draws costs no more."""
    device = device_of(generator)
    seed = torch.randint(2**63 - 1, (), generator=generator, device=device)
    return torch.Generator(device).manual_seed(int(seed))


def detached() -> torch.Generator:
    """Make a generator that no stream depends on."""
    return torch.Generator()


def seeded_generator(
    seed: int, *, rank: int | None = None, epoch: int = 0, device: str | torch.device = "cpu"
) -> torch.Generator:
    """Make an independent generator for each (seed, rank, epoch).

    Built on ``numpy.random.SeedSequence``, so that neighbouring seeds, ranks and epochs share
    nothing. The same three always give the same stream. Give shuffling and mixing different seeds.

    Args:
        seed: at least 0.
        rank: at least 0; ``None`` for the rank in ``torch.distributed`` where that is initialised,
            else 0.
        epoch: at least 0.
        device: where the generator draws; a CPU generator serves batches on any device.

    Raises:
        TypeError: for numbers that are not integers.
        ValueError: for negative numbers, and for a device that this machine lacks.

    Example:
        >>> from mixup_transforms import RandomMixup, seeded_generator
        >>> mix = RandomMixup(generator=seeded_generator(0, rank=3, epoch=1))
    """
    seed = checks.integer("seed", seed, minimum=0)
    epoch = checks.integer("epoch", epoch, minimum=0)
    if rank is None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
    rank = checks.integer("rank", rank, minimum=0)
    return _generator_on(device).manual_seed(hashed_seed(seed, rank, epoch))


def hashed_seed(seed: int, *key: int) -> int:
    """Hash a seed and a key of any integers from 0 into one 64-bit seed."""
    # The key goes apart from the seed: SeedSequence((2**32,)) would equal SeedSequence((0, 1)).
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return int(sequence.generate_state(1, np.uint64)[0])


def _generator_on(device: str | torch.device) -> torch.Generator:
    try:
        return torch.Generator(device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"device {device!r} has no generator on this machine: {error}") from error


@contextmanager
def keyed(seed: int, *key: int) -> Iterator[None]:
    """Let torch's global CPU stream draw from a key for a while, and put it back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(hashed_seed(seed, *key))
        yield


class Stream:
    """A :class:`torch.Generator` that can be pickled, copied, saved and sent to workers.

    There is one stream for each generator, so transforms that share a generator go on sharing it
    when they are pickled or copied together. In a DataLoader worker the stream is re-keyed once
    from its own seed and the worker's, so that workers and epochs differ and the run repeats.
    """

    _by_id: ClassVar[WeakValueDictionary[int, Stream]] = WeakValueDictionary()

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._worker_seed: int | None = None

    @classmethod
    def of(cls, generator: object) -> Stream:
        """Return the stream of a generator."""
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"generator must be a torch.Generator or None, got {generator!r} "
                f"({type(generator).__name__}); "
                "make one with torch.Generator().manual_seed(seed)"
            )
        return cls._by_id.setdefault(id(generator), cls(generator))

    @property
    def generator(self) -> torch.Generator:
        """The generator to draw from, in this process."""
        worker = get_worker_info()
        if worker is not None and worker.seed != self._worker_seed:
            seed = hashed_seed(self._generator.initial_seed() % 2**64, worker.seed)
            self._generator.manual_seed(seed)
            self._worker_seed = worker.seed
        return self._generator

    def __getstate__(self) -> dict[str, object]:
        # Bytes, not a tensor: under spawn a tensor would travel through shared memory, and fail.
        return {
            "device": str(self._generator.device),
            "state": self._generator.get_state().numpy().tobytes(),
            "worker_seed": self._worker_seed,
        }

    def __setstate__(self, saved: dict[str, object]) -> None:
        self._generator = _generator_on(saved["device"])  # type: ignore[arg-type]
        self._generator.set_state(torch.frombuffer(bytearray(saved["state"]), dtype=torch.uint8))  # type: ignore[call-overload]
        self._worker_seed = saved["worker_seed"]  # type: ignore[assignment]
        self._by_id[id(self._generator)] = self

    def get_state(self) -> Tensor:
        """Return the generator's state, a uint8 CPU tensor."""
        return self.generator.get_state()

    def set_state(self, state: object) -> None:
        """Go on from a state that :meth:`get_state` returned."""
        try:
            self.generator.set_state(state)  # type: ignore[arg-type]
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"the saved state does not fit a generator on {self._generator.device}: {error}"
            ) from error
