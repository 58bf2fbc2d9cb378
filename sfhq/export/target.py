"""The folder of an export: who may write there, what is finished, and how it is replaced.

`export.json` says what is exported and with which settings. `export.progress` lists the files that
are done while an export is under way; SHA256SUMS is written last and takes its place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sfhq.errors import IntegrityError, UsageError
from sfhq.export.face_files import LAYOUT
from sfhq.images import write_atomic
from sfhq.parts.archive import is_unsafe
from sfhq.parts.records import Json

DESCRIPTION, PROGRESS, SUMS = "export.json", "export.progress", "SHA256SUMS"
PIECES = "export.pieces"  # of formats other than SFHQ's: the pieces that are finished
MANIFESTS = ("manifest.parquet", "manifest.csv")
OWN = (DESCRIPTION, PROGRESS, PIECES, SUMS, *MANIFESTS)
SAMPLE = re.compile(r"sample \(\d+ images?\)")  # name of a folder with a few of the photos
RUN = "run"  # what `sfhq run` writes under "by"


@dataclass(frozen=True)
class Place:
    """Where an export is written.

    Attributes:
        folder: the files go here.
        final: and this is where they end; another folder while an export is replaced.
        known: path -> sha256 of files that an earlier run finished there.
    """

    folder: Path
    final: Path
    known: dict[str, str]

    def add(self, digests: dict[str, str]) -> None:
        """Note files that are finished."""
        with open(self.folder / PROGRESS, "a", encoding="utf-8") as file:
            file.write("".join(f"{digest}  {path}\n" for path, digest in digests.items()))

    def finish(self, digests: dict[str, str]) -> None:
        """Write SHA256SUMS, and put the export in its place."""
        lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
        write_atomic(self.folder / SUMS, lines.encode())
        (self.folder / PROGRESS).unlink(missing_ok=True)
        self.settle()

    def settle(self) -> None:
        """Put a finished export in its place."""
        if self.folder != self.final:
            _swap(self.folder, self.final)


@contextmanager
def claimed(target: Path, identity: dict[str, Json], by: str, replace: bool) -> Iterator[Place]:
    """A place for an export: the target, or a folder beside it where it replaces another export.

    Where an error ends the export before it wrote a file, nothing of it is left.

    Args:
        target: folder to write; created.
        identity: what is exported and how; an export of the same goes on.
        by: the command that exports. A run replaces the export of an earlier run.
        replace: replace an export of other settings.

    Raises:
        UsageError: the target holds another export, or something that is no export.
        IntegrityError: its description is damaged.
    """
    target = target.resolve()
    old = target.with_name(target.name + ".old")
    if not target.exists() and (old / DESCRIPTION).is_file():
        old.rename(target)  # a swap was stopped half-way
    before = _description(target)
    folder = target
    if before is not None and not _same(before, identity):
        mine = by == RUN and before.get("by", RUN) == RUN
        if not (replace or mine or _unfinished(target)):
            raise UsageError(
                f"{target}: holds an export of other settings; give another folder, or replace it "
                "with: sfhq export --replace"
            )
        folder = target.with_name(target.name + ".new")
        beside = _description(folder)
        if beside is not None and not _same(beside, identity):
            if not _unfinished(folder):
                raise UsageError(f"{folder}: in the way; move this export elsewhere")
            _remove_own(folder)
            beside = None
        before = beside
    there = folder.is_dir()
    if before is None:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**identity, "by": by}, sort_keys=True, indent=1)
        write_atomic(folder / DESCRIPTION, f"{text}\n".encode())
    place = Place(folder, target, read_sums(folder / SUMS) | read_sums(folder / PROGRESS))
    try:
        yield place
    except Exception:
        begun = (folder / PROGRESS).exists() or _in_pieces(folder)
        if before is None and not begun:
            _remove_own(folder)
            if not there:
                with suppress(OSError):
                    folder.rmdir()
        raise


def _description(folder: Path) -> dict[str, Json] | None:
    """What `export.json` says; None where the folder is empty or missing."""
    path = folder / DESCRIPTION
    if path.is_file():
        try:
            found = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise IntegrityError(f"{path}: damaged; export to another folder")
        return found
    # A run that was killed in its first moment leaves half of the description.
    if folder.is_dir() and any(p.name != f"{DESCRIPTION}.part" for p in folder.iterdir()):
        raise UsageError(f"{folder}: not empty and not an export; give a new folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: a file; give a folder")
    return None


def _same(before: dict[str, Json], identity: dict[str, Json]) -> bool:
    return {k: v for k, v in before.items() if k != "by"} == identity


def _unfinished(folder: Path) -> bool:
    """Whether an export stopped before its end; it has promised nothing to anybody yet."""
    return not any((folder / name).exists() for name in (SUMS, *MANIFESTS))


def read_sums(path: Path) -> dict[str, str]:
    """Relative path -> sha256, of a file of such lines; of a torn line nothing."""
    if not path.is_file():
        return {}
    lines = (line.split("  ", 1) for line in path.read_text(errors="replace").splitlines())
    return {line[1]: line[0] for line in lines if len(line) == 2 and len(line[0]) == 64}


def _own_files(folder: Path) -> set[Path]:
    """The files below a folder that an export wrote there: by its lists and by its names."""
    listed = {*read_sums(folder / SUMS), *read_sums(folder / PROGRESS), *_in_pieces(folder)}
    try:
        name = str((_description(folder) or {}).get("name", ""))
    except (UsageError, IntegrityError):
        name = ""
    named = re.compile(re.escape(name) + r"_\d{8}\.(jpg|png|npz|pickle)(\.part)?")
    found = {folder / own for own in (*OWN, *(f"{own}.part" for own in OWN))}
    found |= {folder / path for path in listed if not is_unsafe(path)}
    if (folder / PIECES).exists():  # what of a piece was written before a kill is listed nowhere
        photo = rf"{re.escape(name)}_\d{{8}}\.(jpg|png|webp)(\.part)?"
        shard = r"(train|validation|test)-\d{5}\.(tar|parquet)(\.part)?"
        begun = re.compile(f"{photo}|{shard}")
        found |= {path for path in folder.rglob("*") if begun.fullmatch(path.name)}
    for inner in folder.iterdir():
        if inner.is_dir() and (inner.name in LAYOUT or SAMPLE.search(inner.name)):
            found |= {
                path
                for path in inner.iterdir()
                if f"{inner.name}/{path.name}" in listed or named.fullmatch(path.name)
            }
    return {path for path in found if path.is_file() or path.is_symlink()}


def _in_pieces(folder: Path) -> set[str]:
    """The files of the pieces that are finished."""
    path = folder / PIECES
    found = set[str]()
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        with suppress(ValueError, TypeError, LookupError):
            found |= {*json.loads(line)[3]}
    return found


def _remove_own(folder: Path) -> None:
    """Delete what an export wrote, and folders that are then empty; nothing else."""
    own = _own_files(folder)
    for path in own:
        path.unlink(missing_ok=True)
    above = {p for path in own for p in path.parents if p != folder and folder in p.parents}
    above |= {p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()}
    _remove_empty(sorted(above, reverse=True))


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty
            folder.rmdir()


def _swap(new: Path, final: Path) -> None:
    """Put a finished export in the place of another; files of others go along into the new one."""
    own = _own_files(final)
    ours = {folder for path in own for folder in path.parents}
    for path in sorted(p for p in final.rglob("*") if p not in own and p not in ours):
        moved = new / path.relative_to(final)
        if path.is_dir() and not path.is_symlink():
            if any(path.iterdir()) and path.name not in LAYOUT and not SAMPLE.search(path.name):
                moved.mkdir(parents=True, exist_ok=True)
        elif not moved.exists() and not moved.is_symlink():
            moved.parent.mkdir(parents=True, exist_ok=True)
            path.rename(moved)
    old = final.with_name(final.name + ".old")
    number = 1
    while old.exists():
        number += 1
        old = final.with_name(f"{final.name}.old{number}")
    final.rename(old)
    new.rename(final)
    _remove_own(old)
    deepest = sorted((p for p in old.rglob("*") if p.is_dir()), reverse=True)
    _remove_empty([*deepest, old])


def digest_of(path: Path) -> str:
    """sha256 of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
