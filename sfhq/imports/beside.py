"""What else came with an imported set: vectors, faces that were found, and labels as columns.

Each becomes records of the stage that would have made it here, so that later stages find it by the
usual names, or of the stage "given" for labels that no stage of ours makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from sfhq import stages
from sfhq.errors import IntegrityError
from sfhq.faces.detector import Detection
from sfhq.faces.found import POINTS, as_columns
from sfhq.imports.sheets import as_type, typed
from sfhq.imports.stage import Import
from sfhq.parts.part import Part
from sfhq.parts.records import COLUMNS, Array, ColumnType, FaceRecord, Json
from sfhq.pipeline.stage import Stage

ENCODERS = {"CLIP_ViTL_14@336": "clip"}  # feature set -> encoder of `embed` whose vectors they are
OURS = {"CLIP_ViTL_14": "clip-vit-l-14", "CLIP_ResNet50x64": "clip-rn50x64"}
KNOWN = ("dlib-face", "clip", "flip")  # encoders, by the names that our own exports use
EXPORTED = (  # columns that exports put beside those of a part
    *("key", "split", "part", "label", "name", "file_name", "photo", "bytes", "sha256", "image"),
    *("mask", "image_width", "image_height", "mask_file_name", "landmarks", "visibility"),
    *("caption_text", "digital_source_type", "has_landmarks", "has_segmentation"),
)
TAKEN = (*COLUMNS, *EXPORTED, "alive", "shard")


@dataclass(frozen=True)
class Beside(Stage[Any]):
    """What these stages share: the set that the part was imported from."""

    source: Import

    def settings(self) -> dict[str, Json]:
        """That it was imported, and in which layout."""
        return {"imported": self.source.layout}


@dataclass(frozen=True)
class FoundFaces(Beside):
    """The 68 points that came with each photo, as `detect` would have found them."""

    name: ClassVar[str] = "detect"
    columns: ClassVar[Mapping[str, ColumnType]] = {
        "face_count": "integer",
        "face_boxes": "numbers",
        "face_scores": "numbers",
        "face_detector": "text",
        "face_flaw": "text",
    }
    arrays: ClassVar[tuple[str, ...]] = (POINTS,)

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """The box around the points is the face."""
        for record in records:
            points = self.source.opened.came(record.source).points[POINTS]
            (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
            face = Detection((x0, y0, x1, y1), 1.0, points.astype(np.float64), "imported")
            yield record.with_columns(**as_columns([face])).with_array(POINTS, points)


@dataclass(frozen=True)
class Vectors(Beside):
    """The feature sets that came with each photo; one of a known encoder is the embedding.

    Attributes:
        sets: feature set -> (array of ours, numbers in it).
    """

    name: ClassVar[str] = "embed"
    sets: tuple[tuple[str, str, int], ...] = ()

    def settings(self) -> dict[str, Json]:
        """The encoder by the name that `embed` gives it; its weights are not known."""
        encoder = next((_encoder(name) for name, array, _ in self.sets if array == "embedding"), "")
        return {**super().settings(), "encoder": encoder, "digest": ""}

    def written(self) -> tuple[str, ...]:
        """The arrays."""
        return tuple(array for _, array, _ in self.sets)

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Vectors of length 1."""
        for record in records:
            found = self.source.opened.came(record.source).features
            for name, array, size in self.sets:
                vector = found.get(name)
                if vector is None or vector.shape != (size,):
                    what = "missing" if vector is None else f"{len(vector)} numbers, others {size}"
                    raise IntegrityError(
                        f"{self.source.root}: features {name} of {record.source}: {what}; "
                        "leave all features out, or put sound ones there"
                    )
                record = record.with_array(array, _unit(vector, record))
            yield record


@dataclass(frozen=True)
class Given(Beside):
    """The other labels that came with the photos, each as a column.

    A column that a stage of ours writes, or that every part has, is called imported_<name> here.

    Attributes:
        kinds: name in the set -> type.
    """

    name: ClassVar[str] = "given"
    kinds: tuple[tuple[str, ColumnType], ...] = ()

    @cached_property
    def columns(self) -> Mapping[str, ColumnType]:  # type: ignore[override]
        """The columns, as the part has them."""
        return {_column(name): kind for name, kind in self.kinds}

    def settings(self) -> dict[str, Json]:
        """The columns and their types."""
        return {**super().settings(), "columns": dict(self.columns)}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """The labels of each photo."""
        for record in records:
            row = self.source.opened.came(record.source).columns
            said = {_column(n): as_type(row.get(n), kind) for n, kind in self.kinds}
            yield record.with_columns(**said)


def beside(source: Import, part: Part) -> tuple[list[Stage[Any]], list[str]]:
    """The stages that take the rest of a set, and what could not be taken, in a line each.

    Args:
        source: the stage that ran.
        part: its part.
    """
    count = with_points = 0
    counts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    kinds: dict[str, ColumnType] = {}

    def rows() -> Iterator[dict[str, Json]]:
        nonlocal count, with_points
        for record in part.records(source.name):
            if not record.alive:
                continue
            came = source.opened.came(record.source)
            count += 1
            with_points += POINTS in came.points
            for name, vector in came.features.items():
                counts[name] = counts.get(name, 0) + 1
                sizes.setdefault(name, len(vector))
            yield dict(came.columns)

    kinds = typed(rows())
    found: list[Stage[Any]] = []
    notes: list[str] = []
    if with_points and with_points == count:
        found.append(FoundFaces(source))
    elif with_points:
        notes.append(
            f"68 points came with {with_points} of {count} photos and were left out; "
            f"run: sfhq detect {part.root}"
        )
    whole = [name for name in sorted(counts) if counts[name] == count]
    sets = tuple((name, _array(name, whole), sizes[name]) for name in whole)
    if any(array == "embedding" for _, array, _ in sets):
        found.append(Vectors(source, sets))
    elif sets:
        notes.append(
            f"the features {', '.join(whole)} are of no encoder that is known here and were left "
            f"out; run: sfhq embed {part.root}"
        )
    short = [f"{name} ({n} of {count})" for name, n in sorted(counts.items()) if n != count]
    if short:
        notes.append(f"features of some photos only were left out: {', '.join(short)}")
    if kinds:
        found.append(Given(source, tuple(sorted(kinds.items()))))
    return found, notes


def _encoder(name: str) -> str:
    return ENCODERS.get(name, name)


def _array(name: str, all_of_them: list[str]) -> str:
    """The array of a feature set; the first of a known encoder is the embedding."""
    known = [n for n in all_of_them if _encoder(n) in KNOWN]
    if known and name == known[0]:
        return "embedding"
    return "features_" + re.sub(r"[^a-z0-9]+", "-", OURS.get(name, name).lower()).strip("-")


def _unit(vector: Array, record: FaceRecord) -> Array:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or length < 1e-12:
        raise IntegrityError(
            f"features of {record.source}: the vector's length is {length}; put a sound one there"
        )
    scaled: Array = (vector / length).astype(np.float32)
    return scaled


def _column(name: str) -> str:
    """The name of a column in the part."""
    plain = re.sub(r"\W+", "_", name).strip("_") or "column"
    return f"imported_{plain}" if plain in _known() else plain


def _known() -> set[str]:
    """Names that are taken."""
    declared = {c for stage in stages.names() for c in stages.load_stage(stage).columns}
    return {*TAKEN, *declared}
