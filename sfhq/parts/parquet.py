"""Parquet in memory, read by the thread that asks.

Arrow's threads may still hold Python's bytes when the interpreter ends, and then the process is
aborted or hangs (apache/arrow#33975, #50482). Shards are small; other threads would not help.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def column_names(data: bytes) -> list[str]:
    """Names of the columns of a Parquet file.

    Args:
        data: the file's content.
    """
    with _opened(data) as file:
        names: list[str] = file.schema_arrow.names
    return names


def table_of(data: bytes, columns: Sequence[str] | None = None) -> Any:
    """A Parquet file as an Arrow table, its pages checked by their checksums.

    Args:
        data: the file's content.
        columns: names of the columns to read; None for all.

    Raises:
        Exception: it is damaged; Arrow's own errors.
    """
    with _opened(data) as file:
        return file.read(columns=None if columns is None else [*columns], use_threads=False)


def _opened(data: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True)
