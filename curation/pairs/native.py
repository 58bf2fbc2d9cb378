"""The compiled search for pairs: vectors are kept as codes of one byte a coordinate."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curation.pairs.bound import Plan, shares
from sfhq.kernels import load
from sfhq.parts.records import Array

SOURCE = Path(__file__).parent / "csrc" / "pairs.cpp"
NONE, AVX2, VNNI = 0, 1, 2  # of `path`
ROWS, COLUMNS = 8, 48  # of a tile, as in the source
CAPACITY = 1 << 18  # pairs that one call can find; with more, it is repeated in two halves
PANELS = 1024  # of columns that one call searches

Places = npt.NDArray[np.int64]


class _Search(ctypes.Structure):
    _fields_ = [
        ("width", ctypes.c_int64),
        ("rows", ctypes.c_void_p),
        ("row_limit", ctypes.c_void_p),
        ("row_tail", ctypes.c_void_p),
        ("row_base", ctypes.c_void_p),
        ("row_ids", ctypes.c_void_p),
        ("row_count", ctypes.c_int64),
        ("panels", ctypes.c_void_p),
        ("column_add", ctypes.c_void_p),
        ("column_tail", ctypes.c_void_p),
        ("column_base", ctypes.c_void_p),
        ("column_ids", ctypes.c_void_p),
        ("first", ctypes.c_int64),
        ("last", ctypes.c_int64),
        ("rest_width", ctypes.c_int64),
        ("row_rest", ctypes.c_void_p),
        ("row_rest_sum", ctypes.c_void_p),
        ("column_rest", ctypes.c_void_p),
        ("scale", ctypes.c_double),
        ("rest_scale", ctypes.c_double),
        ("limit", ctypes.c_double),
        ("capacity", ctypes.c_int64),
        ("hit_rows", ctypes.c_void_p),
        ("hit_columns", ctypes.c_void_p),
        ("looked", ctypes.c_int64),
    ]


def _pointer(array: Array) -> int:
    return int(array.ctypes.data)


def path() -> int:
    """Which instructions the processor has: 0 none, 1 AVX2, 2 AVX-512 VNNI.

    Raises:
        BuildError: the kernel cannot be built.
    """
    return int(load(SOURCE).sfhq_pairs_path())


def levels(way: int) -> int:
    """The largest code on a path."""
    return int(load(SOURCE).sfhq_pairs_levels(way))


class _Block(NamedTuple):
    codes: npt.NDArray[np.int8]  # (n, width padded)
    rest: npt.NDArray[np.int8]  # (n, rest width padded)
    limit: npt.NDArray[np.float32]
    add: npt.NDArray[np.int32]
    tail: npt.NDArray[np.float32]
    row_base: npt.NDArray[np.float64]
    column_base: npt.NDArray[np.float64]
    rest_sum: npt.NDArray[np.int32]


class CodedVectors:
    """Unit vectors that have been kept, as codes, and the search of a block against them.

    Args:
        plan: how vectors become codes.
        threshold: the cosine.
        capacity: how many vectors there can be, kept ones and one block together.
        way: instructions, as `path`.
        threads: how many search at a time; the result is always the same.
    """

    def __init__(
        self, plan: Plan, threshold: float, capacity: int, way: int, threads: int | None = None
    ) -> None:
        self.plan, self.threshold, self.way = plan, threshold, way
        self.threads = threads or len(os.sched_getaffinity(0))
        self.count = 0
        self._library = load(SOURCE)
        self._library.sfhq_pairs_search.restype = ctypes.c_int64
        self._offset = int(self._library.sfhq_pairs_offset(way))
        dimension = len(plan.rotation)
        self.width = -(-plan.width // 8) * 8
        self.rest_width = -(-(dimension - plan.width) // 64) * 64
        padded = -(-capacity // COLUMNS) * COLUMNS
        # Zeros: the columns between the last vector and the end of its panel count as zero.
        self._panels = np.zeros(padded * self.width, dtype=np.uint8)
        self._add = np.zeros(padded, dtype=np.int32)
        self._tail = np.zeros(padded, dtype=np.float32)
        self._base = np.zeros(padded, dtype=np.float64)
        self._rest = np.zeros((padded, self.rest_width), dtype=np.int8)
        self._ids = np.arange(padded, dtype=np.int64)
        self._block: _Block | None = None
        self.looked = 0

    def _encode(self, vectors: Array) -> _Block:
        plan = self.plan
        rotated = np.ascontiguousarray(vectors @ plan.rotation, dtype=np.float32)
        head = self._quantise(rotated, 0, plan.width, self.width, plan.scale)
        rest = self._quantise(
            rotated, plan.width, rotated.shape[1], self.rest_width, plan.rest_scale
        )
        given = shares(
            plan,
            self.threshold,
            self._offset,
            head[1],
            np.sqrt(head[2]),
            np.sqrt(rest[2]),
            np.sqrt(rest[3]),
        )
        return _Block(
            codes=head[0],
            rest=rest[0],
            limit=given.limit,
            add=given.add,
            tail=given.tail,
            row_base=given.row_base,
            column_base=given.column_base,
            rest_sum=rest[1],
        )

    def _quantise(
        self, rotated: Array, start: int, end: int, padded: int, scale: float
    ) -> tuple[
        npt.NDArray[np.int8],
        npt.NDArray[np.int32],
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
    ]:
        """Codes, their sums, and the squared lengths of the rounding error and of the input."""
        n = len(rotated)
        codes = np.zeros((n, padded), dtype=np.int8)
        sums = np.zeros(n, dtype=np.int32)
        lost, length = np.zeros(n), np.zeros(n)
        if end > start:
            self._library.sfhq_pairs_quantise(
                ctypes.c_void_p(_pointer(rotated) + 4 * start),
                ctypes.c_int64(n),
                ctypes.c_int64(end - start),
                ctypes.c_int64(rotated.shape[1]),
                ctypes.c_int64(padded),
                ctypes.c_float(scale),
                ctypes.c_int(self.plan.levels),
                ctypes.c_void_p(_pointer(codes)),
                ctypes.c_void_p(_pointer(sums)),
                ctypes.c_void_p(_pointer(lost)),
                ctypes.c_void_p(_pointer(length)),
            )
        return codes, sums, lost, length

    def _pack(self, codes: Array, lanes: int, offset: int, out: Array, start: int) -> None:
        self._library.sfhq_pairs_pack(
            ctypes.c_void_p(_pointer(codes)),
            ctypes.c_int64(len(codes)),
            ctypes.c_int64(self.width),
            ctypes.c_int(lanes),
            ctypes.c_int(offset),
            ctypes.c_void_p(_pointer(out)),
            ctypes.c_int64(start),
        )

    def _place(self, block: _Block, chosen: npt.NDArray[np.bool_] | slice) -> int:
        """Write a block's columns after the kept ones; how many."""
        codes = np.ascontiguousarray(block.codes[chosen])
        end = self.count + len(codes)
        self._pack(codes, COLUMNS, self._offset, self._panels, self.count)
        self._add[self.count : end] = block.add[chosen]
        self._tail[self.count : end] = block.tail[chosen]
        self._base[self.count : end] = block.column_base[chosen]
        self._rest[self.count : end] = block.rest[chosen]
        return len(codes)

    def search(self, vectors: Array) -> Iterator[tuple[Places, Places]]:
        """Pairs that may be above the threshold: none that is above is missing.

        Args:
            vectors: (n, D) float32 unit rows, the next block.

        Yields:
            Rows of the block, and columns: below `count` the place of a kept vector, from
            there on `count` plus an earlier row of this block. Each pair once, in any order.
        """
        block = self._encode(vectors)
        self._block = block
        n = len(vectors)
        self._place(block, slice(None))
        padded = -(-n // ROWS) * ROWS
        rows = np.zeros(padded * self.width, dtype=np.int8)
        self._pack(block.codes, ROWS, 0, rows.view(np.uint8), 0)
        limit = np.full(padded, np.inf, dtype=np.float32)
        limit[:n] = block.limit
        tail = np.zeros(padded, dtype=np.float32)
        tail[:n] = block.tail
        row_ids = np.arange(padded, dtype=np.int64) + self.count
        end = self.count + n

        def run(first: int, last: int) -> list[tuple[Places, Places]]:
            hits = np.empty((2, CAPACITY), dtype=np.int64)
            search = _Search(
                width=self.width,
                rows=_pointer(rows),
                row_limit=_pointer(limit),
                row_tail=_pointer(tail),
                row_base=_pointer(block.row_base),
                row_ids=_pointer(row_ids),
                row_count=padded,
                panels=_pointer(self._panels),
                column_add=_pointer(self._add),
                column_tail=_pointer(self._tail),
                column_base=_pointer(self._base),
                column_ids=_pointer(self._ids),
                first=first,
                last=last,
                rest_width=self.rest_width,
                row_rest=_pointer(block.rest),
                row_rest_sum=_pointer(block.rest_sum),
                column_rest=_pointer(self._rest),
                scale=self.plan.scale**2,
                rest_scale=self.plan.rest_scale**2,
                limit=self.threshold - self.plan.slack,
                capacity=CAPACITY,
                hit_rows=_pointer(hits[0]),
                hit_columns=_pointer(hits[1]),
            )
            found = self._library.sfhq_pairs_search(ctypes.c_int(self.way), ctypes.byref(search))
            if found < 0:
                middle = first + max((last - first) // 2 // COLUMNS, 1) * COLUMNS
                return run(first, middle) + run(middle, last)
            self.looked += int(search.looked)
            return [(hits[0, :found].copy(), hits[1, :found].copy())]

        step = PANELS * COLUMNS
        starts = range(0, end, step)
        if self.threads == 1 or len(starts) == 1:
            pieces = (run(start, min(start + step, end)) for start in starts)
            for piece in pieces:
                yield from piece
            return
        with ThreadPoolExecutor(self.threads) as pool:
            for piece in pool.map(run, starts, (min(s + step, end) for s in starts)):
                yield from piece

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """Keep rows of the block that was searched last; they take the next places.

        Args:
            chosen: (n,) which of its rows.
        """
        assert self._block is not None
        self.count += self._place(self._block, chosen)
        self._block = None

    def add(self, vectors: Array) -> None:
        """Keep a block without searching it."""
        self.count += self._place(self._encode(vectors), slice(None))
