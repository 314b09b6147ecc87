"""FMix: smooth blobs of every sample show its partner."""

from __future__ import annotations

import torch

from mixup_transforms._batch.parse import ImagesGetter, LabelsGetter
from mixup_transforms._core import checks, draws, shares
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.settings import Followed
from mixup_transforms._mixers.base import MaskMixer
from mixup_transforms._mixers.pairing import Pairing
from mixup_transforms._mixers.plan import Params, Plan


class RandomFMix(MaskMixer):
    """Show the partner through a low-frequency mask; the label is mixed by the pixels kept.

    Harris, Marcu, Painter, Niranjan, Prügel-Bennett, Hare, *FMix: Enhancing Mixed Sample Data
    Augmentation*, 2020 (arXiv 2002.12047). λ ~ Beta(α, α); the round(λ·H·W) highest pixels of an
    image of low-frequency noise stay the sample's own, or with ``dims`` as many of a sequence or of
    a volume.

    Args:
        alpha: α > 0 of the Beta distribution.
        decay_power: how steeply the noise's spectrum falls with frequency, above 0: the higher,
            the smoother the blobs.
        dims: how many of the last dimensions the mask lies in: 1, 2 or 3.
        p, num_classes, per_sample, pairing, inplace, generator, images_getter, labels_getter: as in
            :class:`RandomMixup`; in place masks are written too.

    Shape:
        Images: ``(B, …, H, W)``, of any dtype but quantized; all frames and channels of a sample
        get the same mask. A ``tv_tensors.Mask`` ``(B, …, H, W)`` is mixed alike, its class indices
        exact. A floating label of the images' height and width goes with its pixels like a mask.
        Other labels: as :class:`RandomMixup`.

        With ``dims=1`` all of these are ``(B, …, T)``, and ``mask`` is ``(B, T)``. With ``dims=3``
        they are ``(B, …, D, H, W)``, no ``Video``, and ``mask`` is ``(B, D, H, W)``. Objects are
        for ``dims=2`` alone.

        ``(images, targets)`` with a dict of objects for each image, all of one size: the objects of
        both are cut to what their pixels show, and weigh as much.

    Raises:
        TypeError: for settings of a wrong type, PIL images, boxes and keypoints outside a target,
            and objects with other ``dims`` than 2.
        ValueError: for settings out of range, for images of fewer dimensions or of differing sizes,
            with ``dims=1`` for a floating label ``(B, T)``, which may be classes or steps, and as
            :class:`RandomMixup`.

    Example:
        >>> import torch
        >>> from mixup_transforms import RandomFMix
        >>> images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
        >>> mix = RandomFMix(num_classes=4, generator=torch.Generator().manual_seed(0))
        >>> mixed, mixed_labels = mix(images, labels)
        >>> mixed.shape, mixed_labels.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 4]))
    """

    decay_power = Checked(checks.positive)
    dims = Checked(checks.dims)
    alpha = Followed(checks.positive, "α of the Beta distribution; set like ``p``.")

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        decay_power: float = 3.0,
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
        self.decay_power = decay_power

    def draw(self, plan: Plan) -> Params:
        """Draw ``mask``, true for own pixels; ``lam`` follows from it."""
        lam = plan.draw_lam(self.alpha)
        # On the host a few at a time, whose noise its caches can hold.
        counts = draws.parts(plan.rows, plan.size) if lam.is_cpu else [plan.rows]
        masks = []
        for part in torch.split(lam, counts):
            noise = draws.low_frequency_noise(
                len(part), plan.size, self.decay_power, generator=plan.generator
            )
            masks.append(shares.top_share(noise, part))
        mask = torch.cat(masks)
        return plan.params(lam=shares.mask_share(mask), mask=mask)
