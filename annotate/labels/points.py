"""The rows of `landmarks_110`: place, flag, expected error and reason of each of the 110 points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sfhq.faces.points import COUNT, HIDDEN, MISSING, VISIBLE

Points = npt.NDArray[np.float64]

# Why a point is not plainly visible; the number in a row is the place in this list.
REASONS = (
    *("", "outside", "hidden", "no hair", "hat", "fringe", "occluded", "truncated"),
    *("low margin", "interpolated"),
)
REASON = {name: i for i, name in enumerate(REASONS)}
COLUMNS = ("x", "y", "flag", "error", "reason")
DOUBTFUL = 0.12  # of the outer eye distance; a larger expected error says "low margin"


def unknown() -> Points:
    """(110, 5) of a photo in which no face was found: places unknown, flags 0."""
    out = np.zeros((COUNT, len(COLUMNS)))
    out[:, :2] = out[:, 3] = np.nan
    return out


def eye_distance(points: Points) -> float:
    """Distance between the outer corners of the eyes, points 36 and 45."""
    return float(np.hypot(*(points[45, :2] - points[36, :2])))


def judged(points: Points, height: int, width: int) -> Points:
    """Rows whose flags say what the photo and the expected errors allow.

    A point outside the photo is missing, and one whose expected error is large is inferred.

    Args:
        points: (110, 5) in pixels of the photo.
        height, width: of the photo.
    """
    out = points.copy()
    x, y = out[:, 0], out[:, 1]
    outside = ~((x >= -0.5) & (y >= -0.5) & (x <= width - 0.5) & (y <= height - 0.5))
    doubtful = out[:, 3] > DOUBTFUL * eye_distance(out)
    out[doubtful & (out[:, 2] == VISIBLE), 4] = REASON["low margin"]
    out[doubtful, 2] = np.minimum(out[doubtful, 2], HIDDEN)
    out[outside, 2] = MISSING
    out[outside, 4] = REASON["outside"]
    return out
