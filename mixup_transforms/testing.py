"""The law as a check for anybody's mixer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor

from mixup_transforms._core import checks
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._testing.inside import FROM_INSIDE, combines
from mixup_transforms._testing.law import (
    OwnShare,
    Parts,
    View,
    as_it_is,
    meaning_of,
    own_share_of,
    two,
)
from mixup_transforms._testing.outside import FROM_OUTSIDE
from mixup_transforms._testing.trial import Trial

__all__ = ["check_mixer"]

_DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.uint8, torch.int16),
)
# Those that torch can compare.
_COMPARABLE = (*checks.FLOATS, *checks.INDICES)


def check_mixer(
    mixer: Callable[[Tensor, Tensor], Any],
    *,
    num_classes: int = 10,
    batch_sizes: Sequence[int] = (0, 1, 2, 4, 7),
    shapes: Sequence[tuple[int, ...]] = ((3, 1, 9), (3, 9, 1), (3, 6, 8), (1, 7, 7)),
    dtypes: Sequence[torch.dtype] = _DTYPES,
    trials: int = 2,
    seed: int = 0,
    own_share: Callable[[Mapping[str, Tensor], int, Tensor], Tensor] | None = None,
    view: Callable[[Mapping[str, Tensor], int, Tensor], Tensor] | None = None,
) -> None:
    """Check that a mixer tells the truth: its labels, its pixels, and what it promises besides.

    Of any callable ``(images, labels) → (images, labels)``, whatever library it is from, it checks
    what can be seen from outside. It returns images of the shape and dtype that it was given, float
    labels ``(B, num_classes)`` that sum to 1, and changes nothing that it was given. Of images of
    one colour it makes no other colour; and where one class is black and another is white, each
    label gives the white class the share of white that is in its image.

    A :class:`~mixup_transforms.Mixer` is also held to what its params say: each pixel and each
    label of random batches is the combination of the sample and its partner in float64. A sample
    that ``p`` leaves out comes back bit for bit, and so does everything in ``eval()`` mode and a
    batch of one. All that is random comes from its generator, in an amount that does not depend on
    what is drawn, and none of it depends on the batch before; the call is the replay of its params;
    ``inplace`` changes no result. The mixer itself is not touched: a copy is checked.

    It is for what mixes images and labels and does nothing else: labels that are smoothed or of
    half precision, images that are normalised or change their size are taken for faults, and a
    mixer that needs objects or masks is given none. Of a spatial mixer whose base does not say what
    its params mean, pixels are compared only with ``own_share``.

    Args:
        mixer: an instance of a class derived from :class:`~mixup_transforms.Mixer`, or any
            callable.
        num_classes: of the labels, at least 2. A mixer with an attribute ``num_classes`` gets class
            indices of that many; where that is None, one-hot rows of ``num_classes``. Another
            callable gets class indices.
        batch_sizes: the numbers of samples to try.
        shapes: the shapes of a sample to try, ``(…, H, W)`` for a mixer that is spatial, or as many
            last dimensions as its ``dims``.
        dtypes: the dtypes of images to try, floating or integer.
        trials: how often each case is tried, with a seed of its own.
        seed: the first of them. With a seed, the same images and labels are drawn, from the same
            state of the global streams of torch, Python and NumPy and of the mixer's generator.
        own_share: what params mean, where the base of a mixer does not say it:
            ``own_share(params, i, image)`` is the share of sample i in each pixel of its image,
            float64 and broadcastable against it.
        view: what is seen of a partner, where it is not the partner as it is:
            ``view(params, i, image)`` is the image of sample i's partner, resized or moved. Both
            are for mixers of one partner.

    Raises:
        AssertionError: for a mixer that fails. It says what is wrong with the smallest case that
            shows it, and the line that repeats it.
        TypeError: for arguments of a wrong type.
        ValueError: for arguments out of range.

    Example:
        >>> from torchvision.transforms import v2
        >>> from mixup_transforms import RandomCutMix
        >>> from mixup_transforms.testing import check_mixer
        >>> check_mixer(RandomCutMix(alpha=0.5), trials=1)
        >>> check_mixer(v2.CutMix(num_classes=10), trials=1)
        >>> def swapped(images, labels):
        ...     rows = torch.nn.functional.one_hot(labels, 10).float()
        ...     return 0.75 * images + 0.25 * images.flip(0), 0.25 * rows + 0.75 * rows.flip(0)
        >>> check_mixer(swapped, dtypes=[torch.float32])
        Traceback (most recent call last):
        AssertionError: the label lies: 0.25 of sample 0 is of class 1, which its label gives 0.75
        smallest failing case: a batch of 2, each (3, 1, 9), torch.float32, seed 0
        mixer: swapped
        to repeat it: check_mixer(mixer, num_classes=10, batch_sizes=[2], shapes=[(3, 1, 9)],
        dtypes=[torch.float32], trials=1, seed=0)
    """
    _check_callable(mixer)
    own = getattr(mixer, "num_classes", num_classes)
    classes = checks.integer("num_classes", num_classes if own is None else own, minimum=2)
    trials = checks.integer("trials", trials, minimum=1)
    seed = checks.seed("seed", seed)
    cases = _cases(batch_sizes, shapes, dtypes)
    tests = _tests(mixer, _meaning(mixer, own_share, view))
    said = {"own_share": own_share, "view": view}
    more = "".join(f", {name}={name}" for name, value in said.items() if value is not None)
    for (batch, shape, dtype), more_seeds in product(cases, range(trials)):
        each = (seed + more_seeds) % 2**64
        trial = Trial(mixer, classes, own is not None, batch, shape, dtype, each)
        try:
            for test in tests:
                test(trial)
        except AssertionError as error:
            words = f"{error}\n{_told(trial, num_classes, more)}"
            raise AssertionError(words) from error.__cause__


def _check_callable(mixer: object) -> None:
    if isinstance(mixer, type):
        raise TypeError(
            f"mixer must be an instance, got the class {mixer.__name__}; give {mixer.__name__}(...)"
        )
    if not callable(mixer):
        raise TypeError(f"mixer must be a callable (images, labels), got {mixer!r}")


def _tests(mixer: object, meaning: Parts | None) -> list[Callable[[Trial], None]]:
    if not isinstance(mixer, Mixer):
        return [*FROM_OUTSIDE]
    return [*FROM_OUTSIDE, *FROM_INSIDE, partial(combines, meaning=meaning)]


def _told(trial: Trial, num_classes: int, more: str) -> str:
    """Say which case failed, of which mixer, and how to repeat it."""
    batch, shape, dtype, seed = trial.batch, trial.shape, trial.dtype, trial.seed
    return (
        f"smallest failing case: a batch of {batch}, each {shape}, {dtype}, seed {seed}\n"
        f"mixer: {_name(trial.mixer)}\n"
        f"to repeat it: check_mixer(mixer, num_classes={num_classes}, batch_sizes=[{batch}], "
        f"shapes=[{shape}], dtypes=[{dtype}], trials=1, seed={seed}{more})"
    )


def _cases(
    batch_sizes: Sequence[int], shapes: Sequence[tuple[int, ...]], dtypes: Sequence[torch.dtype]
) -> list[tuple[int, tuple[int, ...], torch.dtype]]:
    """Check what is to be tried, and return it from the smallest on."""
    for name, values in {"batch_sizes": batch_sizes, "shapes": shapes, "dtypes": dtypes}.items():
        if not isinstance(values, list | tuple):
            raise TypeError(f"{name} must be a list, got {values!r}")
        if not values:
            raise ValueError(f"{name} must hold at least one, got none")
    sizes = [checks.integer("batch_sizes", size, minimum=0) for size in batch_sizes]
    inner = []
    for shape in shapes:
        if not isinstance(shape, list | tuple):
            raise TypeError(f"shapes must hold shapes such as (3, 8, 8), got {shape!r}")
        inner.append(tuple(checks.integer("shapes", side, minimum=1) for side in shape))
    for dtype in dtypes:
        if dtype not in _COMPARABLE:
            raise TypeError(f"dtypes must be floating or integer ones of torch, got {dtype!r}")
    return sorted(product(sizes, inner, dtypes), key=lambda case: case[0] * prod(case[1]))


def _meaning(mixer: object, own_share: OwnShare | None, view: View | None) -> Parts | None:
    """Say what a mixer's params mean, as far as it or the caller says so."""
    if own_share is None and view is None:
        return meaning_of(mixer) if isinstance(mixer, Mixer) else None
    if not isinstance(mixer, Mixer):
        raise ValueError(
            "own_share and view say what the params of a Mixer mean, "
            f"and {_name(mixer)} is none; leave them out"
        )
    own_share = own_share or own_share_of(mixer)
    if own_share is None:
        raise ValueError(
            "own_share must come with view, since nothing else says in which pixels of a "
            f"{type(mixer).__name__} a partner is seen"
        )
    return two(own_share, view or as_it_is)


def _name(mixer: object) -> str:
    named: str = getattr(mixer, "__qualname__", "") or " ".join(repr(mixer).split())
    return named
