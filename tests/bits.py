"""Equality to the last bit."""

import torch
from torch.utils._pytree import tree_leaves


def same(a, b):
    """Whether two trees hold the same tensors bit for bit, the sign of 0 and NaN included."""
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(
        (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(bits(one), bits(other))
        for one, other in pairs
    )


def bits(tensor):
    values = torch.empty(tensor.numel(), dtype=tensor.dtype)
    return values.copy_(tensor.detach().flatten()).view(torch.uint8)
