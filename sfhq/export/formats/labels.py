"""All labels and no photos: one CSV or one file of JSON lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import ClassVar

from sfhq.errors import UsageError
from sfhq.export.face_files import SOURCE, photo_folder
from sfhq.export.files import Written, writing
from sfhq.export.formats.folder import write_rows
from sfhq.export.item import Item, label_columns, labels_of
from sfhq.export.job import Entry, Format, Job, Piece
from sfhq.export.manifest import CsvFile
from sfhq.export.rows import labelled_items, nested, points_of
from sfhq.parts.photos import photo_digest
from sfhq.parts.records import FaceRecord, Json

TOGETHER = 10_000  # photos in a piece, which writes nothing


class Labels(Format):
    """What CSV and JSON lines share."""

    photos: ClassVar[bool] = False

    def check(self, job: Job) -> None:
        """Refuse what only makes sense with photos."""
        if job.look.image_format or job.look.size:
            raise UsageError(
                f"{self.name} holds labels and no photos; leave out --size and --image-format"
            )

    def piece(self, job: Job, split: str, number: int, items: Iterator[Item]) -> Piece:
        """Photos whose labels are to be written; nothing is written yet."""
        entries = [
            Entry(item.face.key, _path(item.face.record), 0, _digest(item.face.record), 0, 0)
            for item in itertools.islice(items, TOGETHER)
        ]
        return Piece(split, number, tuple(entries), {})


class Csv(Labels):
    """faces.csv; lists and tables are JSON in their cells."""

    name: ClassVar[str] = "csv"
    summary: ClassVar[str] = "all labels as CSV"

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """The file."""
        own = ("key", "split", "part", "label", "photo", "sha256", "landmarks", "visibility")
        with writing(job.folder / "faces.csv") as file:
            lines = CsvFile(file, (*own, *label_columns(job.choice)))
            for split in job.choice.names():
                for item, entry in labelled_items(job, split):
                    lines.add(
                        _front(item, entry) | points_of(item) | labels_of(item.face, job.choice)
                    )
            lines.end()
        return {"faces.csv": file.written()}


class JsonLines(Labels):
    """faces.jsonl; one object a photo."""

    name: ClassVar[str] = "jsonl"
    summary: ClassVar[str] = "all labels as JSON lines"

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """The file."""
        rows = (
            nested(item.face, job.choice) | _front(item, entry) | points_of(item)
            for split in job.choice.names()
            for item, entry in labelled_items(job, split)
        )
        return write_rows(job, "faces.jsonl", rows)


def _front(item: Item, entry: Entry) -> dict[str, Json]:
    face = item.face
    return {
        "key": face.key,
        "split": face.split,
        "part": face.part_name,
        "label": face.label,
        "photo": entry.path,
        "sha256": entry.sha256,
    }


def _path(record: FaceRecord) -> str:
    """Where the photo lies: in the part, or in the source of an imported part."""
    folder = photo_folder(record)
    return record.source if folder == SOURCE else f"{folder}/{record.face_id}.png"


def _digest(record: FaceRecord) -> str:
    return record.hashes.get(photo_folder(record)) or photo_digest(record)
