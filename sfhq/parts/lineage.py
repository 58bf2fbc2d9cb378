"""Who read what in a part: which stages a stage depends on, and what goes when it is redone.

A stage depends on what it read, as its `records/<stage>.json` says under "inputs", and not on its
place in a list.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from sfhq import stages
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.records import COLUMNS, canonical_json

if TYPE_CHECKING:
    from sfhq.parts.part import Part


def require_found(part: Part, before: str | None = None) -> None:
    """Refuse a part that has lost what says of a stage that it ran here.

    Shards without a description are no loss where the stage is not known to have ended: a redo
    that was killed leaves them, and the next run removes them.

    Args:
        part: the part.
        before: look only at stages that come before this one in a run.

    Raises:
        IntegrityError: names the first stage that is lost.
    """
    here = part.stages()
    ended = part.ended()
    if ended is None:  # a part of an older version
        folders = (part.root / "records").glob("*/[0-9]*.parquet")
        ended = sorted({path.parent.name for path in folders}, key=stages.position)
    for name in ended:
        counts = before is None or stages.position(name) < stages.position(before)
        if name not in here and counts:
            raise IntegrityError(
                f"{part.root / 'records' / name}.json: missing, but {name} has run here; put it "
                f"back, or run: sfhq {name} {part.root}"
            )


def require_complete(part: Part, stage: str) -> None:
    """Refuse a stage that has not ended, or has lost shards or rows.

    Raises:
        UsageError: it has not ended.
        IntegrityError: other shards than it wrote, or fewer or more rows.
    """
    info = part.stage_info(stage)
    again = f"run: sfhq {stage} {part.root}"
    if not info["complete"]:
        raise UsageError(f"{part.root}: {stage} has not ended; {again}")
    found = part.shards(stage)
    if len(found) != info["shards"] or found != list(range(len(found))):
        raise IntegrityError(
            f"{part.root}: {len(found)} of {info['shards']} shards in records/{stage}; {again}"
        )
    rows = part.rows_of(stage)
    if rows != info.get("rows", rows):
        raise IntegrityError(
            f"{part.root}: {rows} of {info['rows']} rows in records/{stage}; {again} --redo"
        )


def faces_stage(part: Part, before: str | None = None) -> str:
    """The stage that says which faces there are: the last one that made faces.

    Args:
        part: the part.
        before: look only at stages that come before this one in a run.

    Raises:
        UsageError: there is none, or it has not ended.
        IntegrityError: it has lost shards.
    """
    found = [
        s
        for s in part.stages()
        if (before is None or stages.position(s) < stages.position(before))
        and part.stage_info(s)["kind"] != "about"
    ]
    if not found:
        what = "no records yet" if before is None else f"no records for {before} to read"
        raise UsageError(f"{part.root}: {what}; run: sfhq ingest SOURCE {part.root}")
    require_complete(part, found[-1])
    return found[-1]


def about_stages(part: Part, faces: str, without: Collection[str] = ()) -> list[str]:
    """Complete stages that say something about the faces of a stage, in the order of a run.

    Args:
        part: the part.
        faces: stage that made the faces.
        without: names of stages to leave out.

    Raises:
        IntegrityError: one has lost shards.
    """
    found = []
    for stage in part.stages():
        info = part.stage_info(stage)
        if stage in without or info["kind"] != "about" or not info["complete"]:
            continue
        if faces in info["inputs"]:
            require_complete(part, stage)
            found.append(stage)
    return found


def selecting(part: Part, about: Sequence[str], before: str | None) -> list[str]:
    """Of stages about faces, those that rejected some.

    Args:
        part: the part.
        about: names of stages.
        before: only stages that come before this one in a run; None for all.
    """
    return [
        s
        for s in about
        if (before is None or stages.position(s) < stages.position(before))
        and part.stage_info(s)["counts"].get("rejected")
    ]


def provider(part: Part, name: str, faces: str) -> str | None:
    """The stage that wrote a column, an array or an image folder; None where none did.

    Args:
        part: the part.
        name: of the column, array or image folder.
        faces: of "about" stages, only those about the faces of this stage count.
    """
    for stage in reversed(part.stages()):
        info = part.stage_info(stage)
        about_these = info["kind"] != "about" or faces in info["inputs"]
        if name in info["writes"] and info["complete"] and about_these:
            return stage
    return None


def writer_of(name: str) -> str | None:
    """The stage of the table that writes a name; imports stages until it is found.

    Where a source writes it as well, the other stage is meant: a part has its source already.
    """
    found = None
    for row in stages.STAGES:
        stage = stages.load_stage(row.name)
        if name in (*stage.columns, *stage.arrays, *stage.images):
            if stage.kind != "source":
                return row.name
            found = found or row.name
    return found


def require(part: Part, stage: str, names: tuple[str, ...], faces: str) -> list[str]:
    """The stages that wrote what a stage reads.

    Raises:
        UsageError: nobody did; the message says which command does.
    """
    found = []
    for name in names:
        if name in COLUMNS:
            continue
        there = provider(part, name, faces)
        if there is None:
            maker = writer_of(name)
            run = f"sfhq {maker} {part.root}" if maker else f"the stage that writes {name}"
            raise UsageError(f"{part.root}: {stage} reads {name}, which is not there; run: {run}")
        found.append(there)
    return found


def fingerprint(part: Part, stage: str) -> str:
    """What a stage's result depends on, as 16 hexadecimal digits."""
    info = part.stage_info(stage)
    text = canonical_json([info["settings"], info["inputs"]])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def readers(part: Part, stage: str) -> list[str]:
    """Stages that read what a stage wrote, directly or through others, in the order of a run."""
    found = {stage}
    for other in part.stages():  # a reader comes after what it reads
        if found & part.stage_info(other)["inputs"].keys():
            found.add(other)
    return [s for s in part.stages() if s in found and s != stage]


def outdated(part: Part, stage: str) -> list[str]:
    """Inputs of a stage that have changed since it read them; unknown for parts of format 1."""
    here = part.stages()
    return [
        name
        for name, read in part.stage_info(stage)["inputs"].items()
        if read and (name not in here or fingerprint(part, name) != read)
    ]


def drop(part: Part, stage: str) -> list[str]:
    """Delete the records of a stage and of all that read it, the last first; images stay.

    Returns:
        Names of the stages that went.
    """
    gone = [s for s in (stage, *readers(part, stage)) if s in part.stages()]
    ended = part.ended()
    if ended is not None:  # first, so that a kill leaves nothing that looks lost
        part.write_ended(name for name in ended if name not in gone)
    for name in reversed(gone):
        (part.root / "records" / f"{name}.json").unlink(missing_ok=True)
        folder = part.root / "records" / name
        if folder.exists():
            (folder / "stage.json").unlink(missing_ok=True)
            shutil.rmtree(folder)
    return gone
