"""Time functions in turns, so that a busy machine is so for all of them."""

from __future__ import annotations

import argparse
import ctypes
import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import torch

MOST_TURNS = 40

Functions = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Row:
    """What one function took, in milliseconds and in megabytes."""

    name: str
    median: float
    low: float
    high: float
    memory: float | None


Table = tuple[str, list[Row]]


def measure(functions: Functions, options: argparse.Namespace) -> list[Row]:
    """Time functions in as many turns as fit into the seconds that a table gets, within limits."""
    synchronise = torch.cuda.synchronize if options.device == "cuda" else lambda: None

    def seconds(function: Callable[[], object], calls: int) -> float:
        synchronise()
        start = time.perf_counter()
        for _ in range(calls):
            function()
        synchronise()
        return time.perf_counter() - start

    bursts = {}
    turn = 0.0
    for name, function in functions.items():
        try:
            taken = seconds(function, 1)
            taken = taken if taken > 1 else seconds(function, 1)
        except Exception:
            if name.startswith("Random"):
                raise
            continue  # a peer that cannot take this dtype
        bursts[name] = 1 if taken > 0.2 else max(2, min(100, int(0.005 / taken)))
        turn += taken * (bursts[name] + (bursts[name] > 1))
    turns = max(options.repeats, min(MOST_TURNS, int(options.seconds / turn)))
    times: dict[str, list[float]] = {name: [] for name in bursts}
    for _ in range(turns):
        for name, burst in bursts.items():
            if burst > 1:
                seconds(functions[name], 1)  # warms the caches after what ran before
            times[name].append(seconds(functions[name], burst) / burst * 1e3)
    rows = []
    for name, taken in times.items():
        low, _, high = quantiles(taken, n=4, method="inclusive")
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
