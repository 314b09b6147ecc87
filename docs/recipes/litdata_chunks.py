"""litdata: mix behind its own loader, which alone knows where it is."""

from tempfile import TemporaryDirectory

import torch
from digits import accuracy, digits, fit, small_cnn
from litdata import StreamingDataLoader, StreamingDataset, optimize

from mixup_transforms import RandomMixup, seeded_generator

torch.manual_seed(0)
training, test = digits()
model = small_cnn()


def sample(i):
    image, label = training[i]
    return image, int(label)


def main():
    with TemporaryDirectory() as folder:
        optimize(sample, [*range(len(training))], folder, num_workers=1, chunk_bytes="64KB")

        def started():
            chunks = StreamingDataset(folder, shuffle=True, seed=0)
            mix = RandomMixup(alpha=0.4, num_classes=10, generator=seeded_generator(0))
            return StreamingDataLoader(chunks, batch_size=64), mix

        loader, mix = started()
        for _ in range(10):
            batches = iter(loader)
            fit(model, (mix(*next(batches)) for _ in range(6)))
            state = {"loader": loader.state_dict(), "mix": mix.state_dict()}
            loader, mix = started()  # the run has stopped, and goes on
            loader.load_state_dict(state["loader"])
            mix.load_state_dict(state["mix"])
            fit(model, (mix(*batch) for batch in loader))
        print(f"test accuracy: {accuracy(model, test):.1%}")


if __name__ == "__main__":
    main()
