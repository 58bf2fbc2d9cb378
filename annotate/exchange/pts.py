"""300-W's .pts files: the 68 points of one face in text, counted from 1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sfhq.errors import IntegrityError

Floats = npt.NDArray[np.float64]


def to_pts(points: Floats) -> str:
    """The text of a file.

    In these files the centre of the first pixel is (1, 1); here it is (0, 0).

    Args:
        points: (N, 2) x, y in pixels.
    """
    lines = [f"{x + 1:.3f} {y + 1:.3f}" for x, y in points.tolist()]
    return "\n".join(["version: 1", f"n_points: {len(lines)}", "{", *lines, "}", ""])


def from_pts(text: str) -> Floats:
    """(N, 2) x, y in pixels of a file's text.

    Raises:
        IntegrityError: it is no .pts file, or holds another number of points than it says.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    try:
        start, stop = lines.index("{"), lines.index("}")
        said = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines[:start])}
        points = np.array([[float(v) for v in line.split()] for line in lines[start + 1 : stop]])
        if points.shape != (int(said["n_points"]), 2) or not np.isfinite(points).all():
            raise ValueError
    except (ValueError, KeyError):
        raise IntegrityError("no .pts file, or not as many points as it says") from None
    return points - 1
