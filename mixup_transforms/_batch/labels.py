"""The forms that labels take: class indices, dense rows, mixtures, masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mixup_transforms._core import checks, classes, kernels
from mixup_transforms._core.memory import moved, take
from mixup_transforms._core.ragged import AnyImages, Ragged

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_SUM_TOLERANCE = 1e-2  # what bfloat16 can lose, whatever dtype the labels were mixed into since


class LabelMixture(NamedTuple):
    """Soft labels without a dense ``(B, C)``: K classes and their weights for each sample.

    A class may occur several times; its weights add up. Being a named tuple of tensors, a mixture
    passes through ``pin_memory``, ``default_collate`` and pickle; move one to a device with
    ``LabelMixture(*(part.to(device) for part in mixture))``.

    Attributes:
        classes: int64 ``(B, K)``, at least 0.
        weights: float32 ``(B, K)``, at least 0.

    Example:
        >>> import torch
        >>> from mixup_transforms import LabelMixture
        >>> mixture = LabelMixture(torch.tensor([[2, 0]]), torch.tensor([[0.75, 0.25]]))
        >>> mixture.dense(3)
        tensor([[0.2500, 0.0000, 0.7500]])
    """

    classes: Tensor
    weights: Tensor

    def dense(self, num_classes: int, label_smoothing: float = 0.0) -> Tensor:
        """Return class probabilities, smoothed as ``torch.nn.CrossEntropyLoss`` does.

        Args:
            num_classes: C, at least 1.
            label_smoothing: ε in [0, 1).

        Returns:
            float32 ``(B, C)``.

        Raises:
            ValueError: for classes out of range and for settings out of range.
            TypeError: for classes or weights of a wrong dtype.
        """
        num_classes = checks.integer("num_classes", num_classes, minimum=1)
        label_smoothing = checks.smoothing("label_smoothing", label_smoothing)
        check_mixture("the mixture", self, num_classes=num_classes)
        weights = self.weights.float()
        rows = weights.sum(1, keepdim=True) * (label_smoothing / num_classes)
        rows = rows.repeat(1, num_classes)
        return rows.scatter_add_(1, self.classes.long(), weights * (1 - label_smoothing))


Labels = Tensor | LabelMixture


def is_mixture(leaf: object) -> TypeIs[LabelMixture]:
    """Whether a leaf is a mixture, which a pytree would take apart."""
    return isinstance(leaf, LabelMixture)


def is_label(leaf: object) -> bool:
    """Whether a leaf can be labels."""
    return isinstance(leaf, Tensor | LabelMixture)


def batch_size(leaf: Labels) -> int:
    """Return how many samples a leaf holds."""
    return len(leaf.classes if is_mixture(leaf) else leaf)


def tensors(leaf: Labels) -> tuple[Tensor, ...]:
    return tuple(leaf) if is_mixture(leaf) else (leaf,)


def each_tensor(change: Callable[[Tensor], Tensor], leaf: Labels) -> Labels:
    """Apply a function to what labels consist of."""
    return LabelMixture(*map(change, leaf)) if is_mixture(leaf) else change(leaf)


def stacked(mixtures: Sequence[LabelMixture]) -> LabelMixture:
    """Batch the mixtures of samples."""
    return LabelMixture(*map(torch.stack, zip(*mixtures, strict=True)))


def merged(mixture: LabelMixture) -> Tensor:
    """Return a mixture's weights with those of a class that occurs again added to its first."""
    classes, weights = mixture.classes.long(), mixture.weights
    first = (classes.unsqueeze(2) == classes.unsqueeze(1)).int().argmax(2)
    return torch.zeros_like(weights).scatter_add_(1, first, weights)


def top_class(labels: Labels) -> Tensor:
    """Return the class of most weight, the lowest of several, and −1 where none has any.

    Takes class weights ``(B, C)`` or a mixture, and returns int64 ``(B,)``.
    """
    if is_mixture(labels):
        weights = merged(labels)
        lesser = weights < weights.amax(1, keepdim=True)
        top = labels.classes.long().masked_fill(lesser, 2**63 - 1).amin(1)
    else:
        weights, top = labels, labels.argmax(1)
    return top.masked_fill((weights == 0).all(1), -1)


def spread(mixture: LabelMixture) -> Tensor:
    """Return a mixture as float64 rows over the classes that occur in its batch, ``(B, B · K)``.

    Columns that stand for no class are 0, so that nobody has to know how many occur.
    """
    found = mixture.classes.long().contiguous()
    column = torch.searchsorted(found.flatten().sort().values, found)
    rows = torch.zeros(len(found), found.numel(), dtype=torch.float64, device=found.device)
    return rows.scatter_add_(1, column, mixture.weights.double())


