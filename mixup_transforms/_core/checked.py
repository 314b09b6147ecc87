"""Settings that stay true: checked whenever they are set, as in the constructor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class Checked(Generic[T]):
    """An attribute whose every value passes ``check(name, value)``."""

    def __init__(self, check: Callable[[str, Any], T]) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._held = name, f"_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> Checked[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Checked[T] | T:
        if instance is None:
            return self
        value: T = getattr(instance, self._held)
        return value

    def __set__(self, instance: object, value: Any) -> None:
        vars(instance)[self._held] = self.check(self._name, value)
