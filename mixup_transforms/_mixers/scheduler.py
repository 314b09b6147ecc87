"""Settings of a mixer as functions of the epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from mixup_transforms._core import checks
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._mixers.choice import RandomChoice


class MixScheduler:
    """Set a mixer's ``p`` and ``alpha`` by functions of the epoch, in live DataLoader workers too.

    Used like ``torch.optim.lr_scheduler.LambdaLR``: the values of epoch 0 hold from construction
    on, and ``step()`` after each epoch sets those of the next. Unlike there, what a function
    returns is the value itself and no factor, and ``load_state_dict`` sets the values of the epoch
    that was saved.

    Mixup that goes on too long can end in fitting the mixed samples alone: Liu, Wang, Guo, Mao,
    *Over-Training with Mixup May Hurt Generalization*, ICLR 2023 (arXiv 2303.01475).

    Args:
        mixer: an instance; of a :class:`RandomChoice` ``p`` sets its own gate, and ``alpha`` that
            of each member that has one.
        p: a function of the epoch, an integer from 0, that returns the probability of mixing.
        alpha: one that returns α; at least one of the two has to be given.

    Attributes:
        last_epoch: the epoch whose values are set.

    Raises:
        TypeError: for what is no mixer, and no function; for values that are no numbers.
        ValueError: for ``alpha`` where the mixer has none, and values out of range. The mixer and
            ``last_epoch`` stay as they were then.

    Example:
        >>> from mixup_transforms import MixScheduler, RandomMixup
        >>> mix = RandomMixup(num_classes=10)
        >>> scheduler = MixScheduler(mix, p=lambda epoch: 1.0 if epoch < 2 else 0.0)
        >>> for epoch in range(4):
        ...     print(epoch, mix.p)  # an epoch of training
        ...     scheduler.step()
        0 1.0
        1 1.0
        2 0.0
        3 0.0
        >>> resumed = MixScheduler(mix, p=lambda epoch: 1.0 if epoch < 2 else 0.0)
        >>> mix.p
        1.0
        >>> resumed.load_state_dict(scheduler.state_dict())
        >>> resumed.last_epoch, mix.p
        (4, 0.0)
    """

    def __init__(
        self,
        mixer: Mixer,
        *,
        p: Callable[[int], float] | None = None,
        alpha: Callable[[int], float] | None = None,
    ) -> None:
        self._mixer = _checked_mixer(mixer)
        given = {"p": p, "alpha": alpha}
        self._functions = {
            name: _checked_function(name, function)
            for name, function in given.items()
            if function is not None
        }
        if not self._functions:
            raise TypeError("p, alpha or both must be given, such as p=lambda epoch: 0.5")
        if alpha is not None and not self._holders("alpha"):
            names = ", ".join(type(each).__name__ for each in self._candidates("alpha"))
            raise ValueError(f"alpha must be for a mixer that has one, got {names}")
        self._set_epoch(0)

    @property
    def last_epoch(self) -> int:
        """The epoch whose values are set."""
        return self._last_epoch

    def step(self) -> None:
        """Set the values of the next epoch."""
        self._set_epoch(self._last_epoch + 1)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch; the functions are given anew when a run is resumed."""
        return {"last_epoch": self._last_epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved epoch, and set its values."""
        self._set_epoch(_checked_epoch(state_dict))

    def _set_epoch(self, epoch: int) -> None:
        """Set all values of an epoch, or none."""
        values = {name: function(epoch) for name, function in self._functions.items()}
        with ExitStack() as undo:
            for name, value in values.items():
                for mixer in self._holders(name):
                    before = getattr(mixer, name)
                    try:
                        setattr(mixer, name, value)
                    except (TypeError, ValueError) as error:
                        kind = TypeError if isinstance(error, TypeError) else ValueError
                        raise kind(f"at epoch {epoch}, {error}") from error
                    undo.callback(setattr, mixer, name, before)
            undo.pop_all()
        self._last_epoch = epoch

    def _holders(self, name: str) -> list[Mixer]:
        return [mixer for mixer in self._candidates(name) if hasattr(mixer, name)]

    def _candidates(self, name: str) -> list[Any]:
        """Return whose setting is meant: a choice has a gate of its own, and nothing else."""
        if isinstance(self._mixer, RandomChoice) and name != "p":
            return [*self._mixer.transforms]
        return [self._mixer]


def _checked_mixer(mixer: object) -> Mixer:
    if isinstance(mixer, type):
        raise TypeError(
            f"mixer must be an instance, such as {mixer.__name__}(...), "
            f"got the class {mixer.__name__}"
        )
    if not isinstance(mixer, Mixer):
        raise TypeError(
            f"mixer must be a mixer, such as RandomMixup(...), got {type(mixer).__name__}; "
            "of a pipeline or a MixCollate give the mixer inside"
        )
    return mixer


def _checked_function(name: str, value: Any) -> Callable[[int], float]:
    if not callable(value):
        number = value if isinstance(value, int | float) else 0.5
        raise TypeError(
            f"{name} must be a function of the epoch, such as {name}=lambda epoch: {number}, "
            f"got {value!r}"
        )
    return value  # type: ignore[no-any-return]


def _checked_epoch(state_dict: object) -> int:
    if not isinstance(state_dict, Mapping) or {*state_dict} != {"last_epoch"}:
        keys = f" of {[*state_dict]}" if isinstance(state_dict, Mapping) else ""
        raise ValueError(
            "state_dict must be what MixScheduler.state_dict() returned, {'last_epoch': epoch}, "
            f"got {type(state_dict).__name__}{keys}"
        )
    return checks.integer("last_epoch", state_dict["last_epoch"], minimum=0)
