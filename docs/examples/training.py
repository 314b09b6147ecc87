"""What the examples share: seeds, runs under a progress bar, a table, a picture, options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from torch import Tensor
from tqdm import tqdm

Run = TypeVar("Run")
Value = TypeVar("Value")

# Okabe and Ito's palette: colour-blind readers can tell its colours apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
STYLE = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.hspace": 0.1,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.1,
    "figure.titlesize": "large",
    "font.size": 12,
    "grid.color": "#e0e0e0",
    "legend.frameon": False,
    "lines.linewidth": 2,
    "savefig.dpi": 150,
}


def generators(seed: int, number: int) -> list[torch.Generator]:
    """Make independent streams of randomness from one seed."""
    seeds = np.random.SeedSequence(seed).generate_state(number)
    return [torch.Generator().manual_seed(int(s)) for s in seeds]


def batches(rows: int, size: int, generator: torch.Generator) -> Sequence[Tensor]:
    """Shuffle the row numbers of tensors in memory and split them into batches."""
    # A DataLoader would stack each batch row by row, which takes longer than to train small models.
    return torch.randperm(rows, generator=generator).split(size)


def run_all(
    train: Callable[[str, int], Iterator[float]],
    variants: Sequence[str],
    *,
    seeds: int,
    epochs: int,
) -> dict[str, Tensor]:
    """Train every variant with every seed under one progress bar.

    Args:
        train: takes a variant and a seed, and yields a score after each epoch.
        variants: the names of what is compared.
        seeds: how many seeds, counted from 0.
        epochs: how many scores each training yields.

    Returns:
        The scores of each variant, ``(seeds, epochs)``.
    """
    scores = {variant: torch.empty(seeds, epochs) for variant in variants}
    with one_thread(), tqdm(total=len(variants) * seeds * epochs, unit="epoch") as bar:
        for variant, seed in product(variants, range(seeds)):
            bar.set_description(f"{variant}, seed {seed}")
            for epoch, score in enumerate(train(variant, seed)):
                scores[variant][seed, epoch] = score
                bar.update()
    return scores


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread for a while."""
    # Several threads hardly speed up models this small, and their number changes how sums are
    # rounded, which a training run amplifies until its result is another.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_all(
    train: Callable[[argparse.Namespace, Run], Value],
    options: argparse.Namespace,
    runs: Sequence[Run],
) -> Iterator[tuple[Run, Value]]:
    """Train ``options.jobs`` models at a time, under one progress bar.

    Args:
        train: a function of a module, takes the options and a run.
        options: what all runs share, ``jobs`` among it.
        runs: what each training is told.

    Yields:
        Each run and what became of it, in the order given.
    """
    with tqdm(runs, unit="run") as bar:
        if options.jobs == 1:
            with one_thread():
                yield from ((run, train(options, run)) for run in bar)
            return
        with ProcessPoolExecutor(
            options.jobs,
            mp_context=get_context("spawn"),
            initializer=torch.set_num_threads,
            initargs=(1,),
        ) as pool:
            yield from zip(bar, pool.map(partial(train, options), runs), strict=True)


