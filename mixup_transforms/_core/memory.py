"""Bits moved, gathered and selected, whatever their dtype and device."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._core import checks

# Dtypes that some versions of torch can hold but not index, and what has as many bits.
_INDEXABLE = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64} | {
    getattr(torch, name): torch.uint8
    for name in dir(torch)
    if re.fullmatch("float[48]_.*|u?int[1-7]|bits8", name)
}

# What NumPy knows, by how many bytes it has.
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# How long to look for a byte in common before one is supposed: microseconds, for what is usual.
_WORK = 10_000


class _Footprint:
    """Where the bytes of a tensor lie, for NumPy, which never looks at them."""

    def __init__(self, tensor: Tensor) -> None:
        size = tensor.element_size()
        self.__array_interface__ = {
            "version": 3,
            "typestr": f"|V{size}",
            "data": (tensor.data_ptr(), False),
            "shape": tuple(tensor.shape),
            "strides": tuple(size * stride for stride in tensor.stride()),
        }


def overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have a byte in common, so that to write one changes the other."""
    if one.device != other.device or one.is_meta or not (one.numel() and other.numel()):
        return False
    # Of subclasses without memory of their own, only one and the same is known to share it.
    if not (one.data_ptr() and other.data_ptr()):
        return one is other
    here, there = one.untyped_storage(), other.untyped_storage()
    first, second = here.data_ptr(), there.data_ptr()
    if first + here.nbytes() <= second or second + there.nbytes() <= first:
        return False
    try:
        footprints = np.asarray(_Footprint(one)), np.asarray(_Footprint(other))
        # NumPy's stubs know but two of its numbers.
        return bool(np.shares_memory(*footprints, max_work=_WORK))  # type: ignore[arg-type]
    except RuntimeError:  # NumPy gave up on strides that are too odd
        return True


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one and the same piece of memory, read in one way."""
    return one is other or (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.device == other.device
    )


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Gather rows of a batch in its memory format."""
    (rows,) = moved(values.device, rows)
    packed = bits(values)
    # The faster of the two does not keep other memory formats.
    taken = packed.index_select(0, rows) if packed.is_contiguous() else packed[rows]
    return retyped(taken, values.dtype)


def written_by_bits(tensor: Tensor) -> None:
    """Tell autograd of a write into a view of other dtype, of which it need not hear otherwise."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)


def where(mask: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Return ``own`` where the mask is true, and ``other``, of the same shape, elsewhere."""
    if bitwise(own, other):
        return select_bits(mask, own, other, out=torch.empty_like(own))
    return retyped(torch.where(mask, bits(own), bits(other)), own.dtype)


def select_bits(mask: Tensor, own: Tensor, other: Tensor, *, out: Tensor) -> Tensor:
    """Write ``own`` where the mask is true and ``other`` elsewhere into ``out``, or over either.

    On the host by arithmetic of bits, since there torch looks at elements one by one.
    """
    if not bitwise(own, other, out):
        torch.where(mask, bits(own), bits(other), out=bits(out))
        return out
    word = _WORDS[out.dtype.itemsize]
    over_other = alike(out, other)
    # All bits of a word, or none: of those that do not stay as they are in the base.
    changes = mask.to(word).sub_(1) if over_other else mask.to(word).neg_()
    one, two, mixed = (tensor.view(word) for tensor in (own, other, out))
    base = one if over_other else two
    written_by_bits(out)
    torch.bitwise_xor(one, two, out=mixed).bitwise_and_(changes).bitwise_xor_(base)
    return out


def bits(values: Tensor) -> Tensor:
    """Return the same bits in a dtype that torch can index and select in all its versions."""
    return retyped(values, _INDEXABLE.get(values.dtype, values.dtype))


def retyped(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values if values.dtype == dtype else values.view(dtype)


def bitwise(*tensors: Tensor) -> bool:
    """Whether bits of tensors can be read and written as words, and nobody wants a derivative."""
    return checks.readable(tensors[0]) and all(map(_is_bits, tensors))


def _is_bits(tensor: Tensor) -> bool:
    return (
        type(tensor) is Tensor
        and tensor.is_cpu
        and tensor.dtype.itemsize in _WORDS
        and not (tensor.is_complex() or tensor.is_neg() or checks.differentiated(tensor))
    )


def words(values: Tensor) -> np.ndarray[Any, Any]:
    """Return a view of the same bits for NumPy, which does not know all dtypes of torch's."""
    return values.detach().view(_WORDS[values.dtype.itemsize]).numpy()


def together(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Move tensors that lie on several devices to one; a check refuses what has no values."""
    origins = {tensor.device for tensor in tensors}
    several = len(origins) > 1 and torch.device("meta") not in origins
    return moved(device, *tensors) if several else tensors


def on_host(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors where the host can read them, for which it waits once; others as they are."""
    away = {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and not (tensor.is_cpu or tensor.is_meta)
    }
    names = sorted(away, key=lambda name: -away[name].element_size())
    read = moved(torch.device("cpu"), *(away[name] for name in names)) if names else ()
    return {**tensors, **dict(zip(names, read, strict=True))}


def moved(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Move tensors of falling item size to a device, in one copy where they lie together.

    Nothing waits for a copy, but one to the host, which has to be there when it is read.
    """
    origins = {tensor.device for tensor in tensors}
    if origins == {device}:
        return tensors
    non_blocking = device.type != "cpu"
    # Empty tensors from NumPy have stride 0, which torch cannot view as bytes.
    if len(tensors) == 1 or len(origins) > 1 or 0 in tensors[0].shape:
        return tuple(tensor.to(device, non_blocking=non_blocking) for tensor in tensors)
    parts = [tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors]
    moved = torch.cat(parts).to(device, non_blocking=non_blocking)
    return tuple(
        part.view(tensor.dtype).view(tensor.shape)
        for part, tensor in zip(torch.split(moved, [*map(len, parts)]), tensors, strict=True)
    )
