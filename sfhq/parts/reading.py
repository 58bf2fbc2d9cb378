"""Reading a part: descriptions, records, arrays; nothing here writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfhq import stages
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts import arrays, description, format1
from sfhq.parts.about import AboutRow, check_about, from_table
from sfhq.parts.files import MOST_RECORDS, read_file, why
from sfhq.parts.parquet import table_of
from sfhq.parts.records import (
    COLUMNS,
    Array,
    FaceRecord,
    check_columns,
    from_columns,
)

if TYPE_CHECKING:
    pass

FORMAT = 2
READABLE = (1, FORMAT)
FACE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")


@dataclass(frozen=True)
class PartReader:
    """What can be read of a part; `sfhq.parts.part.Part` is what others use."""

    root: Path

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

    def ended(self) -> list[str] | None:
        """Stages that came to their end here, as `part.json` says; None where it does not say."""
        found: list[str] | None = self._description().get("ended")
        return found

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
        try:
            table = table_of(read_file(self.shard_path(stage, shard), MOST_RECORDS))
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
