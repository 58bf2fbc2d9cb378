"""The labels of a part's faces, whoever made them: stages, or the renderer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from annotate.labels.points import REASON, Points
from sfhq.errors import UsageError
from sfhq.faces.points import ARRAY, COUNT
from sfhq.images import encode_image, mark_of
from sfhq.parts.folders import ART_FOLDER, RENDER_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.photos import photo_folder, read_mask, read_photo, read_pixels
from sfhq.parts.records import FaceRecord, Pixels

MASKS = "segmentations"
EXACT = "render_landmarks"  # array: (110, 3) x, y and flag of a rendered head


@dataclass(frozen=True, eq=False)
class Labelled:
    """One photo and its labels.

    Attributes:
        name: the face's.
        part: where it lies.
        record: the face.
    """

    name: str
    part: Part
    record: FaceRecord

    @property
    def photo(self) -> Pixels:
        """(H, W, 3) uint8 RGB."""
        for folder in (ART_FOLDER, RENDER_FOLDER):
            if photo_folder(self.record) is None and folder in self.record.hashes:
                return read_pixels(self.part, self.record, folder)
        return read_photo(self.part, self.record)

    def png(self) -> bytes:
        """The photo as a file, with its mark of synthetic media where a generator made it."""
        folder = photo_folder(self.record)
        if folder is None:
            folder = next((f for f in (ART_FOLDER, RENDER_FOLDER) if f in self.record.hashes), "")
        return encode_image(self.photo, "PNG", mark_of(folder))

    @property
    def mask(self) -> Pixels | None:
        """(H, W) uint8 ids; None where there is no map."""
        if MASKS not in self.record.hashes:
            return None
        return read_mask(self.part, self.record, MASKS)

    @property
    def points(self) -> Points | None:
        """(110, 5) rows of `annotate.labels.points`; None where no face was found."""
        if ARRAY in self.record.rows:
            rows = np.asarray(self.part.row(ARRAY, self.record), np.float64)
            return rows if np.isfinite(rows[:, :2]).all() else None
        if EXACT in self.record.rows:
            rows = np.zeros((COUNT, 5))
            rows[:, :3] = self.part.row(EXACT, self.record)
            rows[rows[:, 2] == 0, 4] = REASON["outside"]
            rows[rows[:, 2] == 1, 4] = REASON["hidden"]
            return rows
        return None


def labelled(part: Part) -> Iterator[Labelled]:
    """The living faces of a part, in the order of the records.

    Raises:
        UsageError: nothing has run to its end, or no stage has labelled them.
    """
    none = True
    for record in part.faces():
        if {MASKS, ARRAY, EXACT} & {*record.hashes, *record.rows}:
            none = False
            yield Labelled(record.face_id, part, record)
    if none:
        raise UsageError(
            f"{part.root}: no labels of photos yet; run: sfhq parse {part.root}, and: "
            f"sfhq landmark {part.root}"
        )
