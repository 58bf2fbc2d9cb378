"""Stage: 110 points of every photo, each with a flag, an expected error and a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from sfhq.errors import UsageError
from sfhq.faces.found import POINTS
from sfhq.faces.points import ARRAY as LANDMARKS
from sfhq.parts.lineage import faces_stage, provider
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo, require_photos
from sfhq.parts.records import ColumnType, FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage

if TYPE_CHECKING:
    from annotate.fan import FanPoints
    from annotate.labels.points import Points
    from annotate.labels.reading import Reader
    from annotate.labels.views import View
    from sfhq.pipeline.recipe import Recipe

REVISION = 2  # raised when the same reading gives other points
Source = Literal["network", "dlib", "fan"]
Hairline = Literal["rays", "network", "fused"]


@dataclass(frozen=True)
class LandmarkSettings:
    """See `Landmark`."""

    points: Annotated[
        Literal["network", "dlib", "fan"],
        option(
            "Who places the 68: the label network, detect's dlib, or FAN where its weights are."
        ),
    ] = "network"
    hairline: Annotated[
        Literal["rays", "network", "fused"],
        option("Hairline and outline: from the classes along rays, the network's points, or both."),
    ] = "rays"
    weights: Annotated[
        Path | None, option("Weights of the label network.", default="the embedded pack's")
    ] = None


@dataclass(frozen=True)
class Landmark(Stage[LandmarkSettings]):
    """Writes the array `landmarks_110`, (110, 5) float32: x, y, flag, expected error and reason.

    Places and errors are in pixels of the photo, NaN where no face was found. The flag is
    COCO's: 0 missing or outside the photo, 1 hidden or inferred, 2 visible. REASONS in
    `annotate.labels.points`
    has the reasons by number. docs/landmarks.md defines the points. No photo is rejected.

    Attributes:
        reader: the label network.
        digest: sha256 of its file.
        source: who places the first 68 points.
        hairline: how points 80 to 109 are placed.
        fan: the network, where `source` is "fan".
    """

    name: ClassVar[str] = "landmark"
    wants: ClassVar[tuple[str, ...]] = (POINTS,)
    asks: ClassVar[str] = "label reader"
    columns: ClassVar[Mapping[str, ColumnType]] = {
        "eye_distance": "number",  # between the outer corners of the eyes, in pixels of the photo
        "landmark_error": "number",  # mean expected error of the 68, in shares of the eye distance
        "landmark_flags": "text",  # words, separated by ", "
    }
    arrays: ClassVar[tuple[str, ...]] = (LANDMARKS,)
    Settings: ClassVar[type[Any]] = LandmarkSettings
    about: ClassVar[str] = (
        "docs/landmarks.md defines the points. Flags: no face, rough frame, no 68 points, profile, "
        "bald, hat, fringe, occluded, truncated, low margin."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq landmark part-05",
        "sfhq landmark part-05 --points dlib --redo",
    )

    reader: Reader
    digest: str
    source: Source = "network"
    hairline: Hairline = "rays"
    fan: FanPoints | None = None

    @classmethod
    def build(cls, settings: LandmarkSettings, recipe: Recipe, part: Path) -> Landmark:
        """The stage that a recipe describes, with its networks."""
        from sfhq import stages

        reader, digest = stages.network("label reader")(settings.weights)
        fan = None
        if settings.points == "fan":
            from annotate.fan import load_fan

            fan = load_fan()
        return cls(reader, digest, settings.points, settings.hairline, fan)

    def check(self, part: Part) -> None:
        """Refuse photos that are not there, or whose faces nobody has looked for."""
        from annotate.labels.views import require_faces

        require_photos(part)
        require_faces(part, self.name)
        if self.source == "dlib" and provider(part, POINTS, faces_stage(part)) is None:
            raise UsageError(
                f"{part.root}: --points dlib takes those of detect; run: sfhq detect {part.root}"
            )

    def settings(self) -> dict[str, Json]:
        """Who places the points, and the networks."""
        return {
            "points": self.source,
            "hairline": self.hairline,
            "digest": self.digest,
            "fan": "" if self.fan is None else self.fan.digest,
            "revision": REVISION,
        }

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Read the photo of every face."""
        from annotate.labels.points import unknown
        from annotate.labels.views import views

        for record in records:
            photo = read_photo(part, record)
            found = views(part, record, photo, self.reader.size)
            if not found:
                said = record.with_columns(
                    eye_distance=None, landmark_error=None, landmark_flags="no face"
                )
                yield said.with_array(LANDMARKS, unknown().astype(np.float32))
                continue
            points, flags = self.read(found[0])
            yield _told(record, points, flags)

    def read(self, view: View) -> tuple[Points, tuple[str, ...]]:
        """The points of a view.

        Returns:
            (110, 5) in pixels of the photo, and words about the face.
        """
        from annotate.labels.landmarks import crop_points, in_photo, network_points, summary

        reading = self.reader.read(view.crop[None])
        given, flags = None, set(view.flags)
        if self.source == "dlib":
            given = view.landmarks
            if given is None:
                flags.add("no 68 points")
        elif self.source == "fan" and self.fan is not None:
            given = view.frame.to_photo(self.fan.read(view.crop)[0])
        crop = None if given is None else view.frame.to_crop(given)
        if crop is None and self.hairline == "rays":
            rows = network_points(reading)
        else:
            rows = crop_points(reading, 0, crop, self.hairline)
        points = in_photo(rows, view.frame)
        return points, tuple(sorted({*flags, *summary(points, reading, 0)}))


def _told(record: FaceRecord, points: Points, flags: tuple[str, ...]) -> FaceRecord:
    from annotate.labels.points import eye_distance

    unit = eye_distance(points)
    said = record.with_columns(
        eye_distance=round(unit, 3),
        landmark_error=round(float(points[:68, 3].mean()) / max(unit, 1e-6), 5),
        landmark_flags=", ".join(flags),
    )
    return said.with_array(LANDMARKS, points.astype(np.float32))
