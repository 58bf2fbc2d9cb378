"""The cache of weights that others trained: what is in it, and how a file gets into it.

A file lies at `models/<name>/<file>` under the cache, beside a record of where it came from and
what its digest is. Nothing here ever unpickles a file, and nothing imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sfhq.errors import DiskFull, IntegrityError, SfhqError, UsageError
from sfhq.images import write_atomic
from sfhq.lock import file_lock
from sfhq.weights.places import home, hugging_face_hub, model_path, places, torch_hub
from sfhq.weights.table import ROWS, ModelRow

__all__ = [
    "Confirm",
    "Entry",
    "State",
    "Status",
    "accept",
    "add",
    "home",
    "hugging_face_hub",
    "locked",
    "model_path",
    "need_room",
    "offline",
    "places",
    "put_in_hub",
    "refuse_page",
    "sha256_of",
    "status",
    "to_dict",
    "torch_hub",
    "verify",
]

State = Literal["installed", "elsewhere", "stale", "missing"]
Confirm = Callable[[str, int], bool]
SPARE = 64_000_000  # bytes of the disk that a download leaves free
OFF = ("", "0", "false", "no", "off")


def offline() -> str | None:
    """The variable that forbids the network: SFHQ_OFFLINE or HF_HUB_OFFLINE; None if neither."""
    for name in ("SFHQ_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").strip().lower() not in OFF:
            return name
    return None


@dataclass(frozen=True)
class Entry:
    """What the record beside a file says.

    Attributes:
        source: the address or file it came from.
        sha256: its digest when it was accepted.
        size: its bytes.
        mtime_ns: its time, so that a changed file is noticed without reading it.
        licence_accepted: identifier the user accepted; "" for none.
        added: when, in UTC.
        pinned: whether the digest is the user's word, because nobody published one.
    """

    source: str
    sha256: str
    size: int
    mtime_ns: int
    licence_accepted: str
    added: str
    pinned: bool


@dataclass(frozen=True)
class Status:
    """Where a model's file is, and in what state.

    Attributes:
        row: the model.
        state: "installed" in the cache, "elsewhere" where a package put it, "stale" when the file
            has changed since it was accepted, "missing".
        path: the file; for a missing one, where it would be.
        entry: its record, if any.
        why: what is wrong with a stale file.
    """

    row: ModelRow
    state: State
    path: Path
    entry: Entry | None = None
    why: str = ""

    @property
    def usable(self) -> bool:
        """Whether the file can be used."""
        return self.state in ("installed", "elsewhere")

    @property
    def wanted(self) -> str | None:
        """The digest the file must have: published, else pinned, else unknown."""
        return self.row.sha256 or (self.entry.sha256 if self.entry else None)

    @property
    def sound(self) -> bool:
        """Whether the file can be used; one that a package put there is read to find out."""
        if self.state == "elsewhere" and self.wanted is not None:
            return sha256_of(self.path) == self.wanted
        return self.usable


def _entry_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_entry(path: Path) -> Entry | None:
    try:
        entry = Entry(**json.loads(_entry_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    whole = isinstance(entry.sha256, str) and isinstance(entry.size, int)
    return entry if whole else None


_UNRECORDED = Entry("found in the cache", "", 0, 0, "", "", False)


def _record(path: Path, stat: os.stat_result, digest: str, entry: Entry) -> None:
    """Write the record beside a file: `entry`, with what the file is now."""
    now = replace(
        entry,
        sha256=digest,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        added=entry.added or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    write_atomic(_entry_path(path), json.dumps(asdict(now), indent=1).encode())


def status(row: ModelRow) -> Status:
    """Look for a model's file. Only its size and time are read, not its bytes."""
    path = model_path(row)
    try:
        stat = path.stat()
    except OSError:
        found = _elsewhere(row)
        return Status(row, "elsewhere", found) if found else Status(row, "missing", path)
    entry = _read_entry(path)
    if entry is None:
        return Status(row, "stale", path, None, "it has no record beside it")
    if (stat.st_size, stat.st_mtime_ns) != (entry.size, entry.mtime_ns):
        return Status(row, "stale", path, entry, "it has changed since it was accepted")
    if row.sha256 and entry.sha256 != row.sha256:
        return Status(row, "stale", path, entry, "another file is wanted now")
    return Status(row, "installed", path, entry)


def _elsewhere(row: ModelRow) -> Path | None:
    for path in places(row):
        if path.is_file() and (row.size is None or path.stat().st_size == row.size):
            return path
    return None


