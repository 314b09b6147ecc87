"""The label always tells the truth about the pixels: properties of every mixer."""

import copy
import random
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from mixup_transforms import (
    MixCollate,
    MixedDataset,
    MixedStream,
    OneHot,
    PresentLabels,
    SampleLabels,
    ToLabelMixture,
    functional,
    mixed_accuracy,
)
from mixup_transforms._core import kernels
from tests.bits import same
from tests.cases import assert_law, every_mixer
from tests.strategies import generator_of, images_for, lams, seeds, soft_labels

pytestmark = pytest.mark.usefixtures("path")


@every_mixer
@given(
    data=st.data(),
    lam=st.lists(lams, min_size=6, max_size=6),
    seed=seeds,
    per_sample=st.booleans(),
    p=st.sampled_from([0.5, 1.0]),
    inplace=st.booleans(),
)
def test_pixels_and_labels_carry_the_same_lam(
    case, path, force_lam, data, lam, seed, per_sample, p, inplace
):
    x = data.draw(images_for(case))
    force_lam(lam)
    mix = case.make(
        generator=generator_of(seed), per_sample=per_sample, p=p, inplace=inplace, labels_getter="y"
    )
    before, labels = x.clone(), soft_labels(len(x), seed=seed)
    params = mix.make_params([x])
    out = mix.replay(params, {"x": x, "y": labels.clone()})
    last_bits = 16 * (case.resizes and path == "unread")
    assert_law(case, params, before, out["x"], labels, out["y"], last_bits=last_bits)
    assert torch.allclose(out["y"].sum(1), torch.ones(len(x)), atol=1e-6)


@every_mixer
@given(data=st.data(), seed=seeds)
def test_call_is_replay_of_make_params(case, data, seed):
    x = data.draw(images_for(case))
    labels = soft_labels(len(x))
    called = case.make(generator=generator_of(seed))(x, labels)
    mix = case.make(generator=generator_of(seed))
    replayed = mix.replay(mix.make_params([x, labels]), x, labels)
    assert same(called, replayed)


@every_mixer
@given(data=st.data(), seed=seeds)
def test_lam_one_is_the_identity(case, force_lam, data, seed):
    x = data.draw(images_for(case, min_batch=1))
    if not case.has_alpha:
        pytest.skip("draws no λ of its own")
    force_lam([1.0] * len(x))
    labels = soft_labels(len(x))
    mixed, mixed_labels = case.make(generator=generator_of(seed))(x, labels)
    assert same(mixed, x)
    assert same(mixed_labels, labels)


@every_mixer
@given(data=st.data(), seed=seeds, per_sample=st.booleans())
def test_a_batch_of_one_is_the_identity(case, data, seed, per_sample):
    x = data.draw(images_for(case, min_batch=1, max_batch=1))
    labels = soft_labels(1)
    mix = case.make(generator=generator_of(seed), per_sample=per_sample)
    mixed, mixed_labels = mix(x, labels)
    assert same(mixed, x)
    assert same(mixed_labels, labels)


@every_mixer
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_a_gated_off_sample_survives_a_poisoned_partner(case, inplace, poison):
    x, labels = torch.rand(64, 3, 4, 6), soft_labels(64)
    mix = case.make(p=0.5, generator=generator_of(0), inplace=inplace)
    params = mix.make_params([x])
    off = params["lam"] == 1
    assert 0 < off.sum() < 64
    x[~off], labels[~off] = poison, poison
    before, labels_before = x.clone(), labels.clone()
    mixed, mixed_labels = mix.replay(params, x, labels)
    assert same(mixed[off], before[off])
    assert same(mixed_labels[off], labels_before[off])


@every_mixer
@given(data=st.data(), seed=seeds, per_sample=st.booleans())
def test_the_same_seed_draws_the_same_params(case, data, seed, per_sample):
    x = data.draw(images_for(case))
    first, second = (
        case.make(generator=generator_of(seed), per_sample=per_sample).make_params([x])
        for _ in range(2)
    )
    assert first.keys() == second.keys()
    assert same(first, second)


