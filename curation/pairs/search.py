"""All pairs of unit vectors above a cosine, exactly, in bounded memory.

A first look, which may err only towards too many, names candidates: products of eight-bit codes
in a compiled kernel (`curation.pairs.bound` proves that it loses none), or blocks multiplied in
bfloat16 or float32 with their own margins. Every candidate is decided in float64, so the answer
depends neither on the way, nor on block size, threads or rounding.
"""

from __future__ import annotations

import hashlib
import io
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from curation.pairs.bound import SAMPLE, float32_slack, plan_codes
from curation.pairs.native import NONE, CodedVectors, levels, path
from sfhq.images import write_atomic
from sfhq.kernels import BuildError, cpu_features
from sfhq.parts.records import Array

Way = Literal["auto", "int8", "bf16", "f32"]
WAYS: tuple[Way, ...] = ("auto", "int8", "bf16", "f32")

BLOCK = 4096
PAIRS = 4096  # decided again at a time; bounds the memory
RECHECK = 1e-4  # float32 products of unit vectors err by far less
WORTH_CODING = 6000  # vectors below which float32 is done before the codes are made
LEAST_COSINE = 0.3  # below it codes prove too little to be worth making
SAVE_SECONDS = 20.0

Places = npt.NDArray[np.int64]
Rows = Callable[[Places], Array]


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


def _cosines_above(a: Array, b: Array, threshold: float) -> tuple[Places, Array]:
    """Which rows have a cosine above a threshold, and these cosines; float32 looks first."""
    near = np.nonzero(np.einsum("ij,ij->i", a, b) > threshold - RECHECK)[0]
    cosines = _exact_cosines(a[near], b[near])
    over = cosines > threshold
    return near[over], cosines[over]


