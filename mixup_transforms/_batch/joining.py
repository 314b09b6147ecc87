"""Objects of mixed samples: what is left of their own, and what shows of their partners'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import convert_bounding_box_format

from mixup_transforms._batch.columns import chosen, corners_of, together, typed
from mixup_transforms._batch.objects import KEYPOINT_WEIGHTS, WEIGHTS, Targets
from mixup_transforms._batch.parse import unwrap
from mixup_transforms._core.memory import moved
from mixup_transforms._core.regions import Seen, Sights, Size, View, around, cut_out, see_masks

_Format = tv_tensors.BoundingBoxFormat


@dataclass
class _Group:
    """The objects of one parent on one canvas.

    Attributes:
        targets: the targets of the batch that the parent is in.
        view: what the canvas shows of the parent.
        mixed: whether it shows anything else.
        start: the row of the first of them among all objects.
        piece: what the canvas shows of their masks, but for what the view's hole hides.
        kept: the rows of those that are seen, among all objects.
    """

    targets: Targets
    view: View
    mixed: bool
    start: int = 0
    piece: Tensor | None = None
    kept: Sequence[int] = ()

    @property
    def target(self) -> Mapping[Any, Any]:
        return self.targets.given[self.view.parent]

    @property
    def count(self) -> int:
        return self.targets.counts[self.view.parent]

    @property
    def rows(self) -> range:
        """The rows of its objects among all."""
        return range(self.start, self.start + self.count)


def joined(own: Targets, others: Targets, views: Sequence[Sequence[View]]) -> list[dict[Any, Any]]:
    """Return the objects of mixed samples.

    Args:
        own: the targets of the batch.
        others: those of the batch that partners come from.
        views: what the canvas of each sample shows: of itself, then of its partners; of itself
            alone where it is not mixed.

    Returns:
        For each sample what its objects become, key by key: its own first, without those that are
        hidden. One look at the device that they are on says which these are.
    """
    samples = [
        [_Group(others if k else own, view, len(shown) > 1) for k, view in enumerate(shown)]
        for shown in views
    ]
    # All objects of the batch lie in one table, so that a batch takes no more steps than a sample.
    groups = [group for group in chain.from_iterable(samples) if group.count]
    for group, start in zip(groups, accumulate([0, *(g.count for g in groups)]), strict=False):
        group.start = start
    join = _Join(own if own.keys.geometry else others, groups)
    columns = join.columns()
    order = [row for group in chain.from_iterable(samples) for row in group.kept]
    counts = [sum(len(group.kept) for group in sample) for sample in samples]
    tables = {key: _split(column, order, counts) for key, column in columns.items()}
    changed = [{key: parts[i] for key, parts in tables.items()} for i in range(len(samples))]
    for sample, new in zip(samples, changed, strict=True):
        join.finish(sample, new)
    return changed


def _split(column: Any, order: Sequence[int], counts: list[int]) -> Sequence[Any]:
    """Return a column's rows in another order, in pieces of the given lengths."""
    rows = chosen(column, order)
    if isinstance(rows, Tensor):
        return torch.split(rows, counts)
    ends = [*accumulate([0, *counts])]
    return [rows[start:end] for start, end in pairwise(ends)]


