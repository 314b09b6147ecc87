"""The transforms that show their settings and draw from a generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import torch
from torch import Tensor
from torchvision.transforms import v2

from mixup_transforms._core import streams

_Function = TypeVar("_Function", bound=Callable[..., Any])


def uncompiled(function: _Function) -> _Function:
    """Keep what reads values or draws out of a compiled graph, where its checks would be lost."""
    kept: _Function = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return kept


def settings_repr(transform: torch.nn.Module) -> str:
    """Return the constructor's arguments as far as the transform holds them."""
    shown = []
    for name in _settings(type(transform)):
        with suppress(AttributeError):
            shown.append(f"{name}={show(getattr(transform, name))}")
    return ", ".join(shown)


def _settings(cls: type) -> Iterator[str]:
    """Walk the arguments of a class, and of its bases where it hands on the rest as ``**``."""
    parameters = inspect.signature(cls).parameters.values()
    yield from (p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    if any(p.kind is p.VAR_KEYWORD for p in parameters) and issubclass(cls.__mro__[1], Seeded):
        yield from _settings(cls.__mro__[1])


def show(value: object) -> str:
    """Return a ``repr`` that says of a generator what matters."""
    if isinstance(value, torch.Generator):
        return f"<{value.device} generator, seed {value.initial_seed()}>"
    return repr(value)


class Seeded(v2.Transform):
    """Base of the transforms that draw from a generator."""

    def __init__(self, *, generator: torch.Generator | None) -> None:
        super().__init__()
        self._stream = None if generator is None else streams.Stream.of(generator)
        self.register_state_dict_post_hook(_drop_no_state)
        self.register_load_state_dict_pre_hook(_expect_no_state)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, through its check where it has one."""
        if hasattr(getattr(type(self), name, None), "__set__"):
            # A module would register a tensor as its parameter, past the check.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def generator(self) -> torch.Generator | None:
        """The generator given; ``None`` for torch's global stream.

        While a :class:`MixedDataset` mixes a sample, a transform without one has that sample's.
        """
        return streams.of_call() if self._stream is None else self._stream.generator

    def extra_repr(self) -> str:
        """Show the settings."""
        return settings_repr(self)

    def get_extra_state(self) -> Tensor | None:
        """Return the generator's state for ``state_dict()``, which ends with the saving rank."""
        return None if self._stream is None else self._stream.get_state()

    def set_extra_state(self, state: Tensor | None) -> None:
        """Go on from a saved state."""
        if (state is None) != (self._stream is None):
            saved, own = (
                "no generator" if missing else "a generator"
                for missing in (state is None, self._stream is None)
            )
            raise ValueError(f"the state was saved with {saved}, but this transform has {own}")
        if self._stream is not None:
            self._stream.set_state(state)


def _drop_no_state(transform: Seeded, state: dict[str, Any], prefix: str, *_: object) -> None:
    # torch would save the None, which not every file format can hold.
    if state[f"{prefix}_extra_state"] is None:
        del state[f"{prefix}_extra_state"]


def _expect_no_state(transform: Seeded, state: dict[str, Any], prefix: str, *_: object) -> None:
    # torch expects a state of every transform of a class that can have one.
    if transform._stream is None:
        state.setdefault(f"{prefix}_extra_state", None)
