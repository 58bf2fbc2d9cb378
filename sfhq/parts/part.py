"""A dataset part on disk: records, arrays and images, read shard by shard.

```
part.json                     format, name, stages that have ended
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
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfhq import stages
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import mark_of, write_atomic, write_image
from sfhq.parts import arrays, description, format1
from sfhq.parts.about import AboutRow, check_about, from_table, to_table
from sfhq.parts.files import MOST_RECORDS, read_file, why
from sfhq.parts.records import (
    COLUMNS,
    Array,
    ColumnType,
    FaceRecord,
    Json,
    Pixels,
    check_columns,
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
            part._write_json(
                "part.json", {"format": FORMAT, "name": name or root.resolve().name, "ended": []}
            )
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
        if not os.path.lexists(root / "part.json"):
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
            return description.read_part(path)
        except description.Problem:
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

    def ended(self) -> list[str] | None:
        """Stages that came to their end here, as `part.json` says; None where it does not say."""
        found: list[str] | None = self._description().get("ended")
        return found

    def write_ended(self, names: Iterable[str]) -> None:
        """Replace the stages that `part.json` says have ended."""
        info = self._description()
        ended = sorted({*names}, key=lambda name: (stages.position(name), name))
        if info.get("ended") != ended:
            self._write_json("part.json", {**info, "ended": ended})

    def make_room(self, path: Path) -> None:
        """Make the folder that a file of this part is to lie in.

        Raises:
            IntegrityError: a link leads out of the part.
        """
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise IntegrityError(
                f"{path.parent}: leads out of the part by a link; nothing was written; put a "
                "folder in the link's place"
            )
        path.parent.mkdir(parents=True, exist_ok=True)

    def _write_json(self, relative: str, value: Json) -> None:
        path = self.root / relative
        self.make_room(path)
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
        where = path if os.path.lexists(path) else old
        if not os.path.lexists(where):
            raise UsageError(f"{self.root}: no {stage} records yet; run: sfhq {stage} {self.root}")
        try:
            info = description.read_table(where)
            if where == old:
                info = self._old_info(info, stage)
            description.check_stage(info)
        except (*description.Problem, AttributeError):
            raise IntegrityError(
                f"{where}: damaged; delete it and run: sfhq {stage} {self.root}"
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
        stems = (p.stem for p in folder.glob("[0-9]*.parquet"))
        plain = (s for s in stems if s.isascii() and s.isdecimal())
        return sorted(int(s) for s in plain if s == f"{int(s):05d}")

    def read_shard(self, stage: str, shard: int) -> list[FaceRecord]:
        """The whole records of one shard of a stage that makes faces, rejected ones too.

        Raises:
            IntegrityError: the file is damaged, or of a newer version.
        """
        table = self._table(stage, shard)
        columns: dict[str, list[Any]] = table.to_pydict()
        if "realism" in columns:
            columns = format1.translated(columns)
        unknown = sorted(columns.keys() - {*COLUMNS})
        if unknown:
            raise IntegrityError(
                f"{self.shard_path(stage, shard)}: columns that this version does not know "
                f"({', '.join(unknown)}); a newer version made it: pip install --upgrade sfhq"
            )
        try:
            check_columns(table)
            return [format1.translated_record(r) for r in from_columns(columns, shard)]
        except (*description.Problem, AttributeError) as error:
            raise self._damaged(stage, shard, error) from None

    def read_about(self, stage: str, shard: int) -> list[AboutRow]:
        """The rows of one shard of a stage that says something about faces.

        Raises:
            IntegrityError: the file is damaged.
        """
        table = self._table(stage, shard)
        columns: dict[str, list[Any]] = table.to_pydict()
        try:
            if "realism" in columns:
                check_columns(table)
                records = from_columns(format1.translated(columns), shard)
                return format1.about_rows(stage, records, columns["score"])
            check_about(stage, table)
            return from_table(columns)
        except (*description.Problem, AttributeError) as error:
            raise self._damaged(stage, shard, error) from None

    def _table(self, stage: str, shard: int) -> Any:
        """The Arrow table of a record file, its face ids checked."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            data = read_file(self.shard_path(stage, shard), MOST_RECORDS)
            table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
            ids = table.column("face_id").to_pylist()
            if not all(isinstance(i, str) and FACE_ID.fullmatch(i) for i in ids):
                raise ValueError("face_id")
            if len({*ids}) != len(ids):
                raise ValueError("a face twice")
        except Exception as error:
            raise self._damaged(stage, shard, error) from None
        return table

    def _damaged(self, stage: str, shard: int, error: Exception) -> IntegrityError:
        return IntegrityError(
            f"{self.shard_path(stage, shard)}: damaged records ({type(error).__name__}); delete "
            f"the file and run: sfhq {stage} {self.root}"
        )

    def rows_of(self, stage: str) -> int:
        """How many rows the record files of a stage hold, as their ends say.

        Raises:
            IntegrityError: one is damaged.
        """
        total = 0
        for shard in self.shards(stage):
            try:
                total += arrays.footer(self.shard_path(stage, shard)).rows
            except Exception as error:
                raise self._damaged(stage, shard, error) from None
        return total

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

        written, sums = self._write_files(shard, records, {})
        table = pa.Table.from_pydict(to_columns(written), schema=record_schema())
        self._write_table(stage, shard, table, sums)

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
        path = self.shard_path(stage, shard)
        known = self.read_about(stage, shard) if os.path.lexists(path) else []
        before = arrays.footer(path).sums if known else {}
        bare = [replace(r, rows={}, hashes={}) for r in records]
        kept: dict[str, int] = {}  # rows of each array that belong to faces that are there
        for row in known:
            for name, number in row.rows.items():
                kept[name] = max(kept.get(name, 0), number + 1)
        written, sums = self._write_files(shard, bare, kept)
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
            for record, done in zip(records, written, strict=True)
        ]
        self._write_table(stage, shard, to_table([*known, *rows], columns), {**before, **sums})

    def _write_table(
        self, stage: str, shard: int, table: Any, sums: Mapping[str, arrays.Sum]
    ) -> None:
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        said = table.replace_schema_metadata(arrays.to_metadata(sums) or None)
        pq.write_table(said, buffer, compression="zstd", write_page_checksum=True)
        path = self.shard_path(stage, shard)
        self.make_room(path)
        write_atomic(path, buffer.getvalue())

    def _write_files(
        self, shard: int, records: Iterable[FaceRecord], kept: Mapping[str, int]
    ) -> tuple[list[FaceRecord], dict[str, arrays.Sum]]:
        """Write arrays and images; of arrays that are there, the first `kept` rows stay.

        Returns:
            The records with their rows and hashes, and the sums of the arrays.
        """
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
        sums = {}
        for name, column in columns.items():
            stacked = np.stack(column)
            if kept.get(name):
                there = self.rows(name, shard, range(kept[name]))
                if there.shape[1:] != stacked.shape[1:]:
                    raise self._unreadable(name, shard, f"rows of shape {there.shape[1:]}")
                stacked = np.concatenate([there, stacked])
            buffer = io.BytesIO()
            np.save(buffer, stacked, allow_pickle=False)
            path = self.array_path(name, shard)
            self.make_room(path)
            write_atomic(path, buffer.getvalue())
            sums[name] = arrays.sum_of(stacked)
        return written, sums

    def _write_image(self, folder: str, face_id: str, pixels: Pixels) -> str:
        path = self.image_path(folder, face_id)
        self.make_room(path)
        data = write_image(path, pixels, source_type=mark_of(folder))
        return hashlib.sha256(data).hexdigest()

    # arrays and images

    def array_path(self, name: str, shard: int) -> Path:
        """Where a shard of an array lies."""
        return self.root / "arrays" / name / f"{shard:05d}.npy"

    def array(self, name: str, shard: int) -> Array:
        """One shard of an array, memory-mapped, (rows, ...), once it is known to be unchanged.

        Raises:
            IntegrityError: missing, damaged, or not what the records beside it vouch for.
        """
        path = self.array_path(name, shard)
        writer = self._writer(name, shard)
        try:
            return arrays.read_array(path, name, writer[1] if writer else None)
        except Exception as error:
            raise self._unreadable(name, shard, why(error)) from None

    def _unreadable(self, name: str, shard: int, reason: str) -> IntegrityError:
        writer = self._writer(name, shard)
        again = "run the stage that wrote it again with --redo"
        if writer:
            records = self.shard_path(writer[0], shard)
            again = f"put it back, or delete {records} and run: sfhq {writer[0]} {self.root}"
        return IntegrityError(
            f"{self.array_path(name, shard)}: cannot read array ({reason}); {again}"
        )

    def _writer(self, name: str, shard: int) -> tuple[str, arrays.Sum] | None:
        """The stage whose records vouch for an array, and what they say of it."""
        found = []
        folder = self.root / "records"
        for stage in os.listdir(folder) if folder.is_dir() else ():
            if stage.endswith(".json"):
                continue
            try:
                sums = arrays.footer(self.shard_path(stage, shard)).sums
            except Exception:  # missing; whoever reads damaged records says so
                continue
            if name in sums:
                found.append((stages.position(stage), stage, sums[name]))
        return max(found)[1:] if found else None

    def rows(self, name: str, shard: int, numbers: Sequence[int]) -> Array:
        """Some rows of one shard of an array, (n, ...), in memory.

        Raises:
            IntegrityError: as `array`, or it has no such row.
        """
        array = self.array(name, shard)
        try:
            arrays.check_numbers(array, numbers)
        except ValueError as error:
            raise self._unreadable(name, shard, str(error)) from None
        taken: Array = np.asarray(array[list(numbers)])
        return taken

    def row(self, name: str, record: FaceRecord) -> Array:
        """The row of an array that belongs to a record.

        Raises:
            IntegrityError: the face has none, or the array is missing, damaged or too short.
        """
        if name not in record.rows:
            raise IntegrityError(f"{self.root}: face {record.face_id} has no {name}")
        return np.asarray(self.rows(name, record.shard, [record.rows[name]])[0])

    def image_path(self, folder: str, face_id: str) -> Path:
        """Where an image of a face lies.

        Raises:
            IntegrityError: the id is no file name; it came from damaged records.
        """
        if not FACE_ID.fullmatch(face_id):
            raise IntegrityError(f"{self.root}: {face_id!r} is no face id; its records are damaged")
        return self.root / folder / f"{face_id}.png"
