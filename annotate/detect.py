"""Stage: where the face is in every photo, and its 68 points. Other stages read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from PIL import Image

from sfhq.faces.detector import Detector, FaceDetector, best_face
from sfhq.faces.found import POINTS, as_columns
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo, require_photos
from sfhq.parts.records import ColumnType, FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe


@dataclass(frozen=True)
class DetectSettings:
    """See `Detect`."""

    detector: Annotated[
        Literal["auto", "hog", "cnn"],
        option("dlib's detector: HOG, the CNN, or the CNN where HOG finds nothing."),
    ] = "auto"


@dataclass(frozen=True)
class Detect(Stage[DetectSettings]):
    """Finds the faces of every photo; the best one's points go to `arrays/landmarks_68/`.

    The points are (68, 2) float32 in pixels of the photo, NaN where no face was found or its points
    do not hold (`face_flaw`). No photo is rejected: `face_count` says how many faces it shows.

    Attributes:
        detector: finds the faces.
    """

    name: ClassVar[str] = "detect"
    columns: ClassVar[Mapping[str, ColumnType]] = {
        "face_count": "integer",
        "face_boxes": "numbers",  # x0, y0, x1, y1 of each face in turn, in pixels of the photo
        "face_scores": "numbers",
        "face_detector": "text",
        "face_flaw": "text",  # why the best face's points must not be used
    }
    arrays: ClassVar[tuple[str, ...]] = (POINTS,)
    Settings: ClassVar[type[Any]] = DetectSettings
    examples: ClassVar[tuple[str, ...]] = ("sfhq detect part-05",)

    detector: Detector

    @classmethod
    def build(cls, settings: DetectSettings, recipe: Recipe, part: Path) -> Detect:
        """The stage that a recipe describes."""
        return cls(FaceDetector(detector=settings.detector))

    def check(self, part: Part) -> None:
        """Refuse a part whose source is not there any more."""
        require_photos(part)

    def settings(self) -> dict[str, Json]:
        """What decides the detections."""
        return dict(self.detector.settings())

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Look at the photo of every face."""
        for record in records:
            found = self.detector.detect(Image.fromarray(read_photo(part, record)))
            best = best_face(found)
            points = np.full((68, 2), np.nan) if best is None else best.landmarks
            done = record.with_columns(**as_columns(found))
            yield done.with_array(POINTS, points.astype(np.float32))
