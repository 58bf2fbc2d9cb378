"""Running stages: shards, resume, atomic writes, counts, workers.

A shard is done when its record file exists; that file is written last. A run that was killed
and is started again therefore redoes at most the shard each worker was in, and ends with the
same bytes as one that was not.
"""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sfhq.errors import SfhqError, UsageError
from sfhq.lock import folder_lock
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.stage import SourceStage, Stage
from sfhq.pipeline.workers import die_with_parent

SHARD_SIZE = 32
OnShard = Callable[[int], None]


@dataclass
class Counts:
    """How many faces entered a stage, left it alive, and why the others did not.

    Attributes:
        entered: faces that came in alive.
        alive: faces that left alive; a stage that makes candidates raises the number.
        rejected: reason -> number.
    """

    entered: int = 0
    alive: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, entered: int, records: Iterable[FaceRecord]) -> None:
        """Count one shard."""
        self.entered += entered
        for record in records:
            if record.alive:
                self.alive += 1
            else:
                self.rejected[record.reason] += 1

    def to_dict(self) -> dict[str, Json]:
        """The counts as JSON can hold them."""
        return {
            "entered": self.entered,
            "alive": self.alive,
            "rejected": dict(sorted(self.rejected.items())),
        }


def run_stage(
    stage: Stage,
    part: Part,
    *,
    workers: int = 1,
    shard_size: int = SHARD_SIZE,
    redo: bool = False,
    on_shard: OnShard | None = None,
) -> Counts:
    """Bring a stage to its end, wherever an earlier run left it.

    Args:
        stage: what to run.
        part: where.
        workers: processes that do shards at the same time; 1 stays in this process.
        shard_size: faces a shard, for stages that start a part.
        redo: delete the records of this stage and of all after it first.
        on_shard: called with the number of faces that entered each shard as it ends.

    Raises:
        UsageError: the stage ran here with other settings, or what it reads is missing.
    """
    with folder_lock(part.root):
        _sweep(part)
        upstream = None if isinstance(stage, SourceStage) else part.before(stage.name)
        # Before anything is deleted or claimed: a source that is not there says so here.
        seeds = stage.seeds(part) if isinstance(stage, SourceStage) else None
        if redo:
            part.drop_from(stage.name)
        settings = {**stage.settings(), "upstream": upstream}
        if isinstance(stage, SourceStage):
            settings["shard_size"] = shard_size
        _claim(stage, part, settings)
        if stage.scope == "part":
            _run_whole(stage, part, upstream, on_shard)
        else:
            _run_shards(stage, part, _units(part, upstream, seeds, shard_size), workers, on_shard)
        counts = count_stage(part, stage.name, upstream)
        info = {
            "settings": settings,
            "complete": True,
            "shards": len(part.shards(stage.name)),
            "counts": counts.to_dict(),
        }
        part.write_stage_info(stage.name, info)
        return counts


def _sweep(part: Part) -> None:
    """Delete half-written files that a killed run left."""
    for path in part.root.rglob("*.part"):
        path.unlink(missing_ok=True)


def _claim(stage: Stage, part: Part, settings: dict[str, Json]) -> None:
    if settings["upstream"] is None:
        for other in part.stages():
            if other != stage.name and part.stage_info(other)["settings"]["upstream"] is None:
                raise UsageError(
                    f"{part.root}: started by {other} already; give {stage.name} a new folder"
                )
    if stage.name not in part.stages():
        # Shards without a stage.json are what a redo left that was killed: of other settings.
        shutil.rmtree(part.root / "records" / stage.name, ignore_errors=True)
        part.write_stage_info(stage.name, {"settings": settings, "complete": False})
        return
    info = part.stage_info(stage.name)
    before = info["settings"]
    if not info["complete"] and not part.shards(stage.name) and before != settings:
        # A run that failed before its first shard has settled nothing.
        part.write_stage_info(stage.name, {"settings": settings, "complete": False})
        return
    changed = sorted(k for k in before.keys() | settings.keys() if before.get(k) != settings.get(k))
    if changed:
        first = changed[0]
        raise UsageError(
            f"{part.root}: {stage.name} was run with {first}={before.get(first)!r}, now "
            f"{first}={settings.get(first)!r}; give the same settings, another folder, or --redo"
        )


