"""Grain: mix in the source, which it reads by index."""

import grain
import torch
from digits import accuracy, digits, fit, small_cnn
from torch.utils.data import default_collate

from mixup_transforms import MixedDataset, RandomMixup

torch.manual_seed(0)
training, test = digits()
model = small_cnn()


def batches_of(epoch):
    mixed = MixedDataset(training, RandomMixup(alpha=0.4, num_classes=10), seed=0)
    mixed.set_epoch(epoch)
    samples = grain.MapDataset.source(mixed).shuffle(seed=epoch).to_iter_dataset()
    return iter(samples.batch(64, batch_fn=default_collate))


for epoch in range(10):
    batches = batches_of(epoch)
    fit(model, (next(batches) for _ in range(6)))
    state = batches.get_state()  # the run stops here, and goes on
    batches = batches_of(epoch)
    batches.set_state(state)
    fit(model, batches)

print(f"test accuracy: {accuracy(model, test):.1%}")
