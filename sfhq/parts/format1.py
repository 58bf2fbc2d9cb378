"""Parts as sfhq 0.1.0 wrote them: every stage copied whole records onward.

Their records read as today's: column names are translated, and of the stages that say something
about faces only their own columns are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfhq.parts.about import AboutRow
from sfhq.parts.records import FaceRecord

SOURCES = ("ingest", "sample", "render")
FACES = ("align", "invert", "synthesize")
ABOUT = ("embed", "score", "dedup")
# Settings whose meaning is another now: they say how the face was found, too.
OTHER_NOW = {"embed": {"digest", "features"}}
WRITES = {  # stage -> names of arrays, columns and image folders; features_* are found on disk
    "align": ("landmarks", "transform", "aligned"),
    "invert": ("inverted",),
    "synthesize": ("w_plus", "images", "prior_distance"),
    "sample": ("w_plus", "images", "prior_distance"),
    "render": ("render_landmarks", "renders", "art", "segmentations", "bare", "covers"),
    "embed": ("embedding",),
    "score": ("score", "taste"),
}


def translated(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns of whole records under today's names."""
    found = dict(columns)
    if "realism" in found:
        found["prior_distance"] = found.pop("realism")
    found.pop("score", None)
    return found


def translated_record(record: FaceRecord) -> FaceRecord:
    """A record without what other columns hold today: a rendered head's style was `candidate`."""
    if "style" in record.params and record.candidate == record.params["style"]:
        from dataclasses import replace

        return replace(record, candidate="")
    return record


def about_rows(stage: str, records: list[FaceRecord], scores: list[float | None]) -> list[AboutRow]:
    """What a stage added to whole records.

    Args:
        stage: "embed", "score" or "dedup".
        records: as they were stored.
        scores: their column `score`.
    """
    rows = []
    for record, score in zip(records, scores, strict=True):
        columns: dict[str, Any] = {}
        if stage == "score":
            columns = {"score": score, "taste": record.params.get("taste")}
        arrays = record.rows if stage == "embed" else {}
        rows.append(
            AboutRow(
                record.face_id,
                columns,
                {k: v for k, v in arrays.items() if k.startswith(("embedding", "features_"))},
                {},
                record.rejected_by,
                record.reason,
                record.detail,
            )
        )
    return rows


def stage_info(info: dict[str, Any], stage: str, chain: list[str]) -> dict[str, Any]:
    """What today's `records/<stage>.json` would say.

    Args:
        info: content of the old `records/<stage>/stage.json`.
        stage: its name.
        chain: stages of the part that stood before it, in order.
    """
    settings = {k: v for k, v in info["settings"].items() if k != "upstream"}
    kind = "about" if stage in ABOUT else "source" if stage in SOURCES else "faces"
    faces = [s for s in chain if s in (*SOURCES, *FACES)]
    inputs = dict.fromkeys(faces[-1:], "")
    if stage in ("score", "dedup"):
        inputs |= {s: "" for s in chain if s in ABOUT}
    return {
        **info,
        "format": 1,
        "kind": kind,
        "settings": settings,
        "inputs": inputs,
        "writes": list(WRITES.get(stage, ())),
    }
