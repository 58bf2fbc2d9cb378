"""A part with all that an export can hold, small and made without networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny import finish, finish_about, tiny_pixels, unit

from sfhq.export.choose import Choice
from sfhq.export.formats.table import format_of
from sfhq.export.job import About
from sfhq.export.sfhq_layout import Exported
from sfhq.export.whole import export_as
from sfhq.parts.part import Part
from sfhq.parts.records import Array, FaceRecord, Pixels

COUNT, SIZE = 24, 64
ABOUT = About(title="Faces of a test", id="me/test-faces", licence="CC0-1.0", date="2026-11-27")


def mask_of(index: int, size: int = SIZE) -> Pixels:
    """A map with skin, hair and one class more."""
    ids = np.zeros((size, size), np.uint8)
    ids[8:, 8:-8] = 17
    ids[16:, 16:-16] = 1
    ids[40:44, 28:36] = 11 + index % 3
    return ids


def points_of(index: int) -> Array:
    """(110, 5) points; some are hidden and one is missing."""
    rng = np.random.default_rng(index)
    rows = np.zeros((110, 5), np.float32)
    rows[:, :2] = rng.uniform(4, SIZE - 4, (110, 2))
    rows[:, 2] = rng.integers(1, 3, 110)
    rows[index, 2] = 0
    return rows


def rich_part(root: Path, count: int = COUNT, name: str | None = None, seed: int = 2) -> Part:
    """Pairs of candidates of one parent, with maps, points, vectors, captions and labels.

    Photos 0 and 2 have vectors of one face; the last photo has no caption and no map.
    """
    part = Part.create(root, name)
    pixels = tiny_pixels(count, SIZE, seed)
    records = [
        FaceRecord(
            f"f{i:04d}",
            parent_id=f"p{i // 2:04d}",
            source=f"art/{i // 2}.png",
            source_sha256=f"{i // 2 + seed * 1000:064x}",
            licence="CC0-1.0",
            provenance="painted for a test",
            candidate=("strict", "low")[i % 2],
            seed=i,
            psi=0.5,
            params={"ladder": [0.85, 0.5], "quote": 'a "b", c\nd'},
            prior_distance=i / 7,
        )
        for i in range(count)
    ]

    def shards(rows: list[FaceRecord]) -> list[list[FaceRecord]]:
        return [rows[i : i + 8] for i in range(0, count, 8)]

    made = [r.with_image("images", p) for r, p in zip(records, pixels, strict=True)]
    finish(part, "synthesize", shards(made))
    bare = [FaceRecord(r.face_id) for r in records]
    vectors = unit(np.random.default_rng(seed).standard_normal((count, 16)))
    vectors[2] = vectors[0]
    embedded = [r.with_array("embedding", v) for r, v in zip(bare, vectors, strict=True)]
    finish_about(part, "embed", shards(embedded), encoder="dlib-face", digest="0" * 64)
    parsed = [
        r.with_image("segmentations", mask_of(i)) if i < count - 1 else r
        for i, r in enumerate(bare)
    ]
    finish_about(part, "parse", shards(parsed))
    pointed = [r.with_array("landmarks_110", points_of(i)) for i, r in enumerate(bare)]
    finish_about(part, "landmark", shards(pointed))
    said = [
        r.with_columns(
            caption=None if i == count - 1 else f"a face, number {i}",
            captions=[] if i == count - 1 else [f"a face, number {i}", "another way to say it"],
        )
        for i, r in enumerate(bare)
    ]
    finish_about(part, "caption", shards(said), {"caption": "text", "captions": "texts"})
    return part


def export(
    form: str, parts: Part | list[Part], target: Path, **how: object
) -> tuple[Exported, Choice]:
    """Export with all that any format asks for."""
    given = parts if isinstance(parts, list) else [parts]
    settings = {"name": "T", "about": ABOUT, **how}
    return export_as(format_of(form), given, target, **settings)  # type: ignore[arg-type]
