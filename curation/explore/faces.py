"""All that is known of one face: its columns, its family, what can be drawn of it."""

from __future__ import annotations

import math
from typing import Any

from curation.explore.explorer import Explorer
from curation.explore.pictures import Pictures
from sfhq.parts.records import COLUMNS, Json

LINEAGE = (
    *("face_id", "parent_id", "source", "source_sha256", "licence", "provenance", "candidate"),
    *("seed", "psi", "prior_distance", "rejected_by", "reason", "detail", "params"),
)
MOST_FAMILY = 64


def details(explorer: Explorer, pictures: Pictures, i: int) -> dict[str, Json]:
    """One face for the page.

    Returns:
        `face` as a card of the grid; `lineage` and `about`, lists of (name, value); `captions`;
        `layers`; `family`, the cards of all faces of the same parent, itself included; `similar`,
        whether more like it can be found.

    Raises:
        UsageError: no face has that number.
        IntegrityError: damaged records.
    """
    faces = explorer.faces
    record = faces.record(i)
    family: list[int] = [i]
    if record.parent_id:
        rows = faces.rows(
            "SELECT i FROM faces WHERE parent_id = ? AND part = ? ORDER BY i LIMIT ?",
            [record.parent_id, faces.names[int(faces.part_of[i])], MOST_FAMILY],
        )
        family = [int(row[0]) for row in rows]
    lineage = [(name, _plain(getattr(record, name))) for name in LINEAGE]
    lineage += [(f"sha256 of {k}", v) for k, v in sorted(record.hashes.items())]
    captions = record.about.get("captions") or [record.about.get("caption")]
    return {
        "face": explorer.cards([i])[0],
        "lineage": [(k, v) for k, v in lineage if v not in (None, "", {})],
        "about": [
            (k, _plain(v))
            for k, v in record.about.items()
            if k not in COLUMNS and not k.startswith("caption") and v not in (None, "")
        ],
        "captions": [c for c in captions if c],
        "layers": pictures.layers(i),
        "family": explorer.cards(family),
        "similar": bool(faces.vectors) and bool(faces.vectors.has[i]),
    }


def _plain(value: Any) -> Json:
    """A value that JSON has: no number that is not finite, no tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "items"):
        return {k: _plain(v) for k, v in value.items()}
    return value
