"""Manifold mixup: mix what some layer makes of the batch, another layer for each batch."""

import torch
import torch.nn.functional as F
from digits import accuracy, digits, report, small_cnn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from mixup_transforms import RandomMixup, functional, seeded_generator

# How many layers may come ahead of the mix.
DEPTHS = {"plain": [0], "mixup": [0], "Manifold mixup": [0, 3, 5]}


def mixed_forward(model, depth, images, partner, lam):
    hidden = model[:depth](images)
    return model[depth:](functional.mixup(hidden, partner, lam))


def train(variant, seed):
    torch.manual_seed(seed)
    training, test = digits()
    loader = DataLoader(training, batch_size=64, shuffle=True)
    model = small_cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = CosineAnnealingLR(optimizer, T_max=30)

    p = 0.0 if variant == "plain" else 1.0
    mix = RandomMixup(alpha=2.0, p=p, generator=seeded_generator(seed))

    for _ in range(30):
        for images, labels in loader:
            params = mix.make_params([images])
            partner, lam = params["partner"], params["lam"]
            soft = functional.mix_labels(functional.one_hot(labels, 10), partner, lam)
            depths = DEPTHS[variant]
            depth = depths[torch.randint(len(depths), ())]
            loss = F.cross_entropy(mixed_forward(model, depth, images, partner, lam), soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return accuracy(model, test)


report(train, [*DEPTHS])
