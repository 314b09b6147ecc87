"""Bits moved, gathered and selected, whatever their dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor

# Dtypes that some versions of torch can hold but not index, and what has as many bits.
_INDEXABLE = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64} | {
    getattr(torch, name): torch.uint8 for name in dir(torch) if name.startswith("float8_")
}


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Gather rows of a batch in its memory format."""
    (rows,) = moved(values.device, rows)
    packed = bits(values)
    # The faster of the two does not keep other memory formats.
    taken = packed.index_select(0, rows) if packed.is_contiguous() else packed[rows]
    return retyped(taken, values.dtype)


def where(mask: Tensor, own: Tensor, other: Tensor) -> Tensor:
    return retyped(torch.where(mask, bits(own), bits(other)), own.dtype)


def bits(values: Tensor) -> Tensor:
    """Return the same bits in a dtype that torch can index and select in all its versions."""
    return retyped(values, _INDEXABLE.get(values.dtype, values.dtype))


def retyped(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values if values.dtype == dtype else values.view(dtype)


def together(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Move tensors that lie on several devices to one; a check refuses what has no values."""
    origins = {tensor.device for tensor in tensors}
    several = len(origins) > 1 and torch.device("meta") not in origins
    return moved(device, *tensors) if several else tensors


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
