"""The law in one long run over everything that a call can combine.

``HYPOTHESIS_PROFILE=soak python -m pytest tests/test_soak.py`` tries 100,000 combinations.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

from mixup_transforms import (
    LabelMixture,
    MixedDataset,
    OneHot,
    ToLabelMixture,
    functional,
    seeded_generator,
)
from mixup_transforms._core import classes, kernels
from tests.bits import same
from tests.cases import OF_ONE_PARTNER, SINGLE, Case, assert_law
from tests.paths import PATHS, on_path
from tests.steps import fail_at
from tests.strategies import (
    FLOATS,
    INTEGERS,
    generator_of,
    laid_out,
    lams,
    layouts,
    noise,
    seeds,
    shapes_for,
)

CLASSES = 4
LABELS = (
    "indices",
    "small indices",
    "one-hot",
    "one-hot first",
    "soft float16",
    "soft bfloat16",
    "soft float64",
    "multi-label",
    "regression",
    "positions",
    "mixture",
    "mixture first",
    "mask",
    "images alone",
)
# What only a mixer that copies pixels can take, and the integers with as many bits.
COPIED = {
    torch.bool: torch.int8,
    torch.float8_e4m3fn: torch.int8,
    torch.uint16: torch.int16,
    torch.uint32: torch.int32,
    torch.uint64: torch.int64,
    torch.complex64: torch.int64,
}
COMPILED = ("mixup", "mix_labels", "cutmix", "resizemix", "fmix")


@dataclass(frozen=True)
class Combination:
    """One way to make a mixer, a batch for it, and a call."""

    case: Case
    compiled: bool
    path: str
    per_sample: bool
    inplace: bool
    p: float
    alpha: float
    seed: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: str
    labels: str
    form: str
    wrapped: bool
    given_lam: tuple[float, ...]
    any_partner: bool
    autocast: torch.dtype | None


@st.composite
def combinations(draw):
    case = draw(st.sampled_from(OF_ONE_PARTNER))
    compiled = draw(st.integers(0, 15)) == 0
    if compiled:
        shape = draw(st.tuples(*[st.integers(2, 6)] * 4))
        dtype, layout = draw(st.sampled_from([torch.float32, torch.uint8])), "contiguous"
    else:
        inner = draw(shapes_for(case))
        shape = (draw(st.integers(0, 6)), *inner)
        dtypes = FLOATS + INTEGERS + (tuple(COPIED) if case.name in ("cutmix", "fmix") else ())
        dtype, layout = draw(st.sampled_from(dtypes)), draw(layouts)
        if len(shape) <= 2 and dtype in (torch.int32, torch.int64):
            dtype = torch.float64  # what nobody takes for ids
    return Combination(
        case=case,
        compiled=compiled,
        path=draw(st.sampled_from(PATHS)),
        per_sample=draw(st.booleans()),
        inplace=draw(st.booleans()),
        p=draw(st.sampled_from([0.0, 0.3, 1.0, 1.0])),
        alpha=draw(st.sampled_from([1e-3, 0.2, 1.0, 8.0, 1000.0])),
        seed=draw(seeds),
        shape=shape,
        dtype=dtype,
        layout=layout,
        labels=draw(st.sampled_from(LABELS)),
        form=draw(st.sampled_from(["arguments", "tuple", "dict", "nested"])),
        wrapped=draw(st.booleans()),
        given_lam=draw(st.one_of(st.just(()), st.tuples(*[lams] * 6))),
        any_partner=draw(st.integers(0, 7)) == 0,
        autocast=draw(st.sampled_from([None, None, torch.float16, torch.bfloat16])),
    )


def make_mixer(c):
    options = {"alpha": c.alpha} if c.case.has_alpha else {}
    return c.case.make(
        p=c.p,
        per_sample=c.per_sample,
        inplace=c.inplace,
        generator=generator_of(c.seed),
        num_classes=CLASSES if "indices" in c.labels else None,
        labels_getter=None if c.labels == "images alone" else "default",
        **options,
    )


def make_images(c):
    if c.dtype not in COPIED:
        return laid_out(noise(c.shape, c.dtype, c.seed), c.layout)
    bits = noise(c.shape, COPIED[c.dtype], c.seed)
    bits = bits & 1 if c.dtype == torch.bool else bits
    return laid_out(bits, c.layout).view(c.dtype)


def make_labels(c):
    """Return the labels as they are given and, as the oracle sees them, dense in float64."""
    generator, batch = generator_of(c.seed + 1), c.shape[0]
    indices = torch.randint(CLASSES, (batch,), generator=generator)
    one_hot = F.one_hot(indices, CLASSES).double()
    soft = torch.rand(batch, CLASSES, generator=generator).softmax(1)
    if c.labels == "small indices":
        return indices.to(torch.uint8), one_hot
    if c.labels.startswith("soft"):
        given_labels = soft.to(getattr(torch, c.labels.split()[1]))
        return given_labels, given_labels.double().clone()
    if c.labels == "multi-label":
        soft = (soft > 0.2).float()
    if c.labels == "regression":
        soft = torch.randn(batch, generator=generator)
    if c.labels == "positions":
        soft = torch.rand(batch, CLASSES, 3, generator=generator)
    if c.labels == "mixture":
        classes = torch.randint(CLASSES, (batch, 3), generator=generator)
        weights = torch.rand(batch, 3, generator=generator).softmax(1)
        dense = torch.zeros(batch, CLASSES).scatter_add_(1, classes, weights)
        return LabelMixture(classes, weights), dense.double()
    if c.labels in ("multi-label", "regression", "positions"):
        return soft, soft.double()
    if c.labels == "mask":
        ids = torch.randint(CLASSES, mask_shape(c), generator=generator)
        blended = c.case.name == "choice" or c.case.name.startswith("mixup")
        return tv_tensors.Mask(ids.float() if blended else ids), None
    return {
        "indices": indices,
        "one-hot": one_hot.float(),
        "one-hot first": OneHot(CLASSES)(indices),
        "mixture first": ToLabelMixture()(indices),
        "images alone": None,
    }[c.labels], one_hot


def mask_shape(c):
    return (c.shape[0], *c.shape[-2:]) if c.case.spatial else (c.shape[0], 3, 2)


def wrap(c, images):
    kind = {4: tv_tensors.Image, 5: tv_tensors.Video}.get(images.ndim)
    return kind(images) if kind and c.wrapped and images.dtype in FLOATS + INTEGERS else images


def arrange(c, images, labels):
    """Return the arguments of a call."""
    if c.labels == "images alone":
        return {"arguments": (images,), "tuple": ((images,),)}.get(c.form, ({"images": images},))
    return {
        "arguments": (images, labels),
        "tuple": ((images, labels),),
        "dict": ({"images": images, "labels": labels},),
        "nested": ([images, {"labels": labels, "name": "x"}, 3],),
    }[c.form]


def take_out(c, result):
    """Undo ``arrange``."""
    if c.labels == "images alone":
        if c.form in ("dict", "nested"):
            return result["images"], None
        return (result[0] if c.form == "tuple" else result), None
    if c.form == "dict":
        return result["images"], result["labels"]
    if c.form == "nested":
        images, labels, last = result
        assert (labels["name"], last) == ("x", 3)
        return images, labels["labels"]
    return result


def make_params(c, images):
    """Return params as a call would draw them, and whether they were then changed by hand."""
    params = make_mixer(c).make_params([images])
    batch = len(images)
    if c.given_lam and c.case.name.startswith("mixup"):
        params["lam"] = torch.tensor(c.given_lam[:batch])
    if c.any_partner and batch:
        params["partner"] = torch.randint(batch, (batch,), generator=generator_of(c.seed + 2))
    return params, bool(c.given_lam) or c.any_partner


@cache
def compiled_kernel(name):
    eager = getattr(functional, name)
    graph = torch.compile(eager, fullgraph=True, backend="eager", dynamic=True)

    def kernel(values, /, partner, third, *, others=None, **options):
        pool = {} if others is None else {"others": others}
        # Graphs serve all sizes but 0 and 1.
        fits = values.ndim in (2, 4) and min(values.shape) > 1 and values.dtype != torch.float64
        if not fits or min(pool.get("others", values).shape) == 1:
            return eager(values, partner, third, others=others, **options)
        return graph(values, partner, third, **pool, **options)

    return kernel


GRAPHS = "recompile_limit"


@contextmanager
def kernels_of(c):
    """Send the mixer through the kernels that the combination names."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch._dynamo.config, GRAPHS, 1000))
        stack.enter_context(on_path(c.path))
        for name in COMPILED if c.compiled else ():
            kernel = compiled_kernel(name)
            stack.enter_context(mock.patch.object(functional, name, kernel))
        if c.autocast:
            stack.enter_context(torch.autocast("cpu", dtype=c.autocast))
        yield


