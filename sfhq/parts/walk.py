"""Files below a folder by names that records can hold: links followed once, odd names escaped."""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

ESCAPED = "./"  # begins a name that stands for one that is not UTF-8; no other name begins so
_ESCAPE = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def record_name(name: str) -> str:
    r"""A file's name as records hold it: Parquet and JSON take UTF-8 only.

    A name that is UTF-8 stays as it is. In any other, bytes that are no UTF-8 become `\xe9`,
    backslashes are doubled, and "./" is put in front; `file_name` leads back.

    Args:
        name: as Python gives it, with lone surrogates for such bytes.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raw = name.replace("\\", "\\\\").encode("utf-8", "surrogateescape")
        return ESCAPED + raw.decode("utf-8", "backslashreplace")
    return name


def file_name(name: str) -> str:
    """The inverse of `record_name`."""
    if not name.startswith(ESCAPED):
        return name

    def byte(found: re.Match[bytes]) -> bytes:
        return b"\\" if found[1] == b"\\" else bytes([int(found[1][1:], 16)])

    return os.fsdecode(_ESCAPE.sub(byte, name.removeprefix(ESCAPED).encode()))


def walk(root: Path, skip: Path | None, lost: Callable[[OSError], None]) -> Iterator[str]:
    """Files below a folder, as POSIX paths relative to it; parts within it are passed over.

    Links to folders are followed after all folders that lie below the root itself, so those keep
    their names, and each real folder is read once. A link to a folder that it lies in itself is a
    loop and is not followed.

    Args:
        root: the folder.
        skip: a folder to leave out.
        lost: called with the error of each folder that cannot be read.
    """
    avoid = None if skip is None else skip.resolve()
    waiting, seen = deque([root]), set[tuple[int, int]]()
    while waiting:
        for folder, folders, files in os.walk(waiting.popleft(), onerror=lost):
            here = Path(folder)
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            inside = [here / f for f in sorted(folders) if not f.startswith(".")]
            links = [path for path in inside if path.is_symlink()]
            waiting += (path for path in links if not _loops(path) and not _left_out(path, avoid))
            folders[:] = [
                path.name for path in inside if not path.is_symlink() and not _left_out(path, avoid)
            ]
            for file in files:
                yield record_name((here / file).relative_to(root).as_posix())


def _left_out(folder: Path, avoid: Path | None) -> bool:
    real = folder.resolve()
    return avoid in (real, *real.parents) or (real / "part.json").is_file()


def _loops(link: Path) -> bool:
    lies_in = link.parent.resolve()
    return link.resolve() in (lies_in, *lies_in.parents)


def is_file(path: Path) -> bool:
    """Whether a path is a regular file: a pipe would block for ever.

    Raises:
        OSError: it is not there.
    """
    return stat.S_ISREG(path.stat().st_mode)
