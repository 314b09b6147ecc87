"""The command line: ``python -m mixup_transforms preview`` draws what a mixer does to pictures."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import torch
from PIL import Image
from torch import Tensor

from mixup_transforms._core import checks
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._mixers.choice import RandomChoice
from mixup_transforms._mixers.cutmix import RandomCutMix
from mixup_transforms._mixers.fmix import RandomFMix
from mixup_transforms._mixers.mixup import RandomMixup
from mixup_transforms._mixers.mosaic import RandomMosaic
from mixup_transforms._mixers.resizemix import RandomResizeMix
from mixup_transforms._preview import pictures
from mixup_transforms._preview.grid import preview

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

LARGEST_SIZE, MOST_SAMPLES = 1024, 64


def _choice(alpha: float, generator: torch.Generator) -> Mixer:
    mixers = [make(alpha, generator) for make in MIXERS.values() if make is not _choice]
    return RandomChoice(mixers, per_sample=True, generator=generator)


MIXERS: dict[str, Callable[[float, torch.Generator], Mixer]] = {
    "mixup": lambda alpha, generator: RandomMixup(alpha=alpha, generator=generator),
    "cutmix": lambda alpha, generator: RandomCutMix(alpha=alpha, generator=generator),
    "resizemix": lambda _, generator: RandomResizeMix(generator=generator),
    "fmix": lambda alpha, generator: RandomFMix(alpha=alpha, generator=generator),
    "mosaic": lambda _, generator: RandomMosaic(generator=generator),
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

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        # argparse's own is silent about a disk that is full.
        print(self.format_help(), end="", file=file)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0; 1 for too few images; 2 for a bad request."""
    # Pillow logs what it refuses, which logging would print beside the command's own line.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    try:
        code = _answer(argv)
        if sys.stdout is not None:  # as it is where it was closed from the start
            sys.stdout.flush()
    except BrokenPipeError:  # who asked has gone, and the picture is written
        _silence(sys.stdout)
        return 0
    except OSError as error:
        _silence(sys.stdout)
        _say(f"error: cannot write to standard output: {error}")
        return 2
    return code


def _answer(argv: list[str] | None) -> int:
    parser = _command()
    try:
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            with suppress(OSError):  # there is nobody left to tell
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


def _silence(stream: TextIO) -> None:
    """Send what is left in a stream nowhere, else Python's own last flush fails once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


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
        "of its file, or of its folder in a folder of classes. Files that cannot be read are named "
        "and skipped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="an image file, or a folder for all the images that lie in it and, as classes, in its "
        "folders, one of each in turn; the first ones, as many as --samples, are mixed with one "
        "another",
    )
    command.add_argument(
        "--mix",
        choices=MIXERS,
        default="mixup",
        help="how to mix: mixup blends whole images, cutmix pastes a box of the partner, resizemix "
        "the whole partner made small, fmix smooth patches of it, mosaic shows four images around "
        "a centre; choice draws one of these for each image",
    )
    command.add_argument(
        "--alpha",
        type=float,
        default=1.0,
        help="above 0; near 0 an image is almost all its own or all its partner's, high values mix "
        "half and half; does not apply to resizemix and mosaic",
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
    images, classes = _images(arguments)
    known = [*dict.fromkeys(classes)]
    grid = preview(
        torch.stack(images),
        torch.tensor([known.index(one) for one in classes]),
        MIXERS[arguments.mix](alpha, torch.Generator().manual_seed(arguments.seed)),
        class_names=pictures.class_names(known),
        max_samples=arguments.samples,
    )
    try:
        _write(grid, arguments.out)
    except Exception as error:  # of WebP, say, a grid that is too high is a ValueError
        raise RequestError(f"cannot write {arguments.out}: {error}") from error


def _images(arguments: argparse.Namespace) -> tuple[list[Tensor], list[Path]]:
    try:
        found = pictures.find(arguments.paths, out=arguments.out)
    except ValueError as error:
        raise RequestError(error) from error
    images, classes = pictures.read(
        found,
        size=arguments.size,
        count=max(arguments.samples, 2),
        skip=lambda what: _say(f"warning: {what}"),
    )
    if len(images) < 2:
        raise RequestError(f"mixing needs at least two images, {len(images)} could be read", code=1)
    return images, classes


def _write(grid: Image.Image, out: Path) -> None:
    """Write a file whole or not at all, and under no other name that it has."""
    encoded = io.BytesIO()
    grid.save(encoded, Image.registered_extensions()[out.suffix.lower()])
    target = Path(os.path.realpath(out))
    if os.path.lexists(target) and not os.path.isfile(target):  # such as a device
        target.write_bytes(encoded.getvalue())
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        new = Path(folder, "new")
        new.write_bytes(encoded.getvalue())
        if target.exists():
            new.chmod(target.stat().st_mode)
        os.replace(new, target)


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


def _say(message: str) -> None:
    """Write one line to stderr, whatever a file name has in it."""
    line = " ".join(message.split())
    if sys.stderr is None:  # which print would take for stdout
        return
    with suppress(OSError):  # there is nobody left to tell
        print("".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
