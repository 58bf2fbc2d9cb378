"""Stages and how they run: declarations, recipes, lineage, shards, resume, workers."""
