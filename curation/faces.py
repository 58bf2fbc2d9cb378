"""The photos of a part as somebody who judges them needs them: images, features, overlays."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.part import SYNTHETIC_FOLDER, Part
from sfhq.parts.records import Array, FaceRecord
from sfhq.sources.ingest import source_of

PREFIX = "features_"  # of arrays that hold a feature set
PREVIEW = 512


@dataclass(frozen=True)
class Faces:
    """Living faces of a part, in the order of its records.

    Attributes:
        part: the part.
        stage: whose records these are.
        records: one a face.
    """

    part: Part
    stage: str
    records: tuple[FaceRecord, ...]

    @classmethod
    def of(cls, part: Part, everything: bool = False) -> Faces:
        """The faces that are left in a part.

        Args:
            part: the part.
            everything: those that near-duplicates or scores removed as well.

        Raises:
            UsageError: nothing is left.
        """
        stages = [s for s in part.stages() if not everything or s not in ("score", "dedup")]
        records = tuple(r for r in part.records(stages[-1]) if r.alive) if stages else ()
        if not records:
            raise UsageError(f"{part.root}: no faces to judge; run: sfhq run")
        return cls(part, stages[-1], records)

    def __len__(self) -> int:
        return len(self.records)

    def hash_of(self, index: int) -> str:
        """sha256 of what is shown: of the synthetic image, else of the source."""
        record = self.records[index]
        return record.hashes.get(SYNTHETIC_FOLDER) or record.source_sha256

    def image(self, index: int) -> Image.Image:
        """What is shown: the synthetic image, else the aligned one, else the source.

        Raises:
            IntegrityError: it is lost or was changed.
        """
        record = self.records[index]
        for folder in (SYNTHETIC_FOLDER, "aligned"):
            path = self.part.image_path(folder, record.face_id)
            if folder in record.hashes:
                return _read(path, record.hashes[folder])
        try:
            with source_of(self.part) as source:
                return source.image(record)
        except Exception as error:
            raise IntegrityError(f"{record.source}: {error}") from None

    def preview(self, index: int, size: int = PREVIEW) -> bytes:
        """JPEG of at most `size` pixels a side."""
        image = self.image(index)
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    def feature_sets(self) -> dict[str, Array]:
        """Name -> (N, D) float32 of every feature set that all faces have."""
        names = {"embedding"} | {
            p.name for p in (self.part.root / "arrays").glob(f"{PREFIX}*") if p.is_dir()
        }
        sets = {}
        for name in sorted(names):
            if all(name in r.rows for r in self.records):
                sets[name.removeprefix(PREFIX)] = self._column(name)
        return sets

    def _column(self, name: str) -> Array:
        arrays: dict[int, Array] = {}
        rows = []
        for record in self.records:
            if record.shard not in arrays:
                arrays[record.shard] = self.part.array(name, record.shard)
            rows.append(arrays[record.shard][record.rows[name]])
        column: Array = np.asarray(rows, dtype=np.float32).reshape(len(rows), -1)
        return column

    def landmarks(self, index: int) -> list[list[float]] | None:
        """(K, 2) points as shares of the image's size, where the part has them."""
        record = self.records[index]
        if "landmarks_image" not in record.rows:
            return None
        points = np.asarray(self.part.row("landmarks_image", record), dtype=np.float64)
        width, height = self.image(index).size
        shares: list[list[float]] = (points / [width, height]).round(5).tolist()
        return shares

    def mask(self, index: int) -> Path | None:
        """The segmentation's file, where the part has one."""
        path = self.part.image_path("segmentations", self.records[index].face_id)
        return path if path.is_file() else None


def _read(path: Path, digest: str) -> Image.Image:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path}: lost ({error.strerror}); run the stage again") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise IntegrityError(f"{path}: changed since it was made; run the stage again")
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return image.convert("RGB")
