"""Mixup: every sample blended with its partner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mixup_transforms._batch.labels import blend_dense
from mixup_transforms._batch.parse import ImagesGetter, LabelsGetter
from mixup_transforms._core import checks, kernels
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.ragged import AnyImages, Images
from mixup_transforms._core.regions import Size, View, intersection
from mixup_transforms._core.settings import Followed
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._mixers.pairing import Pairing
from mixup_transforms._mixers.plan import Params, Plan, required


class RandomMixup(Mixer):
    """Blend each sample and its label with a partner: x' = λ·x₁ + (1−λ)·x₂, y' = λ·y₁ + (1−λ)·y₂.

    Zhang, Cissé, Dauphin, Lopez-Paz, *mixup: Beyond Empirical Risk Minimization*, ICLR 2018
    (arXiv 1710.09412). λ ~ Beta(α, α) is the share of the sample itself. Partners are drawn along
    one random cycle through the batch: no sample meets itself, and each is used once.

    Args:
        alpha: α > 0. Near 0 most samples stay almost pure; at 1 λ is uniform; above, towards ½.
        p: the probability that a sample (or a batch, with ``per_sample=False``) is mixed at all.
            A sample that is not mixed comes back bit for bit.
        num_classes: turns integer labels into one-hot rows first, as ``v2.MixUp`` does.
        per_sample: draw a λ for each sample; ``False`` draws one for the batch, as the paper does.
        dominant: fold λ to max(λ, 1−λ), so that each sample keeps the larger share.
        pairing: who is mixed with whom: :class:`MatchedPairing`, :class:`NearPairing`, or a
            callable ``pairing(batch, *, labels, generator)`` that returns int64 ``(B,)``, an index
            for each sample; its own where nobody fits, and it stays as it is. ``None`` for one
            random cycle through the batch.
        inplace: write into the image and dense-label tensors given, and return them.
        generator: where all randomness comes from; ``None`` for torch's global stream.
        images_getter: where the images are in a batch. ``"default"``: every ``Image`` and
            ``Video``; else the first item, or what a dict has under a well-known key, "image",
            "pixel_values" and their like, or its only tensor beside the labels; where that leaves
            a doubt, an error. Or the name of a key, a list of names, or a callable that takes the
            batch and returns the images.
        labels_getter: where the labels are in a batch. ``"default"``: the second item, or what
            the dict has under a key with "label" in it. Or the name of a key, a callable that
            takes the batch and returns the labels, or ``None`` to mix images alone.

    Shape:
        Images: ``(B, …)``, floating or integer, every one of them. Labels: integer ``(B,)`` with
        ``num_classes``, floating ``(B, …)``, or a :class:`LabelMixture`. A ``tv_tensors.Mask`` must
        be floating. Takes ``(images, labels)``, a dict, any pytree or mapping; other leaves pass
        through. Shapes, types and image dtypes come back as they were, labels in float32 at least.

        ``(images, targets)`` with a dict of objects for each image: a list of images may hold
        several sizes, two of which are joined, top left, on a canvas of the larger height and
        width. The objects of both are there, each with what its image weighs where it lies.

    Raises:
        TypeError: for settings of a wrong type, bool or complex images, PIL images, and boxes and
            keypoints outside a target.
        ValueError: for settings out of range, and for batches without images or labels, of
            differing sizes, with labels out of range or that cannot be mixed.

    Example:
        >>> import torch
        >>> from torchvision.transforms import v2
        >>> from mixup_transforms import OneHot, RandomMixup
        >>> generator = torch.Generator().manual_seed(0)
        >>> mix = v2.Compose([OneHot(10), RandomMixup(alpha=0.4, generator=generator)])
        >>> images, labels = mix(torch.rand(8, 3, 32, 32), torch.arange(8))
        >>> images.shape, labels.shape
        (torch.Size([8, 3, 32, 32]), torch.Size([8, 10]))
        >>> labels.sum(dim=1).allclose(torch.ones(8))
        True
    """

    one_size = False
    dominant = Checked(checks.flag)
    alpha = Followed(checks.positive, "α of the Beta distribution; set like ``p``.")

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        p: float = 1.0,
        num_classes: int | None = None,
        per_sample: bool = True,
        dominant: bool = False,
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
        self.dominant = dominant

    def draw(self, plan: Plan) -> Params:
        """Draw ``lam``."""
        lam = plan.draw_lam(self.alpha)
        return plan.params(lam=torch.maximum(lam, 1 - lam) if self.dominant else lam)

    def apply(
        self,
        images: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Blend images."""
        return kernels.blend(
            images, params["partner"], params["lam"], others=others, inplace=inplace
        )

    def apply_to_masks(
        self,
        masks: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Blend floating masks, which are labels."""
        return blend_dense(masks, params["partner"], params["lam"], others=others, inplace=inplace)

    def realise(
        self, params: Mapping[str, Any], images: Images, *, others: Images | None = None
    ) -> Params:
        """Take ``lam`` as it is given."""
        lam = required(params, "lam")
        checks.lam(lam, batch=len(images))
        return {"lam": lam.float()}

    def show(self, params: Params, i: int, own: Size, others: Sequence[Size]) -> Sequence[View]:
        """Show both where both have pixels, on a canvas that holds both."""
        lam = float(params["lam"][i])
        if lam == 1:
            return [View.whole(i, own)]
        partner = int(params["partner"][i])
        other = others[partner]
        canvas = max(own[0], other[0]), max(own[1], other[1])
        here, there = (0, 0, own[1], own[0]), (0, 0, other[1], other[0])
        both = intersection(here, there)
        return [
            View(i, own, canvas, here, inner=both, inside=lam),
            View(partner, other, canvas, there, inner=both, inside=1 - lam),
        ]
