"""Export parts in a format: piece by piece, so that a killed run goes on where it was.

A piece is a shard, or some photos of a folder. `export.pieces` lists those that are finished; at
the end come what the format puts around them, `manifest.parquet` and `manifest.csv` with a row a
photo, and SHA256SUMS.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from sfhq.errors import UsageError
from sfhq.export.choose import Choice, choose
from sfhq.export.files import Written, append, digest_of_file, writing
from sfhq.export.item import Look, items
from sfhq.export.job import About, Format, Job
from sfhq.export.manifest import write_manifest
from sfhq.export.sfhq_layout import NAME, Exported, sample_folders
from sfhq.export.splits import Shares
from sfhq.export.target import PIECES, SUMS, Place, claimed, read_sums
from sfhq.lock import folder_lock
from sfhq.parts.part import Part

REVISION = 1  # raised when the same settings give other files


def export_as(
    form: Format,
    parts: Sequence[Part],
    target: Path,
    *,
    name: str,
    look: Look | None = None,
    shares: Shares | None = None,
    about: About | None = None,
    shard: int = 480_000_000,
    rejected: bool = False,
    samples: Sequence[int] = (),
    replace: bool = False,
    on_image: Callable[[], None] = lambda: None,
) -> tuple[Exported, Choice]:
    """Write the photos that stayed, or go on where an earlier export stopped.

    Args:
        form: of `sfhq.export.formats.table`.
        parts: one or several.
        target: folder to write; created.
        name: prefix of the photos' names.
        look: format and size of the photos.
        shares: of the splits.
        about: title, id and licence.
        shard: most bytes of a file that holds many photos.
        rejected: also photos that people rejected.
        samples: numbers of photos; each gives a folder with copies of so many.
        replace: write an export of other settings anew, in the place of the one there.
        on_image: called after each photo.

    Raises:
        UsageError: the target holds something else, or the format lacks a setting.
        IntegrityError: something in a part is missing or damaged; what is finished is kept.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"name {name!r}: wanted letters, digits, dot, dash and underscore")
    look, shares, about = look or Look(), shares or Shares(), about or About()
    with ExitStack() as held:
        for part in parts:
            if os.access(part.root, os.W_OK):
                held.enter_context(folder_lock(part.root))
        choice = choose(parts, name, shares=shares, rejected=rejected)
        form.check(Job(choice, look, about, target, shard))
        identity = {
            "format": form.name,
            "layout": REVISION,
            **choice.identity(),
            "look": [look.image_format, look.quality, look.size],
            "about": [about.title, about.id, about.licence, about.date],
            "shard": shard,
            "samples": sorted({*samples}),
        }
        place = held.enter_context(claimed(target, identity, "export", replace))
        job = Job(choice, look, about, place.folder, shard)
        if place.folder == place.final and _whole(place):
            return Exported(target, len(choice), 0, choice.left_out), choice
        written = _write(form, job, on_image)
        sums = _samples(job, samples)
        if form.photos:
            sums |= write_manifest(job, form.points_in_manifest)
        sums |= form.finish(job, sums)
        _end(place, job, sums)
    return Exported(target, len(choice), written, choice.left_out), choice


def _whole(place: Place) -> bool:
    """Whether a finished export lies here, with every file as it was written."""
    known = read_sums(place.folder / SUMS)
    for path, digest in known.items():
        found = digest_of_file(place.folder / path)
        if found is None or found.sha256 != digest:
            return False
    if known:
        (place.folder / PIECES).unlink(missing_ok=True)
    return bool(known)


def _write(form: Format, job: Job, on_image: Callable[[], None]) -> int:
    """Write all pieces that are not there; the number of photos in them."""
    done = _kept(job)
    path, written = job.folder / PIECES, 0
    for split in job.choice.names():
        kept = done.get(split, [])
        ready = sum(kept)
        left = items(job.choice, split, job.look)
        for _ in itertools.islice(left, ready):
            on_image()
        for number in itertools.count(len(kept)):
            first = next(left, None)
            if first is None:
                break
            piece = form.piece(job, split, number, itertools.chain([first], left))
            append(path, piece.line())
            written += len(piece.entries)
            for _ in piece.entries:
                on_image()
    return written


def _kept(job: Job) -> dict[str, list[int]]:
    """Split -> photos in each finished piece; the list is cut where a piece was lost or changed."""
    path, kept = job.folder / PIECES, dict[str, list[int]]()
    lost = set[str]()
    with writing(path) as anew:
        for piece in job.pieces() if path.is_file() else ():
            known = kept.setdefault(piece.split, [])
            sound = piece.split not in lost and piece.number == len(known)
            if sound and all(digest_of_file(job.folder / p) == w for p, w in piece.files.items()):
                anew.text(piece.line())
                known.append(len(piece.entries))
            else:
                lost.add(piece.split)
    return kept


def _samples(job: Job, wanted: Sequence[int]) -> dict[str, Written]:
    """Copies of some photos, spread evenly."""
    folders = sample_folders(sorted({*wanted}), len(job.choice))
    sums: dict[str, Written] = {}
    if not folders:
        return sums
    for split in job.choice.names():
        for item in items(job.choice, split, job.look):
            number = int(item.face.key[-8:])
            for folder, members in folders.items():
                if number in members:
                    data, suffix, _ = item.photo
                    path = f"{folder}/{item.face.key}.{suffix}"
                    with writing(job.folder / path) as file:
                        file.write(data)
                    sums[path] = file.written()
    return sums


def _end(place: Place, job: Job, sums: dict[str, Written]) -> None:
    """Write SHA256SUMS, and put the export in its place."""
    with writing(job.folder / SUMS) as file:
        for split in job.choice.names():
            for piece in (p for p in job.pieces() if p.split == split):
                for path, written in piece.files.items():
                    file.text(f"{written.sha256}  {path}\n")
        for path, written in sorted(sums.items()):
            file.text(f"{written.sha256}  {path}\n")
    (job.folder / PIECES).unlink()
    place.settle()
