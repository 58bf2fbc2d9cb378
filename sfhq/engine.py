"""Running stages: shards, resume, atomic writes, counts, workers.

A shard is done when its record file exists; that file is written last. A run that was killed
and is started again therefore redoes at most the shard each worker was in, and ends with the
same bytes as one that was not.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sfhq.errors import SfhqError, UsageError
from sfhq.part import Part
from sfhq.records import FaceRecord, Json
from sfhq.stage import SourceStage, Stage

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


@contextmanager
def part_lock(part: Part) -> Iterator[None]:
    """Hold a part for writing; the lock dies with the process.

    Raises:
        SfhqError: another process holds it.
    """
    path = part.root / ".lock"
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SfhqError(
                f"{part.root}: another sfhq run is writing here; wait for it or stop it"
            ) from None
        yield


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
    with part_lock(part):
        _sweep(part)
        upstream = None if isinstance(stage, SourceStage) else part.before(stage.name)
        if redo:
            part.drop_from(stage.name)
        settings = {**stage.settings(), "upstream": upstream}
        if isinstance(stage, SourceStage):
            settings["shard_size"] = shard_size
        _claim(stage, part, settings)
        if stage.scope == "part":
            _run_whole(stage, part, upstream, on_shard)
        else:
            _run_shards(stage, part, _units(stage, part, upstream, shard_size), workers, on_shard)
        counts = count_stage(part, stage.name, upstream)
        info = {"settings": settings, "complete": True, "counts": counts.to_dict()}
        part.write_stage_info(stage.name, info)
        return counts


def _sweep(part: Part) -> None:
    """Delete half-written files that a killed run left."""
    for path in part.root.rglob("*.part"):
        path.unlink(missing_ok=True)


def _claim(stage: Stage, part: Part, settings: dict[str, Json]) -> None:
    if stage.name not in part.stages():
        part.write_stage_info(stage.name, {"settings": settings, "complete": False})
        return
    before = part.stage_info(stage.name)["settings"]
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


def _units(stage: Stage, part: Part, upstream: str | None, shard_size: int) -> Iterator[_Unit]:
    if upstream is not None:
        for shard in part.shards(upstream):
            yield _Unit(shard, upstream)
        return
    assert isinstance(stage, SourceStage)
    seeds = stage.seeds(part)
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
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _limit_threads, (threads,))
    with pool:
        running: set[Future[int]] = set()
        for unit in itertools.chain(todo, [None]):
            if unit is not None:
                running.add(pool.submit(_do_unit, stage, part.root, unit))
            while running and (unit is None or len(running) > 2 * workers):
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    entered = future.result()
                    if on_shard is not None:
                        on_shard(entered)


def _limit_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def _run_whole(stage: Stage, part: Part, upstream: str | None, on_shard: OnShard | None) -> None:
    assert upstream is not None
    alive = (r for r in part.records(upstream) if r.alive)
    by_shard = itertools.groupby(stage(alive, part), key=lambda r: r.shard)
    written = set()
    for shard, group in by_shard:
        records = list(group)
        part.write_shard(stage.name, shard, records)
        written.add(shard)
        if on_shard is not None:
            on_shard(len(records))
    for shard in set(part.shards(upstream)) - written:
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
