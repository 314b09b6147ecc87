"""The page that the benchmark writes, its picture, and the page of all tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks import findings
from tests.benchmarks.findings import FLOATS, Found, table_of
from tests.benchmarks.objects import SQUARES

DOCS = Path(__file__).parents[2] / "docs"

UNITS = {"mixup": "v2.MixUp", "CutMix": "v2.CutMix"}
# Of the Okabe-Ito palette, which the colour-blind can tell apart; what is in place is hollow.
HOLLOW = {"fillstyle": "none", "markeredgewidth": 2}
DRAWN: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "ours": (
        {"mixup": "RandomMixup", "CutMix": "RandomCutMix"},
        {"marker": "o", "color": "#0072B2"},
    ),
    "ours, in place": (
        {"mixup": "RandomMixup, in place", "CutMix": "RandomCutMix, in place"},
        {"marker": "o", "color": "#0072B2", **HOLLOW},
    ),
    "timm, in place": (
        {"mixup": "timm Mixup, in place", "CutMix": "timm Mixup as CutMix, in place"},
        {"marker": "D", "color": "#D55E00", **HOLLOW},
    ),
    "kornia": (
        {"mixup": "kornia RandomMixUpV2", "CutMix": "kornia RandomCutMixV2"},
        {"marker": "s", "color": "#E69F00"},
    ),
}

PAGE = """\
# Benchmarks

How long whole calls take, from images and class indices to mixed images and soft labels, by

    python -m tests.benchmarks

on {machine}.

[All tables](benchmarks_full.md) have the spread of the turns and the memory that each call takes;
[Speed](speed.md) says how to be fast.

![The time of a whole call in units of torchvision's, for float32 batches of four sizes, mixup and
CutMix each: ours out of place and in place, timm's in place, and kornia's](images/speed.png)

## Beside the fastest that does the same

{compared}

Below 1 ours is faster; where there is no peer, none takes that dtype. Not all do quite the same:
ours has a λ, a gate and a partner for each sample, and checks what it is given. torchvision's has
one λ for the batch, and the sample before for a partner. timm's has one λ, mixes the batch with
itself in reverse order and writes in place, so ours in place stands beside it, and ours out of
place beside the others. kornia's gives both labels and λ in place of soft labels.

None of these libraries has the following. Cloning the batch is the least that a mix out of place
can take.

{alone}

## Objects

Images in a list, {squares}, as a detector takes them, with 20 boxes each, or 20
masks for `RandomCopyPaste`; one thread, as in a worker.

{objects}

The loop, `tests/benchmarks/loops.py`, is what one would write by hand: a sample at a time, boxes
clipped to what their image shows, those without an area left out, all joined. It counts no
weights, and CutMix leaves a box as it was that is covered in part. ultralytics' mixers take one
sample of NumPy arrays at a time and write no weights either; their mixup has λ near ½, and their
copy-paste pastes outlines, leaves the objects below as they were and has no masks to mix. Their
CutMix is left out: of a picture with as many objects it mixes nothing, unless one of three boxes
that it draws is free of them.

## Aims

{aims}
"""
FULL = """\
# Benchmarks: all tables

Written by

    python -m tests.benchmarks

on {machine}.

Each call had {repeats} turns or more; a half of them lies between the two times of the third
column. [The short form](benchmarks.md) says what is compared, and why.

{tables}
"""


def write(found: Found, machine: str, repeats: int, tables: str) -> None:
    """Write both pages and draw the picture."""
    squares = "×".join(map(str, SQUARES))
    page = PAGE.format(
        machine=machine,
        compared=findings.compared(found),
        alone=findings.alone(found),
        squares=f"{squares} uint8",
        objects=findings.objects(found),
        aims=findings.aims(found),
    )
    (DOCS / "benchmarks.md").write_text(page, encoding="utf-8")
    full = FULL.format(machine=machine, repeats=repeats, tables=tables)
    (DOCS / "benchmarks_full.md").write_text(full, encoding="utf-8")
    plot(found, DOCS / "images" / "speed.png")


def plot(found: Found, path: Path) -> None:
    """Draw how long whole calls take in units of torchvision's."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    plt.rcParams["font.size"] = 12
    figure, axes = plt.subplots(figsize=(7.5, 5), layout="constrained")
    rows = [
        (2.4 * i + k, batch, kind)
        for i, batch in enumerate(FLOATS)
        for k, kind in enumerate(("mixup", "CutMix"))
    ]
    for label, (names, style) in DRAWN.items():
        at = [
            (tables[name].median / tables[unit].median, y)
            for y, batch, kind in rows
            for tables, name, unit in [(table_of(found, batch), names[kind], UNITS[kind])]
            if name in tables
        ]
        if at:
            axes.plot(*zip(*at, strict=True), linestyle="", markersize=9, label=label, **style)
    axes.axvline(1, color="black", linewidth=1.5, label="torchvision")
    axes.set_yticks(
        [y for y, *_ in rows], [f"{batch.partition(' ')[0]}  {kind}" for _, batch, kind in rows]
    )
    axes.invert_yaxis()
    axes.margins(y=0.06)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", which="minor", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.xaxis.set_major_formatter("{x:g} ×")
    axes.set_xlabel("time of a whole call in units of torchvision's, float32")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130)
