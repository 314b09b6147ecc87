"""The law, written down a second time and in the plainest way, to compare a mixed batch with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixup_transforms._core import checks
from mixup_transforms._mixers.base import BoxMixer, MaskMixer, Mixer
from mixup_transforms._mixers.choice import RandomChoice
from mixup_transforms._mixers.mosaic import RandomMosaic
from mixup_transforms._mixers.resizemix import RandomResizeMix

Params = Mapping[str, Tensor]
OwnShare = Callable[[Params, int, Tensor], Tensor]
View = Callable[[Params, int, Tensor], Tensor]

# Of sample i, with the images of its parents, its own first: m and T(x) of each.
Parts = Callable[[Params, int, Sequence[Tensor]], list[tuple[Tensor, Tensor]]]


def precision(dtype: torch.dtype) -> torch.dtype:
    """Say what values of a dtype must be averaged in: 32 bits do not fit into float32."""
    wide = dtype in (torch.float64, torch.int32, torch.int64)
    return torch.float64 if wide else torch.float32


def constant_share(params: Params, i: int, image: Tensor) -> Tensor:
    """Read ``lam`` as mixup does: the same share everywhere."""
    return params["lam"][i].double()


def outside_box(params: Params, i: int, image: Tensor) -> Tensor:
    """Read ``box``: 0 inside, 1 outside."""
    box = params["box"][i].tolist()
    dims = len(box) // 2
    share = torch.ones(image.shape[-dims:], dtype=torch.float64, device=image.device)
    pairs = zip(box[:dims], box[dims:], strict=True)
    share[tuple(slice(low, high) for low, high in pairs)[::-1]] = 0
    return share


def on_mask(params: Params, i: int, image: Tensor) -> Tensor:
    """Read ``mask``: 1 where it is true."""
    return params["mask"][i].double()


def as_it_is(params: Params, i: int, image: Tensor) -> Tensor:
    """Show the partner in its own place."""
    return image


def shrunk_into_box(params: Params, i: int, image: Tensor) -> Tensor:
    """Show the whole partner, resized into ``box``."""
    x1, y1, x2, y2 = params["box"][i].tolist()
    canvas = image.clone()
    if x1 < x2 and y1 < y2:
        size = (y2 - y1, x2 - x1)
        planes = image.to(precision(image.dtype)).reshape(1, -1, *image.shape[-2:])
        # torch is wrong where the width, and not the height, is 1.
        narrow = size[1] == 1
        planes, target = (planes.mT, size[::-1]) if narrow else (planes, size)
        small = F.interpolate(planes, target, mode="bilinear", antialias=True)
        small = (small.mT if narrow else small).reshape(*image.shape[:-2], *size)
        canvas[..., y1:y2, x1:x2] = small if image.is_floating_point() else small.round()
    return canvas


def two(own_share: OwnShare, view: View = as_it_is) -> Parts:
    """Say what a mixer of one partner makes: the sample by m, a view of the partner by the rest."""

    def parts(params: Params, i: int, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        own, other = images[:2]
        share = own_share(params, i, own)
        return [(share, own), (1 - share, view(params, i, other))]

    return parts


def around_centre(params: Params, i: int, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Read ``centre``: four images, each with its inner corner there."""
    x, y = params["centre"][i].tolist()
    parts = []
    for k, image in enumerate(images):
        right, below = k in (1, 3), k in (2, 3)
        height, width = image.shape[-2:]
        share = torch.zeros(height, width, dtype=torch.float64, device=image.device)
        share[slice(y, None) if below else slice(y), slice(x, None) if right else slice(x)] = 1
        # Of what is rolled in at the other end nothing shows.
        shifted = image.roll((y if below else y - height, x if right else x - width), (-2, -1))
        parts.append((share, shifted))
    return parts


