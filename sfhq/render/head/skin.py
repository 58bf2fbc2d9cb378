"""Colour and relief of the skin at each vertex.

Skin is modelled as a scattering base behind layers of melanin and haemoglobin. Their densities and
spectra follow Jacques 2013, "Optical properties of biological tissues: a review", reduced to three
bands. The individual typology angle (ITA) follows Chardon et al. 1991.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sfhq.render.head.assets import Floats
from sfhq.render.head.bust import Bust, topology
from sfhq.render.head.mottle import mottle
from sfhq.render.head.rows import blend, shifted
from sfhq.render.person import Person

BASE = np.array([0.74, 0.615, 0.51])
MELANIN = np.array([1.0, 1.24, 1.5])
HAEMOGLOBIN = np.array([0.1, 0.95, 0.8])


@dataclass(frozen=True)
class Surface:
    """The skin of a person.

    Attributes:
        colour: (F, 3) linear RGB.
        normals: (F, 3) unit normals of the smooth shape.
        points: (F, 3) vertices with relief.
    """

    colour: Floats
    normals: Floats
    points: Floats


def reflectance(melanin: Floats | float, haemoglobin: Floats | float) -> Floats:
    """(..., 3) linear RGB of skin.

    Args:
        melanin, haemoglobin: optical densities; their shapes broadcast.
    """
    m, h = np.broadcast_arrays(melanin, haemoglobin)
    out = np.empty((*m.shape, 3), np.float32)
    for i in range(3):
        out[..., i] = BASE[i] * np.exp(-m * MELANIN[i] - h * HAEMOGLOBIN[i])
    return out


def typology_angle(colour: Floats) -> float:
    """The individual typology angle of a linear RGB colour, in degrees.

    Above 55 skin is very light, below -30 it is dark.
    """
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = matrix @ np.asarray(colour, np.float64) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    lightness, b = 116 * f[1] - 16, 200 * (f[1] - f[2])
    return float(np.degrees(np.arctan2(lightness - 50, b)))


def spot(points: Floats, at: tuple[float, float, float], size: tuple[float, ...]) -> Floats:
    """(F,) a Gaussian spot and its mirror image on the mean head, 1 in the middle.

    Args:
        points: (F, 3).
        at: centre of the spot, x 0 or above.
        size: standard deviation along x, y and z.
    """
    x, y, z = points.T
    gap = ((np.abs(x) - at[0]) / size[0]) ** 2
    gap += ((y - at[1]) / size[1]) ** 2 + ((z - at[2]) / size[2]) ** 2
    out: Floats = np.exp(-0.5 * gap).astype(np.float32)
    return out


def paint(person: Person, bust: Bust, shade: Mapping[str, Floats]) -> Surface:
    """The skin of a person.

    Args:
        person: the person.
        bust: their shape.
        shade: how much hair darkens the skin below it, 0 to 1; (F,) each under "scalp", "beard"
            and "brows".
    """
    shared = topology()
    rest, f = shared.rest, shared.fields
    rng = np.random.default_rng([person.seed, 1])
    skin, made = person.skin, person.make_up
    front = np.clip((rest[:, 2] - 0.7) * 3, 0, 1)
    blotch = mottle(rng, 0.3, 3)
    fine = mottle(rng, 0.035, 2)
    cheek = spot(rest, (0.43, 6.96, 1.1), (0.2, 0.17, 0.5))
    nose = spot(rest, (0.0, 6.9, 1.6), (0.13, 0.11, 0.25))
    chin = spot(rest, (0.0, 6.36, 1.45), (0.16, 0.1, 0.4))
    under = spot(rest, (0.29, 7.15, 1.33), (0.13, 0.05, 0.3))
    lid = spot(rest, (0.31, 7.4, 1.35), (0.14, 0.055, 0.3))
    blood = skin.haemoglobin * (1 + 0.12 * blotch + 0.06 * fine)
    blood = blood + (0.1 + 0.3 * skin.rosy + 0.3 * made.blush) * cheek
    blood = blood + (0.12 + 0.2 * skin.rosy) * nose + 0.08 * chin + 0.14 * f["ears"]
    blood = blood + (0.06 + 0.18 * skin.bags) * under + 0.05 * lid
    dark = skin.melanin * (1 + 0.05 * blotch + 0.035 * fine + 0.12 * f["neck"] - 0.12 * cheek)
    dark = dark + (0.02 + 0.28 * skin.bags) * under * (0.4 + skin.melanin)
    dark = dark + 0.06 * spot(rest, (0.13, 7.32, 1.35), (0.06, 0.09, 0.3))
    if skin.freckles > 0:
        dots = mottle(rng, 0.02) + 0.5 * mottle(rng, 0.3)
        where = np.clip(cheek + spot(rest, (0.0, 7.0, 1.5), (0.3, 0.2, 0.4)) + 0.25 * front, 0, 1)
        dark = dark + 0.32 * skin.freckles * where * np.clip(dots - 1.0, 0, 1)
    moles = rng.integers(0, 4)
    for at in rest[rng.choice(np.flatnonzero((front > 0.9) & (f["lips"] < 0.1)), moles)]:
        gap = ((rest - at) ** 2).sum(1)
        dark = dark + 0.9 * np.exp(-gap / (2 * 0.012**2))
    if person.years > 45:
        spots = np.clip(mottle(rng, 0.045, 2) - 1.7, 0, 0.6)
        dark = dark + 0.3 * min((person.years - 45) / 40, 1) * spots
    colour = reflectance(dark, blood)
    lips = _smooth(f["lips"], 0.25, 0.75)
    lip_colour = reflectance(
        0.16 + 0.62 * skin.melanin * (1 + 0.1 * fine),
        0.62 + 0.45 * skin.haemoglobin - 0.12 * (person.years > 60),
    )
    lip_colour = lip_colour * (1 - made.lipstick) + made.lipstick * np.array(made.lip_colour)
    lip_colour = lip_colour * (1 + 0.08 * mottle(rng, 0.15, stretch=(6.0, 1.0, 1.0)))[:, None]
    colour = blend(colour, lip_colour, lips)
    inside = _smooth(f["mouth"], 0.3, 0.7)
    colour = blend(colour, np.array([0.2, 0.052, 0.045]), inside)
    rim = _smooth(f["eyelids"], 0.35, 0.8) * (1 - inside)
    colour = blend(colour, colour * np.array([0.82, 0.62, 0.58]), 0.6 * rim)
    if made.shadow > 0:
        colour = blend(
            colour, np.array(made.shadow_colour), 0.75 * made.shadow * np.clip(1.3 * lid, 0, 1)
        )
    if made.liner > 0:
        colour = blend(colour, np.array([0.01, 0.008, 0.008]), 0.9 * made.liner * rim)
    ink = hair_ink(person)
    for name, strength in (("scalp", 0.95), ("beard", 0.6), ("brows", 0.5)):
        if name in shade:
            under = np.minimum(0.4 * ink, 0.3 * colour) + 0.05 * colour
            colour = blend(colour, under, strength * shade[name])
    points = _relief(person, bust, rng, front, lips)
    return Surface(np.clip(colour, 0.002, 0.95).astype(np.float32), bust.normals, points)


def hair_ink(person: Person) -> Floats:
    """(3,) linear RGB of the person's hair seen as a whole."""
    h = person.hair
    if h.dye is not None:
        return np.array(h.dye, np.float32)
    spectrum = h.eumelanin * np.array([0.419, 0.697, 1.37]) + h.pheomelanin * np.array(
        [0.187, 0.4, 1.05]
    )
    mass = 0.6 * np.exp(-1.1 * np.sqrt(spectrum) * 1.6)
    out: Floats = (mass * (1 - h.grey) + h.grey * 0.4).astype(np.float32)
    return out


