"""What a stage says about faces, stored apart from them: own columns, keyed by face id.

records/<stage>/00000.parquet holds face_id, the stage's columns, rows, hashes, rejected_by, reason
and detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sfhq import stages
from sfhq.parts.records import (
    ColumnType,
    FaceRecord,
    Json,
    arrow_type,
    canonical_json,
    read_mapping,
)

FRAME = ("face_id", "rows", "hashes", "rejected_by", "reason", "detail")


@dataclass(frozen=True)
class AboutRow:
    """One face in the records of an "about" stage.

    Attributes:
        face_id: which face.
        columns: the stage's own columns.
        rows: array name -> row in `arrays/<name>/<shard>.npy`.
        hashes: image folder -> sha256 of the file there.
        rejected_by, reason, detail: as in `FaceRecord`.
    """

    face_id: str
    columns: Mapping[str, Json] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    rejected_by: str = ""
    reason: str = ""
    detail: str = ""

    @property
    def alive(self) -> bool:
        """The stage did not reject the face."""
        return not self.rejected_by


def join(record: FaceRecord, row: AboutRow) -> FaceRecord:
    """A record with what one stage says of it; the first rejection counts."""
    joined = replace(
        record,
        about={**record.about, **row.columns},
        rows={**record.rows, **row.rows},
        hashes={**record.hashes, **row.hashes},
    )
    if joined.alive and not row.alive:
        return replace(joined, rejected_by=row.rejected_by, reason=row.reason, detail=row.detail)
    return joined


def to_table(rows: Iterable[AboutRow], columns: Mapping[str, ColumnType]) -> Any:
    """Rows as an Arrow table: the frame and the stage's columns."""
    import pyarrow as pa

    rows = list(rows)
    values: dict[str, list[Any]] = {"face_id": [r.face_id for r in rows]}
    for name in columns:
        values[name] = [r.columns.get(name) for r in rows]
    values["rows"] = [canonical_json(dict(r.rows)) for r in rows]
    values["hashes"] = [canonical_json(dict(r.hashes)) for r in rows]
    for name in ("rejected_by", "reason", "detail"):
        values[name] = [getattr(r, name) for r in rows]
    types = {name: arrow_type(kind) for name, kind in columns.items()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in values])
    return pa.Table.from_pydict(values, schema=schema)


def check_about(stage: str, table: Any) -> None:
    """Refuse an Arrow table whose columns have other types than the stage declares.

    Args:
        stage: that wrote it; of one that the table of stages lacks only the frame is known.
        table: as `to_table` makes it.

    Raises:
        ValueError, KeyError: names the column.
    """
    import pyarrow as pa

    for name in FRAME:
        column = table.column(name)
        if column.type != pa.string() or column.null_count:
            raise ValueError(f"{name} is {column.type}")
    declared = stages.load_stage(stage).columns if stage in stages.names() else {}
    for name, kind in declared.items():
        place = table.schema.get_field_index(name)
        if place >= 0 and table.schema.field(place).type != arrow_type(kind):
            raise ValueError(f"{name} is {table.schema.field(place).type}")


def from_table(values: Mapping[str, list[Any]]) -> list[AboutRow]:
    """The inverse of `to_table`, of columns as plain lists; also of other columns than today's."""
    own = [name for name in values if name not in FRAME]
    return [
        AboutRow(
            face_id,
            {name: values[name][i] for name in own},
            read_mapping(values["rows"][i], int),
            read_mapping(values["hashes"][i], str),
            values["rejected_by"][i],
            values["reason"][i],
            values["detail"][i],
        )
        for i, face_id in enumerate(values["face_id"])
    ]
