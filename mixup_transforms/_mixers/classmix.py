"""ClassMix: half of the classes of every sample's partner, cut out along their outlines."""

from __future__ import annotations

from functools import partial

import torch

from mixup_transforms._batch.needs import class_indices
from mixup_transforms._batch.parse import ImagesGetter, LabelsGetter
from mixup_transforms._core import checks, draws, segments
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.memory import take
from mixup_transforms._core.ragged import Ragged
from mixup_transforms._mixers.base import MaskMixer
from mixup_transforms._mixers.pairing import Pairing
from mixup_transforms._mixers.pasting import pasted_params
from mixup_transforms._mixers.plan import Params, Plan


class RandomClassMix(MaskMixer):
    """Paste half of the classes, rounded up, in the partner's semantic mask, where they lie there.

    Olsson, Tranheden, Pinto, Svensson, *ClassMix: Segmentation-Based Data Augmentation for
    Semi-Supervised Learning*, WACV 2021 (arXiv 2007.07936). All of a class is pasted, or nothing.

    For semi-supervised learning give a labelled batch and one with pseudo-labels to ``between``, or
    two pseudo-labelled ones, as the paper does.

    Args:
        ignore_index: what marks a pixel without a class, which is never pasted.
        p: the probability that a sample (or a batch, with ``per_sample=False``) is mixed at all.
            A sample that is not mixed comes back bit for bit.
        num_classes: turns integer labels of whole images into one-hot rows first.
        per_sample: draw classes for each sample; ``False`` draws one order of all classes for the
            batch, of which those come first that are pasted.
        pairing: who is mixed with whom; see :class:`RandomMixup`.
        inplace: write into the image and mask tensors given, and return them.
        generator: where all randomness comes from; ``None`` for torch's global stream.
        images_getter: where the images are in a batch; see :class:`RandomMixup`.
        labels_getter: where the labels are in a batch; see :class:`RandomMixup`.

    Shape:
        Images ``(B, …, H, W)``, of any dtype but quantized, beside one ``tv_tensors.Mask``
        ``(B, H, W)`` or ``(B, 1, H, W)`` of class indices; or ``(images, targets)``, images of
        different sizes in a list or tuple and targets a dict for each, with a ``tv_tensors.Mask``
        ``(H, W)``. A partner is pasted as far as the sample's own canvas reaches. Floating masks
        beside it, such as a weight for each pixel, are cut and pasted alike.

        ``make_params`` returns ``seed`` too, int64 ``(B,)``, on which and on the partner's classes
        it depends which of these are pasted.

    Raises:
        TypeError: for settings of a wrong type, and a mask that is floating.
        ValueError: for settings out of range, for batches without a semantic mask, or with several,
            and as :class:`RandomMixup`.

    Example:
        >>> import torch
        >>> from torchvision import tv_tensors
        >>> from mixup_transforms import RandomClassMix
        >>> black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 4)
        >>> masks = tv_tensors.Mask(torch.tensor([[[0, 0, 0, 0]] * 2, [[3, 3, 255, 255]] * 2]))
        >>> mixed, new = RandomClassMix(ignore_index=255)(black_and_white, masks)
        >>> mixed[0]
        tensor([[[1., 1., 0., 0.],
                 [1., 1., 0., 0.]]])
        >>> new[0]
        tensor([[3, 3, 0, 0],
                [3, 3, 0, 0]])
    """

    one_size = False
    needs_classes = True
    ignore_index = Checked(checks.optional_integer)

    def __init__(
        self,
        *,
        ignore_index: int | None = None,
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
        self.ignore_index = ignore_index

    def draw(self, plan: Plan) -> Params:
        """Draw ``seed``; ``mask``, false on the classes pasted, and ``lam`` follow from it."""
        seed = draws.seeds(plan.rows, generator=plan.generator)
        seeds = seed.expand(len(plan.partner))
        classes = class_indices(plan.pool or plan.batch)
        half = partial(segments.half_of_classes, ignore_index=self.ignore_index)
        if isinstance(classes, Ragged):
            partners = classes.take(plan.partner.tolist())
            region = [half(plane, seeds[i : i + 1]) for i, plane in enumerate(partners)]
            return pasted_params(plan, Ragged(region), seed=seed)
        return pasted_params(plan, half(take(classes, plan.partner), seeds), seed=seed)
