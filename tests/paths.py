"""The ways through the kernels, each of which a test may take."""

from contextlib import contextmanager
from unittest import mock

from mixup_transforms._core import checks, small

PATHS = ("small", "by sample", "unread")
# Gathered is what small samples are that NumPy does not take.
EVERY_PATH = (*PATHS, "gathered")
READABLE = checks.readable


def unreadable(value):
    """Stand for ``checks.readable``: one function, since torch.compile compiles for each anew."""
    return False


def no_fit(*tensors, times=1):
    """Stand for ``small.fits``, of all that NumPy does not take."""
    return False


@contextmanager
def on_path(path):
    """Send every kernel one way; unread is how an accelerator's values stay."""
    limit = 0 if path == "by sample" else 2**62
    readable = unreadable if path == "unread" else READABLE
    fits = no_fit if path == "gathered" else small.fits
    with (
        mock.patch.object(small, "LARGE_SAMPLE", limit),
        mock.patch.object(small, "fits", fits),
        mock.patch.object(checks, "readable", readable),
    ):
        yield