def neighbours_above(
    block: Array, others: Array, threshold: float
) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, cosine) with cosine of block[i] and others[j] above a threshold.

    Args:
        block: (n, D) float32 unit rows.
        others: (m, D) float32 unit rows.
        threshold: strict lower bound.
    """
    rows, columns = _over(block @ others.T, threshold - RECHECK)
    for start in range(0, len(rows), PAIRS):
        some, more = rows[start : start + PAIRS], columns[start : start + PAIRS]
        cosines = _exact_cosines(block[some], others[more])
        for i, j, cosine in zip(some.tolist(), more.tolist(), cosines.tolist(), strict=True):
            if cosine > threshold:
                yield i, j, cosine


def _over(products: Array, limit: float) -> tuple[Places, Places]:
    """Where a matrix is above a number; most rows are nowhere."""
    hit = np.nonzero(products.max(axis=1, initial=-2.0) > limit)[0]
    rows, columns = np.nonzero(products[hit] > limit)
    return hit[rows], columns


class Candidates(Protocol):
    """A first look: pairs that may be above the threshold, none that is above missing."""

    count: int

    def search(self, vectors: Array) -> Iterator[tuple[Places, Places]]:
        """Rows of a block and columns: kept places, then `count` plus earlier rows."""

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """Keep rows of the block searched last."""

    def add(self, vectors: Array) -> None:
        """Keep a block without searching it."""


class ProductVectors:
    """The first look as products of blocks, in float32 or bfloat16.

    Args:
        threshold: the cosine.
        dimension: D.
        bf16: multiply in bfloat16, through torch.
        kept: gives the float32 rows of kept places; only a block of them is held.
    """

    def __init__(self, threshold: float, dimension: int, bf16: bool, kept: Rows) -> None:
        # bfloat16: half a unit in the last of 8 bits, for both factors and for the result.
        slack = float32_slack(dimension) + (2.0**-9 * 3 + 2.0**-16 if bf16 else 0.0)
        self.limit = threshold - max(slack, RECHECK)
        self.bf16, self._kept, self.count = bf16, kept, 0
        self._rows = 0

    def _products(self, a: Array, b: Array) -> Array:
        if not self.bf16:
            return a @ b.T
        import torch

        x, y = torch.from_numpy(a).bfloat16(), torch.from_numpy(b).bfloat16()
        products: Array = (x @ y.T).float().numpy()
        return products

    def search(self, vectors: Array) -> Iterator[tuple[Places, Places]]:
        """As `Candidates.search`."""
        self._rows = len(vectors)
        for first in range(0, self.count, BLOCK):
            places = np.arange(first, min(first + BLOCK, self.count))
            rows, columns = _over(self._products(vectors, self._kept(places)), self.limit)
            yield rows, columns + first
        rows, columns = _over(self._products(vectors, vectors), self.limit)
        below = columns < rows
        yield rows[below], columns[below] + self.count

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """As `Candidates.keep`."""
        self.count += int(chosen.sum())

    def add(self, vectors: Array) -> None:
        """As `Candidates.add`."""
        self.count += len(vectors)


def candidates_for(
    rows: Rows, order: Places, threshold: float, way: Way, threads: int | None, kept: Rows
) -> Candidates:
    """The first look that is quickest here.

    Args:
        rows: gives the (n, D) float32 unit vectors of some indices.
        order: (N,) all indices.
        threshold: the cosine.
        way: "auto" takes codes where they pay and can be had, else bfloat16 where the
            processor multiplies it, else float32.
        threads: for the codes; None takes all.
        kept: as `ProductVectors`.

    Raises:
        BuildError: "int8" and the kernel cannot be had here.
        ValueError: another word.
    """
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; wanted one of {WAYS}")
    dimension = rows(order[:1]).shape[1] if len(order) else 0
    worth = len(order) >= WORTH_CODING and threshold >= LEAST_COSINE and dimension >= 64
    if way == "int8" or (way == "auto" and worth):
        try:
            instructions = path()
            if instructions == NONE:
                raise BuildError("this processor has neither AVX2 nor AVX-512 VNNI")
            step = max(len(order) // SAMPLE, 1)
            plan = plan_codes(rows(order[::step][:SAMPLE]), threshold, levels(instructions))
            # A block lies beside the kept ones while it is searched.
            return CodedVectors(plan, threshold, len(order) + BLOCK, instructions, threads)
        except BuildError as error:
            if way == "int8":
                raise
            warnings.warn(
                f"no kernel for pairs: {error}; going on with float products, which are slower",
                RuntimeWarning,
                stacklevel=3,
            )
    bf16 = way == "bf16" or (way == "auto" and worth and "avx512_bf16" in cpu_features().split())
    return ProductVectors(threshold, dimension, bf16, kept)


@dataclass
class Progress:
    """Where a long search saves how far it has come.

    Attributes:
        file: an .npz; deleted by `finish`.
        key: what the search depends on; a file with another key is ignored.
        seconds: between two savings.
    """

    file: Path
    key: str
    seconds: float = SAVE_SECONDS
    _saved: float = field(default_factory=time.monotonic)

    def read(self) -> tuple[int, dict[int, tuple[int, float]]]:
        """Number of indices done, and which of them were dropped."""
        try:
            with self.file.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                if str(saved["key"]) != self.key:
                    return 0, {}
                pairs = zip(saved["winner"].tolist(), saved["cosine"].tolist(), strict=True)
                return int(saved["done"]), dict(zip(saved["dropped"].tolist(), pairs, strict=True))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return 0, {}

    def write(self, done: int, dropped: dict[int, tuple[int, float]]) -> None:
        """Save, unless that was a moment ago."""
        if time.monotonic() - self._saved < self.seconds:
            return
        buffer = io.BytesIO()
        np.savez(
            buffer,
            key=np.array(self.key),
            done=np.array(done),
            dropped=np.fromiter(dropped, dtype=np.int64, count=len(dropped)),
            winner=np.array([w for w, _ in dropped.values()], dtype=np.int64),
            cosine=np.array([c for _, c in dropped.values()], dtype=np.float64),
        )
        write_atomic(self.file, buffer.getvalue())
        self._saved = time.monotonic()

    def finish(self) -> None:
        """The search is done and its result written."""
        self.file.unlink(missing_ok=True)


def search_key(rows: Rows, order: Places, threshold: float, frozen: int, block: int) -> str:
    """A digest of vectors, order and settings."""
    digest = hashlib.sha256(f"{threshold!r} {frozen} {block} {len(order)}".encode())
    digest.update(order.tobytes())
    for start in range(0, len(order), BLOCK):
        digest.update(np.ascontiguousarray(rows(order[start : start + BLOCK])).tobytes())
    return digest.hexdigest()


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
    """Walk from best to worst, keep what is no near-duplicate of anything kept.

    The result has no two kept above the threshold, and every dropped one has a kept
    neighbour that came before it: the lexicographically first maximal independent set.

    Args:
        rows: gives the (n, D) float32 unit vectors of some indices.
        order: (N,) indices, best first.
        threshold: pairs with a cosine strictly above it are near-duplicates.
        block: how many are compared at a time, at most 4096.
        frozen: how many at the start of the order stay whatever is near them.
        way, threads: as `candidates_for`; they change the speed only.
        progress: where to save how far it is, and to go on from.

    Returns:
        dropped index -> (index kept in its stead, their cosine). Of several kept neighbours
        the one with the largest cosine is named, of equal ones the earliest.
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
        look.add(rows(np.asarray(kept[start : start + block])))
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
    """Decide one block; which of it stay. What does not is added to `dropped`."""
    vectors = rows(indices)
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
    """Those of the candidates that are above the threshold, with their cosines."""
    for start in range(0, len(pairs[0]), PAIRS):
        some, places = (p[start : start + PAIRS] for p in pairs)
        others = np.empty((len(places), vectors.shape[1]), dtype=np.float32)
        old = places < count
        if old.any():
            unique, back = np.unique(places[old], return_inverse=True)
            others[old] = rows(np.asarray([kept[p] for p in unique.tolist()]))[back]
        others[~old] = vectors[places[~old] - count]
        over, cosines = _cosines_above(vectors[some], others, threshold)
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
    """
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
                over, cosines = _cosines_above(block[i], vectors[j], threshold)
                found.append((i[over] + start, j[over], cosines))
        look.keep(np.ones(len(block), dtype=np.bool_))
    if not found:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, np.empty(0)
    i, j, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
    by = np.lexsort((j, i))
    return i[by], j[by], cosines[by]


def first_violation(
    vectors: Array, threshold: float, block: int = BLOCK, frozen: int = 0
) -> tuple[int, int] | None:
    """A pair above the threshold among (N, D) unit vectors, or None: the guarantee itself.

    Float32 products of blocks, whatever way the set was chosen by. Pairs among the first
    `frozen` vectors do not count.
    """
    for start in range(0, len(vectors), block):
        for other in range(start, len(vectors), block):
            for i, j, _ in neighbours_above(
                vectors[start : start + block], vectors[other : other + block], threshold
            ):
                if start + i < other + j >= frozen:
                    return start + i, other + j
    return None
