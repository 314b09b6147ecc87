"""Pictures of mixed batches."""
