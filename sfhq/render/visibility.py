"""What each sample of an image sees, of as many triangles as there are, in bounded memory.

Convention: as `raster`: samples, depth, the rule for edges and the corners' grid. Compiled, a depth
buffer takes the triangles one by one; without a compiler numpy takes their fragments in blocks.
Both round alike at every step, so ids and depths are the same to the last bit.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from sfhq.render import raster
from sfhq.render.raster import Doubles, Floats, Integers, Ints, Reals, rasterize
from stylegan2_ops.build import IMPLS, BuildError, Impl, load

SOURCE = Path(__file__).parent / "csrc" / "visibility.cpp"


def visible(
    points: Reals,
    triangles: Integers,
    group: Integers,
    groups: int,
    width: int,
    height: int,
    *,
    near: float = 1e-3,
    impl: Impl = "auto",
) -> tuple[Ints, Floats]:
    """The nearest triangle at each sample, per group as if the others were not there.

    What is covered, and what `near` leaves out, is as in `raster.rasterize`.

    Args:
        points: (V, 3) x and y in samples, then depth.
        triangles: (T, 3) indices into `points`, either orientation.
        group: (T,) of each triangle, from 0.
        groups: how many there are.
        width: of the grid, in samples.
        height: of the grid, in samples.
        near: depth below which a corner is too near, above zero.
        impl: "native" is the compiled kernel, "ref" numpy, "auto" the kernel where it can be had.

    Returns:
        (groups, height * width) index of the triangle, -1 where there is none, and its depth, inf
        there. Of equal depths the lower triangle is nearest.

    Raises:
        ValueError: a shape is wrong, a point is not finite, or a corner or group does not exist.
        BuildError: "native" and the kernel could not be built.
    """
    if impl not in IMPLS:
        raise ValueError(f"impl is {impl!r}; wanted one of {IMPLS}")
    points, triangles, group = np.asarray(points), np.asarray(triangles), np.asarray(group)
    _refuse_mesh(points, triangles)
    if group.shape != triangles.shape[:1]:
        raise ValueError(f"group has shape {group.shape}; wanted ({len(triangles)},)")
    raster._refuse_outside("group", group, groups)
    if width < 1 or height < 1 or width * height >= 2**31:
        raise ValueError(f"the grid is {width} x {height}; wanted 1 to 2**31 - 1 samples")
    if not near > 0:
        raise ValueError(f"near is {near}; wanted more than 0")
    library = None if impl == "ref" else _kernel(impl)
    if library is None:
        return _by_blocks(points, triangles, group, groups, width, height, near)
    points = np.ascontiguousarray(points, np.float64)
    triangles = np.ascontiguousarray(triangles, np.int32)
    group = np.ascontiguousarray(group, np.int32)
    index = np.full((groups, height * width), -1, np.int32)
    depth = np.full((groups, height * width), np.inf, np.float32)
    library.sfhq_visible(
        *(ctypes.c_void_p(each.ctypes.data) for each in (points, triangles, group)),
        *(ctypes.c_int64(size) for size in (len(triangles), width, height)),
        ctypes.c_double(near),
        *(ctypes.c_void_p(each.ctypes.data) for each in (index, depth)),
    )
    return index, depth


def _refuse_mesh(points: Reals, triangles: Integers) -> None:
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points have shape {points.shape}; wanted (V, 3)")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"triangles have shape {triangles.shape}; wanted (T, 3)")
    if not np.issubdtype(triangles.dtype, np.integer):
        raise ValueError(f"triangles are {triangles.dtype}; wanted integers")
    raster._refuse_odd("points", points)
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise ValueError(
            f"triangles name points {triangles.min()} to {triangles.max()}; "
            f"wanted 0 to {len(points) - 1}"
        )


def _kernel(impl: Impl) -> ctypes.CDLL | None:
    try:
        return load(SOURCE, threaded=False)
    except BuildError:
        if impl == "native":
            raise
        return None


def _by_blocks(
    points: Reals,
    triangles: Integers,
    group: Integers,
    groups: int,
    width: int,
    height: int,
    near: float,
) -> tuple[Ints, Floats]:
    # Floats above zero sort as their bits do, so depth and triangle make one number.
    none = np.uint64(np.float32(np.inf).view(np.uint32)) << np.uint64(32)
    size = width * height
    best = np.full(groups * size, none)
    for block in raster._blocks(_most(points, triangles, width, height)):
        own = triangles[block]
        corners = np.arange(own.size, dtype=np.int32).reshape(-1, 3)
        fragments = rasterize(points[own].reshape(-1, 3), corners, width, height, near=near)
        key = fragments.depth.view(np.uint32).astype(np.uint64) << np.uint64(32)
        key |= (fragments.triangle + block.start).astype(np.uint64)
        cell = group[block].astype(np.int64)[fragments.triangle] * size + fragments.pixel
        np.minimum.at(best, cell, key)
    index = np.empty((groups, size), np.int32)
    depth = np.empty((groups, size), np.float32)
    for i, keys in enumerate(best.reshape(groups, size)):
        index[i] = np.where(keys < none, keys.astype(np.uint32).view(np.int32), -1)
        depth[i] = (keys >> np.uint64(32)).astype(np.uint32).view(np.float32)
    return index, depth


def _most(points: Reals, triangles: Integers, width: int, height: int) -> Ints:
    """What a triangle takes in a block: more samples than it covers, (T,).

    None of its rows is longer than twice its area over its height.
    """
    a, b, c = (points[triangles[:, i], :2].astype(np.float64) for i in range(3))
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    columns, rows = (np.clip(high + 1, 0, (width, height)) - np.clip(low - 1, 0, (width, height))).T
    (x_1, y_1), (x_2, y_2) = (b - a).T, (c - a).T
    longest = np.abs(x_1 * y_2 - x_2 * y_1) / np.maximum((high - low)[:, 1], 1 / raster.SUBSAMPLES)
    most: Ints = (rows * np.fmin(columns, longest + 2) + 1).astype(np.int32)
    return most


def barycentric(
    points: Reals, triangles: Integers, which: Integers, sample: Integers, width: int
) -> Floats:
    """Perspective-correct weights of a triangle's corners at the centres of samples.

    Args:
        points: (V, 3) x and y in samples, then depth.
        triangles: (T, 3) indices into `points`.
        which: (N,) index of the triangle, one that `visible` found there.
        sample: (N,) row * width + column.
        width: of the grid, in samples.

    Returns:
        (N, 3) in [0, 1] with sum 1; outside the triangle weights below 0 are taken as 0.

    Raises:
        ValueError: a shape is wrong, a point is not finite, a corner, triangle or sample does not
            exist, or a triangle has no area or is not in front of the camera.
    """
    points, triangles = np.asarray(points), np.asarray(triangles)
    which, sample = np.asarray(which), np.asarray(sample)
    _refuse_mesh(points, triangles)
    if which.ndim != 1 or which.shape != sample.shape:
        raise ValueError(
            f"which has shape {which.shape} and sample {sample.shape}; wanted (N,) for both"
        )
    raster._refuse_outside("which", which, len(triangles))
    if width < 1 or (sample.size and sample.min() < 0):
        raise ValueError(
            f"width is {width} and sample goes down to {sample.min(initial=0)}; "
            "wanted 1 or more and 0 or more"
        )
    weights = np.empty((len(which), 3), np.float32)
    for start in range(0, len(which), raster.BLOCK):
        block = slice(start, start + raster.BLOCK)
        of = which[block]
        x, y, z = np.ascontiguousarray(points[triangles[of]].T, np.float64)  # (3, N) each
        corners = raster._Corners(_snapped(x), _snapped(y), z, of.astype(np.int32))
        odd = of[(raster._area(corners) == 0) | (z <= 0).any(axis=0)]
        if odd.size:
            raise ValueError(
                f"triangle {odd[0]} covers no sample: it has no area, or a corner that is not in "
                "front of the camera"
            )
        row, column = np.divmod(sample[block], width)
        weights[block] = _weights(raster._planes(corners), row + 0.5, column + 0.5).T
    return weights


def _snapped(places: Doubles) -> Doubles:
    snapped: Doubles = np.rint(places * raster.SUBSAMPLES) / raster.SUBSAMPLES
    return snapped


def _weights(planes: Doubles, row: Doubles, column: Doubles) -> Doubles:
    x, y, x_1, y_1, x_2, y_2, near_0, near_1, near_2 = planes
    right, down = column - x, row - y
    one, two = right * x_1 + down * y_1, right * x_2 + down * y_2
    weights: Doubles = np.maximum([(1 - one - two) * near_0, one * near_1, two * near_2], 0)
    weights /= weights[0] + weights[1] + weights[2]
    return weights
