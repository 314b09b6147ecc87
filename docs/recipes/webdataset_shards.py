"""webdataset: mix the samples of tar files in the workers that read them."""

from tempfile import TemporaryDirectory

import torch
import webdataset as wds
from digits import accuracy, digits, fit, small_cnn
from torchdata.stateful_dataloader import StatefulDataLoader

from mixup_transforms import MixedStream, RandomMixup

torch.manual_seed(0)
training, test = digits()
model = small_cnn()
mix = RandomMixup(alpha=0.4, num_classes=10)


def loader_of(epoch, folder):
    shards = wds.WebDataset(f"{folder}/{{0..3}}.tar", shardshuffle=False).compose(
        wds.detshuffle(200, seed=epoch)
    )
    samples = shards.decode().to_tuple("image.npy", "label.cls").map_tuple(torch.from_numpy, int)
    mixed = MixedStream(samples, mix, seed=0)
    mixed.set_epoch(epoch)
    return StatefulDataLoader(mixed, batch_size=64, num_workers=2)


with TemporaryDirectory() as folder:
    with wds.ShardWriter(f"{folder}/%d.tar", maxcount=225, verbose=0) as writer:
        for i, (image, label) in enumerate(training):
            writer.write({"__key__": f"{i}", "image.npy": image.numpy(), "label.cls": int(label)})

    for epoch in range(10):
        loader = loader_of(epoch, folder)
        batches = iter(loader)
        fit(model, (next(batches) for _ in range(6)))
        state = loader.state_dict()  # the run stops here, and goes on
        loader = loader_of(epoch, folder)
        loader.load_state_dict(state)
        fit(model, loader)

print(f"test accuracy: {accuracy(model, test):.1%}")
