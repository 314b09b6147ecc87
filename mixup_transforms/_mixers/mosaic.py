"""Mosaic: a sample and three partners around a centre."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._batch.parse import ImagesGetter, LabelsGetter
from mixup_transforms._core import checks, draws, kernels, shares
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.memory import moved
from mixup_transforms._core.ragged import AnyImages, Images, Ragged, Sizes, cloned, lengths
from mixup_transforms._core.regions import NOWHERE, Size, View, quadrants
from mixup_transforms._core.seeded import uncompiled
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._mixers.pairing import Pairing
from mixup_transforms._mixers.plan import Params, Plan, required

_HOST = torch.device("cpu")


def _span(name: str, span: object) -> tuple[float, float]:
    if not isinstance(span, tuple | list) or len(span) != 2:
        raise TypeError(f"{name} must be a pair (low, high), got {span!r}")
    low, high = (checks.probability(name, end) for end in span)
    if low > high:
        raise ValueError(f"{name} must be (low, high) with 0 ≤ low ≤ high ≤ 1, got {span!r}")
    return low, high


class RandomMosaic(Mixer):
    """Show the sample and three partners around a random centre; labels go by their real areas.

    Bochkovskiy, Wang, Liao, *YOLOv4: Optimal Speed and Accuracy of Object Detection*, 2020
    (arXiv 2004.10934). The sample lies in the top left, its partners in the top right, the bottom
    left and the bottom right, each with its inner corner at the centre, cropped by the canvas. The
    partners are the next three along the cycle that pairs a batch; of fewer than four samples some
    repeat.

    Args:
        centre: where the centre is drawn, uniform in this span of the canvas's width and height.
        size: height and width of the canvas, such as ``(2 * H, 2 * W)``; ``None`` for the sample's
            own. Where no image reaches pixels are 0, and nobody's: shares are those of the others.
            A mask of class indices is 0 there too, so that class 0 has to be one that no loss
            counts, such as a background.
        pairing: as in :class:`RandomMixup`. It is called three times, and what it returns is shown.
        p, num_classes, per_sample, inplace, generator, images_getter, labels_getter: as in
            :class:`RandomMixup`; a sample that is not mixed keeps its size, and in place is written
            what has the canvas's, masks too.

    Shape:
        Images: ``(B, …, H, W)`` of any dtype but quantized, or in a batch of objects a list of
        images of any sizes. Masks go with their images. Params: ``partner`` ``(B, 3)``, ``centre``
        ``(B, 2)``, x and y, the canvas's far corner for a sample that stays as it is; ``share``
        ``(B, 4)``; ``lam``, the first of these. A :class:`LabelMixture` grows to 4K classes.
        ``between`` takes its first partner from the same place of the second batch, and two
        more along a cycle of that.

    Raises:
        TypeError: for settings of a wrong type, and PIL images.
        ValueError: for settings out of range, for a ``size`` that leaves a stack with images of
            two sizes, and as :class:`RandomCutMix`.

    Example:
        >>> import torch
        >>> from mixup_transforms import RandomMosaic
        >>> images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
        >>> mix = RandomMosaic(num_classes=4, generator=torch.Generator().manual_seed(0))
        >>> mixed, mixed_labels = mix(images, labels)
        >>> mixed.shape, (mixed_labels > 0).all()
        (torch.Size([4, 3, 32, 32]), tensor(True))
    """

    spatial, averages, blends_masks, one_size = True, False, False, False
    partners = 3
    centre = Checked(_span)
    size = Checked(checks.canvas_size)

    def __init__(
        self,
        *,
        centre: tuple[float, float] = (0.25, 0.75),
        size: Size | None = None,
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
        self.centre = centre
        self.size = size

    def canvas(self, size: Size) -> Size:
        """Return the size of a mixed image."""
        return self.size or size

    def draw(self, plan: Plan) -> Params:
        """Draw ``centre``; ``share`` and ``lam`` follow from it."""
        canvas = self.size or plan.sizes
        centre = draws.centres(self.centre, plan.rows, canvas, generator=plan.generator)
        far = _far_corner(canvas, centre.device)
        if self.size is not None:
            # There a sample would be taken for one that is not mixed.
            centre = torch.where((centre == far).all(1, keepdim=True), centre - 1, centre)
        (mixed,) = moved(centre.device, plan.mixed.unsqueeze(1))
        centre = torch.where(mixed, centre, far)
        parents = _of_parents(plan.sizes, plan.partner_sizes)
        share = shares.quadrant_shares(centre, canvas, parents)
        return plan.params(lam=share[:, 0], centre=centre, share=share)

    def apply(
        self,
        images: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Show the four parents."""
        centre = params["centre"]
        if self._is_whole(images, centre):
            return images if inplace else cloned(images)
        return kernels.mosaic(
            images, params["partner"], centre, size=self.size, others=others, inplace=inplace
        )

    def realise(
        self, params: Mapping[str, Any], images: Images, *, others: Images | None = None
    ) -> Params:
        """Take the centre as it is given, and the shares of the four."""
        centre, own = required(params, "centre"), lengths(images)
        canvas = self.size or own
        checks.centre(centre, batch=len(images), sizes=canvas)
        partners = lengths(images if others is None else others, params["partner"])
        share = shares.quadrant_shares(centre, canvas, _of_parents(own, partners))
        return {"lam": share[:, 0], "centre": centre.long(), "share": share}

    def show(self, params: Params, i: int, own: Size, others: Sequence[Size]) -> Sequence[View]:
        """Show the four parents, each in its quadrant, as far as it reaches."""
        x, y = params["centre"][i].tolist()
        canvas = self.canvas(own)
        if (y, x) == canvas:
            return [View.whole(i, own)]
        parents = params["partner"][i].tolist()
        sources = [own, *(others[j] for j in parents)]
        placed = zip([i, *parents], sources, quadrants((x, y), canvas, sources), strict=True)
        views = [
            View(parent, source, canvas, outer, offset=offset)
            for parent, source, (outer, offset) in placed
        ]
        return [views[0], *(view for view in views[1:] if view.outer != NOWHERE)]

    def _is_whole(self, images: Images, centre: Tensor) -> bool:
        """Whether a stack stays as it is, of which nothing is mixed and the canvas is another's."""
        if isinstance(images, Ragged) or self.canvas(checks.size_of(images)) == images.shape[-2:]:
            return False
        return self._is_alone(images, centre)

    @uncompiled
    def _is_alone(self, images: Tensor, centre: Tensor) -> bool:
        canvas = self.canvas(checks.size_of(images))
        alone = (centre.cpu() == _far_corner(canvas, _HOST)).all(1)
        if alone.any() and not alone.all():
            raise ValueError(
                f"size {self.size} gives mixed images another size than unmixed ones, so a stack "
                "cannot hold both; give a list of images"
            )
        return bool(alone.all())


def _far_corner(canvas: Sizes, device: torch.device) -> Tensor:
    """Return x and y of a canvas's far corner, or of each canvas's."""
    corner = torch.from_numpy(np.stack(canvas[::-1], -1))
    return moved(device, corner)[0]


def _of_parents(own: Sizes, partners: Sizes) -> Sizes:
    """Return heights and widths of samples and their partners, of which stacks have but one."""
    if isinstance(own[0], int):
        return own
    height, width = (np.column_stack(lengths) for lengths in zip(own, partners, strict=True))
    return height, width
