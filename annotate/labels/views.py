"""Where to look in a photo: the crop of each of its faces, and its frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotate.labels.frame import Frame, face_crop, face_frame, whole_crop, whole_frame
from sfhq.errors import UsageError
from sfhq.faces.alignment import FloatArray
from sfhq.faces.found import POINTS, found_faces
from sfhq.parts.lineage import faces_stage, provider
from sfhq.parts.part import Part
from sfhq.parts.photos import PHOTO_FOLDERS, photo_folder
from sfhq.parts.records import FaceRecord, Pixels

SURE = 0.5  # score from which a face beside the best one is read, too


@dataclass(frozen=True, eq=False)
class View:
    """A face as it is read.

    Attributes:
        crop: (S, S, 3) uint8 RGB.
        frame: where it lies in the photo.
        flags: what is doubtful about the frame.
        landmarks: (68, 2) points that `detect` found, in pixels of the photo; None for none.
    """

    crop: Pixels
    frame: Frame
    flags: tuple[str, ...] = ()
    landmarks: FloatArray | None = None


def whole_view(photo: Pixels, size: int) -> View:
    """The view of an aligned photo."""
    height, width = photo.shape[:2]
    return View(whole_crop(photo, size), whole_frame(height, width, size))


def view_of_face(photo: Pixels, landmarks: FloatArray, size: int, *flags: str) -> View:
    """The view of a face at (68, 2) points in pixels of the photo.

    Raises:
        ValueError: the points are no face's.
    """
    height, width = photo.shape[:2]
    frame = face_frame(height, width, landmarks, size)
    return View(face_crop(photo, landmarks, size), frame, flags)


def views(part: Part, record: FaceRecord, photo: Pixels, size: int) -> list[View]:
    """The faces of a photo, the one that it is of first; empty where no face was found.

    An aligned photo is one view of the whole. In another, `detect` says where faces are: the best
    one's points give its frame, the others' boxes give theirs. Where the points of the best face do
    not hold because it is a profile, its box serves, with the flag "rough frame".

    Args:
        part: the part.
        record: the face, with what `detect` says of it.
        photo: (H, W, 3) uint8 RGB.
        size: side of the crops in pixels.
    """
    if photo_folder(record) is not None:
        points = None
        if POINTS in record.rows:
            points = np.asarray(part.row(POINTS, record), np.float64)
            points = points if np.isfinite(points).all() else None
        view = whole_view(photo, size)
        return [View(view.crop, view.frame, (), points)]
    found: list[View] = []
    for place, face in enumerate(found_faces(part, record)):
        try:
            if place == 0 and not face.flaw:
                view = view_of_face(photo, face.landmarks, size)
                found.append(View(view.crop, view.frame, (), face.landmarks))
            elif (place == 0 and face.flaw == "profile") or (place and face.score >= SURE):
                from annotate.network.crops import box_points

                points = box_points(face.box)
                found.append(view_of_face(photo, points, size, "rough frame"))
        except ValueError:  # eyes and mouth in one place, or a box without area: no face
            continue
        if place == 0 and not found:
            return []  # the face that the photo is of cannot be read; others are not it
    return found


def require_faces(part: Part, stage: str) -> None:
    """Refuse a part whose photos are not aligned and in which nobody has looked for faces.

    Raises:
        UsageError: says which command does.
    """
    written = {name for s in part.stages() for name in part.stage_info(s)["writes"]}
    if written & {*PHOTO_FOLDERS}:
        return
    if provider(part, POINTS, faces_stage(part)) is None:
        raise UsageError(
            f"{part.root}: its photos are not aligned, so {stage} must know where their faces are; "
            f"run: sfhq detect {part.root}"
        )
