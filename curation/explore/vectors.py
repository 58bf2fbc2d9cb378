"""The embeddings of several parts in memory: what is near, and a map of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from curation.explore.codes import Codes
from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import Array

NAME = "embedding"
BLOCK = 16_384  # rows turned into single precision at a time for the map


class Vectors:
    """Unit vectors of faces; parts that another encoder embedded than the first one have none.

    Args:
        parts: in the order of the collection.
        count: faces of the collection.

    Attributes:
        encoder: name of the encoder; "" where no part was embedded.
        digest: sha256 of its weights.
        part: the first part that it embedded; None without one.
        notes: what had to be left out, a line each.
        has: (N,) whether a face has a vector.
    """

    def __init__(self, parts: Sequence[Part], count: int) -> None:
        self.encoder = self.digest = ""
        self.part: Part | None = None
        self.notes: list[str] = []
        self.has = np.zeros(count, np.bool_)
        self._codes: Codes | None = None
        self._parts = tuple(parts)
        self._takes: set[int] = set()
        for number, part in enumerate(parts):
            info = part.stage_info("embed") if "embed" in part.stages() else None
            if info is None or not info["complete"]:
                self.notes.append(f"{part.root} has no vectors; run: sfhq embed {part.root}")
                continue
            settings = info["settings"]
            encoder, digest = str(settings.get("encoder")), str(settings.get("digest"))
            if self.part is None:
                self.part, self.encoder, self.digest = part, encoder, digest
            if (encoder, digest) == (self.encoder, self.digest):
                self._takes.add(number)
            else:
                self.notes.append(
                    f"{part.root} was embedded by {encoder}, {self.part.root} by {self.encoder} or "
                    "other weights; its faces are left out of searches by vectors"
                )

    def add(self, number: int, shard: int, first: int, rows: Array) -> None:
        """Read the vectors of a shard.

        Args:
            number: of the part.
            shard: of the part.
            first: number of the first face in the collection.
            rows: (n,) row of each face in the shard's array, below 0 where it has none.

        Raises:
            IntegrityError: the array is missing or damaged.
            UsageError: vectors of two widths.
        """
        there = np.flatnonzero(rows >= 0)
        if number not in self._takes or not len(there):
            return
        found = self._parts[number].rows(NAME, shard, rows[there].tolist())
        if self._codes is None:
            self._codes = Codes(len(self.has), found.shape[1])
        if found.shape[1] != self.width:
            raise UsageError(
                f"{self._parts[number].root}: vectors of {found.shape[1]} numbers beside those of "
                f"{self.width}; run: sfhq embed --redo {self._parts[number].root}"
            )
        self._codes.put(first + there, found.astype(np.float32))
        self.has[first + there] = True

    def __bool__(self) -> bool:
        return self._codes is not None

    @property
    def width(self) -> int:
        """Numbers of a vector; 0 without vectors."""
        return 0 if self._codes is None else int(self._codes.high.shape[1])

    def require(self, what: str) -> Codes:
        """All vectors; zeros where a face has none.

        Args:
            what: asks for them, for the error.

        Raises:
            UsageError: no part was embedded.
        """
        if self._codes is None:
            root = self._parts[0].root
            raise UsageError(f"{what}: {root} has no vectors; run: sfhq embed {root}")
        return self._codes

    def vector(self, i: int) -> Array:
        """(D,) float32 unit vector of a face.

        Raises:
            UsageError: it has none.
        """
        codes = self.require("more like this")
        if not self.has[i]:
            raise UsageError("more like this: this face has no vector; sfhq embed left it out")
        found: Array = codes.rows(np.array([i]))[0]
        return found

    def rough(self, vector: Array) -> Array:
        """(N,) float32 products of all vectors with one, as `nearest` takes them.

        Raises:
            UsageError: no vectors, or of another width.
        """
        codes = self.require("search by vectors")
        if vector.shape != (self.width,):
            raise UsageError(
                f"the encoder gives {vector.shape[-1]} numbers, the part's vectors have "
                f"{self.width}; run: sfhq embed --redo"
            )
        return codes.rough(vector.astype(np.float32))

    def nearest(self, vector: Array, rough: Array, mask: Array, most: int) -> tuple[Array, Array]:
        """The nearest of some faces, the nearest first; see `Codes.nearest`.

        Args:
            vector: (D,) direction.
            rough: what `rough` gave for it.
            mask: (N,) which faces to choose from; all of them have a vector.
            most: how many at most.

        Returns:
            Their numbers, and the products, cosines for a unit vector, exact to 2e-5.
        """
        codes = self.require("search by vectors")
        return codes.nearest(vector.astype(np.float32), rough, mask, most)

    def flat(self) -> Array:
        """(N, 2) float32: the vectors in the plane of their two main directions.

        Principal components by the eigenvectors of the covariance; signs are fixed, so that the
        same vectors give the same map. NaN where a face has no vector.

        Raises:
            UsageError: no part was embedded.
        """
        codes = self.require("map")
        width, count = self.width, max(int(self.has.sum()), 1)
        total, squares = np.zeros(width), np.zeros((width, width))
        blocks = [slice(b, b + BLOCK) for b in range(0, len(codes), BLOCK)]
        for rows in map(codes.rows, blocks):  # faces without a vector add 0
            total += rows.sum(axis=0, dtype=np.float64)
            squares += rows.T @ rows
        mean = total / count
        _, axes = np.linalg.eigh(squares / count - np.outer(mean, mean))
        plane: Any = axes[:, [-1, -2]] if width > 1 else np.hstack([axes, np.zeros((1, 1))])
        largest = np.abs(plane).argmax(axis=0)
        plane = plane * np.where(plane[largest, [0, 1]] < 0, -1, 1)
        out = np.empty((len(codes), 2), np.float32)
        for block in blocks:
            out[block] = (codes.rows(block) - mean) @ plane
        out[~self.has] = np.nan
        return out
