import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from mixup_transforms._core import draws
from tests.paths import PATHS, on_path

# It wants ultralytics, which none of the extras has.
collect_ignore = ["benchmarks/yolo.py"]

settings.register_profile(
    "default",
    deadline=None,
    # For more of some tests once: HYPOTHESIS_MAX_EXAMPLES=260 pytest tests/batch/test_objects.py
    max_examples=int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "25")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.register_profile("soak", settings.get_profile("default"), max_examples=100_000)
# A mutant has to die of the same examples every time, not of the smallest.
settings.register_profile(
    "mutation",
    settings.get_profile("default"),
    max_examples=10,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _fixed_global_seed():
    torch.manual_seed(0)


@pytest.fixture
def force_lam(monkeypatch):
    """Make the sampler return given λ."""

    def force(values):
        def given_lam(count, alpha, *, generator):
            return torch.as_tensor(values[:count], dtype=torch.float64)

        monkeypatch.setattr(draws, "symmetric_beta", given_lam)

    return force


@pytest.fixture(params=PATHS)
def path(request):
    """Run a test on all ways through the kernels."""
    with on_path(request.param):
        yield request.param
