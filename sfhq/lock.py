"""Locks that one process holds at a time, and that the system takes back however it ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sfhq.errors import SfhqError


@contextmanager
def file_lock(file: Path, busy: str) -> Iterator[None]:
    """Hold a lock file. It stays where it is when the lock is given back.

    Args:
        file: the lock file; made if it is missing.
        busy: the error's text where another process, or thread, holds the lock.

    Raises:
        SfhqError: somebody else holds the lock, or the folder cannot be written.
    """
    # No soft lock: where the file system has no real locks, one would outlive a killed holder.
    lock = FileLock(file, blocking=False, preserve_lock_file=True, fallback_to_soft=False)
    try:
        if not file.parent.is_dir():  # filelock would make it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        lock.acquire()
    except Timeout:
        raise SfhqError(busy) from None
    except OSError as error:
        raise SfhqError(
            f"{file.parent}: cannot write here ({error.strerror}); make the folder writable"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for writing; the lock ends with the process that holds it.

    Raises:
        SfhqError: another process holds it, or it cannot be written.
    """
    busy = f"{folder}: another sfhq run is writing here; wait for it or stop it"
    with file_lock(folder / ".lock", busy):
        yield
