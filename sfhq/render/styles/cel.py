"""Cel shading as in animation: flat tones with clean borders, and ink lines over them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from sfhq.render.styles.fields import (
    Floats,
    Rng,
    blur,
    calm,
    from_oklab,
    lerp,
    noise,
    oklab,
    resize,
    smoothstep,
)
from sfhq.render.styles.guides import BACKGROUND, FEATURES, HAIR, Guides
from sfhq.render.styles.lines import contours

Indices = npt.NDArray[np.intp]


def cel(rgb: Floats, rng: Rng, guides: Guides) -> Floats:
    """The photo as a frame of an animation, (H, W, 3) in [0, 1]."""
    height, width = rgb.shape[:2]
    unit = min(height, width) / 256
    scale = 2 if min(height, width) <= 384 else 1  # small images are drawn larger, then reduced
    lift = rng.uniform(1.15, 2.2)
    face = guides.face(height, width)
    fine, broad = calm(rgb, max(2, round(2 * unit))), calm(rgb, max(2, round(6 * unit)))
    smooth = lerp(broad, fine, smoothstep(0.2, 0.9, face))
    if guides.labels is None:
        index, colours = _by_colour(smooth, rng)
    else:
        index, colours = _by_label(rgb, smooth, rng, guides, unit)
    flat = _areas(index, _animate(colours, lift, rng), 2.0 * unit, scale, face)
    ink = _ink(rgb, rng, guides, unit, scale)
    colour = from_oklab(np.array([rng.uniform(0.1, 0.24), *rng.normal(0, 0.02, 2)], np.float32))
    out = lerp(flat, colour, ink)
    return resize(out, height, width, Image.Resampling.BOX)


def _animate(lab: Floats, lift: float, rng: Rng) -> Floats:
    """OKLab to sRGB with vivid colours and shadows shifted towards violet."""
    out = lab.copy()
    chroma = np.hypot(lab[..., 1], lab[..., 2])[..., None]
    out[..., 1:] *= lift / (1 + (lift - 1) * chroma / 0.11)  # keeps the colour of skin
    turn = rng.uniform(-1.0, 1.0) - 1.2
    violet = np.array([np.cos(turn) * 0.6 + 0.3, np.sin(turn)], np.float32) * rng.uniform(
        0.01, 0.035
    )
    out[..., 1:] += smoothstep(0.62, 0.25, lab[..., 0])[..., None] * violet
    out[..., 0] = 0.06 + 0.96 * out[..., 0]
    return from_oklab(out)


def _by_colour(smooth: Floats, rng: Rng) -> tuple[Indices, Floats]:
    """Areas of similar colour: the area of each pixel (H, W), and OKLab colours (K, 3)."""
    lab = oklab(smooth)
    weighted = lab * np.array([1.0, 3.0, 3.0], np.float32)
    centres = _centres(weighted, int(rng.integers(10, 16)), rng)
    index = cKDTree(centres).query(weighted.reshape(-1, 3))[1].reshape(lab.shape[:2])
    return _means(index, lab)


def _centres(colours: Floats, count: int, rng: Rng) -> Floats:
    """(K, 3) main colours by k-means, K at most `count`."""
    step = max(1, round((colours.shape[0] * colours.shape[1] / 4096) ** 0.5))
    points = colours[::step, ::step].reshape(-1, 3).astype(np.float64)
    points = points + rng.normal(0, 1e-4, points.shape)  # k-means needs distinct points
    count = min(count, len(points))
    return np.asarray(kmeans2(points, count, 8, minit="++", rng=rng)[0], np.float32)


def _means(index: Indices, lab: Floats) -> tuple[Indices, Floats]:
    """Indices without gaps, and the mean colour of each."""
    index = np.unique(index, return_inverse=True)[1].reshape(index.shape)
    count = np.bincount(index.ravel())
    sums = [np.bincount(index.ravel(), lab[..., i].ravel()) for i in range(3)]
    return index, (np.stack(sums, -1) / count[:, None]).astype(np.float32)


def _by_label(
    rgb: Floats, smooth: Floats, rng: Rng, guides: Guides, unit: float
) -> tuple[Indices, Floats]:
    """Areas of one surface and tone, with two to four tones per surface.

    Returns:
        The area of each pixel (H, W), and OKLab colours (K, 3).
    """
    surfaces = guides.surfaces()
    assert surfaces is not None
    lab, fine = oklab(smooth), oklab(blur(rgb, 0.5 * unit))
    light = lab[..., 0]
    glance = np.zeros_like(light)
    if guides.normals is not None:
        sun = _sun(rng)
        light = light + rng.uniform(0.05, 0.18) * (guides.normals @ sun - 0.5)
        half = sun + np.array([0, 0, 1], np.float32)
        glance = guides.normals @ (half / np.float32(np.linalg.norm(half)))
    hair = guides.share((HAIR,), 1.0 * unit)
    light = lerp(blur(light, 1.5 * unit), blur(light, 4.5 * unit), hair)
    height, width = light.shape
    ring = smoothstep(0.93, 0.97, glance + 0.012 * noise(rng, height, width, 5 * unit))
    tones = int(rng.integers(2, 5))
    index = np.zeros(light.shape, np.intp)
    shown = fine.copy()
    for surface in np.unique(surfaces):
        inside = surfaces == surface
        small = surface in FEATURES
        source = (fine[..., 0] if small else light)[inside]
        low, high = np.quantile(source, (0.06, 0.80))
        cuts = np.linspace(low, high, (4 if small else tones) + 1)[1:-1]
        tone = np.searchsorted(cuts, source)
        if not small:
            flat = np.median(lab[inside], axis=0)
            shown[inside, 1:] = lerp(lab[inside][:, 1:], flat[1:], np.float32(0.7))
            spread = np.diff(np.quantile(source, (0.1, 0.9)))[0]
            step = (tone - tone.mean()) * np.clip(spread / tones, 0.03, 0.09)
            gloss = ring[inside] > 0.5
            shine = 0.16 * (surface == HAIR) + 0.05 * (surface == 1)
            shown[inside, 0] = 0.35 * lab[inside][:, 0] + 0.65 * flat[0] + step + shine * gloss
            tone = tone + tones * gloss * (shine > 0)
        index[inside] = 8 * int(surface) + tone
    if rng.uniform() < 0.5:
        _backdrop(index, shown, surfaces == BACKGROUND, rng)
    return _means(index, shown)


def _backdrop(index: Indices, shown: Floats, behind: npt.NDArray[np.bool_], rng: Rng) -> None:
    """Replace the background by two to four slanting bands of one hue."""
    height, width = index.shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    turn, hue = rng.uniform(0, 2 * np.pi, 2)
    bands = int(rng.integers(2, 5))
    at = (x * np.cos(turn) + y * np.sin(turn) + 1.5) / 3
    band = (at * 2.4 * bands).astype(np.intp) % bands
    index[behind] = band[behind]
    shown[behind, 0] = rng.uniform(0.55, 0.85) + 0.035 * (band[behind] - bands / 2)
    shown[behind, 1:] = rng.uniform(0.02, 0.07) * np.array([np.cos(hue), np.sin(hue)])


def _areas(index: Indices, colours: Floats, sigma: float, scale: int, face: Floats) -> Floats:
    """The coloured areas at `scale` with smooth borders.

    Each area's mask is blurred; a pixel gets the colour of the area with the highest value.
    """
    height, width = index.shape
    best = np.full((height * scale, width * scale), -1, np.float32)
    out = np.zeros((height * scale, width * scale, 3), np.float32)
    reach = int(np.ceil(3 * sigma)) + 1
    for area, box in enumerate(ndimage.find_objects(index + 1)):
        rows, columns = (slice(max(0, s.start - reach), s.stop + reach) for s in box)
        mask = (index[rows, columns] == area).astype(np.float32)
        mask = lerp(blur(mask, sigma), blur(mask, sigma / 3), face[rows, columns])
        large = resize(mask, mask.shape[0] * scale, mask.shape[1] * scale)
        rows, columns = (slice(s.start * scale, s.stop * scale) for s in (rows, columns))
        wins = large > best[rows, columns]
        out[rows, columns][wins] = colours[area]
        best[rows, columns][wins] = large[wins]
    return out


def _sun(rng: Rng) -> Floats:
    side, up = rng.uniform(-0.8, 0.8), rng.uniform(0.2, 0.8)
    sun = np.array([side, up, 0.8], np.float32)
    return sun / np.float32(np.linalg.norm(sun))


def _ink(rgb: Floats, rng: Rng, guides: Guides, unit: float, scale: int) -> Floats:
    """(H, W) cover of ink lines at `scale`, with sharp borders and uneven thickness."""
    height, width = rgb.shape[:2]
    thick = max(rng.uniform(0.9, 1.4) * unit, 0.75)
    lines = contours(rgb, guides, thick, gain=0.8)
    hair = guides.share((HAIR,), 1.0 * unit)
    if hair is not None:  # fewer lines inside hair
        lines *= 1 - 0.5 * smoothstep(0.9, 1.0, hair)
    lines = blur(lines, 0.5 * unit)
    press = 0.10 * noise(rng, height, width, 30 * unit)
    large = resize(lines + press * (lines > 0.05), height * scale, width * scale)
    return smoothstep(0.34, 0.50, large) * np.float32(rng.uniform(0.8, 1.0))
