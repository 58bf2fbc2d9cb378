"""A headscarf: a cloth around head, ears and neck that leaves the face free."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, cKDTree

from sfhq.render.head.assets import Floats
from sfhq.render.head.bust import topology
from sfhq.render.head.eyes import Piece
from sfhq.render.head.meshes import cut, loft
from sfhq.render.head.skin import Surface
from sfhq.render.person import Person

LOW = 5.42  # decimetres: where the cloth ends on the mean body, over the shoulders
AROUND = 128  # corners of a ring
RINGS = 72
SLICE = 0.09  # half of the height of the body that a ring goes around
AXIS = 0.3  # z of the rings' middle
WIDEST = 1.3  # the cloth does not reach further over the shoulders
# The opening on the mean head: its middle, and half of its width, height upwards and downwards.
OPENING = (6.98, 0.57, 0.9, 0.74)


def headscarf(person: Person, surface: Surface, rng: np.random.Generator) -> Piece:
    """The cloth in the rest pose.

    Rings around head and neck are the convex hulls of slices of the body, so that the cloth spans
    hollows as a taut cloth does; folds run around them.

    Args:
        person: of whom the colour counts.
        surface: the skin.
        rng: draws bulk and folds.
    """
    shared, points = topology(), surface.points
    body = np.abs(points[:, 0]) < 1.6
    top = float(points[:, 1].max())
    share = np.linspace(0, 1, RINGS)
    # Rings are denser near the crown, which is flat.
    heights = LOW + (top - 0.01 - LOW) * np.sin(share * np.pi / 2) ** 1.15
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    ways = np.stack([np.sin(angle), np.cos(angle)], 1)
    reach = np.stack([_reach(points[body], height, ways) for height in heights])
    reach = np.minimum(reach, WIDEST)
    for _ in range(40):  # as taut along the rings' columns as along the rings
        inner = (reach[:-2] + reach[2:]) / 2
        reach[1:-1] = np.maximum(reach[1:-1], inner)
    behind = np.clip(-ways[:, 1], 0, 1)
    lift = np.clip((heights - 6.6) / 1.0, 0, 1)[:, None]
    bulk = rng.uniform(0.0, 0.16)  # of the hair below
    loose = 0.07 + 0.05 * (1 - lift) + lift * (0.03 + bulk * behind)
    reach = reach + loose + _folds(rng, angle, heights)
    rows = [
        np.stack([r * ways[:, 0], np.full(AROUND, h), AXIS + r * ways[:, 1]], 1)
        for r, h in zip(reach, heights, strict=True)
    ]
    rows[-1] = rows[-1] + np.array([0, 0.08, 0])
    crown = rows[-1].mean(0) + np.array([0, 0.02, 0])
    rows.append(np.tile(crown, (AROUND, 1)))
    mesh, faces = loft(rows, closed=True)
    # Where a place is on the mean body, and how far it turns with the head, its skin says.
    near, at = cKDTree(points).query(mesh, k=12)
    weight = 1 / (near + 0.02)
    weight /= weight.sum(1, keepdims=True)
    rest = np.einsum("nk,nkc->nc", weight, shared.rest[at])
    follows = (weight * shared.follows[at]).sum(1)
    field = _outside(rest, mesh[:, 2])
    # The edge of the opening lies on the face.
    skin = np.einsum("nk,nkc->nc", weight, (points + 0.035 * surface.normals)[at])
    front = np.clip((mesh[:, 2] - 0.1) / 0.4, 0, 1)
    hug = (front * np.exp(-((np.clip(field, 0, None) / 0.22) ** 2)))[:, None]
    mesh = (mesh + hug * (skin - mesh)).astype(np.float32)
    hem = np.exp(-(((field - 0.03) / 0.03) ** 2))
    tint = np.tile(np.array(person.wear.hat_colour), (len(mesh), 1))
    tint = np.clip(tint * (1 - 0.2 * hem[:, None]), 0.004, 0.9)
    carry = np.concatenate([tint, follows[:, None]], 1).astype(np.float32)
    kept, corners, carried = cut(mesh, faces, field.astype(np.float32), carry)
    return Piece(kept, corners[:, ::-1].copy(), carried[:, :3], carried[:, 3])


def _reach(points: Floats, height: float, ways: Floats) -> Floats:
    """(N,) distance from the axis to the convex hull of a slice of the body in N directions."""
    near = points[np.abs(points[:, 1] - height) < SLICE]
    flat = near[:, [0, 2]] - np.array([0, AXIS])
    flat = flat[np.hypot(flat[:, 0], flat[:, 1]) < WIDEST + 0.3]
    if len(flat) < 3:
        return np.full(len(ways), 0.05)
    sides = ConvexHull(flat).equations  # a . x + b <= 0 inside
    along = ways @ sides[:, :2].T
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.where(along > 1e-6, -sides[:, 2] / along, np.inf)
    out: Floats = np.clip(far.min(1), 0.02, None)
    return out


def _folds(rng: np.random.Generator, angle: Floats, heights: Floats) -> Floats:
    """(R, N) height of the folds in decimetres: around the head, deeper below the chin."""
    turn, high = angle[None], heights[:, None]
    deep = 0.012 + 0.03 * np.clip((6.7 - high) / 0.8, 0, 1)
    out = np.zeros((len(heights), len(angle)))
    for _ in range(6):
        across, down = rng.integers(1, 5), rng.uniform(5, 16)
        out += rng.uniform(0.3, 1) * np.sin(
            across * turn + down * high + 1.5 * np.cos(turn - rng.uniform(0, 6.3))
        )
    folded: Floats = deep * (np.abs(out) - 1.2) * 0.8
    return folded


def _outside(rest: Floats, depth: Floats) -> Floats:
    """(N,) above 0 outside of the opening for the face, below 0 in it."""
    middle, wide, up, down = OPENING
    y = rest[:, 1] - middle
    high = np.where(y > 0, y / up, y / down)
    radius = np.sqrt((rest[:, 0] / wide) ** 2 + high**2)
    out: Floats = np.where(depth > 0.35, radius - 1, 1.0)
    return out
