"""68 points in a box, and whether that fit can be believed.

The predictor always answers with a face, even on a shoulder, and draws a frontal face over a
profile. Where there is a face that it knows, boxes moved and resized a little lead it to the same
points. So a fit is repeated from other boxes: where the fits agree, the middle one is right; where
they do not, the face is refused by name instead of being cropped wrongly.

Source: Kazemi and Sullivan 2014, "One Millisecond Face Alignment with an Ensemble of Regression
Trees", as dlib trains it on 300-W. The thresholds are measured; docs/faces.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sfhq.faces.alignment import FloatArray
from sfhq.faces.dlib_models import dlib_module, landmark_predictor
from sfhq.parts.records import Pixels

Box = tuple[float, float, float, float]
Flaw = Literal["", "landmarks disagree", "profile"]

# Moves in widths of the box, and a factor of its size. First the box itself and four that take
# each of the three both ways; then, for doubtful fits, all of a grid.
NEAR = (
    (0.0, 0.0, 1.0),
    (0.08, 0.08, 1.1),
    (-0.08, -0.08, 1.1),
    (0.08, -0.08, 0.9),
    (-0.08, 0.08, 0.9),
)
CROSS = ((0.0, 0.0), (0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1))
WIDE = tuple((x, y, factor) for factor in (0.8, 0.95, 1.1, 1.3) for x, y in CROSS)
# Where HOG's box lies around 68 points, medians over 1,149 photos: its side in means of the points'
# width and height, and how far the middle of its points lies below its own, in its widths.
SIDE, BELOW = 1.09, 0.041
AGREED = 0.02  # widths of the box: the five fits agree, and the first is taken as it is
# Widths beyond which the points are refused. The CNN sees profiles, whose fits can agree by half.
DISAGREED = {"hog": 0.06, "cnn": 0.045}
TURNED = 0.9  # eye distances that the tip of the nose lies off the middle between the eyes
SURE = 0.9  # of the CNN, that there is a face
ALIKE = 0.06  # widths: the fits that the mean is taken of


@dataclass(frozen=True, eq=False)
class Fit:
    """What the predictor made of one box.

    Attributes:
        points: (68, 2) float64 iBUG points in pixels of the image that was searched.
        spread: how far fits from other boxes lie from it, mean of the points in widths of
            the box; 0 is full agreement, beyond `DISAGREED` the points mean nothing.
    """

    points: FloatArray
    spread: float


def points_in(pixels: Pixels, box: Box) -> FloatArray:
    """The 68 points that the predictor fits to a box.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        box: x0, y0, x1, y1 as HOG would draw it; edges of pixels, whole or rounded to whole.

    Returns:
        (68, 2) float64, (x, y), centres of whole pixels.
    """
    left, top, right, bottom = (round(v) for v in box)
    # dlib's right and bottom are the last pixels inside.
    shape = landmark_predictor()(pixels, dlib_module().rectangle(left, top, right - 1, bottom - 1))
    return np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)


def moved(box: Box, right: float, down: float, factor: float) -> Box:
    """A box moved by widths of itself and resized about its middle."""
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = (box[0] + box[2]) / 2 + right * width, (box[1] + box[3]) / 2 + down * height
    half_width, half_height = width * factor / 2, height * factor / 2
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def box_around(points: FloatArray) -> Box:
    """The box that HOG would most likely draw around a face with these points."""
    side = float(np.ptp(points, axis=0).mean()) * SIDE
    x, y = points.mean(axis=0) - (0.0, BELOW * side)
    return (x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def turned(points: FloatArray) -> float:
    """How far the nose's tip lies off the middle of the eyes, in eye distances; 0 is frontal."""
    left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    across = right - left
    length = max(float(across @ across), 1e-9)
    return abs(float((points[30] - left) @ across) / length - 0.5)


def flaw_of(fit: Fit, score: float, detector: str) -> Flaw:
    """Why the points of a face must not be used, or nothing.

    Points that disagree where the CNN is sure of a face are those of a head turned away, 9 of
    10 times; HOG sees no such heads, so where it drew the box there is no face, or half of one.

    Args:
        fit: of the face's box.
        score, detector: of the box; "hog" or "cnn".
    """
    if fit.spread > DISAGREED[detector]:
        return "profile" if detector == "cnn" and score >= SURE else "landmarks disagree"
    return "profile" if turned(fit.points) > TURNED else ""


def fit_points(pixels: Pixels, box: Box) -> Fit:
    """The 68 points of a face, and how far fits from other boxes agree.

    1. Five fits from boxes close by. Where they agree, the fit of the box itself is the answer.
    2. Else twenty fits from moved and resized boxes, each repeated from the box that its own
       points suggest. The fit closest to the others speaks for them; the answer is the mean
       of all fits near it, and its spread their median distance from it.

    Args:
        pixels, box: as for `points_in`.
    """
    width = max(box[2] - box[0], 1.0)
    near = np.stack([points_in(pixels, moved(box, *move)) for move in NEAR])  # (5, 68, 2)
    spread = float(np.linalg.norm(near - np.median(near, axis=0), axis=2).mean() / width)
    if spread <= AGREED:
        return Fit(near[0], spread)
    first = [points_in(pixels, moved(box, *move)) for move in WIDE]
    fits = np.stack([points_in(pixels, box_around(points)) for points in first])  # (20, 68, 2)
    apart = np.linalg.norm(fits[:, None] - fits[None], axis=3).mean(axis=2) / width  # (20, 20)
    middle = int(np.median(apart, axis=1).argmin())
    points = fits[apart[middle] < ALIKE].mean(axis=0)
    return Fit(points, float(np.median(apart[middle])))
