"""Faces in scans that lie on their side or upside down, found on turned copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from sfhq.faces.alignment import FloatArray
from sfhq.faces.detector import SAME, Detection, Detector, FaceDetector, best_face, overlap

# Degrees that a picture is turned clockwise to bring it upright.
TURNS = (90, 270, 180)
CERTAIN = 1.0  # margin of HOG from which an upright face is not doubted
SURE = 0.5  # margin that HOG needs on a turned copy, above the one on the upright picture
_HOW = {
    90: Image.Transpose.ROTATE_270,  # Pillow counts the other way round
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


def find_turned(detector: Detector, image: Image.Image) -> tuple[int, list[Detection]]:
    """The faces of a picture, upright or turned by a quarter, half or three quarters.

    1. Where HOG is certain of a usable face, the picture is upright: HOG seldom sees others.
    2. Where it is not, or where only the CNN sees a face, that face may lie on its side, and then
       its points are wrong. HOG looks at turned copies, and is believed where it is surer of a
       face at the same place.
    3. Where nobody sees a face, HOG searches all turned copies, and then the CNN; the surest face
       decides.

    Args:
        detector: finds upright faces.
        image: RGB of any size.

    Returns:
        How far the picture must be turned clockwise to bring the faces upright, in degrees (0, 90,
        180 or 270); and the faces, in pixels of `image` as it lies. Where no turn helps, 0 and what
        the upright picture shows.
    """
    found = detector.detect(image)
    margin = max((f.score for f in found if f.detector == "hog" and not f.flaw), default=0.0)
    if margin >= CERTAIN:
        return 0, found
    seen = [face for face in found if face.flaw != "landmarks disagree"]
    steps: list[Detector] = []
    if isinstance(detector, FaceDetector) and detector.detector != "cnn":
        steps.append(replace(detector, detector="hog", thorough=False))
    if not seen and steps != [detector]:
        steps.append(detector)
    for step in steps:
        options = []
        for turn in TURNS:
            copy = image.transpose(_HOW[turn])
            faces = [turned_back(face, turn, image.size) for face in step.detect(copy)]
            best = best_face(faces)
            if best is None:
                continue
            there = any(overlap(best.box, face.box) >= SAME for face in seen)
            if not seen or (there and best.score >= margin + SURE):
                options.append((best.score, turn, faces))
        if options:
            _, turn, faces = max(options, key=lambda option: option[0])
            return turn, faces
    return 0, found


def turned_back(face: Detection, turn: int, size: tuple[int, int]) -> Detection:
    """A face of a turned copy in pixels of the picture itself.

    Args:
        face: found in the copy.
        turn: degrees that the copy was turned clockwise: 90, 180 or 270.
        size: width and height of the picture.
    """
    corners = _back(np.reshape(face.box, (2, 2)), turn, size)
    (x0, y0), (x1, y1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return replace(face, box=(x0, y0, x1, y1), landmarks=_back(face.landmarks, turn, size))


def _back(points: FloatArray, turn: int, size: tuple[int, int]) -> FloatArray:
    """(N, 2) points of a turned copy; centres of pixels are whole numbers."""
    x, y = points[:, 0], points[:, 1]
    right, bottom = size[0] - 1, size[1] - 1
    if turn == 90:
        return np.stack([y, bottom - x], axis=1)
    if turn == 180:
        return np.stack([right - x, bottom - y], axis=1)
    return np.stack([right - y, x], axis=1)
