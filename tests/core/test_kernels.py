"""What the kernels promise whatever memory, dtype, context or derivative they meet."""

import pytest
import torch
import torch.autograd.forward_ad as fwd
from hypothesis import given
from hypothesis import strategies as st

from mixup_transforms import RandomCutMix, RandomMixup, functional
from mixup_transforms._core import checks
from mixup_transforms._core.memory import overlap
from tests.bits import same
from tests.cases import KERNELS, every_kernel, every_mixer, partners_for
from tests.paths import EVERY_PATH, on_path
from tests.strategies import generator_of, noise, seeds

PARTNER = torch.tensor([2, 0, 3, 1])
GEOMETRY = {
    "lam": torch.tensor([0.25, 0.5, 0.75, 1.0]),
    "box": torch.tensor([[1, 0, 4, 2], [0, 1, 2, 3], [2, 2, 5, 4], [3, 3, 3, 3]]),
    "mask": torch.rand(4, 4, 5, generator=generator_of(0)) > 0.5,
    "centre": torch.tensor([[2, 1], [4, 0], [1, 3], [5, 4]]),
}

# The first derivative forwards compiles decompositions in a way that torch itself has given up.
in_torchs_own_words = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")


@pytest.fixture(params=EVERY_PATH)
def path(request):
    """Run a test on all ways, those of rare tensors too."""
    with on_path(request.param):
        yield request.param


def kernel_of(name):
    """A kernel, its partners and its geometry."""
    kernel, geometry = KERNELS[name]
    return kernel, partners_for(name, PARTNER), GEOMETRY[geometry]


# Memory


@st.composite
def windows(draw):
    """A view of a buffer of 64 numbers, and the places that it holds."""
    dims = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), max_size=3))
    start = draw(st.integers(0, 63 - sum(max(0, size - 1) * step for size, step in dims)))
    shape, strides = zip(*dims, strict=True) if dims else ((), ())
    return shape, strides, start


@given(one=windows(), other=windows())
def test_an_overlap_is_a_number_in_common(one, other):
    buffer = torch.arange(64)
    first, second = (buffer.as_strided(*window) for window in (one, other))
    common = {*first.flatten().tolist()} & {*second.flatten().tolist()}
    assert overlap(first, second) == bool(common)


def test_tensors_without_an_address_do_not_overlap():
    meta, empty = torch.empty(4, device="meta"), torch.empty(0)
    assert not overlap(meta, meta)
    assert not overlap(empty, empty)
    assert not overlap(torch.empty(4), meta)


def test_memory_is_told_by_address_and_not_by_storage():
    numbers = torch.rand(8).numpy()
    assert overlap(torch.from_numpy(numbers), torch.from_numpy(numbers[4:]))
    assert not overlap(torch.from_numpy(numbers[:4]), torch.from_numpy(numbers[4:]))


def shared_pairs():
    """Own batches and partners' batches in one buffer."""
    yield "detached", lambda x: (x[:4], x[:4].detach())
    yield "a window", lambda x: (x[2:6], x[:4])
    yield "a longer window", lambda x: (x[2:6], x)
    yield "expanded", lambda x: (x[:4], x[3:4].expand(4, *x.shape[1:]))
    yield "other strides", lambda x: (x[:4], x[:8:2])
    yield "channels swapped", lambda x: (x[:4], x[:4].flip(0).copy_(x[:4]).mT.contiguous().mT)
    yield "interleaved", lambda x: (x[::2], x[1::2])


@every_kernel
@pytest.mark.parametrize(
    ("_", "share"), [*shared_pairs()], ids=[name for name, _ in shared_pairs()]
)
def test_partners_that_share_memory_are_seen_as_they_were(name, _, share, path):
    kernel, partner, weights = kernel_of(name)
    values, others = share(noise((8, 3, 4, 5), torch.float32, 0))
    expected = kernel(values.clone(), partner, weights, others=others.clone())
    assert kernel(values, partner, weights, others=others, inplace=True) is values
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-4 * (name == "resizemix"))


