"""Whatever a call is given, it ends in a result or in our ValueError or TypeError."""

import inspect
from contextlib import suppress
from functools import partial

import pytest
import torch
from torchvision import tv_tensors

from mixup_transforms import (
    LabelMixture,
    MixedDataset,
    MixedStream,
    MixScheduler,
    MixtureLoss,
    OneHot,
    PresentLabels,
    RandomChoice,
    RandomClassMix,
    RandomCopyPaste,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
    SampleLabels,
    ToLabelMixture,
    functional,
    mixed_accuracy,
    preview,
    seeded_generator,
)

X = torch.rand(4, 3, 8, 8)
SOFT = torch.full((4, 4), 0.25)
BOX = torch.tensor([[0, 0, 2, 2]] * 4)
PARTNER = torch.tensor([1, 0, 3, 2])
PARTNERS = torch.stack((PARTNER, PARTNER.flip(0), PARTNER), 1)
CENTRE = torch.tensor([[3, 5]] * 4)
MASK = torch.ones(4, 8, 8, dtype=torch.bool)

ODD = {
    **{repr(v): v for v in (None, 0, -1, 3.5, 10**30, -(10**30), True, False, "x", b"x")},
    **{repr(v): v for v in (float("nan"), float("inf"), [], (), {}, [0.5], (0.1, 0.8))},
    "object": object(),
    "generator": torch.Generator(),
    "number": torch.tensor(1.0),
    "vector": torch.rand(4),
    "indices": torch.arange(4),
    "int32": torch.arange(4).int(),
    "table": torch.rand(4, 3),
    "images": X,
    "empty batch": torch.rand(0, 3, 8, 8),
    "no pixels": torch.rand(4, 3, 0, 0),
    "half": X.half(),
    "bool": X > 0.5,
    "complex": X + 1j,
    "uint16": (X * 255).to(torch.uint16),
    "float8": X.to(torch.float8_e4m3fn),
    "sparse": X.to_sparse(),
    "meta": X.to("meta"),
    "meta vector": torch.rand(4, device="meta"),
    "leaf": X.clone().requires_grad_(),
    "parameter": torch.nn.Parameter(X.clone()),
    "expanded": torch.rand(1, 3, 8, 8).expand(4, 3, 8, 8),
    "nan images": torch.full((4, 3, 8, 8), torch.nan),
    "huge": torch.full((4, 5), 3e38),
    "Image": tv_tensors.Image(X),
    "Video": tv_tensors.Video(X[:, None]),
    "Mask": tv_tensors.Mask(torch.zeros(4, 8, 8, dtype=torch.long)),
    "boxes": tv_tensors.BoundingBoxes(torch.rand(4, 4), format="XYXY", canvas_size=(8, 8)),
    "mixture": LabelMixture(torch.zeros(4, 2).long(), torch.full((4, 2), 0.5)),
    "broken mixture": LabelMixture(None, 3),
    "box": BOX,
    "mask": MASK,
    "centre": CENTRE,
    "three partners": PARTNERS,
}

TRANSFORMS = {
    "mixup": lambda: RandomMixup(),
    "mixup in place": lambda: RandomMixup(inplace=True, num_classes=5),
    "cutmix": lambda: RandomCutMix(num_classes=4),
    "cutmix in place": lambda: RandomCutMix(inplace=True),
    "resizemix": lambda: RandomResizeMix(num_classes=4),
    "fmix": lambda: RandomFMix(num_classes=4, per_sample=False),
    "mosaic": lambda: RandomMosaic(num_classes=4, size=(5, 12)),
    "mosaic in place": lambda: RandomMosaic(inplace=True, p=0.5),
    "choice": lambda: RandomChoice(
        [RandomMixup(num_classes=4), RandomFMix(num_classes=4)], per_sample=True
    ),
    "classmix": lambda: RandomClassMix(num_classes=4),
    "copypaste": lambda: RandomCopyPaste(num_classes=4, inplace=True),
    "choice of a mosaic": lambda: RandomChoice(
        [RandomMosaic(num_classes=4), RandomCutMix(num_classes=4)], per_sample=True
    ),
    "one-hot": lambda: OneHot(4),
    "sample": lambda: SampleLabels(),
    "present": lambda: PresentLabels(),
    "mixture": lambda: ToLabelMixture(),
}
MIXERS = [name for name in TRANSFORMS if name not in ("one-hot", "sample", "present", "mixture")]
# What a mixer has to know of a batch to draw for it.
LEAVES = {
    "classmix": [X, ODD["Mask"]],
    "copypaste": [[*X], [{"masks": tv_tensors.Mask(MASK[:n])} for n in range(4)]],
}

every_value = pytest.mark.parametrize("value", ODD.values(), ids=ODD)


def attempt(call):
    with suppress(ValueError, TypeError):
        call()


def fresh(value):
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


@every_value
@pytest.mark.parametrize("name", TRANSFORMS)
def test_batches(name, value):
    transform = TRANSFORMS[name]()
    attempt(lambda: transform(value))
    for other in (*ODD.values(), SOFT):
        attempt(lambda other=other: transform(fresh(value), fresh(other)))


