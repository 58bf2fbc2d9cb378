"""Generators in the layouts of others, read without running anything in the files."""
