"""Faces in scans that lie on their side or upside down, found on turned copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from sfhq.faces.alignment import FloatArray
from sfhq.faces.detector import Detection, Detector, best_face

# Degrees that a picture is turned clockwise to bring it upright, in the order they are tried: scans
# lie on their side more often than upside down.
TURNS = (90, 270, 180)
_HOW = {
    90: Image.Transpose.ROTATE_270,  # Pillow counts the other way round
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


def find_turned(detector: Detector, image: Image.Image) -> tuple[int, list[Detection]]:
    """The faces of a picture, upright or turned by a quarter, half or three quarters.

    Turned copies are searched only where the upright one shows no face whose points hold and none
    in profile; the first that shows a face without flaw is taken.

    Args:
        detector: finds upright faces.
        image: RGB of any size.

    Returns:
        How far the picture must be turned clockwise to bring the faces upright, in degrees (0, 90,
        180 or 270); and the faces, in pixels of `image` as it lies. Where no turn helps, 0 and what
        the upright picture shows.
    """
    found = detector.detect(image)
    if any(face.flaw != "landmarks disagree" for face in found):
        return 0, found
    for turn in TURNS:
        turned = detector.detect(image.transpose(_HOW[turn]))
        if best_face(turned) is not None:
            return turn, [turned_back(face, turn, image.size) for face in turned]
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