def plain(value):
    """The same values without torchvision's types, odd dtypes as integers of the same bits."""
    value = value.as_subclass(torch.Tensor)
    return value.view(COPIED.get(value.dtype, value.dtype))


def copy_of(labels):
    if isinstance(labels, LabelMixture):
        return LabelMixture(*(part.clone() for part in labels))
    return None if labels is None else labels.clone()


def dense(labels):
    return labels.dense(CLASSES) if isinstance(labels, LabelMixture) else labels


def expected_mask(c, params, masks, i):
    """Return sample i of the mixed masks."""
    own, other = masks[i], masks[params["partner"][i]]
    name = SINGLE[int(params["choice"][i])].name if "choice" in params else c.case.name
    lam = params["lam"][i]
    if name.startswith("mixup"):
        return lam * own + (1 - lam) * other
    if name == "fmix":
        return torch.where(params["mask"][i], own, other)
    x1, y1, x2, y2 = params["box"][i].tolist()
    view, out = other, own.clone()
    if name.startswith("resizemix") and x1 < x2 and y1 < y2:
        small = F.interpolate(other[None, None].double(), (y2 - y1, x2 - x1), mode="nearest-exact")
        view = torch.zeros_like(other)
        view[y1:y2, x1:x2] = small[0, 0].to(other.dtype)
    out[y1:y2, x1:x2] = view[y1:y2, x1:x2]
    return out


