"""Stages of a few lines for the engine's tests; at top level, so that workers can import them.

They take the names of real stages, because a part knows only those.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sfhq.parts.part import Part
from sfhq.parts.records import ColumnType, FaceRecord, Json
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.stage import Kind, Scope, SourceStage, Stage

SHARD_SIZE = 4
CANDIDATES = 2


def note(log: str, *words: object) -> None:
    """Append a line to a file outside the part, whole even when killed."""
    if log:
        with open(log, "ab", buffering=0) as file:
            file.write((" ".join(map(str, words)) + "\n").encode())


@dataclass(frozen=True)
class Sample(SourceStage[Any]):
    """Source: `count` faces, each with an image."""

    name: ClassVar[str] = "sample"
    images: ClassVar[tuple[str, ...]] = ("aligned",)
    count: int = 22
    log: str = ""
    sleep: float = 0.0

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        for seed in range(self.count):
            yield FaceRecord(f"face-{seed:03d}", seed=seed)

    def settings(self) -> dict[str, Json]:
        return {"count": self.count}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for place, record in enumerate(records):
            if place == 0:
                note(self.log, self.name, record.shard, os.getpid())
            time.sleep(self.sleep)
            assert record.seed is not None
            pixels = np.full((4, 4, 3), record.seed % 256, np.uint8)
            yield replace(record, source=f"ünï/{record.seed}").with_image("aligned", pixels)


@dataclass(frozen=True)
class Invert(Stage[Any]):
    """Face: two candidates of every face, an array and an image each; every fifth is refused."""

    name: ClassVar[str] = "invert"
    kind: ClassVar[Kind] = "faces"
    arrays: ClassVar[tuple[str, ...]] = ("w_plus",)
    images: ClassVar[tuple[str, ...]] = ("images",)
    strength: float = 0.5
    log: str = ""
    sleep: float = 0.0

    def settings(self) -> dict[str, Json]:
        return {"strength": self.strength}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for place, record in enumerate(records):
            if place == 0:
                note(self.log, self.name, record.shard, os.getpid())
            time.sleep(self.sleep)
            assert record.seed is not None
            if record.seed % 5 == 0:
                yield record.with_array("w_plus", np.zeros(3)).reject(
                    self.name, "no face", f"seed {record.seed}"
                )
                continue
            random = np.random.default_rng(record.seed)
            for number in range(CANDIDATES):
                made = replace(
                    record,
                    face_id=f"{record.face_id}-{number}",
                    parent_id=record.face_id,
                    psi=self.strength,
                    candidate=str(number),
                    hashes={},
                )
                values = random.standard_normal(3).astype(np.float32)
                pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                yield made.with_array("w_plus", values).with_image("images", pixels)


@dataclass(frozen=True)
class Dedup(Stage[Any]):
    """Part: refuses every candidate of a face but the first, and numbers those that stay."""

    name: ClassVar[str] = "dedup"
    scope: ClassVar[Scope] = "part"
    columns: ClassVar[Mapping[str, ColumnType]] = {"number": "integer"}
    log: str = ""
    sleep: float = 0.0

    def settings(self) -> dict[str, Json]:
        return {}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        note(self.log, self.name, "all", os.getpid())
        seen: set[str] = set()
        for record in records:
            time.sleep(self.sleep)
            if record.parent_id in seen:
                yield record.reject(self.name, "near-duplicate")
            else:
                seen.add(record.parent_id)
                yield record.with_columns(number=len(seen))


def run_all(root: Path, log: str = "", sleep: float = 0.0, workers: int = 1) -> Part:
    """The three stages, to the end."""
    part = Part.create(root, "toy")
    for stage in (Sample(log=log, sleep=sleep), Invert(log=log, sleep=sleep), Dedup(log, sleep)):
        run_stage(stage, part, workers=workers, shard_size=SHARD_SIZE)
    return part


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
