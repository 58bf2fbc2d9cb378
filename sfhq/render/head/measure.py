"""Measure lengths of a face between fixed places on the mesh.

A place is the vertex of the mean head that is nearest to a given point, so it moves with the face.
All lengths are divided by the distance between the centres of the eyes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sfhq.render.head.assets import PARTS, Floats, Ints, base_mesh
from sfhq.render.head.bust import Bust, topology
from sfhq.render.head.skin import reflectance, typology_angle
from sfhq.render.person import Person

# Points on the mean head in decimetres; a point with x above 0 has a mirror image.
PLACES = {
    "hairline": (0.0, 8.0, 1.277),
    "nasion": (0.0, 7.31, 1.432),
    "tip": (0.0, 6.935, 1.614),
    "wing": (0.172, 6.92, 1.42),
    "crease": (0.185, 6.92, 1.4),  # where the wing meets the cheek
    "under": (0.0, 6.823, 1.515),  # where the nose meets the lip
    "corner": (0.226, 6.63, 1.36),
    "side": (0.667, 7.1, 0.72),  # where the face is widest, in front of the ear
    "cheek": (0.576, 6.956, 1.137),  # the cheekbone
    "apple": (0.45, 6.9, 1.25),  # the part of the cheek that a smile raises
    "jaw": (0.564, 6.6, 0.76),
    "chin": (0.0, 6.25, 1.37),
}
EYE, ACROSS = 0.29, 0.05  # x of an eye's middle; lids are also measured this far to both sides
LIP = 0.07
NEAR = 0.012


@dataclass(frozen=True)
class _Places:
    """The places that `measures` reads; each is a row of `matrix`.

    Attributes:
        matrix: (P, V) sparse, maps coarse vertices of the body to places.
        spots: name -> (1,) or (2,) rows.
        lids, lips: for each of several columns, the rows above and the rows below the opening.
    """

    matrix: Any
    spots: Mapping[str, Ints]
    lids: list[tuple[Ints, Ints]]
    lips: list[tuple[Ints, Ints]]


@lru_cache(maxsize=1)
def _places() -> _Places:
    shared = topology()
    rest, f = shared.rest, shared.fields
    x, y, z = rest.T
    spots = {}
    for name, place in PLACES.items():
        sides = (1, -1) if place[0] else (1,)
        far = [((rest - np.array(place) * np.array([s, 1, 1])) ** 2).sum(1) for s in sides]
        spots[name] = np.array([d.argmin() for d in far])
    # The fold of the upper lid may hang over its rim; vertices behind the rims do not count.
    above = (y > 7.3) & (y < 7.44) & (z > 1.3)
    below = (y > 7.15) & (y < 7.27) & (z > 1.3) & (f["eyelids"] > 0.3)
    lids = []
    for side in (1, -1):
        for across in (-ACROSS, 0.0, ACROSS):
            near = np.abs(x - side * (EYE + across)) < NEAR
            front = (f["eyelids"] < 0.5) | (z > 1.345 - 0.2 * abs(across))
            lids.append((np.flatnonzero(near & above & front), np.flatnonzero(near & below)))
    lips = []
    outside = f["mouth"] < 0.5
    for across in (-LIP, 0.0, LIP):
        near = (np.abs(x - across) < NEAR) & outside
        upper, lower = f["upper-lip"] > 0.5, f["lower-lip"] > 0.5
        lips.append((np.flatnonzero(near & upper), np.flatnonzero(near & lower)))
    every = [*spots.values(), *(v for pair in (*lids, *lips) for v in pair)]
    used = np.unique(np.concatenate(every))

    def rows(of: Any) -> Ints:
        out: Ints = np.searchsorted(used, of).astype(np.int32)
        return out

    return _Places(
        matrix=shared.matrix[used],
        spots={k: rows(v) for k, v in spots.items()},
        lids=[(rows(a), rows(b)) for a, b in lids],
        lips=[(rows(a), rows(b)) for a, b in lips],
    )


def measures(person: Person, bust: Bust) -> dict[str, float]:
    """Lengths of a face, divided by the distance between the eyes' centres, and other numbers.

    Args:
        person: the person.
        bust: their shape, with the expression.

    Returns:
        Lengths by name; "smile" and "jaw_open", strengths of the expression; and "ita", the
        typology angle of the skin in degrees.
    """
    return measures_of(person, bust.base)


def measures_of(person: Person, base: Floats) -> dict[str, float]:
    """The same as `measures` from the deformed base mesh, which is much faster to make than a bust.

    Args:
        person: the person.
        base: (V, 3), from `bust.deform`.
    """
    places = _places()
    points = places.matrix @ base[topology().coarse]
    eyes = np.stack([_eye(base, side) for side in "lr"])
    unit = float(np.ptp(eyes[:, 0]))
    level = float(eyes[:, 1].mean())
    at = {name: points[rows] for name, rows in places.spots.items()}

    def wide(name: str) -> float:
        return float(np.ptp(at[name][:, 0])) / unit

    def high(name: str, middle: float = level) -> float:
        return float(middle - at[name][:, 1].mean()) / unit

    def gap(columns: list[tuple[Ints, Ints]]) -> float:
        each = [points[a, 1].min() - points[b, 1].max() for a, b in columns]
        return float(np.clip(each, 0, None).mean()) / unit

    full = [np.ptp(points[a, 1]) + np.ptp(points[b, 1]) for a, b in places.lips]
    e = person.expression
    return {
        "lips": float(np.mean(full)) / unit,  # height of both lips without the gap
        "lips_width": wide("corner"),
        "lips_gap": gap(places.lips),
        "nose_width": wide("wing"),
        "nose_length": high("under", float(at["nasion"][:, 1].mean())),
        "nose_depth": float(at["tip"][:, 2].mean() - at["crease"][:, 2].mean()) / unit,
        "face_width": wide("side"),
        "cheek_width": wide("cheek"),
        "cheek_drop": high("apple"),
        "jaw_width": wide("jaw"),
        "face_height": high("chin", float(at["hairline"][:, 1].mean())),
        "chin_drop": high("chin"),
        "eye_opening": gap(places.lids),
        "smile": float(np.mean([e.get("mouthSmileLeft", 0), e.get("mouthSmileRight", 0)])),
        "jaw_open": float(e.get("jawOpen", 0.0)),
        "ita": typology_angle(reflectance(person.skin.melanin, person.skin.haemoglobin)),
    }


def _eye(base: Floats, side: str) -> Floats:
    """(2,) x and y of an eye's centre."""
    points = base[base_mesh().parts == PARTS.index(f"{side}-eye"), :2]
    out: Floats = (points.min(0) + points.max(0)) / 2
    return out
