"""Pixel art: a coarse grid with a small palette, enlarged without smoothing."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from sfhq.render.styles.fields import Floats, Rng, blur, from_oklab, oklab, resize
from sfhq.render.styles.grade import grade
from sfhq.render.styles.guides import Guides

BAYER = (
    np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) + 0.5
) / 16 - 0.5


def pixelated(rgb: Floats, rng: Rng, guides: Guides) -> Floats:
    """The photo in 48 to 80 square pixels across, with 16 to 40 colours; (H, W, 3) in [0, 1]."""
    height, width = rgb.shape[:2]
    cell = _cell(min(height, width), rng)
    rows, columns = -(-height // cell), -(-width // cell)
    padded = np.pad(
        rgb, ((0, rows * cell - height), (0, columns * cell - width), (0, 0)), mode="edge"
    )
    small = resize(padded, rows, columns, Image.Resampling.BOX)
    small = small + 0.7 * (small - blur(small, 1.0))  # a pixel artist keeps edges crisp
    lab = oklab(grade(np.clip(small, 0, 1), rng, (1.05, 1.6), 0.042, rng.uniform(1.05, 1.3)))
    _outline(lab, padded, guides, rng, cell)
    palette = _palette(lab, int(rng.integers(16, 41)), rng)
    dither = rng.uniform(0.03, 0.09) if rng.uniform() < 0.5 else 0.0
    screen = np.tile(BAYER, (rows // 4 + 1, columns // 4 + 1))[:rows, :columns]
    wanted = lab.copy()
    wanted[..., 0] += dither * screen
    index = cKDTree(palette).query(wanted.reshape(-1, 3))[1].reshape(rows, columns)
    grid: Floats = from_oklab(palette)[index].repeat(cell, 0).repeat(cell, 1)
    return grid[:height, :width]


def _cell(side: int, rng: Rng) -> int:
    """Side of a square of the grid in whole pixels."""
    fits = [c for c in range(1, side + 1) if 48 <= side / c <= 80]
    place = rng.uniform()
    return fits[int(place * len(fits))] if fits else max(1, round(side / 64))


def _outline(lab: Floats, padded: Floats, guides: Guides, rng: Rng, cell: int) -> None:
    """Darken the pixels on an outline of the guides, for some seeds."""
    strength = rng.uniform(0.0, 0.8) if rng.uniform() < 0.6 else 0.0
    outlines = guides.outlines()
    if outlines is None or not strength:
        return
    height, width = padded.shape[:2]
    lines = np.zeros((height, width), np.float32)
    lines[: outlines.shape[0], : outlines.shape[1]] = outlines
    share = resize(lines, lab.shape[0], lab.shape[1], Image.Resampling.BOX) * cell
    lab *= (1 - strength * np.clip(share - 0.35, 0, 0.7))[..., None]


def _palette(lab: Floats, count: int, rng: Rng) -> Floats:
    """(K, 3) OKLab colours, K at most `count`."""
    points = lab.reshape(-1, 3).astype(np.float64)
    points = points + rng.normal(0, 1e-4, points.shape)  # k-means needs distinct points
    count = min(count, len(points))
    centres = kmeans2(points, count, 10, minit="++", rng=rng)[0].astype(np.float32)
    centres[:, 0] = np.round(centres[:, 0] * 24) / 24  # colours share levels of lightness
    return np.asarray(centres, np.float32)
