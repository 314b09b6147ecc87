"""What the mixers share: settings, and the way from a batch to a mixed batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mixup_transforms._batch.parse import (
    Batch,
    ImagesGetter,
    LabelsGetter,
    check_images_getter,
    check_labels_getter,
    unwrap,
)
from mixup_transforms._core import checks, draws, kernels, shares, streams
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.memory import moved
from mixup_transforms._core.ragged import AnyImages, Images, Ragged, Sizes, largest, lengths, sizes
from mixup_transforms._core.regions import NOWHERE, Size, View, intersection
from mixup_transforms._core.seeded import Seeded
from mixup_transforms._core.settings import Copied, Followed
from mixup_transforms._mixers.entry import (
    Remembered,
    checked_params,
    entered,
    entered_between,
    intake,
)
from mixup_transforms._mixers.mixing import mixed, unmixed
from mixup_transforms._mixers.pairing import Pairing, check_pairing, paired
from mixup_transforms._mixers.pairing import alone as own_partners
from mixup_transforms._mixers.plan import Params, Plan, required


class Mixer(Copied, Seeded):
    """Base of the transforms that mix each sample with a partner.

    A mixer says what it can take, and overrides ``draw``, which draws its geometry; ``apply``,
    which applies params to one image tensor; and ``realise``, which finds ``lam`` in params that
    were given. Its arguments are those of :class:`RandomMixup` but ``alpha`` and ``dominant``.

    Attributes:
        spatial: its geometry lies in the last ``dims`` dimensions, which all images and masks
            share.
        dims: 2 for images, 1 for sequences ``(B, …, T)``, 3 for volumes ``(B, …, D, H, W)``.
        averages: it computes with pixels, so that they have to be numbers.
        blends_masks: it averages masks, which have to be class probabilities then.
        one_size: images in a list have to be of one height and width.
        partners: how many partners a sample has; ``partner`` is ``(B, partners)`` from two on.
        needs_instances: a batch has to have objects with instance masks, or none.
        needs_classes: a batch has to have a semantic mask, of class indices.

    Example:
        >>> import torch
        >>> from mixup_transforms import Mixer, functional
        >>> class Halves(Mixer):
        ...     def draw(self, plan):
        ...         lam = torch.where(plan.mixed, 0.5, 1.0)
        ...         return plan.params(lam=lam)
        ...
        ...     def apply(self, images, params, *, others=None, inplace=False):
        ...         return functional.mixup(
        ...             images, params["partner"], params["lam"], others=others, inplace=inplace
        ...         )
        ...
        ...     def realise(self, params, images):
        ...         return {"lam": params["lam"]}
        >>> Halves(num_classes=2)(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))[0]
        tensor([[0.5000],
                [0.5000]])
    """

    spatial: bool = False
    dims: int = 2
    averages: bool = True
    blends_masks: bool = True
    one_size: bool = True
    partners: int = 1
    needs_instances: bool = False
    needs_classes: bool = False
    num_classes = Checked(checks.class_count)
    per_sample = Checked(checks.flag)
    inplace = Checked(checks.flag)
    images_getter = Checked(check_images_getter)
    labels_getter = Checked(check_labels_getter)
    pairing = Checked(check_pairing)
    p = Followed(
        checks.probability, "The probability of mixing; setting it reaches live DataLoader workers."
    )

    def __init__(
        self,
        *,
        p: float = 1.0,
        num_classes: int | None = None,
        per_sample: bool = True,
        pairing: Pairing | None = None,
        inplace: bool = False,
        generator: torch.Generator | None = None,
        images_getter: ImagesGetter = "default",
        labels_getter: LabelsGetter = "default",
    ) -> None:
        super().__init__(generator=generator)
        self.p = p
        self.num_classes = num_classes
        self.per_sample = per_sample
        self.pairing = pairing
        self.inplace = inplace
        self.images_getter = images_getter
        self.labels_getter = labels_getter
        self._remembered = Remembered()

    @abstractmethod
    def draw(self, plan: Plan) -> Params:
        """Draw the geometry of one batch; touch no pixel."""

    @abstractmethod
    def apply(
        self,
        images: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Apply params to images; ``others`` is the partners' batch, ``images`` by default."""

    def apply_to_masks(
        self,
        masks: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Apply params to segmentation masks."""
        return self.apply(masks, params, others=others, inplace=inplace)

    @abstractmethod
    def realise(self, params: Mapping[str, Any], images: Images) -> Params:
        """Check the geometry that was given for a batch of images, and find ``lam`` in it.

        Where ``one_size`` is false it takes ``others`` by keyword as ``apply`` does, of which it
        may need the sizes.
        """

    def show(self, params: Params, i: int, own: Size, others: Sequence[Size]) -> Sequence[View]:
        """Say where the canvas of sample ``i`` shows itself, then where its partners.

        Itself alone where that is all that it shows. ``own`` is its height and width, ``others``
        are those of all that ``params["partner"]`` points into. Without it a mixer takes no
        objects.
        """
        raise NotImplementedError

    def canvas(self, size: Size) -> Size:
        """Return the height and width of a mixed image, where all images have the same."""
        return size

    def canvases(self, size: Size) -> set[Size]:
        """Return the heights and widths that an image of a stack may come out in."""
        return {self.canvas(size) if self.p else size, size if self.p < 1 else self.canvas(size)}

    def stacks(self, size: Size) -> bool:
        """Whether images of a stacked batch come out in one size."""
        return not self.per_sample or len(self.canvases(size)) == 1

    @property
    def shows(self) -> bool:
        """Whether it says what a canvas shows, and so takes objects."""
        return type(self).show is not Mixer.show

    def make_params(self, flat_inputs: list[Any] | Batch) -> Params:
        """Draw all the randomness of one batch; touch no pixel.

        Args:
            flat_inputs: a batch's leaves. Its images are every ``Image`` and ``Video``, or the
                first other tensor that is neither an index nor token ids. Labels, for a pairing
                that wants them, are the first further tensor that is no mask.

        Returns:
            ``partner``, int64 ``(B,)``; ``lam``, float32 ``(B,)``, the realised own share; and the
            mixer's own geometry. In ``eval()`` mode nothing is drawn and ``lam`` is 1.

        Raises:
            TypeError: for anything but a list of leaves, and images of a dtype that is not mixed.
            ValueError: where there are no images, or of a shape that is not mixed.
        """
        batch = flat_inputs
        if not isinstance(batch, Batch):
            batch = intake(self).accept_images(Batch.of_leaves(flat_inputs))
        # Out of training nothing may be drawn from the stream.
        generator = self.generator if self.training else streams.detached()
        pairing = self.pairing if self.training else None
        partner = paired(batch, pairing, generator, count=self.partners)
        # A batch of one has no partner but itself, which no mixer may show twice.
        off = batch.size == 1
        # Along a cycle nobody else is, and to ask would cost a look at every partner.
        alone = None if pairing is None else own_partners(partner)
        return self._drawn(self.plan(batch, partner, generator, off=off, alone=alone))

    def plan(
        self,
        batch: Batch,
        partner: Tensor,
        generator: torch.Generator | None,
        *,
        off: bool,
        alone: Tensor | None = None,
        pool: Batch | None = None,
        chosen: Tensor | None = None,
    ) -> Plan:
        """Decide who is mixed at all: with ``off`` nobody, whatever ``p``."""
        rows = partner.shape[0] if self.per_sample else min(partner.shape[0], 1)
        p = self.p if self.training and not off else 0.0
        gate = draws.bernoulli(rows, p, generator=generator)
        return Plan(batch, partner, gate, generator, alone, pool, chosen, self.dims)

    def _drawn(self, plan: Plan) -> Params:
        """Draw the geometry, and leave whole who is alone, unless it is for several partners."""
        params = self.draw(plan)
        if plan.alone is None or self.partners > 1:
            return params
        unmixed = self.draw(plan.off())
        return {name: _chosen(plan.alone, unmixed[name], params[name]) for name in params}

    def transform(self, inpt: Tensor, params: Mapping[str, Any]) -> Tensor:
        """Apply params to one image tensor: torchvision's protocol."""
        return self.apply(inpt, checked_params(self, params, inpt), inplace=self.inplace)

    def forward(self, *inputs: Any) -> Any:
        """Mix a batch: ``replay(make_params(…), *inputs)``, or nothing in ``eval()`` mode."""
        if not self.training:
            return unmixed(self, inputs)
        batch, params = entered(self, inputs, self.make_params)
        return self._mix(batch, params)

    def replay(self, params: Mapping[str, Any], *inputs: Any) -> Any:
        """Apply given params to a batch, in ``eval()`` mode too.

        Values on an accelerator are not looked at, so that a CUDA graph can capture it; but for
        objects, a mosaic that changes the size of a stack, and a choice for each sample.

        Args:
            params: what ``make_params`` returned, or the same keys filled by hand.
            *inputs: a batch of the size that the params were made for.

        Returns:
            The batch as the call itself would have returned it.

        Raises:
            ValueError: for missing keys, and for values of a wrong shape or range.
            TypeError: for values of a wrong dtype.
        """

        def given(batch: Batch) -> Params:
            return checked_params(self, params, unwrap(batch.leaves[batch.images[0]]))

        batch, checked = entered(self, inputs, given)
        return self._mix(batch, checked)

    def between(self, inputs: Any, others: Any) -> Any:
        """Mix each sample of a batch with the sample in the same place of a second batch.

        For semi-supervised pairs: labelled with unlabelled, source with target.

        Args:
            inputs: a batch, such as ``(images, labels)``.
            others: a batch of the same form and size, whose samples are the partners. It is never
                written.

        Returns:
            The first batch, mixed. In ``eval()`` mode nothing is mixed.

        Raises:
            ValueError: where the two batches differ in form, size, shapes, dtypes or devices.
        """
        batch, pool, params = entered_between(self, inputs, others)
        return self._mix(batch, params, pool)

    def _mix(self, batch: Batch, params: Params, pool: Batch | None = None) -> Any:
        return mixed(self, batch, params, pool)


def _chosen(rows: Tensor, these: Tensor, others: Tensor) -> Tensor:
    """Return rows of one tensor, and of another where they are false."""
    device = these.device if rows.is_cpu else rows.device
    rows, these, others = (moved(device, each)[0] for each in (rows, these, others))
    return torch.where(rows.view(-1, *[1] * (these.ndim - 1)), these, others)


class BoxMixer(Mixer):
    """Base of the mixers whose geometry is ``box``, int64 ``(B, 4)``: x1, y1, x2, y2.

    A subclass draws the box; the partner shows inside it, cut out at the same place, as far as it
    has pixels there. With ``dims`` 1 or 3 the box is ``(B, 2)``: x1, x2, or ``(B, 6)``: x1, y1, z1,
    x2, y2, z2, with x along the last dimension.

    Example:
        >>> import torch
        >>> from mixup_transforms import BoxMixer, functional
        >>> class TopLeft(BoxMixer):
        ...     def draw(self, plan):
        ...         height, width = plan.size
        ...         box = torch.tensor([0, 0, width // 2, height // 2]) * plan.mixed[:, None]
        ...         return plan.params(lam=functional.box_share(box, height, width), box=box)
        >>> images, labels = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
        >>> TopLeft(num_classes=2)(images, labels)[1]
        tensor([[0.7500, 0.2500],
                [0.2500, 0.7500]])
    """

    spatial, averages, blends_masks = True, False, False

    def apply(
        self,
        images: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Paste the partner's box."""
        return kernels.paste(
            images, params["partner"], params["box"], others=others, inplace=inplace
        )

    def realise(
        self, params: Mapping[str, Any], images: Images, *, others: Images | None = None
    ) -> Params:
        """Take the box as it is given, but for where the partner has no pixels, and its share."""
        box = required(params, "box")
        size, dims = lengths(images, dims=self.dims), self.dims
        checks.boxes(box, batch=len(images), sizes=size)
        partners = lengths(images if others is None else others, params["partner"], dims)
        box = self.reach(box, partners)
        return {"lam": shares.box_share(box, *size), "box": box}

    def reach(self, box: Tensor, partner_sizes: Sizes) -> Tensor:
        """Return what of each box the partner can fill."""
        return draws.clipped(box, partner_sizes)

    def show(self, params: Params, i: int, own: Size, others: Sequence[Size]) -> Sequence[View]:
        """Show the partner inside the box, and the sample around it."""
        box = intersection(tuple(params["box"][i].tolist()), (0, 0, *own[::-1]))
        if box == NOWHERE:
            return [View.whole(i, own)]
        around, partner = replace(View.whole(i, own), inner=box), int(params["partner"][i])
        return [around, View(partner, others[partner], own, box)]


class MaskMixer(Mixer):
    """Base of the mixers whose geometry is ``mask``, bool ``(B, H, W)``, true for own pixels.

    A subclass draws the mask; the partner shows where it is false. With ``dims`` 1 or 3 the mask is
    ``(B, T)`` or ``(B, D, H, W)``.

    Example:
        >>> import torch
        >>> from mixup_transforms import MaskMixer, functional
        >>> class Chequered(MaskMixer):
        ...     def draw(self, plan):
        ...         height, width = plan.size
        ...         even = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == 0
        ...         mask = even | ~plan.mixed[:, None, None]
        ...         return plan.params(lam=functional.mask_share(mask), mask=mask)
        >>> images, labels = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
        >>> Chequered(num_classes=2)(images, labels)[1]
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
    """

    spatial, averages, blends_masks = True, False, False

    def apply(
        self,
        images: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Show the partner where the mask is false."""
        return kernels.select(
            images, params["partner"], params["mask"], others=others, inplace=inplace
        )

    def realise(
        self, params: Mapping[str, Any], images: Images, *, others: Images | None = None
    ) -> Params:
        """Take the mask as it is given, true where the partner has no pixels, and its mean."""
        mask, pool = required(params, "mask"), images if others is None else others
        # Masks of images of different sizes lie in the top left of one tensor.
        checks.mask(mask, batch=len(images), size=largest(pool, self.dims))
        if isinstance(images, Ragged) and not self.one_size:
            mask = shares.within(mask, sizes(pool)[params["partner"].cpu().numpy()])
        of_each = sizes(images) if isinstance(images, Ragged) else None
        return {"lam": shares.mask_share(mask, of_each), "mask": mask}

    def show(self, params: Params, i: int, own: Size, others: Sequence[Size]) -> Sequence[View]:
        """Show the sample where the mask is true, and its partner elsewhere."""
        mask, whole = params["mask"][i, : own[0], : own[1]], View.whole(i, own)
        if mask.all():
            return [whole]
        partner = int(params["partner"][i])
        reach = intersection(whole.outer, (0, 0, *others[partner][::-1]))
        shown = View(partner, others[partner], own, reach, weights=~mask)
        return [replace(whole, weights=mask), shown]
