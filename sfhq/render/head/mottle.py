"""Fast noise over the skin: random mixtures of a few fields that are computed once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sfhq.render.head.assets import Floats
from sfhq.render.head.bust import topology
from sfhq.render.head.noise import noise

FIELDS, MIXED = 14, 4
Stretch = tuple[float, float, float]


@lru_cache(maxsize=32)
def _bank(scale: float, octaves: int, stretch: Stretch) -> Floats:
    points = topology().rest * np.array(stretch, np.float32)
    rng = np.random.default_rng([11, int(scale * 1e4), octaves])
    return np.stack([noise(points, scale, rng, octaves) for _ in range(FIELDS)])


def mottle(
    rng: np.random.Generator, scale: float, octaves: int = 1, stretch: Stretch = (1.0, 1.0, 1.0)
) -> Floats:
    """(F,) noise of mean 0 and about unit variance at the skin's vertices.

    Args:
        rng: chooses the fields and their weights.
        scale: size of a bump in decimetres.
        octaves: as in `noise`.
        stretch: factors on x, y and z before the noise is read; 0.25 makes bumps four times as
            long.
    """
    bank = _bank(scale, octaves, stretch)
    pick = rng.choice(FIELDS, MIXED, replace=False)
    share = rng.normal(0, 1, MIXED)
    share /= np.linalg.norm(share)
    out: Floats = np.tensordot(share.astype(np.float32), bank[pick], 1)
    return out