def of_choice(members: Sequence[Parts]) -> Parts:
    """Read ``choice``: what each sample's params mean is for its mixer to say."""

    def parts(params: Params, i: int, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return members[int(params["choice"][i])](params, i, images)

    return parts


def meaning_of(mixer: Mixer) -> Parts | None:
    """Say what a mixer's params mean, where its base says so."""
    if isinstance(mixer, RandomChoice):
        meanings = [meaning_of(each) for each in mixer.transforms]  # type: ignore[arg-type]
        known = [meaning for meaning in meanings if meaning is not None]
        return of_choice(known) if len(known) == len(meanings) else None
    if isinstance(mixer, RandomMosaic):
        return around_centre if mixer.size is None else None
    own_share = own_share_of(mixer)
    if own_share is None:
        return None
    return two(own_share, shrunk_into_box if isinstance(mixer, RandomResizeMix) else as_it_is)


def own_share_of(mixer: Mixer) -> OwnShare | None:
    """Say in which pixels a mixer of one partner shows the sample, where its base says so."""
    if isinstance(mixer, BoxMixer):
        return outside_box
    if isinstance(mixer, MaskMixer):
        return on_mask
    # Where there is a geometry in height and width, ``lam`` is only its mean.
    return None if mixer.spatial or mixer.partners > 1 else constant_share


def parents_of(params: Params, i: int) -> list[int]:
    """Return the places of a sample's parents in the batch, its own first."""
    return [i, *params["partner"][i].reshape(-1).tolist()]


def assert_law(
    meaning: Parts,
    params: Params,
    before: Tensor,
    after: Tensor,
    labels: Tensor,
    mixed_labels: Tensor,
    *,
    last_bits: int = 0,
) -> None:
    """Check every sample of a mixed batch against the law, in float64.

    ``last_bits`` is by how many bits of the working dtype at the images' largest value a pixel may
    differ, and then be rounded the other way.
    """
    if (after.shape, after.dtype) != (before.shape, before.dtype):
        raise AssertionError(
            f"images {checks.describe(before)} come back as {checks.describe(after)}"
        )
    leeway = _leeway(before, last_bits)
    for i in range(len(before)):
        parents = parents_of(params, i)
        parts = meaning(params, i, [before[k] for k in parents])
        means, lam = [share.mean() for share, _ in parts], params["lam"][i].double()
        if not torch.isclose(lam, means[0], rtol=1e-6, atol=1e-7):
            raise AssertionError(
                f"lam is not the share of own pixels: sample {i} keeps {means[0]:.6g} of them, "
                f"its lam is {lam:.6g}"
            )
        partners = f"partners {parents[1:]}" if len(parts) > 2 else f"partner {parents[1]}"
        _check_pixels(f"sample {i}, {partners}", parts, after[i], leeway)
        _check_label(i, means, [labels[k] for k in parents], mixed_labels[i])


def _leeway(images: Tensor, last_bits: int) -> Any:
    """Return by how much a pixel may differ that is right but for some last bits."""
    if not (last_bits and images.numel()):
        return 0
    largest = images.double().abs().max()
    rounding = torch.finfo(images.dtype).eps * largest if images.is_floating_point() else 1
    return last_bits * torch.finfo(precision(images.dtype)).eps * largest + rounding


def _check_pixels(
    whose: str, parts: Sequence[tuple[Tensor, Tensor]], mixed: Tensor, leeway: Any
) -> None:
    views = [view.double() for _, view in parts]
    shown = torch.stack(views)
    values = {"own": views[0], "partner's": views[1], "mixed": mixed}
    low, high = shown.amin(0) - leeway, shown.amax(0) + leeway
    _every((low <= mixed) & (mixed <= high), f"a pixel leaves its parents' range: {whose}", values)
    expected = torch.stack([share * view.double() for share, view in parts]).sum(0)
    slack = 4 * torch.finfo(precision(mixed.dtype)).eps * shown.abs().amax(0)
    if mixed.is_floating_point():
        kind = torch.finfo(mixed.dtype)
        slack += kind.eps * expected.abs() + kind.tiny
    else:
        slack += 0.5
    _every(
        (mixed.double() - expected).abs() <= slack + leeway,
        f"a pixel is not the mix: {whose}",
        {**values, "expected": expected},
    )


def _check_label(i: int, means: Sequence[Tensor], parents: Sequence[Tensor], mixed: Tensor) -> None:
    pairs = zip(means, parents, strict=False)  # in a choice a mixer may show fewer than all
    target = torch.stack([mean * label.double() for mean, label in pairs]).sum(0)
    if not torch.allclose(mixed.double(), target, atol=1e-6):
        off = (mixed.double() - target).abs().max()
        shares = " and ".join(f"{mean:.6g}" for mean in means[1:])
        raise AssertionError(
            f"the label lies: that of sample {i} is off by {off:.3g} from {means[0]:.6g} of its "
            f"own and {shares} of its partners'"
        )


def _every(held: Tensor, words: str, values: Mapping[str, Tensor]) -> None:
    """Raise with the first place where something does not hold, and its values."""
    if not held.all():
        place = tuple((~held).nonzero()[0].tolist())
        shown = ", ".join(
            f"{name} {value.expand(held.shape)[place].item():.6g}" for name, value in values.items()
        )
        raise AssertionError(f"{words}, at {place}: {shown}")
