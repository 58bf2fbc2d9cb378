"""Counts of stages: how many faces came in, how many are left, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sfhq.parts import lineage
from sfhq.parts.about import AboutRow
from sfhq.parts.join import history, join_shard
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json


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
    lineage.require_found(part)
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
