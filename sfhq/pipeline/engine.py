"""Running stages: shards, resume, atomic writes, counts, workers.

A shard is done when its record file exists; that file is written last. A run that was killed
and is started again therefore redoes at most the shard each worker was in, and ends with the
same bytes as one that was not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from typing import Any

from sfhq.errors import UsageError
from sfhq.lock import folder_lock
from sfhq.parts import lineage
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.counts import Counts, count_stage
from sfhq.pipeline.job import Job, claim, job_of
from sfhq.pipeline.shard import DoUnit, Unit
from sfhq.pipeline.stage import SourceStage, Stage
from sfhq.pipeline.workers import Batch, Engine, Local, used

SHARD_SIZE = 32
OnShard = Callable[[int], None]


def run_stage(
    stage: Stage[Any],
    part: Part,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    shard_size: int = SHARD_SIZE,
    redo: bool = False,
    on_shard: OnShard | None = None,
) -> Counts:
    """Bring a stage to its end, wherever an earlier run left it.

    A stage about faces does those that it has said nothing of yet. One that must see all faces at
    once is done again when what it read has changed. A source that has grown extends its part by
    new shards, which the stages after it then do as well.

    Args:
        stage: what to run.
        part: where.
        workers: processes that do shards at the same time; 1 stays in this process.
        engine: what does them instead, such as `sfhq.pipeline.cluster.Ray`; it writes the same
            bytes, and this process keeps the books in any case.
        shard_size: faces a shard, for stages that start a part.
        redo: delete the records of this stage and of all that read it first.
        on_shard: called with the number of faces that entered each shard as it ends.

    Raises:
        UsageError: the stage ran here with other settings, or what it reads is missing.
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}; wanted 1 or more")
    engine = engine or Local(workers)
    with folder_lock(part.root), used(engine):
        _sweep(part)
        # All checks come first: nothing is deleted or written before they have passed.
        settings = stage.settings()
        seeds = stage.seeds(part) if isinstance(stage, SourceStage) else None
        if seeds is not None:
            settings["shard_size"] = shard_size
            _refuse_second_source(stage, part)
        job = job_of(stage, part)
        stage.check(part)
        info: dict[str, Any] = {
            "kind": stage.kind,
            "settings": settings,
            "inputs": job.marks(part),
            "selected_by": job.selection(part),
            "writes": list(stage.written()),
        }
        if stage.kind == "about" and stage.scope == "part":
            info["sees"] = len(part.shards(job.faces))
        if redo:
            job.verify(part)
            lineage.drop(part, stage.name)
        done = claim(job, part, info)
        if done is not None:
            _note_passed_over(stage, part)
            _note_ended(part)
            return done
        part.upgrade()
        if stage.kind == "about" and stage.scope == "part":
            _run_whole(job, part, on_shard)
        elif seeds is not None and isinstance(stage, SourceStage):
            taken = {*part.shards(stage.name)} if stage.grows else set()
            _run_shards(job, part, _seeded(seeds, shard_size, taken), engine, on_shard)
        else:
            units = (Unit(shard) for shard in part.shards(job.faces))
            _run_shards(job, part, units, engine, on_shard)
        counts = count_stage(part, stage.name)
        size = {"shards": len(part.shards(stage.name)), "rows": part.rows_of(stage.name)}
        ended = {**info, "complete": True, **size, "counts": counts.to_dict()}
        part.write_stage_info(stage.name, ended)
        _note_passed_over(stage, part)
        _note_ended(part)
        return counts


def _note_passed_over(stage: Stage[Any], part: Part) -> None:
    """Say in `records/<stage>.json` which files a source holds that were not taken."""
    passed = stage.passed_over(part) if isinstance(stage, SourceStage) else {}
    info = part.stage_info(stage.name)
    if passed != info.get("passed_over", {}):
        part.write_stage_info(stage.name, {**info, "passed_over": passed})


def _note_ended(part: Part) -> None:
    """Let `part.json` say which stages have ended, so that a lost one is noticed."""
    complete = (s for s in part.stages() if part.stage_info(s)["complete"])
    part.write_ended([*(part.ended() or ()), *complete])


def _sweep(part: Part) -> None:
    """Delete half-written files that a killed run left."""
    for path in part.root.rglob("*.part"):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)


def _refuse_second_source(stage: Stage[Any], part: Part) -> None:
    for other in part.stages():
        if other != stage.name and part.stage_info(other)["kind"] == "source":
            raise UsageError(
                f"{part.root}: started by {other} already; give {stage.name} a new folder"
            )


def _seeded(seeds: Iterator[FaceRecord], shard_size: int, taken: Collection[int]) -> Iterator[Unit]:
    for shard in itertools.count():
        if shard in taken:
            continue
        chunk = tuple(itertools.islice(seeds, shard_size))
        if not chunk:
            return
        yield Unit(shard, chunk)


def _run_shards(
    job: Job, part: Part, units: Iterator[Unit], engine: Engine, on_shard: OnShard | None
) -> None:
    name = job.stage.name
    done = set() if job.stage.kind == "about" else set(part.shards(name))
    todo = (u for u in units if u.shard not in done)
    taken = on_shard or (lambda entered: None)
    engine.each(Batch(DoUnit(job), todo, taken, part.root, name))


def _run_whole(job: Job, part: Part, on_shard: OnShard | None) -> None:
    """Run a stage that sees all records at once; shards that are there stay."""
    stage = job.stage
    missing = [s for s in part.shards(job.faces) if s not in set(part.shards(stage.name))]
    if not missing:
        return
    ids: dict[int, int] = {}  # shard -> hash of the ids that went in

    def alive() -> Iterator[FaceRecord]:
        for shard in part.shards(job.faces):
            records = job.records(part, shard)
            ids[shard] = hash(tuple(r.face_id for r in records))
            yield from records

    last = -1
    for shard, group in itertools.groupby(stage(alive(), part), key=lambda r: r.shard):
        records = list(group)
        if shard <= last or hash(tuple(r.face_id for r in records)) != ids.get(shard):
            raise ValueError(
                f"{stage.name} yielded faces of shard {shard} after {last}; a stage of scope part "
                "must yield each face that it got once, in the order it got them"
            )
        last = shard
        if shard in missing:
            part.write_about(stage.name, shard, records, stage.columns)
            missing.remove(shard)
        if on_shard is not None:
            on_shard(len(records))
    for shard in missing:
        part.write_about(stage.name, shard, [], stage.columns)
