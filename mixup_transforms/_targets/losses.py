"""Any classification loss on soft labels."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixup_transforms._batch.labels import Labels, batch_size, check_mixture, is_mixture
from mixup_transforms._core import checks


class MixtureLoss(nn.Module):
    """Give any classification loss soft labels: Σₖ wₖ · criterion(output, classesₖ).

    Args:
        criterion: a loss of ``(output, class indices)``: a function or module with a ``reduction``
            setting, such as ``F.cross_entropy`` or a focal loss, whose reduction is kept; or one
            that returns a loss for each sample, which is then not reduced. Called once for each of
            K classes, or C of a dense target; ``F.cross_entropy`` and ``nn.CrossEntropyLoss``,
            ``functools.partial`` of the function included, take a dense target at once.

    Shape:
        output: ``(B, C, *dims)`` or whatever the criterion takes. target: ``LabelMixture``
        ``(B, K)``, dense floating ``(B, C, *dims)``, or class indices, which go to the criterion
        as int64. The mean is over samples, as in ``F.cross_entropy`` on probabilities.

    Raises:
        TypeError: for a criterion that cannot be called, and a target of no such kind.
        ValueError: for a criterion that returns one number for the whole batch, so that it cannot
            be weighted, for a target of another batch size, and for a dense one of other classes
            than the output.

    Example:
        >>> import torch
        >>> import torch.nn.functional as F
        >>> from mixup_transforms import LabelMixture, MixtureLoss
        >>> output = torch.tensor([[2.0, 0.0, -1.0]])
        >>> mixture = LabelMixture(torch.tensor([[0, 2]]), torch.tensor([[0.75, 0.25]]))
        >>> MixtureLoss(F.cross_entropy)(output, mixture)
        tensor(0.9198)
        >>> F.cross_entropy(output, mixture.dense(3))
        tensor(0.9198)
    """

    def __init__(self, criterion: Callable[..., Tensor]) -> None:
        super().__init__()
        if not callable(criterion):
            raise TypeError(f"criterion must be a loss to call, got {criterion!r}")
        self.criterion = criterion

    def forward(self, output: Tensor, target: Labels) -> Tensor:
        """Return the loss of a batch."""
        if not is_mixture(target) and not checks.tensor("target", target).is_floating_point():
            checks.class_indices("target", target)
            return self.criterion(output, target.long())
        settings = None if is_mixture(target) else _cross_entropy_settings(self.criterion)
        _check_soft(output, target, whole=settings is not None)
        if settings is None or is_mixture(target):
            losses = (self._term(output, *term) for term in _terms(target))
            loss = functools.reduce(torch.add, losses)
        else:
            loss = _cross_entropy(output, target, **settings)
        reduction = _reduction(self.criterion)
        return {"mean": loss.mean, "sum": loss.sum}.get(str(reduction), lambda: loss)()

    def _term(self, output: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
        losses = _unreduced(self.criterion)(output, classes)
        if losses.ndim == 0 or len(losses) != len(output):
            raise ValueError(
                "criterion must return a loss for each sample to be weighted, got shape "
                f"{tuple(losses.shape)} for {len(output)} samples; give it a reduction argument "
                'or attribute that can be "none"'
            )
        if losses.shape[: weights.ndim] != weights.shape:
            raise ValueError(
                "criterion must return a loss for each position of a dense target, got shape "
                f"{tuple(losses.shape)} for {tuple(weights.shape)}"
            )
        weights = weights.to(losses.dtype).view(*weights.shape, *[1] * (losses.ndim - weights.ndim))
        # A class of no weight may have an infinite loss.
        return torch.where(weights == 0, 0, weights * losses)


def _check_soft(output: Tensor, target: Labels, *, whole: bool) -> None:
    """Refuse a soft target that does not fit an output, in all dimensions with ``whole``."""
    if is_mixture(target):
        check_mixture("target", target)
    elif target.dtype not in checks.FLOATS or target.ndim < 2:
        raise ValueError(f"a dense target must be (B, C, ...), got {checks.describe(target)}")
    if batch_size(target) != len(output):
        raise ValueError(
            f"target must have the batch size of output, {len(output)}, got {batch_size(target)}"
        )
    # Without a second dimension the output's classes are the criterion's own affair.
    if is_mixture(target) or (output.ndim < 2 and not whole):
        return
    if target.shape != output.shape if whole else target.shape[1] != output.shape[1]:
        raise ValueError(
            f"a dense target must have the classes and positions of output {tuple(output.shape)}, "
            f"got {tuple(target.shape)}"
        )


def _terms(target: Labels) -> list[tuple[Tensor, Tensor]]:
    """Split a soft target into terms of classes and their weights."""
    if is_mixture(target):
        return [*zip(target.classes.long().unbind(1), target.weights.unbind(1), strict=True)]
    zeros = torch.zeros_like(target[:, 0], dtype=torch.long)
    return [(zeros + k, weights) for k, weights in enumerate(target.unbind(1))]


def _cross_entropy_settings(criterion: Callable[..., Tensor]) -> dict[str, Any] | None:
    """Return what besides its reduction a cross entropy is set to; None for another loss."""
    names = ("weight", "ignore_index", "label_smoothing")
    if isinstance(criterion, nn.CrossEntropyLoss):
        # A subclass may compute something else.
        if type(criterion).forward is not nn.CrossEntropyLoss.forward:
            return None
        return {name: getattr(criterion, name) for name in names}
    bound = functools.partial(criterion)  # of a partial, the function inside
    if bound.func is not F.cross_entropy or bound.args:
        return None
    settings = {name: value for name, value in bound.keywords.items() if name != "reduction"}
    return settings if settings.keys() <= {*names} else None


def _cross_entropy(
    output: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return Σₖ targetₖ · F.cross_entropy(output, k), unreduced.

    Torch's own on probabilities differs from that sum where labels do not sum to one, where a
    class is ignored, and where a class of no weight has an infinite loss.
    """
    log_p = F.log_softmax(_under_autocast(output), 1)
    shares = target.to(log_p.dtype)
    if 0 <= ignore_index < shares.shape[1]:
        # A number brought from the host would be waited for.
        ignored = torch.full((1,), ignore_index, dtype=torch.int64, device=shares.device)
        shares = shares.index_fill(1, ignored, 0)
    if label_smoothing:
        spread = shares.sum(1, keepdim=True) * (label_smoothing / shares.shape[1])
        shares = (1 - label_smoothing) * shares + spread
    if weight is not None:
        shares = shares * weight.to(shares.dtype).view(-1, *[1] * (shares.ndim - 2))
    return -torch.where(shares == 0, 0, shares * log_p).sum(1)


def _under_autocast(output: Tensor) -> Tensor:
    """Return an output in the dtype that a cross entropy takes it in, whatever the device."""
    device = output.device.type
    # A device that autocast does not know must not be asked for it.
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return output.to(torch.promote_types(output.dtype, torch.float32))
    return output


def _reduction(criterion: Callable[..., Tensor]) -> object:
    """Return a loss's ``reduction`` setting; None where it has none."""
    if isinstance(criterion, nn.Module):
        return getattr(criterion, "reduction", None)
    try:
        parameter = inspect.signature(criterion).parameters.get("reduction")
    except (TypeError, ValueError):  # some builtins have no signature
        return None
    return None if parameter is None else parameter.default


def _unreduced(criterion: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the same loss with one value for each sample."""
    if _reduction(criterion) is None:
        return criterion
    if isinstance(criterion, nn.Module):
        criterion = copy.copy(criterion)  # shares its weights
        criterion.reduction = "none"  # type: ignore[assignment]
        return criterion
    return functools.partial(criterion, reduction="none")
