"""The frame in which a network reads a face: a crop of the photo, and the way back.

Points are (x, y) with the centre of the first pixel at (0, 0). An aligned photo is its own frame.
Of another photo the frame is the FFHQ crop around its 68 points. What was read in the frame goes
back to the photo by bilinear interpolation between pixel centres. Of a frame that is the whole
photo, crop and way back of the mirrored photo are the mirrored crop and way back, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from sfhq.faces.alignment import (
    FloatArray,
    align_crop,
    apply_transform,
    ffhq_quad,
    inverse_transform,
    quad_transform,
)
from sfhq.parts.records import Pixels

# Numbers of a strip of enlarged planes: they fit the cache, which is twice as fast as 24 million.
STRIP = 1_500_000


@dataclass(frozen=True, eq=False)
class Frame:
    """A square of a photo that is read at once.

    Attributes:
        size: side of the crop in pixels.
        photo: (height, width) of the photo.
        matrix: (3, 3) from pixels of the crop to pixels of the photo.
        whole: the frame is the whole photo.
    """

    size: int
    photo: tuple[int, int]
    matrix: FloatArray
    whole: bool

    @property
    def scale(self) -> float:
        """Pixels of the photo for one of the crop, geometric mean of both axes."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))

    def to_photo(self, points: FloatArray) -> FloatArray:
        """(N, 2) points of the crop in pixels of the photo."""
        return apply_transform(self.matrix, np.asarray(points, np.float64))

    def to_crop(self, points: FloatArray) -> FloatArray:
        """(N, 2) points of the photo in pixels of the crop."""
        return apply_transform(inverse_transform(self.matrix), np.asarray(points, np.float64))

    def strips(self, planes: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor | None]]:
        """What was read, at the photo's own size, a few rows at a time.

        Args:
            planes: (C, size, size) float32 of the crop.

        Yields:
            Rows and columns of the photo, (C, rows, columns) values there, and where they lie
            inside the frame, (rows, columns) bool; None for everywhere. Together they cover the
            frame.
        """
        height, width = self.photo
        if self.whole and self.photo == (self.size, self.size):
            yield slice(0, height), slice(0, width), planes, None
            return
        if self.whole:
            for rows in _row_strips(0, height, width * len(planes)):
                part = _rows_at(planes, self.size, height, rows)
                yield rows, slice(0, width), _widened(part, width), None
            return
        corners = self.to_photo(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * self.size - 0.5)
        low = np.maximum(np.floor(corners.min(0)).astype(int), 0)
        high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (width, height))
        if (high <= low).any():
            return
        columns = slice(int(low[0]), int(high[0]))
        back = torch.from_numpy(inverse_transform(self.matrix))
        x = torch.arange(columns.start, columns.stop, dtype=torch.float64)
        for rows in _row_strips(int(low[1]), int(high[1]), len(x) * len(planes)):
            y = torch.arange(rows.start, rows.stop, dtype=torch.float64)[:, None]
            place = torch.stack([back[i, 0] * x + back[i, 1] * y + back[i, 2] for i in (0, 1)], -1)
            inside = ((place >= -0.5) & (place < self.size - 0.5)).all(-1)
            grid = ((place + 0.5) * (2 / self.size) - 1).float()[None]
            found = functional.grid_sample(
                planes[None], grid, padding_mode="border", align_corners=False
            )
            yield rows, columns, found[0], inside


def whole_frame(height: int, width: int, size: int) -> Frame:
    """The frame of an aligned photo: all of it."""
    matrix = np.diag([width / size, height / size, 1.0])
    matrix[:2, 2] = 0.5 * width / size - 0.5, 0.5 * height / size - 0.5
    return Frame(size, (height, width), matrix, True)


def face_frame(height: int, width: int, landmarks: FloatArray, size: int) -> Frame:
    """The FFHQ frame around a face of a photo.

    Args:
        height, width: of the photo.
        landmarks: (68, 2) iBUG points in pixels of the photo.
        size: side of the crop in pixels.

    Raises:
        ValueError: the points are no face's.
    """
    return Frame(size, (height, width), quad_transform(ffhq_quad(landmarks), size), False)


def whole_crop(photo: Pixels, size: int) -> Pixels:
    """(size, size, 3) of an aligned photo, reduced or enlarged with a Lanczos filter.

    The filter rounds, not quite alike on both sides. So the mean of the photo's and of its mirror
    image's crop is taken: the crop of a mirrored photo is the mirrored crop, bit by bit.
    """
    if photo.shape[:2] == (size, size):
        return np.array(photo)
    there = _resized(photo, size).astype(np.uint16)
    back = _resized(np.ascontiguousarray(photo[:, ::-1]), size)[:, ::-1]
    return ((there + back + 1) // 2).astype(np.uint8)


def face_crop(photo: Pixels, landmarks: FloatArray, size: int) -> Pixels:
    """(size, size, 3): the upright FFHQ crop around a face; arguments as `face_frame`."""
    return np.array(align_crop(Image.fromarray(photo), landmarks, size).image)


def _resized(photo: Pixels, size: int) -> Pixels:
    image = Image.fromarray(photo).resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _row_strips(start: int, stop: int, numbers: int) -> Iterator[slice]:
    step = max(1, STRIP // max(numbers, 1))
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))


def _taps(size: int, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper neighbour of places between pixel centres, and the upper one's weight."""
    place = place.clamp(0, size - 1)
    low = place.floor().clamp(max=max(size - 2, 0))
    upper = (low + 1).clamp(max=size - 1)
    return low.long(), upper.long(), (place - low).float()


def _widened(planes: Tensor, width: int) -> Tensor:
    """(C, rows, width): planes at all columns of a photo.

    The mean of the planes' and of their mirror images' result: what rounds differently on the two
    sides does so on both.
    """
    size = (planes.shape[1], width)
    there = functional.interpolate(planes[None], size, mode="bilinear")[0]
    back = functional.interpolate(planes.flip(2)[None], size, mode="bilinear")[0].flip(2)
    return (there + back) / 2


def _rows_at(planes: Tensor, size: int, height: int, rows: slice) -> Tensor:
    """(C, rows, size): planes at the heights of some rows of a photo."""
    y = torch.arange(rows.start, rows.stop, dtype=torch.float64)
    low, upper, weight = _taps(size, (y + 0.5) * (size / height) - 0.5)
    weight = weight[:, None]
    return planes[:, low] * (1 - weight) + planes[:, upper] * weight
