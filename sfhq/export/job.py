"""What a writer of a format is, and what it works on."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from sfhq.errors import IntegrityError, UsageError
from sfhq.export.choose import Choice, Face
from sfhq.export.files import Written
from sfhq.export.item import Item, Look
from sfhq.export.target import PIECES

MEGABYTE = 1_000_000


class Entry(NamedTuple):
    """What a finished piece says of one photo.

    Attributes:
        key: the photo's name.
        path: of the file that holds it, below the export; "" where only labels are written.
        size, sha256: of the photo's bytes.
        width, height: pixels.
        mask: file of its map of classes, where it is apart.
    """

    key: str
    path: str
    size: int
    sha256: str
    width: int
    height: int
    mask: str = ""


@dataclass(frozen=True)
class Piece:
    """Some photos that were finished together.

    Attributes:
        split: theirs.
        number: of the piece in its split.
        entries: one a photo.
        files: path below the export -> what was written there.
    """

    split: str
    number: int
    entries: tuple[Entry, ...]
    files: Mapping[str, Written]

    def line(self) -> str:
        """The piece as a line of the list of what is finished."""
        files = {path: [w.size, w.sha256] for path, w in self.files.items()}
        value = [self.split, self.number, [list(e) for e in self.entries], files]
        return json.dumps(value, separators=(",", ":")) + "\n"

    @classmethod
    def read(cls, line: str) -> Piece:
        """The inverse of `line`.

        Raises:
            ValueError, TypeError: the line was cut off.
        """
        split, number, entries, files = json.loads(line)
        rows = tuple(Entry(*e) for e in entries)
        return cls(split, number, rows, {path: Written(*w) for path, w in files.items()})


@dataclass(frozen=True)
class About:
    """What people say of an export as a whole.

    Attributes:
        title: one line; "" for the name.
        id: "owner/slug" on the host; "" where none was given.
        licence: of the export, an SPDX id where there is one; "" for what the photos say.
        date: of publication, as YYYY-MM-DD; "" where none was given.
    """

    title: str = ""
    id: str = ""
    licence: str = ""
    date: str = ""


@dataclass(frozen=True)
class Job:
    """An export under way.

    Attributes:
        choice: its photos.
        look: how they are written.
        about: what is said of the whole.
        folder: where it is written.
        shard: most bytes of a file that holds many photos.
    """

    choice: Choice
    look: Look
    about: About
    folder: Path
    shard: int = 480 * MEGABYTE

    def pieces(self) -> Iterator[Piece]:
        """The finished pieces, in the order they were finished; one in memory at a time."""
        with open(self.folder / PIECES, encoding="utf-8") as file:
            for line in file:
                try:
                    yield Piece.read(line)
                except (ValueError, TypeError):
                    return  # cut off by a kill

    def entries(self, split: str | None = None) -> Iterator[tuple[Face, Entry]]:
        """Each photo of a split, or of all, with what its piece says of it.

        Raises:
            IntegrityError: the part changed meanwhile.
        """
        for name in self.choice.names() if split is None else (split,):
            said = (e for p in self.pieces() if p.split == name for e in p.entries)
            for face, entry in zip(self.choice.faces(name), said, strict=True):
                if face.key != entry.key:
                    raise IntegrityError(
                        f"{face.part.root}: changed while it was exported; run the export again"
                    )
                yield face, entry

    def licences(self) -> list[str]:
        """The licences that the photos state, sorted; "" stands for none."""
        if self.about.licence:
            return [self.about.licence]
        return sorted({licence for _, licence in self.choice.stated})


class Format(ABC):
    """One format: how some photos become files, and what stands around them.

    Attributes:
        name: on the command line.
        summary: one line of help.
        photos: whether photos are written, and not their labels alone.
        points_in_manifest: whether the points are in the manifest, because nothing else has them.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    photos: ClassVar[bool] = True
    points_in_manifest: ClassVar[bool] = False

    def check(self, job: Job) -> None:
        """Refuse an export that the format cannot hold, before anything is written.

        Raises:
            UsageError: says what is missing.
            MissingExtra: a library is not installed.
        """
        return None

    @abstractmethod
    def piece(self, job: Job, split: str, number: int, items: Iterator[Item]) -> Piece:
        """Write the next piece: take as many photos as belong into it, at least one.

        The same photos always give the same bytes.
        """

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """Write what stands around the pieces; path -> what was written.

        Args:
            job: all of whose pieces are finished.
            sums: what stands around them already: the manifests, and samples.
        """
        return {}


def require(value: str, option: str, why: str) -> str:
    """A text that a format needs.

    Raises:
        UsageError: it is empty.
    """
    if not value.strip():
        raise UsageError(f"{option} is missing: {why}")
    return value