class _Join:
    """What the objects of a batch become, all at once."""

    def __init__(self, forms: Targets, groups: Sequence[_Group]) -> None:
        self.forms, self.keys, self.groups = forms, forms.keys, groups

    def columns(self) -> dict[Any, Any]:
        """Return a row for each object under each key, and note which of them are seen."""
        keys = self.keys
        if not keys.geometry:
            return {WEIGHTS: torch.zeros(0, dtype=torch.float32, device="cpu")}
        columns: dict[Any, Any] = {
            key: self._column(key) for key in (*keys.geometry, *keys.rows) if key != keys.masks
        }
        if any(group.mixed for group in self.groups):
            self._look(columns)
        else:
            self._keep(columns)
        return columns

    def _keep(self, columns: dict[Any, Any]) -> None:
        """Leave all objects as they are, which takes no look."""
        shapes = {WEIGHTS: (sum(group.count for group in self.groups),)}
        if self.keys.keypoints is not None:
            shapes[KEYPOINT_WEIGHTS] = columns[self.keys.keypoints].shape[:2]
        device = self.forms.like(self.keys.geometry[0]).device
        for key, shape in shapes.items():
            ones = torch.ones(shape, dtype=torch.float32, device=device)
            columns[key] = self._weighed(ones, key)
        for group in self.groups:
            group.kept = group.rows

    def _column(self, key: Any) -> Any:
        return together([group.target[key] for group in self.groups], self.forms.like(key))

    def _look(self, columns: dict[Any, Any]) -> None:
        """Find what is seen of all objects, and read once which of them are."""
        keys, groups = self.keys, self.groups
        device = groups[0].target[keys.geometry[0]].device
        views, counts, others = zip(*((g.view, g.count, g.mixed) for g in groups), strict=True)
        sights = Sights(views, counts, others, device)
        mixed, moves = sights.mixed, sights.moves
        boxes = None if keys.boxes is None else columns[keys.boxes]
        corners = None if boxes is None else corners_of(boxes, self._format)
        seen = self._see(sights, corners)
        columns[WEIGHTS] = self._weighed(torch.where(mixed, seen.weight, 1.0), WEIGHTS)
        if boxes is not None and corners is not None:
            # Rotated boxes are never cut.
            uncut = torch.ones_like(mixed) if self.forms.rotated else seen.whole
            stays = ~mixed | (uncut & ~moves)
            columns[keys.boxes] = self._new_boxes(sights, boxes, corners, seen, stays)
        if keys.keypoints is not None:
            points = columns[keys.keypoints]
            placed, weight = sights.see_points(points.double())
            weight = torch.where(mixed.unsqueeze(1), weight, 1.0)
            columns[KEYPOINT_WEIGHTS] = self._weighed(weight, KEYPOINT_WEIGHTS)
            placed = placed if points.is_floating_point() else placed.floor()
            moves_there = (moves & mixed).view(-1, 1, 1)
            columns[keys.keypoints] = torch.where(moves_there, placed.to(points.dtype), points)
        kept = (seen.visible | ~mixed).tolist()  # the one look at the device
        for group in groups:
            group.kept = [row for row in group.rows if kept[row]]

    def _weighed(self, weight: Tensor, key: str) -> Tensor:
        """Multiply what objects weigh into what they weighed before."""
        if any(key in group.target for group in self.groups):
            before: list[Tensor] = []
            for group in self.groups:
                if key in group.target:
                    before += moved(weight.device, unwrap(group.target[key]).to(weight.dtype))
                else:
                    before.append(torch.ones_like(weight[group.start : group.rows.stop]))
            weight = weight * torch.cat(before)
        return weight.float()

    def _see(self, sights: Sights, corners: Tensor | None) -> Seen:
        if self.keys.masks is not None or corners is None:
            return Seen.joined([*map(self._see_masks, self.groups)])
        if self.forms.rotated:
            return sights.see_polygons(corners.view(-1, 4, 2))
        return sights.see_boxes(corners)

    def _see_masks(self, group: _Group) -> Seen:
        masks = unwrap(group.target[self.keys.masks])
        if not group.mixed:  # it keeps its masks, whatever is in them
            return Seen.nothing(len(masks), masks.device)
        seen, group.piece = see_masks(masks, group.view, tight=self.keys.boxes is not None)
        return seen

    @property
    def _format(self) -> Any:
        return self.forms.like(self.keys.boxes).format

    def _new_boxes(
        self, sights: Sights, boxes: Tensor, corners: Tensor, seen: Seen, stays: Tensor
    ) -> Tensor:
        """Return boxes in their format, tight around what is seen of their objects."""
        if self.forms.rotated:
            new, form = sights.placed(corners.view(-1, 4, 2)).flatten(1), _Format.XYXYXYXY
        else:
            new, form = seen.box, _Format.XYXY
            if self.keys.masks is not None:
                new = torch.where(seen.whole.unsqueeze(1), sights.placed_boxes(corners), new)
        if not boxes.is_floating_point():
            new = torch.cat((new[:, :2].floor(), new[:, 2:].ceil()), 1).long()
        new = convert_bounding_box_format(new, form, self._format).to(boxes.dtype)
        if self.forms.rotated:
            # By its corners alone a box without area has no angle.
            only_moved = (sights.scale == 1).all(1, keepdim=True)
            new = torch.where(only_moved, _shifted(boxes, sights.offset, self._format), new)
        return torch.where(stays.unsqueeze(1), boxes, new)

    def finish(self, sample: Sequence[_Group], new: dict[Any, Any]) -> None:
        """Give what became of one sample's objects its types, and add its masks."""
        keys, canvas = self.keys, sample[0].view.canvas
        if keys.masks is not None:
            new[keys.masks] = self._masks(sample, canvas)
        for key in (*keys.geometry, *keys.rows):
            like = sample[0].target.get(key, self.forms.like(key))
            new[key] = typed(new[key], like, canvas)

    def _masks(self, sample: Sequence[_Group], canvas: Size) -> Tensor:
        key = self.keys.masks
        if not sample[0].mixed:
            kept = sample[0].target.get(key)
            if kept is not None:
                whole: Tensor = unwrap(kept)
                return whole
        like: Tensor = unwrap(self.forms.like(key))
        masks = like.new_empty(sum(len(group.kept) for group in sample), *canvas)
        first = 0
        for group in sample:
            if group.piece is None or not group.kept:
                continue
            view, piece = group.view, group.piece
            if len(group.kept) < group.count:
                piece = chosen(piece, [row - group.start for row in group.kept])
            part = masks[first : first + len(group.kept)]
            cut_out(part, view.outer).copy_(piece)
            for x1, y1, x2, y2 in (*around((0, 0, *canvas[::-1]), view.outer), view.hole):
                part[:, y1:y2, x1:x2] = 0
            first += len(group.kept)
        return masks


def _shifted(boxes: Tensor, offset: Tensor, form: Any) -> Tensor:
    """Return rotated boxes moved by x and y, of the same sides and angles."""
    points = 4 if form == _Format.XYXYXYXY else 1
    moved_points = boxes[:, : 2 * points] + offset.repeat(1, points)
    return torch.cat((moved_points.to(boxes.dtype), boxes[:, 2 * points :]), 1)
