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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sfhq import stages
from sfhq.errors import SfhqError, UsageError
from sfhq.lock import folder_lock
from sfhq.parts import lineage
from sfhq.parts.about import AboutRow
from sfhq.parts.join import history, join_shard
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

    def add(self, entered: int, records: Iterable[FaceRecord | AboutRow]) -> None:
        """Count one shard."""
        self.entered += entered
        for record in records:
            if record.alive:
                self.alive += 1
            else:
                self.rejected[record.reason] += 1

    @classmethod
    def of(cls, values: Mapping[str, Json]) -> Counts:
        """The inverse of `to_dict`."""
        return cls(int(values["entered"]), int(values["alive"]), Counter(values["rejected"]))

    def to_dict(self) -> dict[str, Json]:
        """The counts as JSON can hold them."""
        return {
            "entered": self.entered,
            "alive": self.alive,
            "rejected": dict(sorted(self.rejected.items())),
        }


@dataclass(frozen=True)
class _Job:
    """A stage in a part: what it reads, as plain values that travel to workers.

    Attributes:
        stage: to run.
        root: of the part.
        faces: stage whose records it reads; "" of a source.
        read: stages that say something about those faces and that it reads.
        selecting: stages whose rejections it does not get to see.
    """

    stage: Stage[Any]
    root: Path
    faces: str = ""
    read: tuple[str, ...] = ()
    selecting: tuple[str, ...] = ()

    def records(self, part: Part, shard: int) -> list[FaceRecord]:
        """The living records of a shard; of a stage that makes faces without what others say."""
        if self.stage.kind == "about":
            about = sorted({*self.read, *self.selecting}, key=stages.position)
            return [r for r in join_shard(part, self.faces, about, shard) if r.alive]
        records = part.read_shard(self.faces, shard)
        joined = join_shard(part, self.faces, self.selecting, shard) if self.selecting else records
        return [r for r, j in zip(records, joined, strict=True) if j.alive]

    def marks(self, part: Part) -> dict[str, Json]:
        """Stage -> fingerprint of all that the result depends on."""
        found = {*([self.faces] if self.faces else []), *self.read}
        if self.stage.scope == "part" or self.stage.kind == "faces":
            found |= {*self.selecting}  # it depends on which faces it sees
        return {name: lineage.fingerprint(part, name) for name in sorted(found)}

    def selection(self, part: Part) -> dict[str, Json]:
        """Stage -> fingerprint of those whose rejections count."""
        return {name: lineage.fingerprint(part, name) for name in self.selecting}


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
    once is done again when what it read has changed.

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
        # Before anything is deleted or claimed: whatever is wrong says so here.
        settings = stage.settings()
        seeds = stage.seeds(part) if isinstance(stage, SourceStage) else None
        if seeds is not None:
            settings["shard_size"] = shard_size
            _refuse_second_source(stage, part)
        job = _job(stage, part)
        stage.check(part)
        info: dict[str, Any] = {
            "kind": stage.kind,
            "settings": settings,
            "inputs": job.marks(part),
            "selected_by": job.selection(part),
            "writes": list(stage.written()),
        }
        if redo:
            lineage.drop(part, stage.name)
        part.upgrade()
        done = _claim(stage, part, info)
        if done is not None:
            return done
        if stage.kind == "about" and stage.scope == "part":
            _run_whole(job, part, on_shard)
        elif seeds is not None:
            _run_shards(job, part, _seeded(seeds, shard_size), workers, on_shard)
        else:
            units = (_Unit(shard) for shard in part.shards(job.faces))
            _run_shards(job, part, units, workers, on_shard)
        counts = count_stage(part, stage.name)
        shards = len(part.shards(stage.name))
        ended = {**info, "complete": True, "shards": shards, "counts": counts.to_dict()}
        part.write_stage_info(stage.name, ended)
        return counts


def _sweep(part: Part) -> None:
    """Delete half-written files that a killed run left."""
    for path in part.root.rglob("*.part"):
        path.unlink(missing_ok=True)


def _refuse_second_source(stage: Stage[Any], part: Part) -> None:
    for other in part.stages():
        if other != stage.name and part.stage_info(other)["kind"] == "source":
            raise UsageError(
                f"{part.root}: started by {other} already; give {stage.name} a new folder"
            )


def _job(stage: Stage[Any], part: Part) -> _Job:
    """What a stage reads in a part.

    Raises:
        UsageError: something that it reads is not there.
    """
    if stage.kind == "source":
        return _Job(stage, part.root)
    about = stage.kind == "about"
    faces = lineage.faces_stage(part, None if about else stage.name)
    read = set(lineage.require(part, stage.name, stage.needed(), faces))
    own = {stage.name}
    if stage.name in part.stages():
        own |= {*lineage.readers(part, stage.name)}
    for name in stage.wants:
        there = lineage.provider(part, name, faces)
        if there is not None and there not in own:
            read.add(there)
    known = lineage.about_stages(part, faces, besides=own)
    selecting = lineage.selecting(part, known, stage.name if about else None)
    return _Job(stage, part.root, faces, tuple(s for s in known if s in read), tuple(selecting))


