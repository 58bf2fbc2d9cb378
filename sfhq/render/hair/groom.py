"""Scalp hair as curves: guides that grow by the rules of a style, and strands between them.

A guide starts at the skin, follows the comb direction of the style, bends with gravity and never
enters the head. A strand is blended from the guides near its root. Then strands are gathered into
locks, waved and curled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from sfhq.render.hair.scalp import MIDDLE
from sfhq.render.head.assets import Floats, Ints
from sfhq.render.head.bust import SHOULDER, topology
from sfhq.render.head.skin import Surface
from sfhq.render.person import Hair, Person

CROWN = np.array([0.0, 8.3, -0.05], np.float32)
KNOT = np.array([0.0, 7.75, -0.72], np.float32)  # where tied hair is tied
GUIDES = 420
STRAY = 0.05  # share of strands that stick out
BROW = 7.42  # height of the brows in the rest pose
FRINGE = (0.0, 0.17)  # range of the distance from the brows up to the ends of bangs
# How far forward hair behind the ears and shoulders may come at each height: heights, depths (z).
TUCKED = ((5.6, 6.2, 6.8, 7.25, 7.5), (-0.3, -0.15, 0.1, 0.22, 1.5))


@dataclass(frozen=True)
class Strands:
    """Hair of one kind as curves.

    Attributes:
        points: (S, K, 3) control points from root to tip, in the rest pose.
        radius: (S, K) decimetres.
        tone: (S,) 0 pigmented, 1 lighter, 2 grey.
        kind: "hair", "brow", "lash" or "beard".
    """

    points: Floats
    radius: Floats
    tone: Ints
    kind: str

    def follows(self) -> Floats:
        """(S, K) share of the head's rotation at each point, 0 to 1."""
        t = np.clip((self.points[..., 1] - SHOULDER) / (6.4 - SHOULDER), 0, 1)
        out: Floats = (t * t * (3 - 2 * t)).astype(np.float32)
        return out


@dataclass(frozen=True)
class _Habit:
    """Numbers of a hair style that decide how it grows.

    Attributes:
        strands: number of strands.
        points: number of control points per strand.
        radius: radius of a strand in decimetres.
        lift: how steeply hair leaves the skin, 0 (flat) to 1 (upright).
        stiff: resistance to gravity, 0 to 1.
        layer: thickness of the hair on the head in decimetres.
        clump: how strongly strands gather into locks, 0 to 1.
    """

    strands: int
    points: int
    radius: float
    lift: float
    stiff: float
    layer: float
    clump: float


HABITS = {  # strands, points, radius, lift, stiff, layer, clump
    "buzz": _Habit(5200, 4, 0.0075, 0.8, 1.0, 0.01, 0.0),
    "short": _Habit(5200, 6, 0.009, 0.35, 0.85, 0.08, 0.45),
    "crop": _Habit(5200, 6, 0.009, 0.4, 0.8, 0.09, 0.5),
    "side-part": _Habit(5200, 7, 0.009, 0.4, 0.8, 0.11, 0.45),
    "swept-back": _Habit(5200, 8, 0.009, 0.45, 0.85, 0.1, 0.5),
    "bob": _Habit(5000, 10, 0.01, 0.3, 0.35, 0.12, 0.35),
    "long": _Habit(5000, 13, 0.01, 0.3, 0.3, 0.12, 0.4),
    "wavy": _Habit(5000, 14, 0.01, 0.35, 0.35, 0.13, 0.5),
    "curly": _Habit(4200, 18, 0.01, 0.5, 0.55, 0.16, 0.7),
    "afro": _Habit(5200, 12, 0.009, 1.0, 1.0, 0.0, 0.3),
    "tied": _Habit(5000, 9, 0.009, 0.12, 0.9, 0.055, 0.2),
}


