"""All pairs of unit vectors above a cosine, exactly, in bounded memory.

A first look, which may err only towards too many, names candidates: products of eight-bit codes
in a compiled kernel (`curation.pairs.bound` proves that it loses none), or blocks multiplied in
bfloat16 or float32 with their own margins. Every candidate is decided in float64, so the answer
does not depend on the first look, the block size, the threads or rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from curation.pairs.candidates import WAYS, Candidates, Rows, Way, candidates_for
from curation.pairs.cosines import (
    BLOCK,
    PAIRS,
    Places,
    cosines_above,
    exact_cosine,
    first_violation,
    neighbours_above,
    require_unit,
)
from curation.pairs.progress import Progress, search_key
from sfhq.parts.records import Array

__all__ = [
    "BLOCK",
    "WAYS",
    "Places",
    "Progress",
    "Rows",
    "Way",
    "all_pairs",
    "candidates_for",
    "exact_cosine",
    "first_violation",
    "greedy_best_first",
    "neighbours_above",
    "search_key",
]


def greedy_best_first(
    rows: Rows,
    order: Places,
    threshold: float,
    block: int = BLOCK,
    frozen: int = 0,
    way: Way = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[int, tuple[int, float]]:
    """Walk from best to worst and keep each one that is no near-duplicate of those kept.

    No two kept ones are above the threshold, and every dropped one has a kept neighbour that
    came before it: the lexicographically first maximal independent set.

    Args:
        rows: gives the (n, D) float32 unit vectors of some indices.
        order: (N,) indices, best first.
        threshold: pairs with a cosine strictly above it are near-duplicates.
        block: how many are compared at a time, at most 4096.
        frozen: how many at the start of the order stay whatever is near them.
        way, threads: as `candidates_for`; they change the speed only.
        progress: where to save how far the search is, and where to go on from.

    Returns:
        dropped index -> (index kept instead, their cosine). Of several kept neighbours
        the one with the largest cosine is named, of equal ones the earliest.

    Raises:
        IntegrityError: a vector that is not finite or not of unit length.
    """
    block = min(block, BLOCK)
    kept: list[int] = []
    look = candidates_for(
        rows, order, threshold, way, threads, lambda places: rows(np.asarray(kept)[places])
    )
    done, dropped = progress.read() if progress else (0, {})
    ready = max(done, frozen)
    kept.extend(i for i in order[:ready].tolist() if i not in dropped)
    for start in range(0, len(kept), block):
        look.add(require_unit(rows(np.asarray(kept[start : start + block]))))
    for start in range(ready, len(order), block):
        indices = order[start : start + block]
        chosen = _walk(look, rows, indices, kept, threshold, dropped)
        look.keep(chosen)
        kept.extend(indices[chosen].tolist())
        if progress:
            progress.write(start + len(indices), dropped)
    return dropped


def _walk(
    look: Candidates,
    rows: Rows,
    indices: Places,
    kept: list[int],
    threshold: float,
    dropped: dict[int, tuple[int, float]],
) -> npt.NDArray[np.bool_]:
    """Decide one block: (n,) which of it are kept. The others are added to `dropped`."""
    vectors = require_unit(rows(indices))
    best: dict[int, tuple[int, float]] = {}  # row -> (place, cosine)
    inside: dict[int, list[tuple[int, float]]] = {}
    for pairs in look.search(vectors):
        for i, place, cosine in _decided(pairs, vectors, rows, kept, look.count, threshold):
            if place >= look.count:
                inside.setdefault(i, []).append((place - look.count, cosine))
            elif i not in best or (cosine, -place) > (best[i][1], -best[i][0]):
                best[i] = (place, cosine)
    chosen = np.ones(len(indices), dtype=np.bool_)
    for i, index in enumerate(indices.tolist()):
        winner = (kept[best[i][0]], best[i][1]) if i in best else None
        for j, cosine in sorted(inside.get(i, [])):
            if chosen[j] and (winner is None or cosine > winner[1]):
                winner = (int(indices[j]), cosine)
        if winner is not None:
            dropped[index] = winner
            chosen[i] = False
    return chosen


def _decided(
    pairs: tuple[Places, Places],
    vectors: Array,
    rows: Rows,
    kept: list[int],
    count: int,
    threshold: float,
) -> Iterator[tuple[int, int, float]]:
    """The candidates that are above the threshold, with their cosines."""
    for start in range(0, len(pairs[0]), PAIRS):
        some, places = (p[start : start + PAIRS] for p in pairs)
        others = np.empty((len(places), vectors.shape[1]), dtype=np.float32)
        old = places < count
        if old.any():
            unique, back = np.unique(places[old], return_inverse=True)
            others[old] = rows(np.asarray([kept[p] for p in unique.tolist()]))[back]
        others[~old] = vectors[places[~old] - count]
        over, cosines = cosines_above(vectors[some], others, threshold)
        yield from zip(some[over].tolist(), places[over].tolist(), cosines.tolist(), strict=True)


def all_pairs(
    vectors: Array, threshold: float, way: Way = "auto", threads: int | None = None
) -> tuple[Places, Places, npt.NDArray[np.float64]]:
    """Every pair above a cosine.

    Args:
        vectors: (N, D) float32 unit rows.
        threshold: strict lower bound.
        way, threads: as `candidates_for`; they change the speed only.

    Returns:
        (P,) i, (P,) j with j < i, and (P,) cosines in float64; sorted by i, then j.

    Raises:
        IntegrityError: a vector that is not finite or not of unit length.
    """
    require_unit(vectors)
    order = np.arange(len(vectors), dtype=np.int64)

    def rows(places: Places) -> Array:
        taken: Array = vectors[places]
        return taken

    look = candidates_for(rows, order, threshold, way, threads, rows)
    found: list[tuple[Places, Places, Array]] = []
    for start in range(0, len(order), BLOCK):
        block = vectors[start : start + BLOCK]
        for some, places in look.search(block):
            for first in range(0, len(some), PAIRS):
                i, j = some[first : first + PAIRS], places[first : first + PAIRS]
                over, cosines = cosines_above(block[i], vectors[j], threshold)
                found.append((i[over] + start, j[over], cosines))
        look.keep(np.ones(len(block), dtype=np.bool_))
    if not found:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, np.empty(0)
    i, j, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
    by = np.lexsort((j, i))
    return i[by], j[by], cosines[by]
