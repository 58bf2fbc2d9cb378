"""All pairs of unit vectors above a cosine, exactly, in bounded memory.

Blocks of rows are multiplied in float32; whatever comes near the threshold or above is computed
again in float64, so the answer does not depend on the block size or on rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from sfhq.records import Array

BLOCK = 2048
PAIRS = 4096  # decided again at a time; bounds the memory
RECHECK = 1e-4  # float32 products of unit vectors err by far less


def exact_cosine(a: Array, b: Array) -> float:
    """Cosine of two vectors in float64, each normalised first."""
    return float(_exact_cosines(a[None], b[None])[0])


def _exact_cosines(a: Array, b: Array) -> Array:
    """(n,) cosines of rows; each is the same whichever others are beside it."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    # Sums along a row, and no matrix product: its rounding depends on the shapes.
    lengths = (x * x).sum(axis=1) * (y * y).sum(axis=1)
    cosines: Array = (x * y).sum(axis=1) / np.sqrt(lengths)
    return cosines


def neighbours_above(
    block: Array, others: Array, threshold: float
) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, cosine) with cosine of block[i] and others[j] above a threshold.

    Args:
        block: (n, D) float32 unit rows.
        others: (m, D) float32 unit rows.
        threshold: strict lower bound.
    """
    products = block @ others.T  # (n, m)
    rows, columns = np.nonzero(products > threshold - RECHECK)
    for start in range(0, len(rows), PAIRS):
        some, more = rows[start : start + PAIRS], columns[start : start + PAIRS]
        cosines = _exact_cosines(block[some], others[more])
        for i, j, cosine in zip(some.tolist(), more.tolist(), cosines.tolist(), strict=True):
            if cosine > threshold:
                yield i, j, cosine


def greedy_best_first(
    rows: Callable[[npt.NDArray[np.int64]], Array],
    order: npt.NDArray[np.int64],
    threshold: float,
    block: int = BLOCK,
) -> dict[int, tuple[int, float]]:
    """Walk from best to worst, keep what is no near-duplicate of anything kept.

    The result has no two kept above the threshold, and every dropped one has a kept
    neighbour that came before it: the lexicographically first maximal independent set.

    Args:
        rows: gives the (n, D) float32 unit vectors of some indices.
        order: (N,) indices, best first.
        threshold: pairs with a cosine strictly above it are near-duplicates.
        block: how many are compared at a time.

    Returns:
        dropped index -> (index kept in its stead, their cosine). Of several kept neighbours
        the one with the largest cosine is named.
    """
    dropped: dict[int, tuple[int, float]] = {}
    kept: list[int] = []
    for start in range(0, len(order), block):
        indices = order[start : start + block]
        vectors = rows(indices)
        best: dict[int, tuple[int, float]] = {}
        for first in range(0, len(kept), block):
            some = np.asarray(kept[first : first + block])
            for i, j, cosine in neighbours_above(vectors, rows(some), threshold):
                if i not in best or cosine > best[i][1]:
                    best[i] = (int(some[j]), cosine)
        inside: dict[int, list[tuple[int, float]]] = {}
        for i, j, cosine in neighbours_above(vectors, vectors, threshold):
            if j < i:
                inside.setdefault(i, []).append((j, cosine))
        for i, index in enumerate(indices.tolist()):
            for j, cosine in inside.get(i, []):
                alive = int(indices[j]) not in dropped
                if alive and (i not in best or cosine > best[i][1]):
                    best[i] = (int(indices[j]), cosine)
            if i in best:
                dropped[index] = best[i]
            else:
                kept.append(index)
    return dropped


def first_violation(vectors: Array, threshold: float, block: int = BLOCK) -> tuple[int, int] | None:
    """A pair above the threshold among (N, D) unit vectors, or None: the guarantee itself."""
    for start in range(0, len(vectors), block):
        for other in range(start, len(vectors), block):
            for i, j, _ in neighbours_above(
                vectors[start : start + block], vectors[other : other + block], threshold
            ):
                if start + i < other + j:
                    return start + i, other + j
    return None
