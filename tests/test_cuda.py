"""On a GPU nothing waits for the device, and the same seed gives the same mix as on the CPU."""

from functools import partial

import pytest
import torch

from mixup_transforms import RandomChoice, RandomMixup, functional
from tests.cases import MEMBERS, MIXERS, assert_law, every_member, every_mixer
from tests.strategies import FLOATS, INTEGERS, generator_of, noise, soft_labels

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


every_mixer_but_the_choice = pytest.mark.parametrize(
    "case", [case for case in MIXERS if case.name != "choice"], ids=repr
)


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


@every_mixer_but_the_choice
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.usefixtures("no_waiting")
def test_a_replay_of_params_on_the_device_never_waits(case, inplace):
    x = torch.empty(8, 3, 16, 12, device="cuda").normal_()
    labels = torch.zeros(8, dtype=torch.int64, device="cuda")
    params = case.make(generator=generator_of(0)).make_params([torch.zeros(8, 3, 16, 12)])
    there = {name: value.to("cuda", non_blocking=True) for name, value in params.items()}
    case.make(num_classes=4, inplace=inplace).replay(there, x, labels)


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


def warmed_up(act):
    """Run on a stream beside the current one what is about to be captured, as torch asks for."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            act()
    torch.cuda.current_stream().wait_stream(beside)


def assert_a_graph_mixes_by_what_its_params_hold(mix, inputs, of_params):
    """Capture a replay once, then write other params, and other images, where it reads them."""
    x, labels = (part.cuda() for part in inputs)
    # The host has to hold a choice, by which it knows what to launch.
    of_params = [{k: v if k == "choice" else v.cuda() for k, v in p.items()} for p in of_params]
    held = {k: v.clone() for k, v in of_params[0].items()}
    images, rows = x.clone(), labels.clone()
    warmed_up(lambda: mix.replay(held, images, rows))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mixed = mix.replay(held, images, rows)
    for turn, params in enumerate((*of_params, of_params[0])):
        fresh = x.roll(turn, 0), labels.roll(turn, 0)
        for place, values in ((images, fresh[0]), (rows, fresh[1])):
            place.copy_(values)
        for name, values in params.items():
            held[name].copy_(values)
        graph.replay()
        expected = mix.replay(params, *(part.clone() for part in fresh))
        # Of a resize a product of matrices, which may be taken in another order.
        torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-3)


@every_mixer_but_the_choice
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_a_graph_of_a_replay(case, inplace, dtype):
    inputs = noise((8, 3, 16, 12), dtype, seed=0), soft_labels(8)
    draws = [case.make(generator=generator_of(seed), p=0.7) for seed in range(3)]
    of_params = [each.make_params([inputs[0]]) for each in (*draws, case.make(p=0))]
    assert_a_graph_mixes_by_what_its_params_hold(case.make(inplace=inplace), inputs, of_params)


@pytest.mark.parametrize("case", MEMBERS, ids=repr)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_graph_of_a_choice_for_the_batch(case, inplace):
    inputs = torch.rand(8, 3, 16, 12), torch.arange(8) % 4
    weights = [float(member is case) for member in MEMBERS]
    mixers = [member.make(num_classes=4, inplace=inplace) for member in MEMBERS]
    mix = RandomChoice(mixers, weights=weights, generator=generator_of(0))
    of_params = [mix.make_params([inputs[0]]) for _ in range(3)]
    assert_a_graph_mixes_by_what_its_params_hold(mix, inputs, of_params)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_state_that_map_location_moved(device):
    def make(seed):
        return RandomMixup(generator=torch.Generator(device).manual_seed(seed))

    saved, resumed = make(0), make(1)
    resumed.load_state_dict({name: state.cuda() for name, state in saved.state_dict().items()})
    x = [torch.zeros(8, 1, device="cuda")]
    assert torch.equal(resumed.make_params(x)["lam"], saved.make_params(x)["lam"])
