"""Measures of a portrait: where the face lies, how large, turned, open, sharp and lit it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from encoders.features.recognition import _networks, recognition_folder
from sfhq.parts.records import Array, Pixels

MOST = 512  # pixels a side that faces are looked for in
WEAK = -0.4  # dlib's score above which a second face counts
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
        """sha256 of the landmark weights."""
        path = recognition_folder() / "shape_predictor_68_face_landmarks.dat"
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def __call__(self, images: list[Pixels], faces: Any = None) -> Array:
        """(N, 38) float32."""
        return np.stack([measure(i) for i in images]).astype(np.float32)


def measure(pixels: Pixels) -> Array:
    """(38,) `MEASURES` of an (H, W, 3) uint8 image."""
    image = Image.fromarray(pixels)
    image.thumbnail((MOST, MOST), Image.Resampling.LANCZOS)
    small = np.asarray(image)
    height, width = small.shape[:2]
    side = float(max(height, width))
    grey = small.astype(np.float64).mean(axis=2) / 255
    found: dict[str, float] = dict.fromkeys(MEASURES, 0.0)
    box, points = _face(small, found, side)
    found.update(_tones(small, grey, box))
    found["aspect"] = width / height
    if box is not None and points is not None:
        found.update(_place(box, width, height))
        found.update(_shape(points, width, height, side))
    return np.array([found[name] for name in MEASURES])


Box = tuple[float, float, float, float]


def _face(small: Pixels, found: dict[str, float], side: float) -> tuple[Box | None, Array | None]:
    detector, predictor, _ = _networks()
    boxes: Any = []
    scores: Any = []
    for enlarge in (0, 1):
        boxes, scores, _ = detector.run(small, enlarge, WEAK)
        if len(boxes):
            break
    if not len(boxes):
        found["detector_score"] = WEAK
        return None, None
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    best = boxes[order[0]]
    found["found"] = 1.0
    found["detector_score"] = float(scores[order[0]])
    found["faces"] = float(sum(s > 0 for s in scores))
    if len(order) > 1:
        found["second_face"] = float(boxes[order[1]].width() / side)
    shape = predictor(small, best)
    points = np.array([(shape.part(i).x, shape.part(i).y) for i in range(68)], dtype=np.float64)
    return (best.left(), best.top(), best.right() + 1, best.bottom() + 1), points


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