@every_value
@pytest.mark.parametrize("name", MIXERS)
def test_params_and_second_batches(name, value):
    mix = TRANSFORMS[name]()
    params = mix.make_params(LEAVES.get(name, [X]))
    for key in params:
        attempt(lambda key=key: mix.replay({**params, key: value}, X.clone(), SOFT.clone()))
    attempt(lambda: mix.replay(value, X.clone(), SOFT.clone()))
    attempt(lambda: mix.make_params(value))
    attempt(lambda: mix.make_params([value]))
    attempt(lambda: mix.between((X.clone(), SOFT.clone()), value))
    attempt(lambda: mix.between((X.clone(), SOFT.clone()), (value, SOFT)))
    attempt(lambda: mix.set_extra_state(value))


@every_value
def test_settings(value):
    for cls in (
        *(RandomMixup, RandomCutMix, RandomResizeMix, RandomFMix),
        *(RandomMosaic, RandomClassMix, RandomCopyPaste),
    ):
        for name in inspect.signature(cls).parameters:
            attempt(lambda cls=cls, name=name: cls(**{name: value}))
    attempt(lambda: OneHot(value))
    attempt(lambda: OneHot(3, label_smoothing=value))
    attempt(lambda: OneHot(3, ignore_index=value))
    attempt(lambda: SampleLabels(ignore_index=value))
    attempt(lambda: PresentLabels(threshold=value))
    attempt(lambda: RandomChoice(value))
    attempt(lambda: RandomChoice([RandomMixup()], weights=value))
    for name in ("p", "alpha"):
        attempt(lambda name=name: MixScheduler(RandomMixup(), **{name: value}))
        attempt(lambda name=name: MixScheduler(RandomMixup(), **{name: lambda epoch: value}))
    attempt(lambda: MixScheduler(value, p=lambda epoch: 0.5))
    attempt(lambda: MixScheduler(RandomMixup(), p=lambda epoch: 0.5).load_state_dict(value))
    attempt(lambda: seeded_generator(value))
    attempt(lambda: seeded_generator(0, rank=value))
    attempt(lambda: seeded_generator(0, epoch=value))
    attempt(lambda: seeded_generator(0, device=value))
    attempt(lambda: MixedDataset(value, RandomMixup(), seed=0))
    attempt(lambda: MixedDataset([0], value, seed=0))
    attempt(lambda: MixedDataset([0], RandomMixup(), seed=value))
    attempt(lambda: MixedDataset([0] * 4, RandomMixup(), seed=0, partner_weights=value))
    attempt(lambda: [*MixedStream(value, RandomMixup(), seed=0)])
    attempt(lambda: MixedStream([0], value, seed=0))
    attempt(lambda: MixedStream([0], RandomMixup(), seed=value))
    attempt(lambda: MixedStream([0], RandomMixup(), seed=0, buffer=value))
    attempt(lambda: MixedStream([0], RandomMixup(), seed=0, rank=value))
    attempt(lambda: MixedStream([0], RandomMixup(), seed=0).load_state_dict(value))


@every_value
def test_kernels(value):
    for kernel, partner, third in (
        (functional.mixup, PARTNER, torch.rand(4)),
        (functional.mix_labels, PARTNER, torch.rand(4)),
        (functional.cutmix, PARTNER, BOX),
        (functional.resizemix, PARTNER, BOX),
        (functional.fmix, PARTNER, MASK),
        (functional.mosaic, PARTNERS, CENTRE),
        (partial(functional.mosaic, size=(12, 9)), PARTNERS, CENTRE),
    ):
        attempt(lambda k=kernel, p=partner, t=third: k(value, p, t))
        attempt(lambda k=kernel, t=third: k(X, value, t))
        attempt(lambda k=kernel, p=partner: k(X, p, value))
        attempt(lambda k=kernel, p=partner, t=third: k(X, p, t, others=value))
        attempt(lambda k=kernel, p=partner, t=third: k(fresh(value), p, t, inplace=True))
    attempt(lambda: functional.mosaic(X, PARTNERS, CENTRE, size=value))
    attempt(lambda: functional.quadrant_share(value, 8, 8))
    attempt(lambda: functional.quadrant_share(CENTRE, value, 8))
    attempt(lambda: functional.quadrant_share(CENTRE, 8, 8, size=value))
    attempt(lambda: functional.one_hot(value, 4))
    attempt(lambda: functional.box_share(value, 8, 8))
    attempt(lambda: functional.mask_share(value))
    attempt(lambda: functional.top_share(value, torch.rand(4)))
    attempt(lambda: functional.top_share(X[:, 0], value))


@every_value
def test_losses_metrics_and_pictures(value):
    if not (
        isinstance(value, torch.Tensor) and value.ndim > 1
    ):  # what indices may be is the loss's
        attempt(lambda: MixtureLoss(torch.nn.functional.cross_entropy)(torch.rand(4, 5), value))
    for other in ODD.values():
        attempt(lambda other=other: mixed_accuracy(value, other))
    attempt(lambda: ODD["mixture"].dense(value))
    attempt(lambda: preview(value, torch.arange(4), RandomMixup()))
    attempt(lambda: preview(X, value, RandomMixup()))
    attempt(lambda: preview(X, torch.arange(4), value))
    attempt(lambda: preview([value] * 4, [{}] * 4, RandomMixup()))
    attempt(lambda: preview(X, [{"boxes": ODD["boxes"], "labels": value}] * 4, RandomMixup()))
    attempt(lambda: preview(X, [{"masks": value}] * 4, RandomMixup()))
