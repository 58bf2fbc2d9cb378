"""Light from all directions as a small environment map, drawn from the numbers of a setting."""

from __future__ import annotations

import numpy as np

from sfhq.render.head.assets import Floats
from sfhq.render.person import Setting

HEIGHT, WIDTH = 48, 96


def sphere(setting: Setting, rng: np.random.Generator) -> Floats:
    """(HEIGHT, WIDTH, 3) linear radiance, in Mitsuba's layout of an environment map."""
    v = (np.arange(HEIGHT) + 0.5) / HEIGHT * np.pi  # 0 is up
    u = (np.arange(WIDTH) + 0.5) / WIDTH * 2 * np.pi
    polar, around = np.meshgrid(v, u, indexing="ij")
    # Mitsuba looks up u = atan2(x, -z) / 2 pi, v = acos(y) / pi.
    x, y, z = np.sin(polar) * np.sin(around), np.cos(polar), -np.sin(polar) * np.cos(around)
    place = np.stack([x, y, z], -1)
    warm = 1 + setting.warmth * np.array([0.22, 0.0, -0.3])
    cool = 1 - setting.warmth * np.array([0.12, 0.0, -0.18])
    sky, floor, lamp, fill = {
        "studio": (0.25, 0.12, 1.0, 0.35),
        "window": (0.22, 0.12, 1.2, 0.15),
        "overcast": (0.85, 0.3, 0.5, 0.0),
        "sun": (0.45, 0.22, 1.3, 0.0),
        "indoor": (0.4, 0.2, 0.7, 0.3),
        "flat": (0.6, 0.45, 0.6, 0.6),
    }[setting.light]
    up = np.clip(0.5 + 0.5 * y, 0, 1)
    light = (floor + (sky - floor) * up)[..., None] * cool
    patches = rng.normal(0, 0.18, (6, 12))
    rough = np.kron(patches, np.ones((8, 8)))
    light = light * np.clip(1 + rough, 0.2, None)[..., None]
    width = np.radians(42 - 30 * setting.hardness)
    light = light + _lamp(place, setting.azimuth, setting.elevation, width, lamp)[..., None] * warm
    if fill:
        other = -setting.azimuth + rng.uniform(-25, 25)
        light = light + _lamp(place, other, 10 + 20 * rng.random(), 0.7, fill)[..., None] * cool
    if rng.random() < 0.35:  # a light from behind rims the hair
        back = 180 + rng.uniform(-50, 50)
        light = light + _lamp(place, back, 35, 0.4, 0.9)[..., None]
    out: Floats = light.astype(np.float32)
    return out


def _lamp(place: Floats, azimuth: float, elevation: float, width: float, power: float) -> Floats:
    """(HEIGHT, WIDTH) radiance of a soft disc.

    Args:
        place: (HEIGHT, WIDTH, 3) direction of each pixel.
        azimuth, elevation: direction of the disc in degrees.
        width: radius of the disc in radians.
        power: irradiance on a surface that faces the disc; it does not depend on the width.
    """
    a, e = np.radians([azimuth, elevation])
    to = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    angle = np.arccos(np.clip(place @ to, -1, 1))
    disc = 1 / (1 + np.exp((angle - width) / (0.12 * width)))
    out: Floats = disc * power / (1 - np.cos(width)) * 0.5
    return out
