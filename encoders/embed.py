"""Stage: photographs to unit vectors in which near-duplicates are close."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from encoders.features.encoder import ImageEncoder
from sfhq.errors import UsageError
from sfhq.faces.found import POINTS, found_faces
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo, require_photos
from sfhq.parts.records import Array, FaceRecord, Json, Pixels
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage, positive

if TYPE_CHECKING:
    from sfhq.faces.detector import Detection
    from sfhq.pipeline.recipe import Recipe

FEATURES = "features_"  # of arrays that hold a feature set for tastes


@dataclass(frozen=True)
class DlibFaceEncoder:
    """dlib's recognition network as an `ImageEncoder`."""

    name: str = "dlib-face"
    reads_faces: bool = True

    @property
    def digest(self) -> str:
        """sha256 of the weights."""
        from encoders.features.recognition import recognition_digest

        return recognition_digest()

    def __call__(
        self, images: list[Pixels], faces: Sequence[Sequence[Detection]] | None = None
    ) -> Array:
        """(N, 128) float32."""
        from encoders.features.recognition import describe_faces

        points = None if faces is None else [f[0].landmarks if f else None for f in faces]
        return describe_faces(images, points)[0]


@dataclass(frozen=True)
class EmbedSettings:
    """See `Embed`."""

    encoder: Annotated[Literal["dlib-face", "clip", "flip"], option("Network of the vectors.")] = (
        "dlib-face"
    )
    encoder_weights: Annotated[
        Path | None, option("Weights of CLIP or FLIP; of presets, the folder of their weights.")
    ] = None
    features: Annotated[
        tuple[str, ...],
        option("Feature sets for tastes: geometry, efficientnet, preset-1 to -7.", metavar="NAMES"),
    ] = ()
    batch: Annotated[int, option("Photos at a time; bounds the memory.", least=1)] = 16


@dataclass(frozen=True)
class Embed(Stage[EmbedSettings]):
    """Adds a unit vector to every face, in `arrays/embedding/`.

    A face whose vector is zero or not finite is rejected: nothing can be said about its
    neighbours.

    Attributes:
        encoder: the network.
        batch: photos at a time.
        features: further encoders, for tastes; each fills `arrays/features_<name>/`, unit
            vectors where they are wide, as they come where they are measurements.
    """

    name: ClassVar[str] = "embed"
    arrays: ClassVar[tuple[str, ...]] = ("embedding",)
    Settings: ClassVar[type[Any]] = EmbedSettings
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq embed part-05 --encoder dlib-face --features geometry,efficientnet",
    )

    encoder: ImageEncoder
    batch: int = 16
    features: tuple[ImageEncoder, ...] = ()

    def __post_init__(self) -> None:
        positive("batch", self.batch, "photos at a time")

    @classmethod
    def build(cls, settings: EmbedSettings, recipe: Recipe, part: Path) -> Embed:
        """The stage that a recipe describes, with its encoders."""
        weights = settings.encoder_weights
        sets = [s for name in settings.features for s in feature_sets(name, weights)]
        return cls(image_encoder(settings.encoder, weights), settings.batch, tuple(sets))

    def check(self, part: Part) -> None:
        """Refuse a part whose source is not there any more."""
        require_photos(part)

    def settings(self) -> dict[str, Json]:
        """The encoder's name and digest."""
        found: dict[str, Json] = {"encoder": self.encoder.name, "digest": self.encoder.digest}
        if self.features:
            found["features"] = {f.name: f.digest for f in self.features}
        return found

    def needed(self) -> tuple[str, ...]:
        """Detected faces, where an encoder looks at the face."""
        if any(e.reads_faces for e in (self.encoder, *self.features)):
            return (POINTS,)
        return ()

    def written(self) -> tuple[str, ...]:
        """The embedding and the feature sets."""
        return (*self.arrays, *(FEATURES + f.name for f in self.features))

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Embed the photo of every face."""
        waiting = iter(records)
        while chunk := list(islice(waiting, self.batch)):
            images = [read_photo(part, r) for r in chunk]
            faces = [found_faces(part, r) for r in chunk] if self.needed() else None
            sets = [(FEATURES + f.name, f(images, faces)) for f in self.features]
            vectors = np.asarray(self.encoder(images, faces), dtype=np.float32)
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


def image_encoder(name: str, weights: Path | None = None) -> ImageEncoder:
    """The encoder of a name.

    Args:
        name: "dlib-face", "clip" or "flip".
        weights: file of the weights; None looks in the caches for CLIP's, in the embedded pack for
            FLIP's.

    Raises:
        UsageError: no encoder has that name.
    """
    if name == "dlib-face":
        return DlibFaceEncoder()
    if name == "clip":
        from encoders.features.clip import ClipEncoder

        return ClipEncoder(weights=weights)
    if name == "flip":
        from encoders.features.flip import FlipEncoder

        return FlipEncoder(weights)
    raise UsageError(f"unknown encoder {name!r}; wanted dlib-face, clip or flip")


def feature_sets(name: str, weights: Path | None = None) -> tuple[ImageEncoder, ...]:
    """The encoders of a feature set, or of a preset of several.

    Raises:
        UsageError: no set or preset has that name.
    """
    if name == "geometry":
        from encoders.features.geometry import GeometryEncoder

        return (GeometryEncoder(),)
    if name == "efficientnet":
        from encoders.features.efficientnet import EfficientNetEncoder

        return (EfficientNetEncoder(),)
    if name == "dlib-face":
        return (DlibFaceEncoder(),)
    from encoders.features.presets import preset

    return preset(name, weights)