class Skull:
    """The surface that hair must not enter.

    Args:
        surface: the skin in the rest pose.
    """

    def __init__(self, surface: Surface) -> None:
        outside = topology().fields["mouth"] < 0.3
        chosen = np.flatnonzero(outside)[::4]
        self.points, self.normals = surface.points[chosen], surface.normals[chosen]
        self.tree = cKDTree(self.points)

    def along(self, points: Floats, heading: Floats, reach: float) -> Floats:
        """Bend headings along the surface where it is nearer than `reach`; (N, 3) unit vectors."""
        gap, index = self.tree.query(points, distance_upper_bound=reach)
        near = np.isfinite(gap)
        normal = self.normals[np.where(near, index, 0)]
        out = np.maximum((heading * normal).sum(1), 0) * np.where(near, 0.9, 0)
        return unit(heading - out[:, None] * normal)

    def push(self, points: Floats, above: Floats | float) -> Floats:
        """Points (N, 3) moved to a height of at least `above` (N,) over the surface."""
        gap, index = self.tree.query(points, distance_upper_bound=0.6)
        near = np.isfinite(gap)
        index = np.where(near, index, 0)
        height = ((points - self.points[index]) * self.normals[index]).sum(1)
        lack = np.where(near, np.maximum(above - height, 0), 0)
        # A point far behind the surface is a strand that hangs free: it stays where it is.
        lack = np.where(lack > 0.7, 0, lack)
        out: Floats = points + lack[:, None] * self.normals[index]
        return out.astype(np.float32)


