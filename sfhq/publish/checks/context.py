"""What checks work on: the faces of a part, each read once, and what the user compares with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfhq.errors import SfhqError
from sfhq.images import TRAINED, BadImage, mark_of, read_marked
from sfhq.marks.signature import Manifest, read_manifest
from sfhq.marks.watermark import Found, detect
from sfhq.marks.xmp import Origin, read_packet
from sfhq.parts.files import read_file, why
from sfhq.parts.folders import RENDER_FOLDER, SOURCE_TYPE, SYNTHETIC_FOLDER
from sfhq.parts.lineage import about_stages, faces_stage, provider
from sfhq.parts.part import Part
from sfhq.parts.photos import MOST_IMAGE
from sfhq.parts.records import FaceRecord, Json, Pixels
from sfhq.parts.source import Source, source_of

PHOTO_FOLDERS = (SYNTHETIC_FOLDER, RENDER_FOLDER, "aligned")  # the first that a face has
SOURCE = "source"  # stands for the file that a photo was ingested or imported from
MASKS = "segmentations"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """What a validation compares a part with.

    Attributes:
        earlier: parts that are published already.
        real: folder of photographs of people; None for no audit.
        targets: TOML file of shares that are aimed at; None for none.
        export: folder of an export; None for the part's own, where there is one.
        threshold: cosine above which photos are near-duplicates; None for dedup's.
        rate: false-match rate at which identities are counted.
        workers: faces that are read at a time.
    """

    earlier: tuple[Path, ...] = ()
    real: Path | None = None
    targets: Path | None = None
    export: Path | None = None
    threshold: float | None = None
    rate: float = 1e-3
    workers: int = 2


@dataclass
class Face:
    """A face that was read.

    Attributes:
        record: with all that stages say of it.
        folder: of its photo; `SOURCE` where that is not in the part; empty where it has none.
        broken: image folder -> the file there and what is wrong with it.
        size: bytes of the photo's file.
        pixels: (H, W, 3) uint8 of the photo; None where it cannot be read.
        mask: (H, W) uint8 ids; None where there is none, or it cannot be read.
        origin, watermark, manifest: the photo's marks.
    """

    record: FaceRecord
    folder: str = ""
    broken: dict[str, str] = field(default_factory=dict)
    size: int = 0
    pixels: Pixels | None = None
    mask: Pixels | None = None
    origin: Origin | None = None
    watermark: Found | None = None
    manifest: Manifest | None = None


@dataclass
class Context:
    """A part that is being validated.

    Attributes:
        part: the part.
        options: what it is compared with.
        features: face id -> numbers that audits use, of faces that could be read.
        sizes: face id -> height and width of its photo.
        digests: sha256 of a photo -> the faces that have it.
        seen: crops of inspirations that were read, by folder, name and digest.
        marked: the faces whose photo carries a mark, by mark.
        shards: arrays that were read, by name and shard; None for damaged ones.
    """

    part: Part
    options: Options
    features: dict[str, Floats] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    digests: dict[str, list[str]] = field(default_factory=dict)
    shards: dict[tuple[str, int], Any] = field(default_factory=dict)
    seen: set[tuple[str, str, str]] = field(default_factory=set)
    reading: Lock = field(default_factory=Lock)  # archives are read by one thread at a time
    marked: dict[str, list[str]] = field(
        default_factory=lambda: {k: [] for k in ("photos", "xmp", "watermark", "c2pa")}
    )

    @cached_property
    def faces(self) -> str:
        """The stage that says which faces there are."""
        return faces_stage(self.part)

    @cached_property
    def records(self) -> list[FaceRecord]:
        """All faces, rejected ones too."""
        return list(self.part.faces(rejected=True))

    @cached_property
    def alive(self) -> list[FaceRecord]:
        """The faces that stayed."""
        return [r for r in self.records if r.alive]

    @cached_property
    def stages(self) -> list[str]:
        """Complete stages that say something about the faces."""
        return about_stages(self.part, self.faces)

    @cached_property
    def own(self) -> set[str]:
        """Image folders that hold files by the names of the faces themselves."""
        found: set[str] = set()
        for stage in (self.faces, *self.stages):
            found |= {*self.part.stage_info(stage)["writes"]}
        return found

    @cached_property
    def columns(self) -> set[str]:
        """The columns that stages say about the faces."""
        return {name for record in self.alive[:1] for name in record.about}

    def has(self, name: str) -> bool:
        """Whether a column, an array or an image folder is there."""
        return provider(self.part, name, self.faces) is not None

    def row(self, name: str, record: FaceRecord) -> Any:
        """The row of an array that belongs to a face; None where it cannot be read.

        The check `arrays` says what is wrong with those.
        """
        if name not in record.rows:
            return None
        key = name, record.shard
        if key not in self.shards:
            try:
                self.shards[key] = self.part.array(name, record.shard)
            except SfhqError:
                self.shards[key] = None
        array, place = self.shards[key], record.rows[name]
        return array[place] if array is not None and place < len(array) else None

    def settings(self, stage: str) -> dict[str, Json]:
        """Settings of a stage; empty where it has not run."""
        if stage not in self.part.stages():
            return {}
        found: dict[str, Json] = self.part.stage_info(stage)["settings"]
        return found

    @cached_property
    def vectors(self) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Ids and (N, D) unit vectors of the faces that stayed, in the order of the records."""
        return embeddings(self.part, self.alive)

    @cached_property
    def export(self) -> Path | None:
        """Folder of the export; None where there is none."""
        chosen = self.options.export or self.part.root / "export"
        return chosen if self.options.export is not None or chosen.is_dir() else None

    @cached_property
    def source(self) -> Source | str:
        """Where photos lie that are not in the part; or why they cannot be read."""
        try:
            return source_of(self.part)
        except SfhqError as error:
            return str(error)

    @cached_property
    def payload(self) -> str | None:
        """The watermark that photos were written with, as 8 hexadecimal digits."""
        marks = self.settings(self.faces).get("marks")
        for stage in ("synthesize", "sample"):
            marks = marks or self.settings(stage).get("marks")
        found = marks.get("watermark") if isinstance(marks, dict) else None
        return found if isinstance(found, str) else None


