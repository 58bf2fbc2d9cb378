"""A dataset part on disk: records, arrays and images, read shard by shard.

```
part.json                     format, name
records/<stage>.json          settings, what the stage read and wrote, counts
records/<stage>/00000.parquet one row a face
arrays/<name>/00000.npy       rows beside their shard
<folder>/<face_id>.png        images
```

Stages that make faces store whole records; stages that say something about faces store their own
columns (`sfhq.parts.about`). `sfhq.parts.lineage` knows who read what, `sfhq.parts.join` puts both
together.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfhq import stages
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import mark_of, write_atomic, write_image
from sfhq.parts import format1
from sfhq.parts.about import AboutRow, from_table, to_table
from sfhq.parts.records import (
    COLUMNS,
    Array,
    ColumnType,
    FaceRecord,
    Json,
    Pixels,
    from_columns,
    record_schema,
    to_columns,
)

if TYPE_CHECKING:
    from sfhq.parts.dataset import FaceDataset

FORMAT = 2
READABLE = (1, FORMAT)
FACE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")


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
        """Open an existing part; those of older formats read as well.

        Raises:
            UsageError: there is none.
            IntegrityError: its description is damaged or of a newer format.
        """
        if not (root / "part.json").is_file():
            raise UsageError(f"{root}: not a part (no part.json); make one with: sfhq ingest")
        part = cls(root)
        found = part._description()["format"]
        if found not in READABLE:
            raise IntegrityError(
                f"{root / 'part.json'}: part of format {found}, this sfhq reads up to format "
                f"{FORMAT}; a newer version made it: pip install --upgrade sfhq"
            )
        return part

    def _description(self) -> dict[str, Any]:
        path = self.root / "part.json"
        try:
            info = json.loads(path.read_bytes())
            return {"format": int(info["format"]), "name": str(info["name"])}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise IntegrityError(
                f"{path}: damaged; wanted JSON with a format number and a name"
            ) from None

    @property
    def name(self) -> str:
        """Name of the part."""
        return str(self._description()["name"])

    def upgrade(self) -> None:
        """Mark a part of an older format as one that this version has written to."""
        info = self._description()
        if info["format"] < FORMAT:
            self._write_json("part.json", {**info, "format": FORMAT})

    def _write_json(self, relative: str, value: Json) -> None:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(value, sort_keys=True, indent=1) + "\n").encode())

    # stages

    def stages(self) -> list[str]:
        """Names of the stages that have records here, in the order of a run."""
        folder = self.root / "records"
        found = {p.stem for p in folder.glob("*.json")}
        found |= {p.parent.name for p in folder.glob("*/stage.json")}
        return sorted(found, key=lambda name: (stages.position(name), name))

    def stage_info(self, stage: str) -> dict[str, Any]:
        """What `records/<stage>.json` says.

        Returns:
            "settings"; "kind", as in `sfhq.pipeline.stage.Stage`; "inputs", stage -> fingerprint of
            what was read; "writes", names of columns, arrays and image folders; "complete"; and,
            once it is, "shards" and "counts".

        Raises:
            UsageError: the stage has not run.
            IntegrityError: the file is damaged.
        """
        path = self.root / "records" / f"{stage}.json"
        old = self.root / "records" / stage / "stage.json"
        if not path.is_file() and not old.is_file():
            raise UsageError(f"{self.root}: no {stage} records yet; run: sfhq {stage} {self.root}")
        where = path if path.is_file() else old
        try:
            info: dict[str, Any] = json.loads(where.read_bytes())
            if where == old:
                info = self._old_info(info, stage)
            for key, kind in (("settings", dict), ("inputs", dict), ("writes", list)):
                if not isinstance(info[key], kind):
                    raise ValueError
            if not isinstance(info["complete"], bool) or not isinstance(info["kind"], str):
                raise ValueError
            if info["complete"]:
                int(info["shards"]), dict(info["counts"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise IntegrityError(
                f"{where}: damaged; run: sfhq {stage} {self.root} --redo"
            ) from None
        return info

    def _old_info(self, info: dict[str, Any], stage: str) -> dict[str, Any]:
        here = self.stages()
        found = format1.stage_info(info, stage, here[: here.index(stage)])
        if stage == "embed":
            folders = (self.root / "arrays").glob("features_*")
            found["writes"] += sorted(p.name for p in folders)
        return found

    def write_stage_info(self, stage: str, info: dict[str, Any]) -> None:
        """Replace `records/<stage>.json`."""
        self._write_json(f"records/{stage}.json", info)
        (self.root / "records" / stage / "stage.json").unlink(missing_ok=True)

    # shards

    def shard_path(self, stage: str, shard: int) -> Path:
        """Where a shard's records lie."""
        return self.root / "records" / stage / f"{shard:05d}.parquet"

    def shards(self, stage: str) -> list[int]:
        """Numbers of the shards a stage has finished, ascending."""
        folder = self.root / "records" / stage
        return sorted(int(p.stem) for p in folder.glob("[0-9]*.parquet") if p.stem.isdigit())

    def read_shard(self, stage: str, shard: int) -> list[FaceRecord]:
        """The whole records of one shard of a stage that makes faces, rejected ones too.

        Raises:
            IntegrityError: the file is damaged, or of a newer version.
        """
        columns = self._columns(stage, shard)
        if "realism" in columns:
            columns = format1.translated(columns)
        unknown = sorted(columns.keys() - {*COLUMNS})
        if unknown:
            raise IntegrityError(
                f"{self.shard_path(stage, shard)}: columns that this version does not know "
                f"({', '.join(unknown)}); a newer version made it: pip install --upgrade sfhq"
            )
        try:
            return [format1.translated_record(r) for r in from_columns(columns, shard)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(stage, shard, error) from None

    def read_about(self, stage: str, shard: int) -> list[AboutRow]:
        """The rows of one shard of a stage that says something about faces.

        Raises:
            IntegrityError: the file is damaged.
        """
        columns = self._columns(stage, shard)
        try:
            if "realism" in columns:
                records = from_columns(format1.translated(columns), shard)
                return format1.about_rows(stage, records, columns["score"])
            return from_table(columns)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(stage, shard, error) from None

    def _columns(self, stage: str, shard: int) -> dict[str, list[Any]]:
        import pyarrow.parquet as pq

        path = self.shard_path(stage, shard)
        try:
            table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
            columns: dict[str, list[Any]] = table.to_pydict()
        except Exception as error:
            raise self._damaged(stage, shard, error) from None
        if "face_id" not in columns or not all(
            isinstance(i, str) and FACE_ID.fullmatch(i) for i in columns["face_id"]
        ):
            raise self._damaged(stage, shard, ValueError("face_id"))
        return columns

    def _damaged(self, stage: str, shard: int, error: Exception) -> IntegrityError:
        return IntegrityError(
            f"{self.shard_path(stage, shard)}: damaged records ({type(error).__name__}); delete "
            f"the file and run: sfhq {stage} {self.root}"
        )

    def records(self, stage: str) -> Iterator[FaceRecord]:
        """All whole records of a stage that makes faces, one shard in memory at a time."""
        for shard in self.shards(stage):
            yield from self.read_shard(stage, shard)

    def faces(self, *, rejected: bool = False) -> Iterator[FaceRecord]:
        """The faces of the part with all that is said of them, one shard in memory at a time.

        Args:
            rejected: those that a stage refused as well.

        Raises:
            UsageError: nothing has run to its end.
            IntegrityError: damaged or missing records.
        """
        from sfhq.parts.join import joined

        return (r for r in joined(self) if rejected or r.alive)

    def table(self) -> Any:
        """All faces as one Arrow table, a row a face; see `sfhq.parts.table.part_table`."""
        from sfhq.parts.table import part_table

        return part_table(self)

    def dataset(self, *, images: bool = True, masks: bool = False) -> FaceDataset:
        """The living faces as a torch `Dataset`; see `sfhq.parts.dataset.FaceDataset`."""
        from sfhq.parts.dataset import FaceDataset

        return FaceDataset(self, images=images, masks=masks)

    # writing

    def write_shard(self, stage: str, shard: int, records: Sequence[FaceRecord]) -> None:
        """Write a shard of whole records: first their arrays and images, the records last.

        A record file that exists therefore vouches for everything it names.
        """
        import pyarrow as pa

        written = self._write_files(shard, records, {})
        table = pa.Table.from_pydict(to_columns(written), schema=record_schema())
        self._write_table(stage, shard, table)

    def write_about(
        self,
        stage: str,
        shard: int,
        records: Sequence[FaceRecord],
        columns: Mapping[str, ColumnType],
    ) -> None:
        """Write what a stage says about faces; rows of other faces that are there stay.

        Args:
            stage: its name.
            shard: number of the shard.
            records: faces with `columns`, `arrays` and `images`, or rejected.
            columns: the declared columns and their types.
        """
        known = self.read_about(stage, shard) if self.shard_path(stage, shard).is_file() else []
        bare = [replace(r, rows={}, hashes={}) for r in records]
        kept: dict[str, int] = {}  # rows of each array that belong to faces that are there
        for row in known:
            for name, number in row.rows.items():
                kept[name] = max(kept.get(name, 0), number + 1)
        rows = [
            AboutRow(
                done.face_id,
                {k: v for k, v in record.columns.items() if k in columns},
                done.rows,
                done.hashes,
                record.rejected_by,
                record.reason,
                record.detail,
            )
            for record, done in zip(records, self._write_files(shard, bare, kept), strict=True)
        ]
        self._write_table(stage, shard, to_table([*known, *rows], columns))

    def _write_table(self, stage: str, shard: int, table: Any) -> None:
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        path = self.shard_path(stage, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())

    def _write_files(
        self, shard: int, records: Iterable[FaceRecord], kept: Mapping[str, int]
    ) -> list[FaceRecord]:
        """Write arrays and images; of arrays that are there, the first `kept` rows stay."""
        columns: dict[str, list[Array]] = {}
        written = []
        for record in records:
            rows, hashes = dict(record.rows), dict(record.hashes)
            for name, values in record.arrays.items():
                column = columns.setdefault(name, [])
                rows[name] = kept.get(name, 0) + len(column)
                column.append(np.asarray(values))
            for folder, pixels in record.images.items():
                hashes[folder] = self._write_image(folder, record.face_id, pixels)
            written.append(
                replace(record, rows=rows, hashes=hashes, columns={}, arrays={}, images={})
            )
        for name, column in columns.items():
            stacked = np.stack(column)
            if kept.get(name):
                stacked = np.concatenate([self.array(name, shard)[: kept[name]], stacked])
            buffer = io.BytesIO()
            np.save(buffer, stacked, allow_pickle=False)
            path = self.array_path(name, shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, buffer.getvalue())
        return written

    def _write_image(self, folder: str, face_id: str, pixels: Pixels) -> str:
        path = self.image_path(folder, face_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = write_image(path, pixels, source_type=mark_of(folder))
        return hashlib.sha256(data).hexdigest()

    # arrays and images

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
            if array.ndim == 0:
                raise ValueError("a single value")
        except (OSError, ValueError, EOFError) as error:
            raise IntegrityError(
                f"{path}: cannot read array ({error}); run the stage again"
            ) from None
        return array

    def row(self, name: str, record: FaceRecord) -> Array:
        """The row of an array that belongs to a record.

        Raises:
            IntegrityError: the face has none, or the array is missing, damaged or too short.
        """
        if name not in record.rows:
            raise IntegrityError(f"{self.root}: face {record.face_id} has no {name}")
        array, number = self.array(name, record.shard), record.rows[name]
        if not 0 <= number < len(array):
            raise IntegrityError(
                f"{self.array_path(name, record.shard)}: {len(array)} rows; face "
                f"{record.face_id} is in row {number}; run the stage again"
            )
        return np.asarray(array[number])

    def image_path(self, folder: str, face_id: str) -> Path:
        """Where an image of a face lies.

        Raises:
            IntegrityError: the id is no file name; it came from damaged records.
        """
        if not FACE_ID.fullmatch(face_id):
            raise IntegrityError(f"{self.root}: {face_id!r} is no face id; its records are damaged")
        return self.root / folder / f"{face_id}.png"
