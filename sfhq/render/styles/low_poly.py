"""Low-poly: a mesh of triangles of one colour each, smaller where the photo has more detail."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.spatial import Delaunay, cKDTree

from sfhq.render.styles.fields import (
    Floats,
    Rng,
    blur,
    from_oklab,
    gradient,
    lerp,
    luma,
    oklab,
    resize,
)
from sfhq.render.styles.grade import grade
from sfhq.render.styles.guides import FEATURES, Guides

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]

COARSE = 144  # largest shorter side of the image on which points are placed


def low_poly(rgb: Floats, rng: Rng, guides: Guides) -> Floats:
    """The photo as flat triangles, (H, W, 3) in [0, 1]."""
    height, width = rgb.shape[:2]
    scale = 2 if min(height, width) <= 640 else 1
    points = _points(rgb, rng, guides, round(rng.uniform(420, 1000)))
    corners = Delaunay(points).simplices
    ids = _draw(points, corners, height, width, scale)
    lab = oklab(grade(rgb, rng, (1.05, 1.6), 0.03, rng.uniform(1.05, 1.25)))
    facets = _means(lab, ids, len(corners), scale)
    x, y = np.minimum(points[corners].mean(1).astype(np.intp), (width - 1, height - 1)).T
    facets = lerp(facets, blur(lab, 0.004 * min(height, width))[y, x], np.float32(0.6))
    facets[:, 0] += _shading(rgb, ids, len(corners), rng, guides, scale)
    facets[:, 0] += rng.normal(0, 0.012, len(facets)).astype(np.float32)
    out = from_oklab(facets)[ids]
    return resize(out, height, width, Image.Resampling.BOX)


def _points(rgb: Floats, rng: Rng, guides: Guides, count: int) -> Floats:
    """(N, 2) corners (x, y) of triangles in pixels of the photo, with the image's own corners.

    Points are drawn by weight, then moved twice to the weighted centre of their Voronoi cell.

    Source: Secord 2002, "Weighted Voronoi stippling", for the moves.
    """
    height, width = rgb.shape[:2]
    weight = _weight(rgb, guides)
    shrink = min(1.0, COARSE / min(height, width))
    rows, columns = max(2, round(height * shrink)), max(2, round(width * shrink))
    weight = np.maximum(resize(weight, rows, columns, Image.Resampling.BOX), 1e-3).ravel()
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    cells = np.stack([x, y], -1) + rng.uniform(0, 1, (rows * columns, 2))
    count = min(count, rows * columns // 4)
    order = np.log(weight) + rng.gumbel(size=len(weight))  # weighted draw without replacement
    points = cells[np.argsort(-order)[:count]]
    for _ in range(2):
        nearest = cKDTree(points).query(cells)[1]
        total = np.bincount(nearest, weight, count)
        moved = [np.bincount(nearest, weight * cells[:, i], count) for i in (0, 1)]
        kept = total > 0
        points[kept] = np.stack(moved, -1)[kept] / total[kept, None]
    points = _snap(points * (width / columns, height / rows), rgb)
    edge = np.linspace(0, 1, 10)
    sway = edge[1:-1] + rng.uniform(-0.035, 0.035, (4, 8))
    frame = [(0, 0), (1, 0), (0, 1), (1, 1)]
    frame += [(t, 0) for t in sway[0]] + [(t, 1) for t in sway[1]]
    frame += [(0, t) for t in sway[2]] + [(1, t) for t in sway[3]]
    return np.concatenate([points, np.array(frame) * (width, height)]).astype(np.float32)


def _snap(points: Doubles, rgb: Floats) -> Doubles:
    """Points near an edge of the image moved onto it, so that sides of triangles follow edges."""
    height, width = rgb.shape[:2]
    unit = min(height, width) / 256
    slope = np.hypot(*gradient(blur(np.log(luma(rgb) + 0.12), 1.6 * unit))) * 1.6 * unit
    up = np.stack(gradient(slope), -1)
    up = up / (np.linalg.norm(up, axis=-1, keepdims=True) + 0.004)
    for _ in range(4):
        x, y = np.minimum(points.astype(np.intp), (width - 1, height - 1)).T
        points = np.clip(points + 0.7 * unit * up[y, x], 0, (width, height))
    return points


def _weight(rgb: Floats, guides: Guides) -> Floats:
    """(H, W) above 0, the relative density of corners."""
    height, width = rgb.shape[:2]
    unit = min(height, width) / 256
    grey = np.log(luma(rgb) + 0.12)
    slope = [np.hypot(*gradient(blur(grey, s * unit))) * s * unit for s in (1.5, 4.0)]
    edges = 3 * np.minimum(slope[0], 0.6) ** 2 + 0.6 * np.minimum(slope[1], 0.5) ** 2
    face = guides.face(height, width)
    weight = (0.012 + edges) * (0.4 + 1.2 * face**2) + 0.008 * face
    outlines = guides.outlines()
    if outlines is not None:
        weight = weight + 0.08 * blur(outlines, 0.8 * unit)
    features = guides.share(FEATURES, 2 * unit)
    if features is not None:
        weight = weight + 0.12 * features
    return np.asarray(weight, np.float32)


def _draw(points: Floats, corners: Indices, height: int, width: int, scale: int) -> Indices:
    """(H * scale, W * scale) index of the triangle at each pixel."""
    canvas = Image.new("I", (width * scale, height * scale))
    draw = ImageDraw.Draw(canvas)
    shapes = (points[corners] * scale - 0.5).reshape(len(corners), 6)
    for index, shape in enumerate(shapes.tolist()):
        draw.polygon(shape, fill=index)
    return np.asarray(canvas, np.int32)


def _means(values: Floats, ids: Indices, count: int, scale: int) -> Floats:
    """(count, C) mean of (H, W, C) over each triangle; 0 for a triangle without pixels."""
    flat = ids[scale // 2 :: scale, scale // 2 :: scale].ravel()
    values = values.reshape(len(flat), -1)
    seen = np.maximum(np.bincount(flat, minlength=count), 1)
    sums = [np.bincount(flat, values[:, i], count) for i in range(values.shape[1])]
    return np.asarray(np.stack(sums, -1) / seen[:, None], np.float32)


def _shading(rgb: Floats, ids: Indices, count: int, rng: Rng, guides: Guides, scale: int) -> Floats:
    """(count,) change of each triangle's lightness by a lamp, from its mean normal."""
    unit = min(rgb.shape[:2]) / 256
    turn = rng.uniform(-0.9, 0.9)
    sun = np.array([np.sin(turn), rng.uniform(0.3, 0.8), 0.7], np.float32)
    sun /= np.linalg.norm(sun)
    if guides.normals is None:
        gx, gy = gradient(blur(luma(rgb), 2.5 * unit))
        lean = np.stack([gx, -gy], -1) * np.float32(6 * unit)
        slope = _means(lean, ids, count, scale) @ sun[:2]
        return np.asarray(np.clip(slope, -1, 1) * 0.07, np.float32)
    normals = _means(guides.normals, ids, count, scale)
    length = np.linalg.norm(normals, axis=-1)
    lit = (normals @ sun) / np.maximum(length, 1e-3)
    strength = rng.uniform(0.10, 0.22)
    return np.asarray(np.where(length > 0.3, strength * (lit - 0.62), 0), np.float32)
