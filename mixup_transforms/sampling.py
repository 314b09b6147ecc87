"""All randomness: the only module that touches a :class:`torch.Generator`.

Every function draws an amount that its arguments fix, whatever the values drawn, so that two runs
with the same seed stay in step. Draws are made on the generator's device; with ``None`` they come
from torch's global CPU stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np  # comes with torchvision
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mixup_transforms import _checks


def uniform(*shape: int, generator: torch.Generator | None) -> Tensor:
    """Draw float64 numbers from U[0, 1) in the given shape."""
    device = _device_of(generator)
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)


def symmetric_beta(count: int, alpha: float, *, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` numbers from Beta(alpha, alpha), two uniforms each and no rejection.

    Bailey, *Polar generation of random variates with the t-distribution*, Math. Comp. 1994, and
    T ~ t(2α) ⇒ ½ + T / (2√(2α + T²)) ~ Beta(α, α). Exact for any α > 0: a tiny α gives 0 or 1, a
    huge one ½.

    Returns:
        float64 ``(count,)`` in [0, 1].
    """
    drawn = uniform(2, count, generator=generator)
    if not drawn.is_cpu:
        lam: Tensor = _beta(drawn, alpha, torch)
        return lam
    # NumPy's operations on a few numbers take a fraction of the time of torch's.
    with np.errstate(divide="ignore"):
        return torch.from_numpy(_beta(drawn.numpy(), alpha, np))


def _beta(drawn: Any, alpha: float, maths: Any) -> Any:
    u, v = drawn
    log_w = maths.log(u) / alpha
    w = maths.exp(log_w)
    one_minus_w = -maths.expm1(log_w)
    cosine = maths.cos(2 * math.pi * v)
    ratio = cosine * maths.sqrt(one_minus_w / (w + one_minus_w * cosine * cosine))
    return (0.5 + 0.5 * ratio).clip(0, 1)


def bernoulli(count: int, p: float, *, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` bools that are true with probability ``p``."""
    return uniform(count, generator=generator) < p


def cycle(batch: int, *, generator: torch.Generator | None) -> Tensor:
    """Pair the samples of a batch along one uniformly random cycle.

    No sample meets itself unless it is alone, each is used once, and every partner is equally
    likely.

    Returns:
        int64 ``(batch,)``: the partner of each sample.
    """
    order = torch.randperm(batch, generator=generator, device=_device_of(generator))
    return torch.empty_like(order).index_copy_(0, order, order.roll(-1))


def choice(count: int, weights: Sequence[float], *, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` indices with the given weights, which sum to 1."""
    drawn = uniform(count, generator=generator)
    edges = torch.tensor(weights, dtype=drawn.dtype, device=drawn.device).cumsum(0)
    return torch.bucketize(drawn, edges[:-1], right=True)


def centred_boxes(
    lam: Tensor, size: tuple[int, int], *, generator: torch.Generator | None
) -> Tensor:
    """Draw a box of area 1 − λ around a uniform pixel, and clip it to the image.

    Returns:
        int64 ``(len(lam), 4)``: x1, y1, x2, y2.
    """
    lengths = _lengths(size, lam)
    extent = ((1 - lam).sqrt() * lengths).round().long()
    low = _scaled(uniform(2, len(lam), generator=generator), lengths) - extent // 2
    return torch.cat((low.clamp(min=0), (low + extent).minimum(lengths))).T.contiguous()


def inner_boxes(
    side: Tensor, size: tuple[int, int], *, generator: torch.Generator | None
) -> Tensor:
    """Draw a box of sides H and W times ``side``, one pixel at least, wholly inside the image.

    Returns:
        int64 ``(len(side), 4)``: x1, y1, x2, y2; empty where ``side`` is 0.
    """
    lengths = _lengths(size, side)
    extent = (side * lengths).round().long().clamp(min=1) * (side > 0)
    low = _scaled(uniform(2, len(side), generator=generator), lengths - extent + 1)
    return torch.cat((low, low + extent)).T.contiguous()


def low_frequency_noise(
    count: int, size: tuple[int, int], decay_power: float, *, generator: torch.Generator | None
) -> Tensor:
    """Draw images whose spectrum falls with frequency as f^−decay_power.

    Harris et al., *FMix*, 2020 (arXiv 2002.12047).

    Returns:
        float32 ``(count, H, W)``.
    """
    height, width = size
    kind: dict[str, Any] = {"dtype": torch.float32, "device": _device_of(generator)}
    if count == 0:
        return torch.empty(0, height, width, **kind)  # the FFT refuses an empty batch
    spectrum = torch.randn(count, height, width // 2 + 1, 2, generator=generator, **kind)
    fy = torch.fft.fftfreq(height, **kind)[:, None]
    fx = torch.fft.rfftfreq(width, **kind)
    frequency = torch.hypot(fy, fx).clamp(min=1 / max(size))
    # Scaled to 1 at the lowest frequency: a steep decay must not overflow.
    scale = (frequency * max(size)) ** -decay_power
    noise: Tensor = torch.fft.irfft2(torch.view_as_complex(spectrum * scale[..., None]), s=size)
    return noise


def fork(generator: torch.Generator | None) -> torch.Generator:
    """Start an independent generator from one draw, so that what it draws costs no more."""
    device = _device_of(generator)
    seed = torch.randint(2**63 - 1, (), generator=generator, device=device)
    return torch.Generator(device).manual_seed(int(seed))


def detached() -> torch.Generator:
    """Make a generator that no stream depends on."""
    return torch.Generator()


def _device_of(generator: torch.Generator | None) -> torch.device:
    """Return where to draw, whatever torch's default device is."""
    return torch.device("cpu") if generator is None else generator.device


def _scaled(drawn: Tensor, size: Tensor | int) -> Tensor:
    """Turn numbers from U[0, 1) into integers from [0, size)."""
    return (drawn * size).long()


def _lengths(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return width and height, as a column to draw x and y by."""
    height, width = size
    return torch.tensor([[width], [height]], device=like.device)


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
    seed = _checks.integer("seed", seed, minimum=0)
    epoch = _checks.integer("epoch", epoch, minimum=0)
    if rank is None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
    rank = _checks.integer("rank", rank, minimum=0)
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
