"""Make and cut small meshes: tubes along curves, surfaces between curves, ellipsoids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfhq.render.head.assets import Floats, Ints


def loft(rows: Sequence[Floats], closed: bool = False) -> tuple[Floats, Ints]:
    """Points and triangles of a surface through a sequence of curves.

    Args:
        rows: at least two curves, (N, 3) each.
        closed: join the last point of each curve to its first.
    """
    points = np.concatenate(rows).astype(np.float32)
    n = len(rows[0])
    i, j = np.meshgrid(np.arange(len(rows) - 1), np.arange(n if closed else n - 1), indexing="ij")
    a, b = i * n + j, i * n + (j + 1) % n
    faces = np.stack([np.stack([a, b, a + n], -1), np.stack([b, b + n, a + n], -1)], 2)
    return points, faces.reshape(-1, 3).astype(np.int32)


def tube(
    path: Floats, radius: Floats | float, closed: bool = False, sides: int = 8
) -> tuple[Floats, Ints]:
    """Points and triangles of a round tube along a path.

    Args:
        path: (N, 3).
        radius: one number, or (N,).
        closed: join the end of the path to its start.
        sides: number of corners of the tube's cross section.
    """
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    across = _carried(ahead, closed)
    up = np.cross(ahead, across)
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(turn)[:, None, None] * across + np.sin(turn)[:, None, None] * up
    size = np.broadcast_to(np.asarray(radius, np.float32), (len(path),))[:, None]
    rows = list(path[None] + size[None] * ring)
    rows.append(rows[0])
    points, faces = loft(rows, closed)
    return points, faces[:, ::-1].copy()


def _carried(ahead: Floats, closed: bool) -> Floats:
    """(N, 3) unit vectors perpendicular to a path that rotate about it as little as possible."""
    start = np.eye(3)[np.abs(ahead[0]).argmin()]
    rows = []
    for way in (*ahead, ahead[0]) if closed else ahead:
        start = start - (start @ way) * way
        start = start / max(float(np.linalg.norm(start)), 1e-9)
        rows.append(start)
    out = np.stack(rows)
    if closed:  # spread the rotation that is left at the end evenly over the path
        side = np.cross(ahead[0], out[0])
        by = -np.arctan2(out[-1] @ side, out[-1] @ out[0]) * np.linspace(0, 1, len(out))[:-1, None]
        out = out[:-1]
        out = np.cos(by) * out + np.sin(by) * np.cross(ahead, out)
    done: Floats = out
    return done


def ball(centre: Floats, radii: Floats | float, rings: int = 10) -> tuple[Floats, Ints]:
    """Points and triangles of an ellipsoid.

    Args:
        centre: (3,).
        radii: one number, or (3,).
        rings: number of rings from pole to pole.
    """
    polar = np.linspace(0, np.pi, rings)
    around = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    rows = [
        np.stack(
            [np.sin(p) * np.cos(around), np.cos(p) + 0 * around, np.sin(p) * np.sin(around)], 1
        )
        * radii
        + centre
        for p in polar
    ]
    return loft(rows, closed=True)


def cut(points: Floats, faces: Ints, field: Floats, carry: Floats) -> tuple[Floats, Ints, Floats]:
    """The part of a surface where a field is above 0, with a smooth edge where it is 0.

    Args:
        points: (V, 3).
        faces: (T, 3).
        field: (V,).
        carry: (V, C) values to take along.

    Returns:
        Points, triangles and carried values; unused vertices are left out.
    """
    inside = field > 0
    count = inside[faces].sum(1)
    kept = [faces[count == 3]]
    ends: list[Ints] = []  # the two ends of each edge that is cut
    made = 0
    for wanted in (1, 2):
        part = faces[count == wanted]
        odd = inside[part] if wanted == 1 else ~inside[part]
        first = odd.argmax(1)
        a, b, c = (np.take_along_axis(part, ((first + k) % 3)[:, None], 1)[:, 0] for k in range(3))
        ends += [np.stack([a, b], 1), np.stack([a, c], 1)]
        ab = len(points) + made + np.arange(len(part))
        ac = ab + len(part)
        made += 2 * len(part)
        if wanted == 1:
            kept.append(np.stack([a, ab, ac], 1))
        else:
            kept += [np.stack([ab, b, c], 1), np.stack([ab, c, ac], 1)]
    # The two triangles of an edge share the new vertex on it.
    edge = np.sort(np.concatenate(ends), 1).astype(np.int64)
    edges, of = np.unique(edge[:, 0] * len(points) + edge[:, 1], return_inverse=True)
    near, far = np.divmod(edges, len(points))
    t = (field[near] / (field[near] - field[far]))[:, None]
    values = np.concatenate([points, carry], 1)
    every = np.concatenate([values, values[near] + t * (values[far] - values[near])])
    number = np.concatenate([np.arange(len(points)), len(points) + of.ravel()])
    used, corners = np.unique(number[np.concatenate(kept)], return_inverse=True)
    n = points.shape[1]
    return (
        every[used, :n].astype(np.float32),
        corners.reshape(-1, 3).astype(np.int32),
        every[used, n:].astype(np.float32),
    )


def coarsen(points: Floats, faces: Ints, carry: Floats, cell: float) -> tuple[Floats, Ints, Floats]:
    """Simplify a surface: all vertices in a cube of a grid are merged into their mean.

    Args:
        points: (V, 3).
        faces: (T, 3).
        carry: (V, C) values to take along.
        cell: side of the cubes.

    Returns:
        Points, triangles and carried values; triangles without area are left out.

    Source: Rossignac and Borrel 1993, "Multi-resolution 3D approximations for rendering complex
    scenes".
    """
    place = np.floor(points / cell).astype(np.int64)
    place -= place.min(0)
    span = place.max(0) + 1
    _, of = np.unique(
        (place[:, 0] * span[1] + place[:, 1]) * span[2] + place[:, 2], return_inverse=True
    )
    number = np.bincount(of)
    values = np.concatenate([points, carry], 1)
    means = np.stack([np.bincount(of, v) / number for v in values.T], 1).astype(np.float32)
    a, b, c = of[faces].T
    left = of[faces[(a != b) & (b != c) & (c != a)]].astype(np.int32)
    return means[:, :3], left, means[:, 3:]


def level_ring(
    points: Floats, faces: Ints, field: Floats, middle: Floats, bins: int = 96
) -> Floats:
    """(bins, 3) points of the loop where a field is 0, one per direction around a vertical axis.

    Directions without a point are interpolated; several points in one direction are averaged.

    Args:
        points: (V, 3).
        faces: (T, 3).
        field: (V,).
        middle: (3,) a point on the axis.
        bins: number of directions.

    Returns:
        (bins, 3), or (0, 3) if the field is nowhere 0.
    """
    inside = (field > 0)[faces]
    faces = faces[inside.any(1) & ~inside.all(1)]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    a, b = edges[:, 0], edges[:, 1]
    crossing = (field[a] > 0) != (field[b] > 0)
    a, b = a[crossing], b[crossing]
    t = (field[a] / (field[a] - field[b]))[:, None]
    at = points[a] + t * (points[b] - points[a])
    angle = np.arctan2(at[:, 0] - middle[0], at[:, 2] - middle[2])
    slot = ((angle + np.pi) / (2 * np.pi) * bins).astype(int) % bins
    number = np.bincount(slot, minlength=bins)
    out = np.stack([np.bincount(slot, at[:, i], bins) / np.maximum(number, 1) for i in range(3)], 1)
    full = np.flatnonzero(number)
    if not len(full):
        return np.zeros((0, 3), np.float32)
    where = np.arange(bins)
    wide = np.concatenate([full - bins, full, full + bins])
    out = np.stack([np.interp(where, wide, np.tile(out[full, i], 3)) for i in range(3)], 1)
    for _ in range(2):
        out = 0.25 * np.roll(out, 1, 0) + 0.5 * out + 0.25 * np.roll(out, -1, 0)
    return out.astype(np.float32)
