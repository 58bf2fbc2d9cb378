"""Cosines that are decided exactly: float32 looks first, float64 decides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sfhq.errors import IntegrityError
from sfhq.parts.records import Array

BLOCK = 4096  # vectors that are compared at a time
PAIRS = 4096  # pairs that are decided at a time; bounds the memory
MOST_OFF = 1e-3  # of a unit vector's length
RECHECK = 1e-4  # float32 products of unit vectors err by far less

Places = npt.NDArray[np.int64]


def require_unit(vectors: Array) -> Array:
    """Vectors as they are, once they are finite and of unit length: bounds and margins need both.

    Args:
        vectors: (n, D).

    Raises:
        IntegrityError: one is not; a NaN would hide every pair of its block.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    wrong = np.nonzero(~(np.abs(lengths - 1) <= MOST_OFF))[0]
    if len(wrong):
        raise IntegrityError(
            f"{len(wrong)} of {len(vectors)} vectors are not finite and of unit length (the first "
            f"has length {lengths[wrong[0]]:.4g}); embed these photos again"
        )
    return vectors


def exact_cosine(a: Array, b: Array) -> float:
    """Cosine of two vectors in float64, each normalised first."""
    return float(exact_cosines(a[None], b[None])[0])


def exact_cosines(a: Array, b: Array) -> Array:
    """(n,) cosines of rows; each is the same in any batch."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    # Sums along a row, and no matrix product: its rounding depends on the shapes.
    lengths = (x * x).sum(axis=1) * (y * y).sum(axis=1)
    cosines: Array = (x * y).sum(axis=1) / np.sqrt(lengths)
    return cosines


def cosines_above(a: Array, b: Array, threshold: float) -> tuple[Places, Array]:
    """Which rows have a cosine above a threshold, and these cosines; float32 looks first."""
    near = np.nonzero(np.einsum("ij,ij->i", a, b) > threshold - RECHECK)[0]
    cosines = exact_cosines(a[near], b[near])
    above = cosines > threshold
    return near[above], cosines[above]


def neighbours_above(
    block: Array, others: Array, threshold: float
) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, cosine) with cosine of block[i] and others[j] above a threshold.

    Args:
        block: (n, D) float32 unit rows.
        others: (m, D) float32 unit rows.
        threshold: strict lower bound.
    """
    rows, columns = over(block @ others.T, threshold - RECHECK)
    for start in range(0, len(rows), PAIRS):
        some, more = rows[start : start + PAIRS], columns[start : start + PAIRS]
        cosines = exact_cosines(block[some], others[more])
        for i, j, cosine in zip(some.tolist(), more.tolist(), cosines.tolist(), strict=True):
            if cosine > threshold:
                yield i, j, cosine


def over(products: Array, limit: float) -> tuple[Places, Places]:
    """Rows and columns where a matrix is above a number; quick if few rows are."""
    hit = np.nonzero(products.max(axis=1, initial=-2.0) > limit)[0]
    rows, columns = np.nonzero(products[hit] > limit)
    return hit[rows], columns


def first_violation(
    vectors: Array, threshold: float, block: int = BLOCK, frozen: int = 0
) -> tuple[int, int] | None:
    """A pair above the threshold among (N, D) unit vectors, or None: the guarantee itself.

    Float32 products of blocks, whatever way the set was chosen by. Pairs among the first
    `frozen` vectors do not count.

    Raises:
        IntegrityError: as `require_unit`.
    """
    require_unit(vectors)
    for start in range(0, len(vectors), block):
        for other in range(start, len(vectors), block):
            for i, j, _ in neighbours_above(
                vectors[start : start + block], vectors[other : other + block], threshold
            ):
                if start + i < other + j >= frozen:
                    return start + i, other + j
    return None
