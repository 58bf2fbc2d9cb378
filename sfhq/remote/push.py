"""A part to a storage: only what is missing or different moves, and the manifest comes last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.lock import folder_lock
from sfhq.parts.part import Part
from sfhq.remote.manifest import MANIFEST, MOVING, Manifest, files_of, read_manifest
from sfhq.remote.store import GO_ON, Entry, Store
from sfhq.remote.transfer import each, entry_of

SAVE_SECONDS = 20.0
OnFile = Callable[[int], None]


@dataclass(frozen=True)
class Moved:
    """What has moved.

    Attributes:
        files, size: of the part, in number and bytes.
        moved, moved_size: of them, those that were missing or different.
        left: files at the other end that the part does not have.
        deleted: files that were deleted there.
    """

    files: int
    size: int
    moved: int
    moved_size: int
    left: int = 0
    deleted: int = 0


def push(
    root: Path,
    store: Store,
    *,
    transfers: int = 8,
    check: bool = False,
    delete: bool = False,
    on_file: OnFile = lambda size: None,
) -> Moved:
    """Bring a storage to hold a part as it is here.

    While files move, no manifest is there, and a reader knows that the part is not whole. A push
    that ended early goes on from `sfhq-moving.json`.

    Args:
        root: folder of the part.
        store: where.
        transfers: files that move at a time.
        check: read all that is there back and compare its digest; what differs is sent again.
        delete: delete files there that an earlier push sent and that the part no longer has.
        on_file: called with the bytes of each file that has been looked at.

    Raises:
        UsageError: another part is there, or something else.
        SfhqError: the storage does not answer; another run writes in the part.
        IntegrityError: what was sent is not what came back.
    """
    name = Part.open(root).name
    if store.local and Path(store.base).resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{store.url}: lies in the part itself; give a folder outside of it")
    with folder_lock(root) if os.access(root, os.W_OK) else nullcontext():
        names = files_of(root)
        there = read_manifest(store)
        sizes = store.sizes()
        _refuse_others(store, name, there, sizes)
        wanted: dict[str, Entry] = {}
        each(names, lambda n: entry_of(root / n), wanted.__setitem__, transfers)
        return _Push(root, store, name, wanted, there, sizes, transfers, on_file).all(check, delete)


def _refuse_others(store: Store, name: str, there: Manifest | None, sizes: dict[str, int]) -> None:
    """Refuse a place that holds something else: nothing of it may be lost."""
    if there is None and sizes:
        raise UsageError(
            f"{store.url}: holds {len(sizes)} files and no part, such as {min(sizes)}; give an "
            "empty folder"
        )
    if there is not None and there.part != name:
        raise UsageError(f"{store.url}: holds the part {there.part}, this is {name}; give another")


@dataclass
class _Push:
    root: Path
    store: Store
    name: str
    wanted: dict[str, Entry]
    there: Manifest | None
    sizes: dict[str, int]
    transfers: int
    on_file: OnFile
    known: dict[str, Entry] = field(default_factory=dict)  # what is there
    saved: float = field(default_factory=time.monotonic)

    def all(self, check: bool, delete: bool) -> Moved:
        """Send what is to be sent."""
        before = {**self.there.files, **self.there.left} if self.there else {}
        self.known = {n: e for n, e in before.items() if self.sizes.get(n) == e.size}
        same = [n for n in self.wanted if self.known.get(n) == self.wanted[n]]
        if check:
            self._check(same)
        todo = [n for n in self.wanted if self.known.get(n) != self.wanted[n]]
        for name in self.wanted.keys() - {*todo}:
            self.on_file(self.wanted[name].size)
        gone = [n for n in self.known if n not in self.wanted]
        if todo or (delete and gone) or self.there is None or not self.there.whole:
            self._send(todo, check, gone if delete else [])
        return Moved(
            files=len(self.wanted),
            size=sum(e.size for e in self.wanted.values()),
            moved=len(todo),
            moved_size=sum(self.wanted[n].size for n in todo),
            left=0 if delete else len(gone),
            deleted=len(gone) if delete else 0,
        )

    def _send(self, todo: list[str], check: bool, gone: list[str]) -> None:
        for name in todo:  # what is written over is not known until it is sent
            self.known.pop(name, None)
        self._save()
        self.store.delete(MANIFEST)
        try:
            each(
                todo,
                lambda n: self.store.send(n, self.root / n, self.wanted[n]),
                self._sent,
                self.transfers,
            )
        except BaseException:
            with suppress(SfhqError):  # the first error is the one to tell
                self._save()
            raise
        sizes = self.store.sizes()
        lost = [n for n, e in self.wanted.items() if sizes.get(n) != e.size]
        if check:
            self._check([n for n in todo if n not in lost])
            lost += [n for n in todo if n not in self.known]
        if lost:
            for name in lost:
                self.known.pop(name, None)
            self._save()
            raise IntegrityError(
                f"{self.store.url}: {len(lost)} files are not what was sent, such as {lost[0]}; "
                f"{GO_ON}"
            )
        for name in gone:  # only now: all of the part is there
            self.store.delete(name)
            del self.known[name]
        left = {n: e for n, e in self.known.items() if n not in self.wanted}
        self.store.write(MANIFEST, Manifest(self.name, self.wanted, left).to_bytes())
        self.store.delete(MOVING)

    def _sent(self, name: str, nothing: None) -> None:
        self.known[name] = self.wanted[name]
        self.on_file(self.wanted[name].size)
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        self.store.write(MOVING, Manifest(self.name, self.known, whole=False).to_bytes())
        self.saved = time.monotonic()

    def _check(self, names: list[str]) -> None:
        """Forget those that are not there as they were sent."""

        def compared(name: str, found: Entry | None) -> None:
            if found != self.wanted[name]:
                self.known.pop(name, None)

        each(names, lambda n: self.store.entry(n, self.wanted[n].size), compared, self.transfers)