def embeddings(part: Part, records: list[FaceRecord]) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Ids and (N, D) float32 unit vectors of the faces that have one.

    Raises:
        IntegrityError: an array is missing, damaged or was changed.
    """
    places: dict[int, list[tuple[int, int]]] = {}
    ids: list[str] = []
    for record in records:
        if "embedding" in record.rows:
            places.setdefault(record.shard, []).append((len(ids), record.rows["embedding"]))
            ids.append(record.face_id)
    found: npt.NDArray[np.float32] = np.zeros((len(ids), 0), np.float32)
    for shard, rows in places.items():
        values = part.rows("embedding", shard, [row for _, row in rows])
        if not found.shape[1]:
            found = np.zeros((len(ids), values.shape[1]), np.float32)
        found[[place for place, _ in rows]] = values
    return ids, found


def read_face(context: Context, record: FaceRecord) -> Face:
    """A face with its files read and compared with their digests; never raises for what is wrong.

    A crop that a candidate has of its inspiration lies under the name of that, and is read once.
    """
    part = context.part
    face = Face(record, next((f for f in PHOTO_FOLDERS if f in record.hashes), ""))
    for folder, wanted in record.hashes.items():
        name = record.face_id
        if record.parent_id and folder not in context.own:
            name = record.parent_id
            if (folder, name, wanted) in context.seen:
                continue
            context.seen.add((folder, name, wanted))
        path = part.image_path(folder, name)
        where = f"{folder}/{name}.png"
        try:
            data = read_file(path, MOST_IMAGE)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            face.broken[folder] = f"{where}: {'missing' if missing else why(error)}"
            continue
        if hashlib.sha256(data).hexdigest() != wanted:
            face.broken[folder] = f"{where}: changed since it was written (sha256 differs)"
        if folder == face.folder:
            _read_photo(face, data)
        elif folder == MASKS:
            _read_mask(face, data)
    if not face.folder and record.source_sha256:
        face.folder = SOURCE
        _read_source(context, face)
    return face


def _read_source(context: Context, face: Face) -> None:
    """The photo of a face that was ingested or imported, and still lies where it came from."""
    name = face.record.source
    with context.reading:
        source = context.source
        if isinstance(source, str):
            face.broken[SOURCE] = f"{name}: {source}"
            return
        try:
            data = source.read(name)
        except BadImage as error:
            gone = error.reason == "source missing"
            face.broken[SOURCE] = f"{name}: missing in {source.root}" if gone else str(error)
            return
    if hashlib.sha256(data).hexdigest() != face.record.source_sha256:
        face.broken[SOURCE] = f"{name}: changed since it was taken in (sha256 differs)"
    _read_photo(face, data)


def _read_photo(face: Face, data: bytes) -> None:
    face.size = len(data)
    try:
        decoded = read_marked(data)
    except BadImage as error:
        face.broken.setdefault(face.folder, f"{face.folder}: cannot be decoded ({error.reason})")
        return
    face.pixels = np.asarray(decoded.image)
    face.origin = read_packet(decoded.packet) if decoded.packet else None
    said = face.record.params.get(SOURCE_TYPE)
    if face.folder == SYNTHETIC_FOLDER or said == TRAINED:  # nothing else is watermarked
        face.watermark = detect(face.pixels)
    if face.folder == SOURCE or mark_of(face.folder) is not None:
        face.manifest = read_manifest(data, decoded.file_format)


def _read_mask(face: Face, data: bytes) -> None:
    import io

    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            face.mask = np.asarray(image)
    except Exception as error:
        face.broken.setdefault(MASKS, f"{MASKS}: cannot be decoded ({type(error).__name__})")
