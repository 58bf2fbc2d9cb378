"""The search for pairs in pieces that many machines do.

The triangle of all pairs is cut into square tiles. Each tile is a task: it reads its vectors, and
writes which pairs are above the threshold; as in a search in one piece, a first look names
candidates and float64 decides. `curation.pairs.manifest` proves that no tile is missing, and
`curation.pairs.walk` goes from best to worst over the pairs, so the result is the same.

A search in one piece compares with kept vectors only, tiles compare all: a little more work, of
which the machines need not wait for each other.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from curation.pairs.candidates import Candidates, Look, Way, choose_look
from curation.pairs.cosines import BLOCK, PAIRS, Places, cosines_above, require_unit
from curation.pairs.packed import Packed
from curation.pairs.walk import Pairs
from sfhq.errors import SfhqError
from sfhq.images import write_atomic

AXIS = 8  # tiles along one side of the triangle, unless they would be too small or too large
LARGEST = 2**18  # places a side: 200 MB of codes of 768
MOST_PAIRS = 2**25  # of one tile; 0.8 GB


class Tile(NamedTuple):
    """Places from `row` on against places from `column` on, `column` <= `row`."""

    row: int
    column: int


def side_for(count: int) -> int:
    """Places along a side of a tile: enough tiles for many workers, not too small to pay."""
    blocks = max(-(-count // (AXIS * BLOCK)), 1)
    return min(blocks * BLOCK, LARGEST)


def tiles_of(count: int, frozen: int, side: int) -> Iterator[Tile]:
    """All tiles; every pair of places whose later one is not frozen lies in exactly one.

    Those of one column follow each other, so that a worker keeps its columns.

    Args:
        count: places.
        frozen: how many at the start are not compared with each other.
        side: places along a side.
    """
    for column in range(0, count, side):
        for row in range(column, count, side):
            if row + side > frozen:
                yield Tile(row, column)


class Done(NamedTuple):
    """A tile whose pairs have been written, how many there are, and their digest."""

    tile: Tile
    pairs: int
    digest: str


def digest_of(pairs: Pairs) -> str:
    """SHA-256 of a tile's pairs."""
    columns = zip((pairs.a, pairs.b, pairs.cosine), ("<i8", "<i8", "<f8"), strict=True)
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(c, dtype=kind).tobytes() for c, kind in columns)
    ).hexdigest()


def tile_path(folder: Path, tile: Tile) -> Path:
    """Where the pairs of a tile are written."""
    return folder / f"{tile.row}-{tile.column}.npz"


def read_tile(folder: Path, tile: Tile) -> tuple[Pairs, str] | None:
    """The pairs of a tile, by places, and their digest; None where they are not whole."""
    try:
        with (
            open(tile_path(folder, tile), "rb") as file,
            np.load(file, allow_pickle=False) as saved,
        ):
            pairs = Pairs(saved["later"], saved["earlier"], saved["cosine"])
            digest = digest_of(pairs)
            return (pairs, digest) if str(saved["digest"]) == digest else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


@dataclass
class TileWork:
    """Does tiles; a worker unpacks it once, and keeps the columns that it has read last.

    Attributes:
        packed: all vectors, in the order of the walk.
        folder: where a tile's pairs are written.
        threshold: pairs with a cosine strictly above it are named.
        frozen, side: as `tiles_of`.
        way: as `choose_look`; it changes the speed only.
    """

    packed: Packed
    folder: Path
    threshold: float
    frozen: int
    side: int
    way: Way = "auto"
    _look: Look | None = field(default=None, repr=False)
    _held: tuple[int, Candidates] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_look": None, "_held": None}

    def __call__(self, tile: Tile) -> Done:
        """Do one tile.

        Raises:
            SfhqError: it has too many pairs.
            IntegrityError: the vectors are not those that were packed.
        """
        found: list[Pairs] = []
        total = 0
        for pairs in self._pairs(tile):
            found.append(pairs)
            total += len(pairs)
            if total > MOST_PAIRS:
                raise SfhqError(
                    f"{total:,} near-duplicates among {2 * self.side:,} photos, which is too many "
                    "for a search by tiles; run it with --search whole, or raise --threshold"
                )
        pairs = _sorted(found)
        digest = digest_of(pairs)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            later=pairs.a,
            earlier=pairs.b,
            cosine=pairs.cosine,
            digest=np.array(digest),
        )
        write_atomic(tile_path(self.folder, tile), buffer.getvalue())
        return Done(tile, len(pairs), digest)

    def _pairs(self, tile: Tile) -> Iterator[Pairs]:
        last = min(tile.row + self.side, self.packed.count)
        inside = tile.row == tile.column
        look = self._empty(tile.column) if inside else self._columns(tile.column)
        for start in range(tile.row, last, BLOCK):
            vectors = require_unit(self.packed.block(start))
            if start + len(vectors) > self.frozen:
                for some, places in look.search(vectors):
                    # Pairs within the block belong to the tile that holds it twice.
                    wanted = some + start >= self.frozen
                    if not inside:
                        wanted &= places < look.count
                    rows, columns = some[wanted] + start, places[wanted] + tile.column
                    yield from self._decided(rows, columns, vectors, start)
                if inside:
                    look.keep(np.ones(len(vectors), dtype=np.bool_))
            elif inside:
                look.add(vectors)
        if inside:
            self._held = tile.column, look

    def _decided(self, rows: Places, columns: Places, vectors: Any, start: int) -> Iterator[Pairs]:
        """Of candidates by their places, those that are above the threshold."""
        for first in range(0, len(rows), PAIRS):
            i, j = rows[first : first + PAIRS], columns[first : first + PAIRS]
            unique, back = np.unique(j, return_inverse=True)
            others = self.packed.rows(unique)[back]
            above, cosines = cosines_above(vectors[i - start], others, self.threshold)
            yield Pairs(i[above], j[above], cosines)

    def _empty(self, column: int) -> Candidates:
        """A first look that holds nothing yet."""
        self._held = None  # its memory goes before the next one's comes
        if self._look is None:
            everything = np.arange(self.packed.count)
            self._look = choose_look(self.packed.rows, everything, self.threshold, self.way)
        count = min(self.side, self.packed.count - column)
        return self._look.among(count, _threads(), lambda p: self.packed.rows(p + column))

    def _columns(self, column: int) -> Candidates:
        """A first look that holds the columns from `column` on."""
        if self._held is None or self._held[0] != column:
            look = self._empty(column)
            for start in range(column, min(column + self.side, self.packed.count), BLOCK):
                look.add(require_unit(self.packed.block(start)))
            self._held = column, look
        return self._held[1]


def _sorted(found: Iterable[Pairs]) -> Pairs:
    nothing = np.empty(0, dtype=np.int64)
    columns = zip(
        (nothing, nothing, np.empty(0)), *((p.a, p.b, p.cosine) for p in found), strict=True
    )
    a, b, cosine = (np.concatenate(column) for column in columns)
    by = np.lexsort((b, a))
    return Pairs(a[by], b[by], cosine[by])


def _threads() -> int | None:
    """The threads that a worker was given; None for all of the machine."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else None
