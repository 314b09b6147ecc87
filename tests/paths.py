"""The ways through the kernels, each of which a test may take."""

from contextlib import contextmanager
from unittest import mock

from mixup_transforms._core import checks, kernels

PATHS = ("gathered", "by sample", "unread")
READABLE = checks.readable


def unreadable(value):
    """Stand for ``checks.readable``: one function, since torch.compile compiles for each anew."""
    return False


@contextmanager
def on_path(path):
    """Send every kernel one way; unread is how an accelerator's values stay."""
    limit = 0 if path == "by sample" else 2**62
    readable = unreadable if path == "unread" else READABLE
    with (
        mock.patch.object(kernels, "LARGE_SAMPLE", limit),
        mock.patch.object(checks, "readable", readable),
    ):
        yield