def mean_and_spread(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over the seeds, which are dim 0."""
    mean = scores.mean(dim=0)
    return mean, scores.std(dim=0) if len(scores) > 1 else torch.zeros_like(mean)


def print_table(heading: str, scores: dict[str, Tensor]) -> None:
    """Print what each variant scored at the end of training."""
    seeds = len(next(iter(scores.values())))
    print(
        f"{heading}, " + (f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "1 seed")
    )
    width = max(map(len, scores))
    for variant, values in scores.items():
        mean, spread = mean_and_spread(values[:, -1])
        print(f"  {variant:<{width}}  {mean:6.2f}" + (f" ± {spread:.2f}" if seeds > 1 else ""))


def print_columns(heading: str, columns: Sequence[str], scores: dict[str, Tensor]) -> None:
    """Print a line for each variant, whose scores are ``(seeds, columns)``."""
    seeds = len(next(iter(scores.values())))
    over = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "1 seed"
    width = max(map(len, scores))
    print(f"\n{heading}, {over}\n{'':<{width}}" + "".join(f"{name:>16}" for name in columns))
    for variant, values in scores.items():
        pairs = zip(*mean_and_spread(values), strict=True)
        cells = (
            f"{mean:.2f}" + (f" ± {spread:.2f}" if seeds > 1 else "") for mean, spread in pairs
        )
        print(f"{variant:<{width}}" + "".join(f"{cell:>16}" for cell in cells))


def draw_curves(axes: Axes, scores: dict[str, Tensor]) -> None:
    """Draw each variant's mean over the seeds, in a band of one standard deviation."""
    for variant, values in scores.items():
        mean, spread = (statistic.numpy() for statistic in mean_and_spread(values))
        epochs = np.arange(1, len(mean) + 1)
        marker = "o" if len(epochs) == 1 else None  # a line through one point cannot be seen
        axes.plot(epochs, mean, marker=marker, label=variant)
        axes.fill_between(epochs, mean - spread, mean + spread, alpha=0.2, linewidth=0)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_xlabel("epoch")
    axes.legend()


def log_scale(axes: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers at 1, 2 and 5."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


@contextmanager
def picture(path: Path, *, size: tuple[float, float]) -> Iterator[Figure]:
    """Give an empty figure, its size in inches, to draw in; then save it."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size)
        yield figure
        figure.savefig(path)
    print(f"saved {path}")


def part_of(path: Path, part: str) -> Path:
    """Name the picture of one part of an example after the picture of the whole."""
    return path.with_stem(f"{path.stem}_{part}")


def checked(
    convert: Callable[[str], Value], accept: Callable[[Value], bool], wanted: str
) -> Callable[[str], Value]:
    """Make an argparse type that refuses a bad value in one line."""

    def parse(text: str) -> Value:
        try:
            value = convert(text)
            accepted = accept(value)
        except Exception:  # torch has many kinds of error for a device that cannot be used
            accepted = False
        if not accepted:
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")
        return value

    return parse


positive = checked(float, lambda x: 0 < x < float("inf"), "a finite number above 0")
fraction = checked(float, lambda x: 0 <= x < 1, "a number from 0 up to, but not including, 1")
whole_number = checked(int, lambda n: n >= 1, "a whole number, at least 1")
usable_device = checked(
    torch.device,
    lambda device: torch.zeros((), device=device).item() == 0,
    "a device that this machine has, such as cpu or cuda",
)
picture_path = checked(
    Path,
    lambda path: path.suffix in (".png", ".pdf", ".svg") and path.parent.is_dir(),
    "a .png, .pdf or .svg file in a folder that exists",
)


def option_parser(
    text: str | None,
    *,
    seeds: int,
    epochs: int,
    over: str,
    out: str | None,
    jobs: int | None = None,
) -> argparse.ArgumentParser:
    """Make a parser of the options that every example has, with its defaults.

    Args:
        text: a title, a line of = under it, and what the example does.
        seeds: how often to train by default.
        epochs: how long to train by default.
        over: what one epoch passes over.
        out: the picture's name by default; ``None`` where none is drawn.
        jobs: how many models to train at a time by default; ``None`` where it is always one.
    """
    _, _, description = str(text).partition("=\n\n")
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=whole_number, default=seeds, help="how often to train with each setting")
    add("--epochs", type=whole_number, default=epochs, help=f"passes over the training {over}")
    add("--device", type=usable_device, default="cpu", help="where to train, such as cuda")
    if out is not None:
        add("--out", type=picture_path, default=out, help="the picture to write")
    if jobs is not None:
        add("--jobs", type=whole_number, default=jobs, help="how many trainings at a time")
    return parser
