"""Art styles as seeded filters of a photo, so that the true photograph of an art image is known.

`Guides` from the renderer improve the result; no style needs them.
"""

from __future__ import annotations

import difflib

import numpy as np
import numpy.typing as npt

from sfhq.errors import UsageError
from sfhq.render.styles.cel import cel
from sfhq.render.styles.clay import clay
from sfhq.render.styles.guides import Guides
from sfhq.render.styles.low_poly import low_poly
from sfhq.render.styles.oil import oil
from sfhq.render.styles.pencil import pencil
from sfhq.render.styles.pixelated import pixelated
from sfhq.render.styles.watercolour import watercolour

__all__ = ["STYLES", "Guides", "check_style", "stylize"]

PAINTERS = {
    "oil": oil,
    "watercolour": watercolour,
    "pencil": pencil,
    "cel": cel,
    "low-poly": low_poly,
    "clay": clay,
    "pixelated": pixelated,
}
STYLES = ("photo", *PAINTERS)
SMALLEST = 16


def check_style(style: str) -> None:
    """Raise a UsageError if `style` is not one of `STYLES`."""
    if style not in STYLES:
        near = difflib.get_close_matches(style, STYLES, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown style {style!r}; {hint}wanted one of: {', '.join(STYLES)}")


def stylize(
    photo: npt.NDArray[np.uint8], style: str, seed: int, guides: Guides | None = None
) -> npt.NDArray[np.uint8]:
    """The photo in a style; the same arguments give the same bytes.

    Args:
        photo: (H, W, 3) RGB, at least 16 pixels per side. Strokes scale with its shorter side.
        style: one of `STYLES`; "photo" returns a copy.
        seed: 0 or above; chooses palette, stroke size, paper, medium and light.
        guides: data about each pixel of the photo. Without them the face is assumed to be where
            alignment puts it.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UsageError: the style is unknown.
        ValueError: photo or guides have a wrong shape or type.

    Example:
        >>> grey = np.full((64, 64, 3), 128, np.uint8)
        >>> stylize(grey, "oil", seed=1).shape
        (64, 64, 3)
    """
    check_style(style)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"photo is {photo.dtype} {photo.shape}; wanted uint8 (H, W, 3)")
    height, width = photo.shape[:2]
    if min(height, width) < SMALLEST:
        raise ValueError(f"photo is {width} x {height}; wanted at least {SMALLEST} pixels per side")
    guides = guides or Guides()
    guides.check(height, width)
    if style == "photo":
        return photo.copy()
    rng = np.random.default_rng([seed, STYLES.index(style)])
    painted = PAINTERS[style](photo.astype(np.float32) / np.float32(255), rng, guides)
    out: npt.NDArray[np.uint8] = (np.clip(painted, 0, 1) * 255 + 0.5).astype(np.uint8)
    return out
