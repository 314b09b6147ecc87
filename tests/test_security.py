"""Nothing saved carries code, and nothing else is installed beside the package."""

import ast
import re
from pathlib import Path

import pytest
import torch

import mixup_transforms
from mixup_transforms import (
    LabelMixture,
    OneHot,
    PresentLabels,
    RandomMixup,
    SampleLabels,
    ToLabelMixture,
)
from tests.bits import same
from tests.cases import every_mixer
from tests.saving import saved_and_loaded
from tests.strategies import generator_of, soft_labels

ROOT = Path(__file__).parent.parent
PACKAGE = sorted(Path(mixup_transforms.__file__).parent.rglob("*.py"))


@every_mixer
@pytest.mark.parametrize("seed", [None, 3])
def test_the_state_of_a_mixer_is_loaded_without_unpickling_code(case, seed):
    x, labels = torch.rand(5, 3, 6, 8), soft_labels(5)
    mix, resumed = (
        case.make(generator=None if seed is None else generator_of(s)) for s in (seed, 4)
    )
    mix(x, labels)
    checkpoint = saved_and_loaded({"mix": mix.state_dict(), "rng": torch.get_rng_state()})
    expected = mix(x, labels)
    resumed.load_state_dict(checkpoint["mix"])
    torch.set_rng_state(checkpoint["rng"])
    assert same(resumed(x, labels), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OneHot(3),
        ToLabelMixture,
        PresentLabels,
        lambda: SampleLabels(generator=generator_of(0)),
    ],
)
def test_the_state_of_a_label_transform_is_loaded_without_unpickling_code(make):
    make().load_state_dict(saved_and_loaded(make().state_dict()))


def test_mixed_batches_are_loaded_without_unpickling_code():
    mixture = ToLabelMixture()(torch.arange(4))
    mixed = RandomMixup()(torch.rand(4, 3), mixture)[1]
    loaded = LabelMixture(*saved_and_loaded([*mixed]))
    assert torch.equal(loaded.dense(4), mixed.dense(4))


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.name)
def test_the_package_runs_nothing_it_reads(path):
    tree = ast.parse(path.read_text())
    names = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {getattr(node, "module", None), *(alias.name for alias in node.names)}
    forbidden = {"pickle", "marshal", "shelve", "subprocess", "eval", "exec", "os.system"}
    assert not names & (forbidden | {"torch.load", "torch.hub", "np.load", "importlib"})


def test_three_packages_are_needed_and_no_more():
    (dependencies,) = re.findall(
        r"^dependencies = (\[.*?\])$", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    names = [re.match(r"[\w-]+", line)[0] for line in ast.literal_eval(dependencies)]
    assert names == ["torch", "torchvision", "pillow"]
