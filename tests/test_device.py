"""On an accelerator everything comes out as on the CPU, and the host waits for nothing."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map_only
from torchvision import tv_tensors

from mixup_transforms import (
    LabelMixture,
    MixtureLoss,
    OneHot,
    PresentLabels,
    SampleLabels,
    ToLabelMixture,
    functional,
    mixed_accuracy,
)
from tests.accelerator import Accelerator, assert_as_on_cpu
from tests.cases import MIXERS, every_member, every_mixer
from tests.strategies import FLOATS, INTEGERS, generator_of, noise, soft_labels

CLASSES = 4
BATCHES = [0, 1, 2, 8]

every_batch = pytest.mark.parametrize("batch", BATCHES)
in_place_or_not = pytest.mark.parametrize("inplace", [False, True], ids=["anew", "in place"])


@pytest.fixture
def accelerator():
    with Accelerator() as accelerator:
        yield accelerator


def indices_of(batch):
    return torch.randint(CLASSES, (batch,), generator=generator_of(5))


def mixture_of(batch):
    classes = torch.randint(CLASSES, (batch, 3), generator=generator_of(6))
    return LabelMixture(classes, soft_labels(batch, classes=3, seed=7))


LABELS = {
    "indices": indices_of,
    "uint8 indices": lambda batch: indices_of(batch).byte(),
    "dense": soft_labels,
    "half-precision dense": lambda batch: soft_labels(batch).half(),
    "dense in space": lambda batch: noise((batch, 2, 6, 5), torch.float32, seed=8),
    "mixture": mixture_of,
    "mask": lambda batch: tv_tensors.Mask(noise((batch, 12, 10), torch.float32, seed=9)),
}
every_label = pytest.mark.parametrize("labels", LABELS)


def labels_of(case, labels, batch):
    """Labels of a batch of pictures, whose channels are the depth of a volume."""
    if labels == "mask" and case.dims == 3:
        return tv_tensors.Mask(noise((batch, 3, 12, 10), torch.float32, seed=9))
    return LABELS[labels](batch)


def pictures(batch, dtype=torch.float32):
    return noise((batch, 3, 12, 10), dtype, seed=1)


def make(case, labels="indices", **settings):
    num_classes = CLASSES if "indices" in labels else None
    return case.make(num_classes=num_classes, generator=generator_of(2), **settings)


def bits_of(case):
    return 64 if case.resizes else 2


@every_mixer
@every_label
@every_batch
@in_place_or_not
def test_a_call(accelerator, case, labels, batch, inplace):
    inputs = pictures(batch), labels_of(case, labels, batch)
    settings = {"inplace": inplace, "p": 0.7}
    given = accelerator.put(inputs)
    mixed = make(case, labels, **settings)(*given)
    assert (mixed[0] is given[0]) == inplace
    if not inplace:
        assert_as_on_cpu(accelerator, given, inputs, last_bits=0)
    expected = make(case, labels, **settings)(*inputs)
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=bits_of(case))


@every_mixer
@every_batch
@in_place_or_not
def test_one_draw_for_the_batch(accelerator, case, batch, inplace):
    inputs = pictures(batch), soft_labels(batch)
    settings = {"inplace": inplace, "per_sample": False}
    mixed = make(case, "dense", **settings)(*accelerator.put(inputs))
    expected = make(case, "dense", **settings)(*inputs)
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=bits_of(case))


@every_mixer
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=str)
@in_place_or_not
def test_dtypes(accelerator, case, dtype, inplace):
    inputs = pictures(8, dtype), soft_labels(8)
    mixed = make(case, "dense", inplace=inplace)(*accelerator.put(inputs))
    expected = make(case, "dense", inplace=inplace)(*inputs)
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=bits_of(case))


@every_mixer
@pytest.mark.parametrize("labels", ["indices", "dense", "mixture", "mask"])
@every_batch
@in_place_or_not
def test_between(accelerator, case, labels, batch, inplace):
    first = pictures(batch), labels_of(case, labels, batch)
    second = tree_map_only(torch.Tensor, lambda part: part.flip(0), first)
    if labels == "mask":
        second = second[0], tv_tensors.Mask(second[1])
    mixed = make(case, labels, inplace=inplace).between(*accelerator.put((first, second)))
    expected = make(case, labels, inplace=inplace).between(first, second)
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=bits_of(case))


def placements(params):
    """All the ways to have each of the params on the host or the device, one apart at most."""
    yield {*params}
    yield set()
    for name in params:
        yield {name}
        yield {*params} - {name}


@every_mixer
@pytest.mark.parametrize("labels", ["indices", "dense", "mixture", "mask"])
@every_batch
def test_replay_of_params_on_either_side(accelerator, case, labels, batch):
    inputs = pictures(batch), labels_of(case, labels, batch)
    params = make(case).make_params([inputs[0]])
    expected = make(case, labels).replay(params, *inputs)
    for there in placements(params):
        placed = {k: accelerator.put(v) if k in there else v for k, v in params.items()}
        given = accelerator.put(inputs)
        waits = accelerator.waits
        if "choice" in there:  # the host has to know which kernels to run
            with accelerator.waiting():
                mixed = make(case, labels).replay(placed, *given)
        else:
            mixed = make(case, labels).replay(placed, *given)
        assert accelerator.waits - waits == ("choice" in there)
        assert_as_on_cpu(accelerator, mixed, expected, last_bits=bits_of(case))


@every_mixer
@every_batch
def test_params_on_the_device_for_a_batch_of_the_host(accelerator, case, batch):
    inputs = pictures(batch), soft_labels(batch)
    params = make(case).make_params([inputs[0]])
    with accelerator.waiting():
        mixed = make(case, "dense").replay(accelerator.put(params), *inputs)
    expected = accelerator.put(make(case, "dense").replay(params, *inputs))
    assert_as_on_cpu(accelerator, expected, mixed, last_bits=bits_of(case))


@every_mixer
@every_label
def test_labels_on_the_host_beside_images_on_the_device(accelerator, case, labels):
    x, y = pictures(8), labels_of(case, labels, 8)
    mixed, mixed_labels = make(case, labels)(accelerator.put(x), y)
    expected, expected_labels = make(case, labels)(x, y)
    assert_as_on_cpu(accelerator, mixed, expected, last_bits=bits_of(case))
    mixed_labels = accelerator.put(mixed_labels)
    assert_as_on_cpu(accelerator, mixed_labels, expected_labels, last_bits=bits_of(case))


@every_mixer
@every_label
def test_evaluation_mixes_nothing(accelerator, case, labels):
    inputs = pictures(8), labels_of(case, labels, 8)
    given = accelerator.put(inputs)
    kept, soft = make(case, labels).eval()(*given)
    assert kept is given[0]
    assert_as_on_cpu(accelerator, soft, make(case, labels).eval()(*inputs)[1], last_bits=0)


@every_mixer
def test_without_a_generator(accelerator, case):
    inputs = pictures(8), soft_labels(8)
    torch.manual_seed(3)
    mixed = case.make()(*accelerator.put(inputs))
    torch.manual_seed(3)
    assert_as_on_cpu(accelerator, mixed, case.make()(*inputs), last_bits=bits_of(case))


@pytest.mark.parametrize("case", [case for case in MIXERS if case.name != "choice"], ids=repr)
def test_params_travel_in_one_copy_for_each_leaf(accelerator, case):
    make(case)(*accelerator.put((pictures(8), indices_of(8))))
    assert len(accelerator.copies) == 2


@every_mixer
def test_gradients(accelerator, case):
    inputs = pictures(8).requires_grad_(), soft_labels(8).requires_grad_()
    given = accelerator.put(inputs)
    for mixed in (make(case, "dense")(*inputs), make(case, "dense")(*given)):
        (mixed[0].square().sum() + mixed[1].square().sum()).backward()
    for own, other in zip(given, inputs, strict=True):
        assert_as_on_cpu(accelerator, own.grad, other.grad, last_bits=bits_of(case))


# Tensors without memory of their own, as those of the device are


@every_mixer
def test_in_place_one_tensor_in_two_places_is_refused(accelerator, case):
    image = accelerator.put(tv_tensors.Image(pictures(8).unsqueeze(1)))
    with pytest.raises(ValueError, match="share memory"):
        make(case, inplace=True, labels_getter=None)(image, image)


# Kernels


@every_member
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
@every_batch
@in_place_or_not
def test_kernels_with_params_on_either_side(accelerator, case, dtype, batch, inplace):
    kernel, name = case.kernel
    x = pictures(batch, dtype)
    params = make(case).make_params([x])
    partner, geometry = params["partner"], params[name]
    expected = kernel(x, partner, geometry)
    for there in placements({"partner", "geometry"}):
        mixed = kernel(
            accelerator.put(x),
            accelerator.put(partner) if "partner" in there else partner,
            accelerator.put(geometry) if "geometry" in there else geometry,
            inplace=inplace,
        )
        assert_as_on_cpu(accelerator, mixed, expected, last_bits=bits_of(case))


@every_batch
def test_shares(accelerator, batch):
    scores, share = torch.rand(batch, 6, 5), torch.rand(batch)
    for given in (share, accelerator.put(share)):
        mask = functional.top_share(accelerator.put(scores), given)
        expected = functional.top_share(scores, share)
        assert_as_on_cpu(accelerator, mask, expected)
    kept = functional.mask_share(mask)
    assert_as_on_cpu(accelerator, kept, functional.mask_share(expected), last_bits=0)
    box = torch.tensor([[1, 2, 4, 6]]).expand(batch, 4)
    outside = functional.box_share(accelerator.put(box), 6, 5)
    assert_as_on_cpu(accelerator, outside, functional.box_share(box, 6, 5), last_bits=0)


# Labels, losses and metrics


def same_on_both(accelerator, act, *inputs):
    assert_as_on_cpu(accelerator, act(*accelerator.put(inputs)), act(*inputs))


@every_batch
@pytest.mark.parametrize("shape", [(), (7,), (4, 5)])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_one_hot(accelerator, batch, shape, dtype):
    labels = torch.randint(-1, CLASSES, (batch, *shape)).abs().to(dtype)
    same_on_both(accelerator, OneHot(CLASSES, label_smoothing=0.1), labels)
    ignoring = OneHot(CLASSES, ignore_index=100)
    same_on_both(accelerator, ignoring, labels.masked_fill(labels == 1, 100))
    same_on_both(accelerator, ignoring, torch.rand(batch, 2), labels)
    if shape:
        same_on_both(accelerator, ignoring, torch.rand(batch, 2), tv_tensors.Mask(labels))


@every_batch
def test_mixtures(accelerator, batch):
    indices, mixture = indices_of(batch), mixture_of(batch)
    same_on_both(accelerator, ToLabelMixture(), indices)
    same_on_both(accelerator, ToLabelMixture(), mixture)
    same_on_both(accelerator, lambda given: given.dense(CLASSES, label_smoothing=0.1), mixture)


SOFT = {
    "dense": soft_labels,
    "dense in space": lambda batch: noise((batch, 3, 4, 5), torch.float64, seed=3).softmax(1),
    "half precision": lambda batch: torch.eye(CLASSES).half()[indices_of(batch)],
    "mixture": mixture_of,
}
every_soft = pytest.mark.parametrize("form", SOFT)


@every_batch
@every_soft
@pytest.mark.parametrize("ignore_index", [None, -1])
@pytest.mark.parametrize("training", [True, False])
def test_sampled_labels(accelerator, batch, form, ignore_index, training):
    def sampled(labels):
        sample = SampleLabels(ignore_index=ignore_index, generator=generator_of(0))
        return sample.train(training)(labels)

    same_on_both(accelerator, sampled, SOFT[form](batch))


@every_batch
@every_soft
def test_present_labels(accelerator, batch, form):
    same_on_both(accelerator, PresentLabels(threshold=0.3), SOFT[form](batch))


CRITERIA = {
    "cross-entropy": F.cross_entropy,
    "of modules": torch.nn.CrossEntropyLoss(label_smoothing=0.1),
    "summed": torch.nn.CrossEntropyLoss(reduction="sum"),
    "of samples": partial(F.cross_entropy, reduction="none"),
}


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("form", ["indices", "dense", "half precision", "mixture"])
@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_losses(accelerator, batch, form, criterion):
    output, target = torch.randn(batch, CLASSES), {**SOFT, **LABELS}[form](batch)

    def loss_and_gradient(output, target):
        output = output.detach().requires_grad_()
        loss = MixtureLoss(criterion)(output, target)
        loss.sum().backward()
        return loss.detach(), output.grad

    same_on_both(accelerator, loss_and_gradient, output, target)


@every_batch
@pytest.mark.parametrize("form", ["indices", "dense", "half precision", "mixture"])
def test_accuracy(accelerator, batch, form):
    target = {**SOFT, **LABELS}[form](batch)
    same_on_both(accelerator, mixed_accuracy, torch.randn(batch, CLASSES), target)


def test_a_mixture_on_two_devices_is_refused(accelerator):
    mixture = mixture_of(8)
    halves = LabelMixture(mixture.classes, accelerator.put(mixture.weights))
    for act in (
        ToLabelMixture(),
        SampleLabels(),
        PresentLabels(),
        lambda given: given.dense(CLASSES),
    ):
        with pytest.raises(ValueError, match="must be on one device, got cpu and lazy:0"):
            act(halves)
