"""Files of an export: hashed as they are written, and in their place when they are whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 5_000  # in one folder; the hosts allow 10,000
BLOCK = 1 << 20


@dataclass(frozen=True)
class Written:
    """A file of an export.

    Attributes:
        size: bytes.
        sha256: digest.
    """

    size: int
    sha256: str


class Hashed:
    """A file that is written from its beginning to its end, and hashed meanwhile."""

    closed = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "xb", buffering=BLOCK)  # noqa: SIM115 closed by `writing`
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes; all of them, or an error that names the file."""
        try:
            self._file.write(data)
        except OSError as error:
            error.filename = error.filename or str(self._path)
            raise
        self._digest.update(data)
        count = memoryview(data).nbytes
        self.size += count
        return count

    def text(self, text: str) -> None:
        """Write text as UTF-8."""
        self.write(text.encode())

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size

    def flush(self) -> None:
        """Nothing: `sync` does it at the end."""

    def readable(self) -> bool:
        """It cannot be read."""
        return False

    def seekable(self) -> bool:
        """Nor rewound."""
        return False

    def writable(self) -> bool:
        """It can be written."""
        return True

    def close(self) -> None:
        """Nothing: a library that closes it has only ended its own work."""

    def written(self) -> Written:
        """What has been written so far."""
        return Written(self.size, self._digest.hexdigest())

    def sync(self) -> None:
        """Bring all bytes to the disk and close the file."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            error.filename = error.filename or str(self._path)
            raise

    def drop(self) -> None:
        """Close the file without caring for its bytes."""
        with suppress(OSError, ValueError):
            self._file.close()


@contextmanager
def writing(path: Path) -> Iterator[Hashed]:
    """A file to write in one go: it takes its place when the block ends, and not if it fails.

    Folders above it are made. What a killed run left half-written is written over.

    Args:
        path: where it ends; until then it is `<name>.part` beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with suppress(FileNotFoundError):
        partial.unlink()
    file = Hashed(partial)
    try:
        yield file
        file.sync()
        os.replace(partial, path)
    except BaseException as error:
        file.drop()
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename == str(partial):
            error.filename = str(path)
        raise


def append(path: Path, line: str) -> None:
    """Add a line to a file, and bring it to the disk; an error names the file."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def digest_of_file(path: Path) -> Written | None:
    """Size and digest of a regular file, read in blocks; None where there is none."""
    if path.is_symlink() or not path.is_file():
        return None
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Written(file.tell(), digest)


def shelf(index: int) -> str:
    """The subfolder of the photo of a number, so that none holds too many."""
    return f"{index // MOST_FILES:03d}"
