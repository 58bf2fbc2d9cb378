"""Build a smooth mesh of head, neck and shoulders from the numbers of a person.

Lengths are in decimetres. y is up, the face looks along +z, and the subject's left is +x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from sfhq.render.head.assets import (
    AGE_YEARS,
    AGES,
    ANCESTRIES,
    GENDERS,
    LEVELS,
    MASKS,
    PARTS,
    Floats,
    Ints,
    base_mesh,
)
from sfhq.render.head.subdivide import refine, triangles

LEVELS_OF_DETAIL = 2
PIVOT = np.array([0.0, 6.35, 0.25], np.float32)  # the head turns about the top of the spine
EYES = np.array([0.0, 7.3, 1.2], np.float32)  # place of the middle between the eyes
# Lower edge of the jaw in profile, (z, y), on the mean head before any target.
JAW = (
    *((-1.2, 7.0), (0.25, 6.98), (0.5, 6.72), (0.8, 6.42), (1.0, 6.34), (1.15, 6.25)),
    *((1.3, 6.215), (1.6, 6.2)),
)
SHOULDER = 5.75  # height at which the neck ends
# Outline of the nose on the mean head, (y, half of its width), from below the nostrils to its root
# between the eyes.
NOSE = (
    *((6.8, -0.1), (6.815, 0.05), (6.83, 0.12), (6.85, 0.165), (6.88, 0.188), (6.93, 0.193)),
    *((6.97, 0.186), (7.02, 0.16), (7.1, 0.13), (7.2, 0.1), (7.28, 0.082), (7.35, 0.075)),
    *((7.39, 0.065), (7.41, 0.02), (7.43, -0.1)),
)


@dataclass(frozen=True)
class Topology:
    """The mesh data that all busts share.

    Attributes:
        matrix: (F, V) sparse, maps coarse vertices of the body to fine ones.
        coarse: (V,) indices of the body's vertices in the base mesh.
        triangles: (T, 3) indices of fine vertices.
        light: the same surface at three resolutions, for path tracing. The first two are coarser,
            but finer on lids and lips; the last is the finest. Each has the indices (F',) of its
            vertices among the fine ones, and triangles (T', 3) of these.
        rest: (F, 3) fine vertices of the mean adult.
        uv: (F, 2) texture coordinates; interpolated across seams.
        fields: name -> (F,) membership of 0 to 1, 0.5 at the border: "ears", "eyelids", "lips",
            "upper-lip", "lower-lip", "mouth", "nose", "neck", "jaw".
        follows: (F,) share of the head's rotation: 1 on the head, 0 on the shoulders.
    """

    matrix: Any
    coarse: Ints
    triangles: Ints
    light: tuple[tuple[Ints, Ints], ...]
    rest: Floats
    uv: Floats
    fields: Mapping[str, Floats]
    follows: Floats


@dataclass(frozen=True)
class Bust:
    """One person's surface in the rest pose.

    Attributes:
        points: (F, 3) fine vertices of the body.
        normals: (F, 3) unit normals.
        base: (V, 3) all vertices of the base mesh, deformed.
    """

    points: Floats
    normals: Floats
    base: Floats

    def part(self, name: str) -> tuple[Floats, Ints]:
        """Vertices and triangles of another part of the base mesh, subdivided once."""
        used, matrix, faces = _finer_part(name)
        return matrix @ self.base[used], faces


@lru_cache(maxsize=len(PARTS))
def _finer_part(name: str) -> tuple[Ints, Any, Ints]:
    """Indices of a part's vertices in the base mesh, the subdivision matrix, and triangles."""
    mesh = base_mesh()
    chosen = mesh.parts == PARTS.index(name)
    used, quads = _compact(mesh.quads[chosen[mesh.quads].all(1)])
    matrix, fine = refine(quads, len(used), 1)
    return used, matrix, triangles(fine)


def _compact(quads: Ints) -> tuple[Ints, Ints]:
    used = np.unique(quads).astype(np.int32)
    return used, np.searchsorted(used, quads).astype(np.int32)


def age_weights(years: float) -> dict[str, float]:
    """Weights of MakeHuman's four ages; they sum to 1."""
    at = float(np.clip(years, AGE_YEARS[0], AGE_YEARS[-1]))
    i = min(int(np.searchsorted(AGE_YEARS, at, "right")) - 1, len(AGES) - 2)
    t = (at - AGE_YEARS[i]) / (AGE_YEARS[i + 1] - AGE_YEARS[i])
    return {AGES[i]: 1 - t, AGES[i + 1]: t}


def level_weights(value: float) -> dict[str, float]:
    """Weights of "min", "average" and "max" for a value of 0 to 1; they sum to 1."""
    t = float(np.clip(value, 0, 1)) * 2
    return {LEVELS[0]: max(1 - t, 0.0), LEVELS[1]: 1 - abs(t - 1), LEVELS[2]: max(t - 1, 0.0)}


def macro_weights(
    years: float,
    male: float,
    ancestry: Mapping[str, float],
    muscle: float = 0.5,
    weight: float = 0.5,
) -> dict[str, float]:
    """Strengths of the targets for age, gender, ancestry, muscle and weight.

    Args:
        years: age; values outside 1 to 80 count as 1 or 80.
        male: 0 (female) to 1 (male).
        ancestry: shares of "african", "asian", "caucasian"; they are divided by their sum.
        muscle, weight: 0 to 1; 0.5 is the average.
    """
    genders = {GENDERS[0]: 1 - male, GENDERS[1]: male}
    total = sum(ancestry.values())
    out: dict[str, float] = {}
    for (age, a), (gender, g) in product(age_weights(years).items(), genders.items()):
        for name in ANCESTRIES:
            out[f"{name}-{gender}-{age}"] = a * g * ancestry.get(name, 0.0) / total
        for (m, x), (w, y) in product(level_weights(muscle).items(), level_weights(weight).items()):
            out[f"universal-{gender}-{age}-{m}muscle-{w}weight"] = a * g * x * y
    return {k: v for k, v in out.items() if v > 0}


def deform(weights: Mapping[str, float]) -> Floats:
    """(V, 3) vertices of the base mesh with targets at the given strengths.

    The mesh is shifted so that the eyes have the same height and depth for everybody.

    Raises:
        KeyError: `weights` names an unknown target.
    """
    mesh = base_mesh()
    index = [mesh.targets[name] for name in weights]
    strength = np.array(list(weights.values()), np.float32)
    moved: Floats = mesh.points + np.tensordot(strength, mesh.moves[index], 1)
    eyes = (mesh.parts == PARTS.index("l-eye")) | (mesh.parts == PARTS.index("r-eye"))
    moved -= np.array([0, 1, 1], np.float32) * (moved[eyes].mean(0) - EYES)
    return moved


def vertex_normals(points: Floats, faces: Ints) -> Floats:
    """(V, 3) unit normals of vertices, weighted by the area of triangles."""
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    each = np.cross(b - a, c - a)
    out = np.zeros_like(points)
    for axis in range(3):
        weights = np.tile(each[:, axis], 3)
        out[:, axis] = np.bincount(faces.T.ravel(), weights, len(points))
    length = np.linalg.norm(out, axis=1, keepdims=True)
    unit: Floats = (out / np.maximum(length, 1e-12)).astype(np.float32)
    return unit


def _even_masks(points: Floats, masks: Floats) -> Floats:
    """Masks made symmetric; they were painted by hand, and vertices on a seam may lack them."""
    twin = cKDTree(points).query(points * np.array([-1, 1, 1], np.float32))[1]
    out: Floats = np.maximum(masks, masks[twin])
    inside = MASKS.index("inside-mouth")  # the lips' mask has priority
    out[:, inside] = np.minimum(masks[:, inside], masks[twin, inside])
    return out


def skin_normals(points: Floats) -> Floats:
    """(F, 3) unit normals of the fine skin, weighted by the area of quads."""
    a, b, c, d = _quads()
    x, y = points[c] - points[a], points[d] - points[b]
    across = np.empty((len(a), 3), np.float32)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        across[:, i] = x[:, j] * y[:, k] - x[:, k] * y[:, j]
    out = _touching() @ across
    length = np.sqrt(np.einsum("ij,ij->i", out, out))[:, None]
    done: Floats = (out / np.maximum(length, 1e-12)).astype(np.float32)
    return done


def _quads() -> tuple[Ints, Ints, Ints, Ints]:
    """Corners of the fine skin's quads, (Q,) each, from the two triangles of each quad."""
    first, second = np.split(topology().triangles, 2)
    return first[:, 0], first[:, 1], first[:, 2], second[:, 2]


@lru_cache(maxsize=1)
def _touching() -> Any:
    """(F, Q) sparse, 1 where a quad touches a vertex."""
    corners = np.concatenate(_quads())
    count = len(corners) // 4
    return sp.csr_matrix(
        (np.ones(4 * count, np.float32), (corners, np.tile(np.arange(count), 4))),
        (len(topology().rest), count),
    )


@lru_cache(maxsize=1)
def topology() -> Topology:
    """The mesh data that all busts share, computed once."""
    mesh = base_mesh()
    chosen = mesh.parts == 0
    coarse, quads = _compact(mesh.quads[chosen[mesh.quads].all(1)])
    matrix, fine = refine(quads, len(coarse), LEVELS_OF_DETAIL)
    adult = deform(macro_weights(25, 0.5, dict.fromkeys(ANCESTRIES, 1.0)))
    rest: Floats = (matrix @ adult[coarse]).astype(np.float32)
    masks = np.clip(matrix @ _even_masks(mesh.points[coarse], mesh.masks[coarse]), 0, 1)
    fields = {name: masks[:, i].astype(np.float32) for i, name in enumerate(MASKS)}
    fields["mouth"] = fields.pop("inside-mouth")

    drop = np.linalg.norm(mesh.moves[mesh.targets["jawOpen"]][coarse], axis=1)
    jaw: Floats = matrix @ (drop / drop.max()).astype(np.float32)
    # In the middle of the mouth the lower lip is what moves with the jaw; at the corners it is what
    # lies below the seam.
    seam = (fields["lips"] > 0.3) & (fields["mouth"] > 0.3)
    x = np.abs(rest[:, 0])
    bins = np.linspace(0.0, 0.26, 14)
    line = [rest[seam & (np.abs(x - b) < 0.015), 1] for b in bins]
    known = [i for i, y in enumerate(line) if len(y)]
    height = np.interp(x, bins[known], [float(line[i].mean()) for i in known])
    side = np.clip((x - 0.15) / 0.04, 0, 1)
    amid, below = (jaw - 0.52) * 8, (height - rest[:, 1]) / 0.02
    lower = np.clip(amid + side * (below - amid) + 0.5, 0, 1)
    fields["lower-lip"] = np.minimum(fields["lips"], lower)
    fields["upper-lip"] = np.minimum(fields["lips"], 1 - lower)
    fields["jaw"] = jaw
    half = np.interp(rest[:, 1], *np.array(NOSE).T)
    fields["nose"] = np.clip((half - np.abs(rest[:, 0])) / 0.04 + 0.5, 0, 1) * (rest[:, 2] > 1.2)
    below = _jaw_height(rest[:, 2]) - rest[:, 1]
    fields["neck"] = np.clip(below / 0.1 + 0.5, 0, 1) * (fields["mouth"] < 0.5)
    up = (rest[:, 1] - SHOULDER) / np.maximum(_jaw_height(rest[:, 2]) - SHOULDER, 0.1)
    t = np.clip(up, 0, 1)
    follows = np.where(fields["mouth"] > 0.5, 1.0, t * t * (3 - 2 * t))
    return Topology(
        matrix=matrix,
        coarse=coarse,
        triangles=triangles(fine),
        light=(
            _coarser(quads, len(coarse), 0, fields),
            _coarser(quads, len(coarse), 1, fields),
            _compact(triangles(fine)),
        ),
        rest=rest,
        uv=(matrix @ mesh.uv[coarse]).astype(np.float32),
        fields={k: v.astype(np.float32) for k, v in fields.items()},
        follows=follows.astype(np.float32),
    )


def _coarser(
    quads: Ints, vertices: int, level: int, fields: Mapping[str, Floats]
) -> tuple[Ints, Ints]:
    """Vertices and triangles at a level of subdivision; lids and lips have the next level."""
    _, coarse = refine(quads, vertices, level)
    _, fine = refine(quads, vertices, level + 1)
    # The four quads that a quad is divided into have consecutive numbers.
    close = ((fields["eyelids"] > 0.1) | (fields["lips"] > 0.3))[coarse].any(1)
    return _compact(triangles(np.concatenate([fine[np.repeat(close, 4)], coarse[~close]])))


def _jaw_height(z: Floats) -> Floats:
    out: Floats = np.interp(z, [p[0] for p in JAW], [p[1] for p in JAW]).astype(np.float32)
    return out


def build(weights: Mapping[str, float]) -> Bust:
    """A bust with targets at the given strengths.

    Raises:
        KeyError: `weights` names an unknown target.
    """
    shared = topology()
    base = deform(weights)
    points: Floats = (shared.matrix @ base[shared.coarse]).astype(np.float32)
    return Bust(points, skin_normals(points), base)


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """(3, 3) rotation matrix of the head.

    Args:
        yaw: degrees, positive towards the subject's left.
        pitch: degrees, positive up.
        roll: degrees, positive towards the subject's right shoulder.
    """
    y, p, r = np.radians([yaw, -pitch, roll])
    cy, sy, cp, sp, cr, sr = np.cos(y), np.sin(y), np.cos(p), np.sin(p), np.cos(r), np.sin(r)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    out: Floats = (turn @ nod @ tilt).astype(np.float32)
    return out


def turn(points: Floats, follows: Floats | float, matrix: Floats) -> Floats:
    """Rotate points (..., 3) about the neck.

    Args:
        points: (..., 3).
        follows: share of the rotation, 0 to 1: one for all, or one per point.
        matrix: (3, 3) rotation of the head.
    """
    flat = points.reshape(-1, 3)
    moves = flat @ np.ascontiguousarray(matrix.T - np.eye(3, dtype=np.float32))
    away = PIVOT - PIVOT @ matrix.T
    share = np.asarray(follows, np.float32).ravel() if np.ndim(follows) else np.float32(follows)
    out = np.empty(flat.shape, np.float32)
    for i in range(3):
        out[:, i] = flat[:, i] + share * (moves[:, i] + away[i])
    return out.reshape(points.shape)
