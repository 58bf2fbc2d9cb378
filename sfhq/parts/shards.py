"""Image-text collections as sources: tar shards (WebDataset) and Parquet files with images.

Both are read in place. A tar is indexed once a process; of a Parquet file one row group is held.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from sfhq.formats import suffixes
from sfhq.parts.archive import is_unsafe

SHARDS = (".tar", ".parquet")
TEXTS = (".txt", ".caption", ".text")
KEYS = ("caption", "text", "txt", "laion_caption", "alt_text", "alt", "prompt", "queries")
IMAGES = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes", "content")
LONGEST = 20_000  # characters of a text
MOST_JSON = 2**20  # bytes of a .json beside an image
KEPT = 4  # shards that stay open


class Shard(Protocol):
    """One file of a collection."""

    @property
    def members(self) -> Mapping[str, Any]:
        """The images in it, by name."""

    def read(self, name: str, most: int) -> bytes:
        """The first bytes of an image."""

    def text(self, name: str) -> str:
        """The text that belongs to an image; "" where there is none."""


class TarShard:
    """A tar of images, with a .txt or .json by the same key beside each.

    The key of a member is its path up to the first dot of its last part, as WebDataset has it.

    Raises:
        OSError, tarfile.TarError: it cannot be read; a compressed tar is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.members: dict[str, tuple[int, int]] = {}
        self._beside: dict[str, dict[str, tuple[int, int]]] = {}
        known = suffixes()
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isreg() or is_unsafe(member.name):
                    continue
                place = (member.offset_data, member.size)
                suffix = PurePosixPath(member.name).suffix.lower()
                if suffix in known:
                    self.members[member.name] = place
                elif suffix in (*TEXTS, ".json"):
                    self._beside.setdefault(_key(member.name), {})[suffix] = place

    def read(self, name: str, most: int) -> bytes:
        """The first bytes of a member.

        Raises:
            KeyError: there is none.
        """
        return self._bytes(self.members[name], most)

    def text(self, name: str) -> str:
        """The text beside an image: a .txt, or a caption in a .json."""
        beside = self._beside.get(_key(name), {})
        for suffix in TEXTS:
            if suffix in beside:
                return clean(self._bytes(beside[suffix], 4 * LONGEST).decode(errors="replace"))
        if ".json" in beside:
            try:
                return text_of(json.loads(self._bytes(beside[".json"], MOST_JSON)))
            except (ValueError, RecursionError):
                return ""
        return ""

    def _bytes(self, place: tuple[int, int], most: int) -> bytes:
        start, size = place
        with open(self._path, "rb") as file:
            file.seek(start)
            return file.read(min(size, most))


class ParquetShard:
    """A Parquet file with a column of image bytes, also as {"bytes", "path"} of Hugging Face.

    Raises:
        ValueError: no column holds images; OSError, pyarrow.ArrowException: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = path
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            self._column = next((n for n in schema.names if _holds_images(schema.field(n))), "")
            if not self._column:
                raise ValueError(f"no column of images among {', '.join(schema.names)}")
            self._struct = pa.types.is_struct(schema.field(self._column).type)
            self._texts = [n for n in KEYS if n in schema.names and n != self._column]
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        self.members: dict[str, tuple[int, int]] = {}
        row = 0
        for group, count in enumerate(counts):
            for place in range(count):
                self.members[f"{row:09d}"] = (group, place)
                row += 1
        self._held: tuple[int, Any] = (-1, None)

    def read(self, name: str, most: int) -> bytes:
        """The first bytes of the image of a row.

        Raises:
            KeyError: there is no such row, or it has no image.
        """
        value = self._value(name, self._column)
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise KeyError(name)
        return data[:most]

    def text(self, name: str) -> str:
        """The text of a row."""
        return text_of({n: self._value(name, n) for n in self._texts})

    def _value(self, name: str, column: str) -> Any:
        group, place = self.members[name]
        if self._held[0] != group:
            import pyarrow.parquet as pq

            with pq.ParquetFile(self._path) as file:
                columns = [self._column, *self._texts]
                self._held = (group, file.read_row_group(group, columns=columns))
        return self._held[1].column(column)[place].as_py()


class Collection:
    """Shards of a folder as one archive; names begin with that of the shard.

    Attributes:
        members: the names of all images.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._shards = {path.name: path for path in paths}
        self.members: dict[str, tuple[str, str]] = {}
        for shard, path in self._shards.items():
            for name in opened(path).members:
                self.members[f"{shard}/{name}"] = (shard, name)

    def read(self, name: str, most: int) -> bytes:
        """The first bytes of an image.

        Raises:
            KeyError: there is none.
        """
        shard, member = self.members[name]
        return opened(self._shards[shard]).read(member, most)

    def text(self, name: str) -> str:
        """The text of an image."""
        shard, member = self.members[name]
        return opened(self._shards[shard]).text(member)


def shards_of(root: Path) -> list[Path]:
    """The shards that a source is: the file itself, or all of a folder that holds nothing else.

    Files whose name begins with a dot and .json files, such as lists of sizes, do not count.
    """
    if root.is_file():
        return [root] if root.suffix.lower() in SHARDS else []
    if not root.is_dir():
        return []
    files = [p for p in root.iterdir() if not p.name.startswith(".") and p.suffix != ".json"]
    shards = sorted(p for p in files if p.suffix.lower() in SHARDS and p.is_file())
    return shards if shards and len(shards) == len(files) else []


def opened(path: Path) -> Shard:
    """A shard; the same object as before while the file stays as it is."""
    status = os.stat(path)
    return _opened(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=KEPT)
def _opened(path: Path, size: int, modified: int) -> Shard:
    return TarShard(path) if path.suffix.lower() == ".tar" else ParquetShard(path)


def text_of(values: Any) -> str:
    """The first text of some values by the names that collections use; lists hold it, too."""
    if not isinstance(values, dict):
        return ""
    for key in KEYS:
        value = values.get(key)
        if isinstance(value, list):
            value = next((v for v in value if isinstance(v, str)), "")
        if isinstance(value, str) and value.strip():
            return clean(value)
    return ""


def clean(text: str) -> str:
    """One line without control characters, at most `LONGEST` characters."""
    kept = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(kept.split())[:LONGEST]


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.parent / path.name.split(".", 1)[0])


def _holds_images(field: Any) -> bool:
    import pyarrow as pa

    kind = field.type
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return struct or (binary and field.name.lower() in IMAGES)
