"""Class indices to mixtures."""

from __future__ import annotations

from typing import Any

import torch

from mixup_transforms._batch.labels import (
    LabelMixture,
    Labels,
    check_column,
    check_mixture,
    is_mixture,
)
from mixup_transforms._batch.parse import LabelsGetter
from mixup_transforms._core import checks
from mixup_transforms._targets.base import LabelTransform


class ToLabelMixture(LabelTransform):
    """Turn class indices into a :class:`LabelMixture`, which the mixers after it extend.

    For very many classes: mixing a mixture doubles its K, whatever the number of classes.

    Args:
        labels_getter: where the labels are in a batch; see :class:`OneHot`.

    Shape:
        Integer ``(B,)`` to ``LabelMixture`` of ``(B, 1)``. Takes a batch or a bare tensor.

    Raises:
        TypeError: for labels that are not integers.
        ValueError: for negative labels, for ``(B, 1)``, and where no labels are found.

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
        if is_mixture(inpt):
            check_mixture("labels", inpt)
            return inpt
        checks.class_indices("labels", inpt)
        check_column("labels", inpt)
        if inpt.ndim != 1:
            raise TypeError(
                f"labels must be integer class indices (B,), got {checks.describe(inpt)}"
            )
        classes = inpt.long().unsqueeze(1)
        mixture = LabelMixture(classes, torch.ones_like(classes, dtype=torch.float32))
        check_mixture("labels", mixture)
        return mixture
