"""The pure kernels: tensors in, tensors out; no randomness, no state, no torchvision types.

Throughout, ``partner`` is an integer tensor ``(B,)`` with the index of each sample's partner and
``lam`` a float tensor ``(B,)`` with the share of the sample's own pixels in the result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mixup_transforms import _checks

__all__ = ["mix_labels", "mixup", "one_hot"]

# float8, quantised and sub-byte dtypes have no arithmetic to mix them with.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SMALL_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.uint16)
_LARGE_INTEGERS = (torch.int32, torch.int64, torch.uint32, torch.uint64)
_MIXABLE = (*_FLOATS, *_SMALL_INTEGERS, *_LARGE_INTEGERS)
_INDICES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# From this many elements a sample is worth a call of its own; below, one gathered call is faster.
_LARGE_SAMPLE = 16_384


def mixup(images: Tensor, /, partner: Tensor, lam: Tensor, *, inplace: bool = False) -> Tensor:
    """Mix each sample with its partner: ``lam · own + (1 − lam) · partner``.

    Zhang, Cissé, Dauphin, Lopez-Paz, *mixup: Beyond Empirical Risk Minimization*, ICLR 2018
    (arXiv 1710.09412). Where ``lam`` is exactly 1 the sample is copied bit for bit, where it is
    exactly 0 its partner is, whatever NaN or inf the other one holds. Differentiable with respect
    to ``images``.

    Args:
        images: ``(B, …)``, floating or integer. Floats are mixed in at least float32; integers of
            up to 16 bits in float32, wider ones in float64, and rounded to the nearest, ties to
            even.
        partner: integer ``(B,)`` in [0, B).
        lam: float ``(B,)`` in [0, 1].
        inplace: write into ``images`` and return it.

    Returns:
        The shape, dtype and memory format of ``images``.

    Raises:
        TypeError: for bool, complex and other dtypes that cannot be averaged.
        ValueError: for a ``partner`` or ``lam`` of another shape or out of range, and for an
            ``inplace`` target that cannot be written.

    Example:
        >>> import torch
        >>> images = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> mixup(images, torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
        tensor([[0.2500, 0.2500],
                [1.0000, 1.0000]])
    """
    check_mixable("images", images)
    check_pairs(partner, lam, batch=len(images))
    if inplace:
        check_writable("images", images)
    return _blend(images, partner, lam, inplace=inplace)


def mix_labels(labels: Tensor, /, partner: Tensor, lam: Tensor, *, inplace: bool = False) -> Tensor:
    """Mix dense labels: ``lam · own + (1 − lam) · partner``.

    Args:
        labels: floating ``(B, …)``: class probabilities, multi-label vectors, regression targets.
        partner: integer ``(B,)`` in [0, B).
        lam: float ``(B,)`` in [0, 1].
        inplace: write into ``labels`` where they are float32 or float64, and return them.

    Returns:
        The shape of ``labels``, in float32 at least: a half-precision label cannot carry λ.

    Raises:
        TypeError: for integer labels; see :func:`one_hot`.
        ValueError: as :func:`mixup`.

    Example:
        >>> import torch
        >>> labels = one_hot(torch.tensor([0, 2]), 3)
        >>> mix_labels(labels, torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
        tensor([[0.7500, 0.0000, 0.2500],
                [0.0000, 0.0000, 1.0000]])
    """
    if _checks.tensor("labels", labels).dtype not in _FLOATS:
        raise TypeError(
            f"labels must be floating to be mixed, got {_checks.describe(labels)}; "
            "turn class indices into probabilities with OneHot or one_hot"
        )
    check_batched("labels", labels)
    check_pairs(partner, lam, batch=len(labels))
    soft = labels.to(torch.promote_types(labels.dtype, torch.float32))
    if inplace:
        check_writable("labels", soft)
    return _blend(soft, partner, lam, inplace=inplace or soft is not labels)


def one_hot(
    labels: Tensor,
    /,
    num_classes: int,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> Tensor:
    """Turn class indices into (smoothed) class probabilities.

    The own class gets ``1 − ε + ε/C``, every other ``ε/C``: what
    ``torch.nn.CrossEntropyLoss(label_smoothing=ε)`` makes of the index, and in the layout that
    ``F.cross_entropy`` takes, with the classes in dim 1.

    Args:
        labels: integer ``(B, *dims)`` in [0, num_classes).
        num_classes: C, at least 1.
        label_smoothing: ε in [0, 1).
        ignore_index: a label outside [0, num_classes) whose positions become all zero, so that no
            gradient comes from them.

    Returns:
        float32 ``(B, C, *dims)``. Where labels cannot be read without stalling (on an accelerator,
        under ``torch.compile``), one that is out of range becomes a row of NaN instead of an error.

    Raises:
        TypeError: for labels that are not integers.
        ValueError: for labels out of range (the value is named) and for settings out of range.

    Example:
        >>> import torch
        >>> one_hot(torch.tensor([2, 0]), 3, label_smoothing=0.3)
        tensor([[0.1000, 0.1000, 0.8000],
                [0.8000, 0.1000, 0.1000]])
    """
    num_classes = _checks.integer("num_classes", num_classes, minimum=1)
    label_smoothing = _checks.smoothing("label_smoothing", label_smoothing)
    check_ignore_index(ignore_index, num_classes)
    if _checks.tensor("labels", labels).dtype not in _INDICES:
        raise TypeError(f"labels must be integer class indices, got {_checks.describe(labels)}")
    check_batched("labels", labels)

    indices = labels.long()
    in_range = (indices >= 0) & (indices < num_classes)
    ignored = None if ignore_index is None else indices == ignore_index
    known = in_range if ignored is None else in_range | ignored
    if _readable(indices) and not known.all():
        unknown = indices[~known][0].item()
        also = "" if ignore_index is None else f" or the ignore_index {ignore_index}"
        raise ValueError(f"labels must lie in [0, {num_classes}){also}, got {unknown}")

    off = label_smoothing / num_classes
    rows = torch.full((len(indices), num_classes, *indices.shape[1:]), off, device=indices.device)
    rows.scatter_(1, indices.clamp(0, num_classes - 1).unsqueeze(1), 1 - label_smoothing + off)
    if ignored is not None:
        rows.masked_fill_(ignored.unsqueeze(1), 0.0)
    if not _readable(indices):
        rows.masked_fill_(~known.unsqueeze(1), torch.nan)
    return rows


def check_ignore_index(ignore_index: int | None, num_classes: int) -> int | None:
    """Refuse an ``ignore_index`` that is also a class."""
    if ignore_index is None:
        return None
    ignore_index = _checks.integer("ignore_index", ignore_index)
    if 0 <= ignore_index < num_classes:
        raise ValueError(
            f"ignore_index must lie outside the classes [0, {num_classes}), got {ignore_index}"
        )
    return ignore_index


def check_mixable(name: str, value: Tensor) -> None:
    """Refuse what is not a batch of numbers that can be averaged."""
    if _checks.tensor(name, value).dtype not in _MIXABLE:
        raise TypeError(
            f"{name} must be a floating or integer tensor to be mixed, "
            f"got {_checks.describe(value)}"
        )
    check_batched(name, value)


def check_batched(name: str, value: Tensor) -> None:
    """Refuse a tensor without a batch dimension."""
    if value.ndim == 0:
        raise ValueError(f"{name} must have a batch dimension, got a tensor of shape ()")


def check_pairs(partner: Tensor, lam: Tensor, *, batch: int) -> None:
    """Refuse a ``partner`` or ``lam`` that does not fit a batch."""
    if _checks.tensor("partner", partner).dtype not in _INDICES:
        raise TypeError(f"partner must hold integer indices, got {_checks.describe(partner)}")
    if not _checks.tensor("lam", lam).is_floating_point():
        raise TypeError(f"lam must be floating, got {_checks.describe(lam)}")
    for name, value in (("partner", partner), ("lam", lam)):
        if value.shape != (batch,):
            raise ValueError(
                f"{name} must have shape ({batch},), one for each sample of the batch, "
                f"got {tuple(value.shape)}"
            )
    if batch and _readable(partner) and not (partner.min() >= 0 and partner.max() < batch):
        wrong = partner[(partner < 0) | (partner >= batch)][0].item()
        raise ValueError(f"partner must hold indices in [0, {batch}), got {wrong}")
    if batch and _readable(lam) and not (lam.min() >= 0 and lam.max() <= 1):  # also refuses NaN
        wrong = lam[~((lam >= 0) & (lam <= 1))][0].item()
        raise ValueError(f"lam must lie in [0, 1], got {wrong}")


def check_writable(name: str, value: Tensor) -> None:
    """Refuse an in-place target that autograd or shared memory forbids to write."""
    if value.requires_grad and value.is_leaf and torch.is_grad_enabled():
        raise ValueError(
            f"{name} is a leaf that requires grad, which inplace=True would overwrite; "
            "use inplace=False"
        )
    extent = 1
    for stride, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size > 1 and stride < extent:
            raise ValueError(
                f"{name} of shape {tuple(value.shape)} and strides {value.stride()} holds one "
                "memory location several times, so inplace=True cannot write it; "
                "use inplace=False or .contiguous()"
            )
        extent += stride * (size - 1) if size else 0


def _readable(value: Tensor) -> bool:
    """Whether values can be looked at without stalling a device or breaking a compiled graph."""
    return value.device.type == "cpu" and not torch.compiler.is_compiling()


def _working_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype in _LARGE_INTEGERS:
        return torch.float64
    return torch.promote_types(dtype, torch.float32) if dtype in _FLOATS else torch.float32


def _blend(values: Tensor, partner: Tensor, lam: Tensor, *, inplace: bool) -> Tensor:
    by_sample = (
        _readable(values)
        and _readable(partner)
        and _readable(lam)
        and not (values.requires_grad and torch.is_grad_enabled())
        and values.numel() >= _LARGE_SAMPLE * len(values)
    )
    if by_sample:
        return _walk(values, partner.tolist(), _blender(values, lam.tolist()), inplace=inplace)
    return _blend_gathered(values, partner, lam, inplace=inplace)


def _blend_gathered(values: Tensor, partner: Tensor, lam: Tensor, *, inplace: bool) -> Tensor:
    """Mix the whole batch in one call."""
    dtype = _working_dtype(values.dtype)
    weight = lam.to(values.device, dtype).view(-1, *[1] * (values.ndim - 1))
    others = values[partner.to(values.device, torch.int64)]  # keeps the memory format
    mixed = torch.lerp(others.to(dtype), values.to(dtype), weight)
    if not values.is_floating_point():
        mixed = mixed.round_()
    mixed = mixed.to(values.dtype)
    if not _readable(lam) or bool(((lam == 0) | (lam == 1)).any()):
        mixed = torch.where(weight == 1, values, torch.where(weight == 0, others, mixed))
    return values.copy_(mixed) if inplace else mixed


# paint(i, own, other, out) writes the mix of sample i into out, which may be own itself.
_Painter = Callable[[int, Tensor, Tensor, Tensor], None]


def _blender(values: Tensor, lams: list[float]) -> _Painter:
    dtype = _working_dtype(values.dtype)
    rounds = not values.is_floating_point()

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor) -> None:
        lam = lams[i]
        if lam in (0, 1):
            source = own if lam else other
            if source is not out:
                out.copy_(source)
        elif rounds:
            out.copy_(torch.lerp(other.to(dtype), own.to(dtype), lam).round_())
        else:
            torch.lerp(other, own, lam, out=out)

    return paint


def _walk(values: Tensor, partner: list[int], paint: _Painter, *, inplace: bool) -> Tensor:
    """Paint sample by sample, so that each sees its partner's original values."""
    own = values.unbind()
    cycles = _cycles(partner) if inplace else None
    if cycles is None:
        mixed = torch.empty_like(values)
        for i, out in enumerate(mixed.unbind()):
            paint(i, own[i], own[partner[i]], out)
        return values.copy_(mixed) if inplace else mixed
    for members in cycles:
        # The last of a cycle needs the first, which by then is overwritten.
        first = own[members[0]].clone()
        for i in members[:-1]:
            paint(i, own[i], own[partner[i]], own[i])
        paint(members[-1], own[members[-1]], first, own[members[-1]])
    return values


def _cycles(partner: list[int]) -> list[list[int]] | None:
    """Split a permutation into its cycles; None where two samples share a partner."""
    if len(set(partner)) < len(partner):
        return None
    cycles, seen = [], [False] * len(partner)
    for start in range(len(partner)):
        members, i = [], start
        while not seen[i]:
            seen[i] = True
            members.append(i)
            i = partner[i]
        if members:
            cycles.append(members)
    return cycles
