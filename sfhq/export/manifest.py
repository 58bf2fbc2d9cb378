"""The manifest of an export: one row a photo, as Parquet and as CSV, written as it is read."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence

from sfhq.export.files import Hashed, Written, writing
from sfhq.export.item import label_types, labels_of
from sfhq.export.job import Job
from sfhq.export.rows import labelled_items, point_types, points_of
from sfhq.parts.records import Json, canonical_json

ROWS = 1000  # in memory at a time
FRONT = ("key", "split", "part", "label", "file_name", "bytes", "sha256")
BACK = ("image_width", "image_height", "mask_file_name")


def manifest_rows(job: Job, points: bool) -> Iterator[dict[str, Json]]:
    """One row a photo: where it lies, and every column of its part's table."""
    for item, entry in labelled_items(job):
        face = item.face
        front = (face.key, face.split, face.part_name, face.label, entry.path, entry.size)
        back = (entry.width, entry.height, entry.mask or None)
        yield {
            **dict(zip(FRONT, (*front, entry.sha256), strict=True)),
            **labels_of(face, job.choice),
            **dict(zip(BACK, back, strict=True)),
            **(points_of(item) if points else {}),
        }


def manifest_schema(job: Job, points: bool) -> dict[str, object]:
    """Column of the manifest -> Arrow type."""
    import pyarrow as pa

    kinds = {name: pa.string() for name in FRONT} | {"bytes": pa.int64()}
    ends = dict.fromkeys(BACK[:2], pa.int32()) | dict.fromkeys(BACK[2:], pa.string())
    return {**kinds, **label_types(job.choice), **ends, **(point_types() if points else {})}


def flat(row: dict[str, Json]) -> dict[str, Json]:
    """A row for CSV: lists as JSON."""
    return {k: canonical_json(v) if isinstance(v, list) else v for k, v in row.items()}


class CsvFile:
    """Rows as CSV, in a file that is hashed as it is written."""

    def __init__(self, file: Hashed, columns: Sequence[str]) -> None:
        self._file, self._buffer = file, io.StringIO()
        self._writer = csv.DictWriter(self._buffer, list(columns), lineterminator="\n")
        self._writer.writeheader()

    def add(self, row: dict[str, Json]) -> None:
        """Write a row."""
        self._writer.writerow(flat(row))
        if self._buffer.tell() > 2**16:
            self.end()

    def end(self) -> None:
        """Write what is left."""
        self._file.text(self._buffer.getvalue())
        self._buffer.seek(0)
        self._buffer.truncate()


def write_manifest(job: Job, points: bool) -> dict[str, Written]:
    """Write manifest.parquet and manifest.csv; path -> what was written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = manifest_schema(job, points)
    schema = pa.schema(list(kinds.items()))
    with (
        writing(job.folder / "manifest.parquet") as table,
        writing(job.folder / "manifest.csv") as text,
        pq.ParquetWriter(table, schema, compression="zstd") as rows_file,
    ):
        lines = CsvFile(text, list(kinds))
        rows = manifest_rows(job, points)
        while batch := list(itertools.islice(rows, ROWS)):
            rows_file.write_table(pa.Table.from_pylist(batch, schema=schema))
            for row in batch:
                lines.add(row)
        lines.end()
    return {"manifest.parquet": table.written(), "manifest.csv": text.written()}
