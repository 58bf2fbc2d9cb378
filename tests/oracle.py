"""Clustered vectors, and the greedy choice among them as its definition says it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tiny import unit

from curation.pairs.search import exact_cosine
from sfhq.parts.records import Array

Order = npt.NDArray[np.int64]


def clustered(count: int, width: int, spread: float, seed: int) -> Array:
    """Unit vectors around a few centres, some of them exact copies."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(count // 6, 1), width))
    chosen = centres[rng.integers(len(centres), size=count)]
    vectors = unit(chosen + spread * rng.standard_normal((count, width)))
    copies = rng.integers(count, size=(count // 10, 2))
    vectors[copies[:, 0]] = vectors[copies[:, 1]]
    return vectors


def oracle(vectors: Array, order: Order, threshold: float) -> dict[int, tuple[int, float]]:
    """The definition, in float64 and without blocks."""
    kept: list[int] = []
    dropped = {}
    for index in order.tolist():
        near = [(exact_cosine(vectors[index], vectors[k]), k) for k in kept]
        cosine, winner = max(near, key=lambda pair: pair[0], default=(-2.0, -1))
        if cosine > threshold:
            dropped[index] = (winner, cosine)
        else:
            kept.append(index)
    return dropped
