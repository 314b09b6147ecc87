"""Every error message, word for word, as ``messages.txt`` beside this file lists them."""

import re
import warnings
from pathlib import Path

import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

import mixup_transforms
from mixup_transforms import testing
from tests.accelerator import DEVICE


def quantized(values):
    with warnings.catch_warnings():  # torch means to give them up
        warnings.simplefilter("ignore", UserWarning)
        return torch.quantize_per_tensor(values, 0.1, 0, torch.quint8)


def rule(batch, *, labels, generator):
    return torch.tensor([1, 2, 0])


def inferred():
    with torch.inference_mode():
        return torch.rand(4, 3, 8, 8)


class Short(list):
    """A dataset that returns fewer samples than it was asked for."""

    def __getitems__(self, indices):
        return [self[i] for i in indices][:-1]


def resumed(before, after):
    """Stop a stream after some samples, and go on with another source."""
    stream = mixup_transforms.MixedStream([*before], mixup_transforms.RandomMixup(), seed=0)
    samples = iter(stream)
    for _ in before:
        next(samples)
    other = mixup_transforms.MixedStream([*after], mixup_transforms.RandomMixup(), seed=0)
    other.load_state_dict(stream.state_dict())
    return [*other]


class Fading(mixup_transforms.RandomMixup):
    spatial = True


def boxes(count=2, size=(8, 8), form="XYXY"):
    rows = torch.tensor([[1.0, 1.0, 4.0, 4.0]] * count).reshape(count, 4)
    return tv_tensors.BoundingBoxes(rows, format=form, canvas_size=size)


def masks(*shape):
    return tv_tensors.Mask(torch.ones(shape, dtype=torch.bool))


def points(*shape):
    return tv_tensors.KeyPoints(torch.ones(shape), canvas_size=(8, 8))


def target(**changed):
    """The target of an image with two objects."""
    return {"boxes": boxes(), "labels": torch.tensor([1, 2]), **changed}


class Blind(mixup_transforms.Mixer):
    """A mixer that does not say what a canvas shows."""

    draw = apply = realise = None


X, Y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
NAMES = {
    **vars(mixup_transforms),
    "check_mixer": testing.check_mixer,
    "FADING": Fading(),
    "torch": torch,
    "F": F,
    "tv_tensors": tv_tensors,
    "v2": v2,
    "X": X,
    "Y": Y,
    "SOFT": F.one_hot(Y, 3).float(),
    "rule": rule,
    "Short": Short,
    "resumed": resumed,
    "boxes": boxes,
    "masks": masks,
    "points": points,
    "target": target,
    "TWO": [X[0], X[1]],
    "Blind": Blind,
    "ELSEWHERE": torch.zeros(4, dtype=torch.int64, device=DEVICE),
    "LAM": torch.full((4,), 0.5),
    "BOX": torch.tensor([[0, 0, 4, 4]] * 4),
    "DIGITS": [(X[0], 0), (X[1], 1)],
    "NESTED": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "QUANTIZED": quantized(X),
    "INFERRED": inferred(),
    "PICTURE": PIL.Image.new("RGB", (8, 8)),
}
# A call at the margin, and what it raises indented below.
LISTED = Path(__file__).with_name("messages.txt").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^(\S.*)\n((?: .*\n)+)", LISTED, re.MULTILINE)


@pytest.mark.parametrize(("call", "message"), ENTRIES, ids=[call for call, _ in ENTRIES])
def test_what_an_error_says(call, message):
    with pytest.raises((TypeError, ValueError, IndexError)) as caught:
        eval(call, NAMES)
    found = f"{caught.type.__name__}: {caught.value}"
    assert " ".join(found.split()) == " ".join(message.split())
