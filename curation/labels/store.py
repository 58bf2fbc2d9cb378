"""The labels of a part: append-only events in SQLite, one file a part.

Nothing is ever changed or deleted. An undo is an event that names another; what counts now is a
view. Images are never moved.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from curation.labels.database import connect, sqlite_errors
from curation.labels.events import (
    COLUMNS,
    JUDGED,
    Action,
    Conflict,
    LabelEvent,
    Repeat,
    StoredEvent,
)
from sfhq.errors import UsageError

FILE = "labels.sqlite"


class LabelStore:
    """Events of everybody who judged a part. Threads may share it.

    Args:
        path: the file; made if it is missing, unless `readonly`.
        readonly: open for reading only. This works in a folder that cannot be written, too.

    Raises:
        UsageError: it is missing, or its folder cannot be written.
        IntegrityError: it is damaged, or holds something else than labels.
        SfhqError: the disk is full or fails, or another process holds the file.
    """

    def __init__(self, path: Path, readonly: bool = False) -> None:
        self.path = path
        self._lock = threading.RLock()  # a batch holds it while it reads and appends
        if readonly and not path.is_file():
            raise UsageError(f"{path}: no labels yet; make some with: sfhq curate {path.parent}")
        self._db = connect(path, readonly)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, events: Sequence[LabelEvent]) -> list[int]:
        """Store events, all or none; they are on the disk when this returns.

        Args:
            events: an event whose `client_id` is stored already is not stored again.

        Returns:
            The number of each.

        Raises:
            UsageError: an undo of what is not there, is an undo, is undone or is another's;
                an empty name.
            DiskFull: the disk is full; nothing was stored.
        """
        numbers: list[int] = []
        marks = ", ".join("?" * len(COLUMNS))
        insert = f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({marks})"
        try:
            with self.batch():
                for event in events:
                    known = self._db.execute(
                        "SELECT number FROM events WHERE client_id = ?", (event.client_id,)
                    ).fetchone()
                    if known is None:
                        self._allow(event)
                        done = self._db.execute(insert, astuple(event))
                        known = (done.lastrowid,)
                    numbers.append(int(known[0]))
        except sqlite3.IntegrityError as error:
            raise UsageError(f"an event that cannot be: {error}") from None
        return numbers

    @contextmanager
    def batch(self) -> Iterator[None]:
        """A context whose appends are on the disk together when it ends, or not at all.

        A batch inside a batch is stored with the outer one; if it fails, it alone is taken back.
        Other threads wait.

        Raises:
            DiskFull: the disk is full; nothing was stored.
        """
        with self._lock, sqlite_errors(self.path):
            inner = self._db.in_transaction
            self._db.execute("SAVEPOINT batch" if inner else "BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("RELEASE batch" if inner else "COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK TO batch" if inner else "ROLLBACK")
                    if inner:
                        self._db.execute("RELEASE batch")
                raise

    def by_client(self, client_id: str) -> StoredEvent | None:
        """The event with a client id, undone or not; None where there is none."""
        query = f"SELECT number, {', '.join(COLUMNS)} FROM events WHERE client_id = ?"
        rows = self._read(query, [client_id])
        return _stored(rows[0]) if rows else None

    def event(self, number: int) -> LabelEvent:
        """The event with a number.

        Raises:
            UsageError: there is none.
        """
        rows = self._read(
            f"SELECT number, {', '.join(COLUMNS)} FROM events WHERE number = ?", [number]
        )
        if not rows:
            raise UsageError(f"{self.path}: no event {number}")
        return _stored(rows[0]).event

    def undo_of(self, number: int) -> int | None:
        """The number of the undo that names an event; None if it is not undone."""
        rows = self._read("SELECT number FROM events WHERE undoes = ?", [number])
        return int(rows[0][0]) if rows else None

    def _allow(self, event: LabelEvent) -> None:
        if event.action != Action.UNDO:
            return
        row = self._db.execute(
            "SELECT annotator, action FROM events WHERE number = ?", (event.undoes,)
        ).fetchone()
        if row is None or row[0] != event.annotator or row[1] == Action.UNDO:
            raise UsageError(f"event {event.undoes} cannot be undone by {event.annotator}")

    def _read(self, query: str, arguments: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock, sqlite_errors(self.path):
            return self._db.execute(query, tuple(arguments)).fetchall()

    def events(
        self, since: int = 0, annotator: str | None = None, session: str | None = None
    ) -> list[StoredEvent]:
        """Events with a number above `since`, in order."""
        return self._events("events", since, annotator, session)

    def standing(
        self, annotator: str | None = None, session: str | None = None
    ) -> list[StoredEvent]:
        """Events that are neither undone nor an undo, in order."""
        return self._events("standing", 0, annotator, session)

    def current(self, annotator: str | None = None) -> list[StoredEvent]:
        """The last keep, reject or flag of each face and person, without hidden repeats."""
        return self._events("current", 0, annotator, None)

    def _events(
        self, table: str, since: int, annotator: str | None, session: str | None
    ) -> list[StoredEvent]:
        query = f"SELECT number, {', '.join(COLUMNS)} FROM {table} WHERE number > ?"
        arguments: list[object] = [since]
        for name, value in (("annotator", annotator), ("session", session)):
            if value is not None:
                query += f" AND {name} = ?"
                arguments.append(value)
        rows = self._read(query + " ORDER BY number", arguments)
        return [_stored(row) for row in rows]

    def last_to_undo(self, annotator: str) -> StoredEvent | None:
        """The person's newest standing event, of any session: the one that undo takes back."""
        rows = self._read(
            f"SELECT number, {', '.join(COLUMNS)} FROM standing WHERE annotator = ? "
            "ORDER BY number DESC LIMIT 1",
            [annotator],
        )
        return _stored(rows[0]) if rows else None

    def labels(self, annotator: str | None = None) -> dict[str, bool]:
        """face_id -> kept, of one person or of all.

        Of all people: what a review settled, else the majority; ties have no label.
        """
        votes: dict[str, int] = {}
        settled: dict[str, bool] = {}
        for stored in self.current(annotator):
            event = stored.event
            if event.action in JUDGED:
                kept = event.action == Action.KEEP
                votes[event.face_id] = votes.get(event.face_id, 0) + (1 if kept else -1)
                if event.reason == "review":
                    settled[event.face_id] = kept
        return {face_id: vote > 0 for face_id, vote in votes.items() if vote != 0} | settled

    def annotators(self) -> list[str]:
        """Everybody who has labels, sorted."""
        return [r[0] for r in self._read("SELECT DISTINCT annotator FROM events ORDER BY 1")]

    def conflicts(self) -> list[Conflict]:
        """Faces that some keep and others reject and no review settled, by face id."""
        by_face: dict[str, dict[str, Action]] = {}
        settled: set[str] = set()
        for stored in self.current():
            event = stored.event
            if event.action in JUDGED:
                by_face.setdefault(event.face_id, {})[event.annotator] = event.action
                if event.reason == "review":
                    settled.add(event.face_id)
        return [
            Conflict(face_id, labels)
            for face_id, labels in sorted(by_face.items())
            if len(set(labels.values())) > 1 and face_id not in settled
        ]

    def repeats(self, annotator: str | None = None) -> list[Repeat]:
        """Faces that a person judged a second time without knowing, with both judgments."""
        first: dict[tuple[str, str], Action] = {}
        found = []
        for stored in self.standing(annotator):
            event = stored.event
            if event.action not in JUDGED:
                continue
            key = (event.annotator, event.face_id)
            if event.reason == "repeat" and key in first:
                found.append(Repeat(event.face_id, event.annotator, first[key], event.action))
            elif event.reason != "repeat":
                first[key] = event.action
        return found


def _stored(row: tuple[Any, ...]) -> StoredEvent:
    values = dict(zip(COLUMNS, row[1:], strict=True))
    values["action"] = Action(values["action"])
    return StoredEvent(int(row[0]), LabelEvent(**values))
