"""Planes on which faces lie: that of the embeddings, or two columns of numbers."""

from __future__ import annotations

import threading

import numpy as np

from curation.explore.collection import Collection
from curation.explore.facets import NUMBERS, finite
from curation.explore.views import Lasso
from sfhq.errors import UsageError
from sfhq.parts.records import Array

MOST = 65_000  # of a coordinate; `NOWHERE` marks a face that has none
NOWHERE = 65_535
MAPS = 6  # kept in memory


class Maps:
    """The maps of a collection, made once each. Threads may share it."""

    def __init__(self, faces: Collection) -> None:
        self.faces = faces
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str], Array] = {}

    def points(self, x: str = "", y: str = "") -> Array:
        """(N, 2) uint16: places from 0 to `MOST`, y upwards; `NOWHERE` for faces without one.

        Args:
            x, y: columns of numbers; both "" for the embeddings' two main directions.

        Raises:
            UsageError: no such column, or no vectors.
        """
        with self._lock:
            if (x, y) not in self._made:
                self._made[x, y] = _scaled(self._plane(x, y))
                while len(self._made) > MAPS:
                    del self._made[next(iter(self._made))]
            return self._made[x, y]

    def _plane(self, x: str, y: str) -> Array:
        if not x and not y:
            return self.faces.vectors.flat()
        for name in (x, y):
            if self.faces.types.get(name) not in NUMBERS:
                raise UsageError(f"map: {name[:80]!r} is no column of numbers")
        sql = "SELECT coalesce({}, 'nan'::DOUBLE) FROM faces ORDER BY i"
        columns = [self.faces.column(sql.format(finite(name))) for name in (x, y)]
        return np.stack(columns, axis=1)

    def inside(self, lasso: Lasso) -> Array:
        """(N,) which faces lie inside a polygon, by the even-odd rule."""
        points = self.points(lasso.x, lasso.y)
        there = points[:, 0] != NOWHERE
        x, y = (points[:, k].astype(np.float32) / MOST for k in (0, 1))
        inside = np.zeros(len(points), np.bool_)
        before = lasso.points[-1]
        for here in lasso.points:
            (x1, y1), (x2, y2) = before, here
            if y1 != y2:
                crosses = (y1 > y) != (y2 > y)
                inside ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
            before = here
        return np.asarray(inside & there)


def _scaled(plane: Array) -> Array:
    """Places as whole numbers; both directions from the smallest to the largest."""
    out = np.full(plane.shape, NOWHERE, np.uint16)
    there = np.isfinite(plane).all(axis=1)
    if there.any():
        kept = plane[there]
        low, high = kept.min(axis=0), kept.max(axis=0)
        span = np.where(high > low, high - low, 1)
        out[there] = np.round((kept - low) / span * MOST).astype(np.uint16)
    return out
