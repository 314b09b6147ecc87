"""The command line: ``python -m mixup_transforms preview`` draws what a mixer does to pictures."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from mixup_transforms._core import checks
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._mixers.choice import RandomChoice
from mixup_transforms._mixers.cutmix import RandomCutMix
from mixup_transforms._mixers.fmix import RandomFMix
from mixup_transforms._mixers.mixup import RandomMixup
from mixup_transforms._mixers.resizemix import RandomResizeMix
from mixup_transforms._preview.grid import preview

# No format of which Pillow hands the file to another program, as it does for EPS.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
LARGEST_SIZE, MOST_SAMPLES = 1024, 64


def _choice(alpha: float, generator: torch.Generator) -> Mixer:
    mixers = [make(alpha, generator) for make in MIXERS.values() if make is not _choice]
    return RandomChoice(mixers, per_sample=True, generator=generator)


MIXERS: dict[str, Callable[[float, torch.Generator], Mixer]] = {
    "mixup": lambda alpha, generator: RandomMixup(alpha=alpha, generator=generator),
    "cutmix": lambda alpha, generator: RandomCutMix(alpha=alpha, generator=generator),
    "resizemix": lambda _, generator: RandomResizeMix(generator=generator),
    "fmix": lambda alpha, generator: RandomFMix(alpha=alpha, generator=generator),
    "choice": _choice,
}


class RequestError(Exception):
    """Ends the command with one line and an exit code."""

    def __init__(self, message: object, *, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError(message)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0; 1 for too few images; 2 for a bad request."""
    # Pillow logs what it refuses, which logging would print beside the command's own line.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    parser = _command()
    try:
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return 2
        _run(arguments)
    except SystemExit:  # --help
        return 0
    except RequestError as error:
        _say(f"error: {error}")
        return error.code
    try:
        print(arguments.out)
    except UnicodeEncodeError:  # a terminal that lacks a letter of the name
        print(ascii(str(arguments.out))[1:-1])
    return 0


def _command() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m mixup_transforms", description="Look at what mixing does to pictures."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    words = "draw pictures mixed with one another, and their mixed labels, as one picture"
    command = commands.add_parser(
        "preview",
        help=words,
        description=f"{words.capitalize()}. Each row shows an image, the partner it is mixed with, "
        "which part of it stays, the mixed image and its label. The label of an image is the name "
        "of its file. Files that cannot be read are named and skipped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="an image file, or a folder for all the images that lie in it; the first ones, as "
        "many as --samples, are mixed with one another",
    )
    command.add_argument(
        "--mix",
        choices=MIXERS,
        default="mixup",
        help="how to mix: mixup blends whole images, cutmix pastes a box of the partner, resizemix "
        "the whole partner made small, fmix smooth patches of it; choice draws one of these for "
        "each image",
    )
    command.add_argument(
        "--alpha",
        type=float,
        default=1.0,
        help="above 0; near 0 an image is almost all its own or all its partner's, high values mix "
        "half and half; does not apply to resizemix",
    )
    command.add_argument(
        "--seed", type=int, default=0, help="the same seed draws the same picture, at least 0"
    )
    command.add_argument(
        "--size",
        type=int,
        default=160,
        help=f"images are made squares of this many pixels a side, at most {LARGEST_SIZE}",
    )
    command.add_argument(
        "--samples", type=int, default=8, help=f"at most so many rows, up to {MOST_SAMPLES}"
    )
    command.add_argument(
        "--out", type=Path, default=Path("grid.png"), help="the picture to write, by its suffix"
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    try:
        alpha = checks.positive("--alpha", arguments.alpha)
    except ValueError as error:
        raise RequestError(error) from error
    _within("--seed", arguments.seed, 0, 2**63 - 1)
    _within("--size", arguments.size, 1, LARGEST_SIZE)
    _within("--samples", arguments.samples, 1, MOST_SAMPLES)
    _check_out(arguments.out)
    paths = [*_files(arguments.paths, out=arguments.out)]
    images, names = _read(paths, size=arguments.size, count=max(arguments.samples, 2))
    if len(images) < 2:
        raise RequestError(f"mixing needs at least two images, {len(images)} could be read", code=1)
    classes = [*dict.fromkeys(names)]
    grid = preview(
        torch.stack(images),
        torch.tensor([classes.index(name) for name in names]),
        MIXERS[arguments.mix](alpha, torch.Generator().manual_seed(arguments.seed)),
        class_names=classes,
        max_samples=arguments.samples,
    )
    try:
        grid.save(arguments.out)
    except Exception as error:  # of WebP, say, a grid that is too high is a ValueError
        raise RequestError(f"cannot write {arguments.out}: {error}") from error


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RequestError(f"{name} must lie in [{low}, {high}], got {value}")


def _check_out(out: Path) -> None:
    if not os.path.isdir(out.parent):
        raise RequestError(f"--out must lie in a folder that exists, got {out}")
    try:
        kind = Image.registered_extensions()[out.suffix.lower()]
        Image.new("RGB", (1, 1)).save(io.BytesIO(), kind)
    except Exception as error:  # each of Pillow's formats has its own way to say no
        raise RequestError(
            f"--out must have a suffix that Pillow can write, such as .png, got {out}"
        ) from error


def _files(paths: Iterable[Path], *, out: Path) -> Iterable[Path]:
    """Find the files to read, in their order.

    By ``os.path``, which takes names that are too long and links that lead in a circle for files
    that are not there, where ``Path`` raises.
    """
    suffixes = {end for end, kind in Image.registered_extensions().items() if kind in FORMATS}
    for path in paths:
        if not os.path.exists(path):
            raise RequestError(f"cannot read {path}: no such file or folder")
        is_folder = os.path.isdir(path)
        if not (is_folder or os.path.isfile(path)) or not os.access(path, os.R_OK):
            raise RequestError(f"cannot read {path}: not a file or folder that may be read")
        if is_folder:
            for file in sorted(path.iterdir()):
                # Last time's result is no image to mix.
                is_image = file.suffix.lower() in suffixes and not _same(file, out)
                if is_image and not os.path.isdir(file):
                    yield file
        elif _same(path, out):
            raise RequestError(f"--out would overwrite {path}, an image to be mixed")
        else:
            yield path


def _same(first: Path, second: Path) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _read(paths: Iterable[Path], *, size: int, count: int) -> tuple[list[Tensor], list[str]]:
    """Load the first images that can be read, and their names."""
    images: list[Tensor] = []
    names = []
    for path in paths:
        if len(images) == count:
            break
        try:
            images.append(_load(path, size))
        except Exception as error:  # a hostile file can make a decoder raise anything
            unknown = isinstance(error, UnidentifiedImageError)
            _say(f"warning: skipped {path}: {'not a known kind of image' if unknown else error}")
        else:
            names.append(path.stem)
    return images, names


def _load(path: Path, size: int) -> Tensor:
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


def _say(message: str) -> None:
    """Write one line to stderr, whatever a file name has in it."""
    line = " ".join(message.split())
    print("".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
