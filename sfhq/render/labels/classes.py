"""Exact labels of a model: the class of every pixel, the class behind coverings, and guides.

Classes are CelebAMask-HQ's 19 in the order of BiSeNet's published weights; left and right are the
subject's. A beard has the class skin; lashes have the class of what is behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfhq.faces.classes import CLASSES as CLASSES
from sfhq.faces.classes import ID as ID
from sfhq.render.hair.groom import Strands
from sfhq.render.head.assets import Floats, Ints
from sfhq.render.head.bust import topology
from sfhq.render.head.skin import hair_ink
from sfhq.render.person import Person
from sfhq.render.raster.ribbons import ribbons
from sfhq.render.raster.triangles import coverage
from sfhq.render.raster.visibility import barycentric, visible
from sfhq.render.scene.model import Model

COVERS = ("eye_g", "ear_r", "neck_l", "cloth", "hair", "hat")
OVERSAMPLING = 4
COVER_OF = np.zeros(len(CLASSES) + 1, np.int32)  # class -> 0 for the body, else 1 + index in COVERS
COVER_OF[[ID[n] for n in COVERS]] = np.arange(1, len(COVERS) + 1)
SOLIDS = {  # name of a solid -> its class
    "l-eye": "l_eye",
    "r-eye": "r_eye",
    "upper-teeth": "mouth",
    "lower-teeth": "mouth",
    "tongue": "mouth",
}
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Labels:
    """Labels of each pixel of a picture; each pixel has k x k samples.

    Attributes:
        classes: (H, W) uint8, the class with the largest share of the pixel.
        shares: (19, H, W) the share of each class in the pixel; they sum to 1.
        bare: (H, W) uint8, the class without all of `COVERS`.
        covers: (H, W) uint8; bit i is set if `COVERS[i]` would be visible here if it were the only
            cover.
        solid, hairy: (H, W) shares of surfaces and of strands; the rest is background.
        albedo: (2, H, W, 3) mean linear colour of the surfaces and of the strands.
        normals: (H, W, 3) mean unit normal, z towards the camera; 0 in the background.
        depth: (H k, W k) depth of each sample in decimetres, inf in the background.
        samples: (H k, W k) uint8 class of each sample.
    """

    classes: Bytes
    shares: Floats
    bare: Bytes
    covers: Bytes
    solid: Floats
    hairy: Floats
    albedo: Floats
    normals: Floats
    depth: Floats
    samples: Bytes

    def near_depth(self) -> Floats:
        """(H, W) smallest depth of each pixel's samples in decimetres, inf in the background."""
        size = self.classes.shape[0]
        k = self.depth.shape[0] // size
        out: Floats = self.depth.reshape(size, k, size, k).min((1, 3))
        return out


