"""The photos of a part as somebody who judges them needs them: images, features, overlays."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sfhq.errors import UsageError
from sfhq.faces.found import POINTS
from sfhq.parts.folders import SYNTHETIC_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo
from sfhq.parts.records import Array, FaceRecord

PREFIX = "features_"  # of arrays that hold a feature set
PREVIEW = 512


@dataclass(frozen=True)
class Faces:
    """Living faces of a part, in the order of its records.

    Attributes:
        part: the part.
        records: one a face, with all that stages say of it.
    """

    part: Part
    records: tuple[FaceRecord, ...]

    @classmethod
    def of(cls, part: Part, everything: bool = False) -> Faces:
        """The faces that are left in a part.

        Args:
            part: the part.
            everything: also those that near-duplicates or scores removed.

        Raises:
            UsageError: nothing is left.
        """
        records: tuple[FaceRecord, ...] = ()
        if part.stages():
            about = {s for s in part.stages() if part.stage_info(s)["kind"] == "about"}
            records = tuple(
                r
                for r in part.faces(rejected=everything)
                if r.alive or (everything and r.rejected_by in about)
            )
        if not records:
            raise UsageError(f"{part.root}: no faces to judge; run: sfhq run SOURCE {part.root}")
        return cls(part, records)

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
        return Image.fromarray(read_photo(self.part, self.records[index]))

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
        if POINTS not in record.rows:
            return None
        points = np.asarray(self.part.row(POINTS, record), dtype=np.float64)
        if not np.isfinite(points).all():
            return None
        width, height = self.image(index).size
        shares: list[list[float]] = (points / [width, height]).round(5).tolist()
        return shares

    def mask(self, index: int) -> Path | None:
        """The segmentation's file, where the part has one."""
        path = self.part.image_path("segmentations", self.records[index].face_id)
        return path if path.is_file() else None
