"""Transforms, losses and metrics of labels."""
