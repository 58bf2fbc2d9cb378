"""Which photo of a part is which of another, and how their pixels lie on each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from annotate.exchange.faces import Labelled, labelled
from sfhq.errors import UsageError
from sfhq.faces.alignment import FloatArray, apply_transform, inverse_transform
from sfhq.parts.part import Part
from sfhq.parts.records import Pixels

TRANSFORM = "transform"  # array of `align`: (3, 3) from pixels of the crop to those of the source


@dataclass(frozen=True, eq=False)
class Pair:
    """A photo as it was read, and the truth about it.

    Attributes:
        told: the labels to be judged.
        truth: the labels that are right.
        matrix: (3, 3) from pixels of the photo that was read to pixels of the true one.
    """

    told: Labelled
    truth: Labelled
    matrix: FloatArray

    def points(self, points: FloatArray) -> FloatArray:
        """(N, 2) points that were read, in pixels of the true photo."""
        return apply_transform(self.matrix, np.asarray(points, np.float64))

    def mask(self, mask: Pixels, height: int, width: int) -> Pixels:
        """(height, width) of a map that was read, on the true photo's pixels; 255 outside."""
        y, x = np.mgrid[:height, :width]
        places = np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)
        back = np.rint(apply_transform(inverse_transform(self.matrix), places)).astype(int)
        inside = ((back >= 0) & (back < mask.shape[::-1])).all(1)
        out = np.full(height * width, 255, np.uint8)
        out[inside] = mask[back[inside, 1], back[inside, 0]]
        return out.reshape(height, width)


def pairs(told: Part, truth: Part) -> Iterator[Pair]:
    """The photos of both parts that have one source, in the order of the first part.

    A rendered part is the truth about the part that was ingested from it. Photos that `align` cut
    out are laid on their sources; those that a generator made have no counterpart.

    Raises:
        UsageError: no photo of one part is in the other.
    """
    right = {face.record.source_sha256: face for face in labelled(truth)}
    none = True
    for face in labelled(told):
        other = right.get(face.record.source_sha256)
        if other is None or "images" in face.record.hashes:
            continue
        none = False
        matrix = np.eye(3)
        if TRANSFORM in face.record.rows:
            matrix = np.asarray(told.row(TRANSFORM, face.record), np.float64)
        yield Pair(face, other, matrix)
    if none:
        raise UsageError(
            f"{told.root}: no photo of it is in {truth.root}; the truth about rendered heads is "
            f"their own part: sfhq ingest {truth.root} {told.root}"
        )