keys = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2000), st.integers(0, 2000))


@settings(max_examples=max(150, settings().max_examples))
@given(c=combinations())
def test_the_law_holds_whatever_is_combined(c):
    images, (labels, truth) = make_images(c), make_labels(c)
    before, labels_before = images.clone(), copy_of(labels)
    params, by_hand = make_params(c, images)
    mix, batch = make_mixer(c), arrange(c, wrap(c, images), labels)
    version = images._version
    with kernels_of(c):
        result = mix.replay(params, *batch) if by_hand else mix(*batch)
    mixed, mixed_labels = take_out(c, result)

    assert type(mixed) is type(wrap(c, images))
    assert mixed.dtype == before.dtype
    if truth is None or c.labels == "images alone":
        truth = torch.zeros(len(before), 1)
        target = truth
    else:
        target = dense(mixed_labels)
        assert target.dtype == (torch.float64 if c.labels == "soft float64" else torch.float32)
    for i in (params["lam"] == 1).nonzero().flatten().tolist():
        assert same(plain(mixed)[i], plain(before)[i]), "a sample that is not mixed has changed"
    last_bits = 16 * (c.case.resizes and (c.compiled or c.path == "unread"))
    pixels = plain(before), plain(mixed)
    assert_law(c.case, params, *pixels, truth, target, last_bits=last_bits)

    if c.labels == "mask":
        assert type(mixed_labels) is tv_tensors.Mask
        masks = labels_before.as_subclass(torch.Tensor)
        for i, mask in enumerate(mixed_labels.as_subclass(torch.Tensor)):
            torch.testing.assert_close(mask, expected_mask(c, params, masks, i))
    if c.inplace:
        assert same(plain(images), plain(mixed))
        assert c.labels not in ("one-hot", "regression", "mask") or mixed_labels is labels
    else:
        assert images._version == version
        assert same(plain(images), plain(before))
        if labels is not None:
            assert torch.equal(dense(labels), dense(labels_before))


