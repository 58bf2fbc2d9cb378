"""The 110 exact landmarks of a rendered person, with visibility.

Order:
- 0-67: iBUG's 68 points (Sagonas et al. 2013), from fixed places on the mesh.
- 68-71: wings of the nose, upper and lower on the subject's right, upper and lower on the left.
- 72-79: two more points on each corner segment of the inner lip. The order along the lip is
  60 72 73 61, 63 74 75 64, 64 76 77 65, 67 78 79 60.
- 80-88: the inner hairline.
- 89-109: the outer contour of the head.

Points are (x, y) in pixels of the picture, with pixel centres at integers. Hairline and contour
are read from the exact classes along rays. The rays start a quarter of the outer eye distance below
the middle between the eyes, in a frame where the eyes are level. Angles go counter-clockwise from
the picture's right: from 140 to 40 degrees for the hairline, from 225 to -45 for the contour.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sfhq.faces.classes import FACE as FACE
from sfhq.faces.classes import HAIR as HAIR
from sfhq.faces.classes import HEAD as HEAD
from sfhq.faces.classes import ID
from sfhq.faces.points import COUNT as COUNT
from sfhq.faces.points import CROSSED as CROSSED
from sfhq.faces.points import FIXED as FIXED
from sfhq.faces.points import HIDDEN as HIDDEN
from sfhq.faces.points import INNER as INNER
from sfhq.faces.points import MISSING as MISSING
from sfhq.faces.points import OUTER as OUTER
from sfhq.faces.points import RAYS as RAYS
from sfhq.faces.points import SIDES as SIDES
from sfhq.faces.points import VISIBLE as VISIBLE
from sfhq.faces.points import mirror as mirror
from sfhq.render.head.assets import Floats, Ints
from sfhq.render.head.bust import topology
from sfhq.render.labels.classes import Labels
from sfhq.render.scene.model import Model

TOLERANCE = 0.07  # decimetres that a visible point may lie behind the visible surface
THIN = 0.02  # share of the eye distance; shorter runs along a ray are strands and gaps
# Places on the mean head for the subject's right half and the middle; the left half is mirrored.
# They were found where dlib's points fall on 50 frontal people, then moved to the feature: the rim
# of the eye's opening, the border of the lips and the seam between them, the upper middle line
# of the brow, and the outline of the jaw as seen from the front.
PLACES: dict[int, tuple[float, float, float]] = {
    0: (-0.693, 7.318, 0.614),
    1: (-0.685, 7.11, 0.651),
    2: (-0.651, 6.929, 0.692),
    3: (-0.597, 6.748, 0.844),
    4: (-0.551, 6.591, 0.875),
    5: (-0.447, 6.443, 1.022),
    6: (-0.324, 6.334, 1.157),
    7: (-0.17, 6.239, 1.233),
    8: (0.0, 6.221, 1.309),
    17: (-0.561, 7.417, 1.161),
    18: (-0.479, 7.466, 1.295),
    19: (-0.340, 7.484, 1.404),
    20: (-0.224, 7.455, 1.439),
    21: (-0.123, 7.430, 1.447),
    27: (0.0, 7.31, 1.432),
    28: (0.0, 7.187, 1.465),
    29: (0.0, 7.073, 1.54),
    30: (0.0, 6.957, 1.612),
    31: (-0.111, 6.867, 1.464),
    32: (-0.056, 6.847, 1.503),
    33: (0.0, 6.833, 1.52),
    36: (-0.411, 7.286, 1.284),
    37: (-0.337, 7.324, 1.353),
    38: (-0.248, 7.316, 1.35),
    39: (-0.189, 7.27, 1.322),
    40: (-0.247, 7.251, 1.336),
    41: (-0.34, 7.248, 1.342),
    48: (-0.227, 6.621, 1.407),
    49: (-0.143, 6.704, 1.5),
    50: (-0.056, 6.728, 1.542),
    51: (0.0, 6.726, 1.55),
    57: (0.0, 6.508, 1.488),
    58: (-0.06, 6.512, 1.482),
    59: (-0.148, 6.535, 1.455),
    60: (-0.212, 6.624, 1.398),
    61: (-0.059, 6.638, 1.476),
    62: (0.0, 6.636, 1.482),
    66: (0.0, 6.624, 1.486),
    67: (-0.054, 6.626, 1.476),
    68: (-0.146, 6.985, 1.458),
    69: (-0.165, 6.915, 1.454),
    72: (-0.16, 6.635, 1.443),
    73: (-0.107, 6.639, 1.465),
    78: (-0.104, 6.629, 1.455),
    79: (-0.159, 6.627, 1.418),
}
# Pairs of upper and lower points that meet when an eye or the mouth is closed.
MEETING = (
    *((37, 41), (38, 40), (43, 47), (44, 46)),
    *((61, 67), (62, 66), (63, 65), (72, 79), (73, 78), (74, 77), (75, 76)),
)


@lru_cache(maxsize=1)
def vertices() -> Ints:
    """(80,) index of the fine vertex of each point that has a fixed place on the mesh."""
    rest = topology().rest
    out = []
    for i in range(FIXED):
        place = np.array(PLACES[i] if i in PLACES else PLACES[mirror(i)])
        if i not in PLACES:
            place[0] *= -1
        out.append(int(((rest - place) ** 2).sum(1).argmin()))
    return np.array(out, np.int32)


def landmarks(model: Model, labels: Labels) -> Floats:
    """(110, 3) float32: x, y in pixels and a flag.

    The flag is 0 (missing or outside the picture), 1 (hidden or inferred) or 2 (visible).

    Args:
        model: the person.
        labels: labels of the picture; they decide the pixel grid.
    """
    size = labels.classes.shape[0]
    skin = next(s for s in model.solids if s.name == "skin").points
    seen = _apart(model.camera.project(skin[vertices()], size))
    out = np.zeros((COUNT, 3), np.float32)
    out[:FIXED, :2] = seen[:, :2] - 0.5
    out[:FIXED, 2] = _visibility(seen, labels)
    out[FIXED : FIXED + 9], out[FIXED + 9 :] = _rays(out, labels)
    return out


def _level(points: Floats) -> tuple[Floats, Floats, float]:
    """Unit vectors along the line of the eyes and down the face, and the outer eye distance.

    The first vector points from the outer corner of the right eye to that of the left eye.
    """
    across = points[45, :2] - points[36, :2]
    unit = float(np.hypot(*across))
    level = across / max(unit, 1e-6)
    return level, np.array([-level[1], level[0]]), unit


def _apart(points: Floats) -> Floats:
    """Move the point of a lower lid or lip onto the upper one if it lies above it.

    On the mesh they can pass through each other; the visible lower one begins at the upper one.
    """
    _, down, _ = _level(points)
    out = points.copy()
    for upper, lower in MEETING:
        above = float((points[upper, :2] - points[lower, :2]) @ down)
        if above > 0:
            out[lower, :2] += above * down
            out[lower, 2] = min(points[lower, 2], points[upper, 2])
    return out


def _visibility(seen: Floats, labels: Labels) -> Floats:
    """Flags of points (x, y, depth): visible if most samples around a point are not nearer."""
    grid = labels.depth.shape[0]
    k = grid // labels.classes.shape[0]
    at = np.floor(seen[:, :2] * k).astype(int)
    inside = ((at >= 0) & (at < grid)).all(1)
    near = np.arange(k + 1) - k // 2
    rows = np.clip(at[:, 1, None, None] + near[:, None], 0, grid - 1)
    columns = np.clip(at[:, 0, None, None] + near, 0, grid - 1)
    clear = seen[:, 2, None, None] <= labels.depth[rows, columns] + TOLERANCE
    shown = clear.mean((1, 2)) > 0.5
    out: Floats = np.where(inside, np.where(shown, VISIBLE, HIDDEN), MISSING).astype(np.float32)
    return out


def _rays(points: Floats, labels: Labels) -> tuple[Floats, Floats]:
    level, down, unit = _level(points)
    eyes = (points[36:42, :2].mean(0) + points[42:48, :2].mean(0)) / 2
    origin = eyes + 0.25 * unit * down
    brow = max(0.0, float(((origin - points[17:27, :2]) @ down).min()))
    rays = Rays(labels, origin, level, down, unit)
    inner = np.stack([rays.inner(a, brow) for a in INNER])
    outer = np.stack([rays.outer(a) for a in OUTER])
    for i in np.flatnonzero(inner[:, 2] == MISSING):  # without hair, use the edge of the skull
        end = rays.outer(INNER[i])
        inner[i] = (*end[:2], min(end[2], HIDDEN))
    return inner.astype(np.float32), outer.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Rays:
    """Reads classes along rays from a point of the face.

    Attributes:
        labels: labels of the picture.
        origin: (2,) start of all rays in pixels.
        level, down: unit vectors in the picture along the line of the eyes and down the face.
        unit: distance between the outer corners of the eyes in pixels.
    """

    labels: Labels
    origin: Floats
    level: Floats
    down: Floats
    unit: float

    def walk(self, angle: float) -> tuple[Floats, Ints, int]:
        """Places and classes from the origin to the picture's edge, and the shortest run.

        Runs of a class with fewer steps are strands and gaps. There are no places if the origin
        is outside the picture.
        """
        grid = self.labels.samples.shape[0]
        k = grid // self.labels.classes.shape[0]
        turn = np.radians(angle)
        way = np.cos(turn) * self.level - np.sin(turn) * self.down
        place = self.origin + (np.arange(0, 3 * grid) * (0.5 / k))[:, None] * way
        at = np.floor((place + 0.5) * k).astype(int)
        inside = ((at >= 0) & (at < grid)).all(1)
        place, at = place[: int(np.argmin(inside))], at[: int(np.argmin(inside))]
        steps = max(int(THIN * self.unit * 2 * k), 1)
        return place, self.labels.samples[at[:, 1], at[:, 0]].astype(np.int32), steps

    def outer(self, angle: float) -> Floats:
        """(3,) the outermost end of the head, x, y and flag; hidden if the picture ends first."""
        place, classes, steps = self.walk(angle)
        runs = _runs(np.isin(classes, HEAD), steps)
        if not runs.any():
            return np.array([*self.origin, MISSING])
        last = int(np.flatnonzero(runs)[-1]) + steps - 1
        if last >= len(place) - 2:
            return np.array([*place[-1], HIDDEN])
        return np.array([*((place[last] + place[last + 1]) / 2), VISIBLE])

    def inner(self, angle: float, brow: float) -> Floats:
        """(3,) the end of the face below the first run of hair above the brows: x, y and flag.

        The flag is hidden if a hat covers the hairline, or bangs that reach the brows.

        Args:
            angle: direction of the ray in degrees.
            brow: height of the brows over the origin in pixels.
        """
        place, classes, steps = self.walk(angle)
        high = (self.origin - place) @ self.down
        hair = np.flatnonzero(_runs(np.isin(classes, HAIR), steps))
        above = hair[high[hair] >= brow]
        if not len(above):
            return np.array([*self.origin, MISSING])
        face = np.flatnonzero(_runs(np.isin(classes, FACE), steps))
        face = face[face < above[0]]
        if not len(face):
            return np.array([*place[above[0]], HIDDEN])
        last = int(face[-1]) + steps - 1
        first = int(hair[hair > face[-1]][0])  # may lie below the brows if bangs do
        at = (last + first) // 2
        hat = classes[first] == ID["hat"]
        fringe = high[at] <= brow + THIN * self.unit
        return np.array([*place[at], HIDDEN if hat or fringe else VISIBLE])


def _runs(mask: npt.NDArray[np.bool_], steps: int) -> npt.NDArray[np.bool_]:
    """True where a run of at least `steps` true values starts."""
    total = np.concatenate([[0], np.cumsum(mask)])
    out: npt.NDArray[np.bool_] = total[steps:] - total[:-steps] == steps
    return out
