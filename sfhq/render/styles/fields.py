"""Image operations that the styles use: blur, noise, flow, paper, colour.

Images are (H, W, 3) float32 RGB in [0, 1]. A field is (H, W) float32. x is right and y is down.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luma(rgb: Floats) -> Floats:
    """(H, W) luma of an image, with the weights of Rec. 601."""
    return rgb @ LUMA


def lerp(a: Any, b: Any, t: Any) -> Floats:
    """a + (b - a) * t; a field `t` (H, W) applies to all channels of an image."""
    if np.ndim(t) == 2 and max(np.ndim(a), np.ndim(b)) != 2:
        t = np.asarray(t)[..., None]
    out: Floats = np.asarray(a + (np.asarray(b) - a) * t, np.float32)
    return out


def smoothstep(low: float | Floats, high: float | Floats, x: Floats) -> Floats:
    """0 at `low`, 1 at `high`, a smooth cubic between; `high` may be below `low`."""
    t = np.clip((x - low) / (np.asarray(high, np.float32) - low), 0, 1)
    out: Floats = (t * t * (3 - 2 * t)).astype(np.float32)
    return out


def resize(x: Floats, height: int, width: int, method: int = Image.Resampling.BICUBIC) -> Floats:
    """A field or image resized to (height, width)."""
    if x.shape[:2] == (height, width):
        return x
    if x.ndim == 3:
        return np.stack([resize(x[..., i], height, width, method) for i in range(x.shape[2])], -1)
    image = Image.fromarray(np.ascontiguousarray(x, np.float32))
    return np.asarray(image.resize((width, height), method), np.float32)


def blur(x: Floats, sigma: float) -> Floats:
    """Gaussian blur over the first two axes; `sigma` in pixels, above 3 by three box filters."""
    if sigma < 0.2:
        return x.astype(np.float32)
    if x.ndim == 3:
        return np.stack([blur(x[..., i], sigma) for i in range(x.shape[2])], -1)
    out: Floats = np.asarray(x, np.float32)
    if sigma <= 3:
        out = ndimage.gaussian_filter(out, sigma, mode="nearest", truncate=3.0)
        return out
    size = max(3, round(2 * sigma))  # three boxes of n have variance (n^2 - 1) / 4
    for _ in range(3):
        out = ndimage.uniform_filter(out, size | 1, mode="nearest")
    return out


def gradient(x: Floats) -> tuple[Floats, Floats]:
    """Central differences (d/dx, d/dy) per pixel, both (H, W)."""
    p: Floats = np.pad(x, 1, mode="edge")
    dx: Floats = (p[1:-1, 2:] - p[1:-1, :-2]) * np.float32(0.5)
    dy: Floats = (p[2:, 1:-1] - p[:-2, 1:-1]) * np.float32(0.5)
    return dx, dy


def noise(rng: Rng, height: int, width: int, cell: float) -> Floats:
    """(H, W) smooth noise of mean 0 and deviation 1; its features are `cell` pixels wide."""
    rows, columns = max(2, round(height / cell)) + 1, max(2, round(width / cell)) + 1
    lattice = rng.standard_normal((rows, columns), dtype=np.float32)
    field = resize(lattice, height, width)
    out: Floats = (field - field.mean()) / max(float(field.std()), 1e-6)
    return out


def fractal(rng: Rng, height: int, width: int, cell: float, octaves: int = 3) -> Floats:
    """(H, W) noise of deviation 1; each octave has half the width and 0.6 of the strength."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        total += 0.6**octave * noise(rng, height, width, max(cell / 2**octave, 1.0))
    out: Floats = total / max(float(total.std()), 1e-6)
    return out


def paper(rng: Rng, height: int, width: int, cell: float) -> Floats:
    """(H, W) height of rough paper in [0, 1], mean 0.5; its grain is `cell` pixels wide."""
    tooth = fractal(rng, height, width, max(cell, 1.3), 2)
    fibre = noise(rng, height, width, max(cell / 2, 1.0))
    return smoothstep(-2.2, 2.2, 0.85 * tooth + 0.5 * fibre)


def tensor(grey: Floats, sigma: float) -> Floats:
    """(H, W, 3) structure tensor (xx, xy, yy): the blurred outer product of gradients."""
    gx, gy = gradient(grey)
    return blur(np.stack([gx * gx, gx * gy, gy * gy], -1), sigma)


