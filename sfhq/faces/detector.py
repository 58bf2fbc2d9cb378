"""Where the faces of an image are, and 68 landmarks on each.

Two detectors of dlib in a row. HOG takes 5 to 20 ms and finds upright faces that look at the
camera; the CNN takes several times as long and finds those in hats, beards, shade and half turned,
too. It is asked only where HOG saw nothing that holds. `docs/faces.md` has the figures.

Source: Dalal and Triggs 2005 (HOG); King 2015, "Max-Margin Object Detection" (CNN), as dlib
implements and trains them. Points follow the iBUG order of 68.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from sfhq.errors import UsageError
from sfhq.faces.alignment import FloatArray
from sfhq.faces.dlib_models import (
    CNN,
    PREDICTOR,
    cnn_detector,
    dlib_module,
    hog_detector,
    model_digest,
)
from sfhq.faces.fit import Box, Flaw, fit_points, flaw_of, moved
from sfhq.parts.records import Json, Pixels

Mode = Literal["auto", "hog", "cnn"]
Stage = tuple[Literal["hog", "cnn"], int]

MODES: tuple[Mode, ...] = ("auto", "hog", "cnn")
ENLARGED = 256  # HOG's window is 80 px wide, and the face of a 128 px crop 77: enlarge to this
NARROW = 64  # pixels: no face fits into such a copy, and the CNN's filters do not either
SAME = 0.5  # share of a box that lies in another: then both are of one face
# The CNN's box against HOG's, medians over photos where both fire: moved in widths, resized.
TO_HOG = (0.05, 0.06, 1.0)


@dataclass(frozen=True, eq=False)
class Detection:
    """One face.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the image, as HOG draws it: from the brows to the
            chin; may reach beyond the image.
        score: of HOG the margin, 0 doubtful, above 1 sure, seldom above 3; of the CNN the
            confidence, 0.5 doubtful, above 1 sure, at most about 1.2.
        landmarks: (68, 2) float64 iBUG points, (x, y) in pixels of the image.
        detector: "hog" or "cnn", whose score it is.
        spread: how far repeated fits of the points lie apart, in widths of the box.
        flaw: why the points must not be used: "landmarks disagree", "profile", or nothing.
    """

    box: Box
    score: float
    landmarks: FloatArray
    detector: str = "hog"
    spread: float = 0.0
    flaw: Flaw = ""

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


class Detector(Protocol):
    """Finds faces; `FaceDetector`, or a stand-in of a test."""

    def detect(self, image: Image.Image) -> list[Detection]:
        """All faces of an RGB image."""

    def settings(self) -> dict[str, Json]:
        """What decides the detections."""


@dataclass(frozen=True)
class FaceDetector:
    """Faces by dlib's HOG, then by its CNN where HOG saw none.

    Both find faces of about 80 px and more in a copy of the image, so each step has its size
    of copy, and the next is taken only where the last found no face whose points agree. Holds
    numbers only, so it can be sent to a worker; the networks are read once a process.

    Attributes:
        longest: longer side of HOG's copy in pixels; larger finds smaller faces, slower.
        threshold: least margin of HOG; lower finds more faces, and more that are none.
        detector: "auto" asks HOG, then the CNN; "hog" and "cnn" ask only one.
        cnn_sizes: longer sides of the CNN's copies, in turn; its time grows with the square.
        cnn_threshold: least confidence of the CNN.
        hog_large: longer side of HOG's second copy, for small faces in large photos.
        thorough: take every step and not only until one found a face: in a group photo some are
            near and others far away.
    """

    longest: int = 512
    threshold: float = 0.0
    detector: Mode = "auto"
    cnn_sizes: tuple[int, ...] = (224, 480, 960)
    cnn_threshold: float = 0.5
    hog_large: int = 2048
    thorough: bool = False

    def __post_init__(self) -> None:
        if self.detector not in MODES:
            raise UsageError(f"detector {self.detector}: wanted {', '.join(MODES)}")

    def settings(self) -> dict[str, Json]:
        """What decides the detections, under the one key "detection".

        Raises:
            SfhqError: dlib or its networks are not installed.
        """
        dlib_module()
        found: dict[str, Json] = {
            "mode": self.detector,
            "predictor_sha256": model_digest(PREDICTOR),
        }
        if self.detector != "cnn":
            found |= {
                "hog": getattr(dlib_module(), "__version__", "unknown"),
                "hog_sizes": [self.longest, self.hog_large],
                "hog_threshold": self.threshold,
            }
        if self.detector != "hog":
            found |= {
                "cnn_sizes": list(self.cnn_sizes),
                "cnn_threshold": self.cnn_threshold,
                "cnn_sha256": model_digest(CNN),
            }
        if self.thorough:
            found["thorough"] = True
        return {"detection": found}

    def detect(self, image: Image.Image) -> list[Detection]:
        """All faces that the first successful step found, the surest first.

        Faces with a `flaw` are among them: they are there, but must not be cropped. If no
        step found one without, the answer is that of the last step that found any. A `thorough`
        detector puts the faces of all steps together, each once.

        Args:
            image: RGB of any size.

        Raises:
            SfhqError: dlib or its networks are not installed.
        """
        flawed: list[Detection] = []
        steps = self._steps(max(image.size))
        if self.thorough:
            return _once([face for kind, size in steps for face in self._step(image, kind, size)])
        for kind, size in steps:
            found = self._step(image, kind, size)
            if any(not face.flaw for face in found):
                return found
            flawed = found or flawed
        return flawed

    def _steps(self, longer: int) -> Iterator[Stage]:
        if self.detector != "cnn":
            yield "hog", self.longest
        small, large = [], []
        if self.detector != "hog":
            # A small image is enlarged twice at most, and to no large copy: that shows nothing new.
            small = [size for size in self.cnn_sizes if size <= self.longest]
            small = small[:1] + [size for size in small[1:] if size <= 2 * longer]
            large = [size for size in self.cnn_sizes if self.longest < size <= longer]
        yield from (("cnn", size) for size in small)
        if self.detector != "cnn" and longer > self.longest:
            yield "hog", self.hog_large
        yield from (("cnn", size) for size in large)

    def _step(self, image: Image.Image, kind: str, size: int) -> list[Detection]:
        # The CNN's copies are too small to place points well: they are fitted on HOG's.
        fitted = _copy(image, max(size, self.longest))
        if kind == "hog":
            boxes, scores, _ = hog_detector().run(fitted, 0, self.threshold)
            raw = [(_box(b), float(s)) for b, s in zip(boxes, scores, strict=True)]
        else:
            searched = _copy(image, size, least=size)
            if min(searched.shape[:2]) < NARROW:
                return []
            ratio = fitted.shape[1] / searched.shape[1]
            raw = [
                (_scaled(moved(face.box, *TO_HOG), ratio), face.confidence)
                for face in cnn_detector()(searched)
                if face.confidence >= self.cnn_threshold
            ]
        scale = np.array(image.size) / np.array(fitted.shape[1::-1])
        found = [_detection(fitted, box, score, kind, scale) for box, score in raw]
        return sorted(found, key=lambda d: (-d.score, d.box))


def _once(found: list[Detection]) -> list[Detection]:
    """Each face once, the surest first: of boxes that overlap, the first without flaw stays."""
    kept: list[Detection] = []
    for face in sorted(found, key=lambda d: bool(d.flaw)):  # stable: earlier steps go first
        if all(overlap(face.box, other.box) < SAME for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda d: (-d.score, d.box))


def overlap(one: Box, other: Box) -> float:
    """Share of the smaller box that lies in the other one, 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return max(width, 0.0) * max(height, 0.0) / max(smaller, 1e-9)


