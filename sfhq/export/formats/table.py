"""The table of formats: a new one is a module and a row."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from sfhq.export.job import Format


class Row(NamedTuple):
    """One format: its name, "module:Class", and what it is in a few words."""

    name: str
    where: str
    what: str


ROWS = (
    Row("webdataset", "webdataset:WebDataset", "tar shards"),
    Row("parquet", "parquet:Parquet", "Hugging Face, photos inside the files"),
    Row("imagefolder", "imagefolder:ImageFolder", "Hugging Face, photos as files"),
    Row("kaggle", "kaggle:Kaggle", "photos as files, with Kaggle's metadata"),
    Row("coco", "coco:Coco", "key points, masks and captions"),
    Row("croissant", "croissant:Croissant", "photos as files, described for machines"),
    Row("fiftyone", "fiftyone:FiftyOne", "FiftyOne's import format"),
    Row("csv", "labels:Csv", "labels alone"),
    Row("jsonl", "labels:JsonLines", "labels alone"),
)
NAMES = tuple(row.name for row in ROWS)


def format_of(name: str) -> Format:
    """The writer of a format.

    Raises:
        KeyError: no format has that name.
    """
    module, kind = {row.name: row.where for row in ROWS}[name].split(":")
    made: Format = getattr(importlib.import_module(f"sfhq.export.formats.{module}"), kind)()
    return made
