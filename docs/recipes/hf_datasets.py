"""Hugging Face datasets: mix in the dataset, or in the stream that it makes."""

import torch
from datasets import Dataset
from digits import accuracy, digits, fit, small_cnn
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from mixup_transforms import MixedDataset, MixedStream, RandomMixup

torch.manual_seed(0)
training, test = digits()
images, labels = (part.numpy() for part in training.tensors)
rows = Dataset.from_dict({"image": images, "label": labels}).with_format("torch")
mix = RandomMixup(alpha=0.4, num_classes=10)


def pairs(batches):
    return ((batch["image"], batch["label"]) for batch in batches)


# Map-style: a partner from the whole dataset.
model = small_cnn()
mixed = MixedDataset(rows, mix, seed=0)
loader = DataLoader(mixed, batch_size=64, shuffle=True)
for epoch in range(2):
    mixed.set_epoch(epoch)
    fit(model, pairs(loader))


# Streaming: a partner from the last 64 samples of the worker.
def stream_of(epoch):
    stream = rows.shuffle(seed=epoch).to_iterable_dataset(num_shards=4)
    mixed = MixedStream(stream, mix, seed=0)
    mixed.set_epoch(epoch)
    return StatefulDataLoader(mixed, batch_size=64, num_workers=2)


for epoch in range(2, 10):
    loader = stream_of(epoch)
    batches = iter(loader)
    fit(model, pairs(next(batches) for _ in range(6)))
    state = loader.state_dict()  # the run stops here, and goes on
    loader = stream_of(epoch)
    loader.load_state_dict(state)
    fit(model, pairs(loader))

print(f"test accuracy: {accuracy(model, test):.1%}")
