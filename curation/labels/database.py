"""The SQLite file of a part's labels: its tables, how it is opened, and what its errors mean."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sfhq.errors import DiskFull, IntegrityError, SfhqError, UsageError

FORMAT = 1
WAIT_SECONDS = 10  # for another process that is writing
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


def connect(path: Path, readonly: bool) -> sqlite3.Connection:
    """Open the file, check that it is sound, and make its tables if it is new.

    Args:
        path: the file; made if it is missing, unless `readonly`.
        readonly: open for reading only; this needs no right to write in its folder.

    Raises:
        UsageError: its folder cannot be written.
        IntegrityError: it is damaged, or holds something else than labels.
        SfhqError: the disk is full or fails, or another process holds the file.
    """
    # A pipe would block for ever, and a link leads out of the part, where labels would be written.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise IntegrityError(f"{path}: not a regular file; move it aside")
    with sqlite_errors(path):
        if readonly:
            return _connect_readonly(path)
        return _open(path, "rwc", path)


def _connect_readonly(path: Path) -> sqlite3.Connection:
    """Open for reading. A file in write-ahead mode needs a place for its index beside it; where
    there is none, in a folder that cannot be written, a copy in memory is opened.
    """
    try:
        return _open(path, "ro", path)
    except sqlite3.OperationalError as error:
        if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        return _copied(path)


def _copied(path: Path) -> sqlite3.Connection:
    """The same database in memory, with what its write-ahead log holds; read-only."""
    memory = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            for end in ("", "-wal"):
                source = path.with_name(path.name + end)
                if source.is_file():
                    shutil.copyfile(source, copy.with_name(source.name))
            opened = _open(copy, "rw", path)
            try:
                opened.backup(memory)
            finally:
                opened.close()
        memory.execute("PRAGMA query_only = ON")
    except BaseException:
        memory.close()
        raise
    return memory


def _open(file: Path, mode: str, name: Path) -> sqlite3.Connection:
    """A checked connection to a file, which errors call by another name; `mode` as in SQLite."""
    database = sqlite3.connect(
        f"file:{quote(str(file.resolve()))}?mode={mode}",
        uri=True,
        check_same_thread=False,
        isolation_level=None,
        timeout=WAIT_SECONDS,
    )
    try:
        database.execute("PRAGMA foreign_keys = ON")
        _check(database, name, readonly=mode != "rwc")
    except BaseException:
        database.close()
        raise
    return database


def _check(database: sqlite3.Connection, path: Path, readonly: bool) -> None:
    found = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    if found not in (0, FORMAT) or (found == 0 and tables):
        raise IntegrityError(
            f"{path}: labels of format {found}, this sfhq reads format {FORMAT}; "
            "use the version that made it"
        )
    state = database.execute("PRAGMA quick_check").fetchone()[0]
    if state != "ok":
        raise _damaged(path, " ".join(str(state).split()))
    if readonly:
        return
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    if found == 0:
        database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")


def _damaged(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"{path}: damaged ({why}); nothing was written; move the file "
        f"aside, save what is readable with: sqlite3 {path.name} .recover, and import it"
    )


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn an error of SQLite into one line that says what to do, by its result code.

    An `sqlite3.IntegrityError` stays as it is: the caller gave an event that cannot be.

    Raises:
        DiskFull: the disk is full.
        UsageError: the file cannot be opened or written.
        SfhqError: the disk fails, or another process holds the file.
        IntegrityError: everything else; the file is damaged.
    """
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise _meaning(path, error) from None


def _code(error: sqlite3.DatabaseError) -> int:
    """The kind of an error; more than its low byte is detail."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code


def _meaning(path: Path, error: sqlite3.DatabaseError) -> SfhqError:
    code = _code(error)
    said = " ".join(str(error).split())
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(
            f"{path}: the disk is full ({said}); free some room: what was acknowledged is kept"
        )
    if code == sqlite3.SQLITE_IOERR:
        return SfhqError(
            f"{path}: the disk fails ({said}); look after it: what was acknowledged is kept"
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return UsageError(
            f"{path}: cannot be opened for writing ({said}); "
            "give this user the right to write there"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SfhqError(f"{path}: another process holds it; end that one, then try again")
    return _damaged(path, said)
