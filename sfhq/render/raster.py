"""Exact label masks: which triangle each sample of an image sees, in plain numpy.

Convention: x grows to the right and y down, in samples; the centre of the sample in row r and
column c is (c + 0.5, r + 0.5). Depth is the distance along the viewing axis, positive in front of
the camera. Sizes are (height, width).

A triangle is cut into spans, one per row of samples: the two edges that cross the row say where
it starts and ends. Work grows with the samples covered, not with the box around a triangle, which
is what long thin hairs need. Corners are taken to 1 / SUBSAMPLES of a sample; up to 8192 samples
from the origin the crossings are then exact in float64, so each sample of two triangles that share
an edge belongs to one of them, always. Farther out a crossing is rounded, alike for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Integers = npt.NDArray[np.integer[Any]]

SUBSAMPLES = 4096  # a power of two; twice as fine is exact half as far out
BLOCK = 1 << 17  # rows, spans or fragments worked on at once: what a core's cache holds
SHARPEST = 0.5  # 1 + cos of the turn, 120 degrees; a ribbon that turns more is not mitred


@dataclass(frozen=True)
class Fragments:
    """Every sample of every triangle, hidden or not; ordered by triangle, then row, then column.

    Attributes:
        pixel: (F,) row * width + column of the sample.
        depth: (F,) distance along the viewing axis at the sample, above zero.
        triangle: (F,) index into the triangles given.
        bary: (F, 3) perspective-correct weights of the corners, in [0, 1] with sum 1.
    """

    pixel: Ints
    depth: Floats
    triangle: Ints
    bary: Floats


class _Corners(NamedTuple):
    """Triangles that reach a sample row and column; (3, T) each, in the order given."""

    x: Doubles
    y: Doubles
    z: Doubles
    triangle: Ints  # (T,) index into the triangles given


class _Spans(NamedTuple):
    """Runs of covered samples; (S,) each."""

    at: Ints  # index into the corners
    row: Ints
    column: Ints  # of the first sample
    length: Ints


def rasterize(
    points: Reals, triangles: Integers, width: int, height: int, *, near: float = 1e-3
) -> Fragments:
    """Every sample of a grid that each triangle covers, seen from both sides.

    A triangle covers the samples whose centres lie inside it; a centre on an edge counts for left
    and top edges only, so triangles that share an edge never share a sample nor leave one out.
    Triangles without area cover none. One with a corner nearer than `near` is left out whole:
    clip the mesh before if that matters.

    Args:
        points: (V, 3) x and y in samples, then depth.
        triangles: (T, 3) indices into `points`, either orientation.
        width: of the grid, in samples.
        height: of the grid, in samples.
        near: depth below which a corner is too near, above zero.

    Returns:
        24 bytes a fragment; about as much again per span is used on the way.

    Raises:
        ValueError: a shape is wrong, a point is not finite or a corner does not exist.
    """
    points, triangles = np.asarray(points), np.asarray(triangles)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points have shape {points.shape}; wanted (V, 3)")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"triangles have shape {triangles.shape}; wanted (T, 3)")
    if not np.issubdtype(triangles.dtype, np.integer):
        raise ValueError(f"triangles are {triangles.dtype}; wanted integers")
    if width < 1 or height < 1 or width * height >= 2**31:
        raise ValueError(f"the grid is {width} x {height}; wanted 1 to 2**31 - 1 samples")
    if not near > 0:
        raise ValueError(f"near is {near}; wanted more than 0")
    _refuse_odd("points", points)
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise ValueError(
            f"triangles name points {triangles.min()} to {triangles.max()}; "
            f"wanted 0 to {len(points) - 1}"
        )
    corners = _on_grid(points, triangles, width, height, near)
    return _fill(corners, _spans(corners, width, height), width)


def _refuse_odd(name: str, values: Reals) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum(dtype=np.float64)
    if np.isfinite(total):  # it is not where any of them is not, and much faster to ask
        return
    odd = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if odd.size:
        raise ValueError(
            f"{name}: {odd.size} of {len(values)} are not finite, the first is {name}[{odd[0]}] = "
            f"{values[odd[0]].tolist()}; wanted numbers"
        )


def _first(edge: Doubles, limit: int) -> Ints:
    """Index of the first sample whose centre is at or beyond `edge`, from 0 to `limit`."""
    first: Ints = np.clip(np.ceil(edge - 0.5), 0, limit).astype(np.int32)
    return first


def _on_grid(points: Reals, triangles: Integers, width: int, height: int, near: float) -> _Corners:
    x, y = np.rint(points[:, :2].T.astype(np.float64) * SUBSAMPLES) / SUBSAMPLES
    z = points[:, 2].astype(np.float64)
    column, row, far = _first(x, width), _first(y, height), z >= near
    a, b, c = np.ascontiguousarray(triangles.T)
    keep = far[a] & far[b] & far[c]
    for first in (column, row):
        i, j, k = first[a], first[b], first[c]
        keep &= (i != j) | (j != k)
    kept = np.flatnonzero(keep)
    at = np.stack([a[kept], b[kept], c[kept]])
    corners = _Corners(x[at], y[at], z[at], kept.astype(np.int32))
    solid = _area(corners) != 0
    if solid.all():
        return corners
    x, y, z, triangle = corners
    return _Corners(x[:, solid], y[:, solid], z[:, solid], triangle[solid])


def _area(corners: _Corners) -> Doubles:
    """Twice the signed area, (T,)."""
    x, y = corners.x, corners.y
    area: Doubles = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    return area


def _blocks(counts: Ints) -> Iterator[slice]:
    """Cut a list so that the counts of a slice add up to `BLOCK` at most, or it is of one."""
    ends = np.cumsum(counts, dtype=np.int64)
    start = 0
    while start < len(ends):
        done = ends[start] - counts[start]
        stop = max(start + 1, int(np.searchsorted(ends, done + BLOCK, side="right")))
        yield slice(start, stop)
        start = stop


def _expand(counts: Ints) -> tuple[npt.NDArray[np.intp], Ints]:
    """For counts (2, 3): which count each item is of, (0, 0, 1, 1, 1), and its place in it."""
    of = np.repeat(np.arange(len(counts)), counts)
    starts = (np.cumsum(counts, dtype=np.int64) - counts).astype(np.int32)
    return of, np.arange(len(of), dtype=np.int32) - starts[of]


def _spans(corners: _Corners, width: int, height: int) -> _Spans:
    """Where each triangle meets each row of samples.

    A row is crossed by the edge from the highest corner to the lowest and by one of the others:
    that from the highest to the middle one above the latter, that from there to the lowest below.
    """
    high, middle, low = _by_height(corners)
    first = _first(np.stack([high[1], middle[1], low[1]], axis=1), height)  # (T, 3)
    rows = np.diff(first, axis=1).reshape(-1)  # (2T,) above and below the middle corner
    halves = np.flatnonzero(rows)
    long, above, below = _edge(high, low), _edge(high, middle), _edge(middle, low)
    lines = np.concatenate([np.stack([long, long], 2), np.stack([above, below], 2)])
    lines = lines.reshape(6, -1)[:, halves]
    rows, first = rows[halves], first[:, :2].reshape(-1)[halves]
    found = []
    for block in _blocks(rows):
        of, place = _expand(rows[block])
        row = first[block][of] + place
        centre = row + 0.5
        dx, offset, dy, other_dx, other_offset, other_dy = lines[:, block].take(of, axis=1)
        one = np.ceil((centre * dx + offset) / dy)
        other = np.ceil((centre * other_dx + other_offset) / other_dy)
        start = np.maximum(np.minimum(one, other), 0)
        count = np.minimum(np.maximum(one, other), width) - start
        hit = np.flatnonzero(count > 0)
        at = halves[block][of[hit]] >> 1
        found.append([each.astype(np.int32) for each in (at, row[hit], start[hit], count[hit])])
    none = [np.zeros(0, np.int32)] * 4
    return _Spans(*(np.concatenate(each) for each in zip(none, *found, strict=True)))


def _by_height(corners: _Corners) -> tuple[Doubles, Doubles, Doubles]:
    """The corners from the top of the image down, (2, T) x and y each."""
    a, b, c = np.stack([corners.x, corners.y], axis=1)
    a, b = np.where(a[1] > b[1], (b, a), (a, b))
    b, c = np.where(b[1] > c[1], (c, b), (b, c))
    a, b = np.where(a[1] > b[1], (b, a), (a, b))
    return a, b, c


def _edge(top: Doubles, bottom: Doubles) -> Doubles:
    """(dx, offset, dy) so that (y * dx + offset) / dy is x - 0.5 where the edge crosses y.

    Its ceiling is the first sample whose centre is not left of the edge. With numerator and
    denominator whole below 2**53, in some unit, rounding the quotient never carries it past an
    integer.
    """
    dx, dy = bottom - top
    return np.stack([dx, (top[0] - 0.5) * dy - top[1] * dx, dy])


def _fill(corners: _Corners, spans: _Spans, width: int) -> Fragments:
    """Weights and depth of every sample: those over depth are linear in the image."""
    planes = _planes(corners)
    size = int(spans.length.sum(dtype=np.int64))
    pixel, triangle = np.empty(size, np.int32), np.empty(size, np.int32)
    depth, bary = np.empty(size, np.float32), np.empty((size, 3), np.float32)
    stop = 0
    for block in _blocks(spans.length):
        at, row, column = spans.at[block], spans.row[block], spans.column[block]
        x, y, x_1, y_1, x_2, y_2, near_0, near_1, near_2 = planes.take(at, axis=1)
        right, down = column + 0.5 - x, row + 0.5 - y
        one, two = right * x_1 + down * y_1, right * x_2 + down * y_2
        values = ((1 - one - two) * near_0, one * near_1, two * near_2)
        steps = ((-x_1 - x_2) * near_0, x_1 * near_1, x_2 * near_2)
        of, place = _expand(spans.length[block])
        start, stop = stop, stop + len(of)
        out = slice(start, stop)
        pixel[out] = (row * width + column)[of] + place
        triangle[out] = corners.triangle[at][of]
        lines = np.array([*values, *steps], np.float32).take(of, axis=1)
        weights = np.maximum(lines[:3] + lines[3:] * place.astype(np.float32), 0)
        np.divide(1, weights[0] + weights[1] + weights[2], out=depth[out])
        np.multiply(weights.T, depth[out, None], out=bary[out])
    return Fragments(pixel, depth, triangle, bary)


def _planes(corners: _Corners) -> Doubles:
    """(9, T): corner 0, the gradients of weights 1 and 2, one over the depth of each corner."""
    x, y = corners.x, corners.y
    (x_1, x_2), (y_1, y_2) = x[1:] - x[0], y[1:] - y[0]
    area = _area(corners)
    return np.stack([x[0], y[0], y_2 / area, -x_2 / area, -y_1 / area, x_1 / area, *1 / corners.z])


def ribbons(
    lines: Reals, half_widths: Reals, counts: Integers | None = None
) -> tuple[Doubles, Ints, Ints]:
    """Strips that face the camera along polylines: two triangles a segment, to `rasterize`.

    Neighbours in a strip are mitred: they share an edge, and the strip's area is its width times
    its length. Where it turns by more than 120 degrees, or a segment is too short for the mitre,
    they end square instead and overlap inside the turn. Nothing is widened: a strip thinner than
    a sample covers its share of sample centres on average. A segment seen end on has no area.

    Args:
        lines: (S, K, 3) x and y in samples, then depth.
        half_widths: (S, K) in samples.
        counts: (S,) points of each line, the rest of its row is ignored; all K without it.

    Returns:
        Points (4 S (K - 1), 3), of which segment k of line s has 4 (s (K - 1) + k) and the next
        three; triangles (T, 3); and the line each is of, (T,). T is twice the sum of counts - 1.

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
    _refuse_odd("lines", path)
    _refuse_odd("half_widths", half)
    if (half < 0).any():
        raise ValueError(f"half_widths go down to {half.min()}; wanted 0 or more")
    starts, ends = _sides(path[..., :2], half, used[:, 1:])
    points = np.empty((size, max(length - 1, 0), 2, 2, 3))  # of a segment: its ends, their sides
    points[:, :, 0] = path[:, :-1, None]
    points[:, :, 1] = path[:, 1:, None]
    across = np.stack([starts * half[:, :-1, None], ends * half[:, 1:, None]], axis=2)
    points[:, :, :, 0, :2] += across
    points[:, :, :, 1, :2] -= across
    segments = np.flatnonzero(used[:, 1:]).astype(np.int32)
    # Cut along the shorter diagonal, so that a strip's mirror image is cut alike.
    corners = points.reshape(-1, 4, 3)[segments, :, :2]
    rising = np.hypot(*(corners[:, 3] - corners[:, 0]).T)
    falling = np.hypot(*(corners[:, 2] - corners[:, 1]).T)
    ways = np.array([[[0, 1, 2], [1, 3, 2]], [[0, 1, 3], [0, 3, 2]]], np.int32)
    triangles = segments[:, None, None] * 4 + ways[(rising < falling - 1e-9).astype(int)]
    owner = np.repeat(segments // max(length - 1, 1), 2)
    return points.reshape(-1, 3), triangles.reshape(-1, 3), owner


def _sides(path: Doubles, half: Doubles, used: npt.NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """From the line to its side per half width, (S, K - 1, 2), at start and end of segments."""
    along = np.diff(path, axis=1) * used[..., None]
    length = np.hypot(along[..., 0], along[..., 1])
    along /= np.where(length > 0, length, 1)[..., None]
    normal = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    cos = (along[:, :-1] * along[:, 1:]).sum(axis=-1)
    mitre = (normal[:, :-1] + normal[:, 1:]) / np.maximum(1 + cos, SHARPEST)[..., None]
    room = np.minimum(length[:, :-1], length[:, 1:])  # the mitre takes half * tan(turn / 2)
    fits = (1 + cos >= SHARPEST) & (half[:, 1:-1] ** 2 * (1 - cos) <= room**2 * (1 + cos))
    starts, ends = normal.copy(), normal.copy()
    np.copyto(starts[:, 1:], mitre, where=fits[..., None])
    np.copyto(ends[:, :-1], mitre, where=fits[..., None])
    return starts, ends


def nearest(
    fragments: Fragments, size: int, group: Integers | None = None, groups: int = 1
) -> Ints:
    """The fragment that each sample sees, per group as if the others were not there.

    Args:
        fragments: in any order.
        size: samples of the grid, width * height.
        group: (F,) of each fragment, from 0; all are of group 0 without it.
        groups: how many there are.

    Returns:
        (groups, size) index into the fragments, -1 where there is none. Of equal depths the lower
        triangle is nearest.

    Raises:
        ValueError: a shape is wrong, or a fragment lies outside the grid or the groups.
    """
    pixel, depth = fragments.pixel, fragments.depth.view(np.uint32)
    _refuse_outside("pixel", pixel, size)
    if group is not None:
        if group.shape != pixel.shape:
            raise ValueError(f"group has shape {group.shape}; wanted {pixel.shape}")
        _refuse_outside("group", group, groups)
    # Floats above zero sort as their bits do, so depth and triangle make one number.
    best = np.full(groups * size, np.iinfo(np.uint64).max, np.uint64)
    index = np.full(groups * size, -1, np.int32)

    def keyed(block: slice) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint64]]:
        key = depth[block].astype(np.uint64) << np.uint64(32)
        key |= fragments.triangle[block].astype(np.uint64)
        cell = pixel[block].astype(np.intp)
        return (cell if group is None else cell + group[block].astype(np.intp) * size), key

    blocks = [slice(i, i + BLOCK) for i in range(0, len(pixel), BLOCK)]
    for block in blocks:
        np.minimum.at(best, *keyed(block))
    for block in blocks:
        cell, key = keyed(block)
        seen = np.flatnonzero(best[cell] == key)
        index[cell[seen]] = seen + block.start
    return index.reshape(groups, size)