def _relief(
    person: Person,
    bust: Bust,
    rng: np.random.Generator,
    front: Floats,
    lips: Floats,
) -> Floats:
    """(F, 3) vertices with pores, lines of the lips and wrinkles."""
    shared = topology()
    rest = shared.rest
    height = 0.0006 * mottle(rng, 0.02) * (1 - lips) * front
    height = height + 0.0012 * mottle(rng, 0.025, stretch=(1.0, 0.25, 1.0)) * lips
    age = person.skin.wrinkles
    if age > 0:
        bend = 0.05 * mottle(rng, 0.5)
        forehead = spot(rest, (0.0, 7.75, 1.2), (0.38, 0.16, 0.6))
        lines = np.sin((rest[:, 1] + bend) * 2 * np.pi / 0.085)
        height = height - 0.006 * age * forehead * np.clip(lines, 0, 1) ** 2
        corner = np.array([0.52, 7.3])
        across, up = np.abs(rest[:, 0]) - corner[0], rest[:, 1] - corner[1]
        angle, far = np.arctan2(up, across + 0.02), np.hypot(up, across)
        feet = np.clip(np.sin(angle * 9 + 3 * bend), 0, 1) ** 2
        where = np.exp(-0.5 * ((far - 0.12) / 0.06) ** 2) * (np.abs(angle) < 1.2)
        height = height - 0.005 * age * feet * where * front
        crease = mottle(rng, 0.07, 2, (1.0, 1.6, 1.0))
        height = height - 0.0022 * age * np.abs(crease) * (1 - lips)
    return shifted(bust.points, bust.normals, height.astype(np.float32))


def _smooth(x: Floats, low: float, high: float) -> Floats:
    t = np.clip((x - low) / (high - low), 0, 1)
    out: Floats = t * t * (3 - 2 * t)
    return out
