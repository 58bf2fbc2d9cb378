"""Distances between points and their truth, in shares of the distance between the eyes.

Sources: Sagonas et al. 2016, "300 Faces In-The-Wild Challenge": the mean distance over the distance
of the outer eye corners, failures beyond 8 %, the area under the curve up to there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sfhq.faces.points import GROUPS

Floats = npt.NDArray[np.float64]
FAILURE = 0.08
OUTER_CORNERS = (36, 45)


def eye_distance(points: npt.NDArray[np.floating]) -> Floats:
    """(N,) distance of the outer corners of the eyes; points are (N, 46 or more, 2)."""
    a, b = OUTER_CORNERS
    return np.asarray(np.linalg.norm(points[:, b] - points[:, a], axis=-1), np.float64)


def errors(
    told: npt.NDArray[np.floating],
    truth: npt.NDArray[np.floating],
    unit: npt.NDArray[np.floating],
    known: npt.NDArray[np.bool_] | None = None,
) -> Floats:
    """(N, P) distances in units; NaN where the truth is unknown.

    Args:
        told, truth: (N, P, 2) pixels.
        unit: (N,) pixels, see `eye_distance`.
        known: (N, P), False where there is no truth; None if all is known.
    """
    apart = np.linalg.norm(np.asarray(told, np.float64) - truth, axis=-1)
    apart = apart / np.asarray(unit, np.float64)[:, None]
    return apart if known is None else np.where(known, apart, np.nan)


def by_group(
    found: Floats, groups: Mapping[str, tuple[int, int]] = GROUPS
) -> dict[str, dict[str, float]]:
    """Mean, median and 95th percentile of errors of each group of points.

    Args:
        found: (N, P) from `errors`.
        groups: name -> first point, and the one after the last.
    """
    out = {}
    for name, (first, last) in groups.items():
        values = found[:, first:last]
        values = values[~np.isnan(values)]
        if len(values):
            out[name] = {
                "mean": float(values.mean()),
                "median": float(np.median(values)),
                "p95": float(np.percentile(values, 95)),
            }
    return out


def face_errors(found: Floats) -> Floats:
    """(N,) mean error of each face over its known points; NaN if it has none."""
    known = (~np.isnan(found)).sum(1)
    total = np.nansum(found, axis=1)
    return np.asarray(total / np.where(known > 0, known, np.nan), np.float64)


def failure_rate(faces: Floats, limit: float = FAILURE) -> float:
    """Share of faces whose error is above a limit; one without a result fails.

    Args:
        faces: (N,) from `face_errors`; NaN where nothing was found.
        limit: largest error of a success.
    """
    return float(1 - (faces <= limit).mean())


def curve_area(faces: Floats, limit: float = FAILURE) -> float:
    """Area under the share of faces within an error, from 0 to a limit, over the limit: 0 to 1.

    Arguments as in `failure_rate`.
    """
    kept = np.where(np.isnan(faces), limit, np.minimum(faces, limit))
    return float((1 - kept / limit).mean())


def to_curve(points: npt.NDArray[np.floating], curve: npt.NDArray[np.floating]) -> Floats:
    """(P,) distance of points from a polyline, in pixels.

    Points of a hairline slide along it, so their distance from the line says more than that
    from their own truth.

    Args:
        points: (P, 2).
        curve: (Q, 2) corners of the line in order; Q is 1 or more.
    """
    given = np.asarray(points, np.float64)[:, None]
    line = np.asarray(curve, np.float64)
    if len(line) == 1:
        return np.asarray(np.linalg.norm(given[:, 0] - line[0], axis=-1))
    start, way = line[:-1], np.diff(line, axis=0)
    square = np.maximum((way**2).sum(1), 1e-12)
    along = np.clip(((given - start) * way).sum(-1) / square, 0, 1)  # (P, Q - 1)
    near = start + along[..., None] * way
    return np.asarray(np.linalg.norm(given - near, axis=-1).min(1))


def angle_errors(
    told: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """(A,) mean absolute difference of N rows of A angles in degrees, the short way round."""
    apart = (np.asarray(told, np.float64) - truth + 180) % 360 - 180
    return np.asarray(np.nanmean(np.abs(apart), axis=0), np.float64)
