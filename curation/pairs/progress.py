"""How far a long search has come, kept in a file so that a killed one goes on from there."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from curation.pairs.candidates import Rows
from curation.pairs.cosines import BLOCK, Places
from sfhq.images import write_atomic

SAVE_SECONDS = 20.0


@dataclass
class Progress:
    """The file in which a long search saves how far it is.

    Attributes:
        file: an .npz; deleted by `finish`.
        key: digest of all that the search depends on; a file with another key is ignored.
        seconds: time between two saves.
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
        """Save, unless the last save was less than `seconds` ago."""
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
        """Delete the file: the search is done and its result is written."""
        self.file.unlink(missing_ok=True)


def search_key(rows: Rows, order: Places, threshold: float, frozen: int, block: int) -> str:
    """A digest of vectors, order and settings."""
    digest = hashlib.sha256(f"{threshold!r} {frozen} {block} {len(order)}".encode())
    digest.update(order.tobytes())
    for start in range(0, len(order), BLOCK):
        digest.update(np.ascontiguousarray(rows(order[start : start + BLOCK])).tobytes())
    return digest.hexdigest()
