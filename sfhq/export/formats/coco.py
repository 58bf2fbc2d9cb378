"""COCO: photos as files, and JSON of key points, masks and captions for each split.

annotations/faces_<split>.json     the face with 110 key points, and a mask a class
annotations/captions_<split>.json  what is said of each photo in words, where something is
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from sfhq import stages
from sfhq.export.files import Written, writing
from sfhq.export.formats.folder import Folder, stream_rows
from sfhq.export.item import Item
from sfhq.export.job import Job
from sfhq.export.rows import labelled_items, nested
from sfhq.faces.points import COUNT, VISIBLE
from sfhq.parts.records import Array, Json, canonical_json

IBUG = 68


class Coco(Folder):
    """See the module."""

    name: ClassVar[str] = "coco"
    summary: ClassVar[str] = "COCO key points, masks and captions"

    def check(self, job: Job) -> None:
        """Refuse to begin without the library that packs masks."""
        stages.reader("coco annotations")(np.zeros((1, 1), np.uint8), None)

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """The documents of each split."""
        categories = stages.reader("coco categories")()
        annotations = stages.reader("coco annotations")
        found: dict[str, Written] = {}
        for split in job.choice.names():
            rows = _faces(job, split, annotations)
            found |= _document(job, split, "faces", rows, {"categories": categories})
            if next(_captions(job, split), None) is not None:
                found |= _document(job, split, "captions", _captions(job, split), {})
        return found


def _document(
    job: Job, split: str, what: str, rows: Iterator[Json], more: dict[str, Json]
) -> dict[str, Written]:
    """A document, written row by row."""
    path = f"annotations/{what}_{split}.json"
    licences = job.licences()
    head: dict[str, Json] = {
        "info": {"description": f"{job.choice.name}, {split}, by sfhq", "version": "1.0"},
        "licenses": [{"id": i, "name": n or "none stated"} for i, n in enumerate(licences, 1)],
        **more,
    }
    with writing(job.folder / path) as file:
        file.text(canonical_json(head)[:-1] + ',"images":')
        stream_rows(file.text, _images(job, split, licences), "[", ",\n", "]")
        file.text(',"annotations":')
        stream_rows(file.text, rows, "[", ",\n", "]}\n")
    return {path: file.written()}


def _images(job: Job, split: str, licences: list[str]) -> Iterator[Json]:
    for number, (item, entry) in enumerate(labelled_items(job, split), 1):
        stated = job.about.licence or item.face.record.licence
        yield {
            "id": number,
            "file_name": entry.path,
            "width": entry.width,
            "height": entry.height,
            "license": licences.index(stated) + 1,
            "sfhq": nested(item.face, job.choice),
        }


def _faces(job: Job, split: str, annotations: Any) -> Iterator[Json]:
    count = 0
    for number, (item, entry) in enumerate(labelled_items(job, split), 1):
        for found in annotations(item.classes if entry.mask else None, _points(item)):
            count += 1
            yield {"id": count, "image_id": number, "iscrowd": 0, **found}


def _points(item: Item) -> Array | None:
    """(110, 3) x, y and flag; of 68 points the others are missing. None where names lack."""
    found = item.landmarks
    points = found.get("landmarks")
    if points is None or (len(points) != IBUG and "visibility" not in found):
        return None
    rows = np.zeros((COUNT, 3))
    rows[: len(points), :2] = points
    rows[: len(points), 2] = found.get("visibility", VISIBLE)
    return rows


def _captions(job: Job, split: str) -> Iterator[Json]:
    count = 0
    for number, (item, _) in enumerate(labelled_items(job, split), 1):
        said = item.face.record.about.get("captions") or [item.caption]
        for text in said if isinstance(said, list) else [item.caption]:
            if text:
                count += 1
                yield {"id": count, "image_id": number, "caption": text}
