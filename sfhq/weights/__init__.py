"""Weights files: the table of what others trained, fetching, the store, checkpoints of ours."""
