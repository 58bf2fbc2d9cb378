"""A part as one table, a row a face: what made it and all that is said of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sfhq.errors import UsageError
from sfhq.images import write_atomic
from sfhq.parts.join import join_shard
from sfhq.parts.lineage import about_stages, faces_stage, require_found
from sfhq.parts.records import canonical_json, record_schema, to_columns

if TYPE_CHECKING:
    from sfhq.parts.part import Part
    from sfhq.parts.records import FaceRecord

Format = Literal["csv", "parquet", "jsonl"]


def part_table(part: Part) -> Any:
    """All faces of a part, rejected ones too.

    Returns:
        An Arrow table: the columns of `FaceRecord` (mappings as JSON text), `alive`, `shard`, and
        the columns of every stage that says something about the faces.

    Raises:
        UsageError: nothing has run to its end.
        IntegrityError: damaged or missing records.
    """
    import pyarrow as pa

    require_found(part)
    faces = faces_stage(part)
    about = about_stages(part, faces)
    types = about_types(part)
    schema = record_schema()
    for name, kind in (("alive", pa.bool_()), ("shard", pa.int64()), *types.items()):
        schema = schema.append(pa.field(name, kind))
    batches = [
        pa.RecordBatch.from_pydict(_columns(join_shard(part, faces, about, shard), types), schema)
        for shard in part.shards(faces)
    ]
    return pa.Table.from_batches(batches, schema)


def joint_types(parts: Sequence[Part], advice: str) -> dict[str, Any]:
    """Column -> Arrow type of what stages say about the faces of all parts.

    Args:
        parts: in any order.
        advice: what to do where they do not agree, for the message.

    Raises:
        UsageError: two parts have a column of one name and different types.
    """
    found: dict[str, Any] = {}
    for part in parts:
        for name, kind in about_types(part).items():
            if found.setdefault(name, kind) != kind:
                raise UsageError(
                    f"{part.root}: its column {name} holds {kind}, that of another part "
                    f"{found[name]}; {advice}"
                )
    return found


def about_types(part: Part) -> dict[str, Any]:
    """Column -> Arrow type of what stages say about the faces, as their files hold it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[str, Any] = {}
    for stage in about_stages(part, faces_stage(part)):
        info = part.stage_info(stage)
        for shard in part.shards(stage)[:1]:
            schema = pq.read_schema(part.shard_path(stage, shard))
            for name in info["writes"]:
                if name in schema.names:
                    types[name] = schema.field(name).type
                elif info.get("format") == 1 and stage == "score":
                    types[name] = pa.string() if name == "taste" else pa.float64()
    return types


def _columns(records: list[FaceRecord], types: dict[str, Any]) -> dict[str, list[Any]]:
    columns = to_columns(records)
    columns["alive"] = [r.alive for r in records]
    columns["shard"] = [r.shard for r in records]
    for name in types:
        columns[name] = [r.about.get(name) for r in records]
    return columns


def query(part: Part, columns: str | None = None, where: str | None = None) -> Any:
    """Rows of a part's table, chosen by SQL.

    Args:
        part: the part.
        columns: SQL expressions separated by commas; None for all columns.
        where: an SQL condition; None for all faces, rejected ones too.

    Returns:
        An Arrow table.

    Raises:
        UsageError: SQL that DuckDB does not understand; the message is DuckDB's.
    """
    import duckdb

    table = part_table(part)
    sql = f"SELECT {columns or '*'} FROM faces" + (f" WHERE {where}" if where else "")
    config: dict[str, Any] = {"enable_external_access": "false", "threads": "2"}
    try:
        with duckdb.connect(":memory:", config=config) as connection:
            connection.register("faces", table)
            return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{first}; the columns are: {', '.join(table.column_names)}") from None


def write_table(table: Any, file_format: Format, target: Path | None) -> bytes:
    """A table as the bytes of a file, written to `target` where one is given.

    Args:
        table: an Arrow table.
        file_format: "csv", "parquet" or "jsonl".
        target: file to write, or None.
    """
    data = _encode(table, file_format)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, data)
    return data


def _encode(table: Any, file_format: Format) -> bytes:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    if file_format == "parquet":
        pq.write_table(table, buffer, compression="zstd")
    elif file_format == "jsonl":
        for row in table.to_pylist():
            buffer.write(canonical_json(row).encode() + b"\n")
    else:
        flat = {
            name: [None if v is None else canonical_json(v) for v in column.to_pylist()]
            if pa.types.is_nested(column.type)
            else column
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
        pyarrow.csv.write_csv(pa.table(flat), buffer)
    return buffer.getvalue()
