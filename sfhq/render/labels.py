"""Exact labels of a model: classes of every pixel, what lies behind coverings, guides.

Classes are CelebAMask-HQ's 19 in the order of BiSeNet's published weights; left and right are the
subject's. A beard is skin; lashes are what they hang over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfhq.render.assets import Floats, Ints
from sfhq.render.bust import topology
from sfhq.render.model import Model
from sfhq.render.raster import coverage, ribbons
from sfhq.render.visibility import barycentric, visible
from sfhq.render.person import Person

CLASSES = (
    *("background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear"),
    *("ear_r", "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat"),
)
ID = {name: i for i, name in enumerate(CLASSES)}
COVERS = ("eye_g", "ear_r", "neck_l", "cloth", "hair", "hat")
OVERSAMPLING = 4
SHARP = 14.0  # how fast a soft field is taken to fall: none matters, the border is where it is 0
SOLIDS = {  # of the solids that are of one class
    "l-eye": "l_eye",
    "r-eye": "r_eye",
    "upper-teeth": "mouth",
    "lower-teeth": "mouth",
    "tongue": "mouth",
}
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Labels:
    """What a picture shows.

    Attributes:
        classes: (H, W) uint8, the class with the largest share of each pixel.
        shares: (19, H, W) share of each pixel that a class has; they sum to 1.
        bare: (H, W) uint8, the classes if nothing of `COVERS` were there.
        covers: (H, W) uint8, bit i says that `COVERS[i]` would be seen here if it alone
            covered the body.
        albedo: (H, W, 3) mean linear colour of the surfaces.
        normals: (H, W, 3) mean unit normal of the surfaces, z towards the camera; 0 where
            nothing is.
        depth: (H k, W k) decimetres to what is seen by each sample, inf where nothing is.
        samples: (H k, W k) uint8 class of each sample.
    """

    classes: Bytes
    shares: Floats
    bare: Bytes
    covers: Bytes
    albedo: Floats
    normals: Floats
    depth: Floats
    samples: Bytes


def skin_scores(model: Model) -> tuple[Floats, Ints]:
    """(F, C) fields that are above 0 inside a class and below outside, and the C classes' ids."""
    shared = topology()
    f, x = shared.fields, shared.rest[:, 0]
    left, right = np.clip(0.5 + 20 * x, 0, 1), np.clip(0.5 - 20 * x, 0, 1)
    brows = model.densities["brows"]
    scalp = model.densities["scalp"] * (model.person.hair.style != "bald")
    table = {
        "hair": scalp,
        "l_brow": np.minimum(brows, left),
        "r_brow": np.minimum(brows, right),
        "l_ear": np.minimum(f["ears"], left),
        "r_ear": np.minimum(f["ears"], right),
        "nose": f["nose"],
        "mouth": f["mouth"] * (f["mouth"] > f["lips"]),
        "u_lip": f["upper-lip"],
        "l_lip": f["lower-lip"],
        "neck": f["neck"],
    }
    scores = np.stack([v - 0.5 for v in table.values()], 1).astype(np.float32)
    return scores, np.array([ID[n] for n in table], np.int32)


def class_of_solid(name: str) -> int:
    """Class of a solid that is of one class, by its name; -1 for skin.

    The name's first word tells: "frame-left" is of `eye_g`.
    """
    if name == "skin":
        return -1
    from sfhq.render.wear import CLASS_OF

    known = SOLIDS.get(name) or CLASS_OF[name.split("-")[0]]
    return ID[known]


def read(model: Model, size: int, oversampling: int = OVERSAMPLING) -> Labels:
    """Labels of a picture of `size` pixels, from `oversampling` squared samples a pixel."""
    grid = size * oversampling
    points, faces, classes, colours, normals = _gather(model, grid)
    cover_of = np.zeros(len(CLASSES) + 1, np.int32)
    for i, name in enumerate(COVERS):
        cover_of[ID[name]] = i + 1
    group = cover_of[classes]
    seen, depth = visible(points, faces, group, len(COVERS) + 1, grid, grid)
    body, covers = seen[0], seen[1:]
    nearest = depth.argmin(0)
    samples = np.arange(grid * grid)
    best, best_depth = seen[nearest, samples], depth[nearest, samples]
    bare_ids = _classify(model, points, faces, classes, body, grid)
    full_ids = np.where(nearest == 0, bare_ids, classes[best]).astype(np.uint8)
    full_ids[~np.isfinite(best_depth)] = 0
    shape = (grid, grid)
    shares, most = coverage(full_ids.reshape(shape), len(CLASSES), oversampling)
    _, bare = coverage(bare_ids.reshape(shape), len(CLASSES), oversampling)
    bits = np.zeros((size, size), np.uint8)
    for i in range(len(COVERS)):
        shown = (covers[i] >= 0) & (depth[i + 1] < depth[0])
        part = shown.reshape(size, oversampling, size, oversampling).mean((1, 3))
        bits |= ((part >= 0.5) << i).astype(np.uint8)
    albedo, normal = _guides(points, faces, colours, normals, best, size, oversampling)
    return Labels(
        classes=most.astype(np.uint8),
        shares=shares,
        bare=bare.astype(np.uint8),
        covers=bits,
        albedo=albedo,
        normals=normal,
        depth=best_depth.reshape(shape),
        samples=full_ids.reshape(shape),
    )


