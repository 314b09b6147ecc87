"""The pretend accelerator catches what it is there to catch, and lets the rest be."""

import pytest
import torch
from torchvision import tv_tensors

from tests.accelerator import (
    DEVICE,
    WAIT,
    Accelerator,
    DeviceMixError,
    HostWaitsError,
    OnDevice,
    TooEarlyError,
)


@pytest.fixture
def accelerator():
    with Accelerator() as accelerator:
        yield accelerator


WAITING = {
    ".item()": lambda x: x.sum().item(),
    "bool()": lambda x: bool((x > 0).any()),
    "float()": lambda x: float(x[0]),
    ".tolist()": lambda x: x.tolist(),
    ".cpu()": lambda x: x.cpu(),
    '.to("cpu")': lambda x: x.to("cpu"),
    "a copy into the host's memory": lambda x: torch.empty(4).copy_(x),
    "boolean indexing": lambda x: x[x > 0],
    "writing by boolean indexing": lambda x: x.index_put_((x > 0,), x[:1] + 1),
    "indexing by the host's indices": lambda x: x[torch.tensor([0, 1])],
    "writing by the host's indices": lambda x: x.index_put_((torch.tensor([0]),), x[1:2] + 1),
    "nonzero": lambda x: x.nonzero(),
    "where without values": lambda x: torch.where(x > 0),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.long().bincount(),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "a blocking copy onto the device": lambda x: torch.ones(4).to(x.device),
    "a blocking copy into the device's memory": lambda x: x.copy_(torch.ones(4)),
    "a tensor made of numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
}
MIXING = {
    "arithmetic": lambda x: x + torch.ones(4),
    "arithmetic the other way round": lambda x: torch.ones(4) * x,
    "cat": lambda x: torch.cat([x, torch.ones(4)]),
    "where": lambda x: torch.where(torch.ones(4) > 0, x, 0),
    "gather": lambda x: x.gather(0, torch.tensor([0])),
    "index_select": lambda x: x.index_select(0, torch.tensor([0])),
    "an index of the device for the host": lambda x: torch.ones(4).index_select(0, x.long()),
    "out=": lambda x: torch.add(x, 1, out=torch.ones(4)),
    "a number for what is no arithmetic": lambda x: torch.stack([x[0], torch.tensor(1.0)]),
    "a generator": lambda x: x.uniform_(generator=torch.Generator()),
}


@pytest.mark.parametrize("act", WAITING.values(), ids=WAITING)
def test_what_the_host_waits_for_is_caught(accelerator, act):
    x = accelerator.put(torch.tensor([1.0, 0.0, 2.0, 3.0]))
    with pytest.raises(HostWaitsError):
        act(x)
    with accelerator.waiting():
        act(x)
    assert accelerator.waits == 1


@pytest.mark.parametrize("act", MIXING.values(), ids=MIXING)
def test_a_mix_of_devices_is_caught(accelerator, act):
    with pytest.raises(DeviceMixError):
        act(accelerator.put(torch.tensor([1.0, 0.0, 2.0, 3.0])))


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x.to("cpu", non_blocking=True),
        lambda x: torch.empty(4).copy_(x, non_blocking=True),
    ],
)
def test_reading_before_the_values_are_there_is_caught(accelerator, act):
    with pytest.raises(TooEarlyError), accelerator.waiting():
        act(accelerator.put(torch.ones(4)))


def test_numpy_has_no_access(accelerator):
    with pytest.raises(RuntimeError, match="numpy"):
        accelerator.put(torch.ones(4)).numpy()


def test_right_values_come_out(accelerator):
    x = torch.randn(3, 4, 5)
    y = accelerator.put(x)
    assert (y.device, y.is_cpu, y.shape, y.dtype) == (DEVICE, False, x.shape, x.dtype)
    index = torch.tensor([2, 0]).to(DEVICE, non_blocking=True)
    made = torch.arange(5, device=DEVICE) + torch.full((5,), 2.0, device=DEVICE)
    y[1] = y[0].mT.flip(0).mT.exp()
    result = torch.where(y > torch.tensor(0.5), y, made)[index] * torch.tensor(2.0)
    assert isinstance(result, OnDevice)
    x[1] = x[0].mT.flip(0).mT.exp()
    expected = torch.where(x > 0.5, x, torch.arange(5) + 2.0)[[2, 0]] * 2
    assert torch.equal(accelerator.take(result), expected)


