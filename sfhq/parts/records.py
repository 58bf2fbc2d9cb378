"""One row a face: what every stage reads and writes.

A row has two halves. The columns of `FaceRecord` itself say which face this is and how it was made;
stages that make faces write them. `about` holds what other stages say of it, each in columns of its
own; they are stored apart and joined when records are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from sfhq.images import Marks

Json = Any
Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
ColumnType = Literal["text", "number", "integer", "flag", "numbers", "texts"]


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
        prior_distance: distance of the latent from the mapping network's distribution; a smaller
            one is more realistic.
        rejected_by: stage that refused it; empty while it is alive.
        reason: why, in a few fixed words that can be counted.
        detail: why, with the numbers of this face.
        rows: array name -> row of this face in `arrays/<name>/<shard>.npy`.
        hashes: image folder -> sha256 of the file there.
        about: column -> value of what "about" stages say of the face, joined when it is read.
        shard: number of the shard that it was read from.
        columns, arrays, images: what a stage hands over to be written; never read back from here.
        marks: of those images, by folder.
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
    prior_distance: float | None = None
    rejected_by: str = ""
    reason: str = ""
    detail: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Json] = field(default_factory=dict, compare=False)
    shard: int = field(default=-1, compare=False)
    columns: Mapping[str, Json] = field(default_factory=dict, compare=False, repr=False)
    arrays: Mapping[str, Array] = field(default_factory=dict, compare=False, repr=False)
    images: Mapping[str, Pixels] = field(default_factory=dict, compare=False, repr=False)
    marks: Mapping[str, Marks] = field(default_factory=dict, compare=False, repr=False)

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

    def with_columns(self, **values: Json) -> FaceRecord:
        """The record with values for columns that the stage declares."""
        return replace(self, columns={**self.columns, **values})

    def with_array(self, name: str, values: Array) -> FaceRecord:
        """The record with one array row for `arrays/<name>/`."""
        return replace(self, arrays={**self.arrays, name: values})

    def with_image(self, folder: str, pixels: Pixels, marks: Marks | None = None) -> FaceRecord:
        """The record with an image for `<folder>/<face_id>.png`.

        Args:
            folder: of the part.
            pixels: (H, W, 3) uint8 RGB, or (H, W) uint8 ids such as classes.
            marks: further ones than the folder's digital source type.
        """
        marked = self.marks if marks is None else {**self.marks, folder: marks}
        return replace(self, images={**self.images, folder: pixels}, marks=marked)


# Columns of mappings, and the type of their values.
_JSON_COLUMNS: dict[str, type[Any]] = {"params": object, "rows": int, "hashes": str}
_MAY_BE_NONE = ("seed", "psi", "prior_distance")
_TRANSIENT = ("about", "shard", "columns", "arrays", "images", "marks")
COLUMNS = tuple(f.name for f in fields(FaceRecord) if f.name not in _TRANSIENT)
_DEFAULTS = {
    f.name: f.default_factory if f.default_factory is not MISSING else f.default
    for f in fields(FaceRecord)
}


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
    """The inverse of `to_columns`; a column that an older version lacked gets its default.

    Args:
        columns: name -> values, all of one length.
        shard: where the rows were read.

    Raises:
        KeyError: no `face_id`, which has no default.
        ValueError, TypeError, RecursionError: a value that no record has.
    """
    count = len(columns["face_id"])
    complete = {name: columns.get(name) or [_default(name)] * count for name in COLUMNS}
    records = []
    for values in zip(*complete.values(), strict=True):
        row = dict(zip(COLUMNS, values, strict=True))
        for name, kind in _JSON_COLUMNS.items():
            if isinstance(row[name], str):
                row[name] = read_mapping(row[name], kind)
        row["quad"] = tuple(row["quad"])
        if len(row["quad"]) not in (0, 8) or not all(isinstance(v, float) for v in row["quad"]):
            raise ValueError("quad")
        records.append(FaceRecord(**row, shard=shard))
    return records


def read_mapping(text: str, kind: type[Any]) -> dict[str, Any]:
    """The table in a JSON text.

    Args:
        text: the JSON.
        kind: type of its values; `object` for any. Whole numbers are rows: 0 or more.

    Raises:
        ValueError, RecursionError: it is something else.
    """
    found: Any
    if kind in _PLAIN:  # several times as fast, which reading a large part feels
        try:
            found = _PLAIN[kind].decode(text)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None
    else:
        found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("wanted a table")
    if kind is int and min(found.values(), default=0) < 0:
        raise ValueError("a row below 0")
    return found


_PLAIN: dict[type[Any], msgspec.json.Decoder[Any]] = {
    str: msgspec.json.Decoder(dict[str, str]),
    int: msgspec.json.Decoder(dict[str, int]),
}


def check_columns(table: Any) -> None:
    """Refuse an Arrow table of whole records whose columns have other types.

    Raises:
        ValueError: names the column.
    """
    for wanted in record_schema():
        place = table.schema.get_field_index(wanted.name)
        if place < 0:
            continue
        if table.schema.field(place).type != wanted.type:
            raise ValueError(f"{wanted.name} is {table.schema.field(place).type}")
        if wanted.name not in _MAY_BE_NONE and table.column(place).null_count:
            raise ValueError(f"{wanted.name} is missing")


def _default(name: str) -> Any:
    default = _DEFAULTS[name]
    return default() if callable(default) else default


def arrow_type(kind: ColumnType) -> Any:
    """The Arrow type of a declared column."""
    import pyarrow as pa

    return {
        "text": pa.string(),
        "number": pa.float64(),
        "integer": pa.int64(),
        "flag": pa.bool_(),
        "numbers": pa.list_(pa.float64()),
        "texts": pa.list_(pa.string()),
    }[kind]


def record_schema() -> Any:
    """The Parquet schema of whole records."""
    import pyarrow as pa

    kinds: dict[str, ColumnType] = {
        "quad": "numbers",
        "seed": "integer",
        "psi": "number",
        "prior_distance": "number",
    }
    special = {name: arrow_type(kind) for name, kind in kinds.items()}
    special |= {"width": pa.int32(), "height": pa.int32()}
    return pa.schema([(name, special.get(name, pa.string())) for name in COLUMNS])
