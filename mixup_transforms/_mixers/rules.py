"""Rules of pairing: by what samples have in common and what not, and by how near they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixup_transforms._batch.compared import Which, check_which, kinds, points, said
from mixup_transforms._core import checks, draws
from mixup_transforms._core.memory import moved

_TINY = 2.0**-1022


@dataclass(frozen=True, kw_only=True)
class MatchedPairing:
    """Pair each sample with one that has the same of one thing, another of a second, or both.

    Same class, other class, and the two rules of LISA: same label and other domain, same domain and
    other label (Yao et al., *Improving Out-of-Distribution Robustness via Selective Augmentation*,
    ICML 2022, arXiv 2201.00299). Of all that fit, each is equally likely; a sample that nobody fits
    stays as it is, with λ = 1, and so does its label. For the ``pairing`` of any mixer.

    Args:
        same: what both have the same of; ``None`` for no such thing.
        other: what both differ in; ``None`` for no such thing. Either is ``"labels"``, the labels
            that the mixer finds; a key of the batch, whatever dicts it lies in; a position in a
            batch that is a tuple or list; or a callable that takes the batch and returns what is
            compared.

    Shape:
        What is compared: integers or bools ``(B,)`` or ``(B, K)``, equal where whole rows are;
        floats ``(B,)`` or ``(B, 1)``, by value; floats ``(B, K)`` from two columns on and a
        :class:`LabelMixture`, by the class of most weight, the lowest of several, where labels
        without any weight are a class of their own; or a list of numbers or strings, one for each
        sample, under one key in each target of a batch of objects too. There ``"labels"`` are
        nobody's: those of the objects are not the image's. Returns int64 ``(B,)``.

    Raises:
        TypeError: for settings of a wrong type, and for what cannot be compared.
        ValueError: where neither is given or both are one, for what the batch does not have, for
            other shapes, and for NaN where it can be read without waiting for a device.

    Example:
        >>> import torch
        >>> from mixup_transforms import MatchedPairing, RandomMixup
        >>> batch = {
        ...     "image": torch.rand(4, 3, 8, 8),
        ...     "label": torch.tensor([0, 1, 0, 1]),
        ...     "domain": ["photo", "photo", "sketch", "photo"],
        ... }
        >>> across_domains = MatchedPairing(same="labels", other="domain")
        >>> mix = RandomMixup(num_classes=2, pairing=across_domains)
        >>> mix(batch)["label"].tolist()  # 0 and 2 are mixed, nobody fits 1 and 3
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """

    same: Which | None = None
    other: Which | None = None

    def __post_init__(self) -> None:
        for name in ("same", "other"):
            if getattr(self, name) is not None:
                check_which(name, getattr(self, name))
        if self.same is None and self.other is None:
            raise ValueError(
                "MatchedPairing must have same, other or both, got neither; where anybody fits, "
                "give the mixer pairing=None"
            )
        if self.same == self.other:
            raise ValueError(
                f"same and other of MatchedPairing must differ, got {self.same!r} for both, which "
                "nobody fits"
            )

    def __call__(self, batch: Any, *, labels: Any, generator: torch.Generator | None) -> Tensor:
        """Return the partner of each sample, its own index where nobody fits."""
        found = {
            name: kinds(said(name, which, of=self), which, batch, labels)
            for name, which in (("same", self.same), ("other", self.other))
            if which is not None
        }
        _check_sizes(*found.values())
        together = _together(generator, *found.values())
        fits = ~_own(together[0])
        for name, rows in zip(found, together, strict=True):
            alike = (rows.unsqueeze(1) == rows).all(2)
            fits &= alike if name == "same" else ~alike
        # Counted in integers, of which no sum is ever rounded.
        return _drawn(fits.cumsum(1, dtype=torch.int32), generator)


@dataclass(frozen=True)
class NearPairing:
    """Pair each sample with one whose label is near: P(j) ∝ exp(−‖yᵢ − yⱼ‖² / 2σ²), j ≠ i.

    C-Mixup, for regression: Yao, Wang, Zhang, Zou, Finn, *C-Mixup: Improving Generalization in
    Regression*, NeurIPS 2022 (arXiv 2210.05775), here among the samples of a batch. For the
    ``pairing`` of any mixer. A batch of one stays as it is.

    Args:
        bandwidth: σ > 0, in the units of the labels. What counts is how the probabilities compare:
            where all others are much farther away than σ, the nearest is taken, or one of several
            that are equally near; where σ is far above all distances, all are equally likely.
        of: what is near or far: ``"labels"``, a key or a position in the batch, or a callable of
            it, as for :class:`MatchedPairing`.

    Shape:
        What is compared: floats, integers or bools ``(B,)`` or ``(B, K)``, as points of K
        coordinates; a :class:`LabelMixture` as its rows of class weights. Class indices are numbers
        too, 2 nearer to 3 than to 7, which suits classes in an order and no others. Returns int64
        ``(B,)``.

    Raises:
        TypeError: for settings of a wrong type, and for what are no numbers.
        ValueError: for a bandwidth of 0 and less, infinite or NaN, for what the batch does not
            have, for other shapes, and for labels that are infinite or NaN where they can be read
            without waiting for a device.

    Example:
        >>> import torch
        >>> from mixup_transforms import NearPairing, RandomMixup
        >>> rows, ages = torch.rand(4, 13), torch.tensor([20.0, 60.0, 22.0, 59.0])
        >>> mix = RandomMixup(pairing=NearPairing(1.0))
        >>> mix.make_params([rows, ages])["partner"]
        tensor([2, 3, 0, 1])
    """

    bandwidth: float
    of: Which = field(default="labels", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", checks.positive("bandwidth", self.bandwidth))
        check_which("of", self.of)

    def __call__(self, batch: Any, *, labels: Any, generator: torch.Generator | None) -> Tensor:
        """Return the partner of each sample, its own index where there is no other."""
        found = points(said("of", self.of, of=self), self.of, batch, labels)
        (rows,) = _together(generator, found)
        return _drawn(self._weights(rows).cumsum(1), generator)

    def _weights(self, rows: Tensor) -> Tensor:
        """Return the probabilities but for a factor in each row, in which the nearest has 1."""
        if len(rows) < 2:
            return rows.new_zeros(len(rows), len(rows))
        # In units in which no square is too large or too small for a number.
        unit = rows.abs().amax().clamp(min=_TINY)
        rows, own = rows / unit, _own(rows)
        apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        apart = apart.masked_fill(own, torch.inf)
        nearest = apart.amin(1, keepdim=True)
        scale = unit / self.bandwidth
        power = (apart - nearest) * scale * ((apart + nearest) * scale) / 2
        # Who is as near as the nearest stays so where the scale is infinite.
        return torch.exp(-power.masked_fill(apart == nearest, 0)).masked_fill(own, 0)


def _check_sizes(first: Tensor, *others: Tensor) -> None:
    for rows in others:
        if len(rows) != len(first):
            raise ValueError(
                "same and other of MatchedPairing must have a row for each sample, "
                f"got {len(first)} and {len(rows)}"
            )


def _together(generator: torch.Generator | None, *rows: Tensor) -> list[Tensor]:
    """Move what is compared to a device if any of it is there, or the generator is."""
    devices = [*(each.device for each in rows), draws.device_of(generator)]
    device = next((device for device in devices if device.type != "cpu"), devices[0])
    return [moved(device, each)[0] for each in rows]


def _own(rows: Tensor) -> Tensor:
    return torch.eye(len(rows), dtype=torch.bool, device=rows.device)


def _drawn(edges: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw partners by weights summed up along each row, oneself where there is none."""
    own = torch.arange(len(edges), device=edges.device)
    if not len(edges):
        return own
    chosen = draws.columns(edges, generator=generator)
    return torch.where(chosen < len(edges), chosen, own)
