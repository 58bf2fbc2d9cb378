"""Rows of labels from files that people and other tools write: CSV, JSON, Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sfhq.errors import IntegrityError, UsageError

READABLE = ("csv", "jsonl", "json", "parquet")
DELIMITERS = (",", ";", "\t")
ALIASES = {"filename": "file", "file_name": "file", "image": "file", "path": "file"}
LATEST = 253_402_300_800.0  # the first second of the year 10000
MOST_MILLISECONDS = 2**53

Row = dict[str, Any]  # heading in small letters -> value


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV, JSON, JSONL or Parquet file.

    CSV may be divided by comma, semicolon or tab. A JSON file is an array of objects, or one
    object a line, under either name. Capitals and spaces around headings do not matter;
    `filename`, `file_name`, `image` and `path` are read as `file`.

    Raises:
        UsageError: it is missing or of no known format.
        IntegrityError: it is damaged, or its rows are no rows.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in READABLE:
        raise UsageError(
            f"{path}: cannot tell the format; wanted a name in .csv, .jsonl, .json or .parquet"
        )
    try:
        if kind == "parquet":
            found = _parquet(path)
        else:
            text = _text(path.read_bytes())
            found = _csv(text) if kind == "csv" else _json(text)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: a folder; wanted a file") from None
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise IntegrityError(
            f"{path}: cannot be read as {kind} ({type(error).__name__}: {said})"
        ) from None
    return [_renamed(row) for row in found]


def _parquet(path: Path) -> list[Any]:
    import pyarrow.parquet as pq

    rows: list[Any] = pq.read_table(path, partitioning=None).to_pylist()
    return rows


def _text(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # "Unicode text" of Excel
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def _csv(text: str) -> list[Any]:
    heading = text.lstrip().split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=heading.count)  # the first of equals: the comma
    lines = io.StringIO(text.lstrip("\r\n"), newline="")
    rows: list[Any] = list(csv.DictReader(lines, delimiter=delimiter, strict=True))
    for number, row in enumerate(rows, start=1):
        if any(row.get(None) or ()):
            raise ValueError(f"row {number} has more cells than the heading")
    return rows


def _json(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        rows = json.loads(text)
    else:
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise ValueError(f"row {number} is {row!r:.60}; wanted an object with names")
    return list(rows)


def _renamed(row: Mapping[Any, Any]) -> Row:
    """The row with plain headings; of two that become the same, the first with a value counts."""
    found: Row = {}
    for heading, value in row.items():
        name = "_".join(str(heading).strip().lower().split())
        name = ALIASES.get(name, name)
        if found.get(name) in (None, ""):
            found[name] = value
    return found


def text_of(row: Row, name: str) -> str:
    """A cell as text without spaces around it; empty where there is none.

    Raises:
        ValueError: it holds half a character, which no file can store.
    """
    value = row.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):  # pandas' empty cell
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    text = str(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} is not text that can be stored") from None
    return text


def number_of(row: Row, name: str, least: float, most: float) -> float | None:
    """A cell as a finite number; None where it is empty. A decimal comma is read as well.

    Raises:
        ValueError: no number, or one that is not from `least` to `most`.
    """
    text = text_of(row, name)
    if not text:
        return None
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise ValueError(f"{name} is {text!r:.60}; wanted a number from {least:g} to {most:g}")
    return number


def whole_of(row: Row, name: str) -> int | None:
    """A cell as a whole number of milliseconds; None where it is empty.

    Raises:
        ValueError: no number, a negative one, or one that no clock gives.
    """
    number = number_of(row, name, 0, MOST_MILLISECONDS)
    return None if number is None else round(number)


def moment_of(row: Row, name: str) -> float | None:
    """A cell as seconds since 1970; None where it is empty.

    Takes seconds, ISO 8601 dates and times, and the timestamps of Parquet; those without a time
    zone are read as UTC.

    Raises:
        ValueError: anything else, or a time before 1970 or after 9999.
    """
    value: Any = row.get(name)
    if not isinstance(value, date):
        text = text_of(row, name)
        if not text:
            return None
        try:
            return number_of(row, name, 0, LATEST)
        except ValueError:
            try:
                value = datetime.fromisoformat(text)
            except ValueError:
                raise ValueError(
                    f"{name} is {text!r:.60}; wanted seconds since 1970 or an ISO date"
                ) from None
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    try:
        seconds = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < LATEST:
        raise ValueError(f"{name} is {value}; wanted a time from 1970 to 9999")
    return round(float(seconds), 3)