def test_what_is_written_into_is_returned(accelerator):
    x = accelerator.put(torch.ones(2, 3))
    assert x.add_(1) is x
    assert torch.add(x, 1, out=x) is x
    x[0].zero_()
    assert accelerator.take(x).tolist() == [[0] * 3, [3] * 3]


def test_what_is_put_is_a_copy_in_its_memory_format(accelerator):
    x = torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    y = accelerator.put(x)
    y.zero_()
    assert x.all()
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [tv_tensors.Image, tv_tensors.Mask, tv_tensors.Video])
def test_torchvisions_types_are_kept(accelerator, kind):
    x = kind(torch.rand(2, 3, 4, 5))
    y = accelerator.put((x, {"key": 3}))[0]
    assert isinstance(y, kind)
    assert not isinstance(y.as_subclass(torch.Tensor), kind)
    wrapped = tv_tensors.wrap(y.as_subclass(torch.Tensor) + 1, like=y)
    assert isinstance(wrapped, kind)
    assert isinstance(kind(wrapped + 1), kind)
    assert type(accelerator.take(wrapped)) is kind
    assert torch.equal(accelerator.take(wrapped), x + 1)


@pytest.mark.parametrize(
    "boxes",
    [
        tv_tensors.BoundingBoxes(torch.rand(2, 4), format="CXCYWH", canvas_size=(5, 6)),
        tv_tensors.KeyPoints(torch.rand(2, 3, 2), canvas_size=(5, 6)),
    ],
    ids=lambda boxes: type(boxes).__name__,
)
def test_what_torchvision_notes_beside_values_is_kept(accelerator, boxes):
    given = accelerator.put(boxes)
    assert isinstance(given, type(boxes))
    wrapped = tv_tensors.wrap(given.as_subclass(torch.Tensor) + 1, like=given, canvas_size=(7, 8))
    taken = accelerator.take(wrapped)
    assert type(taken) is type(boxes)
    assert vars(taken) == {**vars(boxes), "canvas_size": (7, 8)}
    assert torch.equal(taken, boxes + 1)
    assert vars(accelerator.take(given)) == vars(boxes)


def test_gradients_come_back(accelerator):
    x = accelerator.put(torch.tensor([1.0, 2.0], requires_grad=True))
    (x * x).sum().backward()
    assert accelerator.take(x.grad).tolist() == [2, 4]


def test_launches_and_copies_are_counted(accelerator):
    x = accelerator.put(torch.ones(2, 3))
    weight = torch.ones(3).to(DEVICE, non_blocking=True)
    torch.add(x, weight, out=torch.empty_like(x))
    (x * weight).T[0].view(1, 2).neg_()
    torch.ones(0, 3, device=DEVICE).exp()
    assert accelerator.launches == {"aten.add": 1, "aten.mul": 1, "aten.neg_": 1}
    assert accelerator.copies == [12]
    assert accelerator.waits == 0


def test_the_order_of_launches_and_waits_is_noted(accelerator):
    x = accelerator.put(torch.ones(2, 3))
    y = (x > 0).T
    with accelerator.waiting():
        assert y.tolist() == [[True, True]] * 3
    x.half()
    assert accelerator.log == [{torch.bool}, WAIT, {torch.float16}]


def test_all_that_runs_there_is_traced(accelerator):
    x = accelerator.put(torch.ones(2, 3))
    torch.empty(4, device=DEVICE)
    x.transpose(0, 1)[:2].half()
    torch.ones(2, 3).to(DEVICE, non_blocking=True)
    torch.ones(5).exp()
    assert accelerator.trace == [
        ("aten.empty.memory_format", [(4, torch.float32)]),
        ("aten.transpose.int", [(3, 2, torch.float32)]),
        ("aten.slice.Tensor", [(2, 2, torch.float32)]),
        ("aten._to_copy.default", [(2, 2, torch.float16)]),
        ("aten._to_copy.default", [(2, 3, torch.float32)]),
    ]


def test_what_stays_on_the_host_is_neither_refused_nor_counted(accelerator):
    x = torch.rand(4)
    assert x[x > 2].tolist() == []
    assert torch.equal(x.to("cpu"), x.clone())
    assert not accelerator.launches
    assert not accelerator.copies
