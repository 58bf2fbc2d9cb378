"""The 110 landmarks of a rendered person, exact, with visibility.

Order: 0-67 iBUG's 68 (Sagonas et al. 2013), from fixed places on the mesh; 68-71 wings of the nose
(upper and lower on the subject's right, upper and lower on the left); 72-79 two more on each
corner segment of the inner lip; 80-88 the inner hairline; 89-109 the outer contour of the head.

Points are (x, y) in pixels of the picture, pixel centres at whole numbers. The hairline and the
contour are read off the exact classes along rays from a point a quarter of the outer eye distance
below the middle between the eyes, in a frame where the eyes are level: the inner from 140 to 40
degrees, the outer from 225 to -45 degrees, counter-clockwise from the picture's right.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sfhq.render.assets import Floats, Ints
from sfhq.render.bust import topology
from sfhq.render.labels import ID, Labels
from sfhq.render.model import Model

COUNT = 110
INNER = np.linspace(140, 40, 9)
OUTER = np.linspace(225, -45, 21)
FACE = tuple(
    ID[n]
    for n in ("skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "nose", "mouth", "u_lip", "l_lip")
)
HAIR = (ID["hair"], ID["hat"])
HEAD = (*FACE, *HAIR, ID["l_ear"], ID["r_ear"], ID["ear_r"])
MISSING, HIDDEN, VISIBLE = 0, 1, 2
TOLERANCE = 0.07  # decimetres that a point may lie behind what is seen and still be seen
# Places on the mean head, of the subject's right half and of the middle; the left is their mirror.
PLACES: dict[int, tuple[float, float, float]] = {}


def mirror(index: int) -> int:
    """The iBUG index of the same point on the other side."""
    for first, last in ((0, 16), (17, 26), (31, 35), (48, 54), (60, 64)):
        if first <= index <= last:
            return first + last - index
    pairs = {36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 55: 59, 56: 58, 65: 67}
    back = {v: k for k, v in pairs.items()}
    return pairs.get(index, back.get(index, index))


@lru_cache(maxsize=1)
def vertices() -> Ints:
    """(72,) fine vertex of each of the 68 points and of the four on the nose's wings."""
    rest = topology().rest
    out = []
    for i in range(72):
        if i in PLACES:
            place = np.array(PLACES[i])
        else:
            other = i + 2 if i in (68, 69) else i - 2 if i in (70, 71) else mirror(i)
            place = np.array(PLACES[other]) * np.array([-1, 1, 1])
        out.append(int(((rest - place) ** 2).sum(1).argmin()))
    return np.array(out, np.int32)


def landmarks(model: Model, labels: Labels) -> Floats:
    """(110, 3) float32: x, y and 0 (missing), 1 (hidden or inferred) or 2 (visible).

    Args:
        model: the person.
        labels: of the picture that the pixels belong to.
    """
    size = labels.classes.shape[0]
    skin = next(s for s in model.solids if s.name == "skin").points
    fixed = skin[vertices()]
    loop = fixed[60:68]
    extra = []
    for start in (0, 3, 4, 7):
        p = [loop[(start + k) % 8] for k in (-1, 0, 1, 2)]
        extra += [_curve(p, 1 / 3), _curve(p, 2 / 3)]
    points = np.concatenate([fixed, np.stack(extra)])
    seen = model.camera.project(points, size)
    out = np.zeros((COUNT, 3), np.float32)
    out[:80, :2] = seen[:, :2] - 0.5
    out[:80, 2] = _visibility(seen, labels, size)
    out[80:89], out[89:] = _rays(out, labels)
    return out


def _curve(p: list[Floats], t: float) -> Floats:
    """A Catmull-Rom spline between the second and the third of four points."""
    a, b, c, d = p
    out: Floats = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    return out


def _visibility(seen: Floats, labels: Labels, size: int) -> Floats:
    grid = labels.depth.shape[0]
    at = np.floor(seen[:, :2] * grid / size).astype(int)
    inside = ((at >= 0) & (at < grid)).all(1)
    column, row = np.clip(at, 0, grid - 1).T
    clear = seen[:, 2] <= labels.depth[row, column] + TOLERANCE
    out: Floats = np.where(inside & clear, VISIBLE, np.where(inside, HIDDEN, MISSING)).astype(np.float32)
    return out


