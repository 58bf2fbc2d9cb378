"""Import a set: the photos, then everything that came with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sfhq.imports.beside import beside
from sfhq.imports.stage import LOST, Import
from sfhq.parts.part import Part
from sfhq.pipeline.counts import Counts
from sfhq.pipeline.engine import run_stage


@dataclass(frozen=True)
class Imported:
    """What an import left.

    Attributes:
        part: the part.
        counts: stage -> faces in, out and rejected.
        lost: class of the foreign maps that we lack -> (photos, pixels).
        notes: what could not be taken, in a line each.
    """

    part: Part
    counts: dict[str, Counts]
    lost: dict[str, tuple[int, int]]
    notes: list[str]


def import_set(
    stage: Import,
    root: Path,
    *,
    workers: int = 1,
    redo: bool = False,
    on_shard: Callable[[int], None] | None = None,
) -> Imported:
    """Bring a set into a part, or go on where an earlier import stopped.

    Args:
        stage: says which set.
        root: folder of the part; created.
        workers: processes.
        redo: begin anew, and drop all that was made of the photos.
        on_shard: called with the number of photos of each shard as it ends.

    Raises:
        UsageError: no photos, or the part was imported with other settings.
        IntegrityError: a file of the set is damaged; what is finished is kept.
    """
    stage.names()  # nothing is made of a folder without photos
    part = Part.create(root)
    counts = {stage.name: run_stage(stage, part, workers=workers, redo=redo, on_shard=on_shard)}
    more, notes = beside(stage, part)
    for each in more:
        counts[each.name] = run_stage(each, part, workers=workers)
    photos, pixels = Counter[str](), Counter[str]()
    for record in part.records(stage.name):
        lost = record.params.get(LOST)
        for name, number in lost.items() if record.alive and isinstance(lost, dict) else ():
            photos[name] += 1
            pixels[name] += number
    return Imported(part, counts, {n: (photos[n], pixels[n]) for n in sorted(photos)}, notes)
