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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfhq import stages
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import PLAIN, mark_of, write_atomic, write_image
from sfhq.parts import arrays
from sfhq.parts.about import AboutRow, to_table
from sfhq.parts.reading import FORMAT as FORMAT
from sfhq.parts.reading import READABLE, PartReader
from sfhq.parts.records import (
    Array,
    ColumnType,
    FaceRecord,
    Json,
    Pixels,
    record_schema,
    to_columns,
)

if TYPE_CHECKING:
    from sfhq.parts.dataset import FaceDataset


@dataclass(frozen=True)
class Part(PartReader):
    """A folder that holds one part. Make it with `Part.create` or `Part.open`."""

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

    def upgrade(self) -> None:
        """Mark a part of an older format as one that this version has written to."""
        info = self._description()
        if info["format"] < FORMAT:
            self._write_json("part.json", {**info, "format": FORMAT})

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

    def write_stage_info(self, stage: str, info: dict[str, Any]) -> None:
        """Replace `records/<stage>.json`."""
        self._write_json(f"records/{stage}.json", info)
        (self.root / "records" / stage / "stage.json").unlink(missing_ok=True)

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
                hashes[folder] = self._write_image(folder, record, pixels)
            written.append(
                replace(
                    record, rows=rows, hashes=hashes, columns={}, arrays={}, images={}, marks={}
                )
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

    def _write_image(self, folder: str, record: FaceRecord, pixels: Pixels) -> str:
        path = self.image_path(folder, record.face_id)
        self.make_room(path)
        marks = record.marks.get(folder, PLAIN)
        data = write_image(path, pixels, source_type=mark_of(folder), marks=marks)
        return hashlib.sha256(data).hexdigest()
