"""A form of batch, and what has to come of it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixup_transforms import LabelMixture
from mixup_transforms._mixers.entry import intake
from tests.what_goes import batches
from tests.what_goes.batches import BATCH, CLASSES, HEIGHT, WIDTH, described, is_same, nodes

Keys = tuple[Any, ...]


def takes_of(mixer):
    """What a mixer declares."""
    return intake(mixer).takes


@dataclass(frozen=True)
class Refusal:
    """What a call raises; … in the words stands for what depends on the call.

    ``asked_by`` is the declaration of a mixer that asks for it, None where no mixer takes such.
    """

    error: type[Exception]
    words: str
    asked_by: str | None = None

    @property
    def pattern(self):
        return ".*".join(re.escape(words.strip()) for words in self.words.split("…"))

    def is_by(self, make):
        return self.asked_by is None or getattr(takes_of(make()), self.asked_by)


@dataclass(frozen=True)
class Form:
    """A form of batch, and what has to come of it.

    Sample i is of one colour all over and of class i, so that the labels of a mixed batch tell the
    mean of each image. What is neither an image nor a label comes back as it is.

    Attributes:
        name: for readers.
        make: makes a batch of the samples of some numbers.
        refused: what refuses it, in the order in which it is looked at.
        images: the keys that lead to each of the images.
        labels: the keys that lead to each of the labels and masks, and what it comes back as if
            not as it was.
        settings: what the mixers are told.
        elsewhere: for a call in which all mixers do otherwise, what they do.
        untried: the calls in which it is not tried.
        size: of the batch that is tried.
        sample_of: takes one sample out of a batch.
        batch_of: makes a batch of samples.
        dims: what mixers are told that have such a setting.
        inner: the shape of an image, for params that are drawn without the batch.
    """

    name: str
    make: Callable[[Tensor], Any]
    refused: tuple[Refusal, ...] = ()
    images: tuple[Keys, ...] = ((0,),)
    labels: Mapping[Keys, str | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: Mapping[Any, Refusal | None] = field(default_factory=dict)
    untried: tuple[Any, ...] = ()
    size: int = BATCH
    sample_of: Callable[[Any, int], Any] = batches.sample_of
    batch_of: Callable[[list[Any]], Any] = batches.batch_of
    dims: int | None = None
    inner: tuple[int, ...] = (3, HEIGHT, WIDTH)

    def told(self, kind):
        """What a mixer of a class is told."""
        return {**self.settings, **({"dims": self.dims} if self.is_cut_by(kind) else {})}

    def is_cut_by(self, kind):
        """Whether a mixer of a class cuts in the form's own dimensions."""
        return self.dims is not None and "dims" in signature(kind).parameters

    def __repr__(self):
        return self.name

    @property
    def numbers(self):
        return torch.arange(self.size)

    def samples(self, batch):
        return [self.sample_of(batch, i) for i in range(self.size)]

    def check(self, before, after, *, mixed):
        """Hold what came back to the form and to the law."""
        old, new = dict(nodes(before)), dict(nodes(after))
        assert [*new] == [*old]
        for keys, leaf in new.items():
            if keys in self.images:
                assert described(leaf) == described(old[keys])
                assert torch.equal(leaf, torch.as_tensor(old[keys])) != mixed
            elif keys in self.labels:
                assert described(leaf) == (self.labels[keys] or described(old[keys]))
            else:
                assert is_same(leaf, old[keys])
        for image, label in product(self.images, self.labels):
            check_truth(torch.as_tensor(old[image]), new[image], new[label])


@dataclass(frozen=True, repr=False)
class Detection(Form):
    """Images and a list of their targets, in each of which one object is the whole image.

    The weight of that object is then the share of its image, if the images are ``alike`` in size.
    """

    alike: bool = True

    def check(self, before, after, *, mixed):
        """Hold what came back to the form and to the law."""
        assert [*map(type, after)] == [*map(type, before)]
        (old, targets), (new, mixed_targets) = before, after
        assert type(new) is type(old)
        assert len(new) == len(mixed_targets) == len(old)
        assert all(map(is_same, new, old)) != mixed
        for i, target in enumerate(mixed_targets):
            assert {*targets[i]} <= {*target}
            assert target["image_id"] == i
            assert target["labels"].dtype == torch.int64
            assert target["weights"].shape == target["labels"].shape
            kinds = {key: type(value) for key, value in target.items() if key in targets[i]}
            assert kinds == {key: type(value) for key, value in targets[i].items()}
            if self.alike:
                assert described(new[i]) == described(old[i])
                told = told_by(target, i, [image.mean() for image in old])
                torch.testing.assert_close(new[i].mean(), told, rtol=1e-6, atol=1e-6)


def told_by(target, i, colours):
    """The mean of an image that its objects tell of: what is not its own is the others'."""
    mean = torch.stack(colours)[target["labels"]]
    is_own, weights = target["labels"] == i, target["weights"]
    own = weights[is_own].sum()
    others = weights[~is_own]
    if not len(others):
        return own * colours[i]
    return own * colours[i] + (1 - own) * (others * mean[~is_own]).sum() / others.sum()


def check_truth(before, after, labels):
    """Compare the mean of each image with what its label tells of it."""
    colours, means = (images.double().flatten(1).mean(1) for images in (before, after))
    if isinstance(labels, Tensor) and labels.shape[1:] == (1,):
        told = labels.double().flatten()  # a number to predict, which is the colour itself
    else:
        weights = weights_of(labels)
        torch.testing.assert_close(weights.sum(1), torch.ones_like(colours))
        told = weights[:, : len(colours)] @ colours
    rounding = 0.5 if after.dtype == torch.uint8 else 0.0
    if after.is_floating_point():
        rounding = torch.finfo(after.dtype).eps
    torch.testing.assert_close(means, told, rtol=1e-6, atol=max(1e-6, rounding))


def weights_of(labels):
    """The share of each class in each label, float64 ``(B, C)``."""
    if isinstance(labels, LabelMixture):
        return labels.dense(CLASSES).double()
    labels = labels.as_subclass(Tensor)
    if not labels.is_floating_point():
        labels = F.one_hot(labels, CLASSES).movedim(-1, 1)
    return labels.double().unsqueeze(-1).flatten(2).mean(2)
