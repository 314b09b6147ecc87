"""The shape of torchvision's reference training script: mix in ``collate_fn``, in the workers."""

import torch
from digits import digits, small_cnn
from torch import nn
from torch.utils.data import DataLoader, default_collate

from mixup_transforms import RandomChoice, RandomCutMix, RandomMixup, seeded_generator

mixup_or_cutmix = RandomChoice(
    [RandomMixup(alpha=0.2, num_classes=10), RandomCutMix(alpha=1.0, num_classes=10)],
    generator=seeded_generator(0),
)


def collate_fn(samples):
    return mixup_or_cutmix(*default_collate(samples))


def train_one_epoch(model, criterion, optimizer, data_loader):
    model.train()
    for image, target in data_loader:
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def evaluate(model, data_loader):
    model.eval()
    hits = [model(image).argmax(1) == target for image, target in data_loader]
    return torch.cat(hits).float().mean()


def main():
    torch.manual_seed(0)
    training, test = digits()
    data_loader = DataLoader(
        training,
        batch_size=64,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        collate_fn=collate_fn,
        generator=torch.Generator().manual_seed(0),
    )
    data_loader_test = DataLoader(test, batch_size=256)

    model = small_cnn()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)

    for _ in range(15):
        train_one_epoch(model, criterion, optimizer, data_loader)
        scheduler.step()
    print(f"test accuracy: {evaluate(model, data_loader_test):.1%}")


if __name__ == "__main__":  # workers may import this file
    main()
