"""What a stage reads in a part, and whether it may run there or has run already."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfhq import stages
from sfhq.errors import UsageError
from sfhq.parts import format1, lineage
from sfhq.parts.join import join_shard
from sfhq.parts.part import Part
from sfhq.parts.photos import require_image
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.counts import Counts
from sfhq.pipeline.stage import SourceStage, Stage


@dataclass(frozen=True)
class Job:
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

    def verify(self, part: Part) -> None:
        """Read all records that the stage will read, its arrays, and the places of its images.

        Raises:
            IntegrityError: something is damaged or missing.
        """
        needed = self.stage.needed()
        for shard in part.shards(self.faces) if self.faces else ():
            for record in self.records(part, shard):
                for name in needed:
                    if name in record.rows:
                        part.row(name, record)
                    elif name in record.hashes:
                        require_image(part, record, name)

    def marks(self, part: Part) -> dict[str, Json]:
        """Stage -> fingerprint of all that the result depends on."""
        found = {*([self.faces] if self.faces else []), *self.read}
        if self.stage.scope == "part" or self.stage.kind == "faces":
            found |= {*self.selecting}  # it depends on which faces it sees
        return {name: lineage.fingerprint(part, name) for name in sorted(found)}

    def selection(self, part: Part) -> dict[str, Json]:
        """Stage -> fingerprint of those whose rejections count."""
        return {name: lineage.fingerprint(part, name) for name in self.selecting}


def job_of(stage: Stage[Any], part: Part) -> Job:
    """What a stage reads in a part.

    Raises:
        UsageError: something that it reads is not there.
        IntegrityError: something has been lost.
    """
    lineage.require_found(part, before=stage.name)
    if stage.kind == "source":
        return Job(stage, part.root)
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
    known = lineage.about_stages(part, faces, without=own)
    selecting = lineage.selecting(part, known, stage.name if about else None)
    return Job(stage, part.root, faces, tuple(s for s in known if s in read), tuple(selecting))


def claim(job: Job, part: Part, info: dict[str, Any]) -> Counts | None:
    """Say under which settings a stage runs here; its counts where nothing is left to do.

    Raises:
        UsageError: it ran with other settings, read something else, or its source has lost images.
    """
    stage = job.stage
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
    new = _new_faces(job, part)
    if there.get("format") == 1:
        if whole and not new:
            return Counts.of(there["counts"])
        raise UsageError(
            f"{part.root}: {name} was {'made' if whole else 'begun'} by an older version"
            f"{', and there is more for it to do' if whole else ''}; "
            f"run: sfhq {name} {part.root} --redo"
        )
    one_piece = stage.kind == "about" and stage.scope == "part"
    now = info.get("sees")
    grown = one_piece and now != there.get("sees", there.get("shards", now))
    if there["inputs"] != info["inputs"] or grown:
        if one_piece:
            lineage.drop(part, name)
            part.write_stage_info(name, beginning)
            return None
        _refuse_other_inputs(stage, part, there, info)
    if whole and not new and there.get("selected_by") == info["selected_by"]:
        return Counts.of(there["counts"])
    part.write_stage_info(name, {**beginning, "inputs": {**info["inputs"], **there["inputs"]}})
    return None


def _new_faces(job: Job, part: Part) -> bool:
    """Whether there are faces that a stage has no shard of: its source has grown."""
    if isinstance(job.stage, SourceStage):
        return job.stage.more(part)
    return not {*part.shards(job.faces)} <= {*part.shards(job.stage.name)}


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
    keys = before.keys() | now.keys()
    if there.get("format") == 1:  # it wrote fewer settings; those that both know must agree
        keys = (before.keys() & now.keys()) - format1.OTHER_NOW.get(stage.name, set())
    changed = sorted(k for k in keys if before.get(k) != now.get(k))
    if changed:
        first = changed[0]
        raise UsageError(
            f"{part.root}: {stage.name} was run with {first}={before.get(first)!r}, now "
            f"{first}={now.get(first)!r}; give the same settings, another folder, or --redo"
        )
