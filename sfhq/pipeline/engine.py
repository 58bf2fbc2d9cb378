"""Running stages: shards, resume, atomic writes, counts, workers.

A shard is done when its record file exists; that file is written last. A run that was killed
and is started again therefore redoes at most the shard each worker was in, and ends with the
same bytes as one that was not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
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
LEAST_SHARD_SIZE, WORKERS = 8, 4  # of a small part, and who may share it
OnShard = Callable[[int], None]


def run_stage(
    stage: Stage[Any],
    part: Part,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    shard_size: int | None = None,
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
        shard_size: faces a shard, for stages that start a part; None for `usual_shard_size`, or
            for that of the part's other shards.
        redo: delete the records of this stage and of all that read it first.
        on_shard: called with the number of faces that entered each shard as it ends.

    Raises:
        UsageError: the stage ran here with other settings, or what it reads is missing.
    """
    return run_together(
        [stage],
        part,
        workers=workers,
        engine=engine,
        shard_size=shard_size,
        redo=redo,
        on_shard=on_shard,
    )[0]


def run_together(
    row: Sequence[Stage[Any]],
    part: Part,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    shard_size: int | None = None,
    redo: bool = False,
    on_shard: OnShard | None = None,
) -> list[Counts]:
    """Bring several stages to their ends at once; the bytes are those of one after the other.

    Face by face each of them says what it has to say, so a network that all of them ask
    (`Stage.asks`) is asked once.

    Args:
        row: stages about single faces, of which none reads or hides what another one writes; or
            one stage of any kind.
        part, workers, engine, shard_size, on_shard: see `run_stage`.
        redo: delete the records of the first stage and of all that read it first.

    Returns:
        The counts of each stage.

    Raises:
        UsageError: as `run_stage`.
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}; wanted 1 or more")
    engine = engine or Local(workers)
    with folder_lock(part.root), used(engine):
        _sweep(part)
        # All checks come first: nothing is deleted or written before they have passed.
        begun = [_begun(s, part, shard_size, redo and s is row[0]) for s in row]
        todo = [one for one in begun if one.done is None]
        if todo:
            part.upgrade()
            _do(todo, part, engine, on_shard)
        counts = [_ended(one, part) if one.done is None else one.done for one in begun]
        for stage in row:
            _note_passed_over(stage, part)
        _note_ended(part)
        return counts


@dataclass(frozen=True)
class _Begun:
    """A stage that may run here: what it reads, what its description says, what is left to do.

    Attributes:
        job: the stage in the part.
        info: its description.
        size: faces of each new shard, of a source.
        seeds: of a source.
        done: its counts, where nothing is left to do.
    """

    job: Job
    info: dict[str, Any]
    size: int
    seeds: Iterator[FaceRecord] | None
    done: Counts | None


def _begun(stage: Stage[Any], part: Part, shard_size: int | None, redo: bool) -> _Begun:
    settings, size = stage.settings(), 0
    seeds = stage.seeds(part) if isinstance(stage, SourceStage) else None
    if seeds is not None:
        known = stage.name in part.stages()  # a growing source has no seeds before it is dropped
        size = shard_size or (known and part.stage_info(stage.name)["settings"].get("shard_size"))
        if not size:
            first = [*itertools.islice(seeds, WORKERS * SHARD_SIZE)]
            size, seeds = usual_shard_size(len(first)), itertools.chain(first, seeds)
        settings["shard_size"] = size
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
    return _Begun(job, info, size, seeds, claim(job, part, info))


def _do(todo: list[_Begun], part: Part, engine: Engine, on_shard: OnShard | None) -> None:
    """Do what is left of stages: of one, or of several that say something about single faces."""
    first, jobs = todo[0], [one.job for one in todo]
    stage, faces = first.job.stage, first.job.faces
    if stage.kind == "about" and stage.scope == "part":
        _run_whole(first.job, part, on_shard)
    elif first.seeds is not None and isinstance(stage, SourceStage):
        taken = {*part.shards(stage.name)} if stage.grows else set()
        units = _seeded(first.seeds, first.size, taken)
        _run_shards(jobs, part, units, engine, on_shard)
    else:
        _run_shards(jobs, part, (Unit(s) for s in part.shards(faces)), engine, on_shard)


def _ended(one: _Begun, part: Part) -> Counts:
    name = one.job.stage.name
    counts = count_stage(part, name)
    size = {"shards": len(part.shards(name)), "rows": part.rows_of(name)}
    part.write_stage_info(name, {**one.info, "complete": True, **size, "counts": counts.to_dict()})
    return counts


def usual_shard_size(count: int) -> int:
    """Faces a shard of a part that starts with `count`: 32; fewer, down to 8, where there are few,
    so that several workers have something to do.
    """
    return min(max(-(-count // WORKERS), LEAST_SHARD_SIZE), SHARD_SIZE)


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
    jobs: list[Job], part: Part, units: Iterator[Unit], engine: Engine, on_shard: OnShard | None
) -> None:
    name = "+".join(job.stage.name for job in jobs)
    done = set() if jobs[0].stage.kind == "about" else set(part.shards(name))
    todo = (u for u in units if u.shard not in done)
    taken = on_shard or (lambda entered: None)
    engine.each(Batch(DoUnit(tuple(jobs)), todo, taken, part.root, name))


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
