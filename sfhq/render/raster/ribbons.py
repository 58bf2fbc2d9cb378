"""Turn polylines into strips of triangles that face the camera.

Convention: points are x and y in samples, y down, then depth, as in `raster.triangles`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sfhq.render.raster.refusals import Doubles, Integers, Ints, Reals, refuse_odd

SHARPEST = 0.5  # 1 + cos(120 degrees): a strip that turns by more is not mitred


def ribbons(
    lines: Reals, half_widths: Reals, counts: Integers | None = None
) -> tuple[Doubles, Ints, Ints]:
    """Strips along polylines that face the camera, two triangles per segment.

    Neighbouring segments are mitred: they share an edge, and the area of the strip is its width
    times its length. If a strip turns by more than 120 degrees, or a segment is too short for the
    mitre, segments have square ends and overlap inside the turn. Strips are never widened: a strip
    thinner than a sample covers, on average, its share of sample centres. A segment that is seen
    from its end has no area.

    Args:
        lines: (S, K, 3) x and y in samples, then depth.
        half_widths: (S, K) half widths in samples.
        counts: (S,) number of points of each line; the rest of its row is ignored. None: all K.

    Returns:
        Points (4 S (K - 1), 3): those of segment k of line s start at 4 (s (K - 1) + k). Triangles
        (T, 3). The line of each triangle (T,). T is twice the sum of counts - 1.

    Raises:
        ValueError: a shape is wrong, a value is not finite or a width is below 0.
    """
    if lines.ndim != 3 or lines.shape[2] != 3:
        raise ValueError(f"lines have shape {lines.shape}; wanted (S, K, 3)")
    size, length = lines.shape[:2]
    if half_widths.shape != (size, length):
        raise ValueError(f"half_widths have shape {half_widths.shape}; wanted ({size}, {length})")
    counts = np.full(size, length) if counts is None else np.asarray(counts)
    if counts.shape != (size,) or (counts > length).any():
        raise ValueError(
            f"counts have shape {counts.shape} and go up to {counts.max(initial=0)}; "
            f"wanted ({size},) and {length} at most"
        )
    used = np.arange(length) < counts[:, None]
    path: Doubles = np.where(used[..., None], lines, 0).astype(np.float64)
    half: Doubles = np.where(used, half_widths, 0).astype(np.float64)
    refuse_odd("lines", path)
    refuse_odd("half_widths", half)
    if (half < 0).any():
        raise ValueError(f"half_widths go down to {half.min()}; wanted 0 or more")
    starts, ends = _sides(path[..., :2], half, used[:, 1:])
    points = np.empty((size, max(length - 1, 0), 2, 2, 3))  # per segment: two ends, two sides each
    points[:, :, 0] = path[:, :-1, None]
    points[:, :, 1] = path[:, 1:, None]
    across = np.stack([starts * half[:, :-1, None], ends * half[:, 1:, None]], axis=2)
    points[:, :, :, 0, :2] += across
    points[:, :, :, 1, :2] -= across
    segments = np.flatnonzero(used[:, 1:]).astype(np.int32)
    # Divide along the shorter diagonal, so that a mirrored strip is divided in the same way.
    corners = points.reshape(-1, 4, 3)[segments, :, :2]
    rising = np.hypot(*(corners[:, 3] - corners[:, 0]).T)
    falling = np.hypot(*(corners[:, 2] - corners[:, 1]).T)
    ways = np.array([[[0, 1, 2], [1, 3, 2]], [[0, 1, 3], [0, 3, 2]]], np.int32)
    triangles = segments[:, None, None] * 4 + ways[(rising < falling - 1e-9).astype(int)]
    owner = np.repeat(segments // max(length - 1, 1), 2)
    return points.reshape(-1, 3), triangles.reshape(-1, 3), owner


def _sides(path: Doubles, half: Doubles, used: npt.NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """Vectors from the line to its side, for half width 1, at the starts and ends of segments.

    Returns:
        (S, K - 1, 2) each.
    """
    along = np.diff(path, axis=1) * used[..., None]
    length = np.hypot(along[..., 0], along[..., 1])
    along /= np.where(length > 0, length, 1)[..., None]
    normal = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    cos = (along[:, :-1] * along[:, 1:]).sum(axis=-1)
    mitre = (normal[:, :-1] + normal[:, 1:]) / np.maximum(1 + cos, SHARPEST)[..., None]
    room = np.minimum(length[:, :-1], length[:, 1:])  # the mitre needs half * tan(turn / 2)
    fits = (1 + cos >= SHARPEST) & (half[:, 1:-1] ** 2 * (1 - cos) <= room**2 * (1 + cos))
    starts, ends = normal.copy(), normal.copy()
    np.copyto(starts[:, 1:], mitre, where=fits[..., None])
    np.copyto(ends[:, :-1], mitre, where=fits[..., None])
    return starts, ends
