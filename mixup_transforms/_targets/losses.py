"""Any classification loss on soft labels."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mixup_transforms._batch.labels import LabelMixture, Labels, batch_size, check_mixture
from mixup_transforms._core import checks


class MixtureLoss(nn.Module):
    """Give any classification loss soft labels: Σₖ wₖ · criterion(output, classesₖ).

    Args:
        criterion: a loss of ``(output, class indices)``: a function or module with a ``reduction``
            setting, such as ``F.cross_entropy`` or a focal loss, whose reduction is kept; or one
            that returns a loss for each sample, which is then not reduced.

    Shape:
        output: ``(B, C, *dims)`` or whatever the criterion takes. target: ``LabelMixture``
        ``(B, K)``, dense floating ``(B, C, *dims)``, or class indices, which go to the criterion
        as int64. The mean is over samples, as in ``F.cross_entropy`` on probabilities.

    Raises:
        TypeError: for a criterion that cannot be called.
        ValueError: for a criterion that returns one number for the whole batch, so that it cannot
            be weighted, and for a target of another batch size.

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
        if not isinstance(target, LabelMixture):
            if not checks.tensor("target", target).is_floating_point():
                return self.criterion(output, target.long())
            if target.ndim < 2:
                raise ValueError(
                    f"a dense target must be (B, C, ...), got {checks.describe(target)}"
                )
        terms = _terms(target)
        if batch_size(target) != len(output):
            raise ValueError(
                f"target must have the batch size of output, {len(output)}, "
                f"got {batch_size(target)}"
            )
        losses = (self._term(output, *term) for term in terms)
        loss = functools.reduce(torch.add, losses)
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
        weights = weights.to(losses.dtype).view(*weights.shape, *[1] * (losses.ndim - weights.ndim))
        # A class of no weight may have an infinite loss.
        return torch.where(weights == 0, 0, weights * losses)


def _terms(target: Labels) -> list[tuple[Tensor, Tensor]]:
    """Split a soft target into terms of classes and their weights."""
    if isinstance(target, LabelMixture):
        check_mixture("target", target)
        return [*zip(target.classes.long().unbind(1), target.weights.unbind(1), strict=True)]
    zeros = torch.zeros_like(target[:, 0], dtype=torch.long)
    return [(zeros + k, weights) for k, weights in enumerate(target.unbind(1))]


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
