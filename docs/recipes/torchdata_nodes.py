"""torchdata.nodes: mix in a node that reads, before the batches."""

import torch
from digits import accuracy, digits, fit, small_cnn
from torch.utils.data import default_collate
from torchdata.nodes import Batcher, IterableWrapper, Loader, Mapper, Prefetcher

from mixup_transforms import MixedStream, RandomMixup

torch.manual_seed(0)
training, test = digits()
model = small_cnn()


class Shuffled:
    """The digits, in another order in each epoch."""

    epoch = 0

    def set_epoch(self, epoch):  # called by the stream
        self.epoch = epoch

    def __iter__(self):
        order = torch.Generator().manual_seed(self.epoch)
        return (training[i] for i in torch.randperm(len(training), generator=order))


def loader_of(epoch):
    mixed = MixedStream(Shuffled(), RandomMixup(alpha=0.4, num_classes=10), seed=0)
    mixed.set_epoch(epoch)
    samples = Prefetcher(IterableWrapper(mixed), prefetch_factor=64)
    return Loader(Mapper(Batcher(samples, 64, drop_last=False), default_collate))


for epoch in range(10):
    loader = loader_of(epoch)
    batches = iter(loader)
    fit(model, (next(batches) for _ in range(6)))
    state = loader.state_dict()  # the run stops here, and goes on
    loader = loader_of(epoch)
    loader.load_state_dict(state)
    fit(model, loader)

print(f"test accuracy: {accuracy(model, test):.1%}")
