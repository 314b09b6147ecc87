"""CutMix: a box of every sample shows its partner."""

from __future__ import annotations

import torch

from mixup_transforms._batch.parse import ImagesGetter, LabelsGetter
from mixup_transforms._core import checks, draws, shares
from mixup_transforms._core.settings import Followed
from mixup_transforms._mixers.base import BoxMixer
from mixup_transforms._mixers.pairing import Pairing
from mixup_transforms._mixers.plan import Params, Plan


class RandomCutMix(BoxMixer):
    """Paste a box of the partner into each sample; the label is mixed by the box's real area.

    Yun, Han, Oh, Chun, Choe, Yoo, *CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features*, ICCV 2019 (arXiv 1905.04899). λ ~ Beta(α, α) sets the box, of sides
    √(1−λ) times the image's, around a uniform pixel; what clipping leaves of it sets ``lam``.

    Args:
        alpha: α > 0 of the Beta distribution.
        p, num_classes, per_sample, pairing, inplace, generator, images_getter, labels_getter: as in
            :class:`RandomMixup`; in place masks are written too.

    Shape:
        Images: ``(B, …, H, W)``, of any dtype but quantized; all frames and channels of a sample
        get the same box. A ``tv_tensors.Mask`` ``(B, …, H, W)`` is cut and pasted alike, its class
        indices exact. A floating label of the images' height and width goes with its pixels like a
        mask. Other labels: as :class:`RandomMixup`.

        ``(images, targets)`` with a dict of objects for each image, whose sizes may differ: a mixed
        sample keeps its canvas, and the partner shows in the box as far as it has pixels there.
        The objects of both are cut to what is visible, and weigh as much.

    Raises:
        TypeError: for settings of a wrong type, PIL images, and boxes and keypoints outside a
            target.
        ValueError: for settings out of range, for images without two spatial dimensions or of
            differing sizes, and as :class:`RandomMixup`.

    Example:
        >>> import torch
        >>> from mixup_transforms import RandomCutMix
        >>> black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 32, 32)
        >>> mix = RandomCutMix(num_classes=2, generator=torch.Generator().manual_seed(0))
        >>> images, labels = mix(black_and_white, torch.tensor([0, 1]))
        >>> images.mean(dim=(1, 2, 3)).allclose(labels[:, 1])
        True
    """

    one_size = False
    alpha = Followed(checks.positive, "α of the Beta distribution; set like ``p``.")

    def __init__(
        self,
        *,
        alpha: float = 1.0,
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
        self.alpha = alpha

    def draw(self, plan: Plan) -> Params:
        """Draw ``box``; ``lam`` follows from it."""
        lam = plan.draw_lam(self.alpha)
        box = draws.centred_boxes(lam, plan.sizes, generator=plan.generator)
        box = self.reach(box, plan.partner_sizes)
        return plan.params(lam=shares.box_share(box, *plan.sizes), box=box)
