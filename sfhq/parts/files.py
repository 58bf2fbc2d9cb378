"""Reading files of a part, which may come from anybody: plain files, and no link or pipe."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_JSON = 64 * 2**20  # bytes of a description
MOST_RECORDS = 2 * 2**30  # bytes of a shard of records


def require_plain(path: Path) -> os.stat_result:
    """Refuse everything but a regular file; looks at the name only, and never waits.

    Raises:
        OSError: missing, or a link, folder, pipe or device.
    """
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return found


def read_file(path: Path, most: int = MOST_JSON) -> bytes:
    """The bytes of a regular file.

    Args:
        path: the file.
        most: largest size in bytes.

    Raises:
        OSError: as `require_plain`, or larger than that.
    """
    require_plain(path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
    return data


def why(error: Exception) -> str:
    """What is wrong with a file, in a few words for the middle of an error."""
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    said = " ".join(str(error).split())
    return said[:200] or type(error).__name__
