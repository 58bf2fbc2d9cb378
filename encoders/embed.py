"""Stage: photographs to unit vectors in which near-duplicates are close."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Protocol

import numpy as np

from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.photos import photo_pixels
from sfhq.parts.records import Array, FaceRecord, Json, Pixels
from sfhq.pipeline.stage import Scope


class ImageEncoder(Protocol):
    """What turns images into vectors."""

    @property
    def name(self) -> str:
        """Name by which thresholds are kept, such as "dlib-face"."""

    @property
    def digest(self) -> str:
        """sha256 of the weights."""

    def __call__(self, images: list[Pixels]) -> Array:
        """(H, W, 3) uint8 RGB images to (N, D) float32, not normalised yet."""


@dataclass(frozen=True)
class DlibFaceEncoder:
    """dlib's recognition network as an `ImageEncoder`."""

    name: str = "dlib-face"

    @property
    def digest(self) -> str:
        """sha256 of the weights."""
        from encoders.features.recognition import recognition_digest

        return recognition_digest()

    def __call__(self, images: list[Pixels]) -> Array:
        """(N, 128) float32."""
        from encoders.features.recognition import describe_faces

        return describe_faces(images)[0]


@dataclass(frozen=True)
class Embed:
    """Adds a unit vector to every face, in `arrays/embedding/`.

    A face whose vector is zero or not finite is rejected: nothing can be said about its
    neighbours.

    Attributes:
        encoder: the network.
        batch: faces at a time.
        features: further encoders, for tastes; each fills `arrays/features_<name>/`, unit
            vectors where they are wide, as they come where they are measurements.
    """

    name: ClassVar[str] = "embed"
    scope: ClassVar[Scope] = "face"

    encoder: ImageEncoder
    batch: int = 16
    features: tuple[ImageEncoder, ...] = ()

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}; wanted 1 or more faces at a time")

    def settings(self) -> dict[str, Json]:
        """The encoder's name and digest."""
        found: dict[str, Json] = {"encoder": self.encoder.name, "digest": self.encoder.digest}
        if self.features:
            found["features"] = {f.name: f.digest for f in self.features}
        return found

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Embed every image of `images/`."""
        waiting = iter(records)
        while chunk := list(islice(waiting, self.batch)):
            images = [photo_pixels(part, r) for r in chunk]
            sets = [(f"features_{f.name}", f(images)) for f in self.features]
            vectors = np.asarray(self.encoder(images), dtype=np.float32)
            lengths = np.linalg.norm(vectors, axis=1)
            for i, (record, vector, length) in enumerate(zip(chunk, vectors, lengths, strict=True)):
                for name, rows in sets:
                    record = record.with_array(name, rows[i])
                if not np.isfinite(length) or length < 1e-12:
                    yield record.reject(
                        self.name, "no embedding", f"the vector's length is {length}"
                    )
                else:
                    yield record.with_array("embedding", vector / length)
