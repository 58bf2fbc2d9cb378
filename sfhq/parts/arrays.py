"""Arrays of a part: how one is read, and how a changed one is noticed.

A shard's record file carries, for each array that was written with it, how many rows it vouches for
and a digest of them. Rows behind those are what a killed run left, and belong to nobody.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfhq.parts.files import require_plain
from sfhq.parts.records import Array

KEY = b"sfhq.arrays"  # in the metadata of a record file
UNIT = ("embedding",)  # arrays whose rows are unit vectors
FINITE = ("embedding", "features_", "inverted", "w_plus")  # beginnings of names
FRESH = 100_000_000  # nanoseconds
LONGEST_ERROR = 1e-3  # of a unit vector's length; the search for near-duplicates relies on it


class Sum(NamedTuple):
    """What a record file says of an array: rows, and sha256 of their type, shape and bytes."""

    rows: int
    digest: str


class Footer(NamedTuple):
    """What the end of a record file says: its rows, and the arrays written with it."""

    rows: int
    sums: Mapping[str, Sum]


def sum_of(array: Array, rows: int | None = None) -> Sum:
    """The sum of an array's first rows; of all by default."""
    count = len(array) if rows is None else rows
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape[1:]}".encode())
    digest.update(np.ascontiguousarray(array[:count]).tobytes())
    return Sum(count, digest.hexdigest())


def to_metadata(sums: Mapping[str, Sum]) -> dict[bytes, bytes]:
    """Sums as metadata of a record file; none where there are none."""
    if not sums:
        return {}
    return {KEY: json.dumps({k: list(v) for k, v in sums.items()}, sort_keys=True).encode()}


def from_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, Sum]:
    """The inverse of `to_metadata`.

    Raises:
        ValueError, RecursionError: damaged.
    """
    text = (metadata or {}).get(KEY)
    if text is None:
        return {}
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("sums of arrays are no table")
    sums = {}
    for name, value in found.items():
        if not isinstance(value, list) or [type(v) for v in value] != [int, str]:
            raise ValueError(f"the sum of {name} is damaged")
        sums[name] = Sum(*value)
    return sums


def footer(path: Path) -> Footer:
    """The end of a record file, remembered while the file stays the same.

    Raises:
        Exception: whatever is wrong with it.
    """
    stamp = _stamp(path)
    return (_footer if _settled(stamp) else _footer.__wrapped__)(path, stamp)


@lru_cache(maxsize=2**16)
def _footer(path: Path, stamp: tuple[int, ...]) -> Footer:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    return Footer(metadata.num_rows, from_metadata(metadata.metadata))


def _settled(stamp: tuple[int, ...]) -> bool:
    """Whether a file is so old that a change of it would change its stamp, too.

    Clocks of file systems tick every few milliseconds; two versions of a file can share a tick.
    """
    return time.time_ns() - stamp[-1] > FRESH


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does; refuses links, folders and pipes."""
    found = require_plain(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read_array(path: Path, name: str, known: Sum | None) -> Array:
    """An array, memory-mapped, once it is known to be what was written.

    Args:
        path: the .npy file.
        name: of the array; some hold finite numbers only, or unit vectors.
        known: what its record file says; None in parts of older versions.

    Raises:
        Exception: missing, damaged, or not what was written; the message says how.
    """
    stamp = _stamp(path)
    problem = (_problem if _settled(stamp) else _problem.__wrapped__)(path, stamp, name, known)
    if problem:
        raise ValueError(problem)
    return _mapped(path)


def _mapped(path: Path) -> Array:
    array: Array = np.lib.format.open_memmap(path, mode="r")
    if array.ndim == 0:
        raise ValueError("a single value")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"holds {array.dtype}, not numbers")
    return array


@lru_cache(maxsize=2**16)
def _problem(path: Path, stamp: tuple[int, ...], name: str, known: Sum | None) -> str:
    """What is wrong with an array; empty if nothing is. Remembered while the file stays."""
    array = _mapped(path)
    if known is not None:
        if len(array) < known.rows:
            return f"{len(array)} rows; wanted {known.rows}"
        if sum_of(array, known.rows) != known:
            return "not what was written here (sha256 differs)"
        array = array[: known.rows]
    if name.startswith(FINITE) and not np.isfinite(array).all():
        return "numbers that are not finite"
    if name in UNIT:
        if array.ndim != 2:
            return f"shape {array.shape}; wanted rows of vectors"
        lengths = np.linalg.norm(array.astype(np.float64), axis=1)
        if (np.abs(lengths - 1) > LONGEST_ERROR).any():
            return "vectors that are not of unit length"
    return ""


def check_numbers(array: Array, numbers: Any) -> None:
    """Refuse numbers of rows that an array does not have.

    Raises:
        ValueError: says which.
    """
    highest, lowest = max(numbers, default=0), min(numbers, default=0)
    if lowest < 0 or (len(numbers) and highest >= len(array)):
        raise ValueError(f"{len(array)} rows; records name row {lowest if lowest < 0 else highest}")