def check_column(name: str, labels: Tensor) -> None:
    """Refuse class indices in a column, which may stand for samples or for positions."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise ValueError(
            f"{name} must be class indices (B,), got {checks.describe(labels)}; "
            "take out the second dimension with .squeeze(1)"
        )


def check_mixture(name: str, mixture: LabelMixture, *, num_classes: int | None = None) -> None:
    """Refuse a mixture whose tensors disagree or hold what no class or weight can be."""
    classes = checks.tensor(f"classes of {name}", mixture.classes)
    weights = checks.tensor(f"weights of {name}", mixture.weights)
    if classes.dtype not in checks.CLASSES:
        raise TypeError(f"classes of {name} must be integers, got {checks.describe(classes)}")
    if not weights.is_floating_point():
        raise TypeError(f"weights of {name} must be floating, got {checks.describe(weights)}")
    if classes.ndim != 2 or classes.shape != weights.shape or not classes.shape[1]:
        raise ValueError(
            f"classes and weights of {name} must both have shape (B, K) with K ≥ 1, "
            f"got {tuple(classes.shape)} and {tuple(weights.shape)}"
        )
    if classes.device != weights.device:
        raise ValueError(
            f"classes and weights of {name} must be on one device, "
            f"got {classes.device} and {weights.device}"
        )
    if checks.readable(classes):
        indices = classes.long()
        outside = indices < 0
        if num_classes is not None:
            outside |= indices >= num_classes
        if outside.any():
            wanted = "be at least 0" if num_classes is None else f"lie in [0, {num_classes})"
            wrong = indices[outside][0].item()
            raise ValueError(f"classes of {name} must {wanted}, got {wrong}")
    check_weights(name, weights)


def check_weights(name: str, weights: Tensor) -> None:
    """Refuse weights below 0 and NaN."""
    if checks.readable(weights) and not (weights >= 0).all():
        wrong = weights[~(weights >= 0)][0].item()
        raise ValueError(f"weights of {name} must be at least 0, got {wrong}")


def check_sums(name: str, totals: Tensor) -> None:
    """Refuse weights that do not sum to one, for each position of ``totals``."""
    wrong = ~((totals - 1).abs() <= _SUM_TOLERANCE)  # also catches NaN
    if wrong.any():
        raise ValueError(
            f"{name} must sum to 1 for each label, got a sum of {totals[wrong][0].item():g}"
        )


def mix_mixtures(
    own: LabelMixture, partner: Tensor, lam: Tensor, *, others: LabelMixture | None = None
) -> LabelMixture:
    """Extend each sample's mixture by its partner's: ``lam`` of one, ``1 − lam`` of the other."""
    others = own if others is None else others
    index, share = moved(own.weights.device, partner, lam)
    share = share.unsqueeze(1)
    return LabelMixture(
        torch.cat([own.classes.long(), others.classes.long()[index]], dim=1),
        torch.cat([share * own.weights, (1 - share) * others.weights[index]], dim=1),
    )


def check_form(
    name: str, labels: Labels, num_classes: int | None, *, mixer: str, size: Sequence[int]
) -> None:
    """Refuse labels that cannot be mixed as they are, and say what to do with such."""
    if is_mixture(labels):
        check_mixture(name, labels)
        return
    checks.batched(name, checks.tensor(name, labels))
    got = f"got {checks.describe(labels)}"
    if labels.is_floating_point():
        checks.mixable(name, labels)
        if num_classes is not None and labels.shape[1:2] != (num_classes,):
            raise ValueError(
                f"{name} must be class indices or have num_classes={num_classes} columns, {got}"
            )
    elif labels.dtype == torch.bool or labels.is_complex():
        raise TypeError(f"{name} must be floating or integer, {got}")
    elif labels.ndim > 1 or num_classes is None:
        remedy = _remedy(labels, size, mixer)
        raise ValueError(f"{name} must be floating to be mixed, {got}; {remedy}")
    else:
        check_values(labels, num_classes)


def check_values(labels: Tensor, num_classes: int | None) -> None:
    """Refuse class indices out of range, in a tensor of labels whose form was accepted."""
    if num_classes is not None and not labels.is_floating_point():
        checks.classes(labels, num_classes)


def refuse_steps_or_classes(name: str, labels: Labels, size: tuple[int, ...]) -> None:
    """Refuse rows as long as sequences, which say something of a sample or of each step."""
    if not isinstance(labels, Tensor) or not labels.is_floating_point():
        return
    # Of one step all is mixed alike, whatever it means.
    if len(size) == 1 and size[0] > 1 and labels.shape[1:] == size:
        raise ValueError(
            f"{name} is {checks.describe(labels)}, a row of classes or a value for each of "
            f"{size[0]} steps; for classes give num_classes={size[0]}, for steps "
            "labels.unsqueeze(1) or tv_tensors.Mask(labels)"
        )


def _remedy(labels: Tensor, size: Sequence[int], mixer: str) -> str:
    """Return what to do with integers, by what they look like."""
    if labels.ndim == 1:
        return f"apply OneHot(num_classes) before {mixer}, or give it num_classes"
    if labels.shape[1:] == (1,):
        return "drop the dimension of size 1 with labels.squeeze(1)"
    if labels.ndim > len(size) > 0 and labels.shape[-len(size) :] == torch.Size(size):
        return (
            f"wrap a segmentation mask in tv_tensors.Mask, or apply OneHot(num_classes) "
            f"before {mixer}"
        )
    if labels.ndim == 2 and checks.readable(labels) and ((labels == 0) | (labels == 1)).all():
        rows = "one-hot" if (labels.sum(1) == 1).all() else "multi-hot"
        return f"{rows} rows have to be floats: labels.float()"
    return f"apply OneHot(num_classes) before {mixer}"


def soften(labels: Labels, num_classes: int | None) -> Labels:
    """Return labels in the form that mixing gives them, unmixed."""
    if is_mixture(labels):
        return labels
    if labels.is_floating_point():
        return at_least_float32(labels)
    return classes.one_hot(labels, num_classes or 0)


def mix_labels(
    labels: Labels,
    partner: Tensor,
    lam: Tensor,
    *,
    num_classes: int | None,
    others: Any,
) -> Labels:
    """Weigh labels of any form by ``lam``, and their partners' by the rest."""
    if is_mixture(labels):
        return mix_mixtures(labels, partner, lam, others=others)
    if labels.is_floating_point():
        soft: Tensor = blend_dense(labels, partner, lam, others=others)
        return soft
    return classes.blend_classes(labels, partner, lam, num_classes or 0, others=others)