@settings(max_examples=max(100, settings().max_examples // 4))
@given(c=combinations(), shift=st.integers(0, 6), step=st.integers(1, 2))
def test_partners_may_lie_in_the_memory_that_is_written(c, shift, step):
    batch = c.shape[0]
    buffer = make_images(replace(c, shape=(2 * batch + 6, *c.shape[1:])))
    own, others = buffer[:batch], buffer[shift : shift + step * batch : step]
    (params, _), mix = make_params(c, own), make_mixer(c)
    with kernels_of(c):
        expected = mix.apply(own.clone(), params, others=others.clone(), inplace=c.inplace)
        mixed = mix.apply(own, params, others=others, inplace=c.inplace)
    assert (mixed is own) == c.inplace
    assert same(plain(mixed), plain(expected))


@settings(max_examples=max(100, settings().max_examples // 4))
@given(c=combinations(), turn=st.integers(1, 4), name=st.sampled_from(["_run", "take", "moved"]))
def test_a_step_that_fails_leaves_the_batch_as_it_was(c, turn, name):
    images, (labels, _) = make_images(c), make_labels(c)
    before, labels_before = images.clone(), copy_of(labels)
    (params, _), mix = make_params(c, images), make_mixer(replace(c, compiled=False))
    with kernels_of(replace(c, compiled=False)), pytest.MonkeyPatch.context() as patch:
        calls = fail_at(patch, kernels, name, turn)
        with suppress(MemoryError):
            mix.replay(params, *arrange(c, wrap(c, images), labels))
    if len(calls) >= turn:
        assert same(plain(images), plain(before))
        assert labels is None or torch.equal(dense(labels), dense(labels_before))


@settings(max_examples=max(20, settings().max_examples // 100))
@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**31),
    case=st.sampled_from(OF_ONE_PARTNER),
    threads=st.integers(1, 4),
)
def test_samples_of_a_key_are_the_same_in_threads(seed, epoch, case, threads):
    samples = [*zip(torch.rand(8, 3, 6, 5), torch.eye(8), strict=True)]
    mixed = MixedDataset(samples, case.make(), seed=seed)
    mixed.set_epoch(epoch)
    alone = [mixed[i] for i in range(8)]
    with ThreadPoolExecutor(threads) as pool:
        together = [*pool.map(mixed.__getitem__, range(8))]
    assert same(alone, together)


@given(first=keys, second=keys)
def test_no_two_keys_share_a_stream(first, second):
    draws = [
        torch.rand(4, generator=seeded_generator(seed, rank=rank, epoch=epoch)).tolist()
        for seed, rank, epoch in (first, second)
    ]
    assert (draws[0] == draws[1]) == (first == second)


@settings(max_examples=max(100, settings().max_examples // 4))
@given(c=combinations())
def test_lam_may_be_differentiated(c):
    c = replace(c, case=SINGLE[0], dtype=torch.float64)
    x, (params, _) = make_images(c), make_params(c, make_images(c))
    partner, lam = params["partner"], params["lam"].clone().requires_grad_()
    with kernels_of(c):
        mixed = functional.mixup(x.clone(), partner, lam, inplace=c.inplace)
        expected = functional.mixup(x, partner, params["lam"])
        (gradient,) = torch.autograd.grad(mixed.sum(), lam)
    torch.testing.assert_close(mixed.detach(), expected, rtol=1e-12, atol=1e-12)
    slope = (x - x[partner]).flatten(1).sum(1) if x.ndim > 1 else x - x[partner]
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=1e-2)


PLAIN = Combination(
    case=SINGLE[0],
    compiled=False,
    path="gathered",
    per_sample=True,
    inplace=False,
    p=1.0,
    alpha=1.0,
    seed=0,
    shape=(4, 3, 8, 8),
    dtype=torch.float32,
    layout="contiguous",
    labels="indices",
    form="arguments",
    wrapped=False,
    given_lam=(),
    any_partner=False,
    autocast=None,
)


@pytest.mark.parametrize(("module", "kernel"), [(kernels, "blend"), (classes, "blend_classes")])
def test_a_kernel_that_lies_is_caught(module, kernel, monkeypatch):
    honest = getattr(module, kernel)

    def lying(x, partner, lam, *args, **kwargs):
        return honest(x, partner, 1 - lam, *args, **kwargs)

    monkeypatch.setattr(module, kernel, lying)
    with pytest.raises(AssertionError, match=r"a pixel is not the mix|the label lies"):
        test_the_law_holds_whatever_is_combined.hypothesis.inner_test(PLAIN)
