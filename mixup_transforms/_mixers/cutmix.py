"""CutMix: a box of every sample shows its partner."""

from __future__ import annotations

import torch

from mixup_transforms._batch.parse import ImagesGetter, LabelsGetter
from mixup_transforms._core import checks, draws, shares
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.settings import Followed
from mixup_transforms._mixers.base import BoxMixer
from mixup_transforms._mixers.pairing import Pairing
from mixup_transforms._mixers.plan import Params, Plan


class RandomCutMix(BoxMixer):
    """Paste a box of the partner into each sample; the label is mixed by the box's real area.

    Yun, Han, Oh, Chun, Choe, Yoo, *CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features*, ICCV 2019 (arXiv 1905.04899). λ ~ Beta(α, α) sets the box, of sides
    √(1−λ) times the image's, around a uniform pixel; what clipping leaves of it sets ``lam``.

    With ``dims`` the same is a span of a sequence, 1−λ times as long, or a block of a volume, of
    sides ∛(1−λ) times the volume's.

    Args:
        alpha: α > 0 of the Beta distribution.
        dims: how many of the last dimensions the box lies in: 1, 2 or 3.
        p, num_classes, per_sample, pairing, inplace, generator, images_getter, labels_getter: as in
            :class:`RandomMixup`; in place masks are written too.

    Shape:
        Images: ``(B, …, H, W)``, of any dtype but quantized; all frames and channels of a sample
        get the same box. A ``tv_tensors.Mask`` ``(B, …, H, W)`` is cut and pasted alike, its class
        indices exact. A floating label of the images' height and width goes with its pixels like a
        mask. Other labels: as :class:`RandomMixup`.

        With ``dims=1`` all of these are ``(B, …, T)``, and ``box`` is ``(B, 2)``: x1, x2. With
        ``dims=3`` they are ``(B, …, D, H, W)``, no ``Video``, and ``box`` is ``(B, 6)``: x1, y1,
        z1, x2, y2, z2. Objects are for ``dims=2`` alone.

        ``(images, targets)`` with a dict of objects for each image, whose sizes may differ: a mixed
        sample keeps its canvas, and the partner shows in the box as far as it has pixels there.
        The objects of both are cut to what is visible, and weigh as much.

    Raises:
        TypeError: for settings of a wrong type, PIL images, boxes and keypoints outside a target,
            and objects with other ``dims`` than 2.
        ValueError: for settings out of range, for images of fewer dimensions or of differing sizes,
            with ``dims=1`` for a floating label ``(B, T)``, which may be classes or steps, and as
            :class:`RandomMixup`.

    Example:
        >>> import torch
        >>> from mixup_transforms import RandomCutMix
        >>> black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 32, 32)
        >>> mix = RandomCutMix(num_classes=2, generator=torch.Generator().manual_seed(0))
        >>> images, labels = mix(black_and_white, torch.tensor([0, 1]))
        >>> images.mean(dim=(1, 2, 3)).allclose(labels[:, 1])
        True
        >>> sequences = torch.randn(4, 6, 100)
        >>> mixed, labels = RandomCutMix(dims=1, num_classes=4)(sequences, torch.arange(4))
    """

    one_size = False
    dims = Checked(checks.dims)
    alpha = Followed(checks.positive, "α of the Beta distribution; set like ``p``.")

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        dims: int = 2,
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
        self.dims = dims

    def draw(self, plan: Plan) -> Params:
        """Draw ``box``; ``lam`` follows from it."""
        lam = plan.draw_lam(self.alpha)
        box = draws.centred_boxes(lam, plan.sizes, generator=plan.generator)
        box = self.reach(box, plan.partner_sizes)
        return plan.params(lam=shares.box_share(box, *plan.sizes), box=box)
