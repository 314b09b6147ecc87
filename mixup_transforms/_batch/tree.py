"""A batch taken apart, whatever containers it came in, and put together again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from mixup_transforms._batch.labels import is_mixture

Path = tuple[Any, ...]

_NO_CONTAINERS = (int, float, bool, str, type(None))


@dataclass(frozen=True)
class Node:
    """A container: its children, each a container or the position of a leaf, under their keys."""

    kind: type
    keys: list[Any]
    children: list[Node | int]
    rebuild: Callable[[list[Any]], Any]

    @property
    def is_mapping(self) -> bool:
        """Whether the children have names of their own."""
        return issubclass(self.kind, Mapping)

    @property
    def is_sequence(self) -> bool:
        """Whether the children have places of their own."""
        return issubclass(self.kind, tuple | list)


@dataclass(frozen=True)
class Tree:
    """A batch: its leaves, the keys that lead to each, and the containers around them."""

    leaves: list[Any]
    paths: list[Path]
    root: Node | int

    @classmethod
    def of(cls, inputs: tuple[Any, ...], *, kept: Collection[Path] = ()) -> Tree:
        """Take the arguments of a call apart, as torch's pytrees do, and any mapping besides.

        What lies at the paths ``kept`` stays together, a leaf.
        """
        value = given(inputs)
        leaves: list[Any] = []
        paths: list[Path] = []
        return cls(leaves, paths, _take_apart(value, leaves, paths, (), kept))

    @property
    def form(self) -> object:
        """The containers and their keys, to be compared with another batch's."""
        return _form(self.root)

    def rebuild(self, leaves: Sequence[Any]) -> Any:
        """Return the same containers, new, around other leaves."""
        return put_together(self.root, leaves)


def given(inputs: tuple[Any, ...]) -> Any:
    """Return the batch that the arguments of a call are, or that its one argument is."""
    if not inputs:
        raise TypeError("expected a batch, such as (images, labels), got no argument")
    return inputs if len(inputs) > 1 else inputs[0]


def _form(node: Node | int) -> object:
    if isinstance(node, int):
        return None
    return node.kind, tuple(map(str, node.keys)), tuple(map(_form, node.children))


def positions(node: Node | int) -> list[int]:
    """Return the positions of the leaves below a node."""
    if isinstance(node, int):
        return [node]
    return [i for child in node.children for i in positions(child)]


def mappings(node: Node | int) -> Iterator[Node]:
    """Walk the mappings from the root down."""
    if isinstance(node, Node):
        if node.is_mapping:
            yield node
        for child in node.children:
            yield from mappings(child)


def under(node: Node | int, key: object) -> list[int]:
    """Return the positions of what stands under a key, the uppermost first found on each way."""
    if isinstance(node, int):
        return []
    found = []
    for name, child in zip(node.keys, node.children, strict=True):
        found += positions(child) if node.is_mapping and name == key else under(child, key)
    return found


def shown(path: Path) -> str:
    """Return how a leaf is reached from its batch, as one would write it."""
    return "batch" + "".join(f"[{key!r}]" for key in path)


def _take_apart(
    value: Any, leaves: list[Any], paths: list[Path], path: Path, kept: Collection[Path]
) -> Node | int:
    together = isinstance(value, Tensor) or is_mixture(value) or path in kept
    opened = None if together else _opened(value)
    if opened is None:
        leaves.append(value)
        paths.append(path)
        return len(leaves) - 1
    keys, values, rebuild = opened
    children = [
        _take_apart(child, leaves, paths, (*path, key), kept)
        for key, child in zip(keys, values, strict=True)
    ]
    return Node(type(value), keys, children, rebuild)


def _opened(value: Any) -> tuple[list[Any], list[Any], Callable[[list[Any]], Any]] | None:
    """Return a container's keys, its values and the way back; None for what is no container."""
    if type(value) in _NO_CONTAINERS:  # known without torch's registry
        return None
    if isinstance(value, Mapping):
        keys = [*value]
        return keys, [value[key] for key in keys], _Filled(value, keys)
    if type(value) in (tuple, list):
        return [*range(len(value))], [*value], type(value)
    values, spec = tree_flatten(value, is_leaf=lambda part: part is not value)
    if len(values) == 1 and values[0] is value:
        return None
    return [*range(len(values))], values, lambda changed: tree_unflatten(changed, spec)


@dataclass(frozen=True)
class _Filled:
    """Makes a mapping like another, with other values."""

    like: Mapping[Any, Any]
    keys: list[Any]

    def __call__(self, values: list[Any]) -> Mapping[Any, Any]:
        return with_items(self.like, dict(zip(self.keys, values, strict=True)))


def with_items(like: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """Return a new mapping of the type of another, with all its items given."""
    if type(like) is dict:
        return items
    if isinstance(like, MutableMapping):
        # A copy keeps what a type holds beside its items, such as a default factory.
        filled = copy.copy(like)
        for key, value in items.items():
            filled[key] = value
        return filled
    return type(like)(items)  # type: ignore[call-arg]


def put_together(node: Node | int, leaves: Sequence[Any]) -> Any:
    """Return what a node stands for, new, around other leaves."""
    if isinstance(node, int):
        return leaves[node]
    return node.rebuild([put_together(child, leaves) for child in node.children])
