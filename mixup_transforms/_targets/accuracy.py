"""Accuracy on mixed labels."""

from __future__ import annotations

import torch
from torch import Tensor

from mixup_transforms._batch.labels import Labels, check_mixture, is_mixture
from mixup_transforms._core import checks


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
    if checks.tensor("output", output).dtype not in checks.FLOATS or output.ndim < 2:
        raise TypeError(f"output must be floating (B, C, ...), got {checks.describe(output)}")
    predicted = output.argmax(1)
    if is_mixture(target):
        check_mixture("target", target)
        _check_fit(target.classes[:, 0], predicted, "mixture")
        hits = target.weights * (target.classes.long() == predicted.unsqueeze(1))
        return _share(hits, of=target.weights)
    if checks.tensor("target", target).dtype in checks.CLASSES:
        _check_fit(target, predicted, "index")
        return (target.long() == predicted).float().mean()
    if target.dtype not in checks.FLOATS:
        raise TypeError(f"target must be class indices or floating, got {checks.describe(target)}")
    _check_fit(target, output, "dense")
    return _share(target.gather(1, predicted.unsqueeze(1)), of=target)


def _share(hits: Tensor, *, of: Tensor) -> Tensor:
    # Sums of half precision overflow, or stop to grow.
    return hits.sum(dtype=torch.float32) / of.sum(dtype=torch.float32)


def _check_fit(target: Tensor, wanted: Tensor, kind: str) -> None:
    if target.shape != wanted.shape or target.device != wanted.device:
        raise ValueError(
            f"the {kind} target must fit shape {tuple(wanted.shape)} on {wanted.device}, "
            f"got {tuple(target.shape)} on {target.device}"
        )
