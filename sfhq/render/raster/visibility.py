"""The visible triangle at each sample of an image, for any number of triangles in bounded memory.

Samples, depth, edges and rounding of corners are as in `raster.triangles`. The compiled kernel
writes triangles one by one into a depth buffer. Without a compiler, numpy works on fragments in
blocks. Both round in the same way at every step, so ids and depths are equal bit by bit.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from sfhq.render.raster import triangles as raster
from sfhq.render.raster.refusals import (
    Floats,
    Integers,
    Ints,
    Reals,
    refuse_grid,
    refuse_mesh,
    refuse_outside,
)
from sfhq.render.raster.triangles import (
    Corners,
    depth_keys,
    in_blocks,
    over_depth,
    rasterize,
    snapped,
    twice_area,
    weight_planes,
)
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
    """The nearest triangle at each sample, for each group as if the others did not exist.

    `raster.triangles.rasterize` defines which samples a triangle covers and what `near` does.

    Args:
        points: (V, 3) x and y in samples, then depth.
        triangles: (T, 3) indices into `points`, in either orientation.
        group: (T,) group of each triangle, from 0.
        groups: number of groups.
        width: width of the grid in samples.
        height: height of the grid in samples.
        near: smallest depth of a corner, above 0.
        impl: "native" for the compiled kernel, "ref" for numpy, "auto" for the kernel if it is
            available.

    Returns:
        (groups, height * width) index of the triangle, -1 where there is none; and its depth, inf
        where there is none. At equal depth the triangle with the lower index is nearest.

    Raises:
        ValueError: a shape is wrong, a point is not finite, or a corner or group does not exist.
        BuildError: `impl` is "native" and the kernel cannot be built.
    """
    if impl not in IMPLS:
        raise ValueError(f"impl is {impl!r}; wanted one of {IMPLS}")
    points, triangles, group = np.asarray(points), np.asarray(triangles), np.asarray(group)
    refuse_mesh(points, triangles)
    if group.shape != triangles.shape[:1]:
        raise ValueError(f"group has shape {group.shape}; wanted ({len(triangles)},)")
    refuse_outside("group", group, groups)
    refuse_grid(width, height, near)
    library = None if impl == "ref" else _kernel(impl)
    if library is None:
        return _by_blocks(
            points, triangles, group, groups=groups, width=width, height=height, near=near
        )
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
    none = depth_keys(np.full(1, np.inf, np.float32), np.zeros(1, np.int32))[0]
    size = width * height
    best = np.full(groups * size, none)
    for block in in_blocks(_most(points, triangles, width, height)):
        own = triangles[block]
        corners = np.arange(own.size, dtype=np.int32).reshape(-1, 3)
        fragments = rasterize(points[own].reshape(-1, 3), corners, width, height, near=near)
        key = depth_keys(fragments.depth, fragments.triangle + np.int32(block.start))
        cell = group[block].astype(np.int64)[fragments.triangle] * size + fragments.pixel
        np.minimum.at(best, cell, key)
    index = np.empty((groups, size), np.int32)
    depth = np.empty((groups, size), np.float32)
    for i, keys in enumerate(best.reshape(groups, size)):
        index[i] = np.where(keys < none, keys.astype(np.uint32).view(np.int32), -1)
        depth[i] = (keys >> np.uint64(32)).astype(np.uint32).view(np.float32)
    return index, depth


def _most(points: Reals, triangles: Integers, width: int, height: int) -> Ints:
    """(T,) an upper bound of the number of samples that each triangle covers.

    No row of a triangle is longer than twice its area divided by its height.
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
        which: (N,) index of a triangle that `visible` found at the sample.
        sample: (N,) row * width + column.
        width: width of the grid in samples.

    Returns:
        (N, 3) in [0, 1] with sum 1; weights below 0, outside the triangle, count as 0.

    Raises:
        ValueError: a shape is wrong, a point is not finite, a corner, triangle or sample does not
            exist, or a triangle has no area or is not in front of the camera.
    """
    points, triangles = np.asarray(points), np.asarray(triangles)
    which, sample = np.asarray(which), np.asarray(sample)
    refuse_mesh(points, triangles)
    if which.ndim != 1 or which.shape != sample.shape:
        raise ValueError(
            f"which has shape {which.shape} and sample {sample.shape}; wanted (N,) for both"
        )
    refuse_outside("which", which, len(triangles))
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
        corners = Corners(snapped(x), snapped(y), z, of.astype(np.int32))
        odd = of[(twice_area(corners) == 0) | (z <= 0).any(axis=0)]
        if odd.size:
            raise ValueError(
                f"triangle {odd[0]} covers no sample: it has no area, or a corner that is not in "
                "front of the camera; wanted a triangle that `visible` found"
            )
        found = np.maximum(over_depth(weight_planes(corners), *np.divmod(sample[block], width)), 0)
        weights[block] = (found / (found[0] + found[1] + found[2])).T
    return weights
