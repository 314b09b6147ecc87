"""Time the mixers against their peers and against the two limits, copying and cloning a batch.

    python -m tests.benchmarks

Prints its tables and writes them into docs/benchmarks.md, with a plot, docs/images/speed.png. Peers
that are not installed are left out.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import torch
import torchvision
from tqdm import tqdm

from tests.benchmarks.tables import (
    DTYPES,
    SIZES,
    Row,
    Table,
    chain,
    collating_table,
    epoch,
    objects_table,
    whole_table,
)

DOCS = Path(__file__).parents[2] / "docs"


def markdown(rows: list[Row]) -> str:
    """Write rows as a table, with times in units of copying and of cloning the batch."""
    by_name = {row.name: row.median for row in rows}
    units = (
        *("out.copy_(x)", "x.clone()", "v2.MixUp", "v2.CutMix", "default_collate", "no mixing"),
        "RandomMixup, pixels alone",
    )
    units = [name for name in units if name in by_name]
    lines = [["", "ms", "middle half", *(f"/ `{name}`" for name in units), "memory, MB"]]
    lines.append(["---", *["--:"] * (len(lines[0]) - 1)])
    for row in rows:
        ratios = [f"{row.median / by_name[name]:.2f}" for name in units]
        memory = "" if row.memory is None else f"{row.memory:.1f}"
        spread = f"{row.low:.3g} to {row.high:.3g}"
        lines.append([f"`{row.name}`", f"{row.median:.3g}", spread, *ratios, memory])
    return as_table(lines)


def aims(found: dict[str, dict[str, Row]]) -> str:
    """Compare what was found with what this package aims at."""
    large, small, tiny, small_integers = (
        found.get(f"{size}, 2 threads", {})
        for size in (
            "128×3×224×224 float32",
            "512×3×32×32 float32",
            "8×3×32×32 float32",
            "128×3×224×224 uint8",
        )
    )
    loaded = found.get("collating 128×3×224×224 float32, 2 threads", {})
    objects = next((rows for title, rows in found.items() if title.startswith("objects")), {})
    lines = [["", "aim", "found"], ["---", "--:", "--:"]]
    for table, name, against, other, aim in (
        (large, "RandomMixup, in place", large, "out.copy_(x)", 1.15),
        (large, "RandomMixup, in place", large, "v2.MixUp", 0.1),
        (large, "RandomMixup", large, "x.clone()", 1.25),
        (large, "RandomMixup", large, "v2.MixUp", 0.5),
        (large, "RandomCutMix, in place", large, "out.copy_(x)", 1.0),
        (large, "RandomCutMix, in place", large, "v2.CutMix", 0.1),
        (large, "RandomCutMix", large, "x.clone()", 1.25),
        (small_integers, "RandomMixup, in place", large, "x.clone()", 0.6),
        (loaded, "MixCollate(RandomMixup())", loaded, "default_collate", 1.15),
        (small, "RandomMixup, in place", small, "v2.MixUp", 0.35),
        (tiny, "RandomMixup", tiny, "v2.MixUp", 1.5),
        (
            objects,
            "RandomMixup, 20 boxes each, no pixels",
            objects,
            "RandomMixup, pixels alone",
            0.2,
        ),
    ):
        if name in table and other in against:
            ratio = table[name].median / against[other].median
            size = next(title for title, rows in found.items() if rows is table)
            lines.append([f"{size}: `{name}` / `{other}`", f"{aim:.2f}", f"{ratio:.2f}"])
    return as_table(lines)


def as_table(lines: list[list[str]]) -> str:
    """Write lines of cells as a markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(found: dict[str, dict[str, Row]], path: Path) -> None:
    """Draw the largest float32 table as bars, in units of copying the batch."""
    from matplotlib import pyplot as plt

    rows = [*found["128×3×224×224 float32, 2 threads"].values()][::-1]
    unit = next(row.median for row in rows if row.name == "out.copy_(x)")
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    # Of the Okabe-Ito palette, which the colour-blind can tell apart.
    colours = ["#0072B2" if row.name.startswith("Random") else "#E69F00" for row in rows]
    bars = axes.barh([row.name for row in rows], [row.median / unit for row in rows], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("time of a whole call, in units of copying the batch (128×3×224×224 float32)")
    figure.savefig(path, dpi=110)


def machine(options: argparse.Namespace) -> str:
    """Say what the figures were taken on."""
    if options.device == "cuda":
        model = torch.cuda.get_device_name()
    else:
        lines = (
            Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        )
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = f"{os.cpu_count()} cores of {named[0] if named else platform.processor()}"
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    versions += [f"torchvision {torchvision.__version__}"]
    versions += [f"{name} {version(name)}" for name in ("timm", "kornia") if find_spec(name)]
    return f"{model}; {', '.join(versions)}; {options.repeats} turns"


def main() -> None:
    """Run everything, print it and write it down."""
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns that each function gets")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--quick", action="store_true", help="the first size only; write nothing")
    parser.add_argument("--epoch", action="store_true", help="the epoch alone; write nothing")
    parser.add_argument("--objects", action="store_true", help="objects alone; write nothing")
    options = parser.parse_args()
    if options.epoch or options.objects:
        name, rows = epoch(options) if options.epoch else objects_table(options, options.threads[0])
        found = {name: {row.name: row for row in rows}}
        print(f"## {name}\n\n{markdown(rows)}\n\n## Aims\n\n{aims(found)}")
        return
    options.sizes = SIZES[:1] if options.quick else SIZES

    tasks: list[Callable[[], Table]] = []
    for threads, size in itertools.product(options.threads, options.sizes):
        tasks += [partial(whole_table, options, size, dtype, threads) for dtype in DTYPES]
    if not options.quick:
        tasks += [partial(chain, options), partial(epoch, options)]
        tasks += [partial(objects_table, options, threads) for threads in options.threads]
    if not options.quick and options.device == "cpu":
        for threads, dtype in itertools.product(options.threads, (torch.float32, torch.uint8)):
            tasks.append(partial(collating_table, options, dtype, threads))

    found: dict[str, dict[str, Row]] = {}
    parts = [f"Measured on {machine(options)}."]
    for task in tqdm(tasks, unit="table"):
        # In a process of its own: memory that another table left over would be taken again.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            name, rows = process.submit(task).result()
        found[name] = {row.name: row for row in rows}
        parts.append(f"## {name}\n\n{markdown(rows)}")
        tqdm.write(f"\n{parts[-1]}")
    if options.quick:
        return
    parts.insert(1, f"## Aims\n\n{aims(found)}")
    print(f"\n{parts[0]}\n\n{parts[1]}")
    if options.device == "cpu":
        text = "# Benchmarks\n\nWritten by `python -m tests.benchmarks`. " + "\n\n".join(parts)
        (DOCS / "benchmarks.md").write_text(f"{text}\n", encoding="utf-8")
        plot(found, DOCS / "images" / "speed.png")


if __name__ == "__main__":
    main()
