"""ultralytics' mixers, which take one sample at a time and load its partners from a dataset."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial

import numpy as np
from torch import Tensor

from tests.benchmarks.timing import Functions

# It would write settings into the home directory, say so, and look whether there is a network.
os.environ |= {
    "YOLO_CONFIG_DIR": tempfile.gettempdir(),
    "YOLO_OFFLINE": "true",
    "YOLO_VERBOSE": "false",
}

from ultralytics.data.augment import CopyPaste, MixUp, Mosaic
from ultralytics.utils.instance import Instances

POINTS = 1000  # to which its datasets resample the outline of an object


class Samples:
    """Pictures in memory, in the form in which its datasets hand them to its mixers."""

    cache = "ram"

    def __init__(self, images: list[Tensor], targets: list[dict[str, Tensor]], points: int) -> None:
        self.images = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
        self.classes = [target["labels"].float().unsqueeze(1).numpy() for target in targets]
        self.boxes = [target["boxes"].numpy() for target in targets]
        self.outlines = [outlines(boxes, points) for boxes in self.boxes]

    def __len__(self) -> int:
        return len(self.images)

    def get_image_and_label(self, i: int) -> dict[str, object]:
        """Return a sample, of which its mixers change all but the pixels."""
        boxes, outlined = self.boxes[i].copy(), self.outlines[i].copy()
        size = self.images[i].shape[:2]
        return {
            "im_file": "",
            "img": self.images[i],
            "ori_shape": size,
            "resized_shape": size,
            "cls": self.classes[i],
            "instances": Instances(boxes, outlined, bbox_format="xyxy", normalized=False),
        }


def outlines(boxes: np.ndarray, points: int) -> np.ndarray:
    """Return points around each box, or of no box where there are to be none."""
    if not points:
        return np.zeros((0, POINTS, 2), np.float32)
    x1, y1, x2, y2 = boxes.T[..., None]
    side = np.linspace(0, 1, points // 4, endpoint=False, dtype=np.float32)
    x = [x1 + (x2 - x1) * side, x2 + 0 * side, x2 - (x2 - x1) * side, x1 + 0 * side]
    y = [y1 + 0 * side, y1 + (y2 - y1) * side, y2 + 0 * side, y2 - (y2 - y1) * side]
    return np.stack((np.concatenate(x, 1), np.concatenate(y, 1)), -1)


def mixers(images: list[Tensor], targets: list[dict[str, Tensor]]) -> Functions:
    """Return a call over all samples for each mixer that has one of ours beside it."""
    boxed, outlined = (Samples(images, targets, points) for points in (0, POINTS))
    height = images[0].shape[-2]
    return {
        "ultralytics Mosaic": partial(over_all, Mosaic(boxed, imgsz=height), boxed),
        "ultralytics MixUp": partial(over_all, MixUp(boxed, p=1.0), boxed),
        "ultralytics CopyPaste": partial(
            over_all, CopyPaste(outlined, p=1.0, mode="mixup"), outlined
        ),
    }


def over_all(mix: Callable[[dict], dict], samples: Samples) -> list[dict]:
    """Mix every sample, and hold all results, as a batch does."""
    return [mix(samples.get_image_and_label(i)) for i in range(len(samples))]