@every_mixer
@given(data=st.data(), seed=seeds)
def test_permuting_batch_and_params_permutes_the_output(case, data, seed):
    x = data.draw(images_for(case, min_batch=2))
    labels = soft_labels(len(x))
    mix = case.make(generator=generator_of(seed))
    params = mix.make_params([x])
    order = torch.randperm(len(x), generator=generator_of(seed))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(x))
    permuted = {name: value[order] for name, value in params.items()}
    permuted["partner"] = place[permuted["partner"]]
    straight = mix.replay(params, x, labels)
    shuffled = mix.replay(permuted, x[order], labels[order])
    if case.resizes:  # as one product of matrices, which may round by the order of its rows
        assert_near(straight[0][order], shuffled[0])
    else:
        assert same(straight[0][order], shuffled[0])
    assert same(straight[1][order], shuffled[1])


def assert_near(found, expected):
    """Check that values differ by no more than their last bits."""
    unit = 1.0
    if expected.is_floating_point():
        unit = 64 * torch.finfo(expected.dtype).eps * expected.double().abs().max().item()
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=unit)


@every_mixer
@given(data=st.data(), seed=seeds, p=st.sampled_from([0.0, 0.5, 1.0]))
def test_inputs_are_untouched(case, data, seed, p):
    x = data.draw(images_for(case))
    labels = soft_labels(len(x))
    before, versions = (x.clone(), labels.clone()), (x._version, labels._version)
    mixed, _ = case.make(generator=generator_of(seed), p=p)(x, labels)
    assert (x._version, labels._version) == versions
    assert same(x, before[0])
    assert same(labels, before[1])
    assert mixed is not x
    if x.ndim == 4 and len(x):  # what has no elements has no layout
        for layout in (torch.contiguous_format, torch.channels_last):
            if x.is_contiguous(memory_format=layout):
                assert mixed.is_contiguous(memory_format=layout)


@every_mixer
@given(data=st.data(), seed=seeds)
def test_in_place_agrees_with_out_of_place(case, data, seed):
    x = data.draw(images_for(case))
    labels = soft_labels(len(x))
    expected = case.make(generator=generator_of(seed))(x, labels)
    mixed = case.make(generator=generator_of(seed), inplace=True)(x, labels)
    assert mixed[0] is x
    assert mixed[1] is labels
    assert same(x, expected[0])
    assert same(labels, expected[1])


@every_mixer
def test_masks_are_mixed_in_place_too(case):
    x = torch.rand(5, 3, 6, 5)
    image, masks = case.image(x), tv_tensors.Mask(case.plane(torch.rand_like(x)))
    before = masks.clone()
    expected = case.make(generator=generator_of(0))(image, masks)[1]
    assert same(masks, before)
    assert not same(expected, before)
    mixed = case.make(generator=generator_of(0), inplace=True)(image, masks)[1]
    assert mixed is masks
    assert same(mixed, expected)


@every_mixer
def test_torchvisions_protocol_and_its_steps(case):
    x = torch.rand(5, 3, 6, 5)
    masks = case.plane(torch.rand_like(x))
    mix = case.make(generator=generator_of(0))
    params = mix.make_params([3, x, masks])
    expected = mix.replay(params, case.image(x), tv_tensors.Mask(masks))
    versions = (x._version, masks._version)
    assert same(mix.transform(x, params), torch.Tensor(expected[0]))
    assert same(mix.apply(x, params), torch.Tensor(expected[0]))
    assert same(mix.apply_to_masks(masks, params), torch.Tensor(expected[1]))
    assert (x._version, masks._version) == versions
    mix.inplace = True
    assert mix.transform(x, params) is x
    assert same(x, torch.Tensor(expected[0]))


@every_mixer
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    dtype=st.sampled_from([torch.uint8, torch.int64]),
    seed=seeds,
)
def test_class_indices_mix_as_their_one_hot_rows_do(case, labels, dtype, seed):
    x, indices = torch.rand(len(labels), 3, 6, 5), torch.tensor(labels, dtype=dtype)
    _, mixed = case.make(generator=generator_of(seed), num_classes=4)(x, indices)
    _, expected = case.make(generator=generator_of(seed))(x, functional.one_hot(indices, 4))
    assert same(mixed, expected)


