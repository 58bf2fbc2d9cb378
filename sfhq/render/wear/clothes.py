"""Meshes of clothes: garments over the bust, collars and ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfhq.render.head.assets import Floats, Ints
from sfhq.render.head.bust import SHOULDER, topology
from sfhq.render.head.eyes import Piece
from sfhq.render.head.meshes import cut, level_ring, loft, tube
from sfhq.render.head.mottle import mottle
from sfhq.render.head.skin import Surface
from sfhq.render.person import Colour, Person

Named = tuple[str, str, Piece]  # name, material, mesh
AXIS = np.array([0.0, 5.9, 0.1], np.float32)  # a point on the vertical axis of the neck


def piece(
    mesh: tuple[Floats, Ints], colour: Colour | Floats, follows: Floats | float = 1.0
) -> Piece:
    """A mesh with one colour, or with a colour per vertex (V, 3)."""
    points, faces = mesh
    tint = np.broadcast_to(np.asarray(colour, np.float32), points.shape).copy()
    return Piece(points.astype(np.float32), faces, tint, follows)


def neckline(person: Person, rest: Floats) -> Floats:
    """(F,) a field that is above 0 where the main garment covers the mean body, 0 at its edge."""
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    edge = np.interp(z, [-0.7, 0.0, 0.5, 1.1], [6.02, 5.95, 5.72, 5.5])
    kind = person.wear.clothes
    if kind == "turtleneck":
        edge = edge + 0.3
    if kind in ("shirt", "tee"):
        edge = edge + 0.02
    if kind == "v-neck":
        edge = edge - np.clip(0.75 - 1.9 * x, 0, None) * (z > 0.35)
    if kind == "suit":
        edge = edge - np.clip(1.7 - 2.6 * x, 0, None) * (z > 0.3) - 0.06
    if kind == "hoodie":
        edge = edge - 0.04
    out: Floats = (edge - y).astype(np.float32)
    return out


def _shell(
    person: Person,
    surface: Surface,
    field: Floats,
    thick: float,
    colour: Floats,
    rng: np.random.Generator,
    fold: float,
) -> Piece:
    """A garment: the surface of the body where a field is above 0, moved outwards.

    Args:
        person: the person.
        surface: the skin.
        field: (F,).
        thick: distance from the skin in decimetres.
        colour: (F, 3) linear RGB.
        rng: draws the folds.
        fold: height of the folds in decimetres.
    """
    shared = topology()
    ramp = np.clip(field / 0.12, 0, 1)
    folds = fold * mottle(rng, 0.55, 2) * np.clip(field / 0.5, 0, 1)
    out = surface.points + ((0.022 + thick * np.sqrt(ramp)) + folds)[:, None] * surface.normals
    carry = np.concatenate([colour, shared.follows[:, None]], 1).astype(np.float32)
    points, faces, carried = cut(out, shared.triangles, field, carry)
    return Piece(points, faces, carried[:, :3], carried[:, 3])


def _fabric(person: Person, colour: Colour, field: Floats, rng: np.random.Generator) -> Floats:
    """(F, 3) colour of cloth: plain, striped or checked, darker at the seam."""
    rest = topology().rest
    tint = np.tile(np.array(colour, np.float64), (len(rest), 1))
    pattern = rng.choice(["plain", "plain", "plain", "stripes", "checks", "mottled"])
    other = np.clip(np.array(colour) * rng.uniform(0.3, 2.5) + rng.uniform(0, 0.15), 0.01, 0.85)
    width = rng.uniform(0.08, 0.25)
    if pattern == "stripes":
        on = np.sin(2 * np.pi * rest[:, 1] / width) > rng.uniform(-0.3, 0.6)
        tint[on] = other
    elif pattern == "checks":
        a = np.sin(2 * np.pi * rest[:, 0] / width) > 0.2
        b = np.sin(2 * np.pi * rest[:, 1] / width) > 0.2
        tint = tint + (other - tint) * (0.5 * a + 0.5 * b)[:, None]
    elif pattern == "mottled":
        tint = tint * (1 + 0.25 * mottle(rng, 0.06, 2))[:, None]
    tint = tint * (1 + 0.05 * mottle(rng, 0.02))[:, None]
    seam = np.exp(-(((field - 0.1) / 0.012) ** 2))
    out: Floats = np.clip(tint * (1 - 0.35 * seam[:, None]), 0.004, 0.9)
    return out


def clothes(person: Person, surface: Surface, rng: np.random.Generator) -> list[Named]:
    """All clothes below the chin, without jewellery."""
    wear = person.wear
    if wear.clothes == "bare":
        return []
    rest = topology().rest
    pieces: list[Named] = []
    field = neckline(person, rest)
    if wear.clothes == "suit":
        under = replace(person, wear=replace(wear, clothes="shirt"))
        white = tuple(float(v) for v in rng.uniform(0.55, 0.8) * np.array([1.0, 0.99, 0.97]))
        inner = neckline(under, rest)
        fabric = np.tile(np.array(white), (len(rest), 1))
        shirt = _shell(person, surface, inner, thick=0.02, colour=fabric, rng=rng, fold=0.006)
        pieces.append(("cloth-shirt", "cloth", shirt))
        pieces += _collar(person, surface, white)
    thick = {"hoodie": 0.09, "turtleneck": 0.05, "suit": 0.075}.get(wear.clothes, 0.035)
    fold = {"suit": 0.008, "turtleneck": 0.012}.get(wear.clothes, 0.02)
    fabric = _fabric(person, wear.cloth_colour, field, rng)
    if wear.clothes == "suit":  # lapels: a dark band along the opening
        band = np.exp(-(((field - 0.34) / 0.015) ** 2)) * (rest[:, 2] > 0.3)
        fabric = fabric * (1 - 0.45 * band[:, None])
    main = _shell(person, surface, field, thick=thick, colour=fabric, rng=rng, fold=fold)
    pieces.append(("cloth-main", "cloth", main))
    if wear.clothes == "shirt":
        pieces += _collar(person, surface, wear.cloth_colour)
    if wear.clothes == "hoodie":
        ring = level_ring(surface.points, topology().triangles, ring_field(rest, -0.05), AXIS)
        back = np.clip((0.5 - ring[:, 2]) / 0.9, 0, 1)
        out = outwards(ring, 0.1 + 0.12 * back) + np.stack(
            [0 * back, 0.1 * back + 0.02, -0.1 * back], 1
        )
        hood = tube(out, 0.085 + 0.09 * back, closed=True, sides=10)
        colour = np.array(wear.cloth_colour) * 0.95
        pieces.append(("cloth-hood", "cloth", piece(hood, tuple(colour), low(hood[0]))))
    if wear.necktie and wear.clothes in ("suit", "shirt"):
        pieces += _tie(person, surface, rng)
    return pieces


def ring_field(rest: Floats, drop: float) -> Floats:
    """(F,) a field that is 0 on a loop around the base of the neck, `drop` decimetres lower."""
    edge = np.interp(rest[:, 2], [-0.7, 0.0, 0.5, 1.1], [6.02, 5.95, 5.72, 5.5]) - drop
    near = np.hypot(rest[:, 0], rest[:, 2] - AXIS[2]) < 1.6
    out: Floats = np.where(near, edge - rest[:, 1], 1.0).astype(np.float32)
    return out


def outwards(ring: Floats, by: Floats | float) -> Floats:
    """A loop (N, 3) around the neck moved away from its axis by one distance, or by (N,) each."""
    flat = (ring - AXIS) * np.array([1, 0, 1])
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    out: Floats = ring + flat * np.broadcast_to(np.asarray(by), (len(ring),))[:, None]
    return out


def low(points: Floats) -> Floats:
    """(N,) share of the head's rotation, 0 to 1, for things around the neck."""
    t = np.clip((points[:, 1] - SHOULDER) / (6.4 - SHOULDER), 0, 1)
    out: Floats = (t * t * (3 - 2 * t)).astype(np.float32)
    return out