def _copy(image: Image.Image, most: int, least: int = ENLARGED) -> Pixels:
    """(H, W, 3) of an image whose longer side is brought between `least` and `most`."""
    longer = max(image.size)
    wanted = min(max(longer, least), most)
    if wanted != longer:
        width, height = (max(1, round(side * wanted / longer)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.array(image.convert("RGB"))


def _box(rectangle: Any) -> Box:
    # dlib's right and bottom are the last pixels inside.
    return (
        float(rectangle.left()),
        float(rectangle.top()),
        float(rectangle.right() + 1),
        float(rectangle.bottom() + 1),
    )


def _scaled(box: Box, ratio: float) -> Box:
    return (box[0] * ratio, box[1] * ratio, box[2] * ratio, box[3] * ratio)


def _detection(pixels: Pixels, box: Box, score: float, kind: str, scale: FloatArray) -> Detection:
    """From pixels of the copy, as dlib counts them, to pixels of the image."""
    fit = fit_points(pixels, box)
    (x0, y0), (x1, y1) = (np.reshape(box, (2, 2)) * scale - 0.5).tolist()
    points = (fit.points + 0.5) * scale - 0.5
    return Detection((x0, y0, x1, y1), score, points, kind, fit.spread, flaw_of(fit, score, kind))


def by_rank(found: list[Detection]) -> list[Detection]:
    """The faces without flaw, the largest box x score first."""
    usable = [face for face in found if not face.flaw]
    # A threshold below 0 lets negative scores in, which would turn the order of areas round.
    return sorted(usable, key=lambda d: d.area * max(d.score, 1e-3), reverse=True)


def best_face(found: list[Detection]) -> Detection | None:
    """The face an image is most likely of, the first of `by_rank`; None where there is none."""
    return next(iter(by_rank(found)), None)


def face_landmarks(pixels: Pixels) -> FloatArray | None:
    """The 68 points of the most likely face, or None where dlib finds none that holds.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        (68, 2) float64 pixels of the image.
    """
    face = best_face(FaceDetector().detect(Image.fromarray(pixels)))
    return None if face is None else face.landmarks
