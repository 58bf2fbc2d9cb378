"""FiftyOne: what `fiftyone.Dataset.from_dir(..., dataset_type=FiftyOneDataset)` imports.

data/<split>/000/<key>.png|jpg            the photos
fields/segmentation/<split>/000/<key>.png ids of the classes as greys
samples.json                              {"samples": [...]}, with tags, masks, points and labels
metadata.json                             names of classes; it states no version, which marks the
                                          plain JSON form of the format
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import ClassVar

from sfhq.export.files import Written
from sfhq.export.formats.folder import Folder, put, write_rows
from sfhq.export.item import Item
from sfhq.export.job import Entry, Job
from sfhq.export.rows import labelled_items, nested
from sfhq.faces.classes import CLASSES
from sfhq.parts.records import Json

TAKEN = ("tags", "id", "filepath", "metadata", "rows", "hashes")  # not fields of a sample of ours


class FiftyOne(Folder):
    """See the module."""

    name: ClassVar[str] = "fiftyone"
    summary: ClassVar[str] = "FiftyOne's import format"
    photo_place = "data/{split}"
    mask_place = "fields/segmentation/{split}"

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """metadata.json and samples.json."""
        targets = {str(i): name for i, name in enumerate(CLASSES)}
        about = {
            "name": job.choice.name,
            "media_type": "image",
            "info": {
                "tags": ["synthetic"],
                "mask_targets": {"segmentation": targets},
                "licences": job.licences(),
            },
        }
        text = json.dumps(about, indent=1, sort_keys=True) + "\n"
        found = {"metadata.json": put(job, "metadata.json", text.encode())}
        return found | write_rows(job, "samples.json", _samples(job), '{"samples":[', ",\n", "]}\n")


def _samples(job: Job) -> Iterator[Json]:
    for split in job.choice.names():
        for item, entry in labelled_items(job, split):
            yield _sample(item, entry, job)


def _sample(item: Item, entry: Entry, job: Job) -> dict[str, Json]:
    face = item.face
    labels = {k: v for k, v in nested(face, job.choice).items() if k not in TAKEN and v is not None}
    sample: dict[str, Json] = {
        "filepath": entry.path,
        "tags": [face.split, "synthetic", *([face.label] if face.label else [])],
        "metadata": {
            "_cls": "ImageMetadata",
            "size_bytes": entry.size,
            "width": entry.width,
            "height": entry.height,
        },
        **labels,
        "photo_sha256": entry.sha256,
    }
    if item.caption:
        sample["caption_text"] = item.caption
    if entry.mask:
        sample["segmentation"] = {"_cls": "Segmentation", "tags": [], "mask_path": entry.mask}
    points = item.landmarks.get("landmarks")
    if points is not None:
        scaled = (points + 0.5) / (entry.width, entry.height)  # FiftyOne counts in shares
        sample["landmarks"] = {
            "_cls": "Keypoints",
            "keypoints": [
                {
                    "_cls": "Keypoint",
                    "tags": [],
                    "label": "face",
                    "points": scaled.round(6).tolist(),
                }
            ],
        }
    return sample
