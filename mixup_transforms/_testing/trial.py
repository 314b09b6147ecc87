"""One case with its seed: what it gives a mixer, how it calls it, and what must come back."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np  # comes with torchvision
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixup_transforms._core import checks, streams
from mixup_transforms._core.seeded import Seeded
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._testing.law import Params

_Result = TypeVar("_Result")
# Whatever their getters are set to, checked mixers get (images, labels).
_SETTINGS = {"p": 1.0, "inplace": False, "images_getter": "default", "labels_getter": "default"}


@dataclass(frozen=True)
class Trial:
    """A batch size, an inner shape and a dtype, and the seed of all that is random."""

    mixer: Callable[[Tensor, Tensor], Any]
    classes: int
    gives_indices: bool
    batch: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    seed: int

    def stream(self) -> torch.Generator:
        """Start the stream that images and labels are drawn from."""
        return torch.Generator().manual_seed(self.seed)

    def noise(self) -> Tensor:
        """Draw images over all that their dtype holds, or floats around 0."""
        size = (self.batch, *self.shape)
        if self.dtype.is_floating_point:
            values = torch.randn(size, generator=self.stream(), dtype=torch.float64, device="cpu")
            return (10 * values).to(self.dtype)
        limits = torch.iinfo(self.dtype)
        low, high = max(limits.min, -(2**31)), min(limits.max, 2**31 - 1)
        values = torch.randint(low, high + 1, size, generator=self.stream(), device="cpu")
        return values.to(self.dtype)

    def some_classes(self) -> Tensor:
        """Draw a class for each sample."""
        return torch.randint(self.classes, (self.batch,), generator=self.stream(), device="cpu")

    def rows(self, indices: Tensor) -> Tensor:
        """Return the one-hot rows of classes."""
        return F.one_hot(indices, self.classes).float()

    def labels(self, indices: Tensor) -> Tensor:
        """Return classes in the form that the mixer takes."""
        return indices if self.gives_indices else self.rows(indices)

    def soft_labels(self) -> Tensor:
        """Draw class probabilities."""
        size = (self.batch, self.classes)
        logits = torch.randn(size, generator=self.stream(), dtype=torch.float32, device="cpu")
        return logits.softmax(dim=1)

    def fresh(self, **settings: Any) -> Mixer:
        """Copy a mixer of this package, which is in training then and always mixes."""
        mix: Any = copy.deepcopy(self.mixer)
        for name, value in {**_SETTINGS, **settings}.items():
            setattr(mix, name, value)
        mixer: Mixer = mix.train()
        return mixer

    def call(
        self,
        mix: Callable[[Tensor, Tensor], Any],
        images: Tensor,
        labels: Tensor,
        *,
        inplace: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Call a mixer, and check the form of what comes back and that nothing was written."""
        given = images.clone(), labels.clone()
        with drawing_from(mix, self.seed):
            result = attempt("it", lambda: mix(images, labels))
        if not inplace:
            for name, value, before in zip(
                ("images", "labels"), (images, labels), given, strict=True
            ):
                expect(same(value, before), f"the {name} that it was given are changed")
        return self.formed(result)

    def draw(self, mix: Mixer, images: Tensor, labels: Tensor) -> Params:
        """Draw a mixer's params, and check their form."""
        with drawing_from(mix, self.seed):
            params: Any = attempt("make_params", lambda: mix.make_params([images, labels]))
        for name in ("partner", "lam"):
            expect(name in params, f"make_params returns no {name!r}, only {sorted(params)}")
        for name, value in params.items():
            rows = isinstance(value, Tensor) and value.shape[:1] == (self.batch,)
            expect(
                rows, f"{name!r} of make_params is {_kind(value)}, without a row for each sample"
            )
        for name, dtype, high in (
            ("partner", torch.int64, self.batch - 1),
            ("lam", torch.float32, 1),
        ):
            value = params[name]
            if value.dtype != dtype or not ((value >= 0) & (value <= high)).all():
                raise AssertionError(
                    f"{name!r} of make_params must be {dtype} in [0, {high}], got {value}"
                )
        drawn: Params = params
        return drawn

    def replay(
        self, mix: Mixer, params: Params, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Replay params, from streams that stand elsewhere than when they were drawn."""
        with drawing_from(mix, (self.seed + 1) % 2**64):
            result = attempt("replay", lambda: mix.replay(params, images, labels))
        return self.formed(result)

    def formed(self, result: Any) -> tuple[Tensor, Tensor]:
        """Check that a result is images like those given, and rows of probabilities."""
        pair = isinstance(result, tuple | list) and len(result) == 2
        if not pair or not all(isinstance(value, Tensor) for value in result):
            raise AssertionError(f"it returns {_kind(result)}, not tensors (images, labels)")
        images, labels = result
        expect(
            (images.shape, images.dtype) == ((self.batch, *self.shape), self.dtype),
            f"images come back as {checks.describe(images)}, not as "
            f"{str(self.dtype).removeprefix('torch.')} {(self.batch, *self.shape)}",
        )
        expect(
            labels.shape == (self.batch, self.classes) and labels.is_floating_point(),
            f"labels come back as {checks.describe(labels)}, "
            f"not as float ({self.batch}, {self.classes})",
        )
        sums, slack = labels.double().sum(dim=1), 1e-5 + torch.finfo(labels.dtype).eps
        # Written so that NaN is wrong too.
        wrong = ~(((sums - 1).abs() <= slack) & (labels >= -slack).all(dim=1))
        if wrong.any():
            i = int(wrong.nonzero()[0])
            raise AssertionError(
                f"a label is no distribution: that of sample {i} sums to {sums[i]:.6g}, "
                f"its least weight is {labels[i].min():.3g}"
            )
        return images, labels


def expect(condition: object, words: str) -> None:
    """Raise where something does not hold; unlike ``assert`` under ``python -O`` too."""
    if not condition:
        raise AssertionError(words)


def attempt(what: str, call: Callable[[], _Result]) -> _Result:
    """Call, and tell what was raised."""
    try:
        return call()
    except Exception as error:
        raise AssertionError(f"{what} raises {type(error).__name__}: {error}") from error


@contextmanager
def drawing_from(mix: object, seed: int) -> Iterator[None]:
    """Let a mixer draw from a seed for a while, and the global streams too."""
    for transform in _seeded(mix):
        if transform.generator is not None:
            transform.generator.manual_seed(seed)
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        with streams.keyed(seed):
            yield
    finally:
        torch.set_rng_state(kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])


def global_states() -> dict[str, object]:
    """Say where the global streams of torch, Python and NumPy stand."""
    numpy: Any = np.random.get_state()
    return {
        "torch's": torch.get_rng_state().tolist(),
        "Python's": random.getstate(),
        "NumPy's": (numpy[1].tolist(), numpy[2:]),
    }


def own_states(mix: object) -> list[Tensor]:
    """Return where the streams stand that a mixer should draw from."""
    drawn = (transform.generator for transform in _seeded(mix))
    return [generator.get_state() for generator in drawn if generator is not None]


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, NaN included."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    # Into new memory: a tensor of one element may have a stride that no view as bytes takes.
    copies = (
        torch.empty(each.numel(), dtype=each.dtype, device="cpu").copy_(each.flatten())
        for each in (a, b)
    )
    return torch.equal(*(each.view(torch.uint8) for each in copies))


def _seeded(mix: object) -> Iterator[Seeded]:
    if isinstance(mix, Seeded):
        yield mix
    if isinstance(mix, nn.Module):
        # v2's containers hold their transforms in a plain list.
        listed = getattr(mix, "transforms", [])
        for each in (*mix.children(), *(listed if isinstance(listed, list) else ())):
            yield from _seeded(each)


def _kind(value: object) -> str:
    return checks.describe(value) if isinstance(value, Tensor) else type(value).__name__
