"""Rasterise triangles: find the visible triangle at each sample of an image."""
