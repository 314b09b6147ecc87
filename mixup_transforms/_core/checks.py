"""Checks of settings and tensors: each names what it refuses, what it got and what it wanted."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor
from torch.autograd import forward_ad

# The dtypes that can index samples and pixels.
INDICES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# The dtypes that can index classes. Torch can convert the last three and hardly anything else.
CLASSES = (*INDICES, torch.uint16, torch.uint32, torch.uint64)

# float8, quantised and sub-byte dtypes have no arithmetic to average them with.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# What the last dimensions of sequences, images and volumes are, in their order.
AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
KINDS = {1: "sequence", 2: "image", 3: "volume"}

WIDE_FLOATS = (torch.float32, torch.float64)
NUMBERS = (*FLOATS, *CLASSES)


def real(name: str, value: object) -> float:
    """Return ``value`` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def positive(name: str, value: object) -> float:
    """Return ``value`` as a float above zero."""
    number = real(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")
    return number


def not_negative(name: str, value: object) -> float:
    """Return ``value`` as a float of at least zero."""
    number = real(name, value)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}")
    return number


def probability(name: str, value: object) -> float:
    """Return ``value`` as a float in [0, 1]."""
    number = real(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}")
    return number


def smoothing(name: str, value: object) -> float:
    """Return ``value`` as a float in [0, 1)."""
    number = probability(name, value)
    if number == 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}: 1 would erase every label")
    return number


def integer(name: str, value: object, *, minimum: int | None = None, limit: int = 2**63) -> int:
    """Return ``value`` as an int of at least ``minimum`` and below ``limit``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})")
    number = int(value)
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    if not -(2**63) <= number < limit:
        raise ValueError(f"{name} must fit into 64 bits, got {value!r}")
    return number


def optional_integer(name: str, value: object) -> int | None:
    """Return ``value`` as an int, or None."""
    return None if value is None else integer(name, value)


def class_count(name: str, value: object) -> int | None:
    """Return ``value`` as a number of classes, or None."""
    return None if value is None else integer(name, value, minimum=1)


def seed(name: str, value: object) -> int:
    """Return ``value`` as an int of 64 bits without a sign, as torch takes them."""
    return integer(name, value, minimum=0, limit=2**64)


def dims(name: str, value: object) -> int:
    """Return ``value`` as the number of dimensions of a sequence, an image or a volume."""
    number = integer(name, value)
    if number not in AXES:
        raise ValueError(
            f"{name} must be 1 for sequences, 2 for images or 3 for volumes, got {value!r}"
        )
    return number


def canvas_size(name: str, value: object) -> tuple[int, int] | None:
    """Return ``value`` as a height and width of at least 1, or None."""
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (height, width) or None, got {value!r}")
    try:
        height, width = (integer(name, side, minimum=1) for side in value)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must be a pair (height, width) of integers of at least 1, got {value!r}"
        ) from None
    return height, width


def flag(name: str, value: object) -> bool:
    """Return ``value``, a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
    return value


def tensor(name: str, value: object) -> torch.Tensor:
    """Return ``value``, a dense tensor."""
    if not isinstance(value, torch.Tensor):
        remedy = "; torch.from_numpy makes it one" if isinstance(value, np.ndarray) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}{remedy}")
    if value.layout != torch.strided or value.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got {describe(value)}")
    if value.is_quantized:
        raise TypeError(
            f"{name} must not be quantized, got {describe(value)}, of which each has its "
            "own scale; give what its dequantize() returns"
        )
    return value


def describe(value: torch.Tensor) -> str:
    """Dtype and shape of a tensor, for messages."""
    if value.is_nested:
        return "a nested tensor"
    if value.layout != torch.strided:
        return f"a tensor of layout {value.layout}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def readable(value: torch.Tensor) -> bool:
    """Whether values can be looked at without stalling a device or breaking a compiled graph."""
    if torch.compiler.is_compiling():
        return False
    return value.is_cpu and not torch._C._are_functorch_transforms_active()


def on_host(*values: torch.Tensor) -> bool:
    """Whether NumPy can compute with values in torch's stead, at a fraction of the time of few."""
    if dual() or not readable(values[0]):
        return False
    for value in values:
        if type(value) is not Tensor or not value.is_cpu or value.requires_grad:
            return False
    return True


