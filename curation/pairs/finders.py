"""Two ways to find near-duplicates of a part, which say the same: in one piece, and by tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from curation.pairs.candidates import Rows, Way
from curation.pairs.cosines import BLOCK, Places
from curation.pairs.manifest import TileSearch
from curation.pairs.progress import Progress, search_key
from curation.pairs.search import greedy_best_first
from curation.pairs.walk import Pairs, in_pairs, walk
from sfhq.pipeline.workers import Engine

Dropped = Mapping[int, tuple[int, float]]  # index -> (index kept instead, their cosine)
Search = Literal["auto", "whole", "tiles"]
SEARCHES: tuple[Search, ...] = ("auto", "whole", "tiles")


class Finder(Protocol):
    """Finds near-duplicates."""

    def first(self, order: Places) -> Dropped:
        """What a walk over all indices drops; a search that was killed goes on.

        Args:
            order: (N,) all indices, best first.
        """

    def near(self, order: Places, dropped: Dropped) -> list[int]:
        """All that the first walk dropped, and all that have a near-duplicate; none is frozen.

        Args:
            order, dropped: of the first walk.
        """

    def again(self, order: Places) -> Dropped:
        """What a walk in another order drops, over the frozen ones and those of `near`."""

    def finish(self) -> None:
        """Delete what a killed search would go on from: the result is written."""


@dataclass
class Whole:
    """A search in this process; see `curation.pairs.search.greedy_best_first`.

    Attributes:
        rows: gives the (n, D) float32 unit vectors of some indices.
        threshold: pairs with a cosine strictly above it are near-duplicates.
        frozen: indices below it stay whatever is near them, and begin every order.
        file: where to save how far the search is.
        proof: of a search by tiles, which is no longer of the result.
        block, way: as `greedy_best_first`.
    """

    rows: Rows
    threshold: float
    frozen: int
    file: Path
    proof: Path
    block: int = BLOCK
    way: Way = "auto"

    def first(self, order: Places) -> Dropped:
        """As `Finder.first`."""
        key = search_key(self.rows, order, self.threshold, self.frozen, self.block)
        return self._walk(order, self.frozen, Progress(self.file, key))

    def near(self, order: Places, dropped: Dropped) -> list[int]:
        """As `Finder.near`.

        Kept ones have dropped neighbours only, so these are looked for among the dropped. An order
        within the others decides nothing.
        """
        gone = [i for i in order.tolist() if i in dropped]
        stayed = [i for i in order[self.frozen :].tolist() if i not in dropped]
        found = self._walk(np.asarray([*gone, *stayed], dtype=np.int64), len(gone))
        return sorted([*gone, *found])

    def again(self, order: Places) -> Dropped:
        """As `Finder.again`."""
        return self._walk(order, self.frozen)

    def _walk(self, order: Places, frozen: int, progress: Progress | None = None) -> Dropped:
        return greedy_best_first(
            self.rows, order, self.threshold, self.block, frozen, self.way, progress=progress
        )

    def finish(self) -> None:
        """As `Finder.finish`."""
        self.file.unlink(missing_ok=True)
        self.proof.unlink(missing_ok=True)


@dataclass
class Tiled:
    """A search by tiles that an engine does.

    Attributes:
        rows: gives the (n, D) float32 unit vectors of some indices.
        search: the tiles, and their proof.
        together: the places of an order, in the order in which their vectors are best read.
        engine: does the tiles.
    """

    rows: Rows
    search: TileSearch
    together: Callable[[Places], Places]
    engine: Engine
    _pairs: Pairs | None = field(default=None, repr=False)

    def first(self, order: Places) -> Dropped:
        """As `Finder.first`."""
        self._pairs = self.search.find(self.rows, order, self.together(order), self.engine)
        return walk(self._pairs, order, self.search.frozen)

    def near(self, order: Places, dropped: Dropped) -> list[int]:
        """As `Finder.near`; the pairs are known."""
        assert self._pairs is not None
        return sorted({*dropped, *in_pairs(self._pairs, self.search.frozen)})

    def again(self, order: Places) -> Dropped:
        """As `Finder.again`."""
        assert self._pairs is not None
        return walk(self._pairs, order, self.search.frozen)

    def finish(self) -> None:
        """As `Finder.finish`; the proof stays."""
        self.search.finish()
