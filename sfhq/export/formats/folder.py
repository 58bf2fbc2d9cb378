"""Photos as files, for all formats that want them so.

<split>/images/000/<key>.png|jpg   the photos, at most 5,000 in a folder
<split>/masks/000/<key>.png        ids of the classes as greys, where there are maps
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sfhq.export.files import Written, shelf, writing
from sfhq.export.item import Item
from sfhq.export.job import Entry, Format, Job, Piece
from sfhq.parts.records import Json, canonical_json

TOGETHER = 64  # photos in a piece


class Folder(Format):
    """A format whose photos are files; subclasses write what stands around them.

    Attributes:
        photo_place, mask_place: folder of a split's photos and of its masks.
    """

    photo_place = "{split}/images"
    mask_place = "{split}/masks"

    def piece(self, job: Job, split: str, number: int, items: Iterator[Item]) -> Piece:
        """Some photos, each with its mask."""
        files: dict[str, Written] = {}
        entries = []
        for index, item in enumerate(itertools.islice(items, TOGETHER), number * TOGETHER):
            data, suffix, digest = item.photo
            path = f"{self.photo_place.format(split=split)}/{shelf(index)}/{item.face.key}.{suffix}"
            files[path] = put(job, path, data)
            mask, mask_path = item.mask, ""
            if mask is not None:
                place = self.mask_place.format(split=split)
                mask_path = f"{place}/{shelf(index)}/{item.face.key}.png"
                files[mask_path] = put(job, mask_path, mask)
            width, height = item.size
            entries.append(Entry(item.face.key, path, len(data), digest, width, height, mask_path))
        return Piece(split, number, tuple(entries), files)


def put(job: Job, path: str, data: bytes) -> Written:
    """Write a file below the export."""
    with writing(job.folder / path) as file:
        file.write(data)
    return file.written()


def write_rows(
    job: Job, path: str, rows: Iterable[Json], begin: str = "", between: str = "\n", end: str = "\n"
) -> dict[str, Written]:
    """Write rows of JSON one after the other; none is held."""
    with writing(job.folder / path) as file:
        stream_rows(file.text, rows, begin, between, end)
    return {path: file.written()}


def stream_rows(
    text: Callable[[str], Any], rows: Iterable[Json], begin: str, between: str, end: str
) -> None:
    """Hand rows of JSON over as text."""
    text(begin)
    for number, row in enumerate(rows):
        text((between if number else "") + canonical_json(row))
    text(end)


def relative(path: str, start: str) -> str:
    """A path of the export as seen from one of its folders."""
    return os.path.relpath(path, start)
