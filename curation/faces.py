"""The photos of a part as somebody who judges them needs them: images, features, overlays."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.found import POINTS
from sfhq.parts.folders import SYNTHETIC_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.photos import image_bytes, read_photo
from sfhq.parts.records import Array, FaceRecord

PREFIX = "features_"  # of arrays that hold a feature set
MASK_FOLDER = "segmentations"
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
        by_shard: dict[int, list[int]] = {}
        for place, record in enumerate(self.records):
            by_shard.setdefault(record.shard, []).append(place)
        column: Array | None = None
        for shard, places in by_shard.items():
            numbers = [self.records[i].rows[name] for i in places]
            values = self.part.rows(name, shard, numbers).reshape(len(places), -1)
            if column is None:
                column = np.empty((len(self.records), values.shape[1]), dtype=np.float32)
            if values.shape[1] != column.shape[1]:
                raise IntegrityError(
                    f"{self.part.array_path(name, shard)}: {values.shape[1]} columns, others have "
                    f"{column.shape[1]}; run: sfhq embed {self.part.root} --redo"
                )
            column[places] = values
        assert column is not None  # there is a face
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

    def mask(self, index: int) -> bytes | None:
        """The segmentation as PNG, where the part has one.

        Raises:
            IntegrityError: it is lost or was changed.
        """
        record = self.records[index]
        if MASK_FOLDER not in record.hashes:
            return None
        return image_bytes(self.part, record, MASK_FOLDER)
