"""Time the mixers against their peers and against the two limits, copying and cloning a batch.

    python -m tests.benchmarks

Prints its tables and writes docs/benchmarks.md, with a picture, docs/images/speed.png, and all
tables into docs/benchmarks_full.md. Peers that are not installed are left out: timm and kornia, and
ultralytics, for objects. Takes up to ten minutes.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from tests.benchmarks.calls import BATCHES, DTYPES, LARGE, collating_table, whole_table
from tests.benchmarks.findings import Found, aims, compared, in_full, objects
from tests.benchmarks.objects import objects_table, peers_table
from tests.benchmarks.page import write
from tests.benchmarks.timing import Table
from tests.benchmarks.training import chain, epoch

PACKAGES = ("torch", "torchvision", "timm", "kornia", "ultralytics")


def machine(options: argparse.Namespace) -> str:
    """Say what the figures were taken on."""
    if options.device == "cuda":
        model = torch.cuda.get_device_name()
    else:
        cpus = Path("/proc/cpuinfo")
        lines = cpus.read_text().splitlines() if cpus.exists() else []
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        threads = options.threads[0]
        model = f"{os.cpu_count()} cores of {named[0] if named else platform.processor()}"
        model += f", with {threads} thread{'s' * (threads > 1)}"
    versions = [f"{name} {version(name)}" for name in PACKAGES if find_spec(name)]
    return f"{model}; Python {platform.python_version()}, {', '.join(versions)}"


def asked_for() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of each call, at least")
    parser.add_argument("--seconds", type=float, default=10, help="of turns for each table")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--quick", action="store_true", help="the first size only; write nothing")
    parser.add_argument("--epoch", action="store_true", help="the epoch alone; write nothing")
    parser.add_argument("--objects", action="store_true", help="objects alone; write nothing")
    return parser.parse_args()


def tasks(options: argparse.Namespace) -> list[Callable[[], Table]]:
    """Return what makes each table."""
    threads, *fewer = options.threads
    on_cpu = options.device == "cpu"
    if options.epoch:
        return [partial(epoch, options)]
    of_objects = [partial(objects_table, options)] + [partial(peers_table, options)] * on_cpu
    if options.objects:
        return of_objects
    if options.quick:
        return [partial(whole_table, options, *kind, threads) for kind in BATCHES[: len(DTYPES)]]
    made = [partial(whole_table, options, *kind, threads) for kind in BATCHES]
    # Threads share the work of large batches alone.
    made += [partial(whole_table, options, LARGE, torch.float32, count) for count in fewer]
    made.append(partial(chain, options))
    if on_cpu:
        made.append(partial(epoch, options))
        made += [partial(collating_table, options, of) for of in (torch.float32, torch.uint8)]
    return made + of_objects


def summaries(options: argparse.Namespace, found: Found) -> Iterator[str]:
    """Yield what is to be said of the tables that were made."""
    if options.epoch:
        return
    if not options.objects:
        yield compared(found)
    if options.device == "cpu":
        if not options.quick:
            yield objects(found)
        yield aims(found)


def main() -> None:
    """Run everything, print it and write it down."""
    options = asked_for()
    found: Found = {}
    parts = []
    for task in tqdm(tasks(options), unit="table"):
        # In a process of its own: memory that another table left over would be taken again.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            name, rows = process.submit(task).result()
        found[name] = {row.name: row for row in rows}
        parts.append(f"## {name}\n\n{in_full(rows)}")
        tqdm.write(f"\n{parts[-1]}")
    print("", *summaries(options, found), f"On {machine(options)}.", sep="\n\n")
    if options.device == "cpu" and not (options.quick or options.epoch or options.objects):
        write(found, machine(options), options.repeats, "\n\n".join(parts))


if __name__ == "__main__":
    main()
