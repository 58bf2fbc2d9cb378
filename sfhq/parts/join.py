"""Records of faces with all that stages say about them, shard by shard."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sfhq.errors import IntegrityError
from sfhq.parts.about import join
from sfhq.parts.lineage import about_stages, faces_stage, require_complete, require_found
from sfhq.parts.records import FaceRecord

if TYPE_CHECKING:
    from sfhq.parts.part import Part


def join_shard(part: Part, faces: str, about: Sequence[str], shard: int) -> list[FaceRecord]:
    """One shard of faces with what some stages say of them.

    Args:
        part: the part.
        faces: stage that made the faces.
        about: stages that say something about them.
        shard: number of the shard.

    Raises:
        IntegrityError: damaged records.
    """
    records = part.read_shard(faces, shard)
    for stage in about:
        if not os.path.lexists(part.shard_path(stage, shard)):
            continue
        rows = {row.face_id: row for row in part.read_about(stage, shard)}
        records = [join(r, rows[r.face_id]) if r.face_id in rows else r for r in records]
    return records


def joined(part: Part) -> Iterator[FaceRecord]:
    """All faces of a part with all that is said of them, rejected ones too.

    Raises:
        UsageError: nothing has run to its end.
        IntegrityError: damaged or missing records.
    """
    require_found(part)
    faces = faces_stage(part)
    about = about_stages(part, faces)
    for shard in part.shards(faces):
        yield from join_shard(part, faces, about, shard)


def count_left(part: Part) -> int:
    """Number of faces that no stage rejected; reads records only where two stages rejected some.

    Raises:
        UsageError: nothing has run to its end.
        IntegrityError: damaged or missing records.
    """
    faces = faces_stage(part)
    rejected: list[int] = [
        sum(part.stage_info(stage)["counts"]["rejected"].values())
        for stage in about_stages(part, faces)
    ]
    if sum(1 for count in rejected if count) > 1:  # both may have rejected the same faces
        return sum(r.alive for r in joined(part))
    alive: int = part.stage_info(faces)["counts"]["alive"]
    return alive - sum(rejected)


def history(part: Part, stage: str) -> Iterator[FaceRecord]:
    """The faces that a stage has records of, as it left them: with its own rejections only.

    Raises:
        IntegrityError: damaged records, or rows of faces that do not exist.
    """
    info = part.stage_info(stage)
    if info["complete"]:
        require_complete(part, stage)
    if info["kind"] != "about":
        yield from part.records(stage)
        return
    faces = next((s for s in info["inputs"] if part.stage_info(s)["kind"] != "about"), "")
    for shard in part.shards(stage):
        records = {r.face_id: r for r in part.read_shard(faces, shard)}
        for row in part.read_about(stage, shard):
            if row.face_id not in records:
                raise IntegrityError(
                    f"{part.shard_path(stage, shard)}: no face {row.face_id} in records/{faces}; "
                    f"run: sfhq {stage} {part.root} --redo"
                )
            yield join(records[row.face_id], row)