def skin_scores(model: Model) -> tuple[Floats, Ints]:
    """(F, C) fields that are above 0 inside a class and below 0 outside, and the ids (C,).

    Only the sign of a field matters: the border is where it is 0.
    """
    shared = topology()
    f, x = shared.fields, shared.rest[:, 0] * (-1 if model.flipped else 1)
    left, right = np.clip(0.5 + 20 * x, 0, 1), np.clip(0.5 - 20 * x, 0, 1)
    brows = model.densities["brows"]
    table = {
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
    """The class of a solid by the first word of its name: "frame-left" has `eye_g`.

    Returns:
        The class id; -1 for skin, which has several classes.
    """
    if name == "skin":
        return -1
    from sfhq.render.wear.items import CLASS_OF

    known = SOLIDS.get(name) or CLASS_OF[name.split("-")[0]]
    return ID[known]


def read(model: Model, size: int, oversampling: int = OVERSAMPLING) -> Labels:
    """Compute the labels of a picture.

    Args:
        model: the person.
        size: side of the picture in pixels.
        oversampling: samples along a pixel's side; 4 gives 16 samples per pixel.
    """
    grid = size * oversampling
    points, faces, classes, colours, normals, clear, first = _gather(model, grid)
    group = COVER_OF[classes]
    group[clear[0] : clear[1]] = len(COVERS) + 1  # clear lenses: glasses that hide nothing
    present = np.union1d([0], group)
    seen, depth = visible(
        points, faces, np.searchsorted(present, group).astype(np.int32), len(present), grid, grid
    )
    bare_ids, grown = _classify(model, points, faces, classes, seen[0], grid)
    full_ids = np.where(grown, np.uint8(ID["hair"]), bare_ids)
    shown, nearest = seen[0].copy(), depth[0].copy()
    over = {"hair": grown}  # name of a cover -> samples in which it is in front of the body
    for row, number in enumerate(present.tolist()):
        if row == 0:
            continue
        before = depth[row] < nearest
        glass = number > len(COVERS)
        name = "eye_g" if glass else COVERS[number - 1]
        full_ids[before] = ID[name]
        if not glass:  # colour and normal behind clear lenses stay visible
            shown[before] = seen[row][before]
            nearest[before] = depth[row][before]
        over[name] = over.get(name, False) | (depth[row] < depth[0])
    bits = np.zeros((size, size), np.uint8)
    for name, samples in over.items():
        part = _share(samples, size, oversampling) >= 0.5
        bits |= (part << COVERS.index(name)).astype(np.uint8)
    shape = (grid, grid)
    shares, most = coverage(full_ids.reshape(shape), len(CLASSES), oversampling)
    _, bare = coverage(bare_ids.reshape(shape), len(CLASSES), oversampling)
    strand = shown >= first
    albedo, normal = _guides(
        points,
        faces,
        colours=colours,
        normals=normals,
        seen=shown,
        strand=strand,
        size=size,
        k=oversampling,
    )
    hairy = _share(strand, size, oversampling)
    return Labels(
        classes=most.astype(np.uint8),
        shares=shares,
        bare=bare.astype(np.uint8),
        covers=bits,
        solid=_share(shown >= 0, size, oversampling) - hairy,
        hairy=hairy,
        albedo=albedo,
        normals=normal,
        depth=nearest.reshape(shape),
        samples=full_ids.reshape(shape),
    )


def _gather(
    model: Model, grid: int
) -> tuple[Floats, Ints, Ints, Floats, Floats, tuple[int, int], int]:
    """All triangles of the model, projected to the grid.

    The skin comes first, so that its corners are the bust's fine vertices. The colour of strands
    is their brightness relative to the mean strand.

    Returns:
        Points, corners, classes (-1 for skin), colours and normals; then the range of clear
        triangles (start, stop), and the index of the first triangle of a strand.
    """
    points: list[Floats] = []
    faces: list[Ints] = []
    classes: list[Ints] = []
    colours: list[Floats] = []
    normals: list[Floats] = []
    count = 0
    clear = [0, 0]
    ordered = sorted(model.solids, key=lambda s: 2 * (s.material == "clear") + (s.name != "skin"))
    for solid in ordered:
        here = model.camera.project(solid.points, grid)
        own = solid.triangles
        if solid.name == "skin":  # a closed surface: only front faces are visible
            own = own[_faces_camera(here, own)]
        if solid.material == "clear":
            start = sum(len(f) for f in faces)
            clear = [clear[0] or start, start + len(own)]
        points.append(here)
        faces.append(own + count)
        classes.append(np.full(len(own), class_of_solid(solid.name), np.int32))
        colours.append(solid.colour)
        normals.append(solid.normals)
        count += len(here)
    first = sum(len(f) for f in faces)
    focal = grid / 2 / np.tan(np.radians(model.camera.fov) / 2)
    for strands, curve in zip(model.strands, model.curves, strict=True):
        if strands.kind == "lash":
            continue
        lines = model.camera.project(curve, grid)
        half = strands.radius * focal / lines[..., 2]
        here, own, owner = ribbons(lines, half)
        of = _strand_class(model.person, strands.kind, curve, model)
        points.append(here)
        faces.append(own + count)
        classes.append(of[owner])
        colours.append(_detail(model.person, strands))
        normals.append(_strand_normals(curve))
        count += len(here)
    return (
        np.concatenate(points),
        np.concatenate(faces),
        np.concatenate(classes),
        np.concatenate(colours),
        np.concatenate(normals),
        (clear[0], clear[1]),
        first,
    )


def _share(samples: npt.NDArray[np.bool_], size: int, k: int) -> Floats:
    cells = samples.reshape(size, k, size, k)
    out = np.zeros((size, size), np.float32)
    for i, j in np.ndindex(k, k):  # a few sums of long arrays are faster than many of short ones
        out += cells[:, i, :, j]
    return out / k**2


def _faces_camera(points: Floats, faces: Ints) -> npt.NDArray[np.bool_]:
    a, b, c = (np.ascontiguousarray(faces[:, i]) for i in range(3))
    x, y = (np.ascontiguousarray(points[:, i]) for i in range(2))
    area = (x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a])
    facing: npt.NDArray[np.bool_] = area < 0  # y grows down in pictures
    return facing


def _strand_class(person: Person, kind: str, curve: Floats, model: Model) -> Ints:
    if kind == "brow":
        local = model.strands[[s.kind for s in model.strands].index("brow")].points[:, 0, 0]
        return np.where(local > 0, ID["l_brow"], ID["r_brow"]).astype(np.int32)
    name = {"hair": "hair", "beard": "skin"}[kind]
    return np.full(len(curve), ID[name], np.int32)


