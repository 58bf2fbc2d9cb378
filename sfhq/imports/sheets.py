"""Sheets of labels: CSV, JSON lines and Parquet, a row a photo."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sfhq.errors import IntegrityError
from sfhq.parts.files import why
from sfhq.parts.records import ColumnType, Json, canonical_json

MOST_CELL = 10**6  # characters
MOST_BYTES = 2**31  # of a sheet


def read_sheet(path: Path, key: str) -> dict[str, dict[str, Json]]:
    """The rows of a sheet by one of its columns, which is among them no more.

    Raises:
        IntegrityError: damaged, without that column, or with a photo twice.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES:,} bytes")
        found: dict[str, dict[str, Json]] = {}
        for number, row in enumerate(_rows(path), 1):
            name = row.pop(key, None)
            if not isinstance(name, str) or not name:
                raise ValueError(f"row {number} has no {key}")
            if name in found:
                raise ValueError(f"two rows for {name}")
            found[name] = row
        return found
    except Exception as error:  # pyarrow has many
        raise IntegrityError(
            f"{path}: cannot be read as a sheet with a column {key} ({why(error)}); mend it, or "
            "move it away"
        ) from None


def _rows(path: Path) -> Iterator[dict[str, Json]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                yield from ({k: _plain(v) for k, v in row.items()} for row in batch.to_pylist())
        return
    with open(path, encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".csv":
            csv.field_size_limit(MOST_CELL)
            for row in csv.DictReader(file):
                if None in row or None in row.values():
                    raise ValueError("rows of different lengths")
                yield {k: v if v != "" else None for k, v in row.items()}
            return
        for line in file:
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("a line that is no table")
                yield row


def _plain(value: Any) -> Json:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)


def typed(rows: Iterable[dict[str, Json]]) -> dict[str, ColumnType]:
    """Column -> the type that holds all its values; columns without any value are left out.

    Texts that are all numbers, as in CSV, are numbers.
    """
    seen: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                seen.setdefault(name, set()).add(_kind(value))
    return {name: _type(kinds) for name, kinds in seen.items()}


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int):
        return "integer" if abs(value) < 2**63 else "text"
    if isinstance(value, float):
        return "number"
    if isinstance(value, list):
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
            return "numbers"
        return "texts" if all(isinstance(v, str) for v in value) else "text"
    if isinstance(value, str):
        for kind, read in (("integer", int), ("number", float)):
            try:
                read(value)
            except ValueError:
                continue
            return kind if value.strip() == value and not value.startswith("0x") else "text"
    return "text"


def _type(kinds: set[str]) -> ColumnType:
    words: tuple[ColumnType, ...] = ("flag", "integer", "numbers", "texts")
    for word in words:
        if kinds == {word}:
            return word
    return "number" if kinds <= {"integer", "number"} else "text"


def as_type(value: Json, kind: ColumnType) -> Json:
    """A value as its column holds it."""
    if value is None:
        return None
    if kind == "integer":
        return int(value)
    if kind == "number":
        return float(value)
    if kind == "numbers":
        return [float(v) for v in value]
    if kind == "text" and not isinstance(value, str):
        return canonical_json(value)
    return value
