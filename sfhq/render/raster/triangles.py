"""Exact label masks: which triangle each sample of an image sees, in plain numpy.

Convention: x grows to the right and y down, in samples; the centre of the sample in row r and
column c is (c + 0.5, r + 0.5). Depth is the distance along the viewing axis, positive in front of
the camera. Sizes are (height, width).

A triangle is cut into spans, one per row of samples: the two edges that cross the row say where
it starts and ends. Work grows with the samples covered, not with the box around a triangle, which
is what long thin hairs need. Corners are taken to 1 / SUBSAMPLES of a sample; up to 8192 samples
from the origin the crossings are then exact in float64, so each sample of two triangles that share
an edge belongs to one of them, always. Farther out a crossing is rounded, alike for both.

By hand: labels must be the same to the last bit on every machine, which graphics libraries do not
promise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sfhq.render.raster.refusals import (
    Doubles,
    Floats,
    Integers,
    Ints,
    Reals,
    refuse_grid,
    refuse_mesh,
    refuse_outside,
)

Keys = npt.NDArray[np.uint64]

SUBSAMPLES = 4096  # a power of two; twice as fine is exact half as far out
BLOCK = 1 << 17  # rows, spans or fragments worked on at once: what a core's cache holds


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


class Corners(NamedTuple):
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
    refuse_mesh(points, triangles)
    refuse_grid(width, height, near)
    corners = _on_grid(points, triangles, width, height, near)
    return _fill(corners, _spans(corners, width, height), width)


def snapped(places: Doubles) -> Doubles:
    """Places on the grid of corners."""
    snapped: Doubles = np.rint(places * SUBSAMPLES) / SUBSAMPLES
    return snapped


def _first(edge: Doubles, limit: int) -> Ints:
    """Index of the first sample whose centre is at or beyond `edge`, from 0 to `limit`."""
    first: Ints = np.clip(np.ceil(edge - 0.5), 0, limit).astype(np.int32)
    return first


def _on_grid(points: Reals, triangles: Integers, width: int, height: int, near: float) -> Corners:
    x, y = snapped(points[:, :2].T.astype(np.float64))
    z = points[:, 2].astype(np.float64)
    column, row, far = _first(x, width), _first(y, height), z >= near
    a, b, c = np.ascontiguousarray(triangles.T)
    keep = far[a] & far[b] & far[c]
    for first in (column, row):
        i, j, k = first[a], first[b], first[c]
        keep &= (i != j) | (j != k)
    kept = np.flatnonzero(keep)
    at = np.stack([a[kept], b[kept], c[kept]])
    corners = Corners(x[at], y[at], z[at], kept.astype(np.int32))
    solid = twice_area(corners) != 0
    if solid.all():
        return corners
    x, y, z, triangle = corners
    return Corners(x[:, solid], y[:, solid], z[:, solid], triangle[solid])


def twice_area(corners: Corners) -> Doubles:
    """Signed, (T,)."""
    x, y = corners.x, corners.y
    area: Doubles = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    return area


def in_blocks(counts: Ints) -> Iterator[slice]:
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


def _spans(corners: Corners, width: int, height: int) -> _Spans:
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
    for block in in_blocks(rows):
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


def _by_height(corners: Corners) -> tuple[Doubles, Doubles, Doubles]:
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


def _fill(corners: Corners, spans: _Spans, width: int) -> Fragments:
    """Weights and depth of every sample: those over depth are linear in the image."""
    planes = weight_planes(corners)
    size = int(spans.length.sum(dtype=np.int64))
    pixel, triangle = np.empty(size, np.int32), np.empty(size, np.int32)
    depth, bary = np.empty(size, np.float32), np.empty((size, 3), np.float32)
    stop = 0
    for block in in_blocks(spans.length):
        at, row, column = spans.at[block], spans.row[block], spans.column[block]
        own = planes.take(at, axis=1)
        values = over_depth(own, row, column)
        x_1, x_2, near_0, near_1, near_2 = own[[2, 4, 6, 7, 8]]
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


def weight_planes(corners: Corners) -> Doubles:
    """(9, T): corner 0, the gradients of weights 1 and 2, one over the depth of each corner."""
    x, y = corners.x, corners.y
    (x_1, x_2), (y_1, y_2) = x[1:] - x[0], y[1:] - y[0]
    area = twice_area(corners)
    return np.stack([x[0], y[0], y_2 / area, -x_2 / area, -y_1 / area, x_1 / area, *1 / corners.z])


def over_depth(
    planes: Doubles, row: Integers, column: Integers
) -> tuple[Doubles, Doubles, Doubles]:
    """The weights of each corner over its depth, at the centre of one sample a triangle, (T,)."""
    x, y, x_1, y_1, x_2, y_2, near_0, near_1, near_2 = planes
    right, down = column + 0.5 - x, row + 0.5 - y
    one, two = right * x_1 + down * y_1, right * x_2 + down * y_2
    return (1 - one - two) * near_0, one * near_1, two * near_2


def depth_keys(depth: Floats, triangle: Ints) -> Keys:
    """Numbers that sort by depth, then by triangle: floats above zero sort as their bits do."""
    keys: Keys = depth.view(np.uint32).astype(np.uint64) << np.uint64(32)
    keys |= triangle.astype(np.uint64)
    return keys


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
    pixel = fragments.pixel
    refuse_outside("pixel", pixel, size)
    if group is not None:
        if group.shape != pixel.shape:
            raise ValueError(f"group has shape {group.shape}; wanted {pixel.shape}")
        refuse_outside("group", group, groups)
    best = np.full(groups * size, np.iinfo(np.uint64).max, np.uint64)
    index = np.full(groups * size, -1, np.int32)

    def keyed(block: slice) -> tuple[npt.NDArray[np.intp], Keys]:
        key = depth_keys(fragments.depth[block], fragments.triangle[block])
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
    refuse_outside("ids", ids, classes)
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
