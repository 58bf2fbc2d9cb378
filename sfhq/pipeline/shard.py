"""One shard's work: the same code, whichever process of whichever machine does it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.job import Job
from sfhq.pipeline.stage import Stage


@dataclass(frozen=True)
class Unit:
    """One shard's work, with the records that a source starts it from."""

    shard: int
    seeds: tuple[FaceRecord, ...] = ()


@dataclass(frozen=True)
class DoUnit:
    """Does shards of a job: reads what the stage reads, calls it, and writes what it said.

    Attributes:
        job: the stage and what it reads.
    """

    job: Job

    def __call__(self, unit: Unit) -> int:
        """Do one shard; how many faces entered it."""
        part, stage = Part(self.job.root), self.job.stage
        if stage.kind == "source":
            records = [replace(r, shard=unit.shard) for r in unit.seeds]
        else:
            records = self.job.records(part, unit.shard)
        if stage.kind != "about":
            part.write_shard(stage.name, unit.shard, list(stage(records, part)))
            return len(records)
        there = os.path.lexists(part.shard_path(stage.name, unit.shard))
        if there:
            known = {row.face_id for row in part.read_about(stage.name, unit.shard)}
            records = [r for r in records if r.face_id not in known]
        if records or not there:
            _write_about(stage, part, unit.shard, records, list(stage(records, part)))
        return len(records)


def _write_about(
    stage: Stage[Any],
    part: Part,
    shard: int,
    given: list[FaceRecord],
    done: list[FaceRecord],
) -> None:
    """Write what a stage said, once it has said something of each face and nothing else.

    Raises:
        ValueError: it yielded other faces, or wrote what it did not declare; the stage is wrong.
    """
    if [r.face_id for r in done] != [r.face_id for r in given]:
        raise ValueError(
            f"{stage.name} must yield each face that it got once, in the order it got them"
        )
    for record in done:
        extra = {*record.columns, *record.arrays, *record.images} - {*stage.written()}
        if extra:
            raise ValueError(f"{stage.name} wrote {', '.join(sorted(extra))}, undeclared")
    part.write_about(stage.name, shard, done, stage.columns)
