"""Clay: one matte material in soft light, with marks of fingers and tools."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sfhq.render.styles.fields import (
    Floats,
    Rng,
    blur,
    calm,
    fractal,
    from_oklab,
    gradient,
    lerp,
    luma,
    noise,
    resize,
    smear,
    smoothstep,
    tangent,
    tensor,
)
from sfhq.render.styles.guides import BROWS, CLOTH, EYES, HAIR, Guides

# OKLab of terracotta, grey, plasticine green and blue, wax, chocolate, bone, rose
CLAYS = (
    (0.58, 0.085, 0.075),
    (0.66, 0.002, 0.008),
    (0.62, -0.055, 0.045),
    (0.60, -0.030, -0.060),
    (0.74, 0.020, 0.060),
    (0.53, 0.045, 0.050),
    (0.80, 0.008, 0.030),
    (0.66, 0.070, 0.020),
)


def clay(rgb: Floats, rng: Rng, guides: Guides) -> Floats:
    """The photo as a clay bust (with normals in the guides) or relief, (H, W, 3) in [0, 1]."""
    height, width = rgb.shape[:2]
    unit = min(height, width) / 256
    base = np.array(CLAYS[int(rng.integers(len(CLAYS)))], np.float32)
    base = base + rng.normal(0, (0.03, 0.008, 0.008)).astype(np.float32)
    sun = _sun(rng)
    smooth = calm(rgb, max(2, round(3 * unit)))
    form, solid = _form(luma(smooth), guides, unit)
    normals = _worked(form, rgb, guides, rng, unit)
    shade = _matte(normals, sun)
    carved = _carving(luma(smooth), unit)
    if solid is None:
        carved = lerp(0.6, carved, 0.25 + 0.75 * _near(height, width))
    depth = 0.5 if guides.normals is None else 0.62  # a relief keeps more of the photo's light
    lit = (depth * shade + (1 - depth) * carved) * _hollow(form, unit)
    lab = np.empty((height, width, 3), np.float32)
    lab[..., 0] = base[0] * (0.24 + 1.08 * lit)
    warm = smoothstep(0.75, 0.25, lit)[..., None]  # light that passed through clay is warmer
    lab[..., 1:] = base[1:] * (0.85 + 0.35 * warm) + np.array([0.008, 0.004], np.float32) * warm
    lab += _by_class(guides, rng, height, width, unit)
    if solid is not None:
        lab = lerp(_backdrop(base, sun, rng, height, width, unit), lab, solid)
    half = sun + np.array([0, 0, 1], np.float32)
    gloss = np.clip(normals @ (half / np.float32(np.linalg.norm(half))), 0, 1) ** 14
    lab[..., 0] += rng.uniform(0.02, 0.09) * gloss * (1 if solid is None else solid)
    return from_oklab(lab)


def _sun(rng: Rng) -> Floats:
    side = rng.uniform(0.35, 0.9) * rng.choice((-1, 1))
    sun = np.array([side, rng.uniform(0.35, 0.9), rng.uniform(0.4, 0.8)], np.float32)
    return sun / np.float32(np.linalg.norm(sun))


def _form(grey: Floats, guides: Guides, unit: float) -> tuple[Floats, Floats | None]:
    """Unit normals with the photo's relief, and the share of clay in each pixel.

    The share is None if the guides have no normals: then every pixel is clay.
    """
    height, width = grey.shape
    grey = np.log(grey + 0.2)
    relief = 2.2 * unit * (blur(grey, 0.8 * unit) - blur(grey, 3.5 * unit))
    relief += 4.0 * unit * (blur(grey, 2.5 * unit) - blur(grey, 10 * unit))
    if guides.normals is None:
        relief += 9.0 * unit * (blur(grey, 6 * unit) - blur(grey, 24 * unit))
        base = _dome(height, width)
        relief *= 0.2 + 0.8 * _near(height, width)
        solid = None
    else:
        length = np.linalg.norm(guides.normals, axis=-1)
        solid = blur((length > 0.5).astype(np.float32), 0.5 * unit)
        base = blur(guides.normals, 0.9 * unit)
        base[..., 2] = np.maximum(base[..., 2], 0.05)
    return _tilted(base, *gradient(relief)), solid


def _tilted(normals: Floats, gx: Floats, gy: Floats) -> Floats:
    """Unit normals tilted by the slopes of a height field."""
    out = normals + np.stack([-gx, gy, np.zeros_like(gx)], -1)
    length = np.linalg.norm(out, axis=-1, keepdims=True)
    return np.asarray(out / np.maximum(length, 1e-4), np.float32)


def _worked(form: Floats, rgb: Floats, guides: Guides, rng: Rng, unit: float) -> Floats:
    """Unit normals with marks of hands and tools."""
    height, width = form.shape[:2]
    gx, gy = gradient(_marks(rgb, guides, rng, unit))
    pressed = _dabs(rng, height, width, unit) * (1 - 0.7 * guides.face(height, width))[..., None]
    return _tilted(form, gx + pressed[..., 0], gy + pressed[..., 1])


def _near(height: int, width: int) -> Floats:
    """(H, W) 1 where an aligned photo has the head, and 0 far from it."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    r = np.hypot((x / width - 0.5) / 0.36, (y / height - 0.52) / 0.5)
    return smoothstep(1.4, 0.95, r.astype(np.float32))


