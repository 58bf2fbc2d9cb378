"""Smooth noise in space, read from one table at any place and scale."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from sfhq.render.head.assets import Floats

SIDE = 48


@lru_cache(maxsize=1)
def _table() -> Floats:
    return np.random.default_rng(20260101).standard_normal((SIDE,) * 3).astype(np.float32)


def noise(points: Floats, scale: float, rng: np.random.Generator, octaves: int = 1) -> Floats:
    """(N,) noise of mean 0 and about unit variance.

    Args:
        points: (N, 3).
        scale: size of a bump, in the unit of the points.
        rng: chooses the place in the table.
        octaves: number of layers; each has bumps of half the size and half the height.
    """
    total = np.zeros(len(points), np.float32)
    height, power = 1.0, 0.0
    for i in range(octaves):
        shift = rng.uniform(0, SIDE, 3)
        place = points * (2.0**i / scale) + shift
        each = ndimage.map_coordinates(_table(), place.T, order=1, mode="grid-wrap")
        total += np.float32(height) * each.astype(np.float32)
        power += height**2
        height /= 2
    out: Floats = total * np.float32(1.85 / np.sqrt(power))  # interpolation reduces variance
    return out
