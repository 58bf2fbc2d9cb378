"""Vectors in the order of a search, in one file that every machine can read a block of.

A part keeps vectors in small shards, and the order of a search jumps among them. Read once, shard
by shard, and laid down in that order, a block of them is one read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.pairs.candidates import Rows
from curation.pairs.cosines import BLOCK, Places, require_unit
from sfhq.errors import IntegrityError
from sfhq.parts.records import Array


@dataclass(frozen=True)
class Packed:
    """Vectors in one file.

    Attributes:
        file: (N, D) float32 .npy.
        count: N.
        digests: SHA-256 of each `BLOCK` rows.
    """

    file: Path
    count: int
    digests: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        """Of all vectors and their order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()

    def block(self, start: int) -> Array:
        """(n, D) the vectors from a place on, at most `BLOCK`; their digest is checked.

        Args:
            start: a multiple of `BLOCK`.

        Raises:
            IntegrityError: they are not those that were packed.
        """
        found = np.array(self._all()[start : start + BLOCK])
        if _digest(found) != self.digests[start // BLOCK]:
            raise IntegrityError(
                f"{self.file}: vectors from {start} on are not those that were written; run the "
                "same command again"
            )
        return found

    def rows(self, places: Places) -> Array:
        """(n, D) the vectors of some places."""
        found: Array = np.asarray(self._all()[places])
        return found

    def _all(self) -> Array:
        there: Array = np.load(self.file, mmap_mode="r")
        return there


def pack(rows: Rows, order: Places, together: Places, file: Path) -> Packed:
    """Write the vectors of a search to a file, which replaces one that is there.

    Args:
        rows: gives the (n, D) float32 unit vectors of some indices.
        order: (N,) indices, best first.
        together: (N,) the places of the order, in the order in which they are best read.
        file: where to write.

    Raises:
        IntegrityError: a vector that is not finite or not of unit length.
        OSError: the disk has no room.
    """
    shape = (len(order), rows(order[:1]).shape[1] if len(order) else 0)
    partial = file.with_name(file.name + ".part")
    with suppress(FileNotFoundError):
        partial.unlink()
    try:
        with open(partial, "xb") as new:
            np.lib.format.write_array_header_1_0(
                new, {"descr": "<f4", "fortran_order": False, "shape": shape}
            )
            new.flush()
            offset = new.tell()
            size = 4 * shape[0] * shape[1]
            if size:  # all room now: a write to a mapped file on a full disk kills the process
                os.posix_fallocate(new.fileno(), offset, size)
        if size:
            out = np.memmap(partial, "<f4", "r+", offset, shape)
            for start in range(0, len(order), BLOCK):
                places = together[start : start + BLOCK]
                out[places] = require_unit(rows(order[places]))
            digests = tuple(_digest(block) for block in _blocks(out))
            out.flush()
            del out
        else:
            digests = ()
        os.replace(partial, file)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(file)
        raise
    return Packed(file, len(order), digests)


def _blocks(vectors: Array) -> Iterator[Array]:
    for start in range(0, len(vectors), BLOCK):
        yield vectors[start : start + BLOCK]


def _digest(block: Array) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(block, dtype="<f4").data).digest()
