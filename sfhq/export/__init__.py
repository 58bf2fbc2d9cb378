"""Finished parts in the layouts that people load."""