def test_partners_that_share_memory_through_a_mixer(path):
    for mix in (RandomMixup(), RandomCutMix()):
        x = torch.rand(6, 3, 8, 8)
        params = mix.make_params([x[:4]])
        expected = mix.apply(x[:4].clone(), params, others=x[2:].clone())
        mix.apply(x[:4], params, others=x[2:], inplace=True)
        assert torch.equal(x[:4], expected)


def test_weights_in_the_memory_that_is_written(path):
    images = torch.rand(4, 3, 4, 5) > 0.5
    expected = functional.fmix(images.clone(), PARTNER, images[:, 1].clone())
    functional.fmix(images, PARTNER, images[:, 1], inplace=True)
    assert torch.equal(images, expected)
    labels = torch.rand(4, 3)
    expected = functional.mix_labels(labels.clone(), PARTNER, labels[:, 0].clone())
    functional.mix_labels(labels, PARTNER, labels[:, 0], inplace=True)
    assert torch.equal(labels, expected)


@given(window=windows())
def test_what_is_writable_holds_no_number_twice(window):
    held = torch.arange(64).as_strided(*window)
    twice = len({*held.flatten().tolist()}) < held.numel()
    try:
        checks.writable("images", held)
    except ValueError:
        return
    assert not twice


# Dtypes


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (torch.int64, [2**63 - 1, 2**63 - 1]),
        (torch.int64, [-(2**63), -(2**63)]),
        (torch.int64, [2**63 - 1, 2**63 - 3]),
        (torch.int64, [2**53 + 1, 2**53 + 1]),
        (torch.int64, [2**63 - 1, -(2**63)]),
        (torch.uint64, [2**64 - 1, 2**64 - 1]),
        (torch.uint64, [2**64 - 1, 2**63]),
        (torch.uint64, [2**64 - 1, 0]),
        (torch.uint64, [2**63 + 1, 2**63 - 1]),
        (torch.uint32, [2**32 - 1, 2**32 - 1]),
        (torch.int32, [-(2**31), 2**31 - 1]),
    ],
)
@pytest.mark.parametrize("kernel", ["mixup", "resizemix"])
@pytest.mark.parametrize("inplace", [False, True])
def test_integers_at_their_limits_stay_between_their_parents(dtype, values, kernel, inplace, path):
    x = torch.stack([torch.tensor(value, dtype=dtype).expand(1, 6, 6) for value in values])
    lam, box = torch.tensor([0.5, 0.7]), torch.tensor([[0, 0, 4, 4]] * 2)
    weights = lam if kernel == "mixup" else box
    mixed = getattr(functional, kernel)(x, torch.tensor([1, 0]), weights, inplace=inplace)
    pixels = mixed[:, 0, 1, 1].tolist()
    for share, *parents, got in zip(lam, values, values[::-1], pixels, strict=True):
        assert min(parents) <= got <= max(parents)
        if kernel == "mixup":
            wanted = share.item() * parents[0] + (1 - share.item()) * parents[1]
            assert got == pytest.approx(wanted, rel=1e-7, abs=1e12 if dtype.itemsize > 4 else 0.5)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64, torch.int32, torch.uint8])
@given(seed=seeds)
def test_a_nearest_resize_only_copies(dtype, seed):
    high = torch.iinfo(dtype).max // 2
    ids = torch.randint(high - 100, high, (3, 7, 9), generator=generator_of(seed)).to(dtype)
    box = torch.randint(0, 7, (3, 2, 2), generator=generator_of(seed)).sort(1).values.flatten(1)
    partner = torch.tensor([2, 0, 1])
    mixed = functional.resizemix(ids, partner, box, nearest=True)
    for i, j in enumerate(partner.tolist()):
        assert {*mixed[i].flatten().tolist()} <= {*ids.long()[[i, j]].flatten().tolist()}


