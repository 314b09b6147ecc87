"""Where randomness comes from: generators, their keys, and their way into workers and files."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import ClassVar
from weakref import WeakValueDictionary

import numpy as np  # comes with torchvision
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mixup_transforms._core import checks
from mixup_transforms._core.draws import device_of

# Where the 624 words of a Mersenne twister lie in the state of a CPU generator, 64 bits for each.
_TWISTER = slice(24, 24 + 8 * 624)
# And how far these have been read.
PLACE = slice(8, 24)

_of_call: ContextVar[torch.Generator | None] = ContextVar("generator of a call", default=None)
_global_stream = threading.RLock()


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
        seed: from 0 to 2⁶⁴ − 1.
        rank: at least 0; ``None`` for the rank in ``torch.distributed`` where that is initialised,
            else 0.
        epoch: at least 0.
        device: where the generator draws; a CPU generator serves batches on any device.

    Raises:
        TypeError: for numbers that are not integers.
        ValueError: for numbers out of range, and for a device that this machine lacks.

    Example:
        >>> from mixup_transforms import RandomMixup, seeded_generator
        >>> mix = RandomMixup(generator=seeded_generator(0, rank=3, epoch=1))
    """
    seed = checks.seed("seed", seed)
    epoch = checks.integer("epoch", epoch, minimum=0)
    if rank is None:
        rank = initialised_rank() or 0
    rank = checks.integer("rank", rank, minimum=0)
    return _keyed_by(np.random.SeedSequence(seed, spawn_key=(rank, epoch)), _generator_on(device))


def initialised_rank() -> int | None:
    """Return the rank in ``torch.distributed`` where that is initialised."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else None


def group_size() -> int | None:
    """Return how many ranks there are in ``torch.distributed`` where that is initialised."""
    return None if initialised_rank() is None else torch.distributed.get_world_size()


def _keyed_by(sequence: np.random.SeedSequence, generator: torch.Generator) -> torch.Generator:
    """Seed a generator with all the bits that it has room for."""
    generator.manual_seed(_seed_of(sequence))
    if generator.device.type == "cpu":
        # Of a seed the Mersenne twister reads 32 bits: of 200,000 keys some would share a stream.
        state = generator.get_state()
        state.numpy()[_TWISTER].view(np.uint64)[:] = (
            np.random.Philox(sequence).random_raw(624) >> 32
        )
        generator.set_state(state)
    return generator


@lru_cache(maxsize=64)  # a sample's partners and its λ come of one hash
def hashed_seed(seed: int, *key: int) -> int:
    """Hash a seed and a key of any integers from 0 into one 64-bit seed."""
    # The key goes apart from the seed: SeedSequence((2**32,)) would equal SeedSequence((0, 1)).
    return _seed_of(np.random.SeedSequence(seed, spawn_key=key))


def distinct(seed: int, *key: int, count: int, below: int) -> list[int]:
    """Draw up to ``count`` different numbers from 0 to ``below`` by a key."""
    drawn: list[int] = []
    for turn in range(min(count, below)):
        number = hashed_seed(seed, *key, *([turn + 1] if turn else [])) % (below - turn)
        for taken in sorted(drawn):
            number += number >= taken
        drawn.append(number)
    return drawn


def _seed_of(sequence: np.random.SeedSequence) -> int:
    return int(sequence.generate_state(1, np.uint64)[0])


def _generator_on(device: str | torch.device) -> torch.Generator:
    try:
        return torch.Generator(device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"device {device!r} has no generator on this machine: {error}") from error


def of_call() -> torch.Generator | None:
    """Return what transforms without a generator draw from; ``None`` for the global stream."""
    return _of_call.get()


@contextmanager
def keyed(seed: int, *key: int) -> Iterator[None]:
    """Let transforms without a generator draw from a key for a while, in this thread alone."""
    token = _of_call.set(torch.Generator("cpu").manual_seed(hashed_seed(seed, *key)))
    try:
        yield
    finally:
        _of_call.reset(token)


@contextmanager
def globally_keyed(seed: int, *key: int) -> Iterator[None]:
    """Let torch's global CPU stream draw from a key, for one thread after the other."""
    with _global_stream, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(hashed_seed(seed, *key))
        yield


def _free_global_stream() -> None:
    global _global_stream
    _global_stream = threading.RLock()


# A process may be forked while another of its threads holds the lock, which nobody frees there.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_global_stream)


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
            seed = self._generator.initial_seed() % 2**64
            _keyed_by(np.random.SeedSequence(seed, spawn_key=(worker.seed,)), self._generator)
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
        """Return the generator's state and this process's rank, a uint8 CPU tensor."""
        rank = torch.from_numpy(np.array([initialised_rank() or 0], "<i8").view(np.uint8))
        return torch.cat((self.generator.get_state(), rank))

    def set_state(self, state: object) -> None:
        """Go on from a state that :meth:`get_state` returned.

        A state that another rank saved is keyed anew by this one, or two ranks would draw the same.
        """
        generator, rank = self.generator, initialised_rank()
        stream, saved_by = _parted(state, len(generator.get_state()))
        try:
            generator.set_state(stream)  # type: ignore[arg-type]
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"the saved state does not fit a generator on {generator.device}: {error}"
            ) from error
        if rank is not None and saved_by not in (None, rank):
            words = generator.get_state().numpy().view("<u4")
            _keyed_by(np.random.SeedSequence(words, spawn_key=(rank,)), generator)


def _parted(state: object, size: int) -> tuple[object, int | None]:
    """Part a saved state into a generator's and the rank, which older ones lack."""
    if not isinstance(state, Tensor) or state.is_meta or state.dtype != torch.uint8:
        return state, None
    state = state.cpu()  # load with map_location may have moved it
    if state.shape != (size + 8,):
        return state, None
    return state[:size], int.from_bytes(bytes(state[size:].tolist()), "little", signed=True)
