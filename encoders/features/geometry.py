"""Measures of a portrait: where the face lies, how large, turned, open, sharp and lit it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sfhq.faces.detector import Detection, FaceDetector, best_face
from sfhq.faces.fit import Box
from sfhq.parts.records import Array, Pixels

MOST = 512  # pixels of the longer side of the copy that is measured
WEAK = -0.4  # `detector_score` where HOG saw no face
MEASURES = (
    "found",
    "detector_score",
    "faces",
    "second_face",
    "box_size",
    "centre_x",
    "centre_y",
    "off_centre",
    "crown_gap",
    "chin_gap",
    "side_gap",
    "side_balance",
    "chin_to_bottom",
    "eye_distance",
    "eye_height",
    "yaw",
    "pitch",
    "roll",
    "mouth_open",
    "smile",
    "eyes_open",
    "eyes_even",
    "face_aspect",
    "outside",
    "sharp_face",
    "sharp_whole",
    "sharp_ratio",
    "brightness",
    "contrast",
    "saturation",
    "face_brightness",
    "face_contrast",
    "light_side",
    "border_detail",
    "border_brightness",
    "top_detail",
    "aspect",
    "bits",
)


@dataclass(frozen=True)
class GeometryEncoder:
    """`MEASURES` of each image; shares of the image's or the face's size, so size is free."""

    name: str = "geometry"
    reads_faces: bool = True

    @property
    def digest(self) -> str:
        """sha256 of what decides the measures: the networks, and how faces are found."""
        decides = {"measures": MEASURES, "longest": MOST, **FaceDetector().settings()}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def __call__(
        self, images: list[Pixels], faces: Sequence[Sequence[Detection]] | None = None
    ) -> Array:
        """(N, 38) float32."""
        known: Sequence[Sequence[Detection] | None] = faces or [None] * len(images)
        rows = [measure(image, found) for image, found in zip(images, known, strict=True)]
        return np.stack(rows).astype(np.float32)


def measure(pixels: Pixels, faces: Sequence[Detection] | None = None) -> Array:
    """(38,) `MEASURES` of an image.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        faces: the faces that were found in it before, in its pixels, if only none; the image
            is not searched again then. Without it `FaceDetector` searches.
    """
    image = Image.fromarray(pixels)
    if faces is None:
        faces = FaceDetector().detect(image)
    image.thumbnail((MOST, MOST), Image.Resampling.LANCZOS)
    small = np.asarray(image)
    height, width = small.shape[:2]
    side = float(max(height, width))
    grey = small.astype(np.float64).mean(axis=2) / 255
    found: dict[str, float] = dict.fromkeys(MEASURES, 0.0)
    box, points = _face(faces, found, width / pixels.shape[1], side)
    found.update(_tones(small, grey, box))
    found["aspect"] = width / height
    if box is not None and points is not None:
        found.update(_place(box, width, height))
        found.update(_shape(points, width, height, side))
    return np.array([found[name] for name in MEASURES])


def _face(
    faces: Sequence[Detection], found: dict[str, float], scale: float, side: float
) -> tuple[Box | None, Array | None]:
    """The face that the image is of: its box, counted from the copy's edge, and its points."""
    found["detector_score"] = WEAK
    best = best_face(list(faces))
    if best is None:
        return None, None
    others = [face for face in faces if face is not best]
    found["found"] = 1.0
    if best.detector == "hog":  # the CNN's confidence is another scale
        found["detector_score"] = best.score
    found["faces"] = float(len(faces))
    if others:
        second = max(others, key=lambda face: face.score)
        found["second_face"] = (second.box[2] - second.box[0]) * scale / side
    left, top, right, bottom = ((edge + 0.5) * scale for edge in best.box)
    return (left, top, right, bottom), (best.landmarks + 0.5) * scale - 0.5


