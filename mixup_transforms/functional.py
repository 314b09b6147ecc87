"""The pure kernels: tensors in, tensors out; no randomness, no state, no torchvision types.

Throughout, ``partner`` is an integer tensor ``(B,)`` with the index of each sample's partner,
``lam`` a float tensor ``(B,)`` with the share of the sample's own pixels in the result, and
``others`` the batch that ``partner`` points into: ``images`` itself, or a second batch.
"""

from __future__ import annotations

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms import _checks, _kernels

__all__ = [
    "box_share",
    "cutmix",
    "fmix",
    "mask_share",
    "mix_labels",
    "mixup",
    "one_hot",
    "resizemix",
    "top_share",
]


def mixup(
    images: Tensor,
    /,
    partner: Tensor,
    lam: Tensor,
    *,
    others: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Mix each sample with its partner: ``lam · own + (1 − lam) · partner``.

    Zhang, Cissé, Dauphin, Lopez-Paz, *mixup: Beyond Empirical Risk Minimization*, ICLR 2018
    (arXiv 1710.09412). Where ``lam`` is exactly 1 the sample is copied bit for bit, where it is
    exactly 0 its partner is, whatever NaN or inf the other one holds. Differentiable with respect
    to ``images`` and ``others``.

    Args:
        images: ``(B, …)``, floating or integer. Floats are mixed in at least float32; integers of
            up to 16 bits in float32, wider ones in float64, and rounded to the nearest, ties to
            even.
        partner: integer ``(B,)``, indices into the partners' batch.
        lam: float ``(B,)`` in [0, 1].
        others: the partners' batch, of the same dtype and inner shape; ``images`` by default.
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
    _check_call("images", images, partner, others=others, inplace=inplace)
    check_lam(lam, batch=len(images))
    return _kernels.blend(images, partner, lam, others=others, inplace=inplace)


def mix_labels(
    labels: Tensor,
    /,
    partner: Tensor,
    lam: Tensor,
    *,
    others: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Mix dense labels: ``lam · own + (1 − lam) · partner``.

    Args:
        labels: floating ``(B, …)``: class probabilities, multi-label vectors, regression targets.
        partner: integer ``(B,)``, indices into the partners' labels.
        lam: float ``(B,)`` in [0, 1].
        others: the partners' labels; ``labels`` by default.
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
    given = {"labels": labels} if others is None else {"labels": labels, "others": others}
    for name, value in given.items():
        if _checks.tensor(name, value).dtype not in _checks.FLOATS:
            raise TypeError(
                f"{name} must be floating to be mixed, got {_checks.describe(value)}; "
                "turn class indices into probabilities with OneHot or one_hot"
            )
    check_batched("labels", labels)
    soft = labels.to(torch.promote_types(labels.dtype, torch.float32))
    inplace = inplace or soft is not labels
    others = None if others is None else others.to(soft.dtype)
    _check_call("labels", soft, partner, others=others, inplace=inplace)
    check_lam(lam, batch=len(labels))
    return _kernels.blend(soft, partner, lam, others=others, inplace=inplace)


def cutmix(
    images: Tensor,
    /,
    partner: Tensor,
    box: Tensor,
    *,
    others: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Show each sample's partner inside a box.

    Yun, Han, Oh, Chun, Choe, Yoo, *CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features*, ICCV 2019 (arXiv 1905.04899). The labels mix with
    :func:`box_share`. Differentiable with respect to ``images`` and ``others``.

    Args:
        images: ``(B, …, H, W)`` of any dtype, which is copied and never computed with. The box is
            the same for everything before the last two dimensions.
        partner: integer ``(B,)``, indices into the partners' batch.
        box: integer ``(B, 4)``: x1, y1, x2, y2, with x2 and y2 excluded; empty for no change.
        others: the partners' batch, of the same dtype and inner shape; ``images`` by default.
        inplace: write into ``images`` and return it.

    Returns:
        The shape, dtype and memory format of ``images``.

    Raises:
        ValueError: for images without two spatial dimensions, a box that is inverted or leaves
            the image, and as :func:`mixup`.

    Example:
        >>> import torch
        >>> images = torch.tensor([[[0, 0, 0]], [[1, 1, 1]]])
        >>> cutmix(images, torch.tensor([1, 0]), torch.tensor([[0, 0, 2, 1], [0, 0, 0, 0]]))
        tensor([[[1, 1, 0]],
        <BLANKLINE>
                [[1, 1, 1]]])
    """
    check_spatial("images", images)
    _check_call("images", images, partner, others=others, inplace=inplace)
    check_box(box, batch=len(images), size=size_of(images))
    return _kernels.paste(images, partner, box, others=others, inplace=inplace)


def resizemix(
    images: Tensor,
    /,
    partner: Tensor,
    box: Tensor,
    *,
    others: Tensor | None = None,
    nearest: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Show each sample's whole partner, resized, inside a box.

    Qin, Fang, Zhang, Liu, Wang, Wang, *ResizeMix: Mixing Data with Preserved Object Information and
    True Labels*, 2020 (arXiv 2012.11101). The labels mix with :func:`box_share`. Differentiable
    with respect to ``images`` and ``others``.

    Args:
        images: ``(B, …, H, W)``, floating or integer.
        partner: integer ``(B,)``, indices into the partners' batch.
        box: integer ``(B, 4)``: x1, y1, x2, y2, with x2 and y2 excluded; empty for no change.
        others: the partners' batch, of the same dtype and inner shape; ``images`` by default.
        nearest: take the nearest pixel, as masks of class indices need; by default the resize is
            bilinear and antialiased, in at least float32, integers rounded.
        inplace: write into ``images`` and return it.

    Returns:
        The shape, dtype and memory format of ``images``.

    Raises:
        TypeError: for dtypes that cannot be resized.
        ValueError: as :func:`cutmix`.

    Example:
        >>> import torch
        >>> images = torch.tensor([[[0, 0, 0]], [[1, 3, 5]]])
        >>> resizemix(images, torch.tensor([1, 0]), torch.tensor([[2, 0, 3, 1], [0, 0, 0, 0]]))
        tensor([[[0, 0, 3]],
        <BLANKLINE>
                [[1, 3, 5]]])
    """
    check_mixable("images", images)
    check_spatial("images", images)
    _check_call("images", images, partner, others=others, inplace=inplace)
    check_box(box, batch=len(images), size=size_of(images))
    return _kernels.paste_resized(
        images, partner, box, others=others, inplace=inplace, nearest=nearest
    )


def fmix(
    images: Tensor,
    /,
    partner: Tensor,
    mask: Tensor,
    *,
    others: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Show each sample's partner wherever a mask is false.

    Harris, Marcu, Painter, Niranjan, Prügel-Bennett, Hare, *FMix: Enhancing Mixed Sample Data
    Augmentation*, 2020 (arXiv 2002.12047). The labels mix with the mean of the mask.
    Differentiable with respect to ``images`` and ``others``.

    Args:
        images: ``(B, …, H, W)`` of any dtype, which is copied and never computed with.
        partner: integer ``(B,)``, indices into the partners' batch.
        mask: bool ``(B, H, W)``: true where the sample keeps its own pixel.
        others: the partners' batch, of the same dtype and inner shape; ``images`` by default.
        inplace: write into ``images`` and return it.

    Returns:
        The shape, dtype and memory format of ``images``.

    Raises:
        TypeError: for a mask that is not bool.
        ValueError: for a mask of another shape, and as :func:`cutmix`.

    Example:
        >>> import torch
        >>> images = torch.tensor([[[0, 0, 0]], [[1, 1, 1]]])
        >>> fmix(images, torch.tensor([1, 0]), torch.tensor([[[True, False, True]]] * 2))
        tensor([[[0, 1, 0]],
        <BLANKLINE>
                [[1, 0, 1]]])
    """
    check_spatial("images", images)
    _check_call("images", images, partner, others=others, inplace=inplace)
    check_mask(mask, batch=len(images), size=size_of(images))
    return _kernels.select(images, partner, mask, others=others, inplace=inplace)


def box_share(box: Tensor, /, height: int, width: int) -> Tensor:
    """Return the share of each image's pixels outside its box, which is λ.

    Args:
        box: integer ``(B, 4)``: x1, y1, x2, y2, with x2 and y2 excluded.
        height: H, at least 1.
        width: W, at least 1.

    Returns:
        float32 ``(B,)``.

    Example:
        >>> import torch
        >>> box_share(torch.tensor([[0, 0, 2, 1], [0, 0, 0, 0]]), 2, 4)
        tensor([0.7500, 1.0000])
    """
    height = _checks.integer("height", height, minimum=1)
    width = _checks.integer("width", width, minimum=1)
    check_box(box, batch=len(_checks.tensor("box", box)), size=(height, width))
    sides = box[:, 2:].long() - box[:, :2].long()
    return (1 - sides.prod(1).double() / (height * width)).float()


def mask_share(mask: Tensor, /) -> Tensor:
    """Return the share of each mask's pixels that are true, which is λ.

    Args:
        mask: bool ``(B, H, W)`` of at least one pixel, true for own pixels.

    Returns:
        float32 ``(B,)``.

    Example:
        >>> import torch
        >>> mask_share(torch.tensor([[[True, False, False, False]]]))
        tensor([0.2500])
    """
    if _checks.tensor("mask", mask).ndim != 3 or 0 in mask.shape[1:]:
        raise ValueError(
            f"mask must be (B, H, W) of at least one pixel, got {_checks.describe(mask)}"
        )
    check_mask(mask, batch=len(mask), size=size_of(mask))
    # As bytes, since torch sums bools one by one.
    kept = mask.view(torch.uint8).sum(dim=(1, 2), dtype=torch.int32)
    return (kept.double() / (mask.shape[1] * mask.shape[2])).float()


def top_share(scores: Tensor, /, share: Tensor) -> Tensor:
    """Return a mask of each image's highest pixels, exactly ``round(share · H · W)`` of them.

    Args:
        scores: floating ``(B, H, W)``, without NaN.
        share: float ``(B,)`` in [0, 1].

    Returns:
        bool ``(B, H, W)``.

    Example:
        >>> import torch
        >>> top_share(torch.tensor([[[0.1, 0.9, 0.5, 0.5]]]), torch.tensor([0.5]))
        tensor([[[False,  True,  True, False]]])
    """
    if not _checks.tensor("scores", scores).is_floating_point() or scores.ndim != 3:
        raise ValueError(f"scores must be floating (B, H, W), got {_checks.describe(scores)}")
    check_lam(share, batch=len(scores), name="share")
    pixels = scores.flatten(1)
    wanted = (share.double() * pixels.shape[1]).round().long()
    mask = torch.zeros_like(pixels, dtype=torch.bool)
    if not _checks.readable(scores):
        highest = pixels.argsort(dim=1, descending=True, stable=True)
        places = torch.arange(pixels.shape[1], device=pixels.device)
        return mask.scatter_(1, highest, places < wanted.unsqueeze(1)).view_as(scores)
    # NumPy selects by rank several times as fast as torch.
    rows = pixels.detach().to(torch.promote_types(pixels.dtype, torch.float32)).numpy()
    for row, chosen, count in zip(rows, mask.numpy(), wanted.tolist(), strict=True):
        if count:
            rank = len(row) - count
            threshold = np.partition(row, rank)[rank]
            np.greater(row, threshold, out=chosen)
            ties = np.flatnonzero(row == threshold)
            chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return mask.view_as(scores)


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
    if _checks.tensor("labels", labels).dtype not in _checks.INDICES:
        raise TypeError(f"labels must be integer class indices, got {_checks.describe(labels)}")
    check_batched("labels", labels)

    indices = labels.long()
    ignored = None if ignore_index is None else indices == ignore_index
    classes = indices if ignored is None else indices.masked_fill(ignored, 0)
    readable = _checks.readable(classes)
    check_classes(classes, num_classes, ignore_index=ignore_index)

    off = label_smoothing / num_classes
    shape = (len(indices), num_classes, *indices.shape[1:])
    rows = torch.full(shape, off, dtype=torch.float32, device=indices.device)
    safe = classes if readable else classes.clamp(0, num_classes - 1)
    rows.scatter_(1, safe.unsqueeze(1), 1 - label_smoothing + off)
    if ignored is not None:
        rows.masked_fill_(ignored.unsqueeze(1), 0.0)
    if not readable:
        rows.masked_fill_((safe != classes).unsqueeze(1), torch.nan)
    return rows


def check_classes(labels: Tensor, num_classes: int, *, ignore_index: int | None = None) -> None:
    """Refuse a class index that is out of range, where it can be read."""
    if labels.numel() and _checks.readable(labels):
        low, high = _range(labels)
        if low < 0 or high >= num_classes:
            unknown = labels[(labels < 0) | (labels >= num_classes)][0].item()
            also = "" if ignore_index is None else f" or the ignore_index {ignore_index}"
            raise ValueError(f"labels must lie in [0, {num_classes}){also}, got {unknown}")


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
    if _checks.tensor(name, value).dtype not in _checks.NUMBERS:
        raise TypeError(
            f"{name} must be a floating or integer tensor to be mixed, "
            f"got {_checks.describe(value)}"
        )
    check_batched(name, value)


def check_batched(name: str, value: Tensor) -> None:
    """Refuse a tensor without a batch dimension."""
    if value.ndim == 0:
        raise ValueError(f"{name} must have a batch dimension, got a tensor of shape ()")


def check_partner(partner: Tensor, *, batch: int, pool: int) -> None:
    """Refuse a ``partner`` that does not give each sample of a batch an index into a pool."""
    _check_indices("partner", partner, batch, pool)


def check_choice(choice: Tensor, *, batch: int, count: int) -> None:
    """Refuse a ``choice`` that does not give each sample of a batch one of the transforms."""
    _check_indices("choice", choice, batch, count)


def check_lam(lam: Tensor, *, batch: int, name: str = "lam") -> None:
    """Refuse a ``lam`` that does not give each sample of a batch a share in [0, 1]."""
    if not _checks.tensor(name, lam).is_floating_point():
        raise TypeError(f"{name} must be floating, got {_checks.describe(lam)}")
    _check_rows(name, lam, batch)
    if batch and _checks.readable(lam):
        low, high = _range(lam)
        # Written so that NaN is refused too.
        if not (low >= 0 and high <= 1):
            wrong = lam[~((lam >= 0) & (lam <= 1))][0].item()
            raise ValueError(f"{name} must lie in [0, 1], got {wrong}")


def check_box(box: Tensor, *, batch: int, size: tuple[int, int]) -> None:
    """Refuse boxes that are inverted or not wholly inside an image of the given size."""
    if _checks.tensor("box", box).dtype not in _checks.INDICES:
        raise TypeError(f"box must hold integer pixels, got {_checks.describe(box)}")
    _check_rows("box", box, batch, 4)
    height, width = size
    if batch and _checks.readable(box):
        corners = box.long()
        lowest, highest = (edge.tolist() for edge in torch.aminmax(corners, dim=0))
        inside = min(lowest) >= 0 and highest[2] <= width and highest[3] <= height
        if not inside or (corners[:, 2:] < corners[:, :2]).any():
            x1, y1, x2, y2 = corners.unbind(1)
            fits = (x1 >= 0) & (x1 <= x2) & (x2 <= width) & (y1 >= 0) & (y1 <= y2) & (y2 <= height)
            raise ValueError(
                "box must be x1, y1, x2, y2 with 0 ≤ x1 ≤ x2 ≤ width and 0 ≤ y1 ≤ y2 ≤ height "
                f"of an image of height {height} and width {width}, got {box[~fits][0].tolist()}"
            )


def check_mask(mask: Tensor, *, batch: int, size: tuple[int, int]) -> None:
    """Refuse what is not one 0/1 mask for each image of a batch."""
    if _checks.tensor("mask", mask).dtype != torch.bool:
        raise TypeError(f"mask must be bool, True for own pixels, got {_checks.describe(mask)}")
    _check_rows("mask", mask, batch, *size)


def check_spatial(name: str, images: Tensor) -> None:
    """Refuse a tensor that is not ``(B, …, H, W)`` with at least one pixel."""
    if _checks.tensor(name, images).ndim < 3 or 0 in images.shape[-2:]:
        raise ValueError(
            f"{name} must have shape (B, …, H, W), a batch of images of at least one pixel, "
            f"got {tuple(images.shape)}"
        )


def _check_indices(name: str, indices: Tensor, batch: int, limit: int) -> None:
    if _checks.tensor(name, indices).dtype not in _checks.INDICES:
        raise TypeError(f"{name} must hold integer indices, got {_checks.describe(indices)}")
    _check_rows(name, indices, batch)
    if batch and _checks.readable(indices):
        low, high = _range(indices)
        if not (low >= 0 and high < limit):
            wrong = indices[(indices < 0) | (indices >= limit)][0].item()
            raise ValueError(f"{name} must hold indices in [0, {limit}), got {wrong}")


def _range(values: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(values)
    return low.item(), high.item()


def _check_rows(name: str, value: Tensor, *shape: int) -> None:
    if value.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape}, one for each sample of the batch, "
            f"got {tuple(value.shape)}"
        )
    if value.is_meta:
        raise ValueError(f"{name} must hold values, got a meta tensor")


def _check_call(
    name: str, values: Tensor, partner: Tensor, *, others: Tensor | None, inplace: bool
) -> None:
    if others is not None and (
        _checks.tensor("others", others).shape[1:] != values.shape[1:]
        or others.ndim == 0
        or others.dtype != values.dtype
        or others.device != values.device
    ):
        raise ValueError(
            f"others must be a batch like {name}, {_checks.describe(values)} on {values.device}, "
            f"got {_checks.describe(others)} on {others.device}"
        )
    check_partner(partner, batch=len(values), pool=len(values if others is None else others))
    if inplace:
        check_writable(name, values)


def check_writable(name: str, value: Tensor) -> None:
    """Refuse an in-place target that autograd or shared memory forbids to write."""
    if value.requires_grad and value.is_leaf and torch.is_grad_enabled():
        raise ValueError(
            f"{name} is a leaf that requires grad, which inplace=True would overwrite; "
            "use inplace=False"
        )
    if value.is_contiguous():
        return
    extent = 1
    for stride, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size > 1 and stride < extent:
            raise ValueError(
                f"{name} of shape {tuple(value.shape)} and strides {value.stride()} holds one "
                "memory location several times, so inplace=True cannot write it; "
                "use inplace=False or .contiguous()"
            )
        extent += stride * (size - 1)


def size_of(images: Tensor) -> tuple[int, int]:
    """Height and width of a batch of images."""
    height, width = images.shape[-2:]
    return height, width
