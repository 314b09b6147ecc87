"""Soft labels to what is present at all."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixup_transforms._batch.labels import (
    LabelMixture,
    Labels,
    at_least_float32,
    check_mixture,
    is_mixture,
    merged,
)
from mixup_transforms._batch.parse import LabelsGetter
from mixup_transforms._core import checks
from mixup_transforms._core.checked import Checked
from mixup_transforms._targets.base import LabelTransform, check_dense

_SOFTEN = "class indices need OneHot(num_classes) first, rows of ones and zeros .float()"


class PresentLabels(LabelTransform):
    """Turn the share of each class into whether it is present: 1 above a threshold, else 0.

    For tagging, where a label says what can be heard or seen in a sample and not how much of it:
    after a mixer, before a loss that looks at each class by itself, such as
    ``F.binary_cross_entropy_with_logits``. The label then no longer follows the pixels' shares.
    So trained in Wightman, Touvron, Jégou, *ResNet strikes back*, 2021 (arXiv 2110.00476).

    Args:
        threshold: in [0, 1); a class is present with more weight than this.
        labels_getter: where the labels are in a batch; see :class:`OneHot`.

    Shape:
        Floating ``(B, C, *dims)`` to the same shape and dtype, float32 at least. ``LabelMixture``
        ``(B, K)`` to one of the same classes and weights of 1 and 0: what a class has in several
        places is added up first, and counts in the first of them. Takes a batch or bare labels.

    Raises:
        TypeError: for labels that are not soft.
        ValueError: for a threshold out of range, negative weights, and where no labels are found.

    Example:
        >>> import torch
        >>> from mixup_transforms import PresentLabels
        >>> PresentLabels(threshold=0.1)(torch.tensor([[0.7, 0.3, 0.0], [0.95, 0.0, 0.05]]))
        tensor([[1., 1., 0.],
                [1., 0., 0.]])
    """

    threshold = Checked(checks.smoothing)

    def __init__(self, *, threshold: float = 0.0, labels_getter: LabelsGetter = "default") -> None:
        super().__init__(labels_getter=labels_getter)
        self.threshold = threshold

    def transform(self, inpt: Labels, params: dict[str, Any]) -> Labels:
        """Apply to one tensor of labels, or to a mixture."""
        if is_mixture(inpt):
            check_mixture("labels", inpt)
            soft = LabelMixture(inpt.classes.long(), at_least_float32(inpt.weights))
            return LabelMixture(soft.classes, self._present(merged(soft)))
        hard = not (inpt.is_floating_point() or inpt.is_complex())
        check_dense(inpt, remedy=_SOFTEN if hard else "")
        return self._present(at_least_float32(inpt))

    def _present(self, weights: Tensor) -> Tensor:
        return (weights > self.threshold).to(weights.dtype)
