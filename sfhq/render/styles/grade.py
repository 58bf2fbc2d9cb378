"""A seeded palette: how a painter's colours differ from the camera's."""

from __future__ import annotations

import numpy as np

from sfhq.render.styles.fields import Floats, Rng, from_oklab, oklab, smoothstep


def grade(
    rgb: Floats, rng: Rng, saturation: tuple[float, float], cast: float, contrast: float
) -> Floats:
    """Colours pulled to a palette: saturation, contrast, and a tint each for shadow and light.

    Args:
        rgb: (H, W, 3).
        rng: source of the palette.
        saturation: lowest and highest factor on colourfulness.
        cast: how strong the tints may be, in OKLab units; 0.02 is visible, 0.06 strong.
        contrast: 1 leaves lightness alone, above 1 steepens it about the middle.
    """
    lab = oklab(rgb)
    light = lab[..., 0]
    turn = rng.uniform(0, 2 * np.pi)
    dark, bright = rng.uniform(0.4, 1, 2) * cast
    opposite = turn + np.pi + rng.uniform(-0.8, 0.8)
    shade = smoothstep(0.75, 0.15, light)[..., None] * dark
    shine = smoothstep(0.35, 0.95, light)[..., None] * bright
    ab = lab[..., 1:] * rng.uniform(*saturation)
    ab = ab + shade * _direction(turn) + shine * _direction(opposite)
    middle = float(np.clip(np.median(light), 0.35, 0.65))
    out = np.concatenate([(middle + (light - middle) * contrast)[..., None], ab], -1)
    return from_oklab(out.astype(np.float32))


def _direction(angle: float) -> Floats:
    return np.array([np.cos(angle), np.sin(angle)], np.float32)
