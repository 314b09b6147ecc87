"""What pyproject.toml makes of the package: its metadata, and how it is found once installed."""

import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import mixup_transforms

ROOT = Path(__file__).parent.parent
DESCRIPTION = "docs/_includes/description.md"
DECLARED = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(\s*(?!https?:|#)|\]\[|<img|src=|href=|^\[[^\]]+\]:", re.MULTILINE)


def test_the_version_is_the_one_that_pyproject_declares():
    (declared,) = re.findall(r'^version = "(.+)"$', DECLARED, re.MULTILINE)
    assert mixup_transforms.__version__ == declared
    assert "__version__" in mixup_transforms.__all__


def test_a_copy_that_nobody_installed_can_be_imported_and_claims_no_version():
    program = (
        "import importlib.metadata as m\n"
        "def version(name): raise m.PackageNotFoundError(name)\n"
        "m.version = version\n"
        "import mixup_transforms\nprint(mixup_transforms.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "0+unknown\n", done.stderr


def test_the_long_description_has_no_relative_links():
    assert f'readme = "{DESCRIPTION}"' in DECLARED
    assert not LINK.findall((ROOT / DESCRIPTION).read_text(encoding="utf-8"))
    for relative in ("[law](docs/law.md)", "![a](b.png)", "[a][b]", '<img src="b.png">', "[a]: b"):
        assert LINK.search(relative)


@pytest.fixture(scope="module")
def editable(tmp_path_factory):
    """The wheel of an editable install, opened, and the folder that it was made from."""
    pytest.importorskip("setuptools", minversion="77", reason="pyproject.toml wants setuptools 77")
    if not (ROOT / "mixup_transforms").exists():
        pytest.skip("the package is not beside its tests")
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in ("pyproject.toml", "LICENSE", DESCRIPTION):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for name in ("mixup_transforms", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    build = f"import setuptools.build_meta as b; b.build_editable({str(wheels)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return source, {Path(name).name: opened.read(name).decode() for name in opened.namelist()}


def test_an_editable_install_is_a_plain_path_that_type_checkers_follow(editable):
    source, files = editable
    paths = [text.strip() for name, text in files.items() if name.endswith(".pth")]
    assert [Path(path).resolve() for path in paths] == [source.resolve()]


def test_the_metadata_is_complete(editable):
    metadata = message_from_string(editable[1]["METADATA"])
    assert metadata["Author"] == "the mixup_transforms developers"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Version"] == mixup_transforms.__version__
    assert "always tells the truth" in metadata.get_payload()
    assert metadata.get_all("Project-URL", []) == []
    versions = re.findall(r"Python :: 3\.(\d+)\n", "\n".join(metadata.get_all("Classifier")) + "\n")
    lowest = int(metadata["Requires-Python"].removeprefix(">=3."))
    assert [int(minor) for minor in versions] == [*range(lowest, lowest + len(versions))]
    assert len(versions) >= 4
