"""The documentation keeps to what is there: its code runs, its links lead somewhere, it builds."""

import doctest
import importlib
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import default_collate
from torchvision.transforms import v2

import mixup_transforms
from mixup_transforms import functional
from tests.cases import Case, assert_law, outside_box, two
from tests.strategies import generator_of, images, seeds, soft_labels, spatial_shapes

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("recipes/*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}[^\n]*\n)+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
DRAWN = {path.name: path.read_text() for path in (DOCS / "images").glob("*.svg")}
ROW = re.compile(r"^\| `(.+)` \| `(.+)` \|$", re.MULTILINE)


def fences(page):
    return [(language, code) for _, language, code in FENCE.findall(page.read_text())]


def indented_blocks(page):
    return INDENTED.findall(FENCE.sub("", page.read_text()))


@every_page
def test_every_python_block_is_a_doctest(page):
    for language, code in fences(page):
        assert language in ("python", "sh", "text", "bibtex", "math") or language.startswith("{")
        if language == "python":
            assert code.lstrip().startswith(">>> "), f"nobody runs\n{code}"
            assert doctest.DocTestParser().get_examples(code)
        elif language in ("text", "bibtex", "math"):
            assert ">>> " not in code
            assert "import " not in code


@every_page
def test_examples_stand_in_blocks(page):
    rest = FENCE.sub("", page.read_text())
    assert ">>> " not in rest
    assert "```" not in rest


@every_page
def test_indented_blocks_are_commands_or_formulas(page):
    for block in indented_blocks(page):
        assert block.lstrip().startswith("python ") or "⊙" in block, f"nobody runs\n{block}"


def test_a_block_that_nobody_runs_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n")
    with pytest.raises(AssertionError, match="nobody runs"):
        test_every_python_block_is_a_doctest(page)
    page.write_text("text\n\n    x = 1\n\n")
    with pytest.raises(AssertionError, match="nobody runs"):
        test_indented_blocks_are_commands_or_formulas(page)


def example_commands():
    pages = [*PAGES, DOCS / "examples" / "GALLERY_HEADER.rst"]
    command = re.compile(r"python docs/examples/(\w+)\.py *([^`\n]*)")
    return sorted({found for page in pages for found in command.findall(page.read_text())})


@pytest.mark.parametrize(("example", "options"), example_commands())
def test_commands_of_the_examples_have_options_that_exist(example, options, monkeypatch):
    pytest.importorskip("matplotlib", reason="the examples extra is not installed")
    pytest.importorskip("tqdm", reason="the examples extra is not installed")
    if example in ("preview_mixers", "preview_objects"):
        pytest.importorskip("skimage", reason="the examples extra is not installed")
    if example == "detect_digits":
        for package in "skimage", "torchmetrics":
            pytest.importorskip(package, reason="the examples extra is not installed")
    if example in ("choose_bandwidth", "choose_mixer", "choose_truth"):
        pytest.importorskip("mlxtend", reason="the examples extra is not installed")
    monkeypatch.syspath_prepend(DOCS / "examples")
    parse = importlib.import_module(example).parse_options
    if options == "--help":
        with pytest.raises(SystemExit, match="0"):
            parse([options])
    else:
        parse(shlex.split(options))


@every_page
def test_relative_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if not re.match(r"\w+:|#", link):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.parent == DOCS / "gallery":  # made from the examples
                stem = "GALLERY_HEADER.rst" if target.stem == "index" else f"{target.stem}.py"
                target = DOCS / "examples" / stem
            assert target.exists(), f"{page.name} links to {link}"


def sections(page):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def check_section(page, link):
    """Check that a link has its section: a link in Markdown, or in a page of the site."""
    place, _, section = link.partition("#")
    target = (page.parent / place.replace(".html", ".md")).resolve() if place else page
    assert target.exists(), f"{page.name} links to {link}"
    assert not section or section in sections(target), f"{page.name} links to {link}"


@every_page
def test_links_to_a_section_find_it(page):
    for link in LINK.findall(page.read_text()):
        if not re.match(r"\w+:", link) and "#" in link:
            check_section(page, link)


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_fits_its_page_and_leads_into_it(name):
    (page,) = (page for page in PAGES if f":file: images/{name}" in page.read_text())
    drawn = xml.etree.ElementTree.fromstring(DRAWN[name])  # refuses what is not well-formed
    links = [link.get("href") for link in drawn.iter("{http://www.w3.org/2000/svg}a")]
    assert links
    for link in links:
        check_section(page, link)
    words = " ".join(drawn.itertext())
    assert {*re.findall(r"Mix[A-Z]\w+|Mixed\w+", words)} <= {*mixup_transforms.__all__}
    # A page may be light or dark: lines and letters take its colour, but for those that stand out.
    colours = re.findall(r"(?:fill|stroke)[:=]\s*\"?([^\s;\">]+)", DRAWN[name])
    assert {*colours} <= {"currentColor", "none", "#3878bb"}


def every_name(**more):
    names = {name: getattr(mixup_transforms, name) for name in mixup_transforms.__all__}
    modules = {"torch": torch, "F": F, "nn": nn, "v2": v2, "default_collate": default_collate}
    batch = {
        "images": torch.rand(8, 3, 16, 16),
        "labels": torch.arange(8),
        "output": torch.randn(8, 10),
    }
    return {**names, **modules, **batch, **more}


def migration_tables():
    text = (DOCS / "migration.md").read_text()
    sections = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(sections[::2], map(ROW.findall, sections[1::2]), strict=True))


