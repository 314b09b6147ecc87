"""One of several mixers for each batch, or for each sample."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mixup_transforms._batch.parse import Batch
from mixup_transforms._core import checks, draws, streams
from mixup_transforms._core.memory import moved, take, together
from mixup_transforms._core.ragged import AnyImages, Images, Ragged
from mixup_transforms._core.regions import Size, View
from mixup_transforms._core.seeded import show, uncompiled
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._mixers.chosen import apply_each, first_partners, params_of
from mixup_transforms._mixers.plan import Params, Plan, required

# What has to be one and the same, since a batch has one set of labels and one place to go.
_SHARED = ("num_classes", "pairing", "inplace", "images_getter", "labels_getter")

# What a batch has to be as soon as one of the mixers asks for it.
_KINDS = ("spatial", "averages", "blends_masks", "one_size", "needs_instances", "needs_classes")

# Where a choice is read, to know which kernels to run.
_HOST = torch.device("cpu")


class RandomChoice(Mixer):
    """Apply one of several mixers, drawn anew for each batch or for each sample.

    Unlike ``v2.RandomChoice`` it draws from a generator, and can choose for each sample: every
    sample is then mixed with its partner's original pixels, whichever mixer the partner got. Under
    ``torch.compile`` it runs as it is, since which kernels run is only known when it has drawn.

    Args:
        transforms: mixers that share ``num_classes``, ``pairing``, ``inplace``, ``images_getter``
            and ``labels_getter``.
        weights: a number of at least 0 for each of them; equal by default.
        p: the probability that a sample (or a batch, with ``per_sample=False``) is given to a mixer
            at all, whose own ``p`` then decides.
        per_sample: choose for each sample instead of for each batch.
        generator: where all randomness comes from, that of mixers without a generator of their
            own included; ``None`` for torch's global stream. Each batch takes the same amount from
            it, whichever mixer is chosen.

    Shape:
        What all of the mixers take.

    Raises:
        TypeError: for transforms that are not mixers, or choices themselves.
        ValueError: for no transforms, weights of another number, negative or all zero, and
            mixers that do not share their settings, or cut in different ``dims``.

    Example:
        >>> import torch
        >>> from mixup_transforms import RandomChoice, RandomCutMix, RandomMixup
        >>> mix = RandomChoice(
        ...     [RandomMixup(alpha=0.2, num_classes=10), RandomCutMix(num_classes=10)],
        ...     weights=[0.25, 0.75],
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> images, labels = mix(torch.rand(8, 3, 32, 32), torch.arange(8))
        >>> images.shape, labels.shape
        (torch.Size([8, 3, 32, 32]), torch.Size([8, 10]))
    """

    def __init__(
        self,
        transforms: Sequence[Mixer],
        *,
        weights: Sequence[float] | None = None,
        p: float = 1.0,
        per_sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        if isinstance(p, Sequence):
            raise TypeError(f"p must be a number, the gate of all; give weights={p!r} to choose by")
        mixers = _checked_mixers(transforms)
        first = mixers[0]
        super().__init__(
            p=p,
            num_classes=first.num_classes,
            per_sample=per_sample,
            pairing=first.pairing,
            inplace=first.inplace,
            generator=generator,
            images_getter=first.images_getter,
            labels_getter=first.labels_getter,
        )
        self.transforms = nn.ModuleList(mixers)
        self.weights = weights
        for kind in _KINDS:
            setattr(self, kind, any(getattr(mixer, kind) for mixer in mixers))
        self.dims = next((mixer.dims for mixer in mixers if mixer.spatial), 2)
        self.partners = max(mixer.partners for mixer in mixers)

    @property
    def weights(self) -> list[float]:
        """The chance of each mixer, scaled to sum to 1."""
        return self._weights

    @weights.setter
    def weights(self, weights: Sequence[float] | None) -> None:
        self._weights = _scaled(weights, len(self.transforms))

    @property
    def _mixers(self) -> list[Mixer]:
        return [*self.transforms]

    def extra_repr(self) -> str:
        """Show the settings; the mixers follow as submodules."""
        weights = [round(weight, 4) for weight in self.weights]
        return (
            f"weights={weights}, p={self.p}, per_sample={self.per_sample}, "
            f"generator={show(self.generator)}"
        )

    def draw(self, plan: Plan) -> Params:
        """Draw ``choice``, the index of each sample's mixer, and that mixer's geometry."""
        batch = len(plan.partner)
        choice = draws.choice(plan.rows, self.weights, generator=plan.generator)
        choice = choice.expand(batch).contiguous()
        mixed = plan.mixed.expand(batch)
        # Whether a sample is alone may be known on a device only, to which its params then go.
        device = choice.device if plan.alone is None else plan.alone.device
        lam = torch.ones(batch, dtype=torch.float32, device=device)
        params: Params = {"choice": choice, "lam": lam}
        for k, mixer in enumerate(self._mixers):
            theirs = mixer.generator if self.training else None
            # Every mixer takes its one number from the stream, chosen or not.
            generator = streams.fork(plan.generator if theirs is None else theirs)
            for gate in (True, False):
                rows = ((choice == k) & (mixed == gate)).nonzero().flatten()
                if len(rows):
                    partner = first_partners(take(plan.partner, rows), mixer.partners)
                    alone = None if plan.alone is None else take(plan.alone, rows)
                    own = mixer.plan(
                        plan.batch,
                        partner,
                        generator,
                        off=not gate,
                        alone=alone,
                        pool=plan.pool,
                        chosen=rows.cpu(),
                    )
                    drawn = mixer._drawn(own)
                    del drawn["partner"]  # of which mixers have different numbers
                    _scatter(drawn, rows, into=params)
        return {**params, "partner": plan.partner, **self._shares(params)}

    def _shares(self, params: Params) -> Params:
        """Return the shares of all parents, where some mixer has more than two."""
        if self.partners == 1:
            return {}
        many = [k for k, mixer in enumerate(self._mixers) if mixer.partners > 1]
        rows = torch.isin(params["choice"], torch.tensor(many, device="cpu"))
        if "share" in params and rows.all():
            return {"share": params["share"]}
        lam = params["lam"].unsqueeze(1)
        none = lam.new_zeros(len(lam), self.partners - 1)
        share = torch.cat((lam, 1 - lam, none), 1)
        if "share" in params:
            (rows,) = moved(share.device, rows)
            share = torch.where(rows.unsqueeze(1), params["share"], share)
        return {"share": share}

    def _drawn(self, plan: Plan) -> Params:
        return self.draw(plan)  # in which each mixer leaves whole who is alone

    def apply(
        self,
        images: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Apply each sample's mixer to it."""
        applies = [mixer.apply for mixer in self._mixers]
        return apply_each(self._mixers, applies, images, params, others, inplace=inplace)

    def apply_to_masks(
        self,
        masks: AnyImages,
        params: Params,
        *,
        others: AnyImages | None = None,
        inplace: bool = False,
    ) -> AnyImages:
        """Apply each sample's mixer to its mask."""
        applies = [mixer.apply_to_masks for mixer in self._mixers]
        return apply_each(self._mixers, applies, masks, params, others, inplace=inplace)

    def realise(
        self, params: Mapping[str, Any], images: Images, *, others: Images | None = None
    ) -> Params:
        """Take the choice as it is given, and ``lam`` from each mixer's geometry."""
        choice = checks.tensor("choice", required(params, "choice"))
        if not choice.is_meta:
            (choice,) = moved(_HOST, choice)
        checks.choice(choice, batch=len(images), count=len(self.transforms))
        _check_rows(params, len(choice))
        geometry = {name: value for name, value in params.items() if name != "choice"}
        geometry = dict(zip(geometry, together(images.device, *geometry.values()), strict=True))
        # Of which each mixer writes its rows, and together they write all.
        lam = torch.empty(len(choice), dtype=torch.float32, device=geometry["partner"].device)
        realised: Params = {"choice": choice.long(), "lam": lam}
        for k, mixer in enumerate(self._mixers):
            rows = (choice == k).nonzero().flatten()
            if len(rows):
                own = params_of(mixer, geometry, rows)
                _scatter(_realised(mixer, own, images, rows), rows, into=realised)
        return {**realised, **self._shares(realised)}

    def show(self, params: Params, i: int, own: Size, others: Sequence[Size]) -> Sequence[View]:
        """Show what the sample's mixer shows."""
        mixer = self._mixers[int(params["choice"][i])]
        partner = first_partners(params["partner"], mixer.partners)
        return mixer.show({**params, "partner": partner}, i, own, others)

    @property
    def shows(self) -> bool:
        """Whether all of the mixers say what a canvas shows."""
        return all(mixer.shows for mixer in self._mixers)

    def canvases(self, size: Size) -> set[Size]:
        """Return the sizes that an image may come out in: those of all mixers."""
        if not self.p:
            return {size}
        mixed = set().union(*(mixer.canvases(size) for mixer in self._mixers))
        return mixed if self.p == 1 else {size, *mixed}

    def stacks(self, size: Size) -> bool:
        """Whether images of a stacked batch come out in one size, whichever mixer is chosen."""
        if self.per_sample:
            return len(self.canvases(size)) == 1
        return all(mixer.stacks(size) for mixer in self._mixers)

    @uncompiled
    def _mix(self, batch: Batch, params: Params, pool: Batch | None = None) -> Any:
        return super()._mix(batch, params, pool)


def _check_rows(params: Mapping[str, Any], batch: int) -> None:
    """Refuse params that do not have values for each sample."""
    for name, value in params.items():
        if checks.tensor(name, value).shape[:1] != (batch,):
            raise ValueError(
                f"{name} must have one row for each of {batch} samples, "
                f"got shape {tuple(value.shape)}"
            )
        if value.is_meta:
            raise ValueError(f"{name} must hold values, got a meta tensor")


def _realised(mixer: Mixer, params: Params, images: Images, rows: Tensor) -> Params:
    if isinstance(images, Ragged):
        chosen = images.take(rows.tolist())
        # Where sizes differ, those of the partners matter too, to mixers that show a part of them.
        asks = "others" in inspect.signature(mixer.realise).parameters
        return mixer.realise(params, chosen, **{"others": images} if asks else {})
    return mixer.realise(params, images[: len(rows)])


def _scatter(rows_of: Params, rows: Tensor, *, into: Params) -> None:
    """Write params of some samples into those of the whole batch."""
    if len(rows) == len(into["choice"]):
        into.update(rows_of)
        return
    for name, value in rows_of.items():
        whole = into.setdefault(name, value.new_zeros(len(into["choice"]), *value.shape[1:]))
        if whole.is_cpu:  # what one mixer found on a device, nobody should wait for
            (into[name],) = (whole,) = moved(value.device, whole)
        places, value = moved(whole.device, rows, value)
        whole[places] = value


def _checked_mixers(transforms: object) -> list[Mixer]:
    if not isinstance(transforms, Sequence):
        raise TypeError(f"transforms must be a list of mixers, got {type(transforms).__name__}")
    for transform in transforms:
        if not isinstance(transform, Mixer) or isinstance(transform, RandomChoice):
            raise TypeError(
                "transforms must be mixers such as RandomMixup, and no RandomChoice, "
                f"got {type(transform).__name__}"
            )
    if not transforms:
        raise ValueError("transforms must hold at least one mixer, got none")
    for name in _SHARED:
        values = [getattr(mixer, name) for mixer in transforms]
        if any(value != values[0] for value in values):
            raise ValueError(f"transforms must share one {name}, got {values}")
    if len({mixer.dims for mixer in transforms if mixer.spatial}) > 1:
        raise ValueError(
            f"transforms must cut in the same dimensions, got {_dims_of(transforms)}; give all of "
            "them the same dims, which RandomCutMix and RandomFMix take"
        )
    by_class = next((mixer for mixer in transforms if mixer.needs_classes), None)
    blends = next((mixer for mixer in transforms if mixer.blends_masks), None)
    if by_class is not None and blends is not None:
        raise ValueError(
            f"transforms must take masks of one kind, but {type(by_class).__name__} takes class "
            f"indices and {type(blends).__name__} averages masks of class probabilities; "
            "choose among mixers that cut and paste, such as RandomCutMix"
        )
    return [*transforms]


def _dims_of(mixers: Sequence[Mixer]) -> str:
    """Say how many dimensions each mixer cuts in."""
    return checks.listed(
        [f"dims={each.dims} of {type(each).__name__}" for each in mixers if each.spatial]
    )


def _scaled(weights: object, count: int) -> list[float]:
    if weights is None:
        return [1 / count] * count
    if not isinstance(weights, Sequence) or isinstance(weights, str):
        raise TypeError(f"weights must be a list of numbers, got {weights!r}")
    numbers = [checks.real("weights", weight) for weight in weights]
    if len(numbers) != count:
        raise ValueError(f"weights must hold one for each of {count} transforms, got {weights!r}")
    if min(numbers) < 0 or max(numbers) == 0:
        raise ValueError(f"weights must be at least 0 and not all 0, got {weights!r}")
    # By the largest first, since a sum of large numbers may overflow.
    largest = max(numbers)
    shares = [number / largest for number in numbers]
    return [share / sum(shares) for share in shares]
