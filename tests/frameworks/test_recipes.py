"""Each recipe in the docs trains, and prints the same accuracy when it runs again.

The frameworks are in the extra ``frameworks``; a recipe whose framework is not installed is
skipped. Recipes run in processes of their own, where a framework's warnings are its own affair.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
NEEDS = {
    "plain_amp": "sklearn",
    "torchvision_reference": "sklearn",
    "torchvision_detection": "sklearn",
    "lightning_module": "lightning",
    "hf_trainer": "transformers",
    "hf_accelerate": "accelerate",
    "timm_training": "timm",
    "fastai_learner": "fastai",
    "torchmetrics_mixed": "torchmetrics",
}
# One thread, since idle ones spin while a busy machine runs something else; and no network.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def start(recipe, folder):
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, RECIPES / f"{recipe}.py"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("recipe", NEEDS)
def test_a_recipe_learns_and_repeats(recipe, tmp_path):
    if find_spec(NEEDS[recipe]) is None:
        pytest.skip(f"{NEEDS[recipe]} is not installed")
    runs = [start(recipe, tmp_path / name) for name in ("first", "second")]
    lines = []
    for run in runs:
        out, error = run.communicate()
        assert run.returncode == 0, error
        lines.append(out.splitlines()[-1])
    assert lines[0] == lines[1]
    accuracy = re.fullmatch(r"test accuracy: (\d+\.\d)%", lines[0])
    assert accuracy, lines[0]
    assert float(accuracy[1]) > 85  # a guess is right in 10%
    for name in ("first", "second"):
        assert not [*(tmp_path / name).iterdir()]


def test_every_recipe_is_tested_and_shown_once():
    files = {path.stem for path in RECIPES.glob("*.py")}
    assert files == {*NEEDS, "digits"}
    page = (RECIPES / "index.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\{literalinclude\} (\w+)\.py\n", page)) == sorted(files)