@every_mixer
def test_in_place_no_second_batch_is_made(case, path, monkeypatch):
    if path != "by sample" or case.name == "choice":
        pytest.skip("gathers partners")
    monkeypatch.setattr(kernels, "empty_like", None)
    x = torch.rand(5, 3, 6, 5)
    assert case.make(inplace=True, num_classes=4)(x, torch.tensor([0, 3, 1, 2, 2]))[0] is x


@every_mixer
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_the_memory_format_is_kept(case, p):
    x = torch.rand(5, 3, 6, 5).contiguous(memory_format=torch.channels_last)
    mixed, _ = case.make(p=p, generator=generator_of(0))(x, soft_labels(5))
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@every_mixer
@pytest.mark.parametrize("inplace", [False, True])
def test_meta_tensors_stay_meta_tensors(case, inplace):
    mix = case.make(generator=generator_of(0), num_classes=4, inplace=inplace)
    x, labels = torch.empty(5, 3, 6, 5, device="meta"), torch.empty(5, device="meta").long()
    mixed, rows = mix(x, labels)
    assert (mixed.device.type, mixed.shape, mixed.dtype) == ("meta", x.shape, x.dtype)
    assert (rows.device.type, rows.shape, rows.dtype) == ("meta", (5, 4), torch.float32)
    assert (mixed is x) == inplace


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("inplace", [False, True])
def test_lam_zero_is_the_partner_whatever_its_own_pixels_hold(dtype, inplace):
    x = torch.rand(4, 3, 6, 5).to(dtype)
    x[0], x[2] = torch.nan, torch.inf
    before = x.clone()
    mixed = functional.mixup(
        x, torch.tensor([1, 3, 1, 1]), torch.tensor([0, 0.5, 0, 0.5]), inplace=inplace
    )
    assert same(mixed[0], before[1])
    assert same(mixed[2], before[1])
    assert mixed[[1, 3]].isfinite().all()


@contextmanager
def default(setting):
    """Change torch's default dtype or device for a while."""
    if isinstance(setting, torch.dtype):
        torch.set_default_dtype(setting)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)
    else:
        with torch.device(setting):
            yield


@every_mixer
@pytest.mark.parametrize("setting", [torch.float64, torch.bfloat16, "meta"], ids=str)
def test_torchs_defaults_change_nothing(case, setting):
    x, indices = torch.rand(5, 3, 6, 5), torch.tensor([0, 3, 1, 2, 2])
    soft, single = soft_labels(5), torch.rand(1, 3, 6, 5)

    def results():
        make = partial(case.make, num_classes=4, p=0.7, generator=generator_of(0))
        mix = make()
        yield from mix.make_params([x]).values()
        yield from (*mix(x, indices), *mix(x, soft)[1:], *mix(single, indices[:1]))
        yield from mix.replay(mix.make_params([x]), x, indices)
        yield from mix.between((x, soft), (x.flip(0), soft.flip(0)))
        yield from case.make(labels_getter=None).eval().make_params([x]).values()
        _, mixture = ToLabelMixture()(x, indices)
        yield from (*mixture, *mix(x, mixture)[1], mix(x, mixture)[1].dense(4))
        yield from (
            OneHot(4, label_smoothing=0.1)(indices),
            SampleLabels(generator=mix.generator)(soft),
            PresentLabels(threshold=0.3)(soft),
        )
        yield mixed_accuracy(soft, soft)
        dataset = MixedDataset([*zip(x, soft, strict=True)], case.make(), seed=0)
        yield from dataset[2]
        yield from [*MixedStream([*zip(x, soft, strict=True)], case.make(), seed=0)][2]
        yield from MixCollate(make())([*zip(x, soft, strict=True)])

    expected = [*results()]
    with default(setting):
        found = [*results()]
    assert same(found, expected)


