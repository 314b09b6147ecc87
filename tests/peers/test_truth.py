"""What docs/truth.md says: its table is what its command prints, and its words are measured."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.peers import truth

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (.+) \| (`.+`) \| (\w+) \| (\S+) \| (\S+) \| (.+) \|$", re.MULTILINE)


def rows_of(text):
    """Return what each row says, by library, mixer and dtype."""
    rows = {}
    for library, mixer, dtype, *found in ROW.findall(text):
        name = re.sub(r" [\d.]+[^,]*", "", library)
        rows[name, mixer, dtype] = (library, *found)
    return rows


PRINTED = rows_of((ROOT / "docs" / "truth.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found():
    command = [sys.executable, "-m", "tests.peers.truth", "--batches", "100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return rows_of(done.stdout)


def expected_rows():
    for library in (truth.OURS, *truth.PEERS):
        for line, dtypes in library.lines:
            shown = line.replace(", {}", "").replace("{}", "")
            yield from ((library.name, f"`{shown}`", str(dtype)[6:]) for dtype in dtypes)


def test_the_page_has_every_row_and_no_other():
    assert [*PRINTED] == [*expected_rows()]


@pytest.mark.parametrize("key", PRINTED, ids=" ".join)
def test_a_figure_has_the_order_of_magnitude_that_the_page_says(found, key):
    if key not in found:
        assert key[0].split(",")[0] not in ("mixup_transforms", "torchvision")
        pytest.skip(f"{key[0]} is not installed")
    (_, *said, verdict), (_, *measured, now) = PRINTED[key], found[key]
    assert now == verdict
    for one, other in zip(said, measured, strict=True):
        if "–" in (one, other):
            assert one == other
        else:
            # Below that it is the rounding of float32, which may be any.
            small, large = sorted(max(float(value), 1e-6) for value in (one, other))
            assert large <= 2.5 * small, f"the page says {one}, found {other}"


def test_the_verdict_of_a_row_is_what_its_figures_say():
    limits = {"float32": 1e-5, "bfloat16": 0.008, "uint8": 0.002}
    for (*_, dtype), (_, mean, worst, verdict) in PRINTED.items():
        if verdict in ("right", "off"):
            assert float(mean) <= float(worst)
            assert (float(worst) <= limits[dtype]) == (verdict == "right")
        else:
            assert (mean, worst) == ("–", "–")


def test_ours_are_right():
    ours = [row for (library, *_), row in PRINTED.items() if library == "mixup_transforms"]
    assert ours
    assert all(verdict == "right" for *_, verdict in ours)


@pytest.fixture
def timm():
    return pytest.importorskip("timm.data")


SETTINGS = {"mixup_alpha": 0, "cutmix_alpha": 1.0, "label_smoothing": 0, "num_classes": 10}


def test_timm_writes_into_its_input(timm):
    np.random.seed(0)
    images = torch.rand(4, 3, 8, 8)
    before = images.clone()
    timm.Mixup(**SETTINGS)(images, torch.arange(4))
    assert not torch.equal(images, before)


def test_timm_takes_even_batches_alone(timm):
    with pytest.raises(AssertionError, match="even"):
        timm.Mixup(**SETTINGS)(torch.rand(3, 3, 8, 8), torch.arange(3))


@pytest.mark.parametrize(("mode", "written"), [("batch", False), ("elem", False), ("pair", True)])
def test_where_timm_writes_into_the_samples_that_it_collates(timm, mode, written):
    np.random.seed(0)
    samples = [(np.full((3, 8, 8), 10 * i, dtype=np.uint8), i) for i in range(4)]
    before = [image.copy() for image, _ in samples]
    timm.FastCollateMixup(mode=mode, **SETTINGS)(samples)
    same = all(np.array_equal(a, b) for (a, _), b in zip(samples, before, strict=True))
    assert same == (not written)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16])
def test_what_timm_does_to_lambda_in_the_dtype_of_the_images(timm, dtype):
    np.random.seed(0)
    mix = timm.Mixup(mode="elem", label_smoothing=0, num_classes=10)
    images = torch.zeros(64, 1, 4, 4, dtype=dtype)
    _, rows = mix(images, torch.arange(64) % 10)
    if dtype == torch.uint8:
        assert ((rows == 0) | (rows == 1)).all()
    else:
        off = (rows.sum(dim=1) - 1).abs()
        assert 1e-4 < off.max() <= 2e-3


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_monais_cutmix_makes_a_row_of_classes_the_partners():
    monai = pytest.importorskip("monai.transforms")
    mix = monai.CutMix(batch_size=8)
    mix.set_random_state(0)
    _, rows = mix(torch.rand(8, 3, 8, 8), torch.eye(8))
    partner = torch.as_tensor(mix._params[1])
    assert torch.equal(torch.as_tensor(rows), torch.eye(8)[partner])
    with pytest.raises(ValueError, match="unpack"):
        mix(torch.rand(8, 3, 8, 8), torch.arange(8))
    with pytest.raises(ValueError, match="dimensions"):
        monai.MixUp(batch_size=8)(torch.rand(8, 3, 8, 8), torch.arange(8))
