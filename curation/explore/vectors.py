"""The embeddings of several parts in memory: what is near, and a map of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import Array, FaceRecord

NAME = "embedding"
MOST_FLOAT32 = 700 * 2**20  # bytes; larger sets are kept in half precision
BLOCK = 16_384  # rows turned into single precision at a time


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
        self._rows: Array | None = None
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

    def add(self, number: int, shard: int, first: int, records: Sequence[FaceRecord]) -> None:
        """Read the vectors of a shard.

        Args:
            number: of the part.
            shard: of the part.
            first: number of the first face in the collection.
            records: the faces.

        Raises:
            IntegrityError: the array is missing or damaged.
            UsageError: vectors of two widths.
        """
        if number not in self._takes:
            return
        there = [(i, r.rows[NAME]) for i, r in enumerate(records, first) if NAME in r.rows]
        if not there:
            return
        rows = self._parts[number].rows(NAME, shard, [row for _, row in there])
        if self._rows is None:
            wide = len(self.has) * rows.shape[1] * 4 > MOST_FLOAT32
            self._rows = np.zeros(
                (len(self.has), rows.shape[1]), np.float16 if wide else np.float32
            )
        if rows.shape[1] != self._rows.shape[1]:
            raise UsageError(
                f"{self._parts[number].root}: vectors of {rows.shape[1]} numbers beside those of "
                f"{self._rows.shape[1]}; run: sfhq embed --redo"
            )
        places = [i for i, _ in there]
        self._rows[places] = rows
        self.has[places] = True

    def __bool__(self) -> bool:
        return self._rows is not None

    @property
    def width(self) -> int:
        """Numbers of a vector; 0 without vectors."""
        return 0 if self._rows is None else int(self._rows.shape[1])

    def require(self, what: str) -> Array:
        """All rows, (N, D); zeros where a face has none.

        Args:
            what: asks for them, for the error.

        Raises:
            UsageError: no part was embedded.
        """
        if self._rows is None:
            root = self._parts[0].root
            raise UsageError(f"{what}: {root} has no vectors; run: sfhq embed {root}")
        return self._rows

    def vector(self, i: int) -> Array:
        """(D,) float32 unit vector of a face.

        Raises:
            UsageError: it has none.
        """
        rows = self.require("more like this")
        if not self.has[i]:
            raise UsageError("more like this: this face has no vector; sfhq embed left it out")
        found: Array = rows[i].astype(np.float32)
        return found

    def cosines(self, vector: Array) -> Array:
        """(N,) float32 cosines of all faces and a unit vector; -inf where a face has none.

        Raises:
            UsageError: no vectors, or of another width.
        """
        rows = self.require("search by vectors")
        if vector.shape != (rows.shape[1],):
            raise UsageError(
                f"the encoder gives {vector.shape[-1]} numbers, the part's vectors have "
                f"{rows.shape[1]}; run: sfhq embed --redo"
            )
        if rows.dtype == np.float32:
            found: Array = rows @ vector.astype(np.float32)
        else:
            blocks = range(0, len(rows), BLOCK)
            found = np.concatenate(
                [rows[b : b + BLOCK].astype(np.float32) @ vector for b in blocks]
            )
        found[~self.has] = -np.inf
        return found

    def flat(self) -> Array:
        """(N, 2) float32: the vectors in the plane of their two main directions.

        Principal components by the eigenvectors of the covariance; signs are fixed, so that the
        same vectors give the same map. NaN where a face has no vector.

        Raises:
            UsageError: no part was embedded.
        """
        rows = self.require("map")
        width, count = rows.shape[1], max(int(self.has.sum()), 1)
        total, squares = np.zeros(width), np.zeros((width, width))
        for begin in range(0, len(rows), BLOCK):
            block = rows[begin : begin + BLOCK].astype(np.float32)  # faces without one add 0
            total += block.sum(axis=0, dtype=np.float64)
            squares += block.T @ block
        mean = total / count
        _, axes = np.linalg.eigh(squares / count - np.outer(mean, mean))
        plane: Any = axes[:, [-1, -2]] if width > 1 else np.hstack([axes, np.zeros((1, 1))])
        largest = np.abs(plane).argmax(axis=0)
        plane = plane * np.where(plane[largest, [0, 1]] < 0, -1, 1)
        out = np.empty((len(rows), 2), np.float32)
        for begin in range(0, len(rows), BLOCK):
            out[begin : begin + BLOCK] = (rows[begin : begin + BLOCK] - mean) @ plane
        out[~self.has] = np.nan
        return out