def differentiated(value: torch.Tensor) -> bool:
    """Whether a derivative with respect to values is wanted, backwards or forwards."""
    if value.requires_grad and torch.is_grad_enabled():
        return True
    if not (dual() and value.is_floating_point()):
        return False
    return forward_ad.unpack_dual(value).tangent is not None  # type: ignore[no-untyped-call]


def dual() -> bool:
    """Whether anything can have a tangent, which is quicker to tell than of each value."""
    return forward_ad._current_level >= 0


def class_indices(name: str, labels: Tensor) -> None:
    """Refuse what cannot index classes."""
    if tensor(name, labels).dtype in CLASSES:
        return
    remedy = ""
    if labels.is_floating_point():
        remedy = (
            "; labels that are soft already can be mixed as they are, "
            "class ids stored as floats need .long()"
        )
    elif labels.dtype == torch.bool:
        remedy = "; .long() makes the classes 0 and 1 of them, .float() multi-hot rows"
    raise TypeError(f"{name} must be integer class indices, got {describe(labels)}{remedy}")


def classes(labels: Tensor, num_classes: int, *, ignore_index: int | None = None) -> None:
    """Refuse what cannot index classes, and where it can be read, an index out of range."""
    class_indices("labels", labels)
    if labels.numel() and readable(labels):
        if _below(num_classes, labels if labels.dtype in INDICES else labels.long()):
            return
        indices = labels.long()
        unknown = (indices < 0) | (indices >= num_classes)
        if ignore_index is not None:
            unknown &= indices != ignore_index
        if unknown.any():
            first = int(unknown.flatten().nonzero()[0])
            wrong = int(labels.flatten()[first].item())
            raise _unknown_class_error(wrong, num_classes, ignore_index)


def _unknown_class_error(wrong: int, num_classes: int, ignore_index: int | None) -> ValueError:
    also = "" if ignore_index is None else f" or the ignore_index {ignore_index}"
    remedy = ""
    # What data sets mark the absence of a label with.
    if ignore_index is None and (wrong == 255 or wrong < 0):
        remedy = (
            f"; if {wrong} marks what has no label, OneHot({num_classes}, ignore_index={wrong}) "
            "makes rows of zeros of it"
        )
    return ValueError(f"labels must lie in [0, {num_classes}){also}, got {wrong}{remedy}")


def ignore_index(ignore_index: int | None, num_classes: int) -> int | None:
    """Refuse an ``ignore_index`` that is also a class."""
    if ignore_index is None:
        return None
    ignore_index = integer("ignore_index", ignore_index)
    if 0 <= ignore_index < num_classes:
        raise ValueError(
            f"ignore_index must lie outside the classes [0, {num_classes}), got {ignore_index}"
        )
    return ignore_index


def mixable(name: str, value: Tensor) -> None:
    """Refuse what is not a batch of numbers that can be averaged."""
    if tensor(name, value).dtype not in NUMBERS:
        raise TypeError(
            f"{name} must be a floating or integer tensor to be mixed, got {describe(value)}"
        )
    batched(name, value)


def batched(name: str, value: Tensor) -> None:
    """Refuse a tensor without a batch dimension."""
    if value.ndim == 0:
        raise ValueError(f"{name} must have a batch dimension, got a tensor of shape ()")


def partner(
    partner: Tensor, *, batch: int, pool: int, name: str = "partner", count: int = 1
) -> None:
    """Refuse a ``partner`` that does not give each sample ``count`` indices into a pool."""
    _indices(name, partner, batch, pool, count)


def centre(centre: Tensor, *, batch: int, sizes: tuple[Any, Any]) -> None:
    """Refuse what is not a point on the canvas of each sample, of one size or of one each."""
    if tensor("centre", centre).dtype not in INDICES:
        raise TypeError(f"centre must hold integer pixels, got {describe(centre)}")
    _rows("centre", centre, batch, 2)
    if not (batch and readable(centre)):
        return
    height, width = sizes
    x, y = centre.long().numpy().T
    off = (x < 0) | (x > width) | (y < 0) | (y > height)
    if off.any():
        i = int(off.argmax())
        raise ValueError(
            "centre must be x, y with 0 ≤ x ≤ width and 0 ≤ y ≤ height of the canvas, "
            f"got {centre[i].tolist()} for sample {i}"
        )


