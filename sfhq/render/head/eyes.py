"""Eyeballs with sclera, iris, pupil and cornea; teeth and tongue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sfhq.render.head.assets import PARTS, Floats, Ints, base_mesh
from sfhq.render.head.bust import Bust, rotation
from sfhq.render.person import Person

RINGS, SECTORS = 44, 48
IRIS = 0.485  # radius of the iris as a share of the eyeball's: 5.85 mm of 12 mm
PUPIL = 0.2


@dataclass(frozen=True)
class Piece:
    """A mesh with one colour per vertex.

    Attributes:
        points: (V, 3).
        triangles: (T, 3).
        colour: (V, 3) linear RGB.
        follows: (V,) or a number, share of the head's rotation, 0 to 1.
    """

    points: Floats
    triangles: Ints
    colour: Floats
    follows: Floats | float = 1.0


def eyeball(bust: Bust, side: str) -> tuple[Floats, float]:
    """Centre (3,) and radius of an eyeball; `side` is "l" or "r"."""
    mesh = base_mesh()
    points = bust.base[mesh.parts == PARTS.index(f"{side}-eye")]
    low, high = points.min(0), points.max(0)
    radius = float((high - low)[:2].mean() / 2)
    centre = (low + high) / 2
    centre[2] = low[2] + radius
    return centre, radius


def gaze_turn(person: Person) -> Floats:
    """(3, 3) rotation of both eyes relative to the head."""
    return rotation(person.view.gaze_yaw, person.view.gaze_pitch, 0)


def build_eye(person: Person, bust: Bust, side: str) -> Piece:
    """One eyeball with its colours, in the rest pose of the head; `side` is "l" or "r"."""
    centre, radius = eyeball(bust, side)
    rng = np.random.default_rng([person.seed, 2])
    # Rings are closer together over the iris and its rim.
    t = np.linspace(0, 1, RINGS) ** 1.6
    polar = t[:, None] * np.pi * 0.62
    around = np.linspace(0, 2 * np.pi, SECTORS, endpoint=False)[None, :]
    out = np.sin(polar)  # distance from the axis over the radius
    bulge = 0.085 * np.clip(1 - (out / (1.18 * IRIS)) ** 2, 0, 1) * (polar < 1.5)
    x, y = out * np.cos(around), out * np.sin(around)
    z = np.cos(polar) + bulge + 0 * around
    points = np.stack([x, y, z], -1).reshape(-1, 3) * radius
    points = points @ gaze_turn(person).T + centre
    colour = _eye_colour(person, rng, out + 0 * around, around + 0 * out)
    return Piece(points.astype(np.float32), _grid(RINGS, SECTORS), colour)


def _eye_colour(person: Person, rng: np.random.Generator, out: Floats, around: Floats) -> Floats:
    iris = np.array(person.iris)
    fibres = np.zeros_like(out)
    for _ in range(10):
        k, phase = rng.integers(7, 34), rng.uniform(0, 6.28)
        fibres += rng.uniform(0.4, 1) * np.sin(k * around + phase + 3 * out * rng.normal())
    fibres = 1 + 0.09 * fibres
    share = np.clip(out / IRIS, 0, 1)
    inner = np.exp(-(((share - 0.48) / 0.2) ** 2))
    shade = fibres * (1.15 - 0.45 * share**3) + 0.5 * inner
    tone = iris[None, None] * shade[..., None]
    rim = 1 / (1 + np.exp(-(out - 0.92 * IRIS) / 0.012))
    tone = tone * (1 - 0.75 * rim[..., None])
    pupil = 1 / (1 + np.exp((out - PUPIL * 0.92) / 0.012))
    tone = tone * (1 - pupil[..., None]) + 0.002 * pupil[..., None]
    yellow = np.clip((person.years - 30) / 60, 0, 1)
    white = np.array([0.62, 0.55 - 0.03 * yellow, 0.51 - 0.09 * yellow])
    white = white * (1 - 0.16 * np.clip(person.skin.melanin, 0, 1))
    veins = np.clip((out - 0.62) * 1.8, 0, 1)[..., None] * np.array([0.1, 0.35, 0.35])
    sclera = white * (1 - veins)
    edge = 1 / (1 + np.exp(-(out - IRIS) / 0.014))
    colour = tone * (1 - edge[..., None]) + sclera * edge[..., None]
    done: Floats = np.clip(colour, 0.002, 0.9).reshape(-1, 3).astype(np.float32)
    return done


def _grid(rings: int, sectors: int) -> Ints:
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(sectors), indexing="ij")
    a, b = i * sectors + j, i * sectors + (j + 1) % sectors
    c, d = a + sectors, b + sectors
    faces = np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], 2)
    done: Ints = faces.reshape(-1, 3).astype(np.int32)
    return done


@lru_cache(maxsize=1)
def coarse_eye() -> tuple[Ints, Ints]:
    """A coarser eyeball: indices of every second ring and sector, and triangles of these."""
    used = np.arange(RINGS * SECTORS, dtype=np.int32).reshape(RINGS, SECTORS)[::2, ::2]
    return used.ravel(), _grid(*used.shape)


def build_mouth(person: Person, bust: Bust) -> list[Piece]:
    """Upper teeth, lower teeth and tongue, in this order."""
    rng = np.random.default_rng([person.seed, 3])
    white = np.array([0.72, 0.66, 0.55]) * rng.uniform(0.85, 1.05)
    white = white * (1 - np.array([0.0, 0.05, 0.16]) * np.clip((person.years - 30) / 50, 0, 1))
    pieces = []
    for name in ("upper-teeth", "lower-teeth"):
        points, faces = bust.part(name)
        # Gaps between teeth are dark lines at equal steps along the arch.
        x, z = points[:, 0], points[:, 2]
        arc = np.arctan2(x, z - z.min() + 0.12)
        width = 0.235 if name == "upper-teeth" else 0.19
        gap = np.abs((arc / width) % 1 - 0.5) * 2  # 0 in the middle of a tooth, 1 at a gap
        if name == "upper-teeth":  # the middle of the arch is a gap, not a tooth
            gap = np.abs((arc / width + 0.5) % 1 - 0.5) * 2
        depth = np.clip((z - z.min()) / np.ptp(z), 0, 1)
        shade = (1 - 0.45 * np.clip((gap - 0.8) * 5, 0, 1)) * (0.45 + 0.55 * depth)
        colour = white * shade[:, None]
        pieces.append(Piece(points.astype(np.float32), faces, colour.astype(np.float32)))
    points, faces = bust.part("tongue")
    colour = np.tile(np.array([0.32, 0.1, 0.09], np.float32), (len(points), 1))
    pieces.append(Piece(points.astype(np.float32), faces, colour))
    return pieces