def _detail(person: Person, strands: Strands) -> Floats:
    """(4 S (K - 1), 3) brightness of each corner of the ribbons, relative to the mean strand.

    Strands differ, and roots are darker. The colour of the pigment is not included; it comes from
    path tracing.
    """
    rng = np.random.default_rng([person.seed, 30])
    mass = float(hair_ink(person).mean())
    table = np.array([0.9, 1.25, float(np.clip(0.3 / (mass + 0.05), 0.9, 3.0))])
    count, steps = strands.points.shape[:2]
    own = np.exp(rng.normal(0, 0.1, count))
    along = np.interp(np.linspace(0, 1, steps - 1), [0, 0.4, 1], [0.72, 1.0, 1.1])
    shade = own[:, None] * table[strands.tone][:, None] * along
    out: Floats = np.repeat(shade.reshape(-1, 1), 4, 0).repeat(3, 1).astype(np.float32)
    return out


def _strand_normals(curve: Floats) -> Floats:
    """Unit normals of ribbons, four per segment: perpendicular to the strand, to the camera."""
    along = np.diff(curve, axis=1)
    along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
    view = np.array([0.0, 0.0, 1.0])
    out = view - (along @ view)[..., None] * along
    out = out / np.maximum(np.linalg.norm(out, axis=-1, keepdims=True), 1e-9)
    done: Floats = out.reshape(-1, 3).repeat(4, 0).astype(np.float32)
    return done


def _classify(
    model: Model, points: Floats, faces: Ints, classes: Ints, seen: Ints, grid: int
) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """(grid * grid,) class of the body at each sample, and True where scalp hair grows on it.

    The fields are interpolated within triangles, so borders do not follow the edges of the mesh.
    """
    out = np.where(seen >= 0, classes[seen], 0)
    scores, ids = skin_scores(model)
    scalp = model.densities["scalp"] * (model.person.hair.style != "bald") - 0.5
    at = np.flatnonzero((seen >= 0) & (out < 0))
    corners = faces[seen[at]]
    best = scores.argmax(1)
    vertex = np.where(scores.max(1) > 0, ids[best], ID["skin"])
    a, b, c = (vertex[corners[:, i]] for i in range(3))
    out[at] = a
    p, q, r = (scalp[corners[:, i]] > 0 for i in range(3))
    hair = np.zeros(len(out), bool)
    hair[at] = p
    mixed = np.flatnonzero((a != b) | (b != c) | (p != q) | (q != r))
    where = at[mixed]
    weights = barycentric(points, faces, seen[where], where, grid)
    blend = np.einsum("nk,nkc->nc", weights, scores[corners[mixed]])
    best = blend.argmax(1)
    top = blend[np.arange(len(best)), best]
    out[where] = np.where(top > 0, ids[best], ID["skin"])
    hair[where] = (weights * scalp[corners[mixed]]).sum(1) > 0
    return out.astype(np.uint8), hair


def _guides(
    points: Floats,
    faces: Ints,
    colours: Floats,
    normals: Floats,
    seen: Ints,
    strand: npt.NDArray[np.bool_],
    size: int,
    k: int,
) -> tuple[Floats, Floats]:
    """Mean colours of surfaces and strands, and mean normals, over 2 x 2 samples of each pixel."""
    grid = size * k
    lines = np.arange(grid).reshape(size, k)[:, [k // 4, k - 1 - k // 4]].ravel()
    cells = (lines[:, None] * grid + lines[None]).ravel()
    tri = seen[cells]
    hit = np.flatnonzero(tri >= 0)
    weights = barycentric(points, faces, tri[hit], cells[hit], grid)
    corners = faces[tri[hit]]
    values = np.zeros((len(cells), 8), np.float32)
    hairy = strand[cells[hit]]
    for i in range(3):
        share = weights[:, i : i + 1]
        values[hit, :3] += share * colours[corners[:, i]]
        values[hit, 3:6] += share * normals[corners[:, i]]
    values[hit, 6], values[hit, 7] = ~hairy, hairy

    def mean(v: Floats) -> Floats:
        four = v.reshape(size, 2, size, 2, -1)
        out: Floats = four[:, 0, :, 0] + four[:, 0, :, 1] + four[:, 1, :, 0] + four[:, 1, :, 1]
        return out / 4

    albedo = [
        mean(values[:, :3] * values[:, i : i + 1]) / np.maximum(mean(values[:, i]), 1e-6)
        for i in (6, 7)
    ]
    normal = mean(values[:, 3:6])
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.stack(albedo), normal / np.maximum(length, 1e-6)