def sha256_of(path: Path) -> str:
    """sha256 of a file, read now."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(rows: tuple[ModelRow, ...] = ROWS) -> Iterator[tuple[Status, str, bool | None]]:
    """Read every file that is there from beginning to end.

    A stale file whose digest is right, because only its time changed or its record was lost, is
    "installed" again after this.

    Yields:
        its status, its digest, and whether that is the wanted one (None where none is known).
    """
    for row in rows:
        found = status(row)
        if found.state == "missing":
            continue
        before = (
            found.path.stat()
        )  # taken before reading: a file that changes meanwhile stays stale
        digest = sha256_of(found.path)
        right = None if found.wanted is None else digest == found.wanted
        if right and found.state == "stale":
            _record(found.path, before, digest, found.entry or _UNRECORDED)
            found = status(row)
        yield found, digest, right


def add(
    row: ModelRow, file: Path, confirm: Confirm, link: bool = False, accepted: str = ""
) -> Status:
    """Take a local file into the cache.

    Args:
        row: which model it is.
        file: the file; copied, or with `link` only pointed at.
        confirm: given digest and size of a file whose digest nobody published, whether to
            trust it.
        link: keep one copy, where it is.
        accepted: licence the user accepted; recorded if it is the row's.
    """
    accepted = accepted if accepted == row.licence else ""
    if row.place == "package":
        raise UsageError(f"{row.name}: {row.hint}; nothing reads it from the cache")
    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    with locked(row):
        target = model_path(row)
        partial = target.with_name(target.name + ".add")
        partial.unlink(missing_ok=True)
        own = file.resolve() == target.parent.resolve() / target.name  # a link to itself is a loop
        try:
            if link and not own:
                partial.symlink_to(file.resolve())
            else:
                need_room(target.parent, file.stat().st_size)
                shutil.copyfile(file, partial)
                with open(partial, "rb+") as copy:
                    os.fsync(copy.fileno())
            return accept(row, partial, str(file.resolve()), confirm, accepted)
        finally:
            partial.unlink(missing_ok=True)


def accept(row: ModelRow, partial: Path, source: str, confirm: Confirm, accepted: str) -> Status:
    """Check a file that has arrived, record it and move it into place.

    Size comes before digest, and both before the file gets its name.

    Raises:
        IntegrityError: not the file that was published.
        UsageError: nobody published a digest, and `confirm` said no.
    """
    with open(partial, "rb") as file:
        refuse_page(row, file.read(1024), source)
    stat = partial.stat()
    if not stat.st_size:
        raise IntegrityError(f"{row.name}: {source} is empty; not taken")
    if row.size is not None and stat.st_size != row.size:
        raise IntegrityError(
            f"{row.name}: {source} has {stat.st_size:,} bytes; wanted {row.size:,}; not taken"
        )
    digest = sha256_of(partial)
    if row.sha256 is not None and digest != row.sha256:
        other = next((r.name for r in ROWS if r.sha256 == digest), None)
        advice = f"; it is {other}" if other else ""
        raise IntegrityError(
            f"{row.name}: {source} has sha256 {digest}; wanted {row.sha256}{advice}; not taken"
        )
    if row.sha256 is None and not confirm(digest, stat.st_size):
        raise UsageError(
            f"{row.name}: nobody published its digest; this file has {stat.st_size:,} bytes and "
            f"sha256 {digest}: if you trust that, run again with --pin"
        )
    target = model_path(row)
    # The record comes first: without its file, or beside an older file, it does no harm.
    entry = Entry(source, "", 0, 0, accepted, "", pinned=row.sha256 is None)
    _record(target, stat, digest, entry)
    os.replace(partial, target)
    return status(row)


def put_in_hub(row: ModelRow) -> Path | None:
    """Link or copy an installed file to where its package looks; None where there is no need.

    Raises:
        IntegrityError: another file of that name is there already; it is left alone.
    """
    if row.place != "torch-hub":
        return None
    target = torch_hub() / row.file
    source = model_path(row).resolve()
    if target.exists():
        if not target.samefile(source) and sha256_of(target) != sha256_of(source):
            raise IntegrityError(
                f"{target}: not the {row.name} that is in the cache; delete it and run: "
                f"sfhq models fetch {row.name}"
            )
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        partial.unlink(missing_ok=True)
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
        os.replace(partial, target)
    return target


def refuse_page(row: ModelRow, start: bytes, source: str) -> None:
    """Refuse a file that starts like a web page: a quota notice or a log-in page, not weights."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<script")):
        raise SfhqError(
            f"{row.name}: {source} gave a web page instead of weights (a quota or log-in page?); "
            f"get the file in a browser from {row.page or 'its source'} and run: "
            f"sfhq models add {row.name} FILE"
        )


def need_room(folder: Path, wanted: int) -> None:
    """Refuse what would fill the disk.

    Raises:
        DiskFull: less room is left than `wanted` bytes and a reserve.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE:
        raise DiskFull(
            f"{folder}: {free / 1e6:,.0f} MB free, {(wanted + SPARE) / 1e6:,.0f} MB needed; free "
            "some room, or set SFHQ_HOME to another disk"
        )


@contextmanager
def locked(row: ModelRow) -> Iterator[None]:
    """Hold a model's folder, so that two commands do not write into it at once.

    Raises:
        SfhqError: another process is writing there, or nobody can.
    """
    folder = model_path(row).parent
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"{row.name}: another sfhq is writing it; run again when that has ended"
    with file_lock(folder / "lock", busy):
        yield


def to_dict(found: Status) -> dict[str, Any]:
    """Row, state and record, as JSON can hold them."""
    return {
        **found.row.to_dict(),
        "state": found.state,
        "why": found.why,
        "path": str(found.path),
        "record": asdict(found.entry) if found.entry else None,
    }