def _place(box: Box, width: int, height: int) -> dict[str, float]:
    left, top, right, bottom = box
    size = right - left
    x, y = (left + right) / 2 / width - 0.5, (top + bottom) / 2 / height - 0.5
    gaps = (left / size, (width - right) / size)
    return {
        "box_size": size / max(width, height),
        "centre_x": x,
        "centre_y": y,
        "off_centre": abs(x),
        # dlib's box begins at the brows: the crown is about half a box above it.
        "crown_gap": (top - 0.5 * size) / size,
        "chin_gap": (height - bottom) / size,
        "side_gap": min(gaps),
        "side_balance": abs(gaps[0] - gaps[1]),
    }


def _shape(points: Array, width: int, height: int, side: float) -> dict[str, float]:
    left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    middle, apart = (left + right) / 2, right - left
    distance = max(float(np.hypot(*apart)), 1e-6)
    roll = float(np.arctan2(apart[1], apart[0]))
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    upright = (points - middle) @ turn.T / distance  # eyes level, one unit apart
    mouth = upright[48:68]
    jaw = upright[0:17]
    openings = []
    for eye in (upright[36:42], upright[42:48]):
        tall = (abs(eye[1, 1] - eye[5, 1]) + abs(eye[2, 1] - eye[4, 1])) / 2
        openings.append(tall / max(abs(eye[3, 0] - eye[0, 0]), 1e-6))
    out = np.maximum(np.maximum(-points, points - np.array([width, height])).max(axis=1), 0).max()
    return {
        "chin_to_bottom": float(height - points[8, 1]) / distance,
        "eye_distance": distance / side,
        "eye_height": float(middle[1]) / height,
        "yaw": float(upright[30, 0] - (jaw[0, 0] + jaw[16, 0]) / 2),
        "pitch": float(upright[30, 1] / max(jaw[8, 1], 1e-6)),
        "roll": abs(roll),
        "mouth_open": float(mouth[18, 1] - mouth[14, 1]),
        "smile": float(mouth[9, 1] - (mouth[0, 1] + mouth[6, 1]) / 2),
        "eyes_open": float(np.mean(openings)),
        "eyes_even": abs(openings[0] - openings[1]),
        "face_aspect": float(jaw[8, 1] / max(jaw[16, 0] - jaw[0, 0], 1e-6)),
        "outside": float(out / side),
    }


def _tones(small: Pixels, grey: Array, box: Box | None) -> dict[str, float]:
    import io

    height, width = grey.shape
    edges = np.abs(
        4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    )
    if box is None:
        box = (width * 0.25, height * 0.25, width * 0.75, height * 0.75)
    left, top, right, bottom = (round(v) for v in box)
    left, top = max(left, 0), max(top, 0)
    inside = np.s_[top : max(bottom, top + 8), left : max(right, left + 8)]
    face, detail = grey[inside], edges[inside]
    band = max(min(height, width) // 10, 2)
    border = np.concatenate(
        [edges[:, :band].ravel(), edges[:, -band:].ravel(), edges[:band].ravel()]
    )
    shade = np.concatenate([grey[:, :band].ravel(), grey[:, -band:].ravel(), grey[:band].ravel()])
    sharp = float(np.log(detail.mean() + 1e-4)) if detail.size else -9.0
    whole = float(np.log(edges.mean() + 1e-4))
    half = face.shape[1] // 2
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "JPEG", quality=85)
    return {
        "sharp_face": sharp,
        "sharp_whole": whole,
        "sharp_ratio": sharp - whole,
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "saturation": float((small.max(axis=2).astype(float) - small.min(axis=2)).mean() / 255),
        "face_brightness": float(face.mean()) if face.size else 0.0,
        "face_contrast": float(face.std()) if face.size else 0.0,
        "light_side": abs(float(face[:, :half].mean() - face[:, half:].mean())) if half else 0.0,
        "border_detail": float(np.log(border.mean() + 1e-4)),
        "border_brightness": float(shade.mean()),
        "top_detail": float(np.log(edges[:band].mean() + 1e-4)),
        "bits": 8 * len(buffer.getvalue()) / (height * width),
    }
