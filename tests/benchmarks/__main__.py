"""Time the mixers against their peers and against the two limits, copying and cloning a batch.

    python -m tests.benchmarks

Prints its tables and writes them into docs/benchmarks.md, with a plot, docs/images/speed.png. Peers
that are not installed are left out.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

import torch
import torch.nn.functional as F
import torchvision
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision.transforms import v2
from tqdm import tqdm

from mixup_transforms import (
    MixCollate,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomResizeMix,
    functional,
)

DOCS = Path(__file__).parents[2] / "docs"
CLASSES = 1000
LARGE = (128, 3, 224, 224)
SIZES = ((8, 3, 32, 32), (512, 3, 32, 32), LARGE, (64, 3, 512, 512))
DTYPES = (torch.float32, torch.bfloat16, torch.uint8)

Functions = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Row:
    """What one function took, in milliseconds and in megabytes."""

    name: str
    median: float
    low: float
    high: float
    memory: float | None


def whole_calls(images: Tensor, labels: Tensor) -> Functions:
    """Return the calls to compare, each from class indices to mixed soft labels."""
    out, own = images.clone(), images.clone()
    shared = {"num_classes": CLASSES}
    mixers = {
        "v2.MixUp": v2.MixUp(alpha=1.0, **shared),
        "v2.CutMix": v2.CutMix(alpha=1.0, **shared),
        "RandomMixup": RandomMixup(**shared),
        "RandomCutMix": RandomCutMix(**shared),
        "RandomResizeMix": RandomResizeMix(**shared),
        "RandomFMix": RandomFMix(**shared),
        **peers(),
    }
    in_place = {
        "RandomMixup, in place": RandomMixup(**shared, inplace=True),
        "RandomCutMix, in place": RandomCutMix(**shared, inplace=True),
        "RandomResizeMix, in place": RandomResizeMix(**shared, inplace=True),
        "RandomFMix, in place": RandomFMix(**shared, inplace=True),
    }
    if images.is_cuda:
        mixers |= {f"{name}, compiled": torch.compile(mix) for name, mix in mixers.items()}
    return {
        "out.copy_(x)": lambda: out.copy_(images),
        "x.clone()": images.clone,
        **{name: lambda mix=mix: mix(images, labels) for name, mix in mixers.items()},
        **{name: lambda mix=mix: mix(own, labels) for name, mix in in_place.items()},
    }


def peers() -> Functions:
    """Return the mixers of other libraries, those that are installed."""
    found: Functions = {}
    if find_spec("timm"):
        from timm.data import Mixup

        for name, alphas in (
            ("timm Mixup, in place", {"mixup_alpha": 1.0}),
            ("timm Mixup as CutMix, in place", {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}),
        ):
            found[name] = Mixup(**alphas, label_smoothing=0.0, num_classes=CLASSES)
    if find_spec("kornia"):
        from kornia.augmentation import RandomCutMixV2, RandomMixUpV2

        for mix in (RandomMixUpV2, RandomCutMixV2):
            with warnings.catch_warnings(action="ignore"):
                found[f"kornia {mix.__name__}"] = mix(data_keys=["input", "class"])
    return found


def collating(images: Tensor, labels: Tensor) -> Functions:
    """Return the ways from samples to a mixed batch."""
    samples = [*zip(images.unbind(), labels.tolist(), strict=True)]
    mix = RandomMixup(num_classes=CLASSES)
    torchvisions = v2.MixUp(alpha=1.0, num_classes=CLASSES)
    mixing = MixCollate(mix)
    calls: Functions = {
        "default_collate": lambda: default_collate(samples),
        "MixCollate(RandomMixup())": lambda: mixing(samples),
        "default_collate, RandomMixup": lambda: mix(*default_collate(samples)),
        "default_collate, v2.MixUp": lambda: torchvisions(*default_collate(samples)),
    }
    if find_spec("timm") and images.dtype == torch.uint8:
        from timm.data import FastCollateMixup

        arrays = [(image.numpy(), label) for image, label in samples]
        fast = FastCollateMixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=CLASSES)
        calls["timm FastCollateMixup"] = lambda: fast(arrays)
    return calls


def measure(functions: Functions, options: argparse.Namespace) -> list[Row]:
    """Time functions in turns, each in short bursts whose first call only warms the memory."""
    synchronise = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    times: dict[str, list[float]] = {}
    bursts: dict[str, int] = {}
    for name, function in functions.items():
        try:
            function()
            start = time.perf_counter()
            function()
            synchronise()
        except Exception:  # a peer that cannot take this dtype
            continue
        bursts[name] = max(2, min(100, int(0.005 / (time.perf_counter() - start))))
        times[name] = []
    for _ in tqdm(range(options.repeats), leave=False, unit="turn"):
        for name, burst in bursts.items():
            functions[name]()
            synchronise()
            start = time.perf_counter()
            for _ in range(burst):
                functions[name]()
            synchronise()
            times[name].append((time.perf_counter() - start) / burst * 1e3)
    rows = []
    for name, taken in times.items():
        low, _, high = quantiles(taken, n=4)
        rows.append(Row(name, median(taken), low, high, peak_memory(functions[name])))
    return rows


def peak_memory(function: Callable[[], object]) -> float | None:
    """Return how much a call adds to the memory of this process at its highest, in MB."""
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        kept = function()
        peak = status("VmHWM") - before
        del kept
    except (OSError, AttributeError):
        return None  # only Linux tells
    return max(0, peak) / 1024


def status(field: str) -> int:
    """Return a field of /proc/self/status in KiB."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text)[1])


