"""Soft labels in other forms: mixtures, sampled indices, losses and a metric that take them."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mixup_transforms import _checks, sampling
from mixup_transforms._base import LabelTransform
from mixup_transforms._batch import Labels, LabelsGetter, batch_size
from mixup_transforms.mixture import LabelMixture, check_mixture, check_sums, check_weights


class ToLabelMixture(LabelTransform):
    """Turn class indices into a :class:`LabelMixture`, which the mixers after it extend.

    For very many classes: mixing a mixture doubles its K, whatever the number of classes.

    Args:
        labels_getter: where the labels are in a batch; see :class:`OneHot`.

    Shape:
        Integer ``(B,)`` to ``LabelMixture`` of ``(B, 1)``. Takes a batch or a bare tensor.

    Raises:
        TypeError: for labels that are not integers.
        ValueError: for negative labels, and where no labels are found.

    Example:
        >>> import torch
        >>> from torchvision.transforms import v2
        >>> from mixup_transforms import RandomMixup, ToLabelMixture
        >>> mix = v2.Compose([ToLabelMixture(), RandomMixup()])
        >>> images, labels = mix(torch.rand(4, 3, 8, 8), torch.tensor([7, 21_840, 0, 7]))
        >>> labels.classes.shape, labels.weights.shape
        (torch.Size([4, 2]), torch.Size([4, 2]))
    """

    def __init__(self, *, labels_getter: LabelsGetter = "default") -> None:
        super().__init__(labels_getter=labels_getter)

    def transform(self, inpt: Labels, params: dict[str, Any]) -> LabelMixture:
        """Apply to one tensor of labels."""
        if isinstance(inpt, LabelMixture):
            check_mixture("labels", inpt)
            return inpt
        if inpt.dtype not in _checks.INDICES or inpt.ndim != 1:
            raise TypeError(
                f"labels must be integer class indices (B,), got {_checks.describe(inpt)}"
            )
        classes = inpt.long().unsqueeze(1)
        mixture = LabelMixture(classes, torch.ones_like(classes, dtype=torch.float32))
        check_mixture("labels", mixture)
        return mixture


class SampleLabels(LabelTransform):
    """Draw one hard label from each soft one, with its weights as the chances.

    The stochastic-label form of mixup, for losses that take class indices only: its loss and
    gradient are in expectation those of the soft label. In ``eval()`` mode the likeliest class is
    taken and nothing is drawn.

    Args:
        ignore_index: what a label of all-zero weights becomes; ``None`` refuses them.
        generator: where the randomness comes from; ``None`` for torch's global stream.
        labels_getter: where the labels are in a batch; see :class:`OneHot`.

    Shape:
        Floating ``(B, C, *dims)`` to int64 ``(B, *dims)``, or ``LabelMixture`` to int64 ``(B,)``.
        Takes a batch or bare labels.

    Raises:
        TypeError: for labels that are not soft.
        ValueError: for negative weights, weights that do not sum to 1, and where no labels are
            found.

    Example:
        >>> import torch
        >>> from mixup_transforms import SampleLabels
        >>> sample = SampleLabels(generator=torch.Generator().manual_seed(0))
        >>> soft = torch.tensor([[0.3, 0.7, 0.0]]).expand(1000, 3)
        >>> sample(soft).bincount(minlength=3) / 1000
        tensor([0.3090, 0.6910, 0.0000])
    """

    def __init__(
        self,
        *,
        ignore_index: int | None = None,
        generator: torch.Generator | None = None,
        labels_getter: LabelsGetter = "default",
    ) -> None:
        super().__init__(labels_getter=labels_getter, generator=generator)
        self.ignore_index = (
            None if ignore_index is None else _checks.integer("ignore_index", ignore_index)
        )

    def transform(self, inpt: Labels, params: dict[str, Any]) -> Tensor:
        """Apply to one tensor of labels, or to a mixture."""
        if isinstance(inpt, LabelMixture):
            check_mixture("labels", inpt)
            chosen = self._choose(inpt.weights).unsqueeze(1)
            return self._ignore(inpt.classes.long().gather(1, chosen).squeeze(1), inpt.weights)
        if _checks.tensor("labels", inpt).dtype not in _checks.FLOATS or inpt.ndim < 2:
            raise TypeError(
                f"labels must be floating class weights (B, C, ...), got {_checks.describe(inpt)}"
            )
        check_weights("labels", inpt)
        return self._ignore(self._choose(inpt), inpt)

    def _choose(self, weights: Tensor) -> Tensor:
        """Draw an index along dim 1."""
        if not weights.shape[1]:
            raise ValueError(
                f"labels must have at least one class, got {_checks.describe(weights)}"
            )
        edges = weights.double().cumsum(1)
        totals = edges.select(1, -1)
        if _checks.readable(weights):
            check_sums(
                "weights of labels", totals if self.ignore_index is None else totals[totals != 0]
            )
        if not self.training:
            return weights.argmax(1)
        drawn = sampling.uniform(*totals.shape, generator=self.generator).to(weights.device)
        chosen = (edges <= (drawn * totals).unsqueeze(1)).sum(1)
        return chosen.clamp(max=weights.shape[1] - 1)  # labels without weight have no edge

    def _ignore(self, labels: Tensor, weights: Tensor) -> Tensor:
        if self.ignore_index is None:
            return labels
        return labels.masked_fill((weights == 0).all(1), self.ignore_index)


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
            if not _checks.tensor("target", target).is_floating_point():
                return self.criterion(output, target.long())
            if target.ndim < 2:
                raise ValueError(
                    f"a dense target must be (B, C, ...), got {_checks.describe(target)}"
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


def mixed_accuracy(output: Tensor, target: Labels) -> Tensor:
    """Return the share of the target's weight that falls on the predicted class.

    For hard labels this is plain accuracy. On mixed batches it stays below 1 even for a perfect
    model, since only one of the classes in a label can be predicted.

    Args:
        output: ``(B, C, *dims)``: logits or probabilities; the highest is the prediction.
        target: class indices ``(B, *dims)``, dense ``(B, C, *dims)``, or ``LabelMixture``.

    Returns:
        A number in [0, 1], a float32 tensor of shape (); NaN where the target has no weight.

    Raises:
        TypeError: for an output that is not floating, and a target of no such kind.
        ValueError: for a target whose shape does not fit.

    Example:
        >>> import torch
        >>> from mixup_transforms import mixed_accuracy
        >>> output = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
        >>> mixed_accuracy(output, torch.tensor([[0.75, 0.25], [1.0, 0.0]]))
        tensor(0.3750)
    """
    if _checks.tensor("output", output).dtype not in _checks.FLOATS or output.ndim < 2:
        raise TypeError(f"output must be floating (B, C, ...), got {_checks.describe(output)}")
    predicted = output.argmax(1)
    if isinstance(target, LabelMixture):
        check_mixture("target", target)
        _check_fit(target.classes[:, 0], predicted, "mixture")
        hits = target.weights * (target.classes == predicted.unsqueeze(1))
        return hits.sum().float() / target.weights.sum().float()
    if _checks.tensor("target", target).dtype in _checks.INDICES:
        _check_fit(target, predicted, "index")
        return (target == predicted).float().mean()
    if target.dtype not in _checks.FLOATS:
        raise TypeError(f"target must be class indices or floating, got {_checks.describe(target)}")
    _check_fit(target, output, "dense")
    hits = target.gather(1, predicted.unsqueeze(1))
    return hits.sum(dtype=torch.float32) / target.sum(dtype=torch.float32)


def _check_fit(target: Tensor, wanted: Tensor, kind: str) -> None:
    if target.shape != wanted.shape or target.device != wanted.device:
        raise ValueError(
            f"the {kind} target must fit shape {tuple(wanted.shape)} on {wanted.device}, "
            f"got {tuple(target.shape)} on {target.device}"
        )


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