def tangent(tensors: Floats) -> tuple[Floats, Floats]:
    """Angle along the edge in radians, and coherence of the gradients in [0, 1], (H, W) each."""
    xx, xy, yy = tensors[..., 0], tensors[..., 1], tensors[..., 2]
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.float32(np.pi / 2)
    spread = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    return angle.astype(np.float32), (spread / (xx + yy + 1e-6)).astype(np.float32)


def smear(x: Floats, angle: Floats, length: float) -> Floats:
    """A field averaged along lines that follow `angle`, `length` pixels in both directions.

    Source: Cabral and Leedom 1993, "Imaging vector fields using line integral convolution".
    """
    height, width = x.shape
    steps = max(1, round(length))
    ux, uy = np.cos(angle), np.sin(angle)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    total = x.copy()
    for sign in (1.0, -1.0):
        px, py = columns.copy(), rows.copy()
        vx, vy = sign * ux, sign * uy
        for _ in range(steps):
            px += vx
            py += vy
            ix = np.clip(np.rint(px), 0, width - 1).astype(np.intp)
            iy = np.clip(np.rint(py), 0, height - 1).astype(np.intp)
            total += x[iy, ix]
            flip = np.where(ux[iy, ix] * vx + uy[iy, ix] * vy < 0, np.float32(-1), np.float32(1))
            vx, vy = flip * ux[iy, ix], flip * uy[iy, ix]
    total /= 2 * steps + 1
    return total


def calm(rgb: Floats, radius: int) -> Floats:
    """Smooth an image and keep its edges.

    A pixel becomes the weighted mean of eight windows around it; windows with little variance have
    the largest weight.

    Source: Papari et al. 2007, "Artistic edge and corner enhancing smoothing", with windows instead
    of sectors.
    """
    size, reach = radius + 1, radius / 2
    grey = luma(rgb)
    stack = np.concatenate([rgb, grey[..., None] ** 2], -1)
    means = [ndimage.uniform_filter(stack[..., i], size, mode="nearest") for i in range(4)]
    height, width = grey.shape
    total, weights = np.zeros_like(rgb), np.zeros((height, width, 1), np.float32)
    ys, xs = np.arange(height), np.arange(width)
    for turn in range(8):
        dy = round(reach * float(np.sin(turn * np.pi / 4)))
        dx = round(reach * float(np.cos(turn * np.pi / 4)))
        at = np.ix_(np.clip(ys + dy, 0, height - 1), np.clip(xs + dx, 0, width - 1))
        colour = np.stack([m[at] for m in means[:3]], -1)
        spread = np.maximum(means[3][at] - luma(colour) ** 2, 0) + np.float32(2e-5)
        weight = (np.float32(1e-4) / spread[..., None]) ** 4
        total += weight * colour
        weights += weight
    out: Floats = np.asarray(total / np.maximum(weights, np.float32(1e-30)), np.float32)
    return out


def warp(x: Floats, dx: Floats, dy: Floats) -> Floats:
    """An image or field sampled at (x + dx, y + dy); dx and dy are (H, W) in pixels."""
    rows, columns = np.mgrid[: x.shape[0], : x.shape[1]].astype(np.float32)
    at = np.stack([rows + dy, columns + dx])
    if x.ndim == 3:
        return np.stack([_read(x[..., i], at) for i in range(x.shape[2])], -1)
    return _read(x, at)


def _read(x: Floats, at: Floats) -> Floats:
    out: Floats = ndimage.map_coordinates(x, at, order=1, mode="nearest")
    return out


_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)
_FROM_LAB = np.linalg.inv(_TO_LAB.astype(np.float64)).astype(np.float32)
_FROM_LMS = np.linalg.inv(_TO_LMS.astype(np.float64)).astype(np.float32)


def oklab(rgb: Floats) -> Floats:
    """(..., 3) sRGB in [0, 1] to OKLab: lightness in [0, 1], and two opponent colours.

    sRGB is linearised by a power of 2.2.

    Source: Björn Ottosson 2020, "A perceptual color space for image processing".
    """
    linear = np.clip(rgb, 0, 1) ** np.float32(2.2)
    out: Floats = np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T
    return out


def from_oklab(lab: Floats) -> Floats:
    """(..., 3) OKLab to sRGB, clipped to [0, 1]."""
    linear = (lab @ _FROM_LAB.T) ** 3 @ _FROM_LMS.T
    out: Floats = (np.clip(linear, 0, 1) ** np.float32(1 / 2.2)).astype(np.float32)
    return out
