"""What a call costs an accelerator, and that a CUDA graph could capture a replay."""

from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_map_only
from torchvision import tv_tensors

from mixup_transforms import (
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    RandomMosaic,
    ToLabelMixture,
)
from tests.accelerator import Accelerator, HostWaitsError
from tests.cases import MEMBERS, MIXERS, SINGLE
from tests.strategies import generator_of
from tests.test_device import LABELS, in_place_or_not, indices_of, labels_of, make, pictures

CASES = {case.name: case for case in MIXERS if case.name != "choice"}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def choice_for_each_sample():
    mixers = [RandomMixup(num_classes=4), RandomCutMix(num_classes=4)]
    return RandomChoice(mixers, per_sample=True, generator=generator_of(2))


def choice_of(case, members, **settings):
    """A choice for the whole batch that always falls on one of its members."""
    weights = [float(member is case) for member in members]
    mixers = [make(member, **settings) for member in members]
    return RandomChoice(mixers, weights=weights, generator=generator_of(2))


# For each mixer the launches and copies of a call, then those of a replay whose params lie on the
# device. Whoever adds one says in the commit what it is for, whoever saves one writes it down.
COSTS = {
    "mixup": ((12, 2), (17, 0)),
    "cutmix": ((21, 2), (27, 0)),
    "resizemix": ((60, 2), (66, 0)),
    "fmix": ((12, 2), (16, 0)),
    "mosaic": ((32, 2), (45, 0)),
    "cutmix-1d": ((16, 2), (22, 0)),
    "cutmix-3d": ((26, 2), (32, 0)),
    "fmix-1d": ((12, 2), (16, 0)),
    "fmix-3d": ((12, 2), (16, 0)),
    "mixup-dominant": ((12, 2), (17, 0)),
    "resizemix-whole": ((60, 2), (66, 0)),
    "classmix": ((12, 2), (16, 0)),
    "copypaste": ((12, 2), (16, 0)),
    "mixup of bytes": ((16, 2), (21, 0)),
    "mixup of rows": ((4, 2), (14, 0)),
    "mixup of mixtures": ((9, 2), (14, 0)),
    "mixup in place": ((12, 2), (18, 0)),
    "mixup of some": ((18, 3), (17, 0)),
    "cutmix in place": ((21, 2), (28, 0)),
    "choice for each sample": ((27, 4), (58, 8)),
}
MIXES = {
    **{name: partial(make, case) for name, case in CASES.items()},
    "mixup of bytes": partial(make, CASES["mixup"]),
    "mixup of rows": partial(make, CASES["mixup"], "dense"),
    "mixup of mixtures": partial(make, CASES["mixup"], "mixture"),
    "mixup in place": partial(make, CASES["mixup"], inplace=True),
    "mixup of some": partial(make, CASES["mixup"], p=0.5),
    "cutmix in place": partial(make, CASES["cutmix"], inplace=True),
    "choice for each sample": choice_for_each_sample,
}
INPUTS = {
    "mixup of bytes": (pictures(8, torch.uint8), indices_of(8)),
    "mixup of rows": (pictures(8), LABELS["dense"](8)),
    "mixup of mixtures": (pictures(8), LABELS["mixture"](8)),
}
LABEL_COSTS = {"OneHot": (5, 0), "ToLabelMixture": (1, 0)}


def cost(act, *inputs):
    """Return the launches and copies of what is done with inputs on the device."""
    with Accelerator() as accelerator:
        act(accelerator, *accelerator.put(inputs))
    return accelerator.launches.total(), len(accelerator.copies)


def placed(accelerator, params):
    """Params on the device, but for a choice, by which the host knows what to run."""
    return {k: v if k == "choice" else accelerator.put(v) for k, v in params.items()}


def costs(mix, inputs):
    """Return the costs of a call and of a replay."""
    params = mix.make_params([inputs[0]])
    return (
        cost(lambda accelerator, *given: mix(*given), *inputs),
        cost(lambda accelerator, *given: mix.replay(placed(accelerator, params), *given), *inputs),
    )


@pytest.mark.parametrize("name", MIXES)
def test_a_call_takes_no_more_launches_and_copies_than_are_written_down(name):
    inputs = INPUTS.get(name, (pictures(8), indices_of(8)))
    assert costs(MIXES[name](), inputs) == COSTS[name]


@pytest.mark.parametrize("case", SINGLE, ids=repr)
def test_a_choice_for_the_batch_costs_what_its_mixer_costs(case):
    inputs = pictures(8), indices_of(8)
    assert costs(choice_of(case, SINGLE), inputs) == COSTS[case.name]


@pytest.mark.parametrize("transform", [OneHot(4), ToLabelMixture()], ids=lambda t: type(t).__name__)
def test_labels_take_no_more_launches_and_copies_than_are_written_down(transform):
    taken = cost(lambda accelerator, *given: transform(*given), pictures(8), indices_of(8))
    assert taken == LABEL_COSTS[type(transform).__name__]


# A CUDA graph repeats what was launched, on the same memory: nothing of it may depend on a value.


def replayed(mix, inputs):
    """Return a device on which a batch was mixed by params that lie there."""
    params = mix.make_params([inputs[0]])
    with Accelerator() as accelerator:
        mix.replay(placed(accelerator, params), *accelerator.put(inputs))
    return accelerator


def flipped(part):
    """Return rows in the opposite order, in the type that they had."""
    rows = part.flip(0)
    return tv_tensors.wrap(rows, like=part) if isinstance(part, tv_tensors.TVTensor) else rows


def assert_fit_for_a_graph(mix, inputs):
    """Check that a replay does the same on the device whatever its params and inputs hold."""
    others = tree_map_only(torch.Tensor, flipped, inputs)
    runs = [replayed(mix, inputs), replayed(mix, others)]
    mix.p = 0
    runs.append(replayed(mix, inputs))
    assert not any(run.copies for run in runs)
    assert runs[0].trace
    assert runs[0].trace == runs[1].trace == runs[2].trace


@every_case
@pytest.mark.parametrize("labels", LABELS)
@in_place_or_not
def test_a_replay_runs_alike_whatever_its_params_hold(case, labels, inplace):
    inputs = pictures(8), labels_of(case, labels, 8)
    assert_fit_for_a_graph(make(case, labels, inplace=inplace), inputs)


@pytest.mark.parametrize("case", MEMBERS, ids=repr)
@in_place_or_not
def test_a_choice_for_the_batch_runs_alike_where_the_host_holds_it(case, inplace):
    inputs = pictures(8), indices_of(8)
    assert_fit_for_a_graph(choice_of(case, MEMBERS, inplace=inplace), inputs)


def test_a_choice_for_each_sample_tells_the_device_which_rows():
    assert replayed(choice_for_each_sample(), (pictures(8), indices_of(8))).copies


def test_whether_a_mosaic_changes_the_size_of_a_stack_is_waited_for():
    with pytest.raises(HostWaitsError):
        replayed(RandomMosaic(size=(24, 20), num_classes=4), (pictures(8), indices_of(8)))
