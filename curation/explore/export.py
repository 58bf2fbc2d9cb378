"""A selection as a file: ids, or all columns."""

from __future__ import annotations

from typing import Literal

import numpy as np

from curation.explore.explorer import Explorer
from curation.explore.views import View
from sfhq.errors import UsageError
from sfhq.parts.table import write_table

Kind = Literal["ids", "csv", "jsonl", "parquet"]
KINDS: dict[str, str] = {
    "ids": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


def export(explorer: Explorer, view: View, kind: str) -> bytes:
    """The faces of a view in its order, as the bytes of a file.

    Args:
        explorer: with the faces.
        view: which.
        kind: "ids", a face id a line (with several parts "part<TAB>id"); "csv", "jsonl" or
            "parquet", all columns that the explorer keeps.

    Raises:
        UsageError: another kind, or an error in the view.
    """
    import pyarrow as pa

    if kind not in KINDS:
        raise UsageError(f"export: {kind[:20]!r}; wanted: {', '.join(KINDS)}")
    order = explorer.order(view)
    cursor = explorer.faces.cursor()
    place = np.arange(len(order), dtype=np.int32)
    cursor.register("chosen", pa.table({"n": place, "at": order.astype(np.int32)}))
    columns = "face_id, part" if kind == "ids" else "faces.* EXCLUDE (i)"
    table = cursor.sql(
        f"SELECT {columns} FROM chosen JOIN faces ON faces.i = chosen.at ORDER BY n"
    ).to_arrow_table()
    if kind != "ids":
        return write_table(table, kind, None)  # type: ignore[arg-type]
    ids, parts = table.column("face_id").to_pylist(), table.column("part").to_pylist()
    several = len(explorer.faces.parts) > 1
    lines = [f"{p}\t{f}\n" if several else f"{f}\n" for f, p in zip(ids, parts, strict=True)]
    return "".join(lines).encode()
