"""What was found, as tables: ours beside the fastest that does the same, and beside the aims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tests.benchmarks.calls import BATCHES, LARGE, LARGEST, SMALL, named
from tests.benchmarks.timing import Row

Found = dict[str, dict[str, Row]]

# In place stands against timm's, which write into the batch, and out of place against the others.
PEERS = {
    "RandomMixup": ("v2.MixUp", "kornia RandomMixUpV2"),
    "RandomMixup, in place": ("timm Mixup, in place",),
    "RandomCutMix": ("v2.CutMix", "kornia RandomCutMixV2"),
    "RandomCutMix, in place": ("timm Mixup as CutMix, in place",),
}
OBJECT_PEERS = {
    "RandomMosaic": ("a loop: mosaic", "ultralytics Mosaic"),
    "RandomMixup": ("a loop: mixup", "ultralytics MixUp"),
    "RandomCutMix": ("a loop: CutMix",),
    "RandomCopyPaste": ("a loop: copy-paste", "ultralytics CopyPaste"),
}
ALONE = ("RandomResizeMix", "RandomFMix")

FLOATS = tuple(named(size, torch.float32) for size in (*SMALL, LARGE, LARGEST))
TINY, SMALLER, BIG, _ = FLOATS
SMALLER_BFLOAT16, SMALLER_UINT8 = (named(SMALL[1], of) for of in (torch.bfloat16, torch.uint8))
BIG_UINT8, COLLATING = named(LARGE, torch.uint8), f"collating {BIG}"
AIMS = (
    (TINY, "RandomMixup", TINY, "v2.MixUp", 1.2),
    (TINY, "RandomCutMix", TINY, "v2.CutMix", 1.2),
    (SMALLER, "RandomMixup, in place", SMALLER, "v2.MixUp", 0.3),
    (SMALLER_BFLOAT16, "RandomMixup, in place", SMALLER_BFLOAT16, "v2.MixUp", 1.0),
    (SMALLER_UINT8, "RandomMixup, in place", SMALLER, "RandomMixup, in place", 2.0),
    (SMALLER, "RandomCutMix", SMALLER, "v2.CutMix", 0.6),
    (SMALLER, "RandomResizeMix", SMALLER, "v2.MixUp", 3.9),
    (SMALLER, "RandomFMix", SMALLER, "v2.MixUp", 1.9),
    (BIG, "RandomMixup, in place", BIG, "out.copy_(x)", 1.15),
    (BIG, "RandomMixup, in place", BIG, "v2.MixUp", 0.1),
    (BIG, "RandomMixup", BIG, "x.clone()", 1.25),
    (BIG, "RandomMixup", BIG, "v2.MixUp", 0.5),
    (BIG, "RandomCutMix, in place", BIG, "out.copy_(x)", 1.0),
    (BIG, "RandomCutMix, in place", BIG, "v2.CutMix", 0.1),
    (BIG, "RandomCutMix", BIG, "x.clone()", 1.25),
    (BIG, "RandomFMix", BIG, "x.clone()", 2.0),
    (BIG_UINT8, "RandomMixup, in place", BIG, "x.clone()", 0.6),
    (COLLATING, "MixCollate(RandomMixup())", COLLATING, "default_collate", 1.15),
    ("chain", "docs/compiled_chain.py", "chain", "cloning its output", 1.15),
    ("objects", "RandomMixup, 20 boxes, no pixels", "objects", "RandomMixup, pixels alone", 0.2),
)


@dataclass(frozen=True)
class Pair:
    """A call of ours and the fastest that does the same, where there is one."""

    batch: str
    ours: Row
    peer: Row | None

    @property
    def ratio(self) -> float:
        """How much of the peer's time ours takes."""
        return self.ours.median / self.peer.median if self.peer else float("nan")


def table_of(found: Found, batch: str) -> dict[str, Row]:
    """Return the first table of a kind of batch, which is the one with most threads."""
    return next((rows for title, rows in found.items() if title.startswith(f"{batch},")), {})


def pairs(found: Found) -> Iterator[Pair]:
    """Set each mixer beside the fastest library that does the same work."""
    for batch in (named(*kind) for kind in BATCHES):
        rows = table_of(found, batch)
        for name, names in PEERS.items():
            if name in rows:
                others = [rows[other] for other in names if other in rows]
                fastest = min(others, key=lambda row: row.median, default=None)
                yield Pair(batch, rows[name], fastest)


