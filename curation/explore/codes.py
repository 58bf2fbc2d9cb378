"""Vectors in two bytes a number, one of which is enough to leave most faces out of a search."""

from __future__ import annotations

import numpy as np

from sfhq.parts.records import Array

BLOCK = 1024  # rows turned into single precision at a time: they stay in the processor's cache
FINE = 254.0  # steps of the second byte in a step of the first one


class Codes:
    """Rows of numbers, each kept as (high + low / `FINE`) * scale with a scale a row.

    The high bytes alone give `rough` products, and `slack` how far off those are at most. Both
    bytes give products that are exact to about 2e-5 for unit vectors of some hundred numbers.

    Args:
        count, width: of the rows; all are 0 at first.

    Attributes:
        slack: (count,) float32, length of what the high bytes leave out of a row.
    """

    def __init__(self, count: int, width: int) -> None:
        self.high = np.zeros((count, width), np.int8)
        self.low = np.zeros((count, width), np.int8)
        self.scale = np.zeros(count, np.float32)
        self.slack = np.zeros(count, np.float32)

    def __len__(self) -> int:
        return len(self.scale)

    def put(self, places: Array, rows: Array) -> None:
        """Set rows.

        Args:
            places: (n,) numbers of rows.
            rows: (n, width) float32, finite.
        """
        scale = np.maximum(np.abs(rows).max(axis=1), 1e-30) / 127.0
        steps = rows / scale[:, None]
        high = np.rint(steps)
        low = np.rint((steps - high) * FINE)
        self.high[places], self.low[places], self.scale[places] = high, low, scale
        # Rounding of the products adds to it: of 256 numbers less than 1e-5.
        self.slack[places] = np.linalg.norm(rows - high * scale[:, None], axis=1) + 1e-5

    def rough(self, vector: Array) -> Array:
        """(count,) float32 products of all rows and a vector, off by `slack` times its length.

        Args:
            vector: (width,) float32.
        """
        out = np.empty(len(self), np.float32)
        wide = np.empty((BLOCK, self.high.shape[1]), np.float32)
        for begin in range(0, len(self), BLOCK):
            codes = self.high[begin : begin + BLOCK]
            block = wide[: len(codes)]
            np.copyto(block, codes)
            np.dot(block, vector, out=out[begin : begin + BLOCK])
        out *= self.scale
        return out

    def rows(self, places: Array | slice) -> Array:
        """(n, width) float32 rows, from both bytes."""
        found: Array = self.low[places].astype(np.float32)
        found /= FINE
        found += self.high[places]
        found *= self.scale[places][:, None]
        return found

    def nearest(self, vector: Array, rough: Array, mask: Array, most: int) -> tuple[Array, Array]:
        """The rows with the largest products, the largest first; equal ones in their order.

        Args:
            vector: (width,) float32.
            rough: what `rough` gave for it.
            mask: (count,) which rows to choose from.
            most: how many at most.

        Returns:
            Their numbers, and the products of both bytes, float32.
        """
        off = self.slack * np.float32(np.linalg.norm(vector))
        if np.count_nonzero(mask) > most:
            # `most` rows are at least as near as `least`; what cannot be is left out.
            lowest = np.where(mask, rough - off, np.float32(-np.inf))
            least = np.partition(lowest, -most)[-most]
            mask = mask & (rough + off >= least)
        at = np.flatnonzero(mask)
        blocks = [at[b : b + BLOCK] for b in range(0, len(at), BLOCK)]
        exact = np.concatenate([self.rows(b) @ vector for b in blocks] or [np.zeros(0, np.float32)])
        order = np.argsort(-exact, kind="stable")[:most]
        return at[order], exact[order]
