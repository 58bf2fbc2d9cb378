"""Where the faces of an image are, and 68 landmarks on each.

Source: Dalal and Triggs 2005 (HOG), Kazemi and Sullivan 2014 (regression trees), as dlib
implements and trains them. Points follow the iBUG order of 68.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sfhq.errors import SfhqError
from sfhq.faces.alignment import FloatArray
from sfhq.parts.records import Json, Pixels

PREDICTOR = "shape_predictor_68_face_landmarks.dat"
TINY, ENLARGED = 128, 256  # the HOG window is 80 px wide: below TINY a face has no chance


@dataclass(frozen=True, eq=False)
class Detection:
    """One face.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the image; may reach beyond it.
        score: the detector's margin; around 0 is doubtful, above 1 is sure.
        landmarks: (68, 2) float64 iBUG points, (x, y) in pixels of the image.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: FloatArray
    detector: str = "hog"

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True)
class FaceDetector:
    """Upright, roughly frontal faces by dlib.

    Works on a copy whose longer side is at most `longest`, and finds faces of about 80 px
    and more there. Holds numbers only, so it can be sent to a worker; the networks are read
    once a process.

    Attributes:
        longest: longer side of the copy in pixels; larger finds smaller faces, slower.
        threshold: least score; lower finds more faces, and more that are none.
    """

    longest: int = 512
    threshold: float = 0.0
    detector: str = "auto"

    def settings(self) -> dict[str, Json]:
        """What decides the detections.

        Raises:
            SfhqError: dlib or its landmarks are not installed.
        """
        _frontal()
        return {
            "detection": {
                "detector": "dlib-hog-68",
                "longest": self.longest,
                "threshold": self.threshold,
                "predictor_sha256": _predictor_digest(),
            }
        }

    def detect(self, image: Image.Image) -> list[Detection]:
        """All faces, the surest first.

        Args:
            image: RGB of any size.

        Raises:
            SfhqError: dlib or its landmarks are not installed.
        """
        size = self._working_size(*image.size)
        working = image
        if size != image.size:
            working = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        pixels = np.array(working.convert("RGB"))
        scale = np.array(image.size) / np.array(size)
        boxes, scores, _ = _frontal().run(pixels, 0, self.threshold)
        found = [
            _detection(box, float(score), _predictor()(pixels, box), scale)
            for box, score in zip(boxes, scores, strict=True)
        ]
        return sorted(found, key=lambda d: (-d.score, d.box))

    def _working_size(self, width: int, height: int) -> tuple[int, int]:
        longer = max(width, height)
        if longer > self.longest:
            factor = self.longest / longer
        elif longer < TINY:
            factor = ENLARGED / longer
        else:
            return width, height
        return max(1, round(width * factor)), max(1, round(height * factor))


def _detection(box: Any, score: float, shape: Any, scale: FloatArray) -> Detection:
    """From pixels of the reduced copy, as dlib counts them, to pixels of the image."""
    parts = np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)
    points = (parts + 0.5) * scale - 0.5
    # dlib's right and bottom are the last pixels inside.
    corners = np.array([(box.left(), box.top()), (box.right() + 1, box.bottom() + 1)])
    (x0, y0), (x1, y1) = (corners * scale - 0.5).tolist()
    return Detection((x0, y0, x1, y1), score, points)


def face_landmarks(pixels: Pixels) -> FloatArray | None:
    """The 68 points of the surest face, or None where dlib finds none.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        (68, 2) float64 pixels of the image.
    """
    found = FaceDetector().detect(Image.fromarray(pixels))
    return found[0].landmarks if found else None


@lru_cache(maxsize=1)
def _frontal() -> Any:
    return _dlib().get_frontal_face_detector()


@lru_cache(maxsize=1)
def _predictor() -> Any:
    return _dlib().shape_predictor(str(_predictor_path()))


@lru_cache(maxsize=1)
def _predictor_digest() -> str:
    with open(_predictor_path(), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dlib() -> Any:
    try:
        import dlib
    except ImportError:
        raise _missing("dlib-bin") from None
    return dlib


def _predictor_path() -> Path:
    # Found and not imported: its import needs pkg_resources, which new setuptools dropped.
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "models" / PREDICTOR
        if path.is_file():
            return path
    raise _missing("face-recognition-models")


def _missing(package: str) -> SfhqError:
    return SfhqError(
        f"face detection: {package} is not installed; install it with: pip install {package}"
    )
