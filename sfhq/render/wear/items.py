"""Meshes of glasses, hats and jewellery in the rest pose, and all that a person wears."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfhq.render.hair.groom import Strands
from sfhq.render.head.assets import Floats
from sfhq.render.head.bust import Bust, topology
from sfhq.render.head.eyes import Piece, eyeball
from sfhq.render.head.meshes import ball, cut, level_ring, loft, tube
from sfhq.render.head.skin import Surface
from sfhq.render.person import Person
from sfhq.render.wear.clothes import AXIS, Named, clothes, low, outwards, piece, ring_field
from sfhq.render.wear.headscarf import headscarf

CLASS_OF = {  # first word of a solid's name -> its class
    "frame": "eye_g",
    "lens": "eye_g",
    "hat": "hat",
    "earring": "ear_r",
    "necklace": "neck_l",
    "cloth": "cloth",
    "collar": "cloth",
    "tie": "cloth",
}
# Lower edge of a hat on the mean head: its height at z = 0, and its slope along z.
HAT_LINE = {"beanie": (7.4, 0.3), "cap": (7.42, 0.31), "brim": (7.4, 0.28)}


def hat_height(person: Person, rest: Floats) -> Floats:
    """(N,) height of places on the mean head above the lower edge of the hat, in decimetres."""
    start, slope = HAT_LINE[person.wear.hat]
    out: Floats = rest[..., 1] - start - slope * np.clip(rest[..., 2], -0.6, 1.3)
    return out


def under_hat(person: Person, density: Floats) -> Floats:
    """(F,) the density of scalp hair, set to 0 under a hat."""
    if person.wear.hat == "none":
        return density
    if person.wear.hat == "headscarf":
        return np.zeros_like(density)
    out: Floats = density * (hat_height(person, topology().rest) < 0.05)
    return out


def press(person: Person, strands: list[Strands]) -> list[Strands]:
    """Strands with all points above the edge of the hat moved down to it."""
    if person.wear.hat in ("none", "headscarf"):
        return strands
    out = []
    for each in strands:
        points = each.points.copy()
        over = np.clip(hat_height(person, points), 0, None)
        points[..., 1] -= over
        out.append(replace(each, points=points))
    return out


def build(person: Person, bust: Bust, surface: Surface, strands: list[Strands]) -> list[Named]:
    """Name, material and mesh of everything that a person wears."""
    rng = np.random.default_rng([person.seed, 9])
    pieces = clothes(person, surface, rng)
    pieces += _glasses(person, bust)
    pieces += _hat(person, surface, rng)
    if person.wear.earrings:
        pieces += _earrings(person, surface, rng)
    if person.wear.necklace:
        pieces += _necklace(person, surface, rng)
    return pieces


def _glasses(person: Person, bust: Bust) -> list[Named]:
    wear = person.wear
    if wear.glasses == "none":
        return []
    rng = np.random.default_rng([person.seed, 10])
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    power = {"round": 2.0, "square": 3.6, "sunglasses": 2.8}[wear.glasses]
    wide = {"round": 0.235, "square": 0.265, "sunglasses": 0.28}[wear.glasses]
    high = {"round": 0.215, "square": 0.165, "sunglasses": 0.21}[wear.glasses]
    wide, high = wide * rng.uniform(0.93, 1.07), high * rng.uniform(0.9, 1.1)
    thick = float(rng.choice([0.009, 0.013, 0.02]))
    pieces: list[Named] = []
    inner: list[Floats] = []
    for side, sign in (("l", 1.0), ("r", -1.0)):
        centre, radius = eyeball(bust, side)
        middle = centre + np.array([0.02 * sign, -0.03, radius + 0.17])
        c, s = np.cos(turn), np.sin(turn)
        x = wide * np.sign(c) * np.abs(c) ** (2 / power)
        y = high * np.sign(s) * np.abs(s) ** (2 / power)
        y = y - 0.12 * high * np.clip(sign * x / wide, -1, 1) * (y < 0)
        z = -0.22 * (sign * x / wide).clip(0) ** 2 * wide - 0.06 * y
        rim = np.stack([middle[0] + x, middle[1] + y, middle[2] + z], 1)
        pieces.append(
            (f"frame-{side}", "plastic", piece(tube(rim, thick, closed=True), wear.frame_colour))
        )
        fan = np.concatenate([rim, rim.mean(0)[None]]).astype(np.float32)
        i = np.arange(48)
        faces = np.stack([i, (i + 1) % 48, np.full(48, 48)], 1).astype(np.int32)
        dark = wear.glasses == "sunglasses"
        pieces.append(
            (
                f"lens-{side}",
                "lens" if dark else "clear",
                piece((fan, faces), (0.012, 0.012, 0.014)),
            )
        )
        inner.append(rim[np.argmin(sign * rim[:, 0] - 0.8 * rim[:, 1])])
        outer = rim[np.argmax(sign * rim[:, 0] + 0.4 * rim[:, 1])]
        ear = topology().fields["ears"] > 0.5
        top = bust.points[ear & (sign * bust.points[:, 0] > 0)]
        hook = top[top[:, 1] > np.quantile(top[:, 1], 0.85)].mean(0)
        hook = hook + np.array([-0.01 * sign, 0.02, 0.02])
        bend = outer * 0.5 + hook * 0.5 + np.array([0.06 * sign, 0.02, 0.0])
        t = np.linspace(0, 1, 14)[:, None]
        arm = (1 - t) ** 2 * outer + 2 * t * (1 - t) * bend + t**2 * hook
        pieces.append((f"frame-arm-{side}", "plastic", piece(tube(arm, thick), wear.frame_colour)))
    t = np.linspace(-1, 1, 9)[:, None]
    bridge = (inner[0] * (1 + t) + inner[1] * (1 - t)) / 2
    bridge = bridge + (1 - t**2) * np.array([0.0, 0.03, 0.03])
    pieces.append(("frame-bridge", "plastic", piece(tube(bridge, thick), wear.frame_colour)))
    return pieces


def _hat(person: Person, surface: Surface, rng: np.random.Generator) -> list[Named]:
    wear = person.wear
    if wear.hat == "none":
        return []
    if wear.hat == "headscarf":
        return [("hat-scarf", "cloth", headscarf(person, surface, rng))]
    shared = topology()
    height = hat_height(person, shared.rest)
    field = np.where(shared.fields["ears"] > 0.3, -1.0, height).astype(np.float32)
    loose = {"beanie": 0.1, "cap": 0.11, "brim": 0.13}[wear.hat]
    rise = np.clip(height / 0.9, 0, 1)
    tall = {"beanie": 0.16, "cap": 0.1, "brim": 0.42}[wear.hat]
    out = surface.points + loose * surface.normals
    out = out + np.stack([0 * rise, tall * np.sin(rise * np.pi / 2), 0 * rise], 1)
    colour = np.tile(np.array(wear.hat_colour), (len(out), 1))
    if wear.hat == "beanie":
        angle = np.arctan2(shared.rest[:, 0], shared.rest[:, 2] - 0.4)
        ribs = np.sin(angle * 70)
        out = out + (0.006 * ribs)[:, None] * surface.normals
        cuff = np.clip((0.32 - height) / 0.02, 0, 1) * np.clip(height / 0.01, 0, 1)
        out = out + (0.045 * cuff)[:, None] * surface.normals
        colour = colour * (1 + 0.12 * ribs)[:, None]
    if wear.hat == "brim":
        band = (height < 0.25)[:, None]
        colour = np.where(band, np.clip(colour * 0.35, 0.005, 1), colour)
    carry = np.concatenate([colour, shared.follows[:, None]], 1)
    points, faces, carried = cut(out.astype(np.float32), shared.triangles, field, carry)
    pieces: list[Named] = [("hat-crown", "felt", Piece(points, faces, carried[:, :3], 1.0))]
    ring = level_ring(out.astype(np.float32), shared.triangles, field, np.array([0, 7.5, 0.4]))
    if wear.hat in ("cap", "brim"):
        pieces.append(("hat-brim", "felt", _brim(person, ring, wear.hat)))
    return pieces


def _brim(person: Person, ring: Floats, kind: str) -> Piece:
    middle = np.array([0.0, 0.0, 0.4])
    flat = (ring - middle) * np.array([1, 0, 1])
    away = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    front = np.clip(away[:, 2], 0, 1)
    if kind == "cap":
        reach = 0.75 * np.clip((front - 0.45) / 0.35, 0, 1) ** 0.7
        drop = -0.12 * (1 - front) - 0.1
        away = away * np.array([0.75, 1, 1]) + np.array([0, 0, 0.25])
    else:
        reach = np.full(len(ring), 0.62)
        drop = -0.1 + 0.16 * np.abs(away[:, 0]) ** 2 - 0.05 * front
    rows = []
    for share in (0.0, 0.35, 0.7, 1.0):
        down = np.stack([0 * reach, drop * share * reach, 0 * reach], 1)
        rows.append(ring + away * (reach * share)[:, None] + down)
    rows.append(rows[-1] - np.array([0, 0.015, 0]))
    rows += [r - np.array([0, 0.02, 0]) for r in (rows[2], rows[1], rows[0])]
    return piece(loft(rows, closed=True), person.wear.hat_colour)


def _earrings(person: Person, surface: Surface, rng: np.random.Generator) -> list[Named]:
    shared = topology()
    kind = rng.choice(["stud", "hoop", "drop"])
    size = float(rng.uniform(0.05, 0.12))
    pieces: list[Named] = []
    for side, sign in (("l", 1.0), ("r", -1.0)):
        ear = surface.points[(shared.fields["ears"] > 0.5) & (sign * shared.rest[:, 0] > 0)]
        lobe = ear[np.argsort(ear[:, 1])[: max(len(ear) // 40, 4)]].mean(0)
        lobe = lobe + np.array([0.025 * sign, 0.03, 0.03])
        if kind == "stud":
            mesh = ball(lobe, 0.032)
        elif kind == "hoop":
            turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
            ring = np.stack([0.15 * np.sin(turn), np.cos(turn), np.sin(turn)], 1) * size
            mesh = tube(lobe + np.array([0, -size, 0]) + ring, 0.011, closed=True)
        else:
            mesh = ball(lobe - np.array([0, size + 0.04, 0]), np.array([0.03, size, 0.03]))
        pieces.append((f"earring-{side}", "metal", piece(mesh, person.wear.metal)))
    return pieces


def _necklace(person: Person, surface: Surface, rng: np.random.Generator) -> list[Named]:
    rest = topology().rest
    drop = float(rng.uniform(0.0, 0.3))
    x, z = np.abs(rest[:, 0]), rest[:, 2]
    field = ring_field(rest, 0.02) - drop * np.clip(1 - x / 0.7, 0, 1) * (z > 0.3)
    ring = level_ring(surface.points, topology().triangles, field, AXIS)
    if not len(ring):
        return []
    path = outwards(ring, 0.02)
    if rng.random() < 0.4:  # pearls
        step = np.linspace(0, len(path), 60, endpoint=False)
        at = np.stack([np.interp(step, np.arange(len(path)), path[:, i]) for i in range(3)], 1)
        meshes = [ball(p, 0.038, 6) for p in at]
        offset = np.cumsum([0] + [len(m[0]) for m in meshes[:-1]])
        points = np.concatenate([m[0] for m in meshes])
        faces = np.concatenate([m[1] + o for m, o in zip(meshes, offset, strict=True)])
        pearl = (points, faces.astype(np.int32))
        return [("necklace", "plastic", piece(pearl, (0.75, 0.7, 0.62), low(points)))]
    mesh = tube(path, 0.014, closed=True, sides=6)
    pieces: list[Named] = [("necklace", "metal", piece(mesh, person.wear.metal, low(mesh[0])))]
    if rng.random() < 0.6:
        front = path[np.argmax(path[:, 2] - 0.3 * np.abs(path[:, 0]))]
        pendant = ball(front + np.array([0, -0.06, 0.02]), np.array([0.045, 0.06, 0.02]))
        pieces.append(("necklace-pendant", "metal", piece(pendant, person.wear.metal, 0.0)))
    return pieces
