"""A zip of images, opened once a process: its directory is long, and every shard asks for it."""

from __future__ import annotations

import atexit
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

KEPT = 2  # archives that stay open


class Archive:
    r"""A zip, opened for reading. Get it with `open_archive`.

    Some programs of Windows write `folder\a.jpg`; such members go by `folder/a.jpg`, unless that
    name is taken or unsafe.

    Attributes:
        members: name -> the name inside the zip, of all files in it.
    """

    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path)
        found = [i.filename for i in self._file.infolist() if not i.filename.endswith(("/", "\\"))]
        taken = set(found)
        self.members: dict[str, str] = {}
        for name in found:
            nice = name.replace("\\", "/")
            self.members[name if nice in taken or is_unsafe(nice) else nice] = name

    def read(self, name: str, most: int) -> bytes:
        """The first bytes of a member, unpacked.

        Args:
            name: a key of `members`, or a name inside the zip.
            most: number of bytes.

        Raises:
            KeyError: there is none.
            Exception: what zipfile and zlib raise for a damaged or encrypted member.
        """
        with self._file.open(self.members.get(name, name)) as file:
            return file.read(most)


def open_archive(path: Path) -> Archive:
    """The archive in a file; the same object as before while the file stays as it is.

    Raises:
        OSError, ValueError, NotImplementedError, zipfile.BadZipFile: it cannot be read.
    """
    status = path.stat()
    return _opened(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=KEPT)
def _opened(path: Path, size: int, modified: int) -> Archive:
    return Archive(path)  # closed when the last one who reads it has let it go


atexit.register(_opened.cache_clear)


def is_unsafe(name: str) -> bool:
    """Whether a name in an archive is absolute or climbs out of it, on any system."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    rooted = posix.is_absolute() or bool(windows.anchor)
    return rooted or ".." in posix.parts or ".." in windows.parts
