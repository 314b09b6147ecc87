"""torch.compile: kernels in one graph, whole transforms with one break, and no check lost."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters
from torch._inductor import config, cpu_vec_isa, metrics
from torch._inductor.utils import get_code
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    LabelMixture,
    OneHot,
    PresentLabels,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    SampleLabels,
    functional,
)
from tests.bits import same
from tests.cases import assert_law, every_member, labels_by
from tests.painted import OF_ANY_OBJECTS
from tests.strategies import generator_of, laid_out, noise, seeds, soft_labels

# Some versions of torch.compile use names of torch's own that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CHAIN = Path(__file__).parent.parent / "docs" / "compiled_chain.py"
COMPILES = shutil.which(os.environ.get("CXX", "g++")) and (
    Path(sysconfig.get_path("include"), "Python.h").exists()
)

# Torch compiles other graphs for sizes of 1 and for other layouts.
lengths = st.integers(2, 9)


def graphs():
    return counters["stats"]["unique_graphs"]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    counters.clear()


def compiled(function):
    return torch.compile(function, fullgraph=True, backend="eager")


def assert_compiled_law(case, params, before, after):
    labels = soft_labels(len(before))
    mixed = labels_by(params, labels)
    assert_law(case, params, before, after, labels, mixed, last_bits=16 * case.resizes)


@every_member
def test_one_graph_serves_every_batch_and_every_lam(case):
    kernel, geometry = case.kernel
    mix = compiled(kernel)
    for seed in range(5):
        x = torch.rand(6, 3, 8, 10)
        params = case.make(generator=generator_of(seed), p=0.7).make_params([x])
        assert_compiled_law(case, params, x, mix(x, params["partner"], params[geometry]))
    assert graphs() == 1


@every_member
@pytest.mark.parametrize("inplace", [False, True])
@settings(max_examples=6)
@given(shape=st.tuples(lengths, lengths, lengths, lengths), seed=seeds)
def test_the_law_holds_for_compiled_kernels(case, inplace, shape, seed):
    kernel, geometry = case.kernel
    x = noise(shape, torch.float32, seed)
    params = case.make(generator=generator_of(seed)).make_params([x])
    before = x.clone()
    mix = torch.compile(kernel, fullgraph=True, backend="eager", dynamic=True)
    after = mix(x, params["partner"], params[geometry], inplace=inplace)
    assert (after is x) == inplace
    assert_compiled_law(case, params, before, after)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.int64])
@every_member
def test_compiled_kernels_keep_dtypes(case, dtype):
    kernel, geometry = case.kernel
    x = (torch.rand(5, 2, 7, 9) * 200).to(dtype)
    params = case.make(generator=generator_of(3)).make_params([x])
    eager = kernel(x, params["partner"], params[geometry])
    after = compiled(kernel)(x, params["partner"], params[geometry])
    assert after.dtype == dtype
    # A resize as a product of matrices rounds otherwise than torch's own.
    slack = {"resizemix": 1}.get(case.name, 0)
    assert (after.double() - eager.double()).abs().max() <= slack


@every_member
@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
def test_in_place_sizes_and_layouts_may_change(case, layout):
    kernel, geometry = case.kernel
    mix = compiled(kernel)
    for shape in ((4, 3, 8, 8), (6, 3, 8, 10), (5, 2, 6, 6)):
        x = laid_out(torch.rand(shape), layout)
        params = case.make(generator=generator_of(0)).make_params([x])
        before = x.clone()
        assert mix(x, params["partner"], params[geometry], inplace=True) is x
        assert_compiled_law(case, params, before, x)


@every_member
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
@pytest.mark.parametrize("ambient", [torch.float16, torch.bfloat16])
def test_autocast_changes_no_compiled_kernel(case, dtype, ambient):
    kernel, geometry = case.kernel
    x = noise((5, 2, 7, 9), torch.int16, 0).to(dtype)
    x = x * 3 if dtype == torch.float32 else x  # beyond what float16 can hold
    params = case.make(generator=generator_of(3)).make_params([x])
    expected = compiled(kernel)(x, params["partner"], params[geometry])
    assert_compiled_law(case, params, x, expected)
    with torch.autocast("cpu", dtype=ambient):
        after = compiled(kernel)(x, params["partner"], params[geometry])
    assert torch.equal(after, expected)


def test_a_compiled_kernel_differentiates_lam():
    x, partner = torch.rand(4, 6), torch.tensor([1, 2, 3, 0])
    lam = torch.tensor([0.0, 1.0, 0.3, 0.8], requires_grad=True)
    for inplace in (False, True):
        mixed = compiled(functional.mixup)(x.clone(), partner, lam, inplace=inplace)
        (gradient,) = torch.autograd.grad(mixed.sum(), lam)
        torch.testing.assert_close(gradient, (x - x[partner]).sum(1))


def test_labels_and_scores_compile():
    rows = compiled(functional.one_hot)(torch.tensor([0, 5, 2]), 3)
    assert torch.equal(rows[[0, 2]], torch.eye(3)[[0, 2]])
    assert rows[1].isnan().all()
    labels, partner, lam = (
        soft_labels(4),
        torch.tensor([1, 2, 3, 0]),
        torch.tensor([0.2, 1, 0, 0.7]),
    )
    mixed = compiled(functional.mix_labels)(labels, partner, lam)
    assert torch.equal(mixed, functional.mix_labels(labels, partner, lam))
    scores, share = torch.randint(5, (4, 6, 7)).float(), torch.tensor([0.0, 0.3, 0.7, 1.0])
    mask = compiled(functional.top_share)(scores, share)
    assert torch.equal(mask, functional.top_share(scores, share))
    assert torch.equal(compiled(functional.mask_share)(mask), functional.mask_share(mask))


def loops_of(function, *inputs):
    """Return how many loops inductor makes of a function, and of how many steps to fuse."""
    metrics.reset()
    # The code is only written: nobody has to have a compiler, or wait for one.
    unused = {"cpp.cxx": (sys.executable,), "fx_graph_cache": False}
    with config.patch(unused), mock.patch.object(cpu_vec_isa, "valid_vec_isa_list", list):
        get_code(torch.compile(function, fullgraph=True), *inputs)
    return metrics.generated_kernel_count, metrics.ir_nodes_pre_fusion


def normalised_mixup(images, partner, lam):
    return functional.mixup((images / 255 - 0.45) / 0.22, partner, lam)


@pytest.mark.parametrize(
    ("kernel", "geometry", "dtype"),
    [
        (functional.mixup, "lam", torch.float32),
        (functional.mixup, "lam", torch.uint8),
        (normalised_mixup, "lam", torch.uint8),
        (functional.cutmix, "box", torch.float32),
        (functional.fmix, "mask", torch.float32),
    ],
)
def test_inductor_gathers_partners_and_mixes_in_one_loop(kernel, geometry, dtype):
    x, partner = noise((4, 3, 6, 8), dtype, 0), torch.tensor([1, 2, 3, 0])
    given = {
        "lam": torch.rand(4),
        "box": torch.tensor([[1, 2, 5, 4]]).expand(4, 4).contiguous(),
        "mask": torch.rand(4, 6, 8) > 0.5,
    }
    # With a step that it cannot fuse, such as a call of torch's own, there were more.
    assert loops_of(kernel, x, partner, given[geometry]) == (1, 1)


@pytest.mark.skipif(not COMPILES, reason="needs a C++ compiler and Python's headers")
def test_the_documented_chain_gives_what_its_steps_give_one_by_one():
    chain = {"__name__": "compiled_chain"}
    exec(CHAIN.read_text(), chain)
    mean, std = (chain[name].flatten().tolist() for name in ("MEAN", "STD"))
    steps = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    mix = RandomMixup(num_classes=chain["CLASSES"])
    for _ in range(3):
        images = torch.randint(256, (5, 3, 7, 9), dtype=torch.uint8)
        labels = torch.randint(chain["CLASSES"], (5,))
        torch.manual_seed(0)
        expected = mix(steps(images), labels)
        torch.manual_seed(0)
        mixed, rows = chain["mixed"](images, labels)
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed, expected[0], rtol=0, atol=1e-5)
        assert torch.equal(rows, expected[1])
    assert graphs() == 1


@every_member
@pytest.mark.parametrize("inplace", [False, True])
def test_a_whole_transform_is_one_graph_behind_its_draws(case, inplace):
    def make():
        return case.make(num_classes=4, generator=generator_of(0), inplace=inplace)

    eager, mix = make(), torch.compile(make(), backend="eager")
    for size in (6, 6, 6, 9, 11):
        x, labels = torch.rand(size, 3, 8, 10), torch.randint(4, (size,))
        expected = eager(x.clone(), labels)
        mixed = mix(x.clone(), labels)
        torch.testing.assert_close(mixed[0], expected[0], rtol=0, atol=1e-6)
        assert torch.equal(mixed[1], expected[1])
        # On recent versions of torch the second graph serves batches of any size.
        assert graphs() == {6: 1, 9: 2}.get(size, graphs())


def test_a_choice_runs_as_it_is():
    def make():
        mixers = [RandomMixup(num_classes=4), RandomCutMix(num_classes=4)]
        return RandomChoice(mixers, per_sample=True, generator=generator_of(0))

    eager, mix = make(), torch.compile(make(), backend="eager")
    for _ in range(4):
        x, labels = torch.rand(6, 3, 8, 10), torch.randint(4, (6,))
        assert same(mix(x, labels), eager(x, labels))
    assert graphs() == 0


@pytest.mark.parametrize("kind", OF_ANY_OBJECTS.values(), ids=repr)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_batch_of_objects_runs_as_it_is(kind, inplace):
    def make():
        return kind.make(generator=generator_of(0), inplace=inplace)

    eager, mix = make(), torch.compile(make(), backend="eager")
    for width in (5, 5, 8):
        expected = eager(*objects(width, kind))
        assert same(mix(*objects(width, kind)), expected)
    mix.eval()
    assert same(mix(*objects(5, kind)), eager.eval()(*objects(5, kind)))
    # What a canvas shows is arithmetic on numbers, of which each would be a graph of its own.
    assert graphs() == 0


def objects(width, kind):
    sizes = [(6, width), (6, width) if kind.one_size else (4, width + 2)]
    images = [torch.rand(3, *size, generator=generator_of(width)) for size in sizes]
    targets = [
        {
            "boxes": tv_tensors.BoundingBoxes([[0, 0, 3, 2]], format="XYXY", canvas_size=size),
            "masks": tv_tensors.Mask(torch.ones(1, *size, dtype=torch.bool)),
        }
        for size in sizes
    ]
    return images, targets


def test_no_check_is_lost():
    mix = torch.compile(RandomMixup(num_classes=4), backend="eager")
    x = torch.rand(3, 2, 2)
    mix(x, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"labels must lie .* got 4"):
        mix(x, torch.tensor([0, 1, 4]))
    with pytest.raises(ValueError, match="same batch size"):
        mix(x, torch.tensor([0, 1]))
    with pytest.raises(TypeError, match="got bool"):
        mix(x > 0, torch.tensor([0, 1, 2]))

    @torch.compile(backend="eager")
    def replay(params):
        return RandomMixup(num_classes=4).replay(params, x, torch.tensor([0, 1, 2]))

    with pytest.raises(ValueError, match="lam must lie"):
        replay({"partner": torch.tensor([1, 2, 0]), "lam": torch.tensor([0.5, 2.0, 0.5])})


def test_eval_mode_is_honoured():
    mix = torch.compile(RandomMixup(num_classes=4), backend="eager")
    x, labels = torch.rand(3, 2, 2), torch.tensor([0, 1, 2])
    assert not torch.equal(mix(x, labels)[0], x)
    mix.eval()
    assert torch.equal(mix(x, labels)[0], x)
    mix.train()
    assert not torch.equal(mix(x, labels)[0], x)


@pytest.mark.parametrize(
    "make", [RandomMixup, lambda num_classes: RandomChoice([RandomMixup(num_classes=num_classes)])]
)
def test_no_check_is_lost_in_eval_mode(make):
    mix = torch.compile(make(num_classes=4).eval(), backend="eager")
    x = torch.rand(3, 2, 2)
    with pytest.raises(ValueError, match=r"labels must lie .* got 4"):
        mix(x, torch.tensor([0, 1, 4]))
    with pytest.raises(ValueError, match=r"at least 0, got -0\.5"):
        mix(x, LabelMixture(torch.zeros(3, 1).long(), torch.full((3, 1), -0.5)))
    images, rows = mix(x, torch.tensor([0, 1, 3]))
    assert torch.equal(images, x)
    assert torch.equal(rows, torch.eye(4)[[0, 1, 3]])


def test_no_check_is_lost_ahead_of_a_mixer():
    mix = torch.compile(v2.Compose([OneHot(4), RandomMixup()]), backend="eager")
    x = torch.rand(3, 2, 2)
    with pytest.raises(ValueError, match=r"labels must lie .* got 4"):
        mix(x, torch.tensor([0, 1, 4]))
    assert mix(x, torch.tensor([0, 1, 3]))[1].isfinite().all()


def test_no_check_of_sampled_labels_is_lost():
    for sample in (SampleLabels(), SampleLabels().eval()):
        compiled_sample = torch.compile(sample, backend="eager")
        with pytest.raises(ValueError, match=r"must sum to 1 .* 0\.7"):
            compiled_sample(torch.tensor([[0.5, 0.2]]))
        with pytest.raises(ValueError, match=r"at least 0, got -0\.5"):
            compiled_sample(torch.tensor([[1.5, -0.5]]))


def test_no_check_of_present_labels_is_lost():
    present = torch.compile(PresentLabels(threshold=0.5), backend="eager")
    with pytest.raises(ValueError, match=r"at least 0, got -0\.5"):
        present(torch.tensor([[1.5, -0.5]]))
    assert present(torch.tensor([[0.75, 0.25]])).tolist() == [[1, 0]]


@pytest.mark.parametrize("generator", [None, 3])
def test_sampled_labels_are_those_of_the_eager_transform(generator):
    soft = soft_labels(64)

    def run(compiler):
        torch.manual_seed(5)
        sample = SampleLabels(generator=generator and generator_of(generator))
        sample = compiler(sample)
        return torch.stack([sample(soft) for _ in range(3)])

    eager = run(lambda transform: transform)
    assert torch.equal(run(lambda transform: torch.compile(transform, backend="eager")), eager)
    # Inductor would draw from a stream of its own; no C++ is compiled for what runs as it is.
    assert torch.equal(run(torch.compile), eager)
