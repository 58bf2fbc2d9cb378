"""Cut each face out of its source, upright and framed as in FFHQ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from PIL import Image

from sfhq.errors import UsageError, apart
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
from sfhq.faces.detector import MODES, Detection, Detector, FaceDetector, Mode, best_face, by_rank
from sfhq.faces.turns import TURNS, find_turned
from sfhq.images import BadImage
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.parts.source import source_of
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Kind, Stage

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe

Faces = Literal["best", "single", "all"]
SQUARE_TOLERANCE = 0.02  # crops cut out of figures are a pixel or two off


@dataclass(frozen=True)
class AlignSettings:
    """See `Align`."""

    size: Annotated[
        int | None, option("Pixels of the crop.", least=1, default="the generator's, at least 256")
    ] = None
    faces: Annotated[
        Literal["best", "single", "all"],
        option("Of several faces take the best, reject the image, or take each."),
    ] = "best"
    min_face: Annotated[int, option("Smallest crop in pixels of the source.", least=0)] = 64
    max_padding: Annotated[
        float, option("Largest share of the crop outside the source.", least=0, most=1)
    ] = 0.35
    aligned: Annotated[bool, option("The images are FFHQ crops already.")] = False
    upright: Annotated[bool, option("Do not look for faces in turned copies.")] = False
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

    Where a picture shows no face, copies turned by a quarter, half and three quarters are searched;
    `params["turn"]` says how many degrees clockwise bring its face upright. Quad, landmarks and
    transform are those of the source as it lies.

    Attributes:
        detector: finds the faces.
        size: height and width of the crop in pixels.
        faces: of several, "best" takes the one with the largest box x score, "single"
            rejects the image, "all" makes a face of each whose points hold: the best keeps the id
            of its image, the others get `<id>-f1`, `<id>-f2`, from the next best on, with the image
            as parent and their number as `params["face"]`.
        min_face: least side of the crop in pixels of the source.
        max_padding: largest share of the crop that may lie outside the source, 0 to 1.
        aligned: the sources are FFHQ crops already: each is resized whole, and landmarks
            are kept where they are found.
        upright: search no turned copies.
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
    upright: bool = False

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
            upright=settings.upright,
        )

    @classmethod
    def forecast(cls, settings: AlignSettings, faces: int | None) -> int | None:
        """As many as come in; unknown where each picture may show several."""
        return None if settings.faces == "all" else faces

    @classmethod
    def load(
        cls,
        size: int = 1024,
        faces: Faces = "best",
        min_face: int = 64,
        max_padding: float = 0.35,
        aligned: bool = False,
        detector: str = "auto",
        upright: bool = False,
    ) -> Align:
        """The stage with the real detector; arguments as the attributes.

        Args:
            detector: "auto" asks HOG, then the CNN where HOG saw no face; "hog" and "cnn"
                ask only one, and "hog" misses many.

        Raises:
            SfhqError: dlib or its landmarks are not installed.
            UsageError: a value is not valid.
        """
        if size < 1:
            raise UsageError(f"--size {size}: wanted 1 or more pixels")
        if faces not in ("best", "single", "all"):
            raise UsageError(f"--faces {faces}: wanted best, single or all")
        if not 0.0 <= max_padding <= 1.0:
            raise UsageError(f"--max-padding {max_padding}: wanted a share from 0 to 1")
        modes: dict[str, Mode] = {mode: mode for mode in MODES}
        if detector not in modes:
            raise UsageError(f"--detector {detector}: wanted {', '.join(MODES)}")
        finder = FaceDetector(detector=modes[detector], thorough=faces == "all")
        finder.settings()
        return cls(finder, size, faces, min_face, max_padding, aligned, upright)

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
            "turns": [] if self.upright or self.aligned else list(TURNS),
        }

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Align the faces of one shard; the source is opened once for all of them."""
        with source_of(part) as source:
            for record in records:
                try:
                    image = source.image(record)
                    if self.aligned:
                        yield self._whole(record, image)
                    else:
                        yield from self._cut(record, image)
                except BadImage as error:
                    yield record.reject(self.name, error.reason, str(error))

    def _cut(self, record: FaceRecord, image: Image.Image) -> Iterator[FaceRecord]:
        turn, found = 0, self.detector.detect(image) if self.upright else []
        if not self.upright:
            turn, found = find_turned(self.detector, image)
        where = f"{record.source} ({image.width}x{image.height})"
        if not found:
            raise BadImage("no face", f"{where}: the detector found none")
        # Points that disagree are often no face at all; a profile is one.
        count = sum(face.flaw != "landmarks disagree" for face in found)
        if self.faces == "single" and count > 1:
            raise BadImage("several faces", f"{where}: {count} faces; wanted one")
        usable = by_rank(found)
        if not usable:
            flawed = max(found, key=lambda d: d.area)
            raise BadImage(
                flawed.flaw,
                f"{where}: {flawed.detector} is {flawed.score:.2f} sure of a face, but its points "
                f"do not hold (spread {flawed.spread:.3f}); wanted eyes and mouth in sight",
            )
        turned = {"turn": turn} if turn else {}
        for number, face in enumerate(usable if self.faces == "all" else usable[:1]):
            params = {**record.params, "faces": len(found), **turned}
            own = replace(record, params=params)
            if number:
                own = replace(
                    own,
                    face_id=f"{record.face_id}-f{number}",
                    parent_id=record.face_id,
                    params={**params, "face": number},
                )
            try:
                yield self._crop(own, image, face, where)
            except BadImage as error:
                yield own.reject(self.name, error.reason, str(error))

    def _crop(
        self, record: FaceRecord, image: Image.Image, face: Detection, where: str
    ) -> FaceRecord:
        try:
            quad = ffhq_quad(face.landmarks)
        except ValueError as error:
            raise BadImage("no face", f"{where}: {error}") from None
        side, padded = quad_size(quad), outside_share(quad, *image.size)
        if side < self.min_face:
            found, wanted = apart(side, self.min_face)
            raise BadImage(
                "face too small", f"{where}: crop of {found} px; wanted {wanted} or more"
            )
        if padded > self.max_padding:
            found, wanted = apart(padded, self.max_padding, "%")
            raise BadImage(
                "face cut off", f"{where}: {found} of the crop outside; wanted {wanted} or less"
            )
        crop = align_crop(image, face.landmarks, self.size).image
        return self._done(record, crop, quad, face, padded)

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
        record = replace(record, params={**record.params, "faces": len(found)})
        return self._done(record, crop, quad, face, 0.0)

    def _done(
        self,
        record: FaceRecord,
        crop: Image.Image,
        quad: FloatArray,
        face: Detection | None,
        padded: float,
    ) -> FaceRecord:
        transform = quad_transform(quad, self.size)
        landmarks = np.full((68, 2), np.nan)
        if face is not None:
            landmarks = apply_transform(inverse_transform(transform), face.landmarks)
        params = {**record.params, "padded": round(padded, 4)}
        if face is not None:
            params["detection"] = round(face.score, 4)
            params["detector"] = face.detector
        record = replace(record, quad=tuple(quad.flatten().tolist()), params=params)
        record = record.with_array("landmarks", landmarks.astype(np.float32))
        record = record.with_array("transform", transform)
        return record.with_image("aligned", np.array(crop))
