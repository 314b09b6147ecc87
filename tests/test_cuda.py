"""On a GPU nothing waits for the device, and the same seed gives the same mix as on the CPU."""

from functools import partial

import pytest
import torch

from mixup_transforms import RandomChoice, RandomMixup, functional
from tests.cases import MEMBERS, assert_law, every_member, every_mixer
from tests.strategies import FLOATS, INTEGERS, generator_of, noise, soft_labels

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def no_waiting():
    """Make every synchronisation an error."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@every_mixer
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.usefixtures("no_waiting")
def test_a_call_never_waits(case, inplace, p):
    x = torch.empty(8, 3, 16, 12, device="cuda").normal_()
    labels = torch.zeros(8, dtype=torch.int64, device="cuda")
    case.make(num_classes=4, p=p, inplace=inplace, generator=generator_of(0))(x, labels)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=str)
@every_mixer
@pytest.mark.parametrize("inplace", [False, True])
def test_the_law_holds_and_the_plan_is_that_of_the_cpu(case, dtype, inplace):
    x, labels = noise((8, 3, 16, 12), dtype, seed=0), soft_labels(8)
    make = partial(case.make, p=0.7, inplace=inplace)
    params = make(generator=generator_of(1)).make_params([x])
    mix = make(generator=generator_of(1))
    mixed, mixed_labels = mix(x.cuda(), labels.cuda())
    if "resizemix" in case.name or case.name == "choice":
        expected, expected_labels = make(generator=generator_of(1))(x.clone(), labels.clone())
        slack = {"rtol": 1e-3, "atol": 1e-2} if dtype.is_floating_point else {"rtol": 0, "atol": 1}
        torch.testing.assert_close(mixed.cpu(), expected, **slack)
        torch.testing.assert_close(mixed_labels.cpu(), expected_labels)
    else:
        assert_law(case, params, x, mixed.cpu(), labels, mixed_labels.cpu())


@every_member
def test_compiled_kernels_are_one_graph(case):
    kernel, geometry = case.kernel
    x = torch.rand(8, 3, 16, 12)
    params = case.make(generator=generator_of(0), p=0.7).make_params([x])
    compiled = torch.compile(kernel, fullgraph=True)
    mixed = compiled(x.cuda(), params["partner"].cuda(), params[geometry].cuda())
    expected = kernel(x, params["partner"], params[geometry])
    torch.testing.assert_close(mixed.cpu(), expected)


@every_mixer
def test_a_generator_on_the_device_draws_there(case):
    if case.name == "choice":
        mixers = [chosen.make(num_classes=4) for chosen in MEMBERS]
        mix = RandomChoice(mixers, generator=torch.Generator("cuda").manual_seed(0))
    else:
        mix = case.make(num_classes=4, generator=torch.Generator("cuda").manual_seed(0))
    x, labels = torch.rand(8, 3, 16, 12, device="cuda"), torch.arange(8, device="cuda") % 4
    params = mix.make_params([x])
    assert params["lam"].is_cuda
    mixed, mixed_labels = mix.replay(params, x, labels)
    assert mixed.is_cuda
    torch.testing.assert_close(mixed_labels.sum(1), torch.ones(8, device="cuda"))


@pytest.mark.usefixtures("no_waiting")
def test_labels_out_of_range_become_nan_without_waiting():
    rows = functional.one_hot(torch.ones(2, dtype=torch.int64, device="cuda"), 1)
    torch.cuda.set_sync_debug_mode("default")
    assert rows.isnan().all()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_state_that_map_location_moved(device):
    def make(seed):
        return RandomMixup(generator=torch.Generator(device).manual_seed(seed))

    saved, resumed = make(0), make(1)
    resumed.load_state_dict({name: state.cuda() for name, state in saved.state_dict().items()})
    x = [torch.zeros(8, 1, device="cuda")]
    assert torch.equal(resumed.make_params(x)["lam"], saved.make_params(x)["lam"])