def test_a_nearest_resize_is_the_same_on_every_path(path):
    ids = torch.randint(2**62, 2**63 - 1, (4, 2, 11, 13))
    box = torch.tensor([[0, 0, 7, 5], [2, 1, 13, 11], [3, 3, 4, 9], [5, 5, 5, 5]])
    resized = functional.resizemix(ids, PARTNER, box, nearest=True)
    with on_path("by sample"):
        painted = functional.resizemix(ids, PARTNER, box, nearest=True)
    assert torch.equal(resized, painted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_floats_are_mixed_as_far_as_their_difference_goes(dtype, path):
    half = torch.finfo(dtype).max / 2
    x = torch.tensor([[half, half], [-half, half]], dtype=dtype)
    mixed = functional.mixup(x, torch.tensor([1, 0]), torch.tensor([0.5, 0.25]))
    assert mixed[0].tolist() == [0, x[0, 1]]
    assert mixed[1].tolist() == [x[0, 0] / 2, x[0, 1]]


ODD = ["uint4", "int2", "bits8", "float8_e4m3fn", "float8_e8m0fnu", "float4_e2m1fn_x2"]
ODD += ["bool", "complex64", "complex32", "uint16", "uint32", "uint64"]
ANY = [*ODD, "float32", "bfloat16", "float64", "int64"]


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.parametrize("kernel", ["cutmix", "fmix", "mosaic"])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [getattr(torch, name) for name in ANY if hasattr(torch, name)])
def test_bits_of_any_dtype_are_copied(dtype, inplace, kernel, path):
    kernel, partner, weights = kernel_of(kernel)
    size = dtype.itemsize
    plain = torch.randint(2, (4, 3, 4, 5 * size), generator=generator_of(0), dtype=torch.uint8)
    x = plain.clone().view(dtype)
    mixed = kernel(x, partner, weights, inplace=inplace)
    assert mixed.dtype == dtype
    assert (mixed is x) == inplace
    wide = plain.view(4, 3, 4, 5, size).permute(4, 0, 1, 2, 3)
    expected = torch.stack([kernel(part.contiguous(), partner, weights) for part in wide], dim=-1)
    assert torch.equal(mixed.view(torch.uint8), expected.flatten(3))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("size", [(4, 5), (160, 160)])
def test_autograd_hears_of_what_is_written_in_inference_mode(name, size, path):
    kernel, partner, geometry = kernel_of(name)
    if name == "fmix":
        geometry = torch.rand(4, *size, generator=generator_of(0)) > 0.5
    weights = torch.rand(4, 3, *size, requires_grad=True)
    images = weights.exp()  # which keeps its output
    with torch.inference_mode():
        kernel(images.detach(), partner, geometry, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        images.sum().backward()


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
@every_kernel
@pytest.mark.parametrize("where", ["images", "others"])
def test_quantized_tensors_are_refused(name, where):
    kernel, partner, weights = kernel_of(name)
    x = torch.rand(4, 3, 4, 5)
    batches = {"images": x, "others": x, where: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)}
    with pytest.raises(TypeError, match=f"{where} must not be quantized"):
        kernel(batches["images"], partner, weights, others=batches["others"])


@every_kernel
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (4, 0, 4, 5), (1, 3, 4, 5)])
@pytest.mark.parametrize("inplace", [False, True])
def test_batches_of_nothing_and_of_one(name, shape, inplace, path):
    kernel, partner, weights = kernel_of(name)
    x, batch = torch.rand(shape), shape[0]
    before = x.clone()
    mixed = kernel(x, torch.zeros_like(partner[:batch]), weights[:batch], inplace=inplace)
    assert mixed.shape == shape
    if name not in ("resizemix", "mosaic"):
        assert torch.equal(mixed, before)


# Contexts


@every_kernel
@pytest.mark.parametrize("ambient", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int16, torch.uint8])
def test_autocast_changes_nothing(name, ambient, dtype, path):
    kernel, partner, weights = kernel_of(name)
    x = (
        noise((4, 3, 4, 5), torch.int16, 0)
        .clamp(0, 200 if dtype == torch.uint8 else None)
        .to(dtype)
    )
    x = x * 2 if dtype == torch.float32 else x  # beyond what float16 can hold
    expected = kernel(x, partner, weights)
    with torch.autocast("cpu", dtype=ambient):
        assert torch.equal(kernel(x, partner, weights), expected)
        assert torch.equal(kernel(x.clone(), partner, weights, inplace=True), expected)
        assert torch.is_autocast_enabled("cpu")