def roots(
    surface: Surface, density: Floats, count: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Random roots on the skin by density, (N, 3) each: on the person, on the mean head, normals.

    Args:
        surface: the skin.
        density: (F,) 0 to 1.
        count: number of roots.
        rng: draws the places.
    """
    shared = topology()
    tri = shared.triangles
    weight = density[tri].mean(1)
    used = np.flatnonzero(weight > 0.05)
    if not len(used) or count < 1:
        none = np.zeros((0, 3), np.float32)
        return none, none, none
    tri = tri[used]
    a, b, c = (surface.points[tri[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) * weight[used]
    pick = rng.choice(len(used), count, p=area / area.sum())
    u = rng.random((count, 2))
    u = np.where(u.sum(1, keepdims=True) > 1, 1 - u, u)
    w = np.stack([1 - u.sum(1), u[:, 0], u[:, 1]], 1)[..., None]
    corner = tri[pick]
    place, rest, normal = (
        (x[corner] * w).sum(1).astype(np.float32)
        for x in (surface.points, shared.rest, surface.normals)
    )
    return place, rest, normal / np.linalg.norm(normal, axis=1, keepdims=True)


def grow_hair(person: Person, surface: Surface, density: Floats) -> list[Strands]:
    """Scalp hair of a person; an empty list for a bald person.

    Args:
        person: the person.
        surface: the skin.
        density: (F,) of scalp hair, 0 to 1.
    """
    hair = person.hair
    if hair.style == "bald" or not (density > 0.3).any():
        return []
    habit = HABITS[hair.style]
    rng = np.random.default_rng([person.seed, 4])
    place, rest, normal = roots(surface, _thicker(person, density), habit.strands, rng)
    lead = np.arange(min(GUIDES, len(place)))
    skull = Skull(surface)
    wild = hair.style != "buzz"
    guides = _grow_guides(
        person, habit, skull, place=place[lead], rest=rest[lead], normal=normal[lead], rng=rng
    )
    if wild:
        points = _between(guides, place, rest, lead=rest[lead], person=person, habit=habit, rng=rng)
    else:
        steps = np.linspace(0, 1, habit.points, dtype=np.float32)[None, :, None]
        bent = normal + 0.5 * rng.normal(0, 0.5, normal.shape)
        points = place[:, None] + hair.length * steps * bent[:, None]
    points = points.astype(np.float32)
    points[:, 0] -= 0.02 * normal  # rooted in the skin
    radius = taper(len(points), habit.points, habit.radius)
    made = [Strands(points, radius, tones(len(points), hair.grey, rng), "hair")]
    if hair.style == "tied":
        made.append(_bun(person, habit, skull, rng))
    return made


def _thicker(person: Person, density: Floats) -> Floats:
    """The density with more roots along the part and the front edge, where strands diverge."""
    if person.hair.style not in ("side-part", "bob", "long", "wavy", "curly"):
        return density
    rest = topology().rest
    near = np.exp(-(((rest[:, 0] - 0.35 * person.hair.part) / 0.07) ** 2)) * (rest[:, 1] > 7.8)
    edge = np.exp(-(((rest[:, 2] - 1.15) / 0.15) ** 2)) * (rest[:, 1] > 7.85)
    out: Floats = density * (1 + 4 * near + 1.5 * edge)
    return out


def tones(count: int, grey: float, rng: np.random.Generator) -> Ints:
    """(count,) random tones of `Strands`; `grey` is the share of strands without pigment."""
    tone = (rng.random(count) < 0.3).astype(np.int32)
    tone[rng.random(count) < grey] = 2
    return tone


def taper(count: int, points: int, radius: float) -> Floats:
    """(count, points) radii that taper from root to tip; `radius` is that of the root."""
    shape = np.interp(np.linspace(0, 1, points), [0, 0.5, 1], [1.0, 0.95, 0.35])
    return np.tile((radius * shape).astype(np.float32), (count, 1))


def unit(v: Floats) -> Floats:
    """(..., 3) vectors scaled to length 1."""
    out: Floats = v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)
    return out


def _comb(person: Person, rest: Floats, at: Floats, s: float) -> Floats:
    """(G, 3) comb direction of a style at places `at`; `s` is 0 at the root and 1 at the tip."""
    hair = person.hair
    part = 0.35 * hair.part
    side = np.where(rest[:, 0] >= part, 1.0, -1.0)
    style = hair.style
    away = at - CROWN
    down = np.array([0.0, -1.0, 0.0])
    out: Floats
    if style in ("short", "crop"):
        out = unit(away) + 0.35 * down
        if style == "crop":
            out = out + np.array([0, 0, 0.9]) * (rest[:, 1] > 7.9)[:, None]
    elif style == "side-part":
        top = np.clip((rest[:, 1] - 7.85) / 0.2, 0, 1)[:, None]
        over = np.stack([side, 0.25 - 0.9 * s + 0 * side, -0.25 + 0 * side], 1)
        out = top * over + (1 - top) * (0.6 * unit(away) + down + np.array([0, 0, -0.3]))
    elif style == "swept-back":
        out = np.stack([0.35 * np.sign(at[:, 0]), 0.3 - 1.2 * s + 0 * side, -1.0 + 0 * side], 1)
    elif style == "afro":
        out = unit(at - MIDDLE)
    elif style == "tied":
        out = unit(KNOT - at)
    else:  # falls from the part
        top = np.clip((rest[:, 1] - 7.75) / 0.3, 0, 1)[:, None]
        over = np.stack([side, -0.25 - 0.6 * s + 0 * side, -0.45 + 0 * side], 1)
        fall = np.stack([0.12 * np.sign(at[:, 0]), -1.0 + 0 * side, -0.1 + 0 * side], 1)
        out = top * (1 - s) * over + (1 - top * (1 - s)) * fall
    if hair.bangs:
        out = np.where(_bangs(rest)[:, None], np.array([0.12 * hair.part, -0.75, 0.75 - s]), out)
    return unit(out)


def _bangs(rest: Floats) -> npt.NDArray[np.bool_]:
    """(G,) True for roots whose hair hangs over the forehead."""
    front = (rest[:, 2] > 0.85) & (np.abs(rest[:, 0]) < 0.5) & (rest[:, 1] > 7.85)
    out: npt.NDArray[np.bool_] = front
    return out


def _lengths(person: Person, rest: Floats, rng: np.random.Generator) -> Floats:
    """(G,) length of each guide."""
    hair = person.hair
    length = np.full(len(rest), hair.length)
    low = np.clip((7.75 - rest[:, 1]) / 0.5, 0, 1)  # sides and nape are kept shorter
    if hair.style in ("short", "crop", "side-part", "swept-back"):
        length = length * (1 - 0.72 * low)
    if hair.style == "afro":
        length = length * (1 - 0.45 * low) * np.where(rest[:, 2] > 1.0, 0.75, 1.0)
    if hair.style == "bob":  # all strands end at one height
        edge = 7.7 - hair.length
        length = np.maximum(rest[:, 1] - edge + 0.35 * np.clip(rest[:, 1] - 7.9, 0, 1), 0.25)
    if hair.style == "tied":
        length = np.linalg.norm(rest - KNOT, axis=1) * 1.12 + 0.1
    if hair.bangs:
        cut = BROW + rng.uniform(*FRINGE)
        fall = np.clip(rest[:, 1] - cut, 0.2, 0.75) * rng.uniform(0.75, 1.06, len(rest))
        length = np.where(_bangs(rest), fall, length)
    out: Floats = length * rng.uniform(0.88, 1.06, len(rest))
    return out


def _grow_guides(
    person: Person,
    habit: _Habit,
    skull: Skull,
    place: Floats,
    rest: Floats,
    normal: Floats,
    rng: np.random.Generator,
) -> Floats:
    hair = person.hair
    step: Floats = _lengths(person, rest, rng)[:, None] / (habit.points - 1)
    layer = habit.layer * hair.volume * rng.uniform(0.15, 1.0, len(place))
    # Outer layers start higher on the head, so locks overlap like tiles.
    layer = layer * np.clip(0.5 + (rest[:, 1] - 7.2), 0.3, 1.3)
    jitter = rng.normal(0, 0.12 + 0.25 * hair.frizz, place.shape)
    lift = min(habit.lift * hair.volume, 1.0)
    path: list[Floats] = [place]
    heading: Floats = unit(
        lift * normal + (1 - lift) * _comb(person, rest, place, 0.0) + 0.5 * jitter
    )
    free = _bangs(rest) & hair.bangs
    for i in range(1, habit.points):
        s = i / (habit.points - 1)
        comb = _comb(person, rest, path[-1], s)
        if hair.style == "tied":
            left = np.linalg.norm(KNOT - path[-1], axis=1, keepdims=True)
            step = np.minimum(step, left)
        pull = (1 - habit.stiff) * s * np.array([0.0, -1.6, 0.0])
        blend = 0.35 if hair.style in ("afro",) else 0.55
        heading = unit((1 - blend) * heading + blend * unit(comb + 0.3 * jitter) + pull)
        if hair.style != "afro":
            heading = skull.along(path[-1], heading, 0.12 + 0.1 * (1 - s) * lift)
        at: Floats = path[-1] + step * heading
        if hair.behind:
            at[:, 2] = np.minimum(at[:, 2], np.where(free, np.inf, np.interp(at[:, 1], *TUCKED)))
        ramp = min(1.0, 2.5 * s)
        at = skull.push(at.astype(np.float32), 0.012 + layer * ramp)
        if not hair.bangs or hair.style in ("bob", "long", "wavy", "curly"):
            at = _off_the_face(at, rest, hair)
        path.append(at)
    return np.stack(path, 1).astype(np.float32)


def _off_the_face(at: Floats, rest: Floats, hair: Hair) -> Floats:
    """Move falling hair out of the face, to the side of the part on which it grows."""
    x, y, z = at.T
    edge = np.interp(y, [6.2, 6.6, 7.2, 7.8, 8.05], [0.52, 0.55, 0.6, 0.5, 0.0])
    side = np.where(rest[:, 0] >= 0.35 * hair.part, 1.0, -1.0)
    inside = (z > 0.95) & (side * x < edge) & (side * x > -0.75) & (y < 8.05)
    if hair.bangs:
        inside &= ~_bangs(rest)
    out = at.copy()
    out[:, 0] = np.where(inside, side * edge, x)
    return out


def _between(
    guides: Floats,
    place: Floats,
    rest: Floats,
    lead: Floats,
    person: Person,
    habit: _Habit,
    rng: np.random.Generator,
) -> Floats:
    """(S, K, 3) strands blended from the nearest guides."""
    hair = person.hair
    count, steps = len(place), guides.shape[1]
    key, of = rest.copy(), lead.copy()
    if hair.style in ("side-part", "bob", "long", "wavy", "curly"):
        part = 0.35 * hair.part  # keep the two sides of the part apart
        for which in (key, of):
            which[:, 0] += np.where(which[:, 0] >= part, 0.4, -0.4) * (which[:, 1] > 7.8)
    if hair.bangs:
        for which in (key, of):
            which[:, 1] += 0.5 * _bangs(which)
    gap, near = cKDTree(of).query(key, k=3)
    weight = 1 / (gap + 0.01) ** 2
    weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    shape = guides - guides[:, :1]
    points = place[:, None] + np.einsum("sk,skpc->spc", weight, shape[near])
    s = np.linspace(0, 1, steps, dtype=np.float32)
    own = guides[near[:, 0]]
    spread = rng.normal(0, 1, (count, 1, 3)).astype(np.float32)
    loose = 0.02 + 0.05 * hair.volume * (habit.layer > 0.05)
    lock = own + spread * np.float32(0.35 * loose)
    pull = (habit.clump * s**0.8)[None, :, None]
    points = points + pull * (lock - points)
    phase = rng.uniform(0, 2 * np.pi, len(guides))[near[:, 0]] + rng.normal(0, 0.35, count)
    points = points + _waves(person, points, phase, s, rng)
    frizz = rng.normal(0, 1, (count, 1, 3)) * s[None, :, None] ** 1.5
    wobble = rng.normal(0, 1, (count, steps, 3)) * s[None, :, None]
    size = 0.012 + 0.05 * hair.frizz
    frizz = frizz * np.where(rng.random((count, 1, 1)) < STRAY, 3.0, 1.0)
    out: Floats = points + 0.7 * size * frizz + 0.08 * size * wobble
    return out.astype(np.float32)


def _waves(
    person: Person, points: Floats, phase: Floats, s: Floats, rng: np.random.Generator
) -> Floats:
    hair = person.hair
    ahead = unit(np.gradient(points, axis=1))
    sideways = unit(np.cross(ahead, np.array([0.3, 0.1, 1.0])))
    up = np.cross(ahead, sideways)
    far = hair.length * s
    grow = np.clip(3 * s, 0, 1)[None, :, None]
    out: Floats = np.zeros_like(points)
    if hair.wave > 0 and hair.length > 0.4:
        turn = 2 * np.pi * far[None] / 0.75 + phase[:, None]
        out = out + 0.085 * hair.wave * grow * np.sin(turn)[..., None] * sideways
    if hair.curl > 0:
        pitch = 0.34 - 0.16 * hair.curl
        turn = 2 * np.pi * far[None] / pitch + phase[:, None]
        turn = np.where(turn > 0, turn, 0)
        coil = np.cos(turn)[..., None] * sideways + np.sin(turn)[..., None] * up
        out = out + 0.06 * hair.curl * grow * coil
    return out


def _bun(person: Person, habit: _Habit, skull: Skull, rng: np.random.Generator) -> Strands:
    """A bun at the back of the head, or a ponytail if the hair is long."""
    count, steps = 900, habit.points
    start = skull.push(KNOT[None] + np.array([[0, 0, -0.02]], np.float32), 0.03)[0]
    s = np.linspace(0, 1, steps)[None, :, None]
    if person.hair.length > 0.9:  # a tail
        off = rng.normal(0, 1, (count, 1, 3)) * np.array([0.09, 0.06, 0.06])
        fall = np.array([0.0, -1.0, -0.12]) * (person.hair.length - 0.4)
        points = start + off * (0.3 + s) + fall * s + np.array([0, 0.12, -0.3]) * np.sin(np.pi * s)
    else:
        axis = unit(rng.normal(0, 1, (count, 1, 3)) + np.array([0, 0, 1.5]))
        a = unit(np.cross(axis, np.array([0.3, 1.0, 0.2])))
        b = np.cross(axis, a)
        turn = 2 * np.pi * (s + rng.random((count, 1, 1)))
        ball = rng.uniform(0.17, 0.21, (count, 1, 1)) * (np.cos(turn) * a + np.sin(turn) * b)
        points = start + np.array([0, 0.02, -0.12]) + ball
    radius = np.full((count, steps), habit.radius, np.float32)
    return Strands(points.astype(np.float32), radius, tones(count, person.hair.grey, rng), "hair")