def _collar(person: Person, surface: Surface, colour: Colour | tuple[float, ...]) -> list[Named]:
    rest = topology().rest
    ring = level_ring(surface.points, topology().triangles, ring_field(rest, 0.0), AXIS)
    n = len(ring)
    ring = np.roll(ring, n // 2, 0)  # start at the front, where the collar is open
    angle = np.linspace(0, 2 * np.pi, n)
    front = np.clip(np.cos(angle), 0, 1) ** 6
    stand = 0.2 - 0.06 * front
    up = np.stack([0 * stand, stand, 0 * stand], 1)
    fall = 0.17 + 0.2 * front
    down = np.stack([0.05 * np.sin(angle) * front, -fall, 0.03 * front], 1)
    rows = [
        outwards(ring, 0.03) - np.array([0, 0.04, 0]),
        outwards(ring, 0.045) + up,
        outwards(ring, 0.075) + up + np.array([0, 0.012, 0]),
        outwards(ring, 0.1) + up + 0.3 * down,
        outwards(ring, 0.12 + 0.05 * front) + up + down,
    ]
    keep = slice(2, n - 2)  # the gap in front
    mesh = loft([r[keep] for r in rows])
    tint = np.clip(np.array(colour) * 1.03, 0, 0.9)
    return [("collar", "cloth", piece(mesh, tuple(tint), 0.5 * low(mesh[0])))]


def _tie(person: Person, surface: Surface, rng: np.random.Generator) -> list[Named]:
    rest = topology().rest
    middle = np.flatnonzero((np.abs(rest[:, 0]) < 0.06) & (rest[:, 2] > 0.4) & (rest[:, 1] < 6.0))
    points = surface.points[middle]
    order = np.argsort(points[:, 1])
    heights = np.linspace(5.58, 4.5, 16)
    depth = np.interp(heights, points[order, 1], points[order, 2])
    depth = np.maximum.accumulate(depth) + 0.14
    width = np.interp(heights, [4.5, 5.35, 5.45, 5.58], [0.26, 0.13, 0.1, 0.14])
    puff = np.interp(heights, [4.5, 5.4, 5.47, 5.58], [0.0, 0.02, 0.07, 0.05])
    s = np.linspace(-1, 1, 9)
    rows = [
        np.stack([w * s, y + 0 * s, z + p * (1 - s**2) + 0.02 * (1 - s**2)], 1)
        for y, z, w, p in zip(heights, depth, width, puff, strict=True)
    ]
    mesh = loft(rows)
    colour = np.tile(np.array(person.wear.tie_colour), (len(mesh[0]), 1))
    if rng.random() < 0.5:
        slant = np.sin(2 * np.pi * (mesh[0][:, 1] + 0.6 * mesh[0][:, 0]) / rng.uniform(0.1, 0.25))
        colour[slant > 0.4] = np.clip(colour[slant > 0.4] * 0.3 + rng.uniform(0, 0.4, 3), 0, 0.8)
    return [("tie", "cloth", piece(mesh, colour, 0.0))]
