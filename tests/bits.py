"""Equality to the last bit."""

import torch
from torch.utils._pytree import tree_leaves


def same(a, b):
    """Whether two trees hold the same tensors bit for bit, the sign of 0 and NaN included."""
    leaves, others = tree_leaves(a), tree_leaves(b)
    return len(leaves) == len(others) and all(
        (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(bits(one), bits(other))
        for one, other in zip(leaves, others, strict=True)
    )


def unchanged(before, after):
    """Whether two batches are equal bit for bit, and have the same form."""
    if isinstance(before, torch.Tensor):
        return type(before) is type(after) and torch.equal(before, after)
    if isinstance(before, dict):
        return list(before) == list(after) and unchanged([*before.values()], [*after.values()])
    if isinstance(before, list | tuple):
        pairs = zip(before, after, strict=True)
        return len(before) == len(after) and all(unchanged(a, b) for a, b in pairs)
    return before == after


def bits(tensor):
    values = torch.empty(tensor.numel(), dtype=tensor.dtype)
    return values.copy_(tensor.detach().flatten()).view(torch.uint8)
