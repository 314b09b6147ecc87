"""What the tests of workers and ranks send to other processes."""

import torch
from torch.utils.data import Dataset, default_collate
from torchvision import tv_tensors

from mixup_transforms import RandomMixup


class Numbers(Dataset):
    """Sample i is the number i; its label too."""

    def __init__(self, size=48):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        return torch.tensor([float(i)]), i


class Mixing:
    """A collate function that mixes, and says with what."""

    def __init__(self, seed=None, p=1.0):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        self.mix = RandomMixup(generator=generator, p=p, num_classes=48)

    def __call__(self, samples):
        images, labels = default_collate(samples)
        params = self.mix.make_params([images])
        return self.mix.replay(params, images, labels), params["lam"]


class Many:
    """A collate function with many mixers, that says how much they mix in all."""

    def __init__(self, number):
        self.mixers = [RandomMixup() for _ in range(number)]

    def __call__(self, samples):
        return sum(mix.p for mix in self.mixers)


class Large(Dataset):
    """Images that are all their own index, each large enough to be mixed on its own."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return torch.full((3, 80, 90), i % 4, dtype=self.dtype), i % 4


class Scenes(Dataset):
    """Images whose every pixel is its class, and their masks."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return 8

    def __getitem__(self, i):
        mask = torch.arange(self.size**2).view(self.size, self.size).add(i) % 5
        return tv_tensors.Image(mask.expand(3, -1, -1).float()), tv_tensors.Mask(mask)
