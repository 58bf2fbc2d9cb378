"""One row a face: what every stage reads and writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Json = Any
Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FaceRecord:
    """A face on its way through a part.

    Attributes:
        face_id: name of the face within its part; also the stem of its image files.
        parent_id: the art image or face it came from; empty for what was ingested or sampled.
        source: path of the source below its root, or the name inside its archive.
        source_sha256: digest of the source's bytes.
        licence: licence of the source as the user stated it, an SPDX id where there is one.
        provenance: where the source comes from, in the user's words.
        width, height: size of the source in pixels, after EXIF rotation.
        quad: 8 numbers, the aligned crop's corners in source pixels (x, y): top left,
            bottom left, bottom right, top right.
        candidate: which candidate this is, for example "strict".
        seed: the number its randomness came from.
        psi: truncation strength, mean over layers where it differs between them.
        params: everything else that made it, by name.
        realism: distance of the latent from the mapping's distribution; smaller is more real.
        score: how much it is liked, larger is better; None until something scored it.
        rejected_by: stage that refused it; empty while it is alive.
        reason: why, in a few fixed words that can be counted.
        detail: why, with the numbers of this face.
        rows: array name -> row of this face in `arrays/<name>/<shard>.npy`.
        hashes: image folder -> sha256 of the file there.
        shard: number of the shard it lives in; set by whoever reads it.
        arrays, images: what a stage hands over to be written; never read back from here.
    """

    face_id: str
    parent_id: str = ""
    source: str = ""
    source_sha256: str = ""
    licence: str = ""
    provenance: str = ""
    width: int = 0
    height: int = 0
    quad: tuple[float, ...] = ()
    candidate: str = ""
    seed: int | None = None
    psi: float | None = None
    params: Mapping[str, Json] = field(default_factory=dict)
    realism: float | None = None
    score: float | None = None
    rejected_by: str = ""
    reason: str = ""
    detail: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    shard: int = field(default=-1, compare=False)
    arrays: Mapping[str, Array] = field(default_factory=dict, compare=False, repr=False)
    images: Mapping[str, Pixels] = field(default_factory=dict, compare=False, repr=False)

    @property
    def alive(self) -> bool:
        """No stage has refused it."""
        return not self.rejected_by

    def reject(self, stage: str, reason: str, detail: str = "") -> FaceRecord:
        """The record as refused by a stage, with what it was to be written dropped.

        Args:
            stage: name of the stage.
            reason: a few fixed words, such as "no face"; counts go by these.
            detail: what was found, what was wanted and what to do.
        """
        return replace(self, rejected_by=stage, reason=reason, detail=detail, arrays={}, images={})

    def with_array(self, name: str, values: Array) -> FaceRecord:
        """The record with one array row for `arrays/<name>/`."""
        return replace(self, arrays={**self.arrays, name: values})

    def with_image(self, folder: str, pixels: Pixels) -> FaceRecord:
        """The record with an image for `<folder>/<face_id>.png`.

        Args:
            folder: of the part.
            pixels: (H, W, 3) uint8 RGB, or (H, W) uint8 ids such as classes.
        """
        return replace(self, images={**self.images, folder: pixels})


_JSON_COLUMNS = ("params", "rows", "hashes")
_TRANSIENT = ("shard", "arrays", "images")
COLUMNS = tuple(f.name for f in fields(FaceRecord) if f.name not in _TRANSIENT)


def canonical_json(value: Json) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def to_columns(records: Iterable[FaceRecord]) -> dict[str, list[Any]]:
    """Records as columns of plain values; mappings become canonical JSON."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for record in records:
        for name in COLUMNS:
            value = getattr(record, name)
            if name in _JSON_COLUMNS:
                value = canonical_json(dict(value))
            columns[name].append(list(value) if isinstance(value, tuple) else value)
    return columns


def from_columns(columns: Mapping[str, list[Any]], shard: int) -> list[FaceRecord]:
    """The inverse of `to_columns`; `shard` is where the rows were read."""
    records = []
    for values in zip(*(columns[name] for name in COLUMNS), strict=True):
        row = dict(zip(COLUMNS, values, strict=True))
        for name in _JSON_COLUMNS:
            row[name] = json.loads(row[name])
        row["quad"] = tuple(row["quad"])
        records.append(FaceRecord(**row, shard=shard))
    return records