def markdown(rows: list[Row]) -> str:
    """Write rows as a table, with times in units of copying and of cloning the batch."""
    by_name = {row.name: row.median for row in rows}
    units = ("out.copy_(x)", "x.clone()", "v2.MixUp", "v2.CutMix", "default_collate", "no mixing")
    units = [name for name in units if name in by_name]
    lines = [["", "ms", "middle half", *(f"/ `{name}`" for name in units), "memory, MB"]]
    lines.append(["---", *["--:"] * (len(lines[0]) - 1)])
    for row in rows:
        ratios = [f"{row.median / by_name[name]:.2f}" for name in units]
        memory = "" if row.memory is None else f"{row.memory:.1f}"
        spread = f"{row.low:.3g} to {row.high:.3g}"
        lines.append([f"`{row.name}`", f"{row.median:.3g}", spread, *ratios, memory])
    return as_table(lines)


def whole_tables(options: argparse.Namespace) -> Iterable[tuple[str, list[Row]]]:
    """Yield the title and the rows of each table of whole calls."""
    for threads in options.threads:
        torch.set_num_threads(threads)
        for size in options.sizes:
            for dtype in DTYPES:
                images = (torch.rand(size) * 255).to(dtype).to(options.device)
                labels = torch.randint(CLASSES, size[:1]).to(options.device)
                title = f"{'×'.join(map(str, size))} {str(dtype)[6:]}, "
                title += options.device if options.device != "cpu" else f"{threads} threads"
                yield title, measure(whole_calls(images, labels), options)
                if size == LARGE and dtype != torch.bfloat16 and options.device == "cpu":
                    yield f"collating {title}", measure(collating(images, labels), options)


def chain(options: argparse.Namespace) -> tuple[str, list[Row]]:
    """Time uint8 to float, normalising and mixing, as steps and as one compiled function."""
    images = torch.randint(256, LARGE, dtype=torch.uint8).to(options.device)
    labels = torch.randint(CLASSES, LARGE[:1]).to(options.device)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    mean, std = mean.to(options.device), std.to(options.device)
    mix = RandomMixup(num_classes=CLASSES)
    steps = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.2] * 3)])

    def normalised(images: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
        return functional.mixup((images / 255 - mean) / std, partner, lam)

    fused = torch.compile(normalised, fullgraph=True)

    def one_graph() -> Tensor:
        params = mix.make_params([images])
        return fused(images, params["partner"], params["lam"])

    out = images.float()
    return f"uint8 to mixed float32, {'×'.join(map(str, LARGE))}", measure(
        {
            "x.clone()": out.clone,
            "v2 steps, RandomMixup": lambda: mix(steps(images), labels),
            "one compiled function": one_graph,
        },
        options,
    )


def epoch(options: argparse.Namespace) -> tuple[str, list[Row]]:
    """Time an epoch of a small network on digits enlarged to 224×224, loaded by two workers."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)[:512]
    dataset = TensorDataset(F.interpolate(images, (224, 224)), torch.tensor(digits.target)[:512])
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 7, stride=2), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.LazyLinear(10)),
    )
    model(dataset.tensors[0][:1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    mix = RandomMixup(num_classes=10, inplace=True)

    def train(
        collate_fn: Callable[..., object], after: Callable[..., tuple[Tensor, Tensor]]
    ) -> None:
        for batch in DataLoader(dataset, 64, shuffle=True, num_workers=2, collate_fn=collate_fn):
            images, labels = after(*batch)
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()

    def unmixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images, labels

    return "an epoch of 512 digits at 1×224×224, 2 workers", measure(
        {
            "no mixing": lambda: train(default_collate, unmixed),
            "RandomMixup after the loader": lambda: train(default_collate, mix),
            "MixCollate in the workers": lambda: train(MixCollate(mix), unmixed),
        },
        options,
    )


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
    parser.add_argument("--repeats", type=int, default=9, help="turns that each function gets")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--quick", action="store_true", help="the first size only; write nothing")
    options = parser.parse_args()
    options.sizes = SIZES[:1] if options.quick else SIZES

    found: dict[str, dict[str, Row]] = {}
    parts = [f"Measured on {machine(options)}."]
    sections = [*([] if options.quick else [chain, epoch])]
    tables = itertools.chain(whole_tables(options), (section(options) for section in sections))
    for title, rows in tables:
        found[title] = {row.name: row for row in rows}
        parts.append(f"## {title}\n\n{markdown(rows)}")
        print(f"\n{parts[-1]}", flush=True)
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
