"""Watercolour: transparent washes over white paper, with dark dried edges."""

from __future__ import annotations

import numpy as np

from sfhq.render.styles.fields import (
    Floats,
    Rng,
    blur,
    calm,
    fractal,
    lerp,
    luma,
    noise,
    paper,
    smoothstep,
    warp,
)
from sfhq.render.styles.grade import grade
from sfhq.render.styles.guides import BACKGROUND, FEATURES, Guides
from sfhq.render.styles.lines import contours

WASHES = (0.86, 0.66, 0.48, 0.32, 0.18)  # each wash covers pixels that are darker than its value


def watercolour(rgb: Floats, rng: Rng, guides: Guides) -> Floats:
    """The photo as a watercolour, (H, W, 3) in [0, 1]."""
    height, width = rgb.shape[:2]
    unit = min(height, width) / 256
    lit = _open(rgb)
    graded = grade(lit, rng, (1.1, 1.6), 0.036, 1.0)
    face = guides.face(height, width)
    tremor = rng.uniform(0.8, 1.8) * unit
    dx, dy = (
        tremor * fractal(rng, height, width, 14 * unit, 3) * (1.1 - 0.75 * face) for _ in "xy"
    )
    flat = _flat(graded, guides, unit)
    flat, sharp = warp(flat, dx, dy), warp(graded, 0.3 * dx, 0.3 * dy)

    # Wet in wet: away from the face, colours run into each other.
    wet = smoothstep(-0.4, 1.0, noise(rng, height, width, 60 * unit)) * (1 - face)
    soft = blur(flat, 9 * unit)
    run = 14 * unit * noise(rng, height, width, 30 * unit)
    soft = warp(soft, run, -run[::-1])
    colour = lerp(flat, soft, wet)

    tooth = paper(rng, height, width, rng.uniform(2.0, 3.4) * unit)
    density = _washes(colour, wet, rng, unit)
    density *= _pigment(rng, tooth, face, unit)
    fine = luma(blur(sharp, 0.6 * unit)) - luma(blur(sharp, 4.0 * unit))
    strength = 0.35 + 1.15 * face
    density += (np.clip(-fine, 0, 0.35) * strength * 2.4)[..., None] * _body(sharp)
    line = contours(sharp, guides, max(1.3 * unit, 1.0))
    density += (line * rng.uniform(0.05, 0.4) * (0.5 + 0.5 * face))[..., None]
    lights = np.clip(fine - 0.02, 0, 0.3) * strength
    density *= np.clip(1 - 2.2 * lights, 0.2, 1)[..., None]

    density *= _margin(rng, height, width, face, unit)[..., None]
    density *= _dilution(guides, rng, height, width, unit)[..., None]
    density *= _unpainted(guides, rng, tooth, unit, colour)[..., None]
    sheet = np.array([0.985, 0.975, 0.95], np.float32) + rng.normal(0, 0.006, 3).astype(np.float32)
    shade = 1 + 0.05 * (tooth - 0.5)[..., None]
    return np.asarray(np.clip(sheet * shade, 0, 1) * np.exp(-density), np.float32)


def _open(rgb: Floats) -> Floats:
    """The picture with lighter shadows and nearly white lights, as in watercolours."""
    grey = luma(rgb)
    low, high = (float(v) for v in np.percentile(grey, (2, 97)))
    spread = max(high - low, 0.25)
    wanted = np.clip((grey - low) / spread, 0, 1) ** np.float32(0.8) * 0.88 + 0.10
    mixed = 0.35 * grey + 0.65 * wanted
    gain = mixed / np.maximum(grey, 0.03)
    return np.asarray(np.clip(rgb * np.minimum(gain, 3.5)[..., None], 0, 1), np.float32)


def _flat(rgb: Floats, guides: Guides, unit: float) -> Floats:
    """Smoothed colours of the washes; with labels they do not cross into another surface."""
    smooth = calm(rgb, max(2, round(5 * unit)))
    surfaces = guides.surfaces()
    if surfaces is None:
        return smooth
    out = smooth.copy()
    for surface in np.unique(surfaces):
        inside = surfaces == surface
        mask = inside.astype(np.float32)
        small = surface in FEATURES
        sigma = (1.2 if small else 4.0) * unit
        total = blur(rgb * mask[..., None], sigma) / np.maximum(blur(mask, sigma), 1e-3)[..., None]
        out[inside] = (0.4 * smooth + 0.6 * total)[inside]
    return out


def _body(rgb: Floats) -> Floats:
    """(H, W, 3) relative absorption of the pigment per channel, about 1 on average."""
    absorbed = -np.log(np.clip(rgb, 0.06, 0.97))
    hue = absorbed / (absorbed.mean(-1, keepdims=True) + 0.06)
    return np.asarray(0.12 + 0.88 * hue**1.15, np.float32)


