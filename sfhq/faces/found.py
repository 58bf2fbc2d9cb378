"""The faces of a photo, as the stage `detect` found them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfhq.parts.part import Part
from sfhq.parts.records import Array, FaceRecord


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """Faces of one photo, the best first.

    Attributes:
        boxes: (N, 4) float64 x0, y0, x1, y1 in pixels of the photo.
        scores: (N,) float64, the detector's confidence.
        points: (68, 2) float64 iBUG points of the best face in pixels of the photo; None where no
            face was found.
    """

    boxes: Array
    scores: Array
    points: Array | None


def found_faces(part: Part, record: FaceRecord) -> FoundFaces:
    """What `detect` wrote about a face.

    Raises:
        IntegrityError: the array of points is missing or damaged.
    """
    boxes = np.asarray(record.about.get("face_boxes") or [], np.float64).reshape(-1, 4)
    scores = np.asarray(record.about.get("face_scores") or [], np.float64)
    points = np.asarray(part.row("landmarks_68", record), np.float64)
    return FoundFaces(boxes, scores, points if np.isfinite(points).all() else None)
