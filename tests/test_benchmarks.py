"""What the benchmark says follows from its times, and the loops that it times do what they say."""

import argparse
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes

from tests.benchmarks import calls, findings, loops, objects
from tests.benchmarks.timing import Row
from tests.strategies import seeds


def found(**milliseconds):
    """Tables of one kind of batch, in which calls took what they are said to."""
    rows = {name: Row(name, took, took, took, None) for name, took in milliseconds.items()}
    return {f"{findings.TINY}, 2 threads": rows, f"{findings.TINY}, 1 thread": {}}


@given(ours=st.floats(0.1, 10), torchvisions=st.floats(0.1, 10), kornias=st.floats(0.1, 10))
def test_a_faster_peer_is_marked_and_named(ours, torchvisions, kornias):
    names = {"RandomMixup": ours, "v2.MixUp": torchvisions, "kornia RandomMixUpV2": kornias}
    text = findings.compared(found(**names, **{"timm Mixup, in place": 0.01}))
    fastest = min(torchvisions, kornias)
    name = "v2.MixUp" if torchvisions <= kornias else "kornia RandomMixUpV2"
    (row,) = (line for line in text.splitlines() if "| `RandomMixup` |" in line)
    assert f"| `{name}` | {findings.number(fastest)} |" in row
    assert ("**" in row) == (ours > fastest)
    said = "in 1 of the 1 rows" if ours > fastest else "in none of the 1 rows"
    assert said in text
    assert (f"`RandomMixup` ({ours / fastest:.2f})" in text) == (ours > fastest)


def test_what_has_no_peer_is_no_faster_and_no_slower():
    text = findings.compared(found(RandomMixup=1.0))
    assert "| none |  |  |" in text
    assert "none of the 0 rows" in text


@pytest.mark.parametrize(("ours", "met"), [(1.19, 1), (1.21, 0)])
def test_a_missed_aim_is_marked_and_counted(ours, met):
    text = findings.aims(found(**{"RandomMixup": ours, "v2.MixUp": 1.0}))
    assert f"Met: {met} of 1" in text
    assert ("**1.21**" in text) == (not met)


def test_what_is_compared_is_timed():
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    pictures = torch.randint(256, (4, 3, 24, 24), dtype=torch.uint8)
    masks = [objects.boxes_and_masks(pictures) for _ in pictures]
    timed = {
        **calls.whole_calls(images, labels),
        **calls.collating(images, labels),
        **objects.with_objects(images),
        **objects.mixed_objects([*pictures], masks),
    }
    for call in timed.values():
        call()
    compared = [name for _, name, _, other, _ in findings.AIMS for name in (name, other)]
    for names in (findings.PEERS, findings.OBJECT_PEERS):
        compared += [name for pair in names.items() for name in (pair[0], *pair[1])]
    elsewhere = ("timm ", "kornia ", "ultralytics ", "docs/compiled_chain.py", "cloning its output")
    assert {name for name in compared if not name.startswith(elsewhere)} <= timed.keys()


def test_tables_of_objects_are_found(monkeypatch):
    options = argparse.Namespace(device="cpu", threads=[1])
    monkeypatch.setattr(objects, "PICTURES", (2, 3, 8, 8))
    monkeypatch.setattr(objects, "SQUARES", (2, 3, 8, 8))
    monkeypatch.setattr(
        objects, "measure", lambda calls, _: [Row(name, 1, 1, 1, None) for name in calls]
    )
    tables = dict([objects.objects_table(options), objects.peers_table(options)])
    tables = {title: {row.name: row for row in rows} for title, rows in tables.items()}
    assert "Met: 0 of 1" in findings.aims(tables)
    for name in findings.OBJECT_PEERS:
        assert f"| `{name}` | 1 | 1 | 1.00 |" in findings.objects(tables)


SIZE = 12, 16
COLOURS = range(1, 6)


def painted(boxes=((0, 0, 16, 12),)):
    """Images of a colour each, with objects that have it for a label."""
    targets = [
        {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=SIZE).float(),
            "labels": torch.full((len(boxes),), colour),
        }
        for colour in COLOURS
    ]
    return [torch.full((1, *SIZE), colour, dtype=torch.uint8) for colour in COLOURS], targets


def seeded(seed):
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def areas(boxes):
    return ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).tolist()


@given(seed=seeds, size=st.tuples(st.integers(2, 40), st.integers(2, 40)))
def test_boxes_of_the_mosaic_by_hand_are_as_large_as_what_is_seen(seed, size):
    seeded(seed)
    for canvas, target in zip(*loops.mosaic(*painted(), size=size), strict=True):
        assert canvas.shape == (1, *size)
        seen = dict.fromkeys(COLOURS, 0)
        for colour, area in zip(target["labels"].tolist(), areas(target["boxes"]), strict=True):
            seen[colour] += area
        assert seen == {colour: int((canvas == colour).sum()) for colour in COLOURS}


@given(seed=seeds)
def test_boxes_that_cutmix_by_hand_pastes_are_as_large_as_what_is_seen(seed):
    seeded(seed)
    for own, image, target in zip(COLOURS, *loops.cutmix(*painted()), strict=True):
        pasted = target["labels"] != own
        if pasted.any():
            assert areas(target["boxes"][pasted]) == [int((image != own).sum())]
        assert (target["labels"] == own).any() == (image == own).any()


@given(seed=seeds)
def test_mixup_by_hand_keeps_all_objects_and_mixes_pixels(seed):
    seeded(seed)
    for own, image, target in zip(COLOURS, *loops.mixup(*painted()), strict=True):
        first, second = target["labels"].tolist()
        assert first == own
        assert min(first, second) <= image.unique().item() <= max(first, second)


@given(seed=seeds)
def test_masks_of_copypaste_by_hand_show_what_is_seen(seed):
    seeded(seed)
    images, targets = painted(((0, 0, 4, 4), (2, 2, 9, 10), (8, 1, 16, 12)))
    for target in targets:
        y, x = torch.arange(SIZE[0])[:, None], torch.arange(SIZE[1])
        x1, y1, x2, y2 = target["boxes"].as_subclass(torch.Tensor).view(-1, 4, 1, 1).unbind(1)
        target["masks"] = (x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)
    for image, target in zip(*loops.copypaste(images, targets), strict=True):
        for mask, box, colour in zip(
            target["masks"], target["boxes"], target["labels"], strict=True
        ):
            assert (image[0][mask] == colour).all()
            assert torch.equal(masks_to_boxes(mask[None])[0] + torch.tensor([0, 0, 1, 1]), box)
