"""The only module that walks a batch: find images and labels, draw, apply, rewrap."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import _checks, functional, sampling

LabelsGetter = Callable[[Any], Any] | str | None
Params = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """A flattened batch, with the positions of the leaves that play a part in it."""

    leaves: list[Any]
    spec: TreeSpec
    images: list[int]
    masks: list[int]
    labels: list[int]
    has_target: bool

    @classmethod
    def parse(cls, inputs: tuple[Any, ...], labels_getter: LabelsGetter) -> Batch:
        """Flatten the arguments of a call and give each leaf its role."""
        if not inputs:
            raise TypeError("expected a batch, such as (images, labels), got no argument")
        tree = inputs if len(inputs) > 1 else inputs[0]
        leaves, spec = tree_flatten(tree)
        masks = [i for i, leaf in enumerate(leaves) if isinstance(leaf, tv_tensors.Mask)]
        pictures = _positions_of_images(leaves)
        targets = _positions_of_labels(leaves, spec, labels_getter)
        labels = [i for i in targets if i not in masks and i not in pictures]
        pure = (i for i, leaf in enumerate(leaves) if is_pure_tensor(leaf) and i not in labels)
        return cls(leaves, spec, pictures or [*pure][:1], masks, labels, bool(targets or masks))

    def rebuild(self, changed: Mapping[int, Any]) -> Any:
        """Return the batch as it came, with the changed leaves in their places."""
        leaves = [changed.get(i, leaf) for i, leaf in enumerate(self.leaves)]
        return tree_unflatten(leaves, self.spec)


def is_pure_tensor(leaf: object) -> bool:
    """Whether a leaf is a tensor that torchvision gives no meaning of its own."""
    return isinstance(leaf, Tensor) and not isinstance(leaf, tv_tensors.TVTensor)


def unwrap(leaf: Tensor) -> Tensor:
    """Return a tensor without its torchvision type, which slows every operation down."""
    return leaf.as_subclass(Tensor) if isinstance(leaf, tv_tensors.TVTensor) else leaf


def rewrap(value: Tensor, *, like: Tensor) -> Tensor:
    """Return a tensor in the torchvision type of another."""
    if not isinstance(like, tv_tensors.TVTensor):
        return value
    wrapped: Tensor = tv_tensors.wrap(value, like=like)
    return wrapped


def check_labels_getter(labels_getter: object) -> LabelsGetter:
    """Refuse what is neither ``"default"``, a key name, a callable nor ``None``."""
    if labels_getter is None or isinstance(labels_getter, str) or callable(labels_getter):
        return labels_getter
    raise TypeError(
        f'labels_getter must be "default", a key name, a callable or None, got {labels_getter!r}'
    )


def settings_repr(transform: torch.nn.Module) -> str:
    """Return the constructor's arguments as the transform holds them."""
    names = inspect.signature(type(transform)).parameters
    return ", ".join(f"{name}={show(getattr(transform, name))}" for name in names)


def show(value: object) -> str:
    """Return a ``repr`` that says of a generator what matters."""
    if isinstance(value, torch.Generator):
        return f"<{value.device} generator, seed {value.initial_seed()}>"
    return repr(value)


def _positions_of_images(leaves: Sequence[Any]) -> list[int]:
    return [
        i for i, leaf in enumerate(leaves) if isinstance(leaf, tv_tensors.Image | tv_tensors.Video)
    ]


def _positions_of_labels(
    leaves: Sequence[Any], spec: TreeSpec, labels_getter: LabelsGetter
) -> list[int]:
    # Rules run on a tree of the same form whose leaves are their own positions, so that a tensor
    # that stands in two places is still told apart.
    positions = tree_unflatten(range(len(leaves)), spec)
    if labels_getter is None:
        found = []
    elif labels_getter == "default":
        found = _default_labels(positions, leaves)
    elif isinstance(labels_getter, str):
        found = [*_under_key(positions, labels_getter)]
        if not found:
            raise ValueError(
                f"labels_getter names the key {labels_getter!r}, which the batch does not have; "
                f"its keys are {sorted(map(str, _keys(positions)))}"
            )
    else:
        found = _chosen_labels(leaves, spec, labels_getter)
    return [i for i in found if isinstance(leaves[i], Tensor)]


