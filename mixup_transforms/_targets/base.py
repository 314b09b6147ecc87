"""Base of the transforms of labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mixup_transforms._batch.labels import Labels, check_weights, is_label
from mixup_transforms._batch.mistakes import error_instead_of_labels
from mixup_transforms._batch.parse import (
    Batch,
    LabelsGetter,
    check_labels_getter,
    no_labels_error,
    rewrap,
    unwrap,
)
from mixup_transforms._batch.tree import Tree
from mixup_transforms._core import checks
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.seeded import Seeded, uncompiled


class LabelTransform(Seeded):
    """Base of the transforms that change labels and nothing else."""

    labels_getter = Checked(check_labels_getter)

    def __init__(
        self, *, labels_getter: LabelsGetter, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(generator=generator)
        self.labels_getter = labels_getter

    @uncompiled
    def forward(self, *inputs: Any) -> Any:
        """Transform the labels of a batch, or bare labels."""
        if len(inputs) == 1 and is_label(inputs[0]):
            return self._transformed(inputs[0])
        batch = Batch.of_labels(Tree.of(inputs), self.labels_getter)
        labels = batch.labels or batch.masks
        if not labels:
            raise error_instead_of_labels(batch) or no_labels_error(batch)
        return batch.rebuild({i: self._transformed(batch.leaves[i]) for i in labels})

    def _transformed(self, leaf: Labels) -> Labels:
        changed: Labels = self.transform(unwrap(leaf), {})
        return rewrap(changed, like=leaf)


def check_dense(labels: Tensor, *, remedy: str = "") -> None:
    """Refuse what are no weights of classes."""
    if checks.tensor("labels", labels).dtype not in checks.FLOATS or labels.ndim < 2:
        raise TypeError(
            f"labels must be floating class weights (B, C, ...), got {checks.describe(labels)}"
            + (f"; {remedy}" if remedy else "")
        )
    check_weights("labels", labels)
