"""Mixing where data is loaded and collated."""