@dataclass(frozen=True)
class _Unit:
    """One shard's work: records to start from, or the upstream shard to read them from."""

    shard: int
    upstream: str | None
    seeds: tuple[FaceRecord, ...] = ()

    def records(self, part: Part) -> list[FaceRecord]:
        if self.upstream is None:
            return [replace(r, shard=self.shard) for r in self.seeds]
        return [r for r in part.read_shard(self.upstream, self.shard) if r.alive]


def _units(
    part: Part, upstream: str | None, seeds: Iterator[FaceRecord] | None, shard_size: int
) -> Iterator[_Unit]:
    if seeds is None:
        assert upstream is not None
        for shard in part.shards(upstream):
            yield _Unit(shard, upstream)
        return
    for shard in itertools.count():
        chunk = tuple(itertools.islice(seeds, shard_size))
        if not chunk:
            return
        yield _Unit(shard, None, chunk)


def _do_unit(stage: Stage, root: Path, unit: _Unit) -> int:
    part = Part(root)
    records = unit.records(part)
    part.write_shard(stage.name, unit.shard, list(stage(records, part)))
    return len(records)


def _run_shards(
    stage: Stage, part: Part, units: Iterator[_Unit], workers: int, on_shard: OnShard | None
) -> None:
    done = set(part.shards(stage.name))
    todo = (u for u in units if u.shard not in done)
    if workers <= 1:
        for unit in todo:
            entered = _do_unit(stage, part.root, unit)
            if on_shard is not None:
                on_shard(entered)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    work = pickle.dumps((stage, part.root))  # once a worker, not once a shard: it holds networks
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (work, threads))
    running: set[Future[int]] = set()
    ends: Iterator[_Unit | None] = itertools.chain(todo, [None])
    try:
        for each in ends:
            if each is not None:
                running.add(pool.submit(_do_unit_in_worker, each))
            while running and (each is None or len(running) > 2 * workers):
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    entered = future.result()
                    if on_shard is not None:
                        on_shard(entered)
    except BrokenProcessPool:
        raise SfhqError(
            f"{part.root}: a worker of {stage.name} died, for want of memory perhaps; "
            "run it again, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_worker_job: tuple[Stage, Path] | None = None


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
    return _do_unit(*_worker_job, unit)


def _run_whole(stage: Stage, part: Part, upstream: str | None, on_shard: OnShard | None) -> None:
    assert upstream is not None
    missing = set(part.shards(upstream)) - set(part.shards(stage.name))
    if not missing:
        return
    alive = (r for r in part.records(upstream) if r.alive)
    last = -1
    for shard, group in itertools.groupby(stage(alive, part), key=lambda r: r.shard):
        if shard <= last:
            raise ValueError(
                f"{stage.name} yielded shard {shard} after {last}; a stage of scope part must "
                "yield records in the order it got them, with their shard"
            )
        last = shard
        records = list(group)
        if shard in missing:
            part.write_shard(stage.name, shard, records)
            missing.remove(shard)
        if on_shard is not None:
            on_shard(len(records))
    for shard in sorted(missing):
        part.write_shard(stage.name, shard, [])


def count_stage(part: Part, stage: str, upstream: str | None) -> Counts:
    """Count a finished stage from its records."""
    counts = Counts()
    for shard in part.shards(stage):
        records = part.read_shard(stage, shard)
        entered = len(records)
        if upstream is not None:
            entered = sum(r.alive for r in part.read_shard(upstream, shard))
        counts.add(entered, records)
    return counts


def funnel(part: Part) -> list[dict[str, Any]]:
    """For each stage that has run: name, whether it ended, and its counts."""
    rows = []
    for stage in part.stages():
        info = part.stage_info(stage)
        rows.append({"stage": stage, "complete": info["complete"], **info.get("counts", {})})
    return rows
