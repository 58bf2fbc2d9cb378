"""A dataset part on disk: records, arrays and images, read shard by shard.

```
part.json                     format, name, versions
records/<stage>/00000.parquet one row a face
records/<stage>/stage.json    settings, upstream, counts
arrays/<name>/00000.npy       rows beside their shard
<folder>/<face_id>.png        images
```
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfhq.errors import IntegrityError, UsageError
from sfhq.images import mark_of, write_atomic, write_image
from sfhq.parts.records import COLUMNS, Array, FaceRecord, Json, from_columns, to_columns

FORMAT = 1
SYNTHETIC_FOLDER = "images"  # what the generator made; other folders hold crops of sources
RENDER_FOLDER, ART_FOLDER = "renders", "art"  # a rendered head, and the same in an art style
# The order of a run; a stage reads from the nearest one before it that has records.
ORDER = (
    *("ingest", "sample", "render"),  # a part has one of these
    *("align", "invert", "synthesize", "embed", "score", "dedup"),
)


@dataclass(frozen=True)
class Part:
    """A folder that holds one part. Make it with `Part.create` or `Part.open`."""

    root: Path

    @classmethod
    def create(cls, root: Path, name: str | None = None) -> Part:
        """Make an empty part, or open the one that is there.

        Raises:
            UsageError: the folder holds something else, or cannot be written.
        """
        if (root / "part.json").exists():
            return cls.open(root)
        part = cls(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            if any(p.name not in (".lock", "part.json.part") for p in root.iterdir()):
                raise UsageError(
                    f"{root}: not empty and not a part; give a new folder or an existing part"
                )
            part._write_json("part.json", {"format": FORMAT, "name": name or root.resolve().name})
        except OSError as error:
            raise UsageError(
                f"{root}: cannot make a part here ({error.strerror}); give a folder you can write"
            ) from None
        return part

    @classmethod
    def open(cls, root: Path) -> Part:
        """Open an existing part.

        Raises:
            UsageError: there is none.
            IntegrityError: its description is damaged or of another format.
        """
        path = root / "part.json"
        if not path.is_file():
            raise UsageError(f"{root}: not a part (no part.json); make one with: sfhq ingest")
        try:
            info = json.loads(path.read_text())
            found = info["format"]
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"{path}: damaged; wanted JSON with a format number") from None
        if found != FORMAT:
            raise IntegrityError(
                f"{path}: part of format {found}, this sfhq reads format {FORMAT}; "
                "use the version that made it, or make the part again"
            )
        return cls(root)

    @property
    def name(self) -> str:
        """Name of the part."""
        return str(json.loads((self.root / "part.json").read_text())["name"])

    def _write_json(self, relative: str, value: Json) -> None:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(value, sort_keys=True, indent=1) + "\n").encode())

    def stages(self) -> list[str]:
        """Names of the stages that have records here, in the order of a run."""
        return [s for s in ORDER if (self.root / "records" / s / "stage.json").is_file()]

    def stage_info(self, stage: str) -> dict[str, Any]:
        """What `stage.json` says: settings, upstream, complete, counts.

        Raises:
            UsageError: the stage has not run.
            IntegrityError: the file is damaged.
        """
        path = self.root / "records" / stage / "stage.json"
        if not path.is_file():
            raise UsageError(f"{self.root}: no {stage} records yet; run: sfhq {stage}")
        try:
            info: dict[str, Any] = json.loads(path.read_text())
        except ValueError:
            raise IntegrityError(
                f"{path}: damaged; delete records/{stage} and run: sfhq {stage}"
            ) from None
        return info

    def write_stage_info(self, stage: str, info: dict[str, Any]) -> None:
        """Replace `stage.json`."""
        self._write_json(f"records/{stage}/stage.json", info)

    def shard_path(self, stage: str, shard: int) -> Path:
        """Where a shard's records lie."""
        return self.root / "records" / stage / f"{shard:05d}.parquet"

    def shards(self, stage: str) -> list[int]:
        """Numbers of the shards a stage has finished, ascending."""
        folder = self.root / "records" / stage
        return sorted(int(p.stem) for p in folder.glob("[0-9]*.parquet"))

    def read_shard(self, stage: str, shard: int) -> list[FaceRecord]:
        """All records of one shard, rejected ones too.

        Raises:
            IntegrityError: the file is damaged.
        """
        import pyarrow.parquet as pq

        path = self.shard_path(stage, shard)
        try:
            table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
            columns = table.to_pydict()
            return from_columns(columns, shard)
        except Exception as error:
            raise IntegrityError(
                f"{path}: damaged records ({type(error).__name__}); delete the file and run: "
                f"sfhq {stage}"
            ) from None

    def records(self, stage: str) -> Iterator[FaceRecord]:
        """All records of a stage, one shard in memory at a time."""
        for shard in self.shards(stage):
            yield from self.read_shard(stage, shard)

    def write_shard(self, stage: str, shard: int, records: Sequence[FaceRecord]) -> None:
        """Write one shard: first its arrays and images, its records last.

        A record file that exists therefore vouches for everything it names.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        written = self._write_files(shard, records)
        table = pa.Table.from_pydict(to_columns(written), schema=record_schema())
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        path = self.shard_path(stage, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())

    def _write_files(self, shard: int, records: Sequence[FaceRecord]) -> list[FaceRecord]:
        columns: dict[str, list[Array]] = {}
        written = []
        for record in records:
            rows, hashes = dict(record.rows), dict(record.hashes)
            for name, values in record.arrays.items():
                column = columns.setdefault(name, [])
                rows[name] = len(column)
                column.append(np.asarray(values))
            for folder, pixels in record.images.items():
                path = self.image_path(folder, record.face_id)
                path.parent.mkdir(parents=True, exist_ok=True)
                data = write_image(path, pixels, source_type=mark_of(folder))
                hashes[folder] = hashlib.sha256(data).hexdigest()
            written.append(replace(record, rows=rows, hashes=hashes, arrays={}, images={}))
        for name, column in columns.items():
            buffer = io.BytesIO()
            np.save(buffer, np.stack(column), allow_pickle=False)
            path = self.array_path(name, shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, buffer.getvalue())
        return written

    def array_path(self, name: str, shard: int) -> Path:
        """Where a shard of an array lies."""
        return self.root / "arrays" / name / f"{shard:05d}.npy"

    def array(self, name: str, shard: int) -> Array:
        """One shard of an array, memory-mapped, (rows, ...).

        Raises:
            IntegrityError: missing or damaged.
        """
        path = self.array_path(name, shard)
        try:
            array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise IntegrityError(
                f"{path}: cannot read array ({error}); run the stage again"
            ) from None
        return array

    def row(self, name: str, record: FaceRecord) -> Array:
        """The row of an array that belongs to a record."""
        if name not in record.rows:
            raise IntegrityError(f"{self.root}: face {record.face_id} has no {name}")
        return np.asarray(self.array(name, record.shard)[record.rows[name]])

    def image_path(self, folder: str, face_id: str) -> Path:
        """Where an image of a face lies."""
        return self.root / folder / f"{face_id}.png"

    def before(self, stage: str) -> str:
        """The stage whose records `stage` reads.

        Raises:
            UsageError: nothing before it has run, or it has not ended.
        """
        done = [s for s in self.stages() if ORDER.index(s) < ORDER.index(stage)]
        if not done:
            raise UsageError(f"{self.root}: no records for {stage} to read; run: sfhq ingest")
        info = self.stage_info(done[-1])
        found = len(self.shards(done[-1]))
        if not info["complete"] or info.get("shards", found) != found:
            raise UsageError(f"{self.root}: {done[-1]} has not ended; run: sfhq {done[-1]}")
        return done[-1]

    def drop_from(self, stage: str) -> None:
        """Delete the records of a stage and of every stage after it; images stay."""
        for name in reversed(ORDER[ORDER.index(stage) :]):
            folder = self.root / "records" / name
            if folder.exists():
                (folder / "stage.json").unlink(missing_ok=True)
                shutil.rmtree(folder)


def record_schema() -> Any:
    """The Parquet schema of records."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    special = {
        "width": pa.int32(),
        "height": pa.int32(),
        "quad": pa.list_(number),
        "seed": pa.int64(),
        "psi": number,
        "realism": number,
        "score": number,
    }
    return pa.schema([(name, special.get(name, text)) for name in COLUMNS])
