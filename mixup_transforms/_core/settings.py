"""Numbers that the live DataLoader workers of a process follow."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from copy import copy
from multiprocessing import RawValue, parent_process
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import reduce_ctype  # type: ignore[attr-defined]
from typing import Any, Generic, NamedTuple, TypeVar, overload
from weakref import WeakValueDictionary

import torch
from torch.utils.data import get_worker_info

_Value = TypeVar("_Value", bound=float)

_SLOTS = 4096  # of 8 bytes, for the one file descriptor that a table may cost
_TABLES: dict[type, type] = {int: ctypes.c_int64 * _SLOTS, float: ctypes.c_double * _SLOTS}
# A pickler knows what was registered when it was made, and a table may be made later.
for _kind in _TABLES.values():
    ForkingPickler.register(_kind, reduce_ctype)


class Followed(Generic[_Value]):
    """A checked number of an object; the class derives from :class:`Copied`.

    The value is private to each process. What a process sets reaches the DataLoader workers that it
    has started, and nobody else: no other process, no copy.
    """

    def __init__(self, check: Callable[[str, object], _Value], doc: str) -> None:
        self._check = check
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._held = name, f"_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> Followed[_Value]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> _Value: ...

    def __get__(self, instance: object, owner: type) -> _Value | Followed[_Value]:
        if instance is None:
            return self
        number: _Number[_Value] = getattr(instance, self._held)
        return number.get()

    def __set__(self, instance: object, value: _Value) -> None:
        checked = self._check(self._name, value)
        if self._held in vars(instance):
            getattr(instance, self._held).set(checked)
        else:
            vars(instance)[self._held] = _Number(checked)


class Copied:
    """Base of what has followed numbers: a copy of it, shallow or deep, has numbers of its own."""

    def __getstate__(self) -> dict[str, Any]:
        held = vars(self).items()
        return {name: copy(it) if isinstance(it, _Number) else it for name, it in held}


class _Number(Generic[_Value]):
    """A private value, and the slots of shared memory in which processes hand it on."""

    def __init__(self, value: _Value) -> None:
        self._value = self._seen = value
        self._slots: dict[int, _Slot] = {}  # by the process that writes
        _register(self)

    def get(self) -> _Value:
        """Return the value, after what the parent of a worker has set since."""
        parent = parent_process()
        if parent is not None and get_worker_info() is not None and parent.pid in self._slots:
            sent = self._slots[parent.pid].value
            if sent != self._seen:
                self._value = self._seen = sent
        return self._value

    def set(self, value: _Value) -> None:
        """Set the value, for the workers of this process too."""
        self.get()  # what the parent has set is older
        self._value = value
        if os.getpid() in self._slots:
            self._slots[os.getpid()].value = value

    def share(self) -> _Slot:
        """Return the slot that this process writes, and a child is to know from its start."""
        pid = os.getpid()
        if pid not in self._slots:
            slot = _new_slot(_TABLES[type(self._value)])
            slot.value = self.get()
            self._slots[pid] = slot
        return self._slots[pid]

    def __reduce__(self) -> tuple[Any, ...]:
        if get_spawning_popen() is None:
            return _Number, (self.get(),)
        return _sent, (self.get(), os.getpid(), self.share())


class _Slot(NamedTuple):
    """A place in a table, which is pickled once however many places are sent."""

    table: Any
    place: int

    @property
    def value(self) -> Any:
        return self.table[self.place]

    @value.setter
    def value(self, value: float) -> None:
        self.table[self.place] = value


_living: WeakValueDictionary[int, _Number[Any]] = WeakValueDictionary()
_tables: dict[tuple[int, type, int], Any] = {}  # kept, or a slot could be given out again
_counts: dict[tuple[int, type], itertools.count[int]] = {}


def _sent(value: _Value, pid: int, slot: _Slot) -> _Number[_Value]:
    number = _Number(value)
    number._slots[pid] = slot
    return number


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _register(number: _Number[Any]) -> None:
    _living[id(number)] = number


def _new_slot(kind: type) -> _Slot:
    """Give out a slot, none twice: a worker may follow one whose owner is gone."""
    pid = os.getpid()
    index = next(_counts.setdefault((pid, kind), itertools.count()))
    table = (pid, kind, index // _SLOTS)
    if table not in _tables:
        _tables.setdefault(table, RawValue(kind))
    return _Slot(_tables[table], index % _SLOTS)


def _share_all() -> None:
    for number in [ref() for ref in _living.valuerefs()]:
        if number is not None:
            number.share()


# A spawned worker gets its slots with its pickle; a forked one gets those that exist.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_share_all)
