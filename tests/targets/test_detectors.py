"""torchvision's own detectors train on what the mixers and KeepVisible hand out."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    maskrcnn_resnet50_fpn,
)
from torchvision.transforms import v2

from mixup_transforms import KeepVisible, RandomMixup
from tests.painted import OF_ANY_OBJECTS, plain
from tests.strategies import generator_of

# Small images and few proposals, for seconds a step.
SMALL = {
    "weights": None,
    "weights_backbone": None,
    "num_classes": 4,
    "min_size": 48,
    "max_size": 64,
    "rpn_pre_nms_top_n_train": 50,
    "rpn_post_nms_top_n_train": 20,
    "box_batch_size_per_image": 16,
}
DETECTORS = {
    "faster": fasterrcnn_mobilenet_v3_large_320_fpn,
    "mask": maskrcnn_resnet50_fpn,
}


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request):
    torch.manual_seed(0)
    return DETECTORS[request.param](**SMALL).train()


def sample(i, size):
    """An image of three objects, of which the last has no area, as annotations have them."""
    height, width = size
    image = tv_tensors.Image(torch.rand(3, height, width, generator=generator_of(i)))
    boxes = torch.tensor([[2.0, 3.0, 30.0, 28.0], [20.0, 10.0, 40.5, 36.0], [9.0, 9.0, 9.0, 20.0]])
    masks = torch.zeros(3, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    return image, {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "masks": tv_tensors.Mask(masks),
        "labels": torch.tensor([1, 2, 3]),
        "image_id": i,
    }


def batch(*, one_size):
    sizes = [(40, 48), (40, 48) if one_size else (48, 44)]
    return tuple(zip(*(sample(i, size) for i, size in enumerate(sizes)), strict=True))


def losses_of(detector, images, targets):
    return detector([plain(image) for image in images], targets)


@pytest.mark.parametrize("kind", OF_ANY_OBJECTS.values(), ids=repr)
def test_a_training_step(detector, kind):
    size = {"size": (60, 72)} if kind.canvas else {}
    mix = v2.Compose([kind.make(generator=generator_of(0), **size), KeepVisible()])
    images, targets = mix(*batch(one_size=kind.one_size))
    assert all(target["weights"].lt(1).any() for target in targets), "nothing was mixed"
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-3)
    losses = losses_of(detector, images, targets)
    assert all(loss.isfinite() for loss in losses.values()), losses
    sum(losses.values()).backward()
    optimizer.step()
    assert sum(p.grad.abs().sum() for p in detector.parameters() if p.grad is not None) > 0


def test_without_it_a_box_of_no_area_in_a_sample_that_was_not_mixed_stops_the_training(detector):
    images, targets = RandomMixup(p=0)(*batch(one_size=False))
    with pytest.raises(AssertionError, match="positive height and width"):
        losses_of(detector, images, targets)
    for min_size in (0, 1):
        kept = KeepVisible(min_weight=0, min_size=min_size)(images, targets)
        assert all(loss.isfinite() for loss in losses_of(detector, *kept).values())


def test_an_image_that_loses_all_its_objects_is_background(detector):
    images, targets = KeepVisible(min_size=100)(*batch(one_size=False))
    assert all(target["boxes"].shape == (0, 4) for target in targets)
    assert all(loss.isfinite() for loss in losses_of(detector, images, targets).values())