@every_mixer
def test_autocast_changes_no_mixer(case, path):
    x = noise((6, 3, 8, 8), torch.bfloat16, 0)
    params = case.make().make_params([x])
    expected = case.make().apply(x, params)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.equal(case.make().apply(x, params), expected)


# Derivatives


@pytest.mark.parametrize("kernel", [functional.mixup, functional.mix_labels])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_gradient_of_lam_is_how_far_the_parents_are_apart(kernel, inplace, path):
    x = torch.rand(4, 3, 4, dtype=torch.float64)
    lam = torch.tensor([0.0, 1.0, 0.3, 0.8], requires_grad=True)
    slope = (x - x[PARTNER]).sum((1, 2)).float()
    mixed = kernel(x.clone() if inplace else x, PARTNER, lam, inplace=inplace)
    (gradient,) = torch.autograd.grad(mixed.sum(), lam)
    torch.testing.assert_close(gradient, slope)


def test_a_gradient_of_lam_changes_no_bit(path):
    x = torch.tensor([[-0.0, torch.nan, torch.inf], [0.0, -0.0, 1.0], [2.0, -3.0, -0.0]])
    partner, lam = torch.tensor([1, 2, 0]), torch.tensor([1.0, 0.0, 1.0])
    mixed = functional.mixup(x, partner, lam.clone().requires_grad_())
    expected = functional.mixup(x, partner, lam)
    assert same(mixed, expected)


def test_a_mixer_differentiates_lam():
    x, lam = torch.rand(4, 3), torch.full((4,), 0.5, requires_grad=True)
    for labels in (torch.eye(4), torch.tensor([0, 1, 2, 3])):
        mix = RandomMixup(num_classes=4)
        mixed, rows = mix.replay({"partner": PARTNER, "lam": lam}, x, labels)
        (gradient,) = torch.autograd.grad(mixed.sum(), lam)
        torch.testing.assert_close(gradient, (x - x[PARTNER]).sum(1))
        (gradient,) = torch.autograd.grad(rows.diagonal().sum(), lam)
        torch.testing.assert_close(gradient, torch.ones(4))


@in_torchs_own_words
@every_kernel
def test_kernels_are_linear_forwards_too(name, path):
    kernel, partner, weights = kernel_of(name)
    x, direction = torch.rand(2, 4, 3, 4, 5, dtype=torch.float64)
    expected = kernel(direction, partner, weights)
    _, slope = torch.func.jvp(lambda x: kernel(x, partner, weights), (x,), (direction,))
    torch.testing.assert_close(slope, expected)
    with fwd.dual_level():
        mixed = kernel(fwd.make_dual(x, direction), partner, weights)
        torch.testing.assert_close(fwd.unpack_dual(mixed).tangent, expected)


@in_torchs_own_words
def test_lam_is_differentiated_forwards_and_twice(path):
    x, lam = torch.rand(4, 3, dtype=torch.float64), torch.tensor([0.0, 1.0, 0.3, 0.8])
    _, slope = torch.func.jvp(
        lambda lam: functional.mixup(x, PARTNER, lam), (lam,), (torch.ones(4),)
    )
    torch.testing.assert_close(slope, x - x[PARTNER])
    hessian = torch.func.hessian(lambda lam: functional.mixup(x, PARTNER, lam).square().sum())(lam)
    torch.testing.assert_close(hessian.diag().double(), 2 * (x - x[PARTNER]).square().sum(1))


@every_kernel
@pytest.mark.parametrize("mapped", ["images", "partner", "weights"])
def test_vmap_is_a_loop(name, mapped, path):
    kernel, partner, weights = kernel_of(name)
    inputs = {"images": torch.rand(4, 3, 4, 5), "partner": partner, "weights": weights}
    stack = torch.stack([inputs[mapped], inputs[mapped].roll(1, 0)])

    def run(part):
        given = {**inputs, mapped: part}
        return kernel(given["images"], given["partner"], given["weights"])

    expected = torch.stack([run(part) for part in stack])
    torch.testing.assert_close(torch.func.vmap(run)(stack), expected)
