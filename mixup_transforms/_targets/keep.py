"""Objects dropped of which too little is to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from mixup_transforms._batch.columns import chosen, corners_of, together, typed
from mixup_transforms._batch.intake import check_each, checked_targets
from mixup_transforms._batch.objects import KEYPOINT_WEIGHTS, WEIGHTS, Targets, pair, sample_pair
from mixup_transforms._batch.parse import Batch, listed, unwrap
from mixup_transforms._batch.tree import Tree, given, shown
from mixup_transforms._core import checks
from mixup_transforms._core.checked import Checked
from mixup_transforms._core.memory import moved
from mixup_transforms._core.seeded import Seeded, uncompiled


class KeepVisible(Seeded):
    """Drop objects of which too little is left to be seen, with all that belongs to them.

    A mixer keeps every object of which a single pixel is visible, and says in ``weights`` how much
    of it is. This drops those that weigh too little, and those that are too small. It drops them in
    ``eval()`` mode too.

    Args:
        min_weight: objects whose ``weights`` are below it are dropped, from 0 to 1; 0 keeps all.
            Without ``weights`` in their target all weigh 1.
        min_size: objects with a side below it are dropped, in pixels; 0 keeps all that have an
            area. Sides are those of the box as far as it lies in the image, of a rotated box as it
            is, and without boxes those of the tight rectangle around the instance mask.

    Shape:
        ``(images, targets)`` in all forms that mixers take, a mapping that holds them, or one
        sample ``(image, target)`` with an image ``(C, H, W)``. Boxes, instance masks, keypoints,
        weights and whatever else has a row for each object lose the rows of the same objects;
        targets are new dicts, images and the rest are what was given.

    Raises:
        TypeError: for settings that are no numbers.
        ValueError: for settings out of range, where no objects are found, and for targets that do
            not fit their images or each other.

    Example:
        >>> import torch
        >>> from torchvision import tv_tensors
        >>> from mixup_transforms import KeepVisible
        >>> image = torch.rand(3, 32, 32)
        >>> boxes = torch.tensor([[0, 0, 8, 8], [4, 4, 30, 30], [9, 9, 9.5, 30]])
        >>> target = {
        ...     "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(32, 32)),
        ...     "labels": torch.tensor([1, 2, 3]),
        ...     "weights": torch.tensor([0.04, 0.96, 1.0]),
        ... }
        >>> image, target = KeepVisible(min_weight=0.1)(image, target)
        >>> target["labels"], target["weights"]
        (tensor([2]), tensor([0.9600]))
    """

    min_weight = Checked(checks.probability)
    min_size = Checked(checks.not_negative)

    def __init__(self, *, min_weight: float = 0.1, min_size: float = 1) -> None:
        super().__init__(generator=None)
        self.min_weight = min_weight
        self.min_size = min_size

    @uncompiled
    def forward(self, *inputs: Any) -> Any:
        """Drop objects of a batch, or of one sample."""
        places = pair(given(inputs))
        if places is None:
            return self._sample(inputs)
        tree = Tree.of(inputs, kept=places)
        i, k = map(tree.paths.index, places)
        images, targets = tree.leaves[i], tree.leaves[k]
        check = checks.spatial if isinstance(images, Tensor) else check_each
        check(f"images ({shown(places[0])})", images)
        checked = checked_targets(shown(places[1]), targets, images)
        return _replaced(tree, k, self._kept(checked))

    def _sample(self, inputs: tuple[Any, ...]) -> Any:
        places = sample_pair([given(inputs)])
        tree = Tree.of(inputs, kept=places or ())
        if places is None:
            raise _no_objects_error(Batch.of_labels(tree, None))
        image, target = map(tree.paths.index, places)
        _, (kept,) = self.forward([tree.leaves[image]], [tree.leaves[target]])
        return _replaced(tree, target, kept)

    def _kept(self, targets: Targets) -> Any:
        """Return targets without the objects of which too little is to be seen."""
        keep = self._visible(targets)
        new = []
        for i, (start, end) in enumerate(pairwise(accumulate([0, *targets.counts]))):
            rows = [row for row in range(end - start) if keep[start + row]]
            new.append({} if len(rows) == end - start else _chosen(targets, i, rows))
        return targets.filled(new)

    def _visible(self, targets: Targets) -> list[bool]:
        """Tell of all objects whether enough of them is to be seen."""
        full = [i for i, count in enumerate(targets.counts) if count]
        if not full:
            return []
        sides = _sides(targets, full)
        # Whatever the setting, what has no side has no area; NaN is neither large nor small.
        large = ((sides >= self.min_size) & (sides > 0)).all(1)
        heavy: list[Tensor] = []
        for i in full:
            weights = targets.given[i].get(WEIGHTS, large.new_ones(targets.counts[i]))
            # Each in its own dtype, in which 0.1 is not below 0.1.
            heavy += moved(large.device, weights >= self.min_weight)
        keep: list[bool] = (large & torch.cat(heavy)).tolist()  # the one look at the device
        return keep


def _replaced(tree: Tree, place: int, leaf: Any) -> Any:
    return tree.rebuild([*tree.leaves[:place], leaf, *tree.leaves[place + 1 :]])


def _no_objects_error(batch: Batch) -> ValueError:
    return ValueError(
        "no objects found: give (images, targets), with a list of one dict for each image, or one "
        f"sample (image, target), in both cases with tensors for images; the batch holds\n"
        f"{listed(batch)}"
    )


def _sides(targets: Targets, full: Sequence[int]) -> Tensor:
    """Return the sides of all objects, ``(M, 2 or 4)``."""
    keys = targets.keys
    if keys.boxes is None:
        masks = (unwrap(targets.given[i][keys.masks]) for i in full)
        return torch.cat([torch.stack((_spans(m.any(1)), _spans(m.any(2))), 1) for m in masks])
    like = targets.like(keys.boxes)
    boxes: Tensor = together([targets.given[i][keys.boxes] for i in full], like)
    if targets.rotated:
        if boxes.shape[1] == 5:  # x, y, width, height, angle
            return boxes[:, 2:4]
        corners = boxes.double().view(-1, 4, 2)
        return (corners - corners.roll(1, 1)).square().sum(2).sqrt()
    corners = corners_of(boxes, like.format)
    limits = [targets.sizes[i][::-1] for i in full for _ in range(targets.counts[i])]
    (limit,) = moved(corners.device, torch.tensor(limits, dtype=corners.dtype, device="cpu"))
    low, high = torch.minimum(corners.view(-1, 2, 2).clamp(min=0), limit.unsqueeze(1)).unbind(1)
    return high - low


def _spans(lines: Tensor) -> Tensor:
    """Return how far apart the first and last true places of lines ``(N, L)`` are, both counted."""
    numbers = lines.to(torch.uint8)
    ends = lines.shape[1] - numbers.flip(1).argmax(1)
    return (ends - numbers.argmax(1)) * lines.any(1)


def _chosen(targets: Targets, i: int, kept: Sequence[int]) -> dict[Any, Any]:
    """Return some of the objects of a target."""
    target, keys = targets.given[i], targets.keys
    return {
        key: typed(chosen(target[key], kept), target[key], targets.sizes[i])
        for key in (*keys.geometry, *keys.rows, WEIGHTS, KEYPOINT_WEIGHTS)
        if key in target
    }
