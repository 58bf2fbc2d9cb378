"""Ways to damage the files of a part, by kind of file."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Damage = Callable[[Path], None]
DEEP = "[" * 100_000


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path) -> None:
    """To a faultless copy outside the part."""
    root = next(p for p in path.parents if (p / "part.json").exists())
    target = root.with_name(f"{root.name}-outside-{path.name}")
    shutil.move(path, target)
    path.symlink_to(target)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


ANY: tuple[Damage, ...] = (missing, empty, cut, noise, folder, link, pipe, device)


def written(text: str) -> Damage:
    """The file holds this text instead."""

    def write(path: Path) -> None:
        path.write_text(text)

    write.__name__ = text[:8]
    return write


def wrong_types(path: Path) -> None:
    """Every value is of another type."""
    values = json.loads(path.read_text())
    path.write_text(json.dumps({k: [v] if isinstance(v, str) else "x" for k, v in values.items()}))


def not_finite(path: Path) -> None:
    """Every number, true and false, is NaN."""

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: change(v) for k, v in value.items()}
        return float("nan") if isinstance(value, int | float) else value

    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def infinite(path: Path) -> None:
    """Every number is one that no whole number holds."""
    not_finite(path)
    path.write_text(path.read_text().replace("NaN", "1e999"))


def nameless(path: Path) -> None:
    values = json.loads(path.read_text())
    for key in ("name", "kind"):
        values.pop(key, None)
    path.write_text(json.dumps(values))


JSON: tuple[Damage, ...] = (
    *(written(text) for text in ("{}", "[]", "null", DEEP, '{"a":' * 50_000)),
    *(wrong_types, not_finite, infinite, nameless),
)


def array(change: Callable[[Any], Any]) -> Damage:
    """An array that was changed and saved again."""

    def save(path: Path) -> None:
        np.save(path, change(np.load(path)))

    save.__name__ = change.__name__
    return save


def half(a: Any) -> Any:
    return a[: len(a) // 2]


def narrow(a: Any) -> Any:
    return np.ascontiguousarray(a.reshape(len(a), -1)[:, ::2])


def with_nan(a: Any) -> Any:
    a[0].flat[0] = np.nan
    return a


def zeros(a: Any) -> Any:
    return np.zeros_like(a)


def backwards(a: Any) -> Any:
    return a[::-1]


def single(a: Any) -> Any:
    return np.float32(1)


def words(a: Any) -> Any:
    return np.asarray(["x"] * len(a))


def pickled(path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray([{}], dtype=object), allow_pickle=True)
    path.write_bytes(buffer.getvalue())


def endless(path: Path) -> None:
    """A header that promises more than the file has, and than a memory holds."""
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 128)}
    np.lib.format.write_array_header_1_0(buffer, header)
    path.write_bytes(buffer.getvalue())


ARRAY: tuple[Damage, ...] = (
    *(array(f) for f in (half, narrow, with_nan, zeros, backwards, single, words)),
    *(pickled, endless),
)


def column(name: str, change: Callable[[list[Any]], pa.Array], word: str) -> Damage:
    """Records with another column, saved with all that the file said before."""

    def save(path: Path) -> None:
        table = pq.read_table(path, partitioning=None)
        place = table.schema.get_field_index(name)
        found = change(table.column(name).to_pylist())
        pq.write_table(table.set_column(place, name, found), path)

    save.__name__ = f"{name}_{word}"
    return save


def fewer_rows(path: Path) -> None:
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.slice(0, table.num_rows - 1), path)


def twice(path: Path) -> None:
    table = pq.read_table(path, partitioning=None)
    pq.write_table(pa.concat_tables([table.slice(0, 1), table.slice(0, table.num_rows - 1)]), path)


def numbers(path: Path) -> None:
    """Every column holds whole numbers."""
    table = pq.read_table(path, partitioning=None)
    pq.write_table(pa.table({n: list(range(table.num_rows)) for n in table.column_names}), path)


RECORDS: tuple[Damage, ...] = (
    *(fewer_rows, twice, numbers),
    column("rows", lambda v: pa.array(['{"embedding":-1,"landmarks_68":-1}'] * len(v)), "negative"),
    column("rows", lambda v: pa.array([DEEP] * len(v)), "deep"),
    column("rows", lambda v: pa.array(["[1]"] * len(v)), "list"),
    column("hashes", lambda v: pa.array(['{"images": 3}'] * len(v)), "number"),
    column("rejected_by", lambda v: pa.array([None] * len(v), pa.string()), "null"),
    column("face_id", lambda v: pa.array([f"../{i}" for i in range(len(v))]), "path"),
)
OUT_OF_RANGE = column(
    "rows", lambda v: pa.array(['{"embedding":999,"landmarks_68":999}'] * len(v)), "beyond"
)
