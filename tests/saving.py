"""What comes back from a file."""

import io

import torch


def saved_and_loaded(value):
    """Save a value and load it again, as torch does where it trusts no code."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