def _default_labels(positions: Any, leaves: Sequence[Any]) -> list[int]:
    """Follow torchvision's rule: the second item, or what it or the dict has under a label key."""

    def tensors(tree: Any) -> list[int]:
        return [i for i in tree_leaves(tree) if isinstance(leaves[i], Tensor)]

    if not isinstance(positions, tuple | list | Mapping):
        return []
    if not isinstance(positions, Mapping):
        positions = positions[1] if len(positions) > 1 else []
    if isinstance(positions, Mapping):
        labelled = {k: v for k, v in positions.items() if "label" in str(k).lower() and tensors(v)}
        exact = {k: v for k, v in labelled.items() if str(k).lower() == "labels"}
        candidates = exact or labelled
        if len(candidates) > 1:
            raise ValueError(
                f"the batch has several labels, {sorted(map(str, candidates))}; "
                "choose with labels_getter, a key name or a callable"
            )
        positions = next(iter(candidates.values()), [])
    found = tensors(positions)
    if len(found) > 1:
        raise ValueError(
            f"the batch has {len(found)} tensors where its labels are; "
            "choose with labels_getter, a key name or a callable"
        )
    return found


def _under_key(positions: Any, key: str) -> Iterable[int]:
    if isinstance(positions, Mapping):
        for name, value in positions.items():
            yield from tree_leaves(value) if name == key else _under_key(value, key)
    elif isinstance(positions, tuple | list):
        for value in positions:
            yield from _under_key(value, key)


def _keys(positions: Any) -> Iterable[Any]:
    if isinstance(positions, Mapping):
        yield from positions
        positions = positions.values()
    if isinstance(positions, Iterable):
        for value in positions:
            yield from _keys(value)


def _chosen_labels(
    leaves: Sequence[Any], spec: TreeSpec, labels_getter: Callable[[Any], Any]
) -> list[int]:
    """Ask a callable, on a batch in which no two tensors are the same object."""
    shown: list[Any] = []
    for leaf in leaves:
        repeated = isinstance(leaf, Tensor) and any(leaf is other for other in shown)
        shown.append(rewrap(unwrap(leaf).detach(), like=leaf) if repeated else leaf)
    found = []
    for label in tree_leaves(labels_getter(tree_unflatten(shown, spec))):
        if label is None:
            continue
        place = next((i for i, leaf in enumerate(shown) if leaf is label), None)
        if place is None:
            kind = _checks.describe(label) if isinstance(label, Tensor) else repr(label)
            raise ValueError(
                f"labels_getter returned {kind}, which is not an object of the batch; it must "
                "return the tensor that is in the batch, not a copy or a conversion of it"
            )
        found.append(place)
    return found


class LabelTransform(v2.Transform):
    """Base of the transforms that change labels and nothing else."""

    def __init__(self, *, labels_getter: LabelsGetter) -> None:
        super().__init__()
        self.labels_getter = check_labels_getter(labels_getter)

    def forward(self, *inputs: Any) -> Any:
        """Transform the labels of a batch, or a bare tensor of labels."""
        if len(inputs) == 1 and isinstance(inputs[0], Tensor):
            return self._transformed(inputs[0])
        batch = Batch.parse(inputs, self.labels_getter)
        labels = batch.labels or batch.masks
        if not labels:
            raise _no_labels(batch)
        return batch.rebuild({i: self._transformed(batch.leaves[i]) for i in labels})

    def extra_repr(self) -> str:
        """Show the settings."""
        return settings_repr(self)

    def _transformed(self, leaf: Tensor) -> Tensor:
        return rewrap(self.transform(unwrap(leaf), {}), like=leaf)


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
        lam = sampling.symmetric_beta(self.rows, alpha, generator=self.generator)
        return torch.where(self.mixed, lam, 1.0)

    def params(self, *, lam: Tensor, **geometry: Tensor) -> Params:
        """Collect params, with one row for each sample of the batch."""
        batch = len(self.partner)
        drawn = {"lam": lam.float(), **geometry}
        if self.rows != batch:
            drawn = {k: v.expand(batch, *v.shape[1:]).contiguous() for k, v in drawn.items()}
        return {"partner": self.partner, **drawn}


