"""Each recipe in the docs trains, and prints the same accuracy when it runs again.

One that stops in mid-epoch and goes on does so wherever it stops.
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
    "manifold_mixup": "sklearn",
    "regmixup": "sklearn",
    "lightning_module": "lightning",
    "hf_trainer": "accelerate",  # which transformers trains with
    "hf_accelerate": "accelerate",
    "timm_training": "timm",
    "fastai_learner": "fastai",
    "torchmetrics_mixed": "torchmetrics",
    "torchdata_nodes": "torchdata",
    "hf_datasets": "datasets",
    "webdataset_shards": "webdataset",
    "litdata_chunks": "litdata",
    "grain_loader": "grain",
    "ray_training": "ray",
}
STOP = "range(6)"  # how many batches a recipe takes that stops in mid-epoch, and goes on
# One thread, since idle ones spin while a busy machine runs something else; and no network.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join([str(RECIPES), os.environ.get("PYTHONPATH", "")])


def start(recipe, folder, batches):
    folder.mkdir()
    text = (RECIPES / f"{recipe}.py").read_text(encoding="utf-8")
    script = folder.with_name(f"after_{batches}_batches.py")
    script.write_text(text.replace(STOP, f"range({batches})"), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, script],
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
    runs = [start(recipe, tmp_path / name, n) for name, n in (("first", 6), ("second", 11))]
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


def test_the_recipes_that_stop_and_go_on():
    texts = {path.stem: path.read_text(encoding="utf-8") for path in RECIPES.glob("*.py")}
    stopping = {name for name, text in texts.items() if STOP in text}
    engines = {"torchdata_nodes", "hf_datasets", "webdataset_shards", "litdata_chunks"}
    assert stopping == {*engines, "grain_loader"}


def shown(page):
    """Return which scripts a page shows."""
    text = (RECIPES / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"\{literalinclude\} (\w+)\.py\n", text)


def test_every_recipe_is_tested_and_has_a_page():
    scripts, pages = ({path.stem for path in RECIPES.glob(f"*.{end}")} for end in ("py", "md"))
    assert scripts == {*NEEDS, "digits"}
    assert pages == {*NEEDS, "index"}
    assert {page: shown(page) for page in NEEDS} == {page: [page] for page in NEEDS}
    assert shown("index") == ["digits"]


def test_every_recipe_is_in_the_table_and_in_the_contents():
    page = (RECIPES / "index.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| .* \| \[.*\]\((\w+)\.md\) \|", page, re.MULTILINE)) == sorted(
        NEEDS
    )
    contents = page.partition(":hidden:\n\n")[2].partition("```")[0].split()
    assert sorted(contents) == sorted(NEEDS)


@pytest.mark.parametrize("page", NEEDS)
def test_a_page_says_what_its_script_needs_beside_it(page):
    text = (RECIPES / f"{page}.md").read_text(encoding="utf-8")
    script = (RECIPES / f"{page}.py").read_text(encoding="utf-8")
    imports = re.search(r"^(import|from) digits\b", script, re.MULTILINE)
    assert ("_includes/recipe.md" in text) == bool(imports)
