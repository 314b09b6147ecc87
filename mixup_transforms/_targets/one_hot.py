"""Class indices to class probabilities, with label smoothing."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from mixup_transforms import functional
from mixup_transforms._batch.labels import Labels, check_column, is_mixture
from mixup_transforms._batch.parse import LabelsGetter
from mixup_transforms._core import checks
from mixup_transforms._core.checked import Checked
from mixup_transforms._targets.base import LabelTransform


class OneHot(LabelTransform):
    """Turn class indices into (smoothed) class probabilities, the form that mixers mix.

    With ε = ``label_smoothing`` the own class gets ``1 − ε + ε/C`` and every other ``ε/C``, the
    formula of ``torch.nn.CrossEntropyLoss(label_smoothing=ε)`` (Szegedy et al., *Rethinking the
    Inception Architecture for Computer Vision*, CVPR 2016, arXiv 1512.00567). The classes are in
    dim 1, where ``F.cross_entropy`` wants them.

    Args:
        num_classes: C, at least 1.
        label_smoothing: ε in [0, 1).
        ignore_index: a label outside [0, C), such as 255 or -100, whose positions become all zero,
            so that no gradient comes from them.
        labels_getter: where the labels are in a batch. ``"default"``: the second item, or what
            the dict has under a key with "label" in it. Or the name of a key, or a callable that
            takes the batch and returns the labels.

    Shape:
        Integer ``(B, *dims)`` of any integer dtype to float32 ``(B, C, *dims)``: ``(B,)`` to
        ``(B, C)``, tokens ``(B, T)`` to ``(B, C, T)``, masks ``(B, H, W)`` to ``(B, C, H, W)``. A
        ``tv_tensors.Mask`` stays one. Takes a batch ``(images, labels)``, a dict, any pytree, or a
        bare tensor of labels; where a batch has no labels, its masks are them. Everything else
        passes through.

    Raises:
        TypeError: for labels that are not integers and settings of a wrong type.
        ValueError: for labels and settings out of range, for labels ``(B, 1)`` and one-hot rows,
            and where no labels are found. :func:`functional.one_hot` takes any ``(B, *dims)``,
            sequences of length 1 included.

    Example:
        >>> import torch
        >>> from mixup_transforms import OneHot
        >>> images, labels = torch.rand(2, 3, 8, 8), torch.tensor([2, 0])
        >>> images, labels = OneHot(3, label_smoothing=0.3)(images, labels)
        >>> labels
        tensor([[0.1000, 0.1000, 0.8000],
                [0.8000, 0.1000, 0.1000]])
    """

    num_classes = Checked(partial(checks.integer, minimum=1))
    label_smoothing = Checked(checks.smoothing)

    def __init__(
        self,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        labels_getter: LabelsGetter = "default",
    ) -> None:
        super().__init__(labels_getter=labels_getter)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index

    @property
    def ignore_index(self) -> int | None:
        """The label whose positions become all zero."""
        return self._ignore_index

    @ignore_index.setter
    def ignore_index(self, ignore_index: int | None) -> None:
        self._ignore_index = checks.ignore_index(ignore_index, self.num_classes)

    def transform(self, inpt: Labels, params: dict[str, Any]) -> Tensor:
        """Apply to one tensor of labels."""
        if is_mixture(inpt):
            raise TypeError(
                "labels must be integer class indices, got a LabelMixture, of which "
                f".dense({self.num_classes}) makes rows"
            )
        checks.class_indices("labels", inpt)
        check_column("labels", inpt)
        self._check_not_rows(inpt)
        return functional.one_hot(
            inpt,
            self.num_classes,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
        )

    def _check_not_rows(self, labels: Tensor) -> None:
        """Refuse one-hot rows; of two classes they look like tokens too often."""
        if labels.shape[1:] != (self.num_classes,) or self.num_classes == 2:
            return
        if not checks.readable(labels) or not len(labels):
            return
        rows = labels.long()
        if ((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all():
            raise ValueError(
                f"labels look like one-hot rows already, got {checks.describe(labels)}; .float() "
                "makes soft labels of them, and functional.one_hot takes them for tokens"
            )
