"""RegMixup: the loss on clean samples, and mixup's loss beside it."""

import torch
import torch.nn.functional as F
from digits import accuracy, digits, report, small_cnn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from mixup_transforms import OneHot, RandomMixup, seeded_generator

PARTS = {"plain": ["clean"], "mixup": ["mixed"], "RegMixup": ["clean", "mixed"]}


def train(variant, seed):
    torch.manual_seed(seed)
    training, test = digits()
    loader = DataLoader(training, batch_size=64, shuffle=True)
    model = small_cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = CosineAnnealingLR(optimizer, T_max=30)

    one_hot, mix = OneHot(10), RandomMixup(alpha=20.0, generator=seeded_generator(seed))

    for _ in range(30):
        for batch in loader:
            clean = one_hot(batch)
            batches = {"clean": clean, "mixed": mix(clean)}
            chosen = [batches[part] for part in PARTS[variant]]
            images, labels = map(torch.cat, zip(*chosen, strict=True))
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return accuracy(model, test)


report(train, [*PARTS])