def _dome(height: int, width: int) -> Floats:
    """(H, W, 3) normals, not of unit length, of a flat egg-shaped bump on a wall."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u, v = (x / width - 0.5) / 0.36, (y / height - 0.5) / 0.47
    near = smoothstep(1.15, 0.75, np.hypot(u, v))
    return np.stack([0.85 * u * near, -0.65 * v * near, np.ones_like(u)], -1)


def _marks(rgb: Floats, guides: Guides, rng: Rng, unit: float) -> Floats:
    """(H, W) height in pixels of rough spots, fingerprints and grooves in hair."""
    height, width = rgb.shape[:2]
    careful = 1 - 0.6 * guides.face(height, width)
    angle, onesided = tangent(tensor(blur(luma(rgb), 1.0 * unit), 4 * unit))
    rough = 0.12 * fractal(rng, height, width, 6 * unit, 2)
    scrapes = smear(noise(rng, height, width, max(1.6 * unit, 1.2)), angle, 8 * unit)
    scrapes /= max(float(scrapes.std()), 1e-6)
    hair = guides.share((HAIR, *BROWS), 1.5 * unit)
    if hair is None:
        hair = smoothstep(0.55, 0.9, onesided) * 0.35 * careful
    grooves = scrapes * (0.07 + 0.55 * hair)
    prints = _fingerprints(rng, height, width, unit) * careful
    return np.asarray(
        (0.5 * rough + 0.45 * grooves + rng.uniform(0.1, 0.3) * prints) * min(unit, 2.0), np.float32
    )


def _dabs(rng: Rng, height: int, width: int, unit: float) -> Floats:
    """(H, W, 2) slopes of flat places, side by side, as thumbs and spatulas leave them."""
    rows, columns = max(2, round(height / unit / 2)), max(2, round(width / unit / 2))
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    x = x + 2.5 * noise(rng, rows, columns, 7)
    y = y + 2.5 * noise(rng, rows, columns, 7)
    size = rng.uniform(6, 10)  # half of a flat place's width in pixels at 256
    count = max(2, round(rows * columns / size**2))
    middles = rng.uniform(0, 1, (count, 2)) * (columns, rows)
    place = cKDTree(middles).query(np.stack([x.ravel(), y.ravel()], -1))[1]
    tilt = rng.normal(0, rng.uniform(0.08, 0.17), (count, 2)).astype(np.float32)
    return resize(blur(tilt[place].reshape(rows, columns, 2), 0.8), height, width)


def _fingerprints(rng: Rng, height: int, width: int, unit: float) -> Floats:
    """(H, W) in [-1, 1], ridges of about ten fingerprints, 0 between them."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = np.zeros((height, width), np.float32)
    pitch = max(3.0 * unit, 2.8)
    bend = 5 * unit * noise(rng, height, width, 20 * unit)
    for _ in range(int(rng.integers(7, 14))):
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        turn, size = rng.uniform(0, np.pi), rng.uniform(11, 17) * unit
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = -(x - cx) * np.sin(turn) + (y - cy) * np.cos(turn)
        r = np.hypot(u, v / 1.4).astype(np.float32)
        loop = np.hypot(u, v * 0.8 + size * 0.9) + bend
        out = lerp(
            out, np.sin(loop * np.float32(2 * np.pi / pitch)), smoothstep(size, size * 0.6, r)
        )
    return out


def _matte(normals: Floats, sun: Floats) -> Floats:
    """(H, W) brightness, about 0 to 1: wrapped key light, light from above, light from behind."""
    key = np.clip((normals @ sun + 0.35) / 1.35, 0, 1) ** 1.4
    sky = 0.5 + 0.5 * normals[..., 1]
    other = np.clip(normals @ (sun * np.array([-1, 0.3, 0.6], np.float32)), 0, 1)
    return np.asarray(0.70 * key + 0.20 * sky + 0.14 * other, np.float32)


def _carving(grey: Floats, unit: float) -> Floats:
    """(H, W) in [0, 1], the photo's light relative to its surroundings, mostly without pigment."""
    near, far = blur(grey, 7 * unit), blur(grey, 26 * unit)
    local = ((grey + 0.06) / (near + 0.06)) ** 0.9 * ((near + 0.15) / (far + 0.15)) ** 0.45
    return smoothstep(0.0, 1.5, local.astype(np.float32))


def _hollow(normals: Floats, unit: float) -> Floats:
    """(H, W) factors, below 1 in creases, where the surface bends inwards."""
    out = np.ones(normals.shape[:2], np.float32)
    for sigma, strength in ((1.5, 0.8), (5.0, 1.6)):
        nx, ny = (blur(normals[..., i], sigma * unit) for i in (0, 1))
        bend = gradient(nx)[0] - gradient(ny)[1]
        out -= np.clip(-bend * sigma * unit * strength, -0.05, 0.35)
    return out


def _by_class(guides: Guides, rng: Rng, height: int, width: int, unit: float) -> Floats:
    """(H, W, 3) OKLab offsets: parts of the face differ slightly in the colour of their clay."""
    out = np.zeros((height, width, 3), np.float32)
    out[..., 0] = 0.012 * fractal(rng, height, width, 60 * unit, 3)
    if guides.labels is not None:
        for classes in ((HAIR, *BROWS), (CLOTH, 15), EYES, (11, 12, 13), (6, 9, 18)):
            change = rng.normal(0, (0.035, 0.005, 0.005)).astype(np.float32)
            share = guides.share(classes, 0.7 * unit)
            assert share is not None
            out += share[..., None] * change
    return out


def _backdrop(base: Floats, sun: Floats, rng: Rng, height: int, width: int, unit: float) -> Floats:
    """(H, W, 3) OKLab of a studio wall, brighter away from the lamp."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    fall = (x / width - 0.5) * -sun[0] + (y / height - 0.5) * 0.4
    out = np.empty((height, width, 3), np.float32)
    out[..., 0] = rng.uniform(0.35, 0.85) + 0.16 * fall
    out[..., 0] += 0.004 * noise(rng, height, width, 1.5 * unit)
    out[..., 1:] = base[1:] * rng.uniform(-0.35, 0.5)
    return out
