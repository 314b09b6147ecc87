"""CopyPaste: objects of every sample's partner, cut out along their outlines and pasted."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from mixup_transforms._batch.objects import Targets
from mixup_transforms._batch.parse import ImagesGetter, LabelsGetter, unwrap
from mixup_transforms._core import checks, draws, segments
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.ragged import Ragged
from mixup_transforms._mixers.base import MaskMixer
from mixup_transforms._mixers.pairing import Pairing
from mixup_transforms._mixers.pasting import pasted_params
from mixup_transforms._mixers.plan import Params, Plan

_HOST = torch.device("cpu")


class RandomCopyPaste(MaskMixer):
    """Paste objects of the partner, by their instance masks, where they are in its image.

    Ghiasi, Cui, Srinivas, Qian, Lin, Cubuk, Le, Zoph, *Simple Copy-Paste is a Strong Data
    Augmentation Method for Instance Segmentation*, CVPR 2021 (arXiv 2012.07177). Jitter of scale
    and place, as in the paper, is a transform of each image before.

    What the paste covers of other objects they lose, weight included; what is hidden is gone. A
    pasted object brings all that belongs to it. An object of the partner that was not chosen is
    there as far as a pasted one shows it, such as a cup on a pasted table.

    Args:
        p_object: the probability that an object of the partner is pasted.
        p: the probability that a sample (or a batch, with ``per_sample=False``) is mixed at all.
            A sample that is not mixed comes back bit for bit.
        num_classes: turns integer labels of whole images into one-hot rows first.
        per_sample: draw for each sample; ``False`` draws once for the batch, which of a partner's
            objects, by their numbers, are pasted.
        pairing: who is mixed with whom; see :class:`RandomMixup`.
        inplace: write into the images given, and return them; targets are new dicts.
        generator: where all randomness comes from; ``None`` for torch's global stream.
        images_getter: where the images are in a batch; see :class:`RandomMixup`.
        labels_getter: where the labels are in a batch; see :class:`RandomMixup`.

    Shape:
        ``(images, targets)``: images ``(C, H, W)`` in a list or tuple, of different sizes or of
        one, or a tensor ``(B, C, H, W)``, of any dtype but quantized; targets a list or tuple of a
        dict for each image, with a ``tv_tensors.Mask`` ``(N, H, W)`` of bools or integers, 0 off
        the object. A partner is pasted as far as the sample's own canvas reaches.

        ``make_params`` returns ``pasted`` too, bool ``(B, max N)``: which of the partner's objects
        were chosen.

    Raises:
        TypeError: for settings of a wrong type.
        ValueError: for settings out of range, for batches without objects, for objects that have
            boxes alone, and as :class:`RandomMixup`.

    Example:
        >>> import torch
        >>> from torchvision import tv_tensors
        >>> from mixup_transforms import RandomCopyPaste
        >>> images = [torch.zeros(3, 32, 32), torch.ones(3, 32, 32)]
        >>> masks = torch.zeros(1, 32, 32, dtype=torch.bool)
        >>> masks[:, :8, :16] = True  # an eighth of the second image
        >>> labels = torch.tensor([7])
        >>> targets = [
        ...     {"masks": tv_tensors.Mask(masks[:0]), "labels": labels[:0]},
        ...     {"masks": tv_tensors.Mask(masks), "labels": labels},
        ... ]
        >>> mixed, new = RandomCopyPaste(p_object=1.0)(images, targets)
        >>> mixed[0].mean(), new[0]["labels"], new[0]["weights"]
        (tensor(0.1250), tensor([7]), tensor([1.]))
    """

    one_size = False
    needs_instances = True
    p_object = Checked(checks.probability)

    def __init__(
        self,
        *,
        p_object: float = 0.5,
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
        self.p_object = p_object

    def draw(self, plan: Plan) -> Params:
        """Draw ``pasted``; ``mask``, false on the objects pasted, and ``lam`` follow from it."""
        targets = cast(Targets, (plan.pool or plan.batch).targets)
        counts = torch.tensor(targets.counts, dtype=torch.int64, device=_HOST)
        most = max(targets.counts, default=0)
        drawn = draws.uniform(plan.rows, most, generator=plan.generator) < self.p_object
        # Whose masks to take, and which of them, is for the host to know.
        drawn, mixed, partner = (each.to(_HOST) for each in (drawn, plan.mixed, plan.partner))
        exists = torch.arange(most, device=_HOST) < counts[partner].unsqueeze(1)
        pasted = exists & drawn & mixed.unsqueeze(1)
        return pasted_params(plan, _covered(targets, partner, pasted), pasted=pasted)


def _covered(targets: Targets, partner: Tensor, pasted: Tensor) -> Ragged:
    """Return what the objects pasted cover of each partner; no pixels where there are none."""
    key = targets.keys.masks
    like = None if key is None else targets.like(key)
    nothing = torch.zeros(0, 0, dtype=torch.bool, device=_HOST if like is None else like.device)
    regions = []
    for j, chosen in zip(partner.tolist(), pasted, strict=True):
        rows = chosen.nonzero().flatten()
        if len(rows):
            regions.append(segments.covered(unwrap(targets.given[j][key]), rows))
        else:
            regions.append(nothing)
    return Ragged(regions)