def _claim(stage: Stage[Any], part: Part, info: dict[str, Any]) -> Counts | None:
    """Say under which settings a stage runs here; its counts where nothing is left to do.

    Raises:
        UsageError: it ran with other settings, or read something else.
    """
    name, beginning = stage.name, {**info, "complete": False}
    if name not in part.stages():
        # Shards without a description are what a redo left that was killed: of other settings.
        shutil.rmtree(part.root / "records" / name, ignore_errors=True)
        part.write_stage_info(name, beginning)
        return None
    there = part.stage_info(name)
    if not there["complete"] and not part.shards(name):
        # A run that failed before its first shard has settled nothing.
        part.write_stage_info(name, beginning)
        return None
    _refuse_other_settings(stage, part, there, info)
    whole = there["complete"] and len(part.shards(name)) == there["shards"]
    if there.get("format") == 1:
        if whole:
            return Counts.of(there["counts"])
        raise UsageError(
            f"{part.root}: {name} was begun by an older version; "
            f"run: sfhq {name} {part.root} --redo"
        )
    if there["inputs"] != info["inputs"]:
        if stage.kind == "about" and stage.scope == "part":
            lineage.drop(part, name)
            part.write_stage_info(name, beginning)
            return None
        _refuse_other_inputs(stage, part, there, info)
    if whole and there.get("selected_by") == info["selected_by"]:
        return Counts.of(there["counts"])
    part.write_stage_info(name, {**beginning, "inputs": {**info["inputs"], **there["inputs"]}})
    return None


def _refuse_other_inputs(
    stage: Stage[Any], part: Part, there: dict[str, Any], info: dict[str, Any]
) -> None:
    """Refuse to go on where something that was read is another now, or gone."""
    for name, mark in there["inputs"].items():
        if info["inputs"].get(name) != mark:
            raise UsageError(
                f"{part.root}: {stage.name} read {name} as it was before; "
                f"run: sfhq {stage.name} {part.root} --redo"
            )


def _refuse_other_settings(
    stage: Stage[Any], part: Part, there: dict[str, Any], info: dict[str, Any]
) -> None:
    before, now = there["settings"], info["settings"]
    # An older version wrote fewer settings; those that both know must agree.
    keys = before.keys() & now.keys() if there.get("format") == 1 else before.keys() | now.keys()
    changed = sorted(k for k in keys if before.get(k) != now.get(k))
    if changed:
        first = changed[0]
        raise UsageError(
            f"{part.root}: {stage.name} was run with {first}={before.get(first)!r}, now "
            f"{first}={now.get(first)!r}; give the same settings, another folder, or --redo"
        )


@dataclass(frozen=True)
class _Unit:
    """One shard's work, with the records that a source starts it from."""

    shard: int
    seeds: tuple[FaceRecord, ...] = ()


def _seeded(seeds: Iterator[FaceRecord], shard_size: int) -> Iterator[_Unit]:
    for shard in itertools.count():
        chunk = tuple(itertools.islice(seeds, shard_size))
        if not chunk:
            return
        yield _Unit(shard, chunk)


def _do_unit(job: _Job, unit: _Unit) -> int:
    part, stage = Part(job.root), job.stage
    if stage.kind == "source":
        records = [replace(r, shard=unit.shard) for r in unit.seeds]
    else:
        records = job.records(part, unit.shard)
    if stage.kind != "about":
        part.write_shard(stage.name, unit.shard, list(stage(records, part)))
        return len(records)
    there = part.shard_path(stage.name, unit.shard).is_file()
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
    job: _Job, part: Part, units: Iterator[_Unit], workers: int, on_shard: OnShard | None
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
    finally:
        pool.shutdown(cancel_futures=True)


_worker_job: _Job | None = None


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


def _run_whole(job: _Job, part: Part, on_shard: OnShard | None) -> None:
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


def count_stage(part: Part, stage: str) -> Counts:
    """Count a finished stage from its records."""
    counts = Counts()
    info = part.stage_info(stage)
    if info["kind"] == "about":
        for shard in part.shards(stage):
            rows = part.read_about(stage, shard)
            counts.add(len(rows), rows)
        return counts
    faces = next((s for s in info["inputs"] if part.stage_info(s)["kind"] != "about"), "")
    selecting = [s for s in info["inputs"] if s != faces]
    for shard in part.shards(stage):
        records = part.read_shard(stage, shard)
        entered = len(records)
        if faces:
            entered = sum(r.alive for r in join_shard(part, faces, selecting, shard))
        counts.add(entered, records)
    return counts


def funnel(part: Part) -> list[dict[str, Any]]:
    """For each stage that has run: name, whether it ended, counts, and inputs that have changed."""
    rows = []
    for stage in part.stages():
        info = part.stage_info(stage)
        rows.append(
            {
                "stage": stage,
                "complete": info["complete"],
                "outdated": lineage.outdated(part, stage),
                **info.get("counts", {}),
            }
        )
    return rows


def rejections(part: Part, stage: str) -> Iterator[FaceRecord]:
    """The faces that a stage refused, as it left them."""
    return (r for r in history(part, stage) if not r.alive)
