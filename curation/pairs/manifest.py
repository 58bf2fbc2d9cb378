"""The proof that a search by tiles is complete, and what a killed one goes on from."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.pairs.candidates import Rows, Way
from curation.pairs.cosines import Places
from curation.pairs.packed import Packed, pack
from curation.pairs.tiles import Done, Tile, TileWork, read_tile, side_for, tiles_of
from curation.pairs.walk import Pairs
from sfhq.errors import IntegrityError, SfhqError
from sfhq.images import write_atomic
from sfhq.pipeline.workers import Batch, Engine

FORMAT = 1
ROUNDS = 3  # in which tiles that were lost are done again
MOST_IN_ALL = 2**28  # pairs; 6.4 GB


@dataclass(frozen=True)
class TileSearch:
    """A search by tiles of one set of vectors in one order.

    Attributes:
        root: of the part.
        stage: that searches, for messages and shares.
        folder: of the pairs and vectors while the search runs; a killed one goes on from there.
        proof: a JSON file that names every tile with the number and digest of its pairs; it stays.
        threshold: pairs with a cosine strictly above it are found.
        frozen: as `curation.pairs.tiles.tiles_of`.
        way: as `curation.pairs.candidates.choose_look`.
        side: places along a side of a tile; None takes `side_for`.
    """

    root: Path
    stage: str
    folder: Path
    proof: Path
    threshold: float
    frozen: int = 0
    way: Way = "auto"
    side: int | None = None

    def find(self, rows: Rows, order: Places, together: Places, engine: Engine) -> Pairs:
        """All pairs above the threshold, by index, once every tile is known to have been done.

        Args:
            rows, order, together: as `curation.pairs.packed.pack`.
            engine: does the tiles.

        Raises:
            SfhqError: tiles were lost again and again, or there are too many pairs.
            IntegrityError: vectors are not finite and of unit length, or were changed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        packed = pack(rows, order, together, self.folder / "vectors.npy")
        work = self._work(packed)
        self._forget_others(work.folder)
        wanted = [*tiles_of(packed.count, self.frozen, work.side)]
        said: dict[Tile, Done] = {}  # by workers of this run
        for _ in range(ROUNDS):
            done = dict(_whole(work.folder, wanted, said))
            lost = [tile for tile in wanted if tile not in done]
            if not lost:
                break
            engine.each(
                Batch(work, lost, lambda one: said.update({one.tile: one}), self.root, self.stage)
            )
        else:
            raise SfhqError(
                f"{work.folder}: {len(lost)} of {len(wanted)} tiles that were done are not there; "
                "look after the disk, then run the same command again"
            )
        self._write_proof(work, wanted, done)
        return self._read(work.folder, wanted, done, order)

    def _work(self, packed: Packed) -> TileWork:
        side = self.side or side_for(packed.count)
        said = f"{FORMAT} {self.threshold!r} {self.frozen} {side} {packed.count} {packed.digest}"
        folder = self.folder / hashlib.sha256(said.encode()).hexdigest()[:32]
        folder.mkdir(exist_ok=True)
        # Workers may run in another folder.
        there = Packed(packed.file.absolute(), packed.count, packed.digests)
        return TileWork(there, folder.absolute(), self.threshold, self.frozen, side, self.way)

    def _forget_others(self, mine: Path) -> None:
        """Delete what searches of other vectors left."""
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink() and path.name != mine.name:
                shutil.rmtree(path)

    def _write_proof(self, work: TileWork, wanted: list[Tile], done: dict[Tile, Done]) -> None:
        value = {
            "format": FORMAT,
            "threshold": self.threshold,
            "photos": work.packed.count,
            "published": self.frozen,
            "side": work.side,
            "vectors": work.packed.digest,
            "pairs": sum(done[tile].pairs for tile in wanted),
            "tiles": [[*tile, done[tile].pairs, done[tile].digest] for tile in wanted],
        }
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        write_atomic(self.proof, text.replace("],[", "],\n[").encode() + b"\n")

    def _read(
        self, folder: Path, wanted: list[Tile], done: dict[Tile, Done], order: Places
    ) -> Pairs:
        """The pairs of all tiles, by index, each checked against the proof."""
        total = sum(done[tile].pairs for tile in wanted)
        if total > MOST_IN_ALL:
            raise SfhqError(
                f"{self.root}: {total:,} near-duplicates, which is too many for a search by tiles; "
                "run it with --search whole, or raise --threshold"
            )
        a, b = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
        cosine = np.empty(total)
        start = 0
        for tile in wanted:
            found = read_tile(folder, tile)
            if found is None or found[1] != done[tile].digest:
                raise IntegrityError(
                    f"{folder}: tile {tile.row}-{tile.column} is not what {self.proof} says; "
                    "run the same command again"
                )
            end = start + len(found[0])
            a[start:end], b[start:end] = order[found[0].a], order[found[0].b]
            cosine[start:end] = found[0].cosine
            start = end
        return Pairs(a, b, cosine)

    def finish(self) -> None:
        """Delete all but the proof: the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _whole(
    folder: Path, wanted: list[Tile], said: Mapping[Tile, Done]
) -> Iterator[tuple[Tile, Done]]:
    """The tiles whose pairs are there and whole, and as the workers said."""
    for tile in wanted:
        found = read_tile(folder, tile)
        if found is None:
            continue
        one = Done(tile, len(found[0]), found[1])
        if said.get(tile, one) == one:
            yield tile, one


def require_proof(proof: Path) -> int:
    """Check that a proof names every tile of its search once; the number of tiles.

    Raises:
        IntegrityError: it is damaged, or a tile is missing.
    """
    try:
        said = json.loads(proof.read_bytes())
        named = [(row, column) for row, column, _, _ in said["tiles"]]
        wanted = [tuple(t) for t in tiles_of(said["photos"], said["published"], said["side"])]
        total = sum(pairs for _, _, pairs, _ in said["tiles"])
        if named != wanted or total != said["pairs"]:
            raise ValueError
    except (ValueError, KeyError, TypeError, OSError):
        raise IntegrityError(
            f"{proof}: does not name every tile of the search; run: sfhq dedup --redo"
        ) from None
    return len(named)