def _refuse_outside(name: str, values: Integers, limit: int) -> None:
    if values.size and not 0 <= values.min() <= values.max() < limit:
        raise ValueError(
            f"{name} goes from {values.min()} to {values.max()}; wanted 0 to {limit - 1}"
        )


def coverage(ids: Integers, classes: int, k: int) -> tuple[Floats, Integers]:
    """What share of each pixel's k x k samples every class has, and the class that has most.

    Args:
        ids: (H k, W k) class of each sample, from 0.
        classes: how many there are.
        k: samples along a pixel's side.

    Returns:
        (classes, H, W), adds up to 1 over the classes; and (H, W) of the dtype of `ids`, the
        lower class where two have as many.

    Raises:
        ValueError: k does not divide the shape, or an id is not a class.
    """
    if ids.ndim != 2 or k < 1 or ids.shape[0] % k or ids.shape[1] % k:
        raise ValueError(f"ids have shape {ids.shape}; wanted (H * {k}, W * {k}), k above 0")
    _refuse_outside("ids", ids, classes)
    height, width = ids.shape[0] // k, ids.shape[1] // k
    shares = np.empty((classes, height, width), np.float32)
    most = np.empty((height, width), ids.dtype)
    cell = np.repeat(np.arange(width) * classes, k)
    step = max(1, BLOCK // max(1, width * max(k * k, classes)))  # rows of pixels
    for start in range(0, height, step):
        rows = ids[start * k : (start + step) * k].astype(np.intp)
        above = np.arange(len(rows)) // k * (width * classes)
        where = (rows + cell + above[:, None]).ravel()
        counts = np.bincount(where, minlength=len(rows) // k * width * classes)
        counts = counts.reshape(-1, width, classes)
        np.divide(counts.transpose(2, 0, 1), k * k, out=shares[:, start : start + step])
        most[start : start + step] = counts.argmax(axis=2)
    return shares, most
