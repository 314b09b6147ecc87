"""What can be seen of any mixer from outside: one class is black, another is white."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mixup_transforms._mixers.base import Mixer
from mixup_transforms._testing.law import precision
from mixup_transforms._testing.trial import Trial, expect


def copied(trial: Trial) -> Callable[[Tensor, Tensor], Any]:
    """Return a mixer whose streams the check may move; what is no module is taken as it is."""
    if isinstance(trial.mixer, Mixer):
        return trial.fresh()
    return copy.deepcopy(trial.mixer) if isinstance(trial.mixer, nn.Module) else trial.mixer


def white(dtype: torch.dtype) -> int:
    """Return the value of a white pixel: as far from 0 as rounding allows to tell shares apart."""
    return 1 if dtype.is_floating_point else min(torch.iinfo(dtype).max, 2**15 - 1)


def pixel_slack(dtype: torch.dtype) -> float:
    """Return by how much of white an honest pixel may be off, by rounding and by a resize."""
    if dtype.is_floating_point:
        return torch.finfo(dtype).eps + 16 * torch.finfo(precision(dtype)).eps
    return 0.5 / white(dtype)


def shown_and_told(trial: Trial) -> tuple[Tensor, Tensor, int]:
    """Mix black images of one class and white ones of another, as many of each.

    Returns:
        The share of each result that is white and the share that its label gives the white class,
        float64 ``(B,)``; and that class.
    """
    drawn = torch.randperm(trial.classes, generator=trial.stream(), device="cpu")
    black_class, white_class = drawn[:2].tolist()
    order = torch.randperm(trial.batch, generator=trial.stream(), device="cpu")
    is_white = (order + trial.seed) % 2 == 1
    images = torch.zeros(trial.batch, *trial.shape, dtype=trial.dtype, device="cpu")
    images[is_white] = white(trial.dtype)
    classes = torch.where(is_white, white_class, black_class)
    mixed, rows = trial.call(copied(trial), images, trial.labels(classes))
    pixels, slack = mixed.double() / white(trial.dtype), pixel_slack(trial.dtype)
    # Written so that NaN is refused too.
    outside = ~((pixels >= -slack) & (pixels <= 1 + slack))
    expect(
        not outside.any(),
        "a pixel leaves its parents' range: of black and white images, 0 and "
        f"{white(trial.dtype)}, some come back as {mixed[outside][:1].tolist()}",
    )
    others = 1 - rows[:, [black_class, white_class]].double().sum(dim=1)
    expect(
        (others <= 1e-3).all(),
        f"the label lies: classes {black_class} and {white_class} are all that a batch holds, "
        "and some labels are of others",
    )
    shown = pixels.unsqueeze(-1).flatten(1).mean(dim=1)
    return shown, rows[:, white_class].double(), white_class


def one_colour(trial: Trial) -> None:
    """A batch of one class and one colour comes back as it was."""
    classes = trial.some_classes()[:1].expand(trial.batch)
    top = white(trial.dtype)
    images = torch.full((trial.batch, *trial.shape), top, dtype=trial.dtype, device="cpu")
    mixed, rows = trial.call(copied(trial), images, trial.labels(classes.contiguous()))
    off = (mixed.double() - top).abs()
    slack = pixel_slack(trial.dtype) if trial.dtype.is_floating_point else 0
    outside = ~(off <= slack)
    expect(
        not outside.any(),
        f"a pixel leaves its parents' range: where all pixels of a batch are {top}, "
        f"some come back as {mixed[outside][:1].tolist()}",
    )
    expect(
        ((rows - trial.rows(classes)).abs() <= 1e-3).all(),
        "the label lies: where all samples of a batch are of one class, some come back as others",
    )


def black_and_white(trial: Trial) -> None:
    """The label gives the white class the share of white."""
    shown, told, white_class = shown_and_told(trial)
    off = (shown - told).abs()
    if not (off <= pixel_slack(trial.dtype) + 1e-6).all():
        i = int(off.argmax())
        raise AssertionError(
            f"the label lies: {shown[i]:.6g} of sample {i} is of class {white_class}, "
            f"which its label gives {told[i]:.6g}"
        )


FROM_OUTSIDE = (one_colour, black_and_white)
