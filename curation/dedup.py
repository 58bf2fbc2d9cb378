"""Stage: no two photos that stay are near-duplicates."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from curation.pairs import BLOCK, first_violation, greedy_best_first
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic
from sfhq.part import Part
from sfhq.records import Array, FaceRecord, Json
from sfhq.stage import Scope

# A threshold means nothing without its encoder. 0.92 is what SFHQ states for CLIP ViT-L/14@336;
# dlib's was set where augmented copies of a face end and other people begin (docs/dedup.md).
THRESHOLDS = {"clip": 0.92, "dlib-face": 0.985}


@dataclass(frozen=True)
class Dedup:
    """Keeps the best of every group of near-duplicates.

    Best is the highest `score`; without scores, the smallest `realism`; ties go by face id.
    The audit table, `audit/dedup.parquet` with `dropped`, `kept` and `similarity`, names for
    every dropped photo the one that stays in its stead.

    Attributes:
        threshold: photos with a cosine strictly above it are near-duplicates; None takes
            the default of the encoder that `embed` used.
        block: rows compared at a time; bounds the memory, does not change the result.
    """

    name: ClassVar[str] = "dedup"
    scope: ClassVar[Scope] = "part"

    threshold: float | None = None
    block: int = BLOCK

    def __post_init__(self) -> None:
        if self.threshold is not None and not -1.0 <= self.threshold <= 1.0:
            raise UsageError(f"threshold is {self.threshold}; wanted a cosine, -1 to 1")

    def settings(self) -> dict[str, Json]:
        """The threshold as given."""
        return {"threshold": self.threshold}

    def threshold_for(self, part: Part) -> float:
        """The threshold in force in a part.

        Raises:
            UsageError: none was given and the part's encoder has no default.
        """
        if self.threshold is not None:
            return self.threshold
        encoder = str(part.stage_info("embed")["settings"]["encoder"])
        if encoder not in THRESHOLDS:
            raise UsageError(f"no default threshold for embeddings of {encoder}; give --threshold")
        return THRESHOLDS[encoder]

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Yield all records in order, near-duplicates rejected."""
        part.stage_info("embed")  # says so in one line where there are no embeddings
        threshold = self.threshold_for(part)
        vectors = Vectors(part)
        ids: list[str] = []
        ranks: list[tuple[float, float, str]] = []
        kept_records = list(_light(records, vectors, ids, ranks))
        order = np.asarray(sorted(range(len(ids)), key=ranks.__getitem__), dtype=np.int64)
        dropped = greedy_best_first(vectors.rows, order, threshold, self.block)
        _write_audit(part, ids, dropped)
        for index, (shard, row) in enumerate(kept_records):
            record = vectors.record(shard, row)
            if index in dropped:
                winner, cosine = dropped[index]
                yield record.reject(
                    self.name,
                    "near-duplicate",
                    f"cosine {cosine:.4f} with {ids[winner]} is above {threshold}",
                )
            else:
                yield record


class Vectors:
    """Embeddings and records of a part by index, one shard cached; rows stay on disk.

    Args:
        part: whose `embed` records and arrays to read.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.places: list[tuple[int, int]] = []
        self._shard = -1
        self._records: list[FaceRecord] = []

    def add(self, shard: int, row: int) -> None:
        """Register the next index: its shard, and its row in the embedding's array."""
        self.places.append((shard, row))

    def rows(self, indices: npt.NDArray[np.int64]) -> Array:
        """(n, D) float32 embeddings."""
        by_shard: dict[int, list[tuple[int, int]]] = {}
        for place, index in enumerate(indices.tolist()):
            shard, row = self.places[index]
            by_shard.setdefault(shard, []).append((place, row))
        parts: list[tuple[list[int], Array]] = []
        for shard, pairs in by_shard.items():
            array = self.part.array("embedding", shard)
            chosen = [row for _, row in pairs]
            parts.append(([place for place, _ in pairs], np.asarray(array[chosen])))
        width = parts[0][1].shape[1]
        result = np.empty((len(indices), width), dtype=np.float32)
        for places, values in parts:
            result[places] = values
        return result

    def record(self, shard: int, position: int) -> FaceRecord:
        """The record at a position of an upstream shard."""
        if shard != self._shard:
            self._shard = shard
            self._records = self.part.read_shard(self.part.before("dedup"), shard)
        return self._records[position]


def _light(
    records: Iterable[FaceRecord],
    vectors: Vectors,
    ids: list[str],
    ranks: list[tuple[float, float, str]],
) -> Iterator[tuple[int, int]]:
    """Keep of each record only what ranking needs; yields where to find it again."""
    worst = float("inf")
    positions: dict[int, dict[str, int]] = {}
    for record in records:
        if record.shard not in positions:
            shard = vectors.part.read_shard(vectors.part.before("dedup"), record.shard)
            positions = {record.shard: {r.face_id: i for i, r in enumerate(shard)}}
        vectors.add(record.shard, record.rows["embedding"])
        ids.append(record.face_id)
        score = worst if record.score is None else -record.score
        realism = worst if record.realism is None else record.realism
        ranks.append((score, realism, record.face_id))
        yield record.shard, positions[record.shard][record.face_id]


def _write_audit(part: Part, ids: list[str], dropped: dict[int, tuple[int, float]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted(dropped.items())
    table = pa.table(
        {
            "dropped": pa.array([ids[i] for i, _ in rows], pa.string()),
            "kept": pa.array([ids[k] for _, (k, _) in rows], pa.string()),
            "similarity": pa.array([c for _, (_, c) in rows], pa.float64()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    folder = part.root / "audit"
    folder.mkdir(exist_ok=True)
    write_atomic(folder / "dedup.parquet", buffer.getvalue())


def verify(part: Part, threshold: float) -> int:
    """Check the guarantee on what stayed, independently of how it was chosen.

    Returns:
        The number of photos that stayed.

    Raises:
        IntegrityError: two of them are closer than the threshold.
    """
    vectors = Vectors(part)
    ids = []
    for record in part.records("dedup"):
        if record.alive:
            vectors.add(record.shard, record.rows["embedding"])
            ids.append(record.face_id)
    if not ids:
        return 0
    everything = vectors.rows(np.arange(len(ids)))
    pair = first_violation(everything, threshold)
    if pair is not None:
        raise IntegrityError(
            f"{part.root}: {ids[pair[0]]} and {ids[pair[1]]} are closer than {threshold}; "
            "run: sfhq dedup --redo"
        )
    return len(ids)
