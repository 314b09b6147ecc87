"""One hard label drawn from each soft one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mixup_transforms._batch.labels import (
    Labels,
    check_mixture,
    check_sums,
    is_mixture,
    merged,
)
from mixup_transforms._batch.parse import LabelsGetter
from mixup_transforms._core import checks, draws
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.memory import moved
from mixup_transforms._targets.base import LabelTransform, check_dense


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
        ValueError: for negative weights, weights that do not sum to 1 (within 0.01, which is what
            bfloat16 can lose; they are scaled), and where no labels are found.

    Example:
        >>> import torch
        >>> from mixup_transforms import SampleLabels
        >>> sample = SampleLabels(generator=torch.Generator().manual_seed(0))
        >>> soft = torch.tensor([[0.3, 0.7, 0.0]]).expand(1000, 3)
        >>> sample(soft).bincount(minlength=3) / 1000
        tensor([0.3090, 0.6910, 0.0000])
    """

    ignore_index = Checked(checks.optional_integer)

    def __init__(
        self,
        *,
        ignore_index: int | None = None,
        generator: torch.Generator | None = None,
        labels_getter: LabelsGetter = "default",
    ) -> None:
        super().__init__(labels_getter=labels_getter, generator=generator)
        self.ignore_index = ignore_index

    def transform(self, inpt: Labels, params: dict[str, Any]) -> Tensor:
        """Apply to one tensor of labels, or to a mixture."""
        if is_mixture(inpt):
            check_mixture("labels", inpt)
            chosen = self._choose(inpt.weights if self.training else merged(inpt)).unsqueeze(1)
            return self._ignore(inpt.classes.long().gather(1, chosen).squeeze(1), inpt.weights)
        check_dense(inpt)
        return self._ignore(self._choose(inpt), inpt)

    def _choose(self, weights: Tensor) -> Tensor:
        """Draw an index along dim 1."""
        if not weights.shape[1]:
            raise ValueError(f"labels must have at least one class, got {checks.describe(weights)}")
        edges = weights.double().cumsum(1)
        totals = edges.select(1, -1)
        if checks.readable(weights):
            check_sums(
                "weights of labels", totals if self.ignore_index is None else totals[totals != 0]
            )
        if not self.training:
            return weights.argmax(1)
        drawn = draws.uniform(*totals.shape, generator=self.generator)
        (drawn,) = moved(weights.device, drawn)
        chosen = (edges <= (drawn * totals).unsqueeze(1)).sum(1)
        return chosen.clamp(max=weights.shape[1] - 1)  # labels without weight have no edge

    def _ignore(self, labels: Tensor, weights: Tensor) -> Tensor:
        if self.ignore_index is None:
            return labels
        return labels.masked_fill((weights == 0).all(1), self.ignore_index)
