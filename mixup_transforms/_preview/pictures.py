"""Pictures found in files and folders, and the class that each of them shows."""

from __future__ import annotations

import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

# No format of which Pillow hands the file to another program, as it does for EPS.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# A file, and its class: its folder in a folder of classes, else its own path without the suffix.
Found = tuple[Path, Path]


def find(paths: Iterable[Path], *, out: Path) -> Iterator[Found]:
    """Find the pictures to read, in their order, but for the one to be written.

    By ``os.path``, which takes names that are too long and links that lead in a circle for files
    that are not there, where ``Path`` raises. Folders are listed when their turn comes.

    Raises:
        ValueError: for a path that is not there, may not be read, or is the one to be written.
    """
    paths = list(paths)
    for path in paths:
        if not os.path.exists(path):
            raise ValueError(f"cannot read {path}: no such file or folder")
        is_folder = os.path.isdir(path)
        if not (is_folder or os.path.isfile(path)) or not os.access(path, os.R_OK):
            raise ValueError(f"cannot read {path}: not a file or folder that may be read")
        # By what it is, since a hard link is the same file under another name.
        if not is_folder and os.path.exists(out) and os.path.samefile(path, out):
            raise ValueError(f"--out would overwrite {path}, an image to be mixed")
    return chain.from_iterable(
        _in_folder(path, out) if os.path.isdir(path) else [_by_its_name(path)] for path in paths
    )


def _by_its_name(file: Path) -> Found:
    return file, Path(os.path.abspath(file)).parent / file.stem


def _in_folder(folder: Path, out: Path) -> Iterator[Found]:
    """Find a folder's own pictures, then those of its folders, one of each class in turn."""
    yield from map(_by_its_name, _pictures(folder, out))
    inner = sorted(path for path in folder.iterdir() if os.path.isdir(path))
    turns = deque((Path(path.name), _pictures(path, out)) for path in inner)
    while turns:
        of_class, files = turns.popleft()
        for file in islice(files, 1):
            yield file, of_class
            turns.append((of_class, files))


def _pictures(folder: Path, out: Path) -> Iterator[Path]:
    suffixes = {end for end, kind in Image.registered_extensions().items() if kind in FORMATS}
    if not os.access(folder, os.R_OK | os.X_OK):
        yield folder  # which cannot be loaded, and is named and skipped as such
        return
    for file in sorted(folder.iterdir()):
        # Last time's result is no image to mix.
        is_result = os.path.realpath(file) == os.path.realpath(out)
        if file.suffix.lower() in suffixes and not is_result and not os.path.isdir(file):
            yield file


def read(
    found: Iterable[Found], *, size: int, count: int, skip: Callable[[str], None]
) -> tuple[list[Tensor], list[Path]]:
    """Load the first images that can be read, with their classes, and tell which are skipped."""
    images: list[Tensor] = []
    classes = []
    for path, of_class in found:
        try:
            images.append(load(path, size))
        except Exception as error:  # a hostile file can make a decoder raise anything
            unknown = isinstance(error, UnidentifiedImageError)
            skip(f"skipped {path}: {'not a known kind of image' if unknown else error}")
        else:
            classes.append(of_class)
        if len(images) == count:
            break
    return images, classes


def class_names(classes: Iterable[Path]) -> list[str]:
    """Name each class by its last part, and by as many parts more as tell it from the others."""
    endings = [
        [Path(*path.parts[i:]).as_posix() for i in range(len(path.parts))][::-1] for path in classes
    ]
    times = Counter(chain.from_iterable(endings))
    return [next((end for end in ends if times[end] == 1), ends[-1]) for ends in endings]


def load(path: Path, size: int) -> Tensor:
    """Load an image as uint8 ``(3, size, size)``."""
    if not path.is_file():
        raise OSError("not a regular file")  # to open a pipe would wait for ever
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as image:
            upright = _rgb(ImageOps.exif_transpose(image))
    pixels: Tensor = pil_to_tensor(ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS))
    return pixels


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, of which Pillow would clip the upper 8
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        image.info.pop("transparency", None)
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("RGB")
