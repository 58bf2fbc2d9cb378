"""Which faces to ask about next: uncertain, disputed among the members, unlike each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sfhq.parts.records import Array

POOL = 8  # candidates of the highest worth for each face that is asked for
OUTSIDE = 0.01  # factor for faces outside the band, as in the visual taste approximator
MOST = 20_000  # faces considered at a time


def worth(scores: Array, spread: Array, band: tuple[float, float] | None = None) -> Array:
    """(N,) how much the label of each face would teach the model.

    Args:
        scores: (N,) probabilities.
        spread: (N,) disagreement of the members, 0 to 0.5.
        band: scores of interest; faces outside it count a hundredth.
    """
    uncertain = 4 * scores * (1 - scores)
    value: Array = uncertain + spread
    if band is not None:
        low, high = band
        value = np.where((scores >= low) & (scores <= high), value, OUTSIDE * value)
    return value


def next_faces(
    scores: Array,
    spread: Array,
    features: Array,
    available: npt.NDArray[np.int64],
    count: int,
    rng: np.random.Generator,
    band: tuple[float, float] | None = None,
) -> list[int]:
    """Choose faces to ask about, the most useful first.

    Among the faces of the highest worth, the next one has the largest product of its worth and
    the square root of its distance to the nearest face chosen before.

    Args:
        scores, spread: (N,) as `worth`.
        features: (N, D) for distances.
        available: (M,) indices of faces that have no label.
        count: how many.
        rng: breaks ties, and draws `MOST` faces where there are more.
        band: as `worth`.
    """
    if len(available) > MOST:
        available = rng.choice(available, MOST, replace=False)
    value = worth(scores[available], spread[available], band) + 1e-6 * rng.random(len(available))
    top = np.argsort(-value)[: count * POOL]
    pool, value = available[top], value[top]
    chosen: list[int] = []
    nearest = np.full(len(pool), np.inf)
    points = features[pool].astype(np.float32)
    while len(chosen) < count and len(chosen) < len(pool):
        gain = value if not chosen else value * np.sqrt(np.maximum(nearest, 0))
        best = int(np.argmax(np.where(nearest < 0, -1.0, gain)))
        chosen.append(int(pool[best]))
        away = np.linalg.norm(points - points[best], axis=1)
        nearest = np.where(nearest < 0, nearest, np.minimum(nearest, away))
        nearest[best] = -1  # taken
    return chosen


def spread_out(
    features: Array, available: npt.NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[int]:
    """Faces unlike each other, for when there is no model yet."""
    flat = np.zeros(int(available.max()) + 1 if len(available) else 0)
    return next_faces(flat + 0.5, flat, features, available, count, rng)
