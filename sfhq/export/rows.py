"""The labels of a photo as rows of JSON and of Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sfhq.export.choose import Choice, Face
from sfhq.export.item import Item, Sources, labels_of
from sfhq.export.job import Entry, Job
from sfhq.parts.records import Json


def nested(face: Face, choice: Choice) -> dict[str, Json]:
    """All labels of a photo for JSON: what is a table stays one."""
    return {
        "key": face.key,
        "split": face.split,
        "part": face.part_name,
        "label": face.label,
        **labels_of(face, choice, tables=True),
    }


def points_of(item: Item) -> dict[str, Json]:
    """`landmarks`, a list of [x, y], and `visibility`; None where there are none."""
    found = item.landmarks
    return {
        "landmarks": found["landmarks"].tolist() if "landmarks" in found else None,
        "visibility": found["visibility"].tolist() if "visibility" in found else None,
    }


def point_types() -> dict[str, Any]:
    """Arrow types of `points_of`."""
    import pyarrow as pa

    return {
        "landmarks": pa.list_(pa.list_(pa.float32())),
        "visibility": pa.list_(pa.uint8()),
    }


def labelled_items(job: Job, split: str | None = None) -> Iterator[tuple[Item, Entry]]:
    """The photos of a split, or all, with what their pieces say of them; bytes are read late."""
    sources = Sources()
    for face, entry in job.entries(split):
        yield Item(face, job.look, sources), entry
