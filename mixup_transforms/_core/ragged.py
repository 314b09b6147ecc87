"""Images of one batch that may differ in height and width, mixed one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np  # comes with torchvision
import torch
from torch import Tensor

from mixup_transforms._core.arithmetic import blended, uncast, working_dtype
from mixup_transforms._core.memory import moved, where


@dataclass(frozen=True)
class Ragged:
    """The images of a batch, each ``(…, H, W)``, of one dtype and device."""

    samples: list[Tensor]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.samples)

    def __getitem__(self, rows: slice) -> Ragged:
        return Ragged(self.samples[rows])

    @property
    def dtype(self) -> torch.dtype:
        """What all samples have; that of a float where there are none."""
        return self.samples[0].dtype if self.samples else torch.float32

    @property
    def device(self) -> torch.device:
        """Where all samples are; the host where there are none."""
        return self.samples[0].device if self.samples else torch.device("cpu")

    def each(self, change: Callable[[Tensor], Tensor]) -> Ragged:
        """Apply a function to all samples."""
        return Ragged([*map(change, self.samples)])

    def take(self, rows: Sequence[int]) -> Ragged:
        """Return some of the samples, which are not copied."""
        return Ragged([self.samples[i] for i in rows])


Images = Tensor | Ragged
AnyImages = TypeVar("AnyImages", Tensor, Ragged)


def sizes(images: Images) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the height and width of each image, ``(B, 2)``."""
    if isinstance(images, Tensor):
        return np.tile(np.array(images.shape[-2:], dtype=np.int64), (len(images), 1))
    pairs = [image.shape[-2:] for image in images]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def cloned(images: AnyImages) -> AnyImages:
    """Return a copy of images."""
    if isinstance(images, Ragged):
        return images.each(torch.clone)
    return images.clone()


def largest(images: Images, dims: int = 2) -> tuple[int, ...]:
    """Return the height and width that all images fit into; one pixel where there are none.

    Of a tensor they are its last two dimensions, or as many as ``dims``.
    """
    if isinstance(images, Tensor):
        return tuple(images.shape[-dims:])
    height, width = sizes(images).max(0).tolist() if len(images) else (1, 1)
    return height, width


# Heights and widths: two numbers where all images have them, else two arrays (B,). Of sequences the
# length, of volumes the depth too.
Sizes = tuple[Any, ...]


def lengths(images: Images, rows: Tensor | None = None, dims: int = 2) -> Sizes:
    """Return the heights and widths of images, or of those that ``rows`` ``(B, …)`` point to.

    Of a tensor they are its last two dimensions, or as many as ``dims``.
    """
    if isinstance(images, Tensor):
        return tuple(images.shape[-dims:])
    table = sizes(images)
    chosen = table if rows is None else table[rows.cpu().numpy()]
    return chosen[..., 0], chosen[..., 1]


# paint(i, own, other, out) returns the mix of sample i, in out, which is own, where that is given
# and has the canvas's size.
_Paint = Callable[[int, Tensor, Tensor, Tensor | None], Tensor]


def blend(
    images: Ragged, partner: Tensor, lam: Tensor, *, others: Ragged | None, inplace: bool
) -> Ragged:
    """Weigh each image by ``lam``, and its partner by the rest; see :func:`_blended`."""
    lams = lam.tolist()

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor | None) -> Tensor:
        mixed = _blended(own, other, lams[i])
        if out is not None and mixed.shape == out.shape:
            return out if mixed is own else out.copy_(mixed)
        return mixed.clone() if mixed is own or mixed is other else mixed

    return _painted(images, partner, paint, others, inplace=inplace)


def paste(
    images: Ragged,
    partner: Tensor,
    box: Tensor,
    shown: Callable[[int, Tensor, list[int]], Tensor],
    *,
    others: Ragged | None,
    inplace: bool,
) -> Ragged:
    """Show inside the box what ``shown(i, partner's image, box)`` returns."""
    boxes = box.tolist()

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor | None) -> Tensor:
        x1, y1, x2, y2 = boxes[i]
        canvas = own.clone() if out is None else out
        if x1 < x2 and y1 < y2 and canvas.numel():
            canvas[..., y1:y2, x1:x2] = shown(i, other, boxes[i])
        return canvas

    return _painted(images, partner, paint, others, inplace=inplace)


def select(
    images: Ragged, partner: Tensor, mask: Tensor, *, others: Ragged | None, inplace: bool
) -> Ragged:
    """Show the partner, where it has pixels, where the mask ``(B, ≥H, ≥W)`` is false."""
    (masks,) = moved(images.device, mask)

    def paint(i: int, own: Tensor, other: Tensor, out: Tensor | None) -> Tensor:
        height, width = (min(pair) for pair in zip(own.shape[-2:], other.shape[-2:], strict=True))
        both = (..., slice(height), slice(width))
        canvas = own.clone() if out is None else out
        canvas[both] = where(masks[i, :height, :width], own[both], other[both])
        return canvas

    return _painted(images, partner, paint, others, inplace=inplace)


def _painted(
    own: Ragged, partner: Tensor, paint: _Paint, others: Ragged | None, *, inplace: bool
) -> Ragged:
    """Paint image by image; in place each still sees its partner's original pixels."""
    rows = partner.tolist()
    with uncast(own.device.type):
        if not inplace or others is not None:
            pool = own.samples if others is None else others.samples
            pairs = enumerate(zip(own, rows, strict=True))
            return Ragged([paint(i, x, pool[j], x if inplace else None) for i, (x, j) in pairs])
        mixed, originals, waiting = own.samples.copy(), own.samples.copy(), Counter(rows)
        for i in along(rows):
            waiting[rows[i]] -= 1
            other = originals[rows[i]]
            if waiting[i]:
                originals[i] = own.samples[i].clone()
            mixed[i] = paint(i, own.samples[i], other, own.samples[i])
        return Ragged(mixed)


def along(partner: list[int]) -> Iterator[int]:
    """Walk each sample before its partner where that can be, so that few have to be copied."""
    seen: set[int] = set()
    for start in range(len(partner)):
        i = start
        while i not in seen:
            seen.add(i)
            yield i
            i = partner[i]


def _blended(own: Tensor, other: Tensor, lam: float) -> Tensor:
    """Blend two images on a canvas that holds both, top left; one alone has all the weight."""
    if lam == 1:
        return own
    if own.shape == other.shape:
        return _lerp(own, other, lam)
    height, width = (max(pair) for pair in zip(own.shape[-2:], other.shape[-2:], strict=True))
    low, narrow = (min(pair) for pair in zip(own.shape[-2:], other.shape[-2:], strict=True))
    canvas = own.new_zeros(*own.shape[:-2], height, width)
    for image in (own, other):
        canvas[..., : image.shape[-2], : image.shape[-1]] = image
    canvas[..., :low, :narrow] = _lerp(own[..., :low, :narrow], other[..., :low, :narrow], lam)
    return canvas


def _lerp(own: Tensor, other: Tensor, lam: float) -> Tensor:
    if lam == 0:
        return other
    dtype = working_dtype(own.dtype)
    mixed = torch.lerp(other.to(dtype), own.to(dtype), lam)
    return blended(own, other, mixed).to(own.dtype)
