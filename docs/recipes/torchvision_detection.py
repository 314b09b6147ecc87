"""torchvision's detection training: Mosaic and mixup, and neither in the last epochs."""

import torch
import torch.nn.functional as F
from digits import digits
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, Image

from mixup_transforms import (
    KeepVisible,
    MixScheduler,
    RandomChoice,
    RandomMixup,
    RandomMosaic,
    seeded_generator,
)

EPOCHS, PLAIN_EPOCHS = 24, 6

mosaic_or_mixup = RandomChoice(
    [RandomMosaic(), RandomMixup(alpha=8.0)], per_sample=True, generator=seeded_generator(0)
)
mix = v2.Compose([mosaic_or_mixup, KeepVisible(min_weight=0.3, min_size=2)])


def scenes(digits, number):
    """Put up to four of the digits, two or three times as large, on images (3, 64, 64)."""
    generator = torch.Generator().manual_seed(number)

    def below(end):
        return int(torch.randint(end, (), generator=generator))

    def scene():
        image, boxes, labels = torch.zeros(64, 64), [], []
        for quarter in torch.randperm(4, generator=generator).tolist()[: 1 + below(4)]:
            digit, label = digits[below(len(digits))]
            side = 16 + 8 * below(2)
            top, left = (32 * place + below(33 - side) for place in divmod(quarter, 2))
            large = v2.functional.resize(digit, [side, side])
            image[top : top + side, left : left + side] = large
            boxes.append([left, top, left + side, top + side])
            labels.append(label + 1)  # torchvision's detectors keep class 0 for the background
        boxes = torch.tensor(boxes, dtype=torch.float32)
        return Image(image.expand(3, -1, -1)), {
            "boxes": BoundingBoxes(boxes, format="XYXY", canvas_size=(64, 64)),
            "labels": torch.stack(labels),
        }

    return [scene() for _ in range(number)]


def collate_fn(batch):
    return tuple(zip(*batch, strict=True))


def mixing_collate_fn(batch):
    return mix(collate_fn(batch))


def small_fcos():
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
    )
    backbone.out_channels = 32
    anchors = AnchorGenerator(sizes=((8,),), aspect_ratios=((1.0,),))
    return FCOS(backbone, num_classes=11, min_size=64, max_size=64, anchor_generator=anchors)


def train_one_epoch(model, optimizer, data_loader, lr_scheduler):
    model.train()
    for images, targets in data_loader:
        loss_dict = model(images, targets)
        loss = sum(loss_dict.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()


@torch.inference_mode()
def evaluate(model, data_loader):
    """Return the share of digits whose class is that of the surest detection at their place."""
    model.eval()
    hits = []
    for images, targets in data_loader:
        for found, target in zip(model(images), targets, strict=True):
            there = (box_iou(target["boxes"], found["boxes"]) > 0.5) * found["scores"]
            surest = F.pad(there, (1, 0), value=0.01).argmax(dim=1)  # first is nothing, of class 0
            hits.append(F.pad(found["labels"], (1, 0))[surest] == target["labels"])
    return torch.cat(hits).float().mean()


def main():
    torch.manual_seed(0)
    training, test = digits()
    data_loader = DataLoader(
        scenes(training, 320),
        batch_size=8,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        collate_fn=mixing_collate_fn,
        generator=torch.Generator().manual_seed(0),
    )
    data_loader_test = DataLoader(scenes(test, 100), batch_size=50, collate_fn=collate_fn)

    model = small_fcos()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=5e-3, total_steps=EPOCHS * len(data_loader)
    )
    mix_scheduler = MixScheduler(
        mosaic_or_mixup, p=lambda epoch: 1.0 if epoch < EPOCHS - PLAIN_EPOCHS else 0.0
    )
    for _ in range(EPOCHS):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler)
        mix_scheduler.step()
    print(f"test accuracy: {evaluate(model, data_loader_test):.1%}")


if __name__ == "__main__":  # workers may import this file
    main()
