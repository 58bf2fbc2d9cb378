"""The square that the label network looks at, and the way back into the image.

Points are (x, y) pixels, pixel centres, origin at the centre of the top left pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sfhq.faces.alignment import FloatArray, align_crop, quad_transform
from sfhq.parts.records import Pixels

SQUARE_TOLERANCE = 0.02
# Where FFHQ's frame lies around the box that dlib's HOG draws, medians over 121 aligned photos: its
# side in widths of the box, and its centre, moved from the box's by so many widths.
SIDE_OF_BOX = 1.78
MOVED_FROM_BOX = (0.0, -0.13)


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """A crop and where it lies.

    Attributes:
        pixels: (S, S, 3) uint8 RGB.
        matrix: (2, 3) float64, from pixels of the crop to pixels of the image.
    """

    pixels: Pixels
    matrix: FloatArray

    def to_image(self, points: FloatArray) -> FloatArray:
        """(N, 2) points of the crop as points of the image."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_crop(self, points: FloatArray) -> FloatArray:
        """(N, 2) points of the image as points of the crop."""
        inverse = np.linalg.inv(self.matrix[:, :2])
        return np.asarray((points - self.matrix[:, 2]) @ inverse.T, dtype=np.float64)


def box_points(box: Sequence[float]) -> FloatArray:
    """(68, 2) points whose FFHQ frame is upright and fits a face's box.

    Args:
        box: x0, y0, x1, y1 in pixels, as dlib's HOG draws it, from the brows to the chin.

    Raises:
        ValueError: the box has no area.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"box is {x0:g}, {y0:g}, {x1:g}, {y1:g}; wanted x0 < x1 and y0 < y1")
    half = SIDE_OF_BOX * (x1 - x0) / 2
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + np.array(MOVED_FROM_BOX) * (x1 - x0)
    # Eyes half a quarter of the frame from its middle line, and a mouth as far below as fits.
    across, down = half / 2, half / 1.8
    eyes = middle - np.array([0, 0.1 * down])
    points = np.zeros((68, 2))
    points[36:42] = eyes - np.array([across / 2, 0])
    points[42:48] = eyes + np.array([across / 2, 0])
    points[[48, 54]] = eyes + np.array([0, down])
    return points


def face_crop(
    image: Pixels, where: FloatArray | Sequence[float] | None = None, size: int = 256
) -> FaceCrop:
    """The FFHQ frame of a face at the network's size.

    Args:
        image: (H, W, 3) uint8 RGB.
        where: (68, 2) iBUG points in pixels of the image; or a box x0, y0, x1, y1 as dlib's HOG
            draws it; or None for an aligned photo, which is used whole.
        size: side of the crop.

    Raises:
        ValueError: neither points nor a box, a box without area, or a photo that is not square
            although it is to be used whole.
    """
    height, width = image.shape[:2]
    if where is None:
        if abs(width - height) > max(1.0, SQUARE_TOLERANCE * max(width, height)):
            raise ValueError(
                f"image has {width} x {height} pixels; wanted a square aligned photo, or the "
                "points or the box of a face"
            )
        scale = np.array([width, height]) / size
        matrix = np.zeros((2, 3))
        matrix[0, 0], matrix[1, 1] = scale
        matrix[:, 2] = 0.5 * scale - 0.5
        if (width, height) == (size, size):
            return FaceCrop(image, matrix)
        whole = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)
        return FaceCrop(np.array(whole), matrix)
    given = np.asarray(where, dtype=np.float64)
    if given.shape not in ((68, 2), (4,)):
        raise ValueError(f"got shape {given.shape}; wanted (68, 2) points or a box of 4 numbers")
    points = box_points(given.tolist()) if given.ndim == 1 else given
    crop = align_crop(Image.fromarray(image), points, size)
    return FaceCrop(np.array(crop.image), quad_transform(crop.quad, size)[:2])
