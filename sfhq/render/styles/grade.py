"""Change the colours of a photo to a random palette, as a painter would."""

from __future__ import annotations

import numpy as np

from sfhq.render.styles.fields import Floats, Rng, from_oklab, oklab, smoothstep


def grade(
    rgb: Floats, rng: Rng, saturation: tuple[float, float], cast: float, contrast: float
) -> Floats:
    """Change saturation and contrast, and tint shadows and lights, by a random palette.

    Args:
        rgb: (H, W, 3).
        rng: draws the palette.
        saturation: lowest and highest factor on chroma.
        cast: largest strength of the tints in OKLab units; 0.02 is visible, 0.06 is strong.
        contrast: 1 keeps lightness; above 1 increases contrast about the median.
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
