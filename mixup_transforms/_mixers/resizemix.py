"""ResizeMix: a box of every sample shows its whole partner, made small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mixup_transforms._batch.parse import ImagesGetter, LabelsGetter
from mixup_transforms._core import checks, draws, kernels, shares
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.ragged import AnyImages, Sizes
from mixup_transforms._core.regions import Size, View
from mixup_transforms._mixers.base import BoxMixer
from mixup_transforms._mixers.pairing import Pairing
from mixup_transforms._mixers.plan import Params, Plan


def _scale(name: str, scale: object) -> tuple[float, float]:
    if not isinstance(scale, tuple | list) or len(scale) != 2:
        raise TypeError(f"{name} must be a pair (low, high), got {scale!r}")
    low, high = (checks.positive(name, end) for end in scale)
    if not low <= high <= 1:
        raise ValueError(f"{name} must be (low, high) with 0 < low ≤ high ≤ 1, got {scale!r}")
    return low, high


class RandomResizeMix(BoxMixer):
    """Paste the whole partner, resized, into each sample; the label is mixed by its real area.

    Qin, Fang, Zhang, Liu, Wang, Wang, *ResizeMix: Mixing Data with Preserved Object Information and
    True Labels*, 2020 (arXiv 2012.11101). The partner is resized by τ ~ U(scale), to one pixel at
    least, and placed uniformly, wholly inside.

    Args:
        scale: the lowest and highest τ, with 0 < low ≤ high ≤ 1.
        p, num_classes, per_sample, pairing, inplace, generator, images_getter, labels_getter: as in
            :class:`RandomMixup`; in place masks are written too.

    Shape:
        Images: ``(B, …, H, W)``, floating or integer; all frames and channels of a sample get the
        same box. A ``tv_tensors.Mask`` ``(B, …, H, W)`` is resized to the nearest pixel, its class
        indices exact. A floating label of the images' height and width goes with its pixels like a
        mask. Other labels: as :class:`RandomMixup`.

        ``(images, targets)`` with a dict of objects for each image, whose sizes may differ: a mixed
        sample keeps its canvas, on which the partner's image, shrunk further where it has to be to
        fit, and all its objects lie in the box. Of the sample's own the box hides a part.

    Raises:
        TypeError: for settings of a wrong type, bool or complex images, PIL images, and boxes and
            keypoints outside a target.
        ValueError: for settings out of range, for images without two spatial dimensions or of
            differing sizes, and as :class:`RandomMixup`.

    Example:
        >>> import torch
        >>> from mixup_transforms import RandomResizeMix
        >>> images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
        >>> mix = RandomResizeMix(num_classes=4, generator=torch.Generator().manual_seed(0))
        >>> mixed, mixed_labels = mix(images, labels)
        >>> mixed.shape, mixed_labels.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 4]))
    """

    averages = True
    one_size = False
    scale = Checked(_scale)

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.1, 0.8),
        p: float = 1.0,
        num_classes: int | None = None,
        per_sample: bool = True,
        pairing: Pairing | None = None,
        inplace: bool = False,
        generator: torch.Generator | None = None,
        images_getter: ImagesGetter = "default",
        labels_getter: LabelsGetter = "default",
    ) -> None:
        super().__init__(
            p=p,
            num_classes=num_classes,
            per_sample=per_sample,
            pairing=pairing,
            inplace=inplace,
            generator=generator,
            images_getter=images_getter,
            labels_getter=labels_getter,
        )
        self.scale = scale

    def draw(self, plan: Plan) -> Params:
        """Draw ``box``; ``lam`` follows from it."""
        low, high = self.scale
        side = low + (high - low) * draws.uniform(plan.rows, generator=plan.generator)
        side = torch.where(plan.mixed, side, 0.0)
        box = draws.inner_boxes(side, plan.sizes, plan.partner_sizes, generator=plan.generator)
        return plan.params(lam=shares.box_share(box, *plan.sizes), box=box)

    def reach(self, box: Tensor, partner_sizes: Sizes) -> Tensor:
        """Return the box, all of which the partner fills."""
        return box

    def show(self, params: Params, i: int, own: Size, others: Sequence[Size]) -> Sequence[View]:
        """Show the whole partner inside the box, and the sample around it."""
        views = super().show(params, i, own, others)
        if len(views) == 1:
            return views
        around, partner = views
        (x1, y1, x2, y2), (height, width) = partner.outer, partner.source
        scale = (x2 - x1) / width, (y2 - y1) / height
        return [around, replace(partner, scale=scale, offset=(x1, y1))]

    def apply(
        self,
        images: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Paste the resized partner."""
        return kernels.paste_resized(
            images,
            params["partner"],
            params["box"],
            others=others,
            inplace=inplace,
            nearest=False,
        )

    def apply_to_masks(
        self,
        masks: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Paste the resized mask, which stays one of class indices."""
        return kernels.paste_resized(
            masks, params["partner"], params["box"], others=others, nearest=True, inplace=inplace
        )
