"""A selection as a file, ids or all columns, or as a part of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from curation.explore.explorer import Explorer
from curation.explore.newpart import write_part
from curation.explore.views import View
from sfhq.errors import UsageError
from sfhq.parts.records import Json
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


def new_part(explorer: Explorer, view: View, folder: Path, name: str) -> dict[str, Json]:
    """The faces of a view as a part of their own; see `write_part`.

    Args:
        explorer: with the faces.
        view: which; all of one part.
        folder: where the new part is made.
        name: of the new part and its folder.

    Returns:
        `part`, its folder, and `faces`, how many were chosen.

    Raises:
        UsageError: faces of several parts, no faces, or a name that cannot be.
        IntegrityError: a part that is damaged, or has changed meanwhile.
    """
    faces, order = explorer.faces, explorer.order(view)
    numbers = sorted({int(n) for n in faces.part_of[order]})
    if len(numbers) > 1:
        raise UsageError(
            f"new part: the faces are of {' and '.join(faces.names[n] for n in numbers)}, and a "
            "part holds faces of one; filter by part, or export ids"
        )
    # The name is checked as a path's last element: a separator in it leads nowhere else.
    if Path(name).name != name:
        raise UsageError(f"new part: {name[:80]!r} is no name for one; wanted letters and digits")
    source = faces.parts[numbers[0] if numbers else 0]
    made = write_part(source, [faces.face_id(int(i)) for i in order], folder / name)
    return {"part": str(made.root), "faces": len(order)}