class Mixer(v2.Transform):
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
        super().__init__()
        self.p = _checks.probability("p", p)
        self.num_classes = (
            None if num_classes is None else _checks.integer("num_classes", num_classes, minimum=1)
        )
        self.per_sample = _checks.flag("per_sample", per_sample)
        self.inplace = _checks.flag("inplace", inplace)
        self._stream = None if generator is None else sampling.Stream.of(generator)
        self.labels_getter = check_labels_getter(labels_getter)

    @property
    def generator(self) -> torch.Generator | None:
        """The generator given; ``None`` for torch's global stream."""
        return None if self._stream is None else self._stream.generator

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
        found = _positions_of_images(flat_inputs)
        found = found or [i for i, leaf in enumerate(flat_inputs) if is_pure_tensor(leaf)][:1]
        if not found:
            raise _no_images(flat_inputs)
        images = flat_inputs[found[0]]
        self._check_images("images", images)
        # Out of training nothing may be drawn from the stream, and nobody is mixed.
        generator = self.generator if self.training else torch.Generator()
        partner = sampling.cycle(len(images), generator=generator)
        return self.draw(self.plan(unwrap(images), partner, generator))

    def plan(self, images: Tensor, partner: Tensor, generator: torch.Generator | None) -> Plan:
        """Decide who is mixed at all."""
        rows = len(partner) if self.per_sample else min(len(partner), 1)
        # A batch of one has no partner but itself, which no mixer may show twice.
        p = self.p if self.training and len(images) > 1 else 0.0
        return Plan(images, partner, sampling.bernoulli(rows, p, generator=generator), generator)

    def transform(self, inpt: Tensor, params: Params) -> Tensor:
        """Apply params to one image tensor: torchvision's protocol."""
        return self.apply(inpt, params, inplace=self.inplace)

    def forward(self, *inputs: Any) -> Any:
        """Mix a batch: ``replay(make_params(…), *inputs)``, or nothing in ``eval()`` mode."""
        batch = self._checked_batch(inputs)
        if not self.training:
            return batch.rebuild({i: self._dense(batch.leaves[i]) for i in batch.labels})
        params = self.make_params([batch.leaves[i] for i in batch.images])
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
        batch = self._checked_batch(inputs)
        return self._mix(batch, self._checked_params(params, batch))

    def extra_repr(self) -> str:
        """Show the settings."""
        return settings_repr(self)

    def get_extra_state(self) -> Tensor | None:
        """Return the generator's state for ``state_dict()``; ``None`` without a generator."""
        return None if self._stream is None else self._stream.get_state()

    def set_extra_state(self, state: Tensor | None) -> None:
        """Go on from a saved state."""
        if (state is None) != (self._stream is None):
            saved, own = (
                "no generator" if missing else "a generator"
                for missing in (state is None, self._stream is None)
            )
            raise ValueError(f"the state was saved with {saved}, but this transform has {own}")
        if self._stream is not None:
            self._stream.set_state(state)

    def _mix(self, batch: Batch, params: Params) -> Any:
        # Labels are read first: one out of range must be found before a pixel is written.
        dense = {i: self._dense(batch.leaves[i]) for i in batch.labels}
        changed: dict[int, Tensor] = {}
        for positions, apply in (
            (batch.images, self.apply),
            (batch.masks, self.apply_to_masks),
        ):
            for i in positions:
                value = unwrap(batch.leaves[i])
                mixed = apply(value, params, inplace=self.inplace)
                written = mixed is value
                changed[i] = batch.leaves[i] if written else rewrap(mixed, like=batch.leaves[i])
        for i, labels in dense.items():
            own = labels is not batch.leaves[i]
            changed[i] = functional.mix_labels(
                labels, params["partner"], params["lam"], inplace=self.inplace or own
            )
        return batch.rebuild(changed)

    def _dense(self, labels: Tensor) -> Tensor:
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
            raise _no_images(batch.leaves)
        if not batch.has_target and self.labels_getter is not None:
            raise _no_labels(batch)
        for i in batch.images:
            self._check_images(f"images (item {i} of the batch)", batch.leaves[i])
        size = len(batch.leaves[batch.images[0]])
        for i in batch.masks:
            self._check_masks(f"masks (item {i} of the batch)", batch.leaves[i])
        for i in batch.labels:
            self._check_labels(f"labels (item {i} of the batch)", batch.leaves[i])
        parts = (*batch.images, *batch.masks, *batch.labels)
        for i in parts:
            if len(batch.leaves[i]) != size:
                raise ValueError(
                    "images, masks and labels must have the same batch size, but item "
                    f"{batch.images[0]} of the batch has shape "
                    f"{tuple(batch.leaves[batch.images[0]].shape)} and item {i} has shape "
                    f"{tuple(batch.leaves[i].shape)}; is it a single sample that was not batched?"
                )
        if self.inplace:
            self._check_writable([batch.leaves[i] for i in parts])

    def _check_images(self, name: str, images: Tensor) -> None:
        functional.check_mixable(name, images)
        check_dims(name, images)

    def _check_masks(self, name: str, masks: Tensor) -> None:
        functional.check_batched(name, masks)

    def _check_labels(self, name: str, labels: Tensor) -> None:
        functional.check_batched(name, labels)
        got = f"got {_checks.describe(labels)}"
        if labels.is_floating_point():
            functional.check_mixable(name, labels)
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
                f"{type(self).__name__}, or make multi-hot labels float"
            )
        elif self.num_classes is None:
            raise ValueError(
                f"{name} must be floating to be mixed, {got}; apply OneHot(num_classes) before "
                f"{type(self).__name__}, or give it num_classes"
            )

    @staticmethod
    def _check_writable(leaves: Sequence[Tensor]) -> None:
        spans = []
        for leaf in leaves:
            functional.check_writable(f"a tensor of shape {tuple(leaf.shape)}", leaf)
            if leaf.numel():
                last = sum((n - 1) * s for n, s in zip(leaf.shape, leaf.stride(), strict=True))
                spans.append((leaf.data_ptr(), leaf.data_ptr() + last * leaf.element_size()))
        spans.sort()
        for (_, end), (start, _) in pairwise(spans):
            if start <= end:
                raise ValueError(
                    "two tensors of the batch share memory, so inplace=True would mix it twice; "
                    "use inplace=False"
                )

    def _checked_params(self, params: Mapping[str, Any], batch: Batch) -> Params:
        if not isinstance(params, Mapping):
            raise TypeError(f"params must be a dict, got {type(params).__name__}")
        images = batch.leaves[batch.images[0]]
        partner = required(params, "partner")
        functional.check_partner(partner, batch=len(images), pool=len(images))
        return {"partner": partner.long(), **self.realise(params, unwrap(images))}