# Detection is told in words, since others mix inside pipelines of their own.
TABLES = {section: rows for section, rows in migration_tables().items() if rows}


@pytest.mark.parametrize("section", TABLES)
def test_new_lines_of_the_migration_tables_run(section):
    names = every_name()
    for _, new in TABLES[section]:
        exec(new, names)
    assert names["labels"].dtype == torch.float32 or "references" in section
    if "collate_fn" in names:
        _, soft = names["collate_fn"]([(torch.rand(3, 8, 8), i) for i in range(4)])
        assert soft.shape == (4, 10)


@pytest.mark.filterwarnings("ignore:RandomCutMixV2 currently uses the old:DeprecationWarning")
@pytest.mark.parametrize("section", ["torchvision `v2.MixUp` and `v2.CutMix`", "timm", "kornia"])
def test_old_lines_of_the_migration_tables_run(section):
    names = every_name(cross_entropy=lambda *args: F.cross_entropy(*args, reduction="none"))
    if section == "timm":
        names["Mixup"] = pytest.importorskip("timm.data").Mixup
        losses = pytest.importorskip("timm.loss")
        names["SoftTargetCrossEntropy"] = losses.SoftTargetCrossEntropy
        names["BinaryCrossEntropy"] = losses.BinaryCrossEntropy
    elif section == "kornia":
        names["K"] = pytest.importorskip("kornia").augmentation
    for old, _ in TABLES[section]:
        exec(old, names)


def test_every_section_of_the_migration_page_has_a_table():
    assert len(TABLES) == 5
    assert [*migration_tables().keys() - TABLES] == [
        "Detection: mmdetection, ultralytics and others"
    ]
    assert all(len(rows) >= 5 for rows in TABLES.values())


def programs(part, holds=""):
    """The code under each heading of a part of a page; what stands apart in a block is its own."""
    parse = doctest.DocTestParser().get_examples
    for section in part.split("\n### "):
        heading, _, rest = section.partition("\n")
        blocks = "".join(code for _, language, code in FENCE.findall(rest) if language == "python")
        for code in re.split(r"\n\n(?=>>> )", blocks):
            program = "".join(example.source for example in parse(code))
            if program and holds in program:
                yield heading, program


START, WHATS, WHERES, _ = re.split(
    r"^## .+$", (DOCS / "cheatsheet.md").read_text(), flags=re.MULTILINE
)
WHATS, WHERES = [*programs(WHATS)], [*programs(WHERES, holds="DataLoader(")]


@pytest.mark.parametrize("where", [code for _, code in WHERES], ids=[name for name, _ in WHERES])
@pytest.mark.parametrize("what", [code for _, code in WHATS], ids=[name for name, _ in WHATS])
def test_what_and_where_of_the_cheat_sheet_go_together(what, where):
    names = {}
    for _, program in programs(START):
        exec(program, names)
    exec(what + "samples = [sample] * 16\n" + where, names)
    batch = names["batch"]
    assert len(batch) in (2, 8)
    if "criterion" in names:
        _, labels = batch
        dense = isinstance(labels, torch.Tensor) and labels.is_floating_point()
        rest = getattr(labels, "shape", labels[0].shape[:1])[1:]
        output = torch.rand_like(labels) if dense else torch.rand(8, 10, *rest)
        assert names["criterion"](output, labels).isfinite()


