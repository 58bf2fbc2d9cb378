"""Cut each face out of its source, upright and framed as in FFHQ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from PIL import Image

from sfhq.errors import UsageError
from sfhq.faces.alignment import (
    FloatArray,
    align_crop,
    apply_transform,
    ffhq_quad,
    inverse_transform,
    outside_share,
    quad_size,
    quad_transform,
)
from sfhq.faces.detector import MODES, Detection, Detector, FaceDetector, Mode, best_face
from sfhq.images import BadImage
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.parts.source import source_of
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Kind, Stage

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe

Faces = Literal["best", "single"]
SQUARE_TOLERANCE = 0.02  # crops cut out of figures are a pixel or two off


@dataclass(frozen=True)
class AlignSettings:
    """See `Align`."""

    size: Annotated[
        int | None, option("Pixels of the crop.", least=1, default="the generator's, at least 256")
    ] = None
    faces: Annotated[
        Literal["best", "single"],
        option("Of several faces take the best, or reject the image."),
    ] = "best"
    min_face: Annotated[int, option("Smallest crop in pixels of the source.", least=0)] = 64
    max_padding: Annotated[
        float, option("Largest share of the crop outside the source.", least=0, most=1)
    ] = 0.35
    aligned: Annotated[bool, option("The images are FFHQ crops already.")] = False
    detector: Annotated[
        Literal["auto", "hog", "cnn"],
        option("dlib's detector: HOG, the CNN, or the CNN where HOG finds nothing."),
    ] = "auto"


@dataclass(frozen=True)
class Align(Stage[AlignSettings]):
    """The stage that turns a source image into an aligned crop.

    Writes the image `aligned`, (size, size, 3); the array `landmarks`, (68, 2) float32 in
    pixels of the crop, NaN where unknown; the array `transform`, (3, 3) float64, from
    pixels of the crop to pixels of the source; and the record's `quad`.

    Attributes:
        detector: finds the faces.
        size: height and width of the crop in pixels.
        faces: of several, "best" takes the one with the largest box x score, "single"
            rejects the image.
        min_face: least side of the crop in pixels of the source.
        max_padding: largest share of the crop that may lie outside the source, 0 to 1.
        aligned: the sources are FFHQ crops already: each is resized whole, and landmarks
            are kept where they are found.
    """

    name: ClassVar[str] = "align"
    kind: ClassVar[Kind] = "faces"
    arrays: ClassVar[tuple[str, ...]] = ("landmarks", "transform")
    images: ClassVar[tuple[str, ...]] = ("aligned",)
    Settings: ClassVar[type[Any]] = AlignSettings
    shares: ClassVar[tuple[str, ...]] = ("models",)
    examples: ClassVar[tuple[str, ...]] = ("sfhq align part-05 --faces single --min-face 128",)

    detector: Detector
    size: int = 1024
    faces: Faces = "best"
    min_face: int = 64
    max_padding: float = 0.35
    aligned: bool = False

    @classmethod
    def build(cls, settings: AlignSettings, recipe: Recipe, part: Path) -> Align:
        """The stage that a recipe describes, with its detector."""
        from sfhq.weights.resolution import generator_resolution

        return cls.load(
            size=settings.size or max(256, generator_resolution(recipe.models.generator)),
            faces=settings.faces,
            min_face=settings.min_face,
            max_padding=settings.max_padding,
            aligned=settings.aligned,
            detector=settings.detector,
        )

    @classmethod
    def load(
        cls,
        size: int = 1024,
        faces: Faces = "best",
        min_face: int = 64,
        max_padding: float = 0.35,
        aligned: bool = False,
        detector: str = "auto",
    ) -> Align:
        """The stage with the real detector; arguments as the attributes.

        Args:
            detector: "auto" asks HOG, then the CNN where HOG saw no face; "hog" is faster and
                misses many; "cnn" is slow.

        Raises:
            SfhqError: dlib or its landmarks are not installed.
            UsageError: a value is not valid.
        """
        if size < 1:
            raise UsageError(f"--size {size}: wanted 1 or more pixels")
        if faces not in ("best", "single"):
            raise UsageError(f"--faces {faces}: wanted best or single")
        if not 0.0 <= max_padding <= 1.0:
            raise UsageError(f"--max-padding {max_padding}: wanted a share from 0 to 1")
        modes: dict[str, Mode] = {mode: mode for mode in MODES}
        if detector not in modes:
            raise UsageError(f"--detector {detector}: wanted {', '.join(MODES)}")
        finder = FaceDetector(detector=modes[detector])
        finder.settings()
        return cls(finder, size, faces, min_face, max_padding, aligned)

    def check(self, part: Part) -> None:
        """Refuse a part whose source is not there any more."""
        with source_of(part):
            pass

    def settings(self) -> dict[str, Json]:
        """What decides the crops."""
        return {
            **self.detector.settings(),
            "size": self.size,
            "faces": self.faces,
            "min_face": self.min_face,
            "max_padding": self.max_padding,
            "aligned": self.aligned,
        }

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Align the faces of one shard; the source is opened once for all of them."""
        with source_of(part) as source:
            for record in records:
                try:
                    image = source.image(record)
                    yield self._whole(record, image) if self.aligned else self._cut(record, image)
                except BadImage as error:
                    yield record.reject(self.name, error.reason, str(error))

    def _cut(self, record: FaceRecord, image: Image.Image) -> FaceRecord:
        found = self.detector.detect(image)
        where = f"{record.source} ({image.width}x{image.height})"
        if not found:
            raise BadImage("no face", f"{where}: the detector found none")
        # Points that disagree are often no face at all; a profile is one.
        count = sum(face.flaw != "landmarks disagree" for face in found)
        if self.faces == "single" and count > 1:
            raise BadImage("several faces", f"{where}: {count} faces; wanted one")
        face = best_face(found)
        if face is None:
            flawed = max(found, key=lambda d: d.area)
            raise BadImage(
                flawed.flaw,
                f"{where}: {flawed.detector} is {flawed.score:.2f} sure of a face, but its points "
                f"do not hold (spread {flawed.spread:.3f}); wanted eyes and mouth in sight",
            )
        try:
            quad = ffhq_quad(face.landmarks)
        except ValueError as error:
            raise BadImage("no face", f"{where}: {error}") from None
        side, padded = quad_size(quad), outside_share(quad, *image.size)
        if side < self.min_face:
            raise BadImage(
                "face too small", f"{where}: crop of {side:.0f} px; wanted {self.min_face} or more"
            )
        if padded > self.max_padding:
            raise BadImage(
                "face cut off",
                f"{where}: {padded:.0%} of the crop outside; wanted {self.max_padding:.0%} or less",
            )
        crop = align_crop(image, face.landmarks, self.size).image
        return self._done(record, crop, quad, face, len(found), padded)

    def _whole(self, record: FaceRecord, image: Image.Image) -> FaceRecord:
        width, height = image.size
        where = f"{record.source} ({width}x{height})"
        if abs(width - height) > max(1.0, SQUARE_TOLERANCE * max(width, height)):
            raise BadImage("not square", f"{where}: wanted an aligned crop; leave --aligned out")
        if min(width, height) < self.min_face:
            raise BadImage("face too small", f"{where}: wanted {self.min_face} px or more")
        left, top, right, bottom = -0.5, -0.5, width - 0.5, height - 0.5
        quad = np.array([(left, top), (left, bottom), (right, bottom), (right, top)])
        found = self.detector.detect(image)
        face = best_face(found)
        crop = image.resize((self.size, self.size), Image.Resampling.LANCZOS)
        return self._done(record, crop, quad, face, len(found), 0.0)

    def _done(
        self,
        record: FaceRecord,
        crop: Image.Image,
        quad: FloatArray,
        face: Detection | None,
        count: int,
        padded: float,
    ) -> FaceRecord:
        transform = quad_transform(quad, self.size)
        landmarks = np.full((68, 2), np.nan)
        if face is not None:
            landmarks = apply_transform(inverse_transform(transform), face.landmarks)
        params = {**record.params, "faces": count, "padded": round(padded, 4)}
        if face is not None:
            params["detection"] = round(face.score, 4)
            params["detector"] = face.detector
        record = replace(record, quad=tuple(quad.flatten().tolist()), params=params)
        record = record.with_array("landmarks", landmarks.astype(np.float32))
        record = record.with_array("transform", transform)
        return record.with_image("aligned", np.array(crop))
