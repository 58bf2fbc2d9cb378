"""The faces of a photo, as the stage `detect` found them."""

from __future__ import annotations

from typing import Any

import numpy as np

from sfhq.faces.detector import Detection, best_face
from sfhq.faces.fit import Flaw
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord

POINTS = "landmarks_68"  # array: (68, 2) points of the best face in pixels of the photo, or NaN


def as_columns(found: list[Detection]) -> dict[str, Any]:
    """Faces as the columns of the stage: the best one first, its points apart.

    Args:
        found: what a detector found in a photo.
    """
    best = best_face(found)
    ordered = [face for face in found if face is best] + [f for f in found if f is not best]
    return {
        "face_count": len(ordered),
        "face_boxes": [round(v, 3) for face in ordered for v in face.box],
        "face_scores": [round(face.score, 6) for face in ordered],
        "face_detector": ordered[0].detector if ordered else "",
        "face_flaw": ordered[0].flaw if ordered else "",
    }


def found_faces(part: Part, record: FaceRecord) -> list[Detection]:
    """What `detect` found in the photo of a face; only the first one has points.

    Raises:
        IntegrityError: the array of points is missing or damaged.
    """
    about = record.about
    boxes = np.asarray(about.get("face_boxes") or [], np.float64).reshape(-1, 4)
    scores = about.get("face_scores") or []
    unknown = np.full((68, 2), np.nan)
    faces = []
    for place, ((x0, y0, x1, y1), score) in enumerate(zip(boxes.tolist(), scores, strict=True)):
        points = np.asarray(part.row(POINTS, record), np.float64) if place == 0 else unknown
        # Points that were not kept must not be used.
        flaw: Flaw = about["face_flaw"] if place == 0 else "landmarks disagree"
        detector = about["face_detector"]
        faces.append(Detection((x0, y0, x1, y1), score, points, detector, flaw=flaw))
    return faces
