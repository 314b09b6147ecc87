"""Settings that stay true: checked whenever they are set, as in the constructor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

T = TypeVar("T")


class Checked(Generic[T]):
    """An attribute whose every value passes ``check(name, value)``."""

    def __init__(self, check: Callable[[str, Any], T]) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, instance: object, value: Any) -> None:
        vars(instance)[self._name] = self.check(self._name, value)

    # Without a method to get it, Python itself finds the value where it was set.
    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> Checked[T]: ...

        @overload
        def __get__(self, instance: object, owner: type) -> T: ...

        def __get__(self, instance: object | None, owner: type) -> Checked[T] | T: ...