class SpatialMixer(Mixer):
    """Base of the mixers whose geometry lies in the last two dimensions, masks included."""

    def _check_images(self, name: str, images: Tensor) -> None:
        self._check_dtype(name, images)
        functional.check_spatial(name, images)
        check_dims(name, images)

    def _check_masks(self, name: str, masks: Tensor) -> None:
        self._check_images(name, masks)

    def _check_dtype(self, name: str, images: Tensor) -> None:
        _checks.tensor(name, images)

    def _check_batch(self, batch: Batch) -> None:
        super()._check_batch(batch)
        sizes = {tuple(batch.leaves[i].shape[-2:]) for i in (*batch.images, *batch.masks)}
        if len(sizes) > 1:
            raise ValueError(
                f"{type(self).__name__} needs images and masks of one height and width, "
                f"got {sorted(sizes)}"
            )


def required(params: Mapping[str, Any], name: str) -> Any:
    """Return one of the params, or say that it is missing."""
    if name not in params:
        raise ValueError(f"params must have {name!r}, got the keys {sorted(map(str, params))}")
    return params[name]


def check_dims(name: str, images: Tensor) -> None:
    """Refuse an ``Image`` or ``Video`` that is not a batch."""
    dims = {tv_tensors.Image: 4, tv_tensors.Video: 5}.get(type(images), 1)
    if images.ndim < dims:
        raise ValueError(
            f"{name} must be a batch, with at least {dims} dimensions, "
            f"got shape {tuple(images.shape)}"
        )


def _no_images(leaves: Sequence[Any]) -> ValueError:
    return ValueError(
        "no images found to mix: the batch needs a tv_tensors.Image or Video, or a tensor that is "
        f"not the labels, got {_summary(leaves)}"
    )


def _no_labels(batch: Batch) -> ValueError:
    return ValueError(
        "no labels found: give (images, labels), a dict with a key such as 'labels', or a "
        f"labels_getter (None to mix images alone); got {_summary(batch.leaves)}"
    )


def _summary(leaves: Sequence[Any]) -> str:
    kinds = [
        f"{type(leaf).__name__} {tuple(leaf.shape)}"
        if isinstance(leaf, Tensor)
        else type(leaf).__name__
        for leaf in leaves
    ]
    return f"[{', '.join(kinds)}]"
