"""Hugging Face imagefolder: photos as files, and a metadata.jsonl with their labels beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from sfhq.export.card import write_card
from sfhq.export.files import Written
from sfhq.export.formats.folder import Folder, relative, write_rows
from sfhq.export.item import labels_of
from sfhq.export.job import Job
from sfhq.export.rows import labelled_items, points_of
from sfhq.parts.records import Json


class ImageFolder(Folder):
    """See the module."""

    name: ClassVar[str] = "imagefolder"
    summary: ClassVar[str] = "Hugging Face imagefolder"

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """metadata.jsonl of each split, and the card."""
        found: dict[str, Written] = {}
        for split in job.choice.names():
            found |= write_rows(job, f"{split}/metadata.jsonl", _rows(job, split))
        files = {name: f"{name}/**" for name in job.choice.names()}
        return found | write_card(job, "imagefolder", files)


def _rows(job: Job, split: str) -> Iterator[dict[str, Json]]:
    # Every row has every key: readers take the columns from the first rows.
    masks = any(entry.mask for _, entry in job.entries(split))
    for item, entry in labelled_items(job, split):
        face = item.face
        row: dict[str, Json] = {"file_name": relative(entry.path, split)}
        if masks:
            row["mask_file_name"] = relative(entry.mask, split) if entry.mask else None
        yield {
            **row,
            "key": face.key,
            "part": face.part_name,
            "label": face.label,
            "caption_text": item.caption or None,
            "image_width": entry.width,
            "image_height": entry.height,
            **points_of(item),
            **labels_of(face, job.choice),
        }
