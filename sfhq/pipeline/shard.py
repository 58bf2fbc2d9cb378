"""One shard's work: the same code, whichever process of whichever machine does it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
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
    """Does shards: reads what the stages read, calls them, and writes what they said.

    Attributes:
        jobs: a stage and what it reads; or several stages about the same faces, which go through
            them in step.
    """

    jobs: tuple[Job, ...]

    def __call__(self, unit: Unit) -> int:
        """Do one shard; how many faces entered it."""
        part = Part(self.jobs[0].root)
        if self.jobs[0].stage.kind != "about":
            return _make_faces(self.jobs[0], part, unit)
        given = [_unsaid(job, part, unit.shard) for job in self.jobs]
        todo = [(job.stage, records) for job, records in zip(self.jobs, given, strict=True)]
        for (stage, records), said in zip(todo, _in_step(todo, part), strict=True):
            if records or not os.path.lexists(part.shard_path(stage.name, unit.shard)):
                _write_about(stage, part, unit.shard, records, said)
        return max(len(records) for records in given)


def _make_faces(job: Job, part: Part, unit: Unit) -> int:
    stage = job.stage
    if stage.kind == "source":
        records = [replace(r, shard=unit.shard) for r in unit.seeds]
    else:
        records = job.records(part, unit.shard)
    part.write_shard(stage.name, unit.shard, list(stage(records, part)))
    return len(records)


def _unsaid(job: Job, part: Part, shard: int) -> list[FaceRecord]:
    """The faces of a shard of which a stage has said nothing."""
    records, name = job.records(part, shard), job.stage.name
    if not os.path.lexists(part.shard_path(name, shard)):
        return records
    known = {row.face_id for row in part.read_about(name, shard)}
    return [r for r in records if r.face_id not in known]


def _in_step(
    todo: Sequence[tuple[Stage[Any], list[FaceRecord]]], part: Part
) -> list[list[FaceRecord]]:
    """What stages say of their faces; each face goes to all of them before the next one does."""
    answers = [iter(stage(records, part)) for stage, records in todo]
    said: list[list[FaceRecord]] = [[] for _ in answers]
    for row in itertools.zip_longest(*answers):
        for found, record in zip(said, row, strict=True):
            if record is not None:
                found.append(record)
    return said


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
