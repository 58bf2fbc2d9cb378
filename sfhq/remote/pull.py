"""A part from a storage: checked file by file beside its place, then moved there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sfhq.errors import DiskFull, IntegrityError, SfhqError, UsageError
from sfhq.images import write_atomic
from sfhq.lock import folder_lock
from sfhq.parts.part import Part
from sfhq.remote.manifest import Manifest, read_manifest
from sfhq.remote.push import Moved, OnFile
from sfhq.remote.store import Entry, Store
from sfhq.remote.transfer import each, entry_of

STAGED = ".pull.part"  # where files wait until all are there
OF = "name.part"  # in it: the name of the part


def pull(
    store: Store,
    root: Path,
    *,
    transfers: int = 8,
    replace: bool = False,
    on_file: OnFile = lambda size: None,
) -> Moved:
    """Bring a folder to hold a part as a storage has it.

    Files come beside their place, and move there when all have come; `part.json` is the last, so
    that the folder is a part only when it is whole. Other files in the folder stay.

    Args:
        store: where the part is.
        root: a new folder, an earlier pull of this part, or one that ended early.
        transfers: files that move at a time.
        replace: write over files here that differ.
        on_file: called with the bytes of each file that is here.

    Raises:
        UsageError: no whole part is there, or the folder holds something else.
        SfhqError: the storage does not answer.
        IntegrityError: a file there is not what the manifest says.
        DiskFull: there is no room for it.
    """
    there = read_manifest(store)
    if there is None:
        raise UsageError(f"{store.url}: no part there (no manifest); make one with: sfhq push")
    if not there.whole:
        raise SfhqError(
            f"{store.url}: a push has not ended, so the part is not whole; run that push again"
        )
    if "part.json" not in there.files:
        raise IntegrityError(f"{store.url}: its manifest names no part.json; push the part again")
    _refuse_others(root, there)
    root.mkdir(parents=True, exist_ok=True)
    with folder_lock(root):
        todo, differ = _missing(root, there, transfers, on_file)
        if differ and not replace:
            raise UsageError(
                f"{root}: {len(differ)} files differ from those at {store.url}, such as "
                f"{min(differ)}; pull into another folder, or lose those here with --replace"
            )
        _fetch(store, root, there, [*todo, *differ], transfers, on_file)
        _place(root, there, [*todo, *differ])
    moved = [there.files[n].size for n in (*todo, *differ)]
    size = sum(e.size for e in there.files.values())
    return Moved(len(there.files), size, len(moved), sum(moved))


def _refuse_others(root: Path, there: Manifest) -> None:
    """Refuse a folder that holds something else."""
    name = None
    if os.path.lexists(root / "part.json"):
        name = Part.open(root).name
    elif (root / STAGED / OF).is_file():  # a pull that ended early
        name = (root / STAGED / OF).read_text(encoding="utf-8", errors="replace")
    elif os.path.lexists(root) and (
        not root.is_dir() or any(p.name not in (".lock", STAGED) for p in root.iterdir())
    ):
        raise UsageError(f"{root}: not empty and not a part; give a new folder")
    if name is not None and name != there.part:
        raise UsageError(
            f"{root}: holds the part {name}, or half of it; there it is {there.part}; give a new "
            "folder"
        )


def _missing(
    root: Path, there: Manifest, transfers: int, on_file: OnFile
) -> tuple[list[str], list[str]]:
    """Names of files that are not here, and of those that are others here."""
    todo: list[str] = []
    differ: list[str] = []

    def look(name: str) -> Entry | None:
        path = root / name
        if not path.parent.resolve().is_relative_to(root.resolve()):
            raise UsageError(f"{path.parent}: leads out of the part by a link; remove the link")
        if not os.path.lexists(path):
            return None
        if path.is_symlink() or not path.is_file():
            raise UsageError(f"{path}: a link or no plain file; remove it")
        same_size = path.stat().st_size == there.files[name].size
        return entry_of(path) if same_size else Entry(-1, "")

    def seen(name: str, found: Entry | None) -> None:
        if found == there.files[name]:
            on_file(found.size)
        else:
            (todo if found is None else differ).append(name)

    each(there.files, look, seen, transfers)
    return todo, differ


def _fetch(
    store: Store, root: Path, there: Manifest, names: list[str], transfers: int, on_file: OnFile
) -> None:
    """Bring files beside their place; those that an earlier run brought are checked."""
    staged = root / STAGED
    if staged.is_symlink():
        raise UsageError(f"{staged}: a link; remove it")
    if not names:
        return
    staged.mkdir(exist_ok=True)
    write_atomic(staged / OF, there.part.encode())
    new = [n for n in names if not (staged / n).is_file()]
    need, free = sum(there.files[n].size for n in new), shutil.disk_usage(root).free
    if need > free:
        raise DiskFull(f"{root}: {need:,} bytes are to come, {free:,} are free; make room")

    def bring(name: str) -> None:
        path, entry = staged / name, there.files[name]
        if path.is_symlink() or not path.is_file() or entry_of(path) != entry:
            path.parent.mkdir(parents=True, exist_ok=True)
            store.fetch(name, path, entry)

    each(names, bring, lambda n, _: on_file(there.files[n].size), transfers)


def _place(root: Path, there: Manifest, names: list[str]) -> None:
    """Move files to their places; while they move, the folder is no part."""
    staged, described = root / STAGED, root / "part.json"
    if names and described.exists():
        old = "part.json" if "part.json" not in names else "part.json.old.part"
        os.replace(described, staged / old)
    for name in (n for n in names if n != "part.json"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged / name, path)
    if names:
        os.replace(staged / "part.json", described)
    shutil.rmtree(staged, ignore_errors=True)
