"""Hair of the face (brows, lashes, beards), and the densities of all hair of a person."""

from __future__ import annotations

import numpy as np

from sfhq.render.hair.groom import Strands, roots, taper, tones, unit
from sfhq.render.hair.scalp import beard, brow, brow_line, scalp
from sfhq.render.head.assets import PARTS, Floats, base_mesh
from sfhq.render.head.skin import Surface
from sfhq.render.person import Person


def grow_brows(person: Person, surface: Surface, membership: Floats) -> Strands:
    """Strands of both brows.

    Args:
        person: the person.
        surface: the skin.
        membership: (F,) of the brows, from `scalp.brow`.
    """
    rng = np.random.default_rng([person.seed, 5])
    count = int(330 + 520 * person.brows.density)
    place, rest, normal = roots(surface, np.clip(membership - 0.3, 0, 1), count, rng)
    x = np.abs(rest[:, 0])
    side = np.sign(rest[:, 0])
    above = (rest[:, 1] - brow_line(x, person.brows)) / 0.03
    # Inner hairs point up, outer hairs lie along the brow; upper and lower hairs point to its
    # middle line.
    up = np.interp(x, [0.15, 0.25, 0.52], [0.95, 0.4, -0.12]) - 0.45 * np.clip(above, -1, 1)
    lie = unit(
        np.stack([side * (1.2 - np.abs(up)), up, 0 * up], 1) + rng.normal(0, 0.15, rest.shape)
    )
    lie = unit(lie - (lie * normal).sum(1, keepdims=True) * normal)
    length = rng.uniform(0.05, 0.095, count)[:, None, None]
    s = np.linspace(0, 1, 4)[None, :, None]
    rise = 0.016 * np.sin(np.pi * np.clip(s * 0.9, 0, 1))
    points = place[:, None] + length * s * lie[:, None] + rise * normal[:, None]
    return Strands(
        points.astype(np.float32),
        taper(count, 4, 0.0011 + 0.0006 * person.brows.density),
        tones(count, person.hair.grey * 0.5, rng),
        "brow",
    )


def grow_lashes(person: Person, base: Floats) -> Strands:
    """Lashes of both eyes, along the quads of MakeHuman's lashes.

    Args:
        person: the person.
        base: (V, 3) deformed vertices of the base mesh.
    """
    rng = np.random.default_rng([person.seed, 6])
    mesh = base_mesh()
    own = mesh.parts == PARTS.index("lashes")
    quads = mesh.quads[own[mesh.quads].all(1)]
    corners = base[quads]  # (Q, 4, 3)
    # Lashes start at the edge of a quad that is nearer to the eyeball.
    centre = np.stack([base[mesh.parts == PARTS.index(f"{s}-eye")].mean(0) for s in "lr"])
    mine = centre[(corners.mean(1)[:, 0] < 0).astype(int)]
    away = np.linalg.norm(corners - mine[:, None], axis=2)
    edge = away + np.roll(away, -1, 1)
    first = edge.argmin(1)
    in_turn = [
        np.take_along_axis(corners, ((first + k) % 4)[:, None, None], 1)[:, 0] for k in range(4)
    ]
    inner, outer = (in_turn[0], in_turn[1]), (in_turn[3], in_turn[2])
    each = 3 + int(2 * (1 - person.male)) + int(4 * person.make_up.liner)
    u = rng.random((len(quads), each, 1))
    root = inner[0][:, None] * (1 - u) + inner[1][:, None] * u
    tip = outer[0][:, None] * (1 - u) + outer[1][:, None] * u
    reach = (0.45 + 0.2 * (1 - person.male) + 0.35 * person.make_up.liner) * rng.uniform(
        0.8, 1.15, u.shape
    )
    s = np.linspace(0, 1, 4)
    way = (tip - root) * reach
    points = root[..., None, :] + way[..., None, :] * s[:, None]
    points = points.reshape(-1, 4, 3)
    return Strands(
        points.astype(np.float32),
        taper(len(points), 4, 0.0026),
        np.zeros(len(points), np.int32),
        "lash",
    )


def grow_beard(person: Person, surface: Surface, density: Floats) -> Strands | None:
    """Strands of facial hair, or None if there is none.

    Args:
        person: the person.
        surface: the skin.
        density: (F,) from `scalp.beard`.
    """
    kind = person.beard
    if kind.kind == "none" or not (density > 0.2).any():
        return None
    rng = np.random.default_rng([person.seed, 7])
    area = float(density.sum()) / 9000
    most = 5200 if kind.length >= 0.04 else 6500
    count = int(np.clip((1500 + 3800 * kind.density) * min(area * 2.2, 1.0), 200, most))
    place, rest, normal = roots(surface, density, count, rng)
    down = np.array([0.0, -1.0, 0.25]) + np.stack(
        [0.5 * rest[:, 0], 0 * rest[:, 0], 0 * rest[:, 0]], 1
    )
    upper = (rest[:, 1] > 6.66) & (np.abs(rest[:, 0]) < 0.3)
    down = np.where(
        upper[:, None],
        np.stack([1.5 * rest[:, 0], -0.9 + 0 * rest[:, 0], 0.05 + 0 * rest[:, 0]], 1),
        down,
    )
    lie = unit(down - 0.75 * (down * normal).sum(1, keepdims=True) * normal)
    length = kind.length * rng.uniform(0.6, 1.15, count)
    length = np.where(upper, np.minimum(length, 0.055), length)
    chin = np.clip((6.55 - rest[:, 1]) / 0.3, 0, 1)
    length = (length * (0.7 + 0.6 * chin))[:, None, None]
    s = np.linspace(0, 1, 5)[None, :, None]
    short = kind.length < 0.04
    lift = 0.9 if short else 0.45
    bend = unit(
        lift * normal[:, None] * (1 - 0.6 * s)
        + (1.1 - lift) * lie[:, None]
        + 0.2 * rng.normal(0, 1, (count, 1, 3))
    )
    wave = 0.012 * np.sin(9 * s + rng.uniform(0, 6.28, (count, 1, 1))) * (not short)
    points = place[:, None] + length * s * bend + wave * s * rng.normal(0, 1, (count, 1, 3))
    radius = np.where(upper, 0.0036, 0.0028 if short else 0.005)[:, None]
    return Strands(
        points.astype(np.float32),
        taper(count, 5, 1.0) * radius,
        tones(count, kind.grey, rng),
        "beard",
    )


def fields(person: Person) -> dict[str, Floats]:
    """(F,) densities of hair on the skin, under "scalp", "beard" and "brows"; 0 to 1."""
    rng = np.random.default_rng([person.seed, 8])
    return {
        "scalp": scalp(person.hair, rng),
        "beard": beard(person.beard, rng),
        "brows": brow(person.brows),
    }
