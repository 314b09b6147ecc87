"""A batch that is still its samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import get_worker_info


class Unstacked(Tensor):
    """A batch that is still its samples, so that a mixer can stack and mix it in one pass.

    Any other operation stacks it first.

    Attributes:
        samples: of one shape and dtype, on the CPU, without a type of torchvision's.
        whole: the batch, once it was stacked.
        kind: what the batch stands for: a tensor, or a type of torchvision's.
        first_alone: whether nobody looks at the mix of any sample but the first.
    """

    samples: list[Tensor]
    whole: Tensor | None
    first_alone: bool
    kind: type[Tensor] = Tensor

    @staticmethod
    def __new__(
        cls: type[Unstacked], samples: list[Tensor], *, first_alone: bool = False
    ) -> Unstacked:
        """Take samples of one shape and dtype, on the CPU."""
        shape = (len(samples), *samples[0].shape)
        batch: Unstacked = Tensor._make_wrapper_subclass(cls, shape, dtype=samples[0].dtype)
        batch.samples, batch.whole, batch.first_alone = samples, None, first_alone
        return batch

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map_only(Unstacked, Unstacked.stacked, (args, kwargs or {}))
        return func(*args, **kwargs)

    def as_subclass(self, cls: Any) -> Any:
        """Return the same samples as a batch of another type, still unstacked."""
        batch = _unstacked_as(cls)(self.samples, first_alone=self.first_alone)
        batch.whole = self.whole
        return batch

    def empty(self) -> Tensor:
        """Allocate the batch; in a DataLoader worker in memory that its reader shares.

        Where the first sample is mixed alone, its memory stands for all.
        """
        if self.first_alone:
            one = torch.empty(self.shape[1:], dtype=self.dtype, device="cpu")
            return one.expand(self.shape)
        if get_worker_info() is None:
            return torch.empty(self.shape, dtype=self.dtype, device="cpu")
        storage = torch.UntypedStorage._new_shared(self.numel() * self.element_size())  # type: ignore[no-untyped-call]
        flat = torch.empty(0, dtype=self.dtype, device="cpu").set_(storage)
        return flat.view(self.shape)

    def stacked(self) -> Tensor:
        """Stack the samples as they are."""
        if self.whole is None:
            out = None if self.first_alone else self.empty()
            self.whole = torch.stack(self.samples, out=out)
        return self.whole


@cache
def _unstacked_as(kind: type[Tensor]) -> type[Unstacked]:
    """Make the class whose instances are found by both types."""
    if kind is Tensor:
        return Unstacked
    return type(f"Unstacked{kind.__name__}", (Unstacked, kind), {"kind": kind})


def can_wait(samples: Sequence[Tensor]) -> bool:
    """Whether plain tensors can be left unstacked."""
    first = samples[0]
    return all(
        sample.shape == first.shape
        and sample.dtype == first.dtype
        and sample.layout == torch.strided
        and not sample.is_nested
        and sample.device.type == "cpu"
        and not sample.requires_grad
        for sample in samples
    )


def wanted(values: Tensor) -> int:
    """Return of how many samples somebody looks at the mix: the first ones."""
    return 1 if isinstance(values, Unstacked) and values.first_alone else len(values)


def samples_of(values: Tensor) -> Sequence[Tensor]:
    return values.samples if isinstance(values, Unstacked) else values.unbind()


def empty_like(values: Tensor) -> Tensor:
    return values.empty() if isinstance(values, Unstacked) else torch.empty_like(values)


def finished(leaf: Any) -> Any:
    """Stack what is unstacked, in the type that it stands for."""
    return leaf.stacked().as_subclass(leaf.kind) if isinstance(leaf, Unstacked) else leaf
