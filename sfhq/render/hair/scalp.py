"""Densities of hair at the vertices of the mean head, for scalp, brows and beard."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sfhq.render.head.assets import Floats
from sfhq.render.head.bust import topology
from sfhq.render.head.mottle import mottle
from sfhq.render.person import Beard, Brows, Hair

MIDDLE = np.array([0.0, 7.55, 0.45], np.float32)  # centre of the skull
# The hairline: angle from the front around `MIDDLE` in degrees, and height of its lower edge.
HAIRLINE = (
    *((0, 8.0), (25, 7.99), (38, 7.92), (48, 7.76), (57, 7.58), (64, 7.36), (70, 7.1)),
    *((79, 7.06), (84, 7.3), (88, 7.45), (100, 7.45), (108, 7.3), (115, 7.02), (140, 6.88)),
    (180, 6.84),
)
# Upper middle line of a brow from its inner to its outer end, (x, y) on the mean head.
BROW = ((0.13, 7.42), (0.22, 7.452), (0.34, 7.482), (0.45, 7.475), (0.56, 7.412))


@lru_cache(maxsize=1)
def _polar() -> tuple[Floats, Floats]:
    rest = topology().rest - MIDDLE
    angle = np.degrees(np.arctan2(np.abs(rest[:, 0]), rest[:, 2]))
    return angle.astype(np.float32), topology().rest[:, 1]


def scalp(hair: Hair, rng: np.random.Generator) -> Floats:
    """(F,) density of scalp hair, 0 to 1; 0.5 at the hairline."""
    shared = topology()
    angle, y = _polar()
    line = np.interp(angle, [p[0] for p in HAIRLINE], [p[1] for p in HAIRLINE])
    line = line + rng.normal(0, 0.025) * (angle < 60)  # a low or a high forehead
    peak = rng.uniform(-0.02, 0.05) * np.exp(-((angle / 9) ** 2))  # a widow's peak hangs down
    temples = np.exp(-(((angle - 38) / 13) ** 2))
    recede = hair.receding
    line = line - peak * (1 - recede) + recede * (0.12 * (angle < 62) + 0.3 * temples)
    line = line + 0.012 * mottle(rng, 0.05, 2)
    density = np.clip((y - line) / 0.07 + 0.5, 0, 1)
    if recede > 0.5:  # hair is left at the sides and the back
        top = np.interp(recede, [0.5, 1.0], [8.5, 7.62])
        bare = np.clip((y - top) / 0.12 + 0.5, 0, 1) * np.clip((150 - angle) / 25, 0, 1)
        crown = np.clip((y - np.interp(recede, [0.5, 1.0], [8.6, 7.8])) / 0.12 + 0.5, 0, 1)
        density = density * (1 - np.maximum(bare, crown))
    out = density * (shared.fields["ears"] < 0.25)
    return out.astype(np.float32)


def brow_line(x: Floats, brows: Brows) -> Floats:
    """Height of a brow's middle line on the mean head, at distances `x` from the face's middle."""
    xs, ys = np.array(BROW).T
    lift = 0.05 * (brows.arch - 0.5) * np.exp(-(((xs - 0.38) / 0.12) ** 2))
    out: Floats = np.interp(x, xs, ys - 0.02 + lift).astype(np.float32)
    return out


def brow(brows: Brows) -> Floats:
    """(F,) membership in a brow, 0 to 1; 0.5 at its edge."""
    rest = topology().rest
    x = np.abs(rest[:, 0])
    half = (0.024 + 0.03 * brows.thickness) * np.interp(
        x, [0.12, 0.18, 0.33, 0.48, 0.57], [0.75, 1.0, 0.95, 0.65, 0.25]
    )
    across = (half - np.abs(rest[:, 1] - brow_line(x, brows))) / 0.012
    along = np.minimum(x - 0.125, 0.56 - x) / 0.012
    inside = np.minimum(across, along)
    out = np.clip(0.5 + inside, 0, 1) * (rest[:, 2] > 0.9)
    return out.astype(np.float32)


def beard(kind: Beard, rng: np.random.Generator) -> Floats:
    """(F,) density of facial hair, 0 to 1."""
    shared = topology()
    rest, f = shared.rest, shared.fields
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    skin = (f["lips"] < 0.3) & (f["mouth"] < 0.3) & (f["ears"] < 0.25)
    edge = 0.015 * mottle(rng, 0.06, 2)
    # The cheek line goes from the sideburn down to the corner of the mouth.
    cheek = np.interp(x, [0.0, 0.25, 0.45, 0.6, 0.68, 0.75], [6.72, 6.74, 6.76, 6.9, 7.15, 7.2])
    under = np.clip((cheek + edge - y) / 0.08 + 0.5, 0, 1)
    above = np.clip(
        (y - np.interp(z, [0.5, 0.8, 1.2, 1.4], [6.5, 6.25, 6.12, 6.1]) + edge) / 0.12 + 0.5, 0, 1
    )
    front = np.clip((z - 0.52) / 0.1, 0, 1)
    full = under * above * front
    moustache = (
        np.clip((0.25 - x) / 0.05 + 0.5, 0, 1)
        * np.clip((6.815 + edge - y) / 0.03 + 0.5, 0, 1)
        * np.clip((y - 6.64 + 0.4 * np.clip(x - 0.2, 0, 1)) / 0.03 + 0.5, 0, 1)
        * (z > 1.0)
    )
    chin = (
        np.clip((0.23 - x) / 0.05 + 0.5, 0, 1)
        * np.clip((6.53 + edge - y) / 0.04 + 0.5, 0, 1)
        * (z > 1.0)
    )
    sides = full * np.clip((x - 0.5) / 0.06 + 0.5, 0, 1) * (y > 6.7)
    gap = 1 - 0.8 * np.exp(-(((x - 0.17) / 0.05) ** 2 + ((y - 6.52) / 0.04) ** 2))
    shape = {
        "none": np.zeros_like(x),
        "stubble": np.maximum(full, moustache) * gap,
        "full": np.maximum(full, moustache) * gap,
        "goatee": np.maximum(chin, moustache),
        "moustache": moustache,
        "sideburns": sides,
    }[kind.kind]
    out: Floats = (shape * skin * (f["nose"] < 0.5)).astype(np.float32)
    return out
