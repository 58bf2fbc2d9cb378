"""What of a part lies where: its files here, and what a storage says that it holds.

```
sfhq-manifest.json   written last: all files of the part are there, with these sizes and digests
sfhq-moving.json     while a push goes on: what is there already
```
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.archive import is_unsafe
from sfhq.remote.store import Entry, Store

FORMAT = 1
MANIFEST, MOVING = "sfhq-manifest.json", "sfhq-moving.json"
MOST_BYTES = 2**32  # of a manifest; about 150 bytes a file
HALF = ".part"  # the end of a name that is half-written; such files stay where they are


@dataclass(frozen=True)
class Manifest:
    """What a storage holds of a part.

    Attributes:
        part: its name.
        files: name -> what it is.
        left: files of an earlier push that the part no longer has.
        whole: whether all of the part is there.
    """

    part: str
    files: Mapping[str, Entry]
    left: Mapping[str, Entry] = field(default_factory=dict)
    whole: bool = True

    def to_bytes(self) -> bytes:
        """As a file."""
        value = {
            "format": FORMAT,
            "part": self.part,
            "files": {k: list(v) for k, v in self.files.items()},
            "left": {k: list(v) for k, v in self.left.items()},
        }
        return (json.dumps(value, sort_keys=True, indent=0) + "\n").encode()


def read_manifest(store: Store) -> Manifest | None:
    """What a storage says that it holds; None where it says nothing.

    Raises:
        SfhqError: it does not answer.
        IntegrityError: its manifest is damaged, of a newer version, or names files outside.
    """
    for name in (MANIFEST, MOVING):
        data = store.read(name, MOST_BYTES)
        if data is not None:
            return _parsed(data, store, name)
    return None


def _parsed(data: bytes, store: Store, name: str) -> Manifest:
    try:
        value = json.loads(data)
        newer = value["format"] != FORMAT
        files, left = ({} if newer else _entries(value[k]) for k in ("files", "left"))
        part = value["part"]
        if not isinstance(part, str):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise IntegrityError(
            f"{store.url}: {name} is damaged, or names files outside of the part; push the part "
            "to another address"
        ) from None
    if newer:
        raise IntegrityError(
            f"{store.url}: {name} of another version; run: pip install --upgrade sfhq"
        )
    return Manifest(part, files, left, whole=name == MANIFEST)


def _entries(value: dict[str, Any]) -> dict[str, Entry]:
    found = {}
    for name, (size, sha256) in value.items():
        digest = isinstance(sha256, str) and len(sha256) == 64 and int(sha256, 16) >= 0
        if type(size) is not int or size < 0 or not digest or not is_portable(name):
            raise ValueError
        found[name] = Entry(size, sha256)
    return found


def is_portable(name: str) -> bool:
    """Whether a name can be a file of a part, on any machine."""
    parts = PurePosixPath(name).parts
    plain = name.isprintable() and "\\" not in name and "/".join(parts) == name
    ours = name in (MANIFEST, MOVING, ".lock") or any(p.endswith(HALF) for p in parts)
    return bool(parts) and plain and not ours and not is_unsafe(name)


def files_of(root: Path) -> dict[str, int]:
    """Name -> bytes of all files of a part here, but locks and what is half-written.

    Raises:
        UsageError: one is a link or no file, or has a name that other machines cannot have.
    """
    found = {}
    for folder, folders, names in os.walk(root, onerror=_raise):
        here = Path(folder)
        folders[:] = sorted(n for n in folders if not n.endswith(HALF))
        for name in sorted([*names, *(n for n in folders if (here / n).is_symlink())]):
            path = here / name
            relative = path.relative_to(root).as_posix()
            if name.endswith(HALF) or relative in (".lock", MANIFEST, MOVING):
                continue
            if path.is_symlink() or not path.is_file():
                raise UsageError(f"{path}: a link or no plain file; put the file itself there")
            if not is_portable(relative):
                raise UsageError(f"{path}: a name that not every machine can have; rename it")
            found[relative] = path.stat().st_size
    return found


def _raise(error: OSError) -> None:
    raise error