def _gather(model: Model, grid: int) -> tuple[Floats, Ints, Ints, Floats, Floats]:
    """All triangles in the grid's frame: points, corners, class (-1 skin), colour, normal.

    The skin comes first, so that its corners are the bust's fine vertices.
    """
    points, faces, classes, colours, normals = [], [], [], [], []
    count = 0
    for solid in model.solids:
        here = model.camera.project(solid.points, grid)
        own = solid.triangles
        if solid.name == "skin":  # a closed surface: only what faces the camera can be seen
            own = own[_faces_camera(here, own)]
        points.append(here)
        faces.append(own + count)
        classes.append(np.full(len(own), class_of_solid(solid.name), np.int32))
        colours.append(solid.colour)
        normals.append(solid.normals)
        count += len(here)
    focal = grid / 2 / np.tan(np.radians(model.camera.fov) / 2)
    for strands, curve in zip(model.strands, model.curves, strict=True):
        if strands.kind == "lash":
            continue
        lines = model.camera.project(curve, grid)
        half = strands.radius * focal / lines[..., 2]
        here, own, owner = ribbons(lines, half)
        of = _strand_class(model.person, strands.kind, curve, model)
        points.append(here.astype(np.float32))
        faces.append(own + count)
        classes.append(of[owner])
        ink = _ink(model.person, strands.tone)[owner[::2].repeat(4)] if len(here) else np.zeros((0, 3))
        colours.append(ink.astype(np.float32))
        normals.append(_strand_normals(curve))
        count += len(here)
    return (
        np.concatenate(points),
        np.concatenate(faces),
        np.concatenate(classes),
        np.concatenate(colours),
        np.concatenate(normals),
    )


def _faces_camera(points: Floats, faces: Ints) -> npt.NDArray[np.bool_]:
    a, b, c = (points[faces[:, i], :2] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    facing: npt.NDArray[np.bool_] = area < 0  # y grows down in pictures
    return facing


def _strand_class(person: Person, kind: str, curve: Floats, model: Model) -> Ints:
    if kind == "brow":
        local = model.strands[[s.kind for s in model.strands].index("brow")].points[:, 0, 0]
        return np.where(local > 0, ID["l_brow"], ID["r_brow"]).astype(np.int32)
    name = {"hair": "hair", "beard": "skin"}[kind]
    return np.full(len(curve), ID[name], np.int32)


def _ink(person: Person, tone: Ints) -> Floats:
    from sfhq.render.skin import hair_ink

    ink = hair_ink(person)
    table = np.stack([ink, np.minimum(1.4 * ink, 0.8), np.full(3, 0.45, np.float32)])
    out: Floats = table[tone]
    return out


def _strand_normals(curve: Floats) -> Floats:
    """Four a segment: across the strand, towards the camera."""
    along = np.diff(curve, axis=1)
    along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
    view = np.array([0.0, 0.0, 1.0])
    out = view - (along @ view)[..., None] * along
    out = out / np.maximum(np.linalg.norm(out, axis=-1, keepdims=True), 1e-9)
    done: Floats = out.reshape(-1, 3).repeat(4, 0).astype(np.float32)
    return done


def _classify(
    model: Model, points: Floats, faces: Ints, classes: Ints, seen: Ints, grid: int
) -> Bytes:
    """(grid * grid,) class of the body's sample; the skin's fields decide within triangles."""
    out = np.where(seen >= 0, classes[seen], 0)
    scores, ids = skin_scores(model)
    at = np.flatnonzero((seen >= 0) & (out < 0))
    corners = faces[seen[at]]
    best = scores.argmax(1)
    vertex = np.where(scores.max(1) > 0, ids[best], ID["skin"])
    a, b, c = (vertex[corners[:, i]] for i in range(3))
    out[at] = a
    mixed = np.flatnonzero((a != b) | (b != c))
    where = at[mixed]
    weights = barycentric(points, faces, seen[where], where, grid)
    blend = np.einsum("nk,nkc->nc", weights, scores[corners[mixed]])
    best = blend.argmax(1)
    top = blend[np.arange(len(best)), best]
    out[where] = np.where(top > 0, ids[best], ID["skin"])
    return out.astype(np.uint8)


def _guides(
    points: Floats,
    faces: Ints,
    colours: Floats,
    normals: Floats,
    seen: Ints,
    size: int,
    k: int,
) -> tuple[Floats, Floats]:
    """Means of colour and normal over two by two of each pixel's samples."""
    grid = size * k
    lines = np.arange(grid).reshape(size, k)[:, [k // 4, k - 1 - k // 4]].ravel()
    cells = (lines[:, None] * grid + lines[None]).ravel()
    tri = seen[cells]
    hit = np.flatnonzero(tri >= 0)
    weights = barycentric(points, faces, tri[hit], cells[hit], grid).astype(np.float32)
    corners = faces[tri[hit]]
    out = []
    for values in (colours, normals):
        full = np.zeros((len(cells), 3), np.float32)
        full[hit] = np.einsum("nk,nkc->nc", weights, values[corners])
        out.append(full.reshape(size, 2, size, 2, 3).mean((1, 3)))
    length = np.linalg.norm(out[1], axis=-1, keepdims=True)
    return out[0], out[1] / np.maximum(length, 1e-6)