def test_the_cheat_sheet_has_a_row_for_each_block():
    assert len(WHERES) == 4
    page = (DOCS / "cheatsheet.md").read_text()
    for heading in re.findall(r"^### (.+)$", page, re.MULTILINE):
        assert f"](#{heading.lower().replace(' ', '-')})" in page


@pytest.fixture(scope="module")
def side_by_side():
    names = {"__name__": "own_mixer"}
    exec((DOCS / "own_mixer.py").read_text(), names)
    return Case("side by side", names["RandomSideBySide"], two(outside_box))


@given(
    data=st.data(),
    seed=seeds,
    per_sample=st.booleans(),
    p=st.sampled_from([0.5, 1.0]),
    inplace=st.booleans(),
)
def test_the_mixer_of_ones_own_keeps_the_law(side_by_side, data, seed, per_sample, p, inplace):
    x = data.draw(images(spatial_shapes), label="x")
    mix = side_by_side.make(
        generator=generator_of(seed), per_sample=per_sample, p=p, inplace=inplace
    )
    before, labels = x.clone(), soft_labels(len(x), seed=seed)
    params = mix.make_params([x])
    mixed, mixed_labels = mix.replay(params, x, labels.clone())
    assert_law(side_by_side, params, before, mixed, labels, mixed_labels)


def test_the_mixer_of_ones_own_is_short_and_shows_both(side_by_side):
    assert len((DOCS / "own_mixer.py").read_text().splitlines()) < 40
    params = side_by_side.make(generator=generator_of(0)).make_params([torch.rand(64, 1, 8, 12)])
    assert params["lam"].unique().numel() > 5
    assert (params["box"][:, 1] == 0).all()
    assert (params["box"][:, 3] == 8).all()


def test_the_build_finds_public_names_without_a_place_or_a_docstring(monkeypatch):
    pytest.importorskip("sphinx", reason="the docs extra is not installed")
    monkeypatch.syspath_prepend(DOCS / "_ext")
    faults = importlib.import_module("public_names").faults
    documented = {f"mixup_transforms.functional.{name}" for name in functional.__all__}
    assert [*faults([functional], documented, documented)] == []
    monkeypatch.setattr(functional.cutmix, "__doc__", None)
    one, other = (f"mixup_transforms.functional.{name}" for name in ("mixup", "mosaic"))
    assert [*faults([functional], documented - {one}, documented - {other})] == [
        "mixup_transforms.functional.cutmix has no docstring",
        "mixup_transforms.functional.mixup is not in the API reference",
        "mixup_transforms.functional.mosaic is not in the summary of the API reference",
    ]


def test_the_site_builds_without_a_warning(tmp_path):
    for package in ("furo", "myst_parser", "sphinx_copybutton", "sphinx_gallery"):
        pytest.importorskip(package, reason="the docs extra is not installed")
    source, site = tmp_path / "docs", tmp_path / "html"
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("gallery", "__pycache__"))
    options = ["-W", "--keep-going", "-q", "-b", "html", "-D", "plot_gallery=0"]
    build = [sys.executable, "-m", "sphinx", *options, source, site]
    result = subprocess.run(build, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    pages = [*DOCS.glob("*.md"), *(DOCS / "recipes").glob("*.md")]
    for page in pages:
        assert (site / page.relative_to(DOCS)).with_suffix(".html").exists()
    examples = {path.stem for path in (DOCS / "examples").glob("*.py")} - {"training"}
    assert examples <= {path.stem for path in (site / "gallery").glob("*.html")}
    assert "RandomResizeMix" in (site / "searchindex.js").read_text()
    (archive,) = site.rglob("choose_bandwidth.zip")  # which imports what imports more
    whole = {"choose_bandwidth.py", "regress_diabetes.py", "training.py"}
    assert {*zipfile.ZipFile(archive).namelist()} == whole
    reference = (site / "api.html").read_text()
    assert 'href="https://docs.pytorch.org/docs/stable/tensors.html#torch.Tensor"' in reference
    mixers = re.findall(r'<dt class="sig[^>]* id="mixup_transforms\.(Random\w+)"', reference)
    shared = reference.count("As every mixer it has")
    assert shared == len(mixers) + len(("BoxMixer", "MaskMixer"))
    law = (site / "law.html").read_text()
    assert law.count("<math ") == (DOCS / "law.md").read_text().count("```math\n")
    assert "mathjax" not in law.lower()
