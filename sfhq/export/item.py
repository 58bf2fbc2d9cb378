"""What an export writes of one photo: bytes, map of classes, points, labels."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from sfhq.errors import IntegrityError, UsageError
from sfhq.export.choose import Choice, Face
from sfhq.export.face_files import (
    MASK_FOLDER,
    SOURCE,
    landmark_arrays,
    photo_folder,
    photo_mark,
    photo_marks,
    photo_pixels,
)
from sfhq.formats import HEAD, kind_of
from sfhq.images import BadImage, encode_image
from sfhq.parts.part import Part
from sfhq.parts.photos import image_bytes, read_mask
from sfhq.parts.records import (
    COLUMNS,
    Array,
    FaceRecord,
    Json,
    Pixels,
    canonical_json,
    record_schema,
)
from sfhq.parts.source import Source, source_of

SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}  # kinds that are copied as they are
KINDS = {suffix: kind for kind, suffix in SUFFIXES.items()}
SIZES = (64, 2048)
OWN = ("key", "split", "part", "label", "file_name", "mask_file_name", "landmarks_file_name")


@dataclass(frozen=True)
class Look:
    """How photos are written.

    Attributes:
        image_format: "jpg", "png" or "webp"; "" copies the bytes that are there.
        quality: of JPEG and WebP.
        size: the longer side is reduced to this; 0 leaves it. Smaller photos stay as they are.
    """

    image_format: str = ""
    quality: int = 95
    size: int = 0

    def __post_init__(self) -> None:
        if self.image_format not in ("", *KINDS):
            raise UsageError(f"image format {self.image_format!r}: wanted {', '.join(KINDS)}")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality is {self.quality}; wanted 1 to 100")
        if self.size and not SIZES[0] <= self.size <= SIZES[1]:
            raise UsageError(f"size is {self.size}; wanted {SIZES[0]} to {SIZES[1]} pixels")


@dataclass
class Sources:
    """What photos are read from: sources of imported parts, opened once, and arrays by shard."""

    _open: dict[str, Source] = field(default_factory=dict)
    _arrays: dict[str, tuple[str, int, Array]] = field(default_factory=dict)

    def row(self, part: Part, name: str, record: FaceRecord) -> Array:
        """The row of an array that belongs to a face; the array of its shard is kept.

        Raises:
            IntegrityError: as `Part.row`.
        """
        number, held = record.rows[name], self._arrays.get(name)
        if held is None or held[:2] != (str(part.root), record.shard):
            held = (str(part.root), record.shard, part.array(name, record.shard))
            self._arrays[name] = held
        if not 0 <= number < len(held[2]):
            return np.asarray(part.row(name, record))  # which says what is wrong
        found: Array = np.asarray(held[2][number])
        return found

    def bytes_of(self, part: Part, record: FaceRecord) -> bytes:
        """The bytes that a record was made from.

        Raises:
            IntegrityError: missing or changed.
        """
        root = str(part.root)
        if root not in self._open:
            self._open[root] = source_of(part)
        try:
            return self._open[root].bytes_of(record)
        except BadImage as error:
            raise IntegrityError(
                f"{error}; put it back, or run: sfhq import {part.root} --redo"
            ) from None


@dataclass(frozen=True)
class Item:
    """One photo of an export, read when it is asked for.

    Attributes:
        face: which.
        look: how it is written.
        sources: of imported photos.
    """

    face: Face
    look: Look
    sources: Sources

    @cached_property
    def _stored(self) -> tuple[bytes, str]:
        part, record = self.face.part, self.face.record
        folder = photo_folder(record)
        if folder != SOURCE:
            return image_bytes(part, record, folder), "png"
        data = self.sources.bytes_of(part, record)
        return data, SUFFIXES.get(kind_of(data[:HEAD]) or "", "")

    @cached_property
    def photo(self) -> tuple[bytes, str, str]:
        """Bytes, suffix and sha256 of the photo, with no pixel changed unless that was asked for.

        Raises:
            IntegrityError: missing, changed or unreadable.
        """
        data, suffix = self._stored
        record = self.face.record
        wanted = self.look.image_format or suffix or "png"
        if suffix == wanted and not self._is_large:
            folder = photo_folder(record)
            known = record.source_sha256 if folder == SOURCE else record.hashes[folder]
            return data, suffix, known  # the digest was checked when the bytes were read
        pixels = photo_pixels(self.face.part, record)
        if self._is_large:
            image = Image.fromarray(pixels)
            pixels = np.asarray(image.resize(self.size, Image.Resampling.LANCZOS))
        marks = photo_marks(self.face.part, record, self.size if self._is_large else None)
        made = encode_image(pixels, KINDS[wanted], photo_mark(record), self.look.quality, marks)
        return made, wanted, hashlib.sha256(made).hexdigest()

    @cached_property
    def _stored_size(self) -> tuple[int, int]:
        data, suffix = self._stored
        if suffix == "png":
            return png_size(data)
        try:
            with Image.open(io.BytesIO(data)) as image:
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                width, height = image.size
        except Exception:
            record = self.face.record
            return record.width, record.height
        return (height, width) if turned else (width, height)

    @property
    def _is_large(self) -> bool:
        return bool(self.look.size) and max(self._stored_size) > self.look.size

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the photo."""
        width, height = self._stored_size
        if not self._is_large:
            return width, height
        scale = self.look.size / max(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def mask(self) -> bytes | None:
        """The map of classes as a PNG of greys that are the ids; None where there is none."""
        part, record = self.face.part, self.face.record
        if MASK_FOLDER not in record.hashes:
            return None
        if not self._is_large:
            plain = without_palette(image_bytes(part, record, MASK_FOLDER))
            if plain is not None:
                return plain
        return _grey_png(self.classes)

    @property
    def classes(self) -> Pixels | None:
        """(H, W) uint8 ids of the classes, in the size of the photo; None where there are none."""
        part, record = self.face.part, self.face.record
        if MASK_FOLDER not in record.hashes:
            return None
        ids = read_mask(part, record, MASK_FOLDER)
        if not self._is_large:
            return ids
        smaller = Image.fromarray(np.ascontiguousarray(ids, np.uint8))
        return np.asarray(smaller.resize(self.size, Image.Resampling.NEAREST))

    @cached_property
    def landmarks(self) -> dict[str, Array]:
        """`landmarks`, (N, 2) float32 pixels of the photo, and of 110 `visibility`; or nothing."""
        found = landmark_arrays(self.face.part, self.face.record, self.sources.row)
        if found and self._is_large:
            scale = np.divide(self.size, self._stored_size).astype(np.float32)
            found["landmarks"] = (found["landmarks"] + 0.5) * scale - 0.5  # centres of pixels
        return found

    @property
    def caption(self) -> str:
        """What is said of the photo in words; "" where nothing is."""
        about, params = self.face.record.about, self.face.record.params
        return str(about.get("caption") or params.get("text") or "")


def items(choice: Choice, split: str, look: Look) -> Iterator[Item]:
    """The photos of a split."""
    sources = Sources()
    return (Item(face, look, sources) for face in choice.faces(split))


def label_columns(choice: Choice) -> Sequence[str]:
    """Names of the columns of `labels_of`."""
    return (*COLUMNS, *(n for n in choice.types if n != "label"), "digital_source_type")


def label_types(choice: Choice) -> dict[str, Any]:
    """Column of `labels_of` -> Arrow type."""
    import pyarrow as pa

    schema = record_schema()
    found = {name: schema.field(name).type for name in COLUMNS}
    found |= {n: t for n, t in choice.types.items() if n != "label"}
    return {**found, "digital_source_type": pa.string()}


def labels_of(face: Face, choice: Choice, tables: bool = False) -> dict[str, Json]:
    """Every column of the part's table for a face: what made it and all that is said of it.

    Args:
        face: which.
        choice: of the export.
        tables: leave params, rows and hashes tables; else they are JSON text.
    """
    record = face.record
    row: dict[str, Json] = {name: getattr(record, name) for name in COLUMNS}
    for name in ("params", "rows", "hashes"):
        row[name] = dict(row[name]) if tables else canonical_json(dict(row[name]))
    row["quad"] = list(row["quad"])
    for name in choice.types:
        if name != "label":
            row[name] = record.about.get(name)
    row["digital_source_type"] = photo_mark(record)
    return row


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height that the head of a PNG states."""
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def without_palette(png: bytes) -> bytes | None:
    """A PNG whose palette has been taken away, so that its greys are what were places in it.

    Pixels of 8 bits are stored alike with a palette and as greys: only the head changes and two
    kinds of chunks go, so nothing is decoded. None for another kind of PNG.
    """
    if png[12:16] != b"IHDR" or png[24:26] != b"\x08\x03":
        return None
    head = b"IHDR" + png[16:25] + b"\x00" + png[26:29]
    kept = [png[:8], struct.pack(">I", 13), head, struct.pack(">I", zlib.crc32(head))]
    place = 33
    while place + 12 <= len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        end = place + 12 + length
        if png[place + 4 : place + 8] not in (b"PLTE", b"tRNS"):
            kept.append(png[place:end])
        place = end
    return b"".join(kept)


def _grey_png(ids: Pixels | None) -> bytes | None:
    if ids is None:
        return None
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(ids, np.uint8)).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