def mix_labels_of_many(
    labels: Labels,
    partner: Tensor,
    share: Tensor,
    *,
    num_classes: int | None,
    others: Any,
) -> Labels:
    """Weigh labels of any form by ``share`` ``(B, P + 1)``: their own, and P partners'."""
    if is_mixture(labels):
        index, weight = moved(labels.weights.device, partner, share)
        pool = labels if others is None else others
        partners = [LabelMixture(*(part[rows] for part in pool)) for rows in index.T]
        parts = [*zip([labels, *partners], weight.T.unsqueeze(2), strict=True)]
        return LabelMixture(
            torch.cat([part.classes.long() for part, _ in parts], 1),
            torch.cat([rate * part.weights for part, rate in parts], 1),
        )
    if not labels.is_floating_point():
        return classes.blend_classes_of_many(
            labels, partner, share, num_classes or 0, others=others
        )
    own = at_least_float32(labels)
    rest = own if others is None else at_least_float32(others)
    index, weight = moved(own.device, partner, share.to(own.dtype))
    mixed = torch.zeros_like(own)
    for k, rates in enumerate(weight.T):
        rate = rates.view(-1, *[1] * (own.ndim - 1))
        part = own if k == 0 else take(rest, index[:, k - 1])
        # Who has no share adds nothing, whatever NaN its label holds; who has all keeps every bit.
        mixed = torch.where(rate == 1, part, torch.where(rate == 0, mixed, mixed + rate * part))
    return mixed


def at_least_float32(labels: AnyImages) -> AnyImages:
    """Return dense labels in a dtype that can carry λ, which half precision cannot."""
    if isinstance(labels, Ragged):
        return labels.each(at_least_float32)
    return labels.to(torch.promote_types(labels.dtype, torch.float32))


def blend_dense(
    labels: AnyImages,
    partner: Tensor,
    lam: Tensor,
    *,
    others: AnyImages | None,
    inplace: bool = False,
) -> AnyImages:
    """Blend dense labels."""
    soft = at_least_float32(labels)
    others = None if others is None else at_least_float32(others)
    # What was converted is nobody else's, unless it is a list, whose images may be as they were.
    inplace = inplace or (soft is not labels and isinstance(soft, Tensor))
    return kernels.blend(soft, partner, lam, others=others, inplace=inplace)
