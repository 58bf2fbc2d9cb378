"""Where the images of a part come from: a folder, a list of paths, an archive, a rendered part."""

from __future__ import annotations

import errno
import hashlib
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING

from PIL import Image

from sfhq.errors import IntegrityError, UsageError
from sfhq.formats import HEAD, kind_of, readable, suffixes
from sfhq.images import BadImage, read_image
from sfhq.parts.archive import Archive, is_unsafe, open_archive
from sfhq.parts.records import FaceRecord
from sfhq.parts.shards import SHARDS, TEXTS, Collection, clean, shards_of
from sfhq.parts.walk import file_name, is_file, record_name, walk

if TYPE_CHECKING:
    from sfhq.parts.part import Part

MAX_BYTES = 256 * 2**20  # of one file once unpacked; keeps a zip bomb out of memory
MAX_TEXT = 20_000  # characters of a text beside an image
WANTED = "a folder of images, a .txt list of paths, or a .zip, .tar or .parquet of images"


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        names: of the images, sorted and each once, as records carry them.
        passed_over: (kind, name) of each other file: its suffix, "no suffix", "hidden", or
            "unreadable folder".
    """

    names: tuple[str, ...]
    passed_over: tuple[tuple[str, str], ...] = ()


class Source:
    """Where images come from, opened for reading. Use it in a `with` block.

    Nothing is ever unpacked to disk.

    Args:
        root: a folder; a .txt with one path a line, relative to the list's own folder; a .zip; or
            tar shards or Parquet files with images: one of them, or a folder of nothing else.

    Raises:
        UsageError: the root is missing, or is none of these.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = root
        self._archive: Archive | Collection | None = None
        self._closed = False
        shards = shards_of(root)
        if shards:
            try:
                self._archive = Collection(shards)
            except Exception as error:  # pyarrow and tarfile have many
                raise UsageError(
                    f"{root}: not a readable collection ({_one_line(error)}); wanted uncompressed "
                    f"{' or '.join(SHARDS)} files with images in them"
                ) from None
            return
        if root.is_dir():
            return
        if not root.exists():
            raise UsageError(f"{root}: no such file or folder; wanted {WANTED}; check the path")
        suffix = root.suffix.lower()
        if suffix == ".txt":
            self._base = root.parent
        elif suffix == ".zip":
            try:
                self._archive = open_archive(root)
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
                raise UsageError(
                    f"{root}: not a readable zip archive ({error}); pack it again, or give the "
                    "folder of images"
                ) from None
        else:
            raise UsageError(
                f"{root}: a single file; wanted {WANTED}; give its folder and --only '{root.name}'"
            )

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True  # the archive stays open for the next one

    def names(self, skip: Path | None = None) -> list[str]:
        """Names of the images, sorted and each once, as records carry them; as `listing`."""
        return list(self.listing(skip).names)

    def listing(self, skip: Path | None = None) -> Listing:
        """The images of the source, and what is none.

        In folders and archives images are the files whose path has no hidden component and that
        have an image's suffix; files without any suffix are judged by their first bytes. In a list,
        every line that is not blank is an image. Links to folders are followed, each real folder
        once.

        Args:
            skip: a folder to leave out, for a part that lies inside its own source.

        Raises:
            UsageError: there are none, or the list names files that do not exist.
        """
        passed: list[tuple[str, str]] = []
        if isinstance(self._archive, Collection):
            if not self._archive.members:
                raise UsageError(f"{self.root}: no images in it; wanted some; check the path")
            return Listing(tuple(sorted(self._archive.members)))
        if self._archive is not None:
            found = list(self._archive.members)
        elif self.root.is_dir():

            def lost(error: OSError) -> None:
                passed.append(("unreadable folder", record_name(str(error.filename))))

            found = list(walk(self.root, skip, lost))
        else:
            return Listing(tuple(self._listed()))
        names, known = [], suffixes()
        for name in sorted({*found}):
            kind = self._kind(name, known)
            if kind:
                passed.append((kind, name))
            else:
                names.append(name)
        if not names:
            raise UsageError(
                f"{self.root}: no images among its {len(found)} files; wanted some of "
                f"{' '.join(known)}; check the path"
            )
        stems = {name.rsplit(".", 1)[0] for name in names}
        beside = [p for p in passed if p[0] in TEXTS and p[1].rsplit(".", 1)[0] in stems]
        return Listing(tuple(names), tuple(p for p in passed if p not in {*beside}))

    def _kind(self, name: str, known: tuple[str, ...]) -> str:
        """Why a file is passed over, as in `Listing`; "" of an image."""
        path = PurePosixPath(name)
        if any(p.startswith(".") and p not in (".", "..") for p in path.parts):
            return "hidden"
        suffix = path.suffix.lower()
        if suffix in ("", "."):
            return "" if kind_of(self._head(name)) in readable() else "no suffix"
        return "" if suffix in known else suffix

    def _head(self, name: str) -> bytes:
        """The first bytes of a file; none of one that cannot be read."""
        try:
            if self._archive is not None:
                return self._archive.read(name, HEAD)
            path = self._path(name)
            if not is_file(path):
                return b""
            with open(path, "rb") as file:
                return file.read(HEAD)
        except Exception:  # its reason is told when the image is read, if it ever is
            return b""

    def _listed(self) -> list[str]:
        try:
            data = self.root.read_bytes()
            if b"\0" in data:
                raise ValueError("it holds zero bytes")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.root}: cannot read the list ({error}); wanted UTF-8 text, one path a line"
            ) from None
        text = data.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
        lines = [line.strip() for line in text.splitlines()]
        numbered = [(n, record_name(line)) for n, line in enumerate(lines, 1) if line]
        if not numbered:
            raise UsageError(f"{self.root}: an empty list; wanted one path a line; fill it")
        missing = [(n, name) for n, name in numbered if not self._path(name).exists()]
        if missing:
            n, name = missing[0]
            raise UsageError(
                f"{self.root}: {len(missing)} of {len(numbered)} entries do not exist, first line "
                f"{n}: {name}; wanted paths relative to {self._base}; correct the list"
            )
        return sorted({name for _, name in numbered})

    def _path(self, name: str) -> Path:
        """Where a file lies. In a list, people write "./a.jpg", too, and mean it as it stands."""
        plain = self._base / name
        if not self.root.is_dir() and os.path.lexists(plain):
            return plain
        return self._base / file_name(name)

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Args:
            name: one of `names`.

        Raises:
            BadImage: "source missing", "unreadable file", "unsafe name" or "file too large";
                the message names the file.
        """
        try:
            data = self._read_file(name) if self._archive is None else self._read_member(name)
        except (KeyError, FileNotFoundError, NotADirectoryError):
            raise BadImage("source missing", f"{name}: not found in {self.root}") from None
        except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as e:
            # RuntimeError is an encrypted member, or a compression this Python lacks.
            raise BadImage("unreadable file", f"{name}: {_one_line(e)}") from None
        if len(data) > MAX_BYTES:
            raise BadImage("file too large", f"{name}: over {MAX_BYTES:,} bytes; reduce it first")
        return data

    def _read_file(self, name: str) -> bytes:
        path = self._path(name)
        if not is_file(path):
            raise OSError(errno.EINVAL, "not a regular file")
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)

    def _read_member(self, name: str) -> bytes:
        assert self._archive is not None
        if self._closed:
            raise OSError(errno.EBADF, "the source is closed")
        if is_unsafe(name):
            raise BadImage(
                "unsafe name", f"{name}: absolute or with '..'; pack it again by relative paths"
            )
        return self._archive.read(name, MAX_BYTES + 1)

    def text(self, name: str) -> str:
        """The text that belongs to an image: of a collection's row, or of a .txt beside the file.

        Args:
            name: one of `names`.

        Returns:
            One line; "" where there is none.
        """
        if isinstance(self._archive, Collection):
            return self._archive.text(name)
        if self._archive is not None or not self.root.is_dir():
            return ""
        for suffix in TEXTS:
            path = self._path(name)
            try:
                path = path.with_name(f"{path.stem}{suffix}")
                if is_file(path):
                    with open(path, "rb") as file:
                        return clean(file.read(4 * MAX_TEXT).decode(errors="replace"))
            except OSError:
                continue
        return ""

    def image(self, record: FaceRecord) -> Image.Image:
        """The decoded source of a record, upright 8-bit RGB.

        Raises:
            BadImage: the reasons of `read` and `read_image`, or "source changed" where the
                bytes are not those the record was made from; the message names the file.
        """
        data = self.bytes_of(record)
        try:
            return read_image(data)
        except BadImage as error:
            raise BadImage(error.reason, f"{record.source}: {error}") from None

    def bytes_of(self, record: FaceRecord) -> bytes:
        """The bytes a record was made from; as `image`, without decoding."""
        data = self.read(record.source)
        found = hashlib.sha256(data).hexdigest()
        if found != record.source_sha256:
            raise BadImage(
                "source changed",
                f"{record.source}: sha256 {found[:16]}, at ingest "
                f"{record.source_sha256[:16] or 'unreadable'}; put the old file back, or run: "
                "sfhq ingest --redo",
            )
        return data


def source_of(part: Part) -> Source:
    """The source a part was ingested or imported from; of a rendered part its own folder.

    Raises:
        UsageError: nothing was ingested, or the source is not there any more.
        IntegrityError: the records do not say where it was.
    """
    if "render" in part.stages():
        return Source(part.root)
    stage = "import" if "import" in part.stages() else "ingest"
    root = part.stage_info(stage)["settings"].get("source")
    if not isinstance(root, str) or "\0" in root:
        raise IntegrityError(
            f"{part.root / 'records' / stage}.json: damaged, names no source; "
            f"run: sfhq {stage} SOURCE {part.root} --redo"
        )
    return Source(Path(file_name(root)))


def open_source(part_or_root: Part | Path, record: FaceRecord) -> bytes:
    """The bytes of one record's source, checked against the digest taken at ingest.

    For many records open the source once: `with source_of(part) as source`.

    Args:
        part_or_root: the part, or the root of its source.
        record: as ingest left it.

    Raises:
        BadImage: "source missing", "source changed" and the other reasons of `Source.read`.
        UsageError: nothing was ingested, or the source is not there any more.
    """
    source = Source(part_or_root) if isinstance(part_or_root, Path) else source_of(part_or_root)
    with source:
        return source.bytes_of(record)


def _one_line(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
