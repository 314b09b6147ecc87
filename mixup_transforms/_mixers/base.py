"""What the mixers share: settings, and the way from a batch to a mixed batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors

from mixup_transforms import functional
from mixup_transforms._batch.labels import (
    LabelMixture,
    Labels,
    check_mixture,
    mix_mixtures,
    tensors,
)
from mixup_transforms._batch.parse import (
    Batch,
    LabelsGetter,
    check_dims,
    check_labels_getter,
    is_pure_tensor,
    no_images,
    no_labels,
    positions_of_images,
    rewrap,
    unwrap,
)
from mixup_transforms._core import checks, classes, draws, streams
from mixup_transforms._core.seeded import Seeded, uncompiled
from mixup_transforms._core.unstacked import Unstacked

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """What every mixer draws, and what it needs to draw its own geometry.

    Attributes:
        images: the first images of the batch.
        partner: int64 ``(B,)``.
        mixed: bool ``(rows,)``, false where ``p`` gated a sample off.
        generator: where the geometry is drawn from.
    """

    images: Tensor
    partner: Tensor
    mixed: Tensor
    generator: torch.Generator | None

    @property
    def rows(self) -> int:
        """How many rows to draw: one for each sample, or one for the batch."""
        return len(self.mixed)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.images.shape[-2:]
        return height, width

    def draw_lam(self, alpha: float) -> Tensor:
        """Draw λ ~ Beta(α, α) for each row, and 1 where it is gated off."""
        lam = draws.symmetric_beta(self.rows, alpha, generator=self.generator)
        return lam.masked_fill_(~self.mixed, 1.0)

    def params(self, *, lam: Tensor, **geometry: Tensor) -> Params:
        """Collect params, with one row for each sample of the batch."""
        batch = len(self.partner)
        drawn = {"lam": lam.float(), **geometry}
        if self.rows != batch:
            drawn = {k: v.expand(batch, *v.shape[1:]).contiguous() for k, v in drawn.items()}
        return {"partner": self.partner, **drawn}


class Mixer(Seeded):
    """Base of the transforms that mix each sample with a partner.

    A mixer overrides ``draw``, which draws its geometry; ``apply``, which applies params to one
    image tensor; and ``realise``, which finds ``lam`` in params that were given.
    """

    def __init__(
        self,
        *,
        p: float,
        num_classes: int | None,
        per_sample: bool,
        inplace: bool,
        generator: torch.Generator | None,
        labels_getter: LabelsGetter,
    ) -> None:
        super().__init__(generator=generator)
        # In shared memory, so that a change reaches the live workers of a DataLoader.
        self._p = torch.tensor(checks.probability("p", p), dtype=torch.float64, device="cpu")
        if not torch.compiler.is_compiling():
            self._p.share_memory_()  # type: ignore[no-untyped-call]
        self.num_classes = (
            None if num_classes is None else checks.integer("num_classes", num_classes, minimum=1)
        )
        self.per_sample = checks.flag("per_sample", per_sample)
        self.inplace = checks.flag("inplace", inplace)
        self.labels_getter = check_labels_getter(labels_getter)

    @property
    def p(self) -> float:
        """The probability of mixing; setting it reaches live DataLoader workers too."""
        return float(self._p)

    @p.setter
    def p(self, value: float) -> None:
        self._p.fill_(checks.probability("p", value))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # A copy comes unshared.
        self._p.share_memory_()  # type: ignore[no-untyped-call]

    @abstractmethod
    def draw(self, plan: Plan) -> Params:
        """Draw the geometry of one batch; touch no pixel."""

    @abstractmethod
    def apply(
        self, images: Tensor, params: Params, *, others: Tensor | None = None, inplace: bool = False
    ) -> Tensor:
        """Apply params to images; ``others`` is the partners' batch, ``images`` by default."""

    def apply_to_masks(
        self, masks: Tensor, params: Params, *, others: Tensor | None = None, inplace: bool = False
    ) -> Tensor:
        """Apply params to segmentation masks."""
        return self.apply(masks, params, others=others, inplace=inplace)

    @abstractmethod
    def realise(self, params: Mapping[str, Any], images: Tensor) -> Params:
        """Check the geometry that was given for a batch of images, and find ``lam`` in it."""

    def make_params(self, flat_inputs: list[Any]) -> Params:
        """Draw all the randomness of one batch; touch no pixel.

        Args:
            flat_inputs: a batch's leaves. Its images are every ``Image`` and ``Video``, or the
                first pure tensor where there is none.

        Returns:
            ``partner``, int64 ``(B,)``; ``lam``, float32 ``(B,)``, the realised own share; and the
            mixer's own geometry. In ``eval()`` mode nothing is drawn and ``lam`` is 1.
        """
        if not isinstance(flat_inputs, list | tuple):
            raise TypeError(
                f"flat_inputs must be a list of leaves, got {type(flat_inputs).__name__}"
            )
        found = positions_of_images(flat_inputs)
        found = found or [i for i, leaf in enumerate(flat_inputs) if is_pure_tensor(leaf)]
        if not found:
            raise no_images(flat_inputs)
        images = flat_inputs[found[0]]
        self._check_images("images", images)
        generator = self._training_generator
        partner = draws.cycle(len(images), generator=generator)
        # A batch of one has no partner but itself, which no mixer may show twice.
        off = len(images) == 1
        return self.draw(self.plan(unwrap(images), partner, generator, off=off))

    def plan(
        self, images: Tensor, partner: Tensor, generator: torch.Generator | None, *, off: bool
    ) -> Plan:
        """Decide who is mixed at all: with ``off`` nobody, whatever ``p``."""
        rows = len(partner) if self.per_sample else min(len(partner), 1)
        p = self.p if self.training and not off else 0.0
        mixed = draws.bernoulli(rows, p, generator=generator)
        return Plan(images, partner, mixed, generator)

    @property
    def _training_generator(self) -> torch.Generator | None:
        # Out of training nothing may be drawn from the stream.
        return self.generator if self.training else streams.detached()

    def transform(self, inpt: Tensor, params: Params) -> Tensor:
        """Apply params to one image tensor: torchvision's protocol."""
        return self.apply(inpt, params, inplace=self.inplace)

    def forward(self, *inputs: Any) -> Any:
        """Mix a batch: ``replay(make_params(…), *inputs)``, or nothing in ``eval()`` mode."""
        if not self.training:
            batch = self._checked_batch(inputs)
            return batch.finish({i: self._soft(batch.leaves[i]) for i in batch.labels})
        batch, params = self._with_params(inputs, self._drawn)
        return self._mix(batch, params)

    def replay(self, params: Mapping[str, Any], *inputs: Any) -> Any:
        """Apply given params to a batch, in ``eval()`` mode too.

        Args:
            params: what ``make_params`` returned, or the same keys filled by hand.
            *inputs: a batch of the size that the params were made for.

        Returns:
            The batch as the call itself would have returned it.

        Raises:
            ValueError: for missing keys, and for values of a wrong shape or range.
            TypeError: for values of a wrong dtype.
        """
        batch, checked = self._with_params(inputs, partial(self._checked_params, params))
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
            ValueError: where the two batches differ in form, size, shapes or dtypes.
        """
        batch, pool, params = self._drawn_between(inputs, others)
        return self._mix(batch, params, pool)

    @uncompiled
    def _with_params(
        self, inputs: tuple[Any, ...], find_params: Callable[[Batch], Params]
    ) -> tuple[Batch, Params]:
        batch = self._checked_batch(inputs)
        return batch, find_params(batch)

    @uncompiled
    def _drawn_between(self, inputs: Any, others: Any) -> tuple[Batch, Batch, Params]:
        batch, pool = self._checked_batch((inputs,)), self._checked_batch((others,))
        if batch.spec != pool.spec or batch.parts != pool.parts:
            raise ValueError("the two batches must have the same form")
        if self.inplace:
            _check_apart([*batch.written.values(), *pool.written.values()])
        for i in batch.parts:
            own, other = tensors(batch.leaves[i]), tensors(pool.leaves[i])
            if [(t.shape, t.dtype) for t in own] != [(t.shape, t.dtype) for t in other]:
                raise ValueError(
                    f"item {i} of the two batches must have the same shape and dtype, got "
                    f"{' and '.join(map(checks.describe, (own[0], other[0])))}"
                )
        images = unwrap(batch.leaves[batch.images[0]])
        partner = torch.arange(len(images), device="cpu")
        plan = self.plan(images, partner, self._training_generator, off=False)
        return batch, pool, self.draw(plan)

    def _drawn(self, batch: Batch) -> Params:
        return self.make_params([batch.leaves[i] for i in batch.images])

    def _mix(self, batch: Batch, params: Params, pool: Batch | None = None) -> Any:
        changed: dict[int, Labels] = {}
        for positions, apply in (
            (batch.images, self.apply),
            (batch.masks, self.apply_to_masks),
            (batch.labels, self._mix_labels),
        ):
            for i in positions:
                leaf = batch.leaves[i]
                value = unwrap(leaf)
                others = None if pool is None else unwrap(pool.leaves[i])
                mixed = apply(value, params, others=others, inplace=self.inplace)
                changed[i] = leaf if mixed is value else rewrap(mixed, like=leaf)
        return batch.finish(changed)

    def _mix_labels(
        self, labels: Any, params: Params, *, others: Any | None, inplace: bool
    ) -> Labels:
        partner, lam = params["partner"], params["lam"]
        if isinstance(labels, LabelMixture):
            return mix_mixtures(labels, partner, lam, others=others)
        if labels.is_floating_point():
            return functional.mix_labels(labels, partner, lam, others=others, inplace=inplace)
        assert self.num_classes is not None  # _check_labels has seen to it
        return classes.blend_classes(labels, partner, lam, self.num_classes, others=others)

    def _soft(self, labels: Labels) -> Labels:
        if isinstance(labels, LabelMixture):
            return labels
        if labels.is_floating_point():
            return labels.to(torch.promote_types(labels.dtype, torch.float32))
        assert self.num_classes is not None  # _check_labels has seen to it
        return functional.one_hot(labels, self.num_classes)

    def _checked_batch(self, inputs: tuple[Any, ...]) -> Batch:
        batch = Batch.parse(inputs, self.labels_getter)
        self._check_batch(batch)
        return batch

    def _check_batch(self, batch: Batch) -> None:
        for leaf in batch.leaves:
            if isinstance(leaf, PIL.Image.Image):
                raise TypeError(
                    f"{type(self).__name__} mixes batches of tensors, got a PIL image; convert "
                    "each image with v2.ToImage() and collate them first"
                )
            if isinstance(leaf, tv_tensors.TVTensor) and not isinstance(
                leaf, tv_tensors.Image | tv_tensors.Video | tv_tensors.Mask
            ):
                raise TypeError(
                    f"{type(self).__name__} cannot mix {type(leaf).__name__}; "
                    "take it out of the batch"
                )
        if not batch.images:
            raise no_images(batch.leaves)
        if not batch.has_target and self.labels_getter is not None:
            raise no_labels(batch)
        for i in batch.images:
            self._check_images(f"images (item {i} of the batch)", batch.leaves[i])
        size = len(batch.leaves[batch.images[0]])
        for i in batch.masks:
            self._check_masks(f"masks (item {i} of the batch)", batch.leaves[i])
        for i in batch.labels:
            self._check_labels(f"labels (item {i} of the batch)", batch.leaves[i])
        for i in batch.parts:
            leaf = tensors(batch.leaves[i])[0]
            if len(leaf) != size:
                raise ValueError(
                    "images, masks and labels must have the same batch size, but item "
                    f"{batch.images[0]} of the batch has shape "
                    f"{tuple(batch.leaves[batch.images[0]].shape)} and item {i} has shape "
                    f"{tuple(leaf.shape)}; is it a single sample that was not batched?"
                )
        self._check_sizes(batch)
        if self.inplace:
            for i, leaf in batch.written.items():
                checks.writable(f"item {i} of the batch", leaf)
            _check_apart([*batch.written.values()])

    def _check_images(self, name: str, images: Tensor) -> None:
        checks.mixable(name, images)
        check_dims(name, images)

    def _check_masks(self, name: str, masks: Tensor) -> None:
        checks.batched(name, masks)

    def _check_sizes(self, batch: Batch) -> None:
        """Refuse images and masks whose sizes do not go together; any do here."""

    def _check_labels(self, name: str, labels: Labels) -> None:
        if isinstance(labels, LabelMixture):
            check_mixture(name, labels)
            return
        checks.batched(name, checks.tensor(name, labels))
        got = f"got {checks.describe(labels)}"
        if labels.is_floating_point():
            checks.mixable(name, labels)
            if self.num_classes is not None and labels.shape[1:2] != (self.num_classes,):
                raise ValueError(
                    f"{name} must be class indices or have num_classes={self.num_classes} "
                    f"columns, {got}"
                )
        elif labels.dtype == torch.bool or labels.is_complex():
            raise TypeError(f"{name} must be floating or integer, {got}")
        elif labels.ndim > 1:
            raise ValueError(
                f"{name} must be floating to be mixed, {got}; apply OneHot(num_classes) before "
                f"{type(self).__name__}, wrap a segmentation mask in tv_tensors.Mask, or make "
                "multi-hot labels float"
            )
        elif self.num_classes is None:
            raise ValueError(
                f"{name} must be floating to be mixed, {got}; apply OneHot(num_classes) before "
                f"{type(self).__name__}, or give it num_classes"
            )
        else:
            checks.classes(labels, self.num_classes)

    def _checked_params(self, params: Mapping[str, Any], batch: Batch) -> Params:
        if not isinstance(params, Mapping):
            raise TypeError(f"params must be a dict, got {type(params).__name__}")
        images = batch.leaves[batch.images[0]]
        partner = required(params, "partner")
        checks.partner(partner, batch=len(images), pool=len(images))
        return {"partner": partner.long(), **self.realise(params, unwrap(images))}


class SpatialMixer(Mixer):
    """Base of the mixers whose geometry lies in the last two dimensions, masks included."""

    def _check_images(self, name: str, images: Tensor) -> None:
        self._check_dtype(name, images)
        checks.spatial(name, images)
        check_dims(name, images)

    def _check_masks(self, name: str, masks: Tensor) -> None:
        self._check_images(name, masks)

    def _check_dtype(self, name: str, images: Tensor) -> None:
        checks.tensor(name, images)

    def _check_sizes(self, batch: Batch) -> None:
        sizes = {tuple(batch.leaves[i].shape[-2:]) for i in (*batch.images, *batch.masks)}
        if len(sizes) > 1:
            raise ValueError(
                f"{type(self).__name__} needs images and masks of one height and width, "
                f"got {sorted(sizes)}"
            )


class BoxMixer(SpatialMixer):
    """Base of the mixers whose geometry is ``box``, int64 ``(B, 4)``: x1, y1, x2, y2."""

    def realise(self, params: Mapping[str, Any], images: Tensor) -> Params:
        """Take the box as it is given, and its share for ``lam``."""
        box, size = required(params, "box"), checks.size_of(images)
        checks.box(box, batch=len(images), size=size)
        return {"lam": functional.box_share(box, *size), "box": box}


def required(params: Mapping[str, Any], name: str) -> Any:
    """Return one of the params, or say that it is missing."""
    if name not in params:
        raise ValueError(f"params must have {name!r}, got the keys {sorted(map(str, params))}")
    return params[name]


def _check_apart(leaves: Sequence[Tensor]) -> None:
    """Refuse tensors that share memory, of which one would change while another is read."""
    spans = []
    for leaf in leaves:
        if leaf.numel() and leaf.device.type != "meta" and not isinstance(leaf, Unstacked):
            last = sum((n - 1) * s for n, s in zip(leaf.shape, leaf.stride(), strict=True))
            start = leaf.data_ptr()
            spans.append((str(leaf.device), start, start + last * leaf.element_size()))
    spans.sort()
    for (device, _, end), (next_device, start, _) in pairwise(spans):
        if device == next_device and start <= end:
            raise ValueError(
                "two tensors share memory, so inplace=True would mix one of them twice; "
                "use inplace=False"
            )
