"""What people decided: append-only events in SQLite, one file a part.

Nothing is ever changed or deleted. An undo is an event that names another; what counts now is a
view. Images are never moved.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from sfhq.errors import IntegrityError, SfhqError, UsageError

FILE = "labels.sqlite"
FORMAT = 1


class Action(StrEnum):
    """What can be said of a face. Keep and reject are labels; the others are not."""

    KEEP = "keep"
    REJECT = "reject"
    SKIP = "skip"
    FLAG = "flag"
    UNDO = "undo"


JUDGED = (Action.KEEP, Action.REJECT)


@dataclass(frozen=True)
class LabelEvent:
    """One press of a key.

    Attributes:
        face_id: the face; of an undo, that of the event it undoes.
        image_hash: sha256 of the image that was shown; "" where it is not known.
        action: see `Action`.
        annotator: who.
        session: one sitting of one person.
        client_id: chosen where the event arose; the same one twice is one event.
        at: when, seconds since 1970.
        score: what the model gave, if one did, whether it was shown or not.
        model: version of that model.
        reason: why this face was shown: "uncertain", "random", "repeat", "grid", "review",
            "import" and so on.
        reaction_ms: from the image's appearance to the press; None where nobody looked.
        undoes: number of the event that an undo takes back.
    """

    face_id: str
    image_hash: str
    action: Action
    annotator: str
    session: str
    client_id: str
    at: float
    score: float | None = None
    model: str = ""
    reason: str = ""
    reaction_ms: int | None = None
    undoes: int | None = None


@dataclass(frozen=True)
class StoredEvent:
    """An event with its number in the file, from 1 on, ascending."""

    number: int
    event: LabelEvent


@dataclass(frozen=True)
class Repeat:
    """The same face judged twice by one person."""

    face_id: str
    annotator: str
    first: Action
    again: Action


@dataclass(frozen=True)
class Conflict:
    """A face on which people disagree: annotator -> label."""

    face_id: str
    labels: dict[str, Action]


COLUMNS = tuple(f.name for f in fields(LabelEvent))
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  face_id TEXT NOT NULL,
  image_hash TEXT NOT NULL,
  action TEXT NOT NULL CHECK (action IN ('keep', 'reject', 'skip', 'flag', 'undo')),
  annotator TEXT NOT NULL CHECK (annotator <> ''),
  session TEXT NOT NULL,
  client_id TEXT NOT NULL UNIQUE CHECK (client_id <> ''),
  at REAL NOT NULL,
  score REAL,
  model TEXT NOT NULL,
  reason TEXT NOT NULL,
  reaction_ms INTEGER,
  undoes INTEGER REFERENCES events (number),
  CHECK ((action = 'undo') = (undoes IS NOT NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS undone_once ON events (undoes) WHERE undoes IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_face ON events (annotator, face_id, number);
CREATE TRIGGER IF NOT EXISTS never_changed BEFORE UPDATE ON events
  BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER IF NOT EXISTS never_deleted BEFORE DELETE ON events
  BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE VIEW IF NOT EXISTS standing AS
  SELECT * FROM events e WHERE action <> 'undo'
    AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.number);
CREATE VIEW IF NOT EXISTS current AS
  SELECT * FROM standing s WHERE action IN ('keep', 'reject', 'flag') AND reason <> 'repeat'
    AND number = (SELECT MAX(number) FROM standing t WHERE t.annotator = s.annotator
      AND t.face_id = s.face_id AND t.action IN ('keep', 'reject', 'flag')
      AND t.reason <> 'repeat');
"""


class LabelStore:
    """Events of everybody who judged a part. Safe to share between threads.

    Args:
        path: the file; made if it is missing, unless `readonly`.
        readonly: only look.

    Raises:
        UsageError: it is missing, or its folder cannot be written.
        IntegrityError: it is damaged, or something else than labels.
    """

    def __init__(self, path: Path, readonly: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        if readonly and not path.is_file():
            raise UsageError(f"{path}: no labels yet; make some with: sfhq curate {path.parent}")
        mode = "ro" if readonly else "rwc"
        with self._errors():
            self._db = sqlite3.connect(
                f"file:{_quoted(path)}?mode={mode}",
                uri=True,
                check_same_thread=False,
                isolation_level=None,
                timeout=10,
            )
            self._db.execute("PRAGMA foreign_keys = ON")
            self._check(readonly)

    def _check(self, readonly: bool) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if found not in (0, FORMAT) or (found == 0 and tables):
            raise IntegrityError(
                f"{self.path}: labels of format {found}, this sfhq reads format {FORMAT}; "
                "use the version that made it"
            )
        state = self._db.execute("PRAGMA quick_check").fetchone()[0]
        if state != "ok":
            raise self._damaged(str(state))
        if readonly:
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if found == 0:
            self._db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")

    def _damaged(self, why: str) -> IntegrityError:
        return IntegrityError(
            f"{self.path}: damaged ({' '.join(why.split())}); nothing was written; move the file "
            f"aside, save what is readable with: sqlite3 {self.path.name} .recover, and import it"
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What SQLite says, as a line that says what to do."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.OperationalError as error:
            text = str(error)
            if "full" in text or "disk I/O" in text:
                raise SfhqError(
                    f"{self.path}: the disk is full or failing ({text}); free some room: "
                    "what was acknowledged is kept"
                ) from None
            if "unable to open" in text or "readonly" in text:
                raise UsageError(
                    f"{self.path}: cannot be opened for writing ({text}); "
                    "give this user the right to write there"
                ) from None
            if "locked" in text:
                raise SfhqError(
                    f"{self.path}: another process holds it; end that one, then try again"
                ) from None
            raise self._damaged(text) from None
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from None

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
            SfhqError: the disk is full; nothing was stored.
        """
        numbers: list[int] = []
        marks = ", ".join("?" * len(COLUMNS))
        insert = f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({marks})"
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for event in events:
                    known = self._db.execute(
                        "SELECT number FROM events WHERE client_id = ?", (event.client_id,)
                    ).fetchone()
                    if known is None:
                        self._allow(event)
                        done = self._db.execute(insert, astuple(event))
                        known = (done.lastrowid,)
                    numbers.append(int(known[0]))
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.IntegrityError):
                    raise UsageError(f"an event that cannot be: {error}") from None
                raise
        return numbers

    def _allow(self, event: LabelEvent) -> None:
        if event.action != Action.UNDO:
            return
        row = self._db.execute(
            "SELECT annotator, action FROM events WHERE number = ?", (event.undoes,)
        ).fetchone()
        if row is None or row[0] != event.annotator or row[1] == Action.UNDO:
            raise UsageError(f"event {event.undoes} cannot be undone by {event.annotator}")

    def _read(self, query: str, arguments: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._errors():
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
        """The last keep, reject or flag of each face and person; hidden repeats apart."""
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
        """The newest standing event of a person: what undo takes back, in any session."""
        rows = self._read(
            f"SELECT number, {', '.join(COLUMNS)} FROM standing WHERE annotator = ? "
            "ORDER BY number DESC LIMIT 1",
            [annotator],
        )
        return _stored(rows[0]) if rows else None

    def labels(self, annotator: str | None = None) -> dict[str, bool]:
        """face_id -> kept, of one person or of all.

        Of all: what a review settled, else the majority; ties are left out.
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
        """Faces a person judged again without being told, against the judgment before."""
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


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.resolve()))


def now() -> float:
    """Seconds since 1970, in thousandths: what is stored is what is exported."""
    return round(time.time(), 3)
