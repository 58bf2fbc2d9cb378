"""Colours of skin and hair in CIELAB, and what they are called.

The individual typology angle of skin is atan2(L* - 50, b*) in degrees (Chardon et al. 1991). It is
that of the photo: light and exposure change it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfhq.colour import to_lab
from sfhq.faces.classes import ID
from sfhq.parts.records import Pixels

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Chardon's groups: name and the angle above which skin belongs to it.
SKIN_TONES = (
    *(("very light", 55.0), ("light", 41.0), ("intermediate", 28.0), ("tan", 10.0)),
    *(("brown", -30.0), ("dark", -180.0)),
)
MIDDLE = (25, 75)  # percentiles of lightness between which pixels count: no shades, no shine
LEAST = 40  # pixels; the colour of fewer is not known
# Limits of hair colours, set on 89 photos whose search words name the colour; docs/labels.md says
# how often they are right on others.
GREY_CHROMA, GREY = 10.0, 21.0  # with less chroma hair is grey from this L* on
BLACK_CHROMA = 7.0  # with less, and darker than grey, it is black
FAIR, FAIR_CHROMA = 50.0, 20.0  # L* from which hair with less chroma is blond whatever its hue
RED = ((13.0, 48.0), (24.0, 62.0))  # chroma from which hair below a hue in degrees is red
PINK, PINK_HUE = 38.0, 30.0  # from this L* on and below this hue it is not red but dyed
NATURAL = (12.0, 112.0)  # degrees between which natural hair lies
BLACK = 5.0  # L* below which no hue can be seen
BLOND = 30.0  # L* from which natural hair is blond


@dataclass(frozen=True)
class Colour:
    """The typical colour of a class.

    Attributes:
        lightness: L*, 0 to 100.
        a, b: red against green, and yellow against blue.
        pixels: of how many it is.
    """

    lightness: float
    a: float
    b: float
    pixels: int

    @property
    def chroma(self) -> float:
        """Distance from grey."""
        return float(np.hypot(self.a, self.b))

    @property
    def hue(self) -> float:
        """Degrees from red towards yellow, -180 to 180."""
        return float(np.degrees(np.arctan2(self.b, self.a)))


def class_colour(photo: Pixels, classes: Pixels, name: str, inside: int = 1) -> Colour | None:
    """The median colour of the pixels of a class that are neither shaded nor shiny.

    Args:
        photo: (H, W, 3) uint8 RGB.
        classes: (H, W) uint8 ids.
        name: of the class.
        inside: pixels of its border that are left out, where it is thick enough.

    Returns:
        None where the class has fewer than 40 pixels.
    """
    mask = classes == ID[name]
    core = eroded(mask, inside)
    if core.sum() >= LEAST:
        mask = core
    if mask.sum() < LEAST:
        return None
    lab = to_lab(photo[mask])
    low, high = np.percentile(lab[:, 0], MIDDLE)
    lab = lab[(lab[:, 0] >= low) & (lab[:, 0] <= high)]
    lightness, a, b = np.median(lab, 0).tolist()
    return Colour(lightness, a, b, int(mask.sum()))


def eroded(mask: Mask, steps: int) -> Mask:
    """The pixels of a mask with none outside of it up to `steps` steps along rows and columns."""
    for _ in range(steps):  # as SciPy's binary_erosion, many times faster
        inner = np.zeros_like(mask)
        rows = mask[:-2] & mask[1:-1] & mask[2:]
        columns = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
        inner[1:-1, 1:-1] = rows[:, 1:-1] & columns[1:-1]
        mask = inner
    return mask


def typology_angle(colour: Colour) -> float:
    """ITA in degrees: above 55 very light, below -30 dark."""
    return float(np.degrees(np.arctan2(colour.lightness - 50, colour.b)))


def skin_tone(angle: float) -> str:
    """The name of an angle's group."""
    return next(name for name, least in SKIN_TONES if angle > least or least == -180.0)


def hair_colour(colour: Colour) -> str:
    """One of black, brown, blond, red, grey and dyed by the colour of the pixels alone."""
    light, chroma, hue = colour.lightness, colour.chroma, colour.hue
    if chroma < GREY_CHROMA and light >= GREY:
        return "grey"
    if chroma < BLACK_CHROMA or light < BLACK:
        return "black"
    if light >= FAIR and chroma < FAIR_CHROMA and hue > RED[-1][1]:
        return "blond"
    if not NATURAL[0] <= hue <= NATURAL[1]:
        return "dyed"
    if any(chroma >= least and hue < most for least, most in RED):
        return "dyed" if light >= PINK and hue < PINK_HUE else "red"
    return "blond" if light >= BLOND else "brown"
