"""A folder that one process writes to at a time; the lock dies with its holder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfhq.errors import SfhqError


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for writing, however the process that holds it ends.

    Raises:
        SfhqError: another process holds it, or it cannot be written.
    """
    try:
        file = open(folder / ".lock", "a+")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise SfhqError(
            f"{folder}: cannot write here ({error.strerror}); make the folder writable"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SfhqError(
                f"{folder}: another sfhq run is writing here; wait for it or stop it"
            ) from None
        yield
