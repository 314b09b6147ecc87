"""What the tests of workers and ranks send to other processes."""

import torch
from torch.utils.data import Dataset, IterableDataset, default_collate, get_worker_info
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


class Counting(IterableDataset):
    """The numbers as a stream, of which each worker gives its share; it counts what it loads."""

    def __init__(self, size=48, first=0, step=1):
        self.size, self.first, self.step = size, first, step
        self.loaded = []
        self.epochs = []
        self.fails_at = None

    def numbers(self):
        worker = get_worker_info()
        part, parts = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return range(self.first + self.step * part, self.size, self.step * parts)

    def load(self, number):
        if number == self.fails_at:
            raise OSError(f"no number {number}")
        self.loaded.append(number)
        return torch.tensor([float(number)]), number

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __iter__(self):
        return map(self.load, self.numbers())


class Whole(Counting):
    """Gives the same in every worker."""

    def numbers(self):
        return range(self.size)


class Restarted(Counting):
    """Resumes by a state of its own, as Hugging Face's streams do."""

    at = 0

    def __iter__(self):
        numbers = self.numbers()
        while self.at < len(numbers):
            self.at += 1
            yield self.load(numbers[self.at - 1])
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state.pop("at")


class Rewound(Counting):
    """Resumes by a state of its iterators."""

    def __iter__(self):
        return Cursor(self, self.numbers())


class Cursor:
    def __init__(self, counting, numbers):
        self.counting, self.numbers = counting, numbers
        self.state = {"at": [0]}  # which goes on while it is kept

    def __iter__(self):
        return self

    def __next__(self):
        (at,) = self.state["at"]
        if at >= len(self.numbers):
            raise StopIteration
        self.state["at"][0] += 1
        return self.counting.load(self.numbers[at])

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


class Own(Rewound):
    """Is its own iterator, which its state is loaded into after ``iter``."""

    def __iter__(self):
        self.cursor = Cursor(self, self.numbers())
        return self

    def __next__(self):
        return next(self.cursor)

    def state_dict(self):
        return self.cursor.state_dict()

    def load_state_dict(self, state):
        self.cursor.load_state_dict(state)


class Asked(Counting):
    """Has a state that its engine's own loader alone can ask for."""

    def state_dict(self, num_samples):
        raise NotImplementedError

    def load_state_dict(self, state):
        raise NotImplementedError


class Disabled(Counting):
    """Says, as Python's protocols are switched off, that it has no state."""

    state_dict = load_state_dict = None


SOURCES = {
    "none": Counting,
    "dataset": Restarted,
    "iterator": Rewound,
    "own": Own,
    "asked": Asked,
    "disabled": Disabled,
}
RESUMING = ("dataset", "iterator", "own")


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
