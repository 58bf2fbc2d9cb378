"""Running stages: shards, resume, atomic writes, counts, workers.

A shard is done when its record file exists; that file is written last. A run that was killed
and is started again therefore redoes at most the shard each worker was in, and ends with the
same bytes as one that was not.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from sfhq.errors import SfhqError, UsageError
from sfhq.lock import folder_lock
from sfhq.parts import lineage
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.counts import Counts, count_stage
from sfhq.pipeline.job import Job, claim, job_of
from sfhq.pipeline.stage import SourceStage, Stage
from sfhq.pipeline.workers import die_with_parent, kill_workers, unheard_by_workers

SHARD_SIZE = 32
OnShard = Callable[[int], None]


def run_stage(
    stage: Stage[Any],
    part: Part,
    *,
    workers: int = 1,
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
        shard_size: faces a shard, for stages that start a part.
        redo: delete the records of this stage and of all that read it first.
        on_shard: called with the number of faces that entered each shard as it ends.

    Raises:
        UsageError: the stage ran here with other settings, or what it reads is missing.
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}; wanted 1 or more")
    with folder_lock(part.root):
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
            _run_shards(job, part, _seeded(seeds, shard_size, taken), workers, on_shard)
        else:
            units = (_Unit(shard) for shard in part.shards(job.faces))
            _run_shards(job, part, units, workers, on_shard)
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


@dataclass(frozen=True)
class _Unit:
    """One shard's work, with the records that a source starts it from."""

    shard: int
    seeds: tuple[FaceRecord, ...] = ()


def _seeded(
    seeds: Iterator[FaceRecord], shard_size: int, taken: Collection[int]
) -> Iterator[_Unit]:
    for shard in itertools.count():
        if shard in taken:
            continue
        chunk = tuple(itertools.islice(seeds, shard_size))
        if not chunk:
            return
        yield _Unit(shard, chunk)


def _do_unit(job: Job, unit: _Unit) -> int:
    part, stage = Part(job.root), job.stage
    if stage.kind == "source":
        records = [replace(r, shard=unit.shard) for r in unit.seeds]
    else:
        records = job.records(part, unit.shard)
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


def _run_shards(
    job: Job, part: Part, units: Iterator[_Unit], workers: int, on_shard: OnShard | None
) -> None:
    name = job.stage.name
    done = set() if job.stage.kind == "about" else set(part.shards(name))
    todo = (u for u in units if u.shard not in done)
    if workers <= 1:
        for unit in todo:
            entered = _do_unit(job, unit)
            if on_shard is not None:
                on_shard(entered)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    work = pickle.dumps(job)  # once a worker, not once a shard: it holds networks
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (work, threads))
    running: set[Future[int]] = set()
    ends: Iterator[_Unit | None] = itertools.chain(todo, [None])
    try:
        for each in ends:
            if each is not None:
                with unheard_by_workers():
                    running.add(pool.submit(_do_unit_in_worker, each))
            while running and (each is None or len(running) > 2 * workers):
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    entered = future.result()
                    if on_shard is not None:
                        on_shard(entered)
    except BrokenProcessPool:
        raise SfhqError(
            f"{part.root}: a worker of {name} died, perhaps because memory ran out; "
            "run it again, with fewer --workers"
        ) from None
    except KeyboardInterrupt:
        kill_workers(pool)  # what they were in is done again; nothing half-written counts
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_worker_job: Job | None = None


def _start_worker(work: bytes, threads: int) -> None:
    """Prepare a worker: die with the parent, share the cores, unpack the stage."""
    from threadpoolctl import threadpool_limits

    die_with_parent()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries that are yet to be loaded
    global _worker_job
    _worker_job = pickle.loads(work)
    threadpool_limits(threads)  # for those that are
    if "torch" in sys.modules:  # not every stage needs it
        import torch

        torch.set_num_threads(threads)


def _do_unit_in_worker(unit: _Unit) -> int:
    assert _worker_job is not None
    return _do_unit(_worker_job, unit)


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