def _rays(points: Floats, labels: Labels) -> tuple[Floats, Floats]:
    k = labels.samples.shape[0] // labels.classes.shape[0]
    left, right = points[36, :2], points[45, :2]
    unit = float(np.linalg.norm(right - left))
    level = (right - left) / max(unit, 1e-6)
    down = np.array([-level[1], level[0]])
    eyes = (points[36:42, :2].mean(0) + points[42:48, :2].mean(0)) / 2
    origin = eyes + 0.25 * unit * down
    brow = max(0.0, float(((origin - points[17:27, :2]) @ down).min()))
    inner = np.stack([_inner(labels, origin, level, down, a, unit, brow, k) for a in INNER])
    outer = np.stack([_outer(labels, origin, level, down, a, unit, k) for a in OUTER])
    bare = inner[:, 2] == MISSING  # without hair the hairline is the edge of the skull
    for i in np.flatnonzero(bare):
        end = _outer(labels, origin, level, down, INNER[i], unit, k)
        inner[i] = (*end[:2], min(end[2], HIDDEN))
    return inner.astype(np.float32), outer.astype(np.float32)


def _walk(
    labels: Labels, origin: Floats, level: Floats, down: Floats, angle: float, k: int
) -> tuple[Floats, Floats, Ints]:
    """Distances in pixels, places and classes along a ray until the picture's edge."""
    way = np.cos(np.radians(angle)) * level - np.sin(np.radians(angle)) * down
    grid = labels.samples.shape[0]
    far = np.arange(0, 2.2 * grid) * (0.5 / k)
    place = origin + far[:, None] * way
    at = np.floor((place + 0.5) * k).astype(int)
    inside = ((at >= 0) & (at < grid)).all(1)
    end = int(np.argmin(inside)) if not inside.all() else len(inside)
    at = at[:end]
    return far[:end], place[:end], labels.samples[at[:, 1], at[:, 0]].astype(np.int32)


def _outer(
    labels: Labels, origin: Floats, level: Floats, down: Floats, angle: float, unit: float, k: int
) -> Floats:
    """The outermost place where the head ends; hidden where the picture ends first."""
    far, place, classes = _walk(labels, origin, level, down, angle, k)
    head = np.isin(classes, HEAD)
    steps = max(int(0.02 * unit * 2 * k), 1)
    thick = np.convolve(head, np.ones(steps), "valid") == steps if len(head) >= steps else head
    if not thick.any():
        return np.array([*origin, MISSING])
    last = int(np.flatnonzero(thick)[-1]) + steps - 1
    if last >= len(far) - 2:
        return np.array([*place[-1], HIDDEN])
    return np.array([*((place[last] + place[last + 1]) / 2), VISIBLE])


def _inner(
    labels: Labels,
    origin: Floats,
    level: Floats,
    down: Floats,
    angle: float,
    unit: float,
    brow: float,
    k: int,
) -> Floats:
    """The last of the face before the first run of hair above the brows."""
    far, place, classes = _walk(labels, origin, level, down, angle, k)
    start = int(np.searchsorted(far, brow))
    hair, face = np.isin(classes, HAIR), np.isin(classes, FACE)
    steps = max(int(0.02 * unit * 2 * k), 1)
    if len(hair) < start + steps:
        return np.array([*place[-1], MISSING])
    runs = np.convolve(hair, np.ones(steps), "valid") == steps
    found = np.flatnonzero(runs[start:])
    if not len(found):
        return np.array([*place[-1], MISSING])
    first = start + int(found[0])
    before = np.flatnonzero(face[:first])
    at = (int(before[-1]) + first) // 2 if len(before) else first
    hat = classes[first] == ID["hat"]
    fringe = far[first] <= brow + 0.02 * unit
    return np.array([*place[at], HIDDEN if hat or fringe else VISIBLE])
