"""What a stream's samples come from, and where it is."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

Mark = dict[str, Any]
"""How many samples a source had given, and its own states there as far as it has any."""


class Source:
    """An iterable that is told its epoch, and marked and opened again where it was."""

    def __init__(self, dataset: Iterable[Any]) -> None:
        self.dataset = dataset
        self._epoch = 0

    def tell(self, epoch: int) -> None:
        """Pass an epoch on, where the iterable wants to know and was not told."""
        set_epoch = getattr(self.dataset, "set_epoch", None)
        if epoch != self._epoch and callable(set_epoch):
            set_epoch(epoch)
        self._epoch = epoch

    def open(self, epoch: int, mark: Mark | None = None) -> Iterator[Any]:
        """Begin anew, or where it was marked if it can."""
        self.tell(epoch)
        # The order is that of torchdata's loader, which sources are made for.
        if mark is not None:
            _resume(self.dataset, mark["dataset"])
        samples = iter(self.dataset)
        if mark is not None:
            _resume(samples, mark["iterator"])
        return samples

    def mark(self, samples: Iterator[Any], position: int) -> Mark:
        """Note where an iteration is."""
        dataset = None if samples is self.dataset else _state_of(self.dataset)
        return {"position": position, "dataset": dataset, "iterator": _state_of(samples)}


def can_resume(mark: Mark) -> bool:
    """Whether a source goes on where it was marked, and not from its beginning."""
    return mark["dataset"] is not None or mark["iterator"] is not None


def _state_of(held: Any) -> Any:
    # A copy, for the state is kept while its owner goes on.
    return deepcopy(held.state_dict()) if _has_state(held) else None


def _resume(held: Any, state: Any) -> None:
    if state is not None:
        held.load_state_dict(deepcopy(state))


def _has_state(held: Any) -> bool:
    """Whether it can be asked for a state; of some, their engine's own loader alone can ask."""
    ask, resume = (getattr(held, name, None) for name in ("state_dict", "load_state_dict"))
    if not (callable(ask) and callable(resume)):
        return False
    try:
        inspect.signature(ask).bind()
    except TypeError:
        return False
    return True
