"""What the engine's own bookkeeping costs: records without images, from 10^5 to 10^7.

    python benchmarks/scale.py --counts 100000 1000000 10000000

A source writes N records, a stage about faces gives each a score, one that sees all faces at once
refuses every seventh. All three then run again, with nothing to do. The stages compute next to
nothing, so what is measured is the engine: records, shards, checks, fingerprints, counts. Each N
runs in a process of its own, of which the peak of the resident memory is told.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sfhq.parts.part import Part
from sfhq.parts.records import ColumnType, FaceRecord, Json
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.stage import Scope, SourceStage, Stage

SHARD_SIZE = 1000


@dataclass(frozen=True)
class Sample(SourceStage[Any]):
    """Source: `count` records with a seed."""

    name: ClassVar[str] = "sample"
    count: int = 0

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        return (FaceRecord(f"f{seed:09d}", seed=seed) for seed in range(self.count))

    def settings(self) -> dict[str, Json]:
        return {"count": self.count}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        yield from records


@dataclass(frozen=True)
class Score(Stage[Any]):
    """About: a number a face."""

    name: ClassVar[str] = "score"
    columns: ClassVar[Mapping[str, ColumnType]] = {"score": "number"}

    def settings(self) -> dict[str, Json]:
        return {}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for record in records:
            yield record.with_columns(score=(record.seed or 0) % 1000 / 1000)


@dataclass(frozen=True)
class Dedup(Stage[Any]):
    """About the whole part: refuses every seventh face."""

    name: ClassVar[str] = "dedup"
    scope: ClassVar[Scope] = "part"
    reads: ClassVar[tuple[str, ...]] = ("score",)

    def settings(self) -> dict[str, Json]:
        return {}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for number, record in enumerate(records):
            yield record.reject(self.name, "seventh") if number % 7 == 6 else record


def measure(root: Path, count: int, shard_size: int) -> dict[str, Any]:
    """Run the three stages, then again; seconds of each, and the peak of memory."""
    part = Part.create(root)
    stages: tuple[Stage[Any], ...] = (Sample(count=count), Score(), Dedup())
    row: dict[str, Any] = {"records": count, "shards": -(-count // shard_size)}
    for stage in stages:
        began = time.perf_counter()
        counts = run_stage(stage, part, shard_size=shard_size)
        row[stage.name] = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{stage.name}: {row[stage.name]:.0f} s, peak {peak:.0f} MB", file=sys.stderr)
        assert counts.entered == count, counts
    assert counts.alive == count - count // 7, counts
    began = time.perf_counter()
    for stage in stages:
        assert run_stage(stage, part, shard_size=shard_size).entered == count
    row["again"] = time.perf_counter() - began
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row["disk_mb"] = sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) / 2**20
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--shard-size", type=int, default=SHARD_SIZE)
    parser.add_argument("--folder", type=Path, help="Where to write; emptied afterwards.")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.counts[0], given.shard_size)))
        return
    for count in given.counts:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            load = os.getloadavg()[0]
            command = [sys.executable, __file__, "--one", f"{folder}/part", "--counts", str(count)]
            command += ["--shard-size", str(given.shard_size)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(done.stdout)
        million = count / 1e6
        each = ", ".join(f"{k} {row[k] / million:.1f}" for k in ("sample", "score", "dedup"))
        print(
            f"{count:>9,} records in {row['shards']:,} shards: seconds a million: {each}, "
            f"again {row['again'] / million:.1f}; peak {row['peak_mb']:.0f} MB; "
            f"disk {row['disk_mb']:.0f} MB; load before {load:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