def compared(found: Found) -> str:
    """Return whole calls beside the fastest that does the same, and where that is faster."""
    lines = [["images", "mixer", "ms", "fastest peer", "ms", "ours / peer"]]
    lines.append(["---", "---", "--:", "---", "--:", "--:"])
    for pair in pairs(found):
        peer = [f"`{pair.peer.name}`", number(pair.peer.median)] if pair.peer else ["none", ""]
        ratio = marked(pair.ratio, 1) if pair.peer else ""
        lines.append([pair.batch, f"`{pair.ours.name}`", number(pair.ours.median), *peer, ratio])
    return f"{as_table(lines)}\n\n{slower([*pairs(found)])}"


def slower(beside: list[Pair]) -> str:
    """Say where a peer is faster."""
    beside = [pair for pair in beside if pair.peer]
    behind = [
        f"{pair.batch} `{pair.ours.name}` ({pair.ratio:.2f})" for pair in beside if pair.ratio > 1
    ]
    if not behind:
        return f"The peer is faster in none of the {len(beside)} rows that have one."
    return (
        f"The peer is faster in {len(behind)} of the {len(beside)} rows that have one, which are "
        f"bold: {'; '.join(behind)}."
    )


def alone(found: Found) -> str:
    """Return the mixers that none of the other libraries has."""
    names = ("x.clone()", "v2.MixUp")
    lines = [["images", "mixer", "ms", *(f"/ `{name}`" for name in names)]]
    lines.append(["---", "---", *["--:"] * 3])
    for batch in FLOATS:
        rows = table_of(found, batch)
        for row in (rows[name] for name in ALONE if name in rows):
            ratios = [f"{row.median / rows[name].median:.2f}" for name in names]
            lines.append([batch, f"`{row.name}`", number(row.median), *ratios])
    return as_table(lines)


def objects(found: Found) -> str:
    """Return mixers of objects beside a loop by hand and beside ultralytics'."""
    rows = table_of(found, "objects beside others")
    lines = [["mixer", "ms", "a loop, ms", "ours / loop", "ultralytics, ms", "ours / ultralytics"]]
    lines.append(["---", *["--:"] * 5])
    for name, others in OBJECT_PEERS.items():
        if name in rows:
            cells = [f"`{name}`", number(rows[name].median)]
            for row in (rows[other] for other in others if other in rows):
                cells += [number(row.median), marked(rows[name].median / row.median, 1)]
            lines.append(cells + [""] * (len(lines[0]) - len(cells)))
    return as_table(lines)


def aims(found: Found) -> str:
    """Compare what was found with what this package aims at."""
    lines = [["", "at most", "found"], ["---", "--:", "--:"]]
    missed = 0
    for batch, name, other_batch, other, aim in AIMS:
        rows, others = table_of(found, batch), table_of(found, other_batch)
        if name in rows and other in others:
            ratio = rows[name].median / others[other].median
            missed += ratio > aim
            where = "" if batch == other_batch else f" of {other_batch}"
            lines.append([f"{batch}: `{name}` / `{other}`{where}", f"{aim:g}", marked(ratio, aim)])
    tried = len(lines) - 2
    return f"{as_table(lines)}\n\nMet: {tried - missed} of {tried}; what is missed is bold."


def marked(ratio: float, limit: float) -> str:
    """Write a ratio, bold where it is over a limit."""
    return f"**{ratio:.2f}**" if ratio > limit else f"{ratio:.2f}"


def number(milliseconds: float) -> str:
    """Write three digits, or all before the point."""
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def in_full(rows: list[Row]) -> str:
    """Write rows as a table, with times in units of copying, of cloning and of torchvision's."""
    by_name = {row.name: row.median for row in rows}
    units = (
        *("out.copy_(x)", "x.clone()", "v2.MixUp", "v2.CutMix", "default_collate", "no mixing"),
        *("cloning its output", "RandomMixup, pixels alone"),
    )
    units = [name for name in units if name in by_name]
    lines = [["", "ms", "middle half", *(f"/ `{name}`" for name in units), "memory, MB"]]
    lines.append(["---", *["--:"] * (len(lines[0]) - 1)])
    for row in rows:
        ratios = [f"{row.median / by_name[name]:.2f}" for name in units]
        memory = "" if row.memory is None else f"{row.memory:.1f}"
        spread = f"{number(row.low)} to {number(row.high)}"
        lines.append([f"`{row.name}`", number(row.median), spread, *ratios, memory])
    return as_table(lines)


def as_table(lines: list[list[str]]) -> str:
    """Write lines of cells as a markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
