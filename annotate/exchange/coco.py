"""COCO's JSON: one annotation with 110 keypoints a face, and one with a run-length mask a class.

Keypoints are x, y and 0 (missing), 1 (hidden or inferred) or 2 (visible), in pixels with centres at
whole numbers. The category "face" names them and their skeleton. Its mask is the head; the 18 other
categories are the classes of parsing. Masks are COCO's compressed run lengths, made by pycocotools.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.exchange.faces import Labelled
from annotate.labels.names import NAMES, SKELETON
from sfhq.errors import MissingExtra
from sfhq.faces.classes import CLASSES, HEAD
from sfhq.parts.records import Json

FACE_ID = 1
FIRST_CLASS = 100  # a class's category is this and its id of parsing
Mask = npt.NDArray[np.bool_]


def _library() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise MissingExtra("COCO's masks", "pycocotools", "coco") from None
    return mask


def categories() -> list[dict[str, Json]]:
    """The face with its keypoints, and a category for each class but the background."""
    face = {
        "id": FACE_ID,
        "name": "face",
        "supercategory": "person",
        "keypoints": list(NAMES),
        "skeleton": [[a + 1, b + 1] for a, b in SKELETON],  # COCO counts keypoints from 1
    }
    parts = [
        {"id": FIRST_CLASS + i, "name": name, "supercategory": "face part"}
        for i, name in enumerate(CLASSES)
        if i
    ]
    return [face, *parts]


def run_lengths(mask: Mask) -> dict[str, Json]:
    """COCO's compressed run lengths of a mask, as JSON holds them.

    Raises:
        MissingExtra: pycocotools is not installed.
    """
    found = _library().encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(v) for v in found["size"]], "counts": found["counts"].decode("ascii")}


def to_coco(faces: Iterable[Labelled], folder: str = "images") -> dict[str, Json]:
    """The document of a part.

    Args:
        faces: with labels.
        folder: where the photos lie beside it, as <folder>/<name>.png.
    """
    _library()
    images: list[dict[str, Json]] = []
    found: list[dict[str, Json]] = []
    for number, face in enumerate(faces, 1):
        height, width = face.photo.shape[:2]
        images.append(
            {"id": number, "file_name": f"{folder}/{face.name}.png", "width": width}
            | {"height": height}
        )
        for each in photo_annotations(face.mask, face.points):
            found.append({"id": len(found) + 1, "image_id": number, "iscrowd": 0, **each})
    return {
        "info": {"description": "labels by sfhq", "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": found,
        "categories": categories(),
    }


def photo_annotations(
    mask: npt.NDArray[np.uint8] | None, points: npt.NDArray[Any] | None
) -> list[dict[str, Json]]:
    """The annotations of one photo, without their ids: the face, then its classes.

    Args:
        mask: (H, W) uint8 ids of classes.
        points: (110, 3 or more) x, y and 0, 1 or 2, as in the module.

    Raises:
        MissingExtra: a mask, and pycocotools is not installed.
    """
    if mask is not None:
        _library()
    found: list[dict[str, Json]] = []
    whole: dict[str, Json] = {"category_id": FACE_ID}
    if mask is not None:
        whole |= _shape(np.isin(mask, HEAD))
    if points is not None:
        flags = points[:, 2].astype(int)
        rows = [
            (round(float(x), 3), round(float(y), 3), int(v)) if v else (0, 0, 0)
            for (x, y), v in zip(points[:, :2], flags, strict=True)
        ]
        whole["keypoints"] = [value for row in rows for value in row]
        whole["num_keypoints"] = int((flags > 0).sum())
        if "bbox" not in whole:
            low, high = points[:, :2].min(0), points[:, :2].max(0)
            whole["bbox"] = [round(float(v), 3) for v in (*low, *(high - low))]
            whole["area"] = round(float(np.prod(high - low)), 3)
    if len(whole) > 1:
        found.append(whole)
    if mask is not None:
        for i in np.unique(mask[mask > 0]).tolist():
            found.append({"category_id": FIRST_CLASS + i, **_shape(np.asarray(mask == i))})
    return found


def _shape(mask: Mask) -> dict[str, Json]:
    if not mask.any():
        return {}
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "segmentation": run_lengths(mask),
        "bbox": [float(v) for v in box],
        "area": float(mask.sum()),
    }