@every_mixer
@given(data=st.data(), seed=seeds)
def test_in_place_honours_partners_that_are_shared(case, data, seed):
    x = data.draw(images_for(case, min_batch=2))
    labels = soft_labels(len(x))
    mix = case.make(generator=generator_of(seed))
    params = mix.make_params([x])
    params["partner"] = torch.zeros_like(params["partner"])
    expected = mix.replay(params, x, labels)
    mix.inplace = True
    mixed = mix.replay(params, x, labels)
    assert same(mixed, expected)


@every_mixer
@given(data=st.data(), seed=seeds, p=st.sampled_from([0.0, 0.5, 1.0]))
def test_an_explicit_generator_leaves_the_global_streams_alone(case, data, seed, p):
    x = data.draw(images_for(case))
    state = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    case.make(generator=generator_of(seed), p=p)(x, soft_labels(len(x)))
    assert torch.equal(torch.get_rng_state(), state[0])
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), state[1], strict=True))
    assert random.getstate() == state[2]


@every_mixer
def test_without_a_generator_the_global_seed_decides(case):
    x, labels = torch.rand(5, 3, 6, 5), soft_labels(5)
    torch.manual_seed(1)
    first = case.make()(x, labels)
    torch.manual_seed(1)
    second = case.make()(x, labels)
    assert same(first[0], second[0])
    third = case.make()(x, labels)
    assert not same(second[0], third[0])


@every_mixer
def test_the_amount_drawn_does_not_depend_on_outcomes(case):
    x = torch.rand(8, 3, 6, 5)
    states = set()
    for settings in ({"p": 0.0}, {"p": 0.3}, {"p": 1.0}):
        generator = generator_of(7)
        case.make(generator=generator, **settings).make_params([x])
        states.add(generator.get_state().numpy().tobytes())
    assert len(states) == 1


@every_mixer
def test_eval_mixes_nothing_and_draws_nothing(case):
    generator = generator_of(0)
    mix = case.make(generator=generator, num_classes=4).eval()
    state = generator.get_state()
    x, labels = torch.rand(5, 3, 6, 5), torch.tensor([0, 3, 1, 2, 2])
    mixed, mixed_labels = mix(x, labels)
    assert mixed is x
    assert torch.equal(mixed_labels, torch.nn.functional.one_hot(labels, 4).float())
    params = mix.make_params([x])
    assert (params["lam"] == 1).all()
    assert same(mix.replay(params, x, labels)[0], x)
    assert torch.equal(generator.get_state(), state)
    assert not same(mix.train()(x, labels)[0], x)


@every_mixer
def test_copies_draw_the_same_stream_apart(case):
    x, labels = torch.rand(5, 3, 6, 5), soft_labels(5)
    mix = case.make(generator=generator_of(0))
    mix(x, labels)
    other = copy.deepcopy(mix)
    assert other.generator is not mix.generator
    assert same(mix(x, labels)[0], other(x, labels)[0])


@every_mixer
def test_gradients(case):
    x = torch.rand(3, 2, 3, 5, dtype=torch.float64, requires_grad=True)
    y = soft_labels(3).double().requires_grad_()
    mix = case.make(generator=generator_of(0))
    params = mix.make_params([x])
    assert torch.autograd.gradcheck(lambda x, y: mix.replay(params, x, y), (x, y))


@every_mixer
@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("inplace", [False, True])
def test_wide_unsigned_images_are_mixed_as_signed_ones(case, dtype, inplace):
    x, labels = torch.randint(0, 2**15, (6, 3, 8, 9)), soft_labels(6)
    mix = case.make(generator=generator_of(0), inplace=inplace)
    params = mix.make_params([x])
    expected = mix.replay(params, x.clone().int(), labels.clone())[0]
    mixed = mix.replay(params, x.to(dtype), labels.clone())[0]
    assert mixed.dtype == dtype
    difference = (mixed.long() - expected.long()).abs()
    assert difference.max() <= (dtype == torch.uint16)  # which is mixed in float32