def choice(choice: Tensor, *, batch: int, count: int) -> None:
    """Refuse a ``choice`` that does not give each sample of a batch one of the transforms."""
    _indices("choice", choice, batch, count)


def lam(lam: Tensor, *, batch: int, name: str = "lam") -> None:
    """Refuse a ``lam`` that does not give each sample of a batch a share in [0, 1]."""
    if not tensor(name, lam).is_floating_point():
        raise TypeError(f"{name} must be floating, got {describe(lam)}")
    _rows(name, lam, batch)
    if batch and readable(lam):
        low, high = torch.aminmax(lam)
        # Written so that NaN is refused too.
        if not (low.item() >= 0 and high.item() <= 1):
            wrong = lam[~((lam >= 0) & (lam <= 1))][0].item()
            raise ValueError(f"{name} must lie in [0, 1], got {wrong}")


def box_dims(box: Tensor) -> int:
    """Return how many dimensions boxes lie in."""
    columns = tensor("box", box).shape[1:]
    if columns not in ((2,), (4,), (6,)):
        raise ValueError(
            "box must have shape (B, 2) for sequences, (B, 4) for images or (B, 6) for volumes, "
            f"got {tuple(box.shape)}"
        )
    return columns[0] // 2


def box(box: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
    """Refuse boxes that are inverted or not wholly inside an image of the given size."""
    _box(box, batch=batch, size=size)


def _box(box: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
    if tensor("box", box).dtype not in INDICES:
        raise TypeError(f"box must hold integer pixels, got {describe(box)}")
    dims = len(size)
    _rows("box", box, batch, 2 * dims)
    if batch and readable(box):
        corners, limits = box.long(), size[::-1]
        lowest, highest = (edge.tolist() for edge in torch.aminmax(corners, dim=0))
        inside = min(lowest) >= 0 and all(map(operator.le, highest[dims:], limits))
        low, high = corners[:, :dims], corners[:, dims:]
        if not inside or (high < low).any():
            limit = torch.tensor(limits, device="cpu")
            fits = ((low >= 0) & (low <= high) & (high <= limit)).all(1)
            raise _box_error(size, box[~fits][0].tolist())


def _box_error(size: tuple[int, ...], wrong: list[int]) -> ValueError:
    letters, axes = "xyz"[: len(size)], AXES[len(size)]
    corners = ", ".join(f"{letter}{end}" for end in (1, 2) for letter in letters)
    pairs = zip(letters, reversed(axes), strict=True)
    wanted = listed([f"0 ≤ {x}1 ≤ {x}2 ≤ {axis}" for x, axis in pairs])
    lengths = listed([f"{axis} {length}" for axis, length in zip(axes, size, strict=True)])
    article = "an" if len(size) == 2 else "a"
    return ValueError(
        f"box must be {corners} with {wanted} of {article} {KINDS[len(size)]} of {lengths}, "
        f"got {wrong}"
    )


def listed(words: Sequence[str]) -> str:
    """Join words by commas and a last ``and``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def boxes(box: Tensor, *, batch: int, sizes: tuple[Any, ...]) -> None:
    """Refuse boxes that are inverted or not wholly inside their images, of one or several sizes."""
    if isinstance(sizes[0], int):
        _box(box, batch=batch, size=sizes)
        return
    _rows("box", tensor("box", box), batch, 4)
    heights, widths = sizes
    for i, size in enumerate(zip(heights.tolist(), widths.tolist(), strict=True)):
        _box(box[i : i + 1], batch=1, size=size)


def mask_dims(mask: Tensor) -> int:
    """Return how many dimensions masks lie in."""
    if tensor("mask", mask).ndim - 1 not in AXES:
        raise ValueError(
            "mask must have shape (B, T) for sequences, (B, H, W) for images or (B, D, H, W) for "
            f"volumes, got {tuple(mask.shape)}"
        )
    return mask.ndim - 1


def mask(mask: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
    """Refuse what is not one 0/1 mask for each image of a batch."""
    if tensor("mask", mask).dtype != torch.bool:
        raise TypeError(f"mask must be bool, True for own pixels, got {describe(mask)}")
    _rows("mask", mask, batch, *size)


def spatial(name: str, images: Tensor, dims: int = 2, *, remedy: str = "") -> None:
    """Refuse what is not ``(B, …, H, W)`` of at least one pixel, or has fewer than ``dims``."""
    if tensor(name, images).ndim > dims and 0 not in images.shape[-dims:]:
        return
    letters = ", ".join("DHW"[-dims:] if dims > 1 else "T")
    kind = f"{KINDS[dims]}s" + (f" (dims={dims})" if dims != 2 else "")
    raise ValueError(
        f"{name} must have shape (B, …, {letters}), a batch of {kind} of at least one pixel, "
        f"got {tuple(images.shape)}{remedy}"
    )


def _indices(name: str, indices: Tensor, batch: int, limit: int, count: int = 1) -> None:
    if tensor(name, indices).dtype not in INDICES:
        raise TypeError(f"{name} must hold integer indices, got {describe(indices)}")
    _rows(name, indices, batch, *[count] * (count > 1))
    if batch and readable(indices) and not _below(limit, indices):
        wrong = indices[(indices < 0) | (indices >= limit)][0].item()
        raise ValueError(f"{name} must hold indices in [0, {limit}), got {wrong}")


def _below(limit: int, indices: Tensor) -> bool:
    """Whether all indices lie in [0, limit)."""
    if type(indices) is Tensor and indices.dtype == torch.int64:
        # NumPy is faster on few; without their signs those below 0 are the highest.
        return bool(np.maximum.reduce(indices.numpy().view(np.uint64), axis=None) < limit)
    low, high = torch.aminmax(indices)
    return low.item() >= 0 and high.item() < limit


def _rows(name: str, value: Tensor, *shape: int) -> None:
    if value.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape}, one for each sample of the batch, "
            f"got {tuple(value.shape)}"
        )
    if value.is_meta:
        raise ValueError(f"{name} must hold values, got a meta tensor")


def call(
    name: str,
    values: Tensor,
    partner: Tensor,
    *,
    others: Tensor | None,
    inplace: bool,
    partners: int = 1,
) -> None:
    if others is not None and (
        tensor("others", others).shape[1:] != values.shape[1:]
        or others.ndim == 0
        or others.dtype != values.dtype
        or others.device != values.device
    ):
        raise ValueError(
            f"others must be a batch like {name}, {describe(values)} on {values.device}, "
            f"got {describe(others)} on {others.device}"
        )
    pool = values if others is None else others
    _indices("partner", partner, len(values), len(pool), partners)
    if inplace:
        writable(name, values)


def writable(name: str, value: Tensor) -> None:
    """Refuse an in-place target that autograd or shared memory forbids to write."""
    if value.requires_grad and value.is_leaf and torch.is_grad_enabled():
        raise ValueError(
            f"{name} is a leaf that requires grad, which inplace=True would overwrite; "
            "use inplace=False"
        )
    if not value.is_contiguous() and _repeats(value):
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} and strides {value.stride()} holds one "
            "memory location several times, so inplace=True cannot write it; "
            "use inplace=False or .contiguous()"
        )
    if torch.compiler.is_compiling():
        return  # which can ask for nothing of what follows
    if value.is_inference() and not torch.is_inference_mode_enabled():
        raise ValueError(
            f"{name} was made in inference mode, outside of which inplace=True cannot write it; "
            "use inplace=False"
        )
    if value.requires_grad and torch.is_grad_enabled():
        try:
            value[:0].zero_()  # autograd says of no rows what it would say of all
        except RuntimeError as error:
            raise ValueError(
                f"{name} cannot be written by inplace=True; use inplace=False: {error}"
            ) from error


def _repeats(value: Tensor) -> bool:
    """Whether a step along some dimension is no longer than all that lies within it."""
    # Without a sort, which torch.compile cannot follow over sizes that change.
    steps = [
        (stride, (size - 1) * stride)
        for stride, size in zip(value.stride(), value.shape, strict=True)
        if size > 1
    ]
    return any(
        stride <= sum(reach for j, (step, reach) in enumerate(steps) if j != i and step <= stride)
        for i, (stride, _) in enumerate(steps)
    )


def size_of(images: Tensor) -> tuple[int, int]:
    """Height and width of a batch of images."""
    height, width = images.shape[-2:]
    return height, width
