"""Time an epoch that decodes photographs, with its samples mixed in each place that there is.

    python -m tests.benchmarks.streams

Prints what mixing costs, what a stream holds and saves, and what batched fetches save.
"""

from __future__ import annotations

import argparse
import pickle
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import PIL.Image
import torch
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from torchvision.transforms import v2

from mixup_transforms import MixCollate, MixedDataset, MixedStream, RandomMixup

CLASSES = 1000
BATCH = 64
DECODE = v2.Compose(
    [
        v2.RandomResizedCrop(224),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


class Photographs(IterableDataset):
    """Pictures of a folder, decoded; each worker has its share, and knows where it is."""

    at = 0

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        worker = get_worker_info()
        own = self.paths[worker.id :: worker.num_workers] if worker else self.paths
        while self.at < len(own):
            self.at += 1
            yield DECODE(PIL.Image.open(own[self.at - 1]).convert("RGB")), self.at % CLASSES
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class Images(IterableDataset):
    """Images that cost nothing to load, so that what is kept of them shows."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        for i in range(1000):
            yield torch.full((3, 224, 224), float(i)), i


class Distant(Dataset):
    """Samples that take 1 ms to ask for, however many are asked for."""

    def __len__(self) -> int:
        return 512

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.__getitems__([i])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, int]]:
        time.sleep(1e-3)
        return [(torch.full((3, 32, 32), float(i)), i) for i in indices]


class Single(Distant):
    """The same, without batches."""

    __getitems__ = None  # type: ignore[assignment]

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return Distant.__getitems__(self, [i])[0]


def mixer(**settings: bool) -> RandomMixup:
    return RandomMixup(num_classes=CLASSES, **settings)


def places(paths: list[Path], workers: int) -> dict[str, Callable[[], Iterable[object]]]:
    """Return the ways to an epoch of mixed batches."""

    def loader(dataset: IterableDataset, **settings: object) -> DataLoader:
        return DataLoader(dataset, batch_size=BATCH, num_workers=workers, **settings)

    photographs, mix = Photographs(paths), mixer(inplace=True)
    return {
        "plain": lambda: loader(photographs),
        "`MixedStream`": lambda: loader(MixedStream(photographs, mixer(), seed=0)),
        "`MixCollate`": lambda: loader(photographs, collate_fn=MixCollate(mixer())),
        "after the loader, in place": lambda: (mix(*batch) for batch in loader(photographs)),
    }


def cpu_seconds() -> float:
    """Return what this process and its ended children have used of all cores."""
    whom = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(who)[:2]) for who in whom)


def cost(options: argparse.Namespace) -> None:
    """Print how many samples come in a second, and what they cost of the processor, at best."""
    print("| workers | | samples a second | ms of one core a sample | more than plain |")
    print("|--:|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), options.pictures)
        for workers in (1, 2):
            ways = places(paths, workers)
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for _ in range(options.turns):  # in turns, so that a busy machine is so for all
                for name, way in ways.items():
                    start, used = time.perf_counter(), cpu_seconds()
                    count = sum(len(batch[1]) for batch in way())
                    seconds, busy = time.perf_counter() - start, cpu_seconds() - used
                    taken[name].append((count / seconds, busy / count * 1e3))
            best = {
                name: (max(rate for rate, _ in pairs), min(busy for _, busy in pairs))
                for name, pairs in taken.items()
            }
            plain = best["plain"][1]
            for name, (rate, busy) in best.items():
                more = f"{busy / plain - 1:.1%}" if name != "plain" else ""
                print(f"| {workers} | {name} | {rate:.0f} | {busy:.2f} | {more} |")


def written(folder: Path, number: int) -> list[Path]:
    """Write scikit-learn's photographs as JPEGs of 500×375, each cropped a little differently."""
    photographs = [PIL.Image.fromarray(image) for image in load_sample_images().images]
    paths = [folder / f"{i}.jpg" for i in range(number)]
    for i, path in enumerate(paths):
        left, top = i % 100, i // 2 % 40
        picture = photographs[i % 2].crop((left, top, left + 500, top + 375))
        picture.save(path, quality=92)
    return paths


def held(options: argparse.Namespace) -> None:
    """Print what a stream of 3×224×224 float32 keeps in memory and puts into a state."""
    print("\n| buffer | memory over plain, MB | state, bytes | `state_dict()`, µs |")
    print("|--:|--:|--:|--:|")
    plain = in_process(peak, None)
    for buffer in (1, 64, 256):
        stream = MixedStream(Photographs([]), mixer(), seed=0, buffer=buffer)
        state = len(pickle.dumps(stream.state_dict()))
        start = time.perf_counter()
        for _ in range(1000):
            stream.state_dict()
        micros = (time.perf_counter() - start) * 1e3
        more = in_process(peak, buffer) - plain
        print(f"| {buffer} | {more:.0f} | {state} | {micros:.1f} |")


def peak(buffer: int | None) -> float:
    """Iterate, and return by how many MB this process grew at most."""
    images = Images()
    mixed = images if buffer is None else MixedStream(images, mixer(), seed=0, buffer=buffer)
    first, *grown = (resident() for _ in mixed)
    return (max(grown) - first) / 1e6


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def in_process(function: Callable[[int | None], float], argument: int | None) -> float:
    """Call a function in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (argument,))


def resumed(options: argparse.Namespace) -> None:
    """Print how long a run takes to go on in the middle."""
    print("\n| source | read again | seconds to the next sample |")
    print("|---|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), options.pictures)
        position = options.pictures - 10
        for name, source in (("with a state", Photographs), ("without one", Stateless)):
            stream = MixedStream(source(paths), mixer(), seed=0)
            for _ in islice(stream, position):
                pass
            state = stream.state_dict()
            again = MixedStream(source(paths), mixer(), seed=0)
            again.load_state_dict(state)
            start = time.perf_counter()
            next(iter(again))
            seconds = time.perf_counter() - start
            print(f"| {name} | {position - state['source']['position']} | {seconds:.2f} |")


class Stateless(Photographs):
    """The same, which does not know where it is."""

    load_state_dict = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        self.at = 0
        return super().__iter__()


def fetched(options: argparse.Namespace) -> None:
    """Print what a dataset saves that reads a batch at once."""
    print("\n| 512 samples that take 1 ms to ask for | seconds |")
    print("|---|--:|")
    for name, dataset in (("one by one", Single()), ("a batch at once", Distant())):
        seconds = []
        for _ in range(options.turns):
            mixed = MixedDataset(dataset, mixer(), seed=0)
            start = time.perf_counter()
            for _ in DataLoader(mixed, batch_size=BATCH):
                pass
            seconds.append(time.perf_counter() - start)
        print(f"| {name} | {median(seconds):.2f} |")


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks.streams", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for table in (cost, held, resumed, fetched):
        table(options)


if __name__ == "__main__":
    main()
