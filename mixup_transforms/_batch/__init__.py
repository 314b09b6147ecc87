"""Batches: which leaf plays which part, what forms labels have, what a mixer can take."""