def _washes(colour: Floats, wet: Floats, rng: Rng, unit: float) -> Floats:
    """(H, W, 3) optical density of washes, from light to dark, with dark dried edges.

    Edges are darkened by the difference between a wash and its blur.

    Source: Bousseau et al. 2006, "Interactive watercolor rendering with temporal coherence and
    abstraction", for density.
    """
    height, width = wet.shape
    grey = luma(blur(colour, 0.8 * unit)) + 0.018 * fractal(rng, height, width, 9 * unit, 3)
    target = -np.log(np.clip(luma(colour), 0.05, 0.98))
    soft: Floats = (
        0.015 + 0.05 * smoothstep(-0.3, 1.2, noise(rng, height, width, 45 * unit)) + 0.12 * wet
    )
    edge = rng.uniform(0.5, 1.0)
    shift = rng.uniform(-0.05, 0.05)
    glaze = np.zeros((height, width), np.float32)
    rim = np.zeros((height, width), np.float32)
    above = 0.0
    for level in WASHES:
        lift = float(-np.log(level - 0.09)) - above
        above += lift
        middle = np.float32(level + shift)
        mask = smoothstep(middle + soft, middle - soft, grey)
        glaze += lift * mask
        dried = mask * (1 - blur(mask, 1.6 * unit)) * (1 - mask * wet)
        rim += np.minimum(dried * 2.4, 1) * (0.4 + 0.6 * lift)
    layered = 0.30 * target + 0.70 * glaze
    layered = 0.93 * layered + edge * 0.34 * rim
    return np.asarray(layered[..., None] * _body(colour), np.float32)


def _pigment(rng: Rng, tooth: Floats, face: Floats, unit: float) -> Floats:
    """(H, W, 3) factors for uneven pigment: pools, blooms and grains, slightly by colour."""
    height, width = tooth.shape
    calm_face = 1 - 0.55 * face
    pools = fractal(rng, height, width, 38 * unit, 4)
    wave = noise(rng, height, width, 34 * unit) + 0.35 * fractal(rng, height, width, 9 * unit, 2)
    bloom = smoothstep(0.9, 1.25, wave)
    rim = bloom * (1 - bloom) * 4
    flow = (0.17 * pools - 0.30 * bloom + 0.28 * rim) * calm_face
    grains = rng.uniform(0.08, 0.30) * (0.5 - tooth)
    factor = np.clip(1 + flow + grains, 0.25, 2.2)
    part = 0.05 * noise(rng, height, width, 30 * unit) * calm_face
    tint = rng.normal(0, 1, 3).astype(np.float32)
    tint -= tint.mean()
    return np.asarray(factor[..., None] * (1 + part[..., None] * tint), np.float32)


def _margin(rng: Rng, height: int, width: int, face: Floats, unit: float) -> Floats:
    """(H, W) factors: 0 on the white paper around the picture, above 1 along its edge."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    inset = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) / unit
    rough = 3.6 * fractal(rng, height, width, 80 * unit, 4)
    rough += 0.5 * fractal(rng, height, width, 6 * unit, 2)
    depth = rng.uniform(3, 12)
    loose = rng.uniform(0, 10) * smoothstep(-0.2, 1.4, noise(rng, height, width, 80 * unit))
    edge = inset - depth - loose + rough + 40 * face
    inside = smoothstep(-0.8, 1.2, edge)
    rim = inside * smoothstep(5.0, 0.5, edge)
    return np.asarray(inside * (1 + 0.45 * rim), np.float32)


def _dilution(guides: Guides, rng: Rng, height: int, width: int, unit: float) -> Floats:
    """(H, W) factors: the background is paler, in places bare paper."""
    behind = guides.share((BACKGROUND,), 5 * unit)
    if behind is None:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        r = np.hypot((x / width - 0.5) / 0.33, (y / height - 0.56) / 0.48)
        behind = smoothstep(0.95, 1.5, r.astype(np.float32))
    water = rng.uniform(0.25, 0.6) + 0.30 * fractal(rng, height, width, 90 * unit, 3)
    return np.asarray(1 - behind * np.clip(water, 0, 0.95), np.float32)


def _unpainted(guides: Guides, rng: Rng, tooth: Floats, unit: float, colour: Floats) -> Floats:
    """(H, W) factors for white gaps between surfaces and for dry brush in light areas."""
    dry = smoothstep(0.7, 0.95, luma(colour)) * smoothstep(0.6, 0.85, tooth)
    factor = 1 - 0.45 * dry
    surfaces = guides.surfaces()
    if surfaces is None:
        return factor
    height, width = tooth.shape
    large = np.where(np.isin(surfaces, (*FEATURES,)), 1, surfaces)
    line = np.zeros((height, width), np.float32)
    line[:, 1:] = large[:, 1:] != large[:, :-1]
    line[1:] = np.maximum(line[1:], large[1:] != large[:-1])
    gap = smoothstep(0.25, 0.5, blur(line, 0.7 * unit))
    here = smoothstep(0.3, 0.9, noise(rng, height, width, 24 * unit))
    behind = 0.6 + 0.4 * (surfaces == BACKGROUND)
    return np.asarray(factor * (1 - 0.75 * gap * here * behind), np.float32)
