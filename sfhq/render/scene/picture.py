"""A model as a Mitsuba scene, and its linear picture."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sfhq.render.hair.scalp import MIDDLE
from sfhq.render.head.assets import Floats, need
from sfhq.render.head.bust import topology
from sfhq.render.head.eyes import coarse_eye
from sfhq.render.head.meshes import coarsen
from sfhq.render.person import Hair
from sfhq.render.scene.camera import posed
from sfhq.render.scene.light import sphere
from sfhq.render.scene.model import Model, Solid

# Mitsuba's principled material: roughness, specular, metallic, sheen, clearcoat.
MATERIALS = {
    "skin": (0.42, 0.4, 0.0, 0.0, 0.0),
    "eye": (0.12, 0.5, 0.0, 0.0, 1.0),
    "teeth": (0.25, 0.5, 0.0, 0.0, 0.0),
    "cloth": (0.85, 0.2, 0.0, 0.4, 0.0),
    "plastic": (0.25, 0.5, 0.0, 0.0, 0.0),
    "lens": (0.05, 0.8, 0.0, 0.0, 1.0),
    "metal": (0.25, 0.5, 0.9, 0.0, 0.0),
    "felt": (0.95, 0.1, 0.0, 0.6, 0.0),
}
DEPTH = 3
EYES = 4  # times as many samples around the eyes
COARSE = (160, 320)  # pixels up to which light falls on a coarser skin
SOFT = ("cloth", "felt")  # of these light falls on coarser ones, at every size
CELL = 13.0  # how coarse, over the picture's side: four pixels
THIN = 4  # of the strands, one in so many is traced, thicker


@lru_cache(maxsize=1)
def mitsuba() -> Any:
    """The module, set to run on any CPU.

    Raises:
        UsageError: it is missing.
    """
    need("mitsuba")
    import mitsuba as mi

    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    return mi


def render(model: Model, size: int, samples: int) -> tuple[Floats, Floats]:
    """The picture of a model, and where it is steady.

    On one thread, for with more Mitsuba deals other random numbers.

    Args:
        model: what is seen.
        size: side in pixels.
        samples: paths a pixel; the eyes get `EYES` times as many.

    Returns:
        (size, size, 4) linear RGB radiance, premultiplied by coverage, and coverage; and
        (size, size), 1 where the many samples of the eyes make smoothing needless, else 0.
    """
    mi = mitsuba()
    import drjit

    drjit.set_thread_count(1)
    rng = np.random.default_rng([model.person.seed, 20])
    tree: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": DEPTH, "hide_emitters": True},
        "light": {"type": "envmap", "bitmap": mi.Bitmap(sphere(model.person.setting, rng))},
    }
    boxes = [(0, 0, size, size, samples), *_eye_boxes(model, size, samples * EYES)]
    for i, box in enumerate(boxes):
        tree[f"sensor-{i}"] = _sensor(model, size, box)
    for solid in model.solids:
        if solid.material == "clear":  # glass without tint: a label, and nothing to see
            continue
        tree[solid.name] = _mesh(solid, model.person.skin.oil, size)
    with tempfile.TemporaryDirectory() as folder:
        tree.update(_strands(model, Path(folder)))
        scene = mi.load_dict(tree, parallel=False)
    seed = model.person.seed & 0x7FFFFFFF
    image: Floats = np.array(mi.render(scene, sensor=0, seed=seed))
    steady = np.zeros((size, size), np.float32)
    for i, (x, y, width, height, _) in enumerate(boxes[1:], 1):
        part = (slice(y, y + height), slice(x, x + width))
        image[part] = np.array(mi.render(scene, sensor=i, seed=seed + i))
        steady[part] = 1.0
    return image, steady


def _eye_boxes(model: Model, size: int, samples: int) -> list[tuple[int, int, int, int, int]]:
    """Left, top, width, height and samples of the pixels around each eye that is in the picture."""
    boxes = []
    for solid in model.solids:
        if not solid.name.endswith("-eye"):
            continue
        seen = model.camera.project(solid.points[solid.normals[:, 2] > 0.3], size)
        if not len(seen):
            continue
        x, y = seen[:, 0], seen[:, 1]
        left, right = (int(np.clip(v, 0, size)) for v in (x.min() - 1, x.max() + 2))
        middle, half = y.mean(), 0.33 * (x.max() - x.min())
        top, bottom = (int(np.clip(v, 0, size)) for v in (middle - half - 1, middle + half + 2))
        if right - left > 2 and bottom - top > 2:
            boxes.append((left, top, right - left, bottom - top, samples))
    return boxes


def _sensor(model: Model, size: int, box: tuple[int, int, int, int, int]) -> dict[str, Any]:
    x, y, z = model.camera.at
    left, top, width, height, samples = box
    return {
        "type": "perspective",
        "fov": model.camera.fov,
        "to_world": mitsuba().ScalarTransform4f().look_at([x, y, z], [x, y, z - 1], [0, 1, 0]),
        "film": {
            "type": "hdrfilm",
            "width": size,
            "height": size,
            "crop_offset_x": left,
            "crop_offset_y": top,
            "crop_width": width,
            "crop_height": height,
            "pixel_format": "rgba",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "independent", "sample_count": samples},
    }


def _strands(model: Model, folder: Path) -> dict[str, Any]:
    """Curves by kind and tone; Mitsuba reads them from files in `folder`."""
    out: dict[str, Any] = {}
    hidden = posed(MIDDLE[None], 1.0, model.person.view)[0]
    for i, (strands, curve) in enumerate(zip(model.strands, model.curves, strict=True)):
        for tone in np.unique(strands.tone):
            chosen = np.flatnonzero(strands.tone == tone)
            points, radius = curve[chosen], strands.radius[chosen]
            if strands.kind in ("hair", "beard"):  # light needs the mass, not every strand
                points, radius = points[::THIN], radius[::THIN] * THIN**0.5
            if strands.kind == "hair":
                steps = points.shape[1]
                few = np.unique(np.linspace(0, steps - 1, (steps + 4) // 2).astype(int))
                points, radius = points[:, few], radius[:, few]
            path = folder / f"{i}-{tone}.txt"
            _write_curves(path, points, radius, hidden)
            out[f"strands-{i}-{tone}"] = {
                "type": "bsplinecurve",
                "filename": str(path),
                "bsdf": _hair(model.person.hair, int(tone), strands.kind),
            }
    return out


def _mesh(solid: Solid, oil: float, size: int) -> Any:
    mi = mitsuba()
    rough, specular, metallic, sheen, coat = MATERIALS[solid.material]
    if solid.material == "skin":
        rough = 0.56 - 0.2 * oil
    properties = mi.Properties()
    properties["mesh_bsdf"] = mi.load_dict(
        {
            "type": "twosided",
            "inside": {
                "type": "principled",
                "base_color": {"type": "mesh_attribute", "name": "vertex_color"},
                "roughness": rough,
                "specular": specular,
                "metallic": metallic,
                "sheen": sheen,
                "clearcoat": coat,
                "clearcoat_gloss": 0.95,
            },
        }
    )
    points, normals, colour, corners = solid.points, solid.normals, solid.colour, solid.triangles
    fine = int(np.searchsorted(COARSE, size))
    if solid.name == "skin" or (solid.material == "eye" and not fine):
        used, corners = topology().light[fine] if solid.name == "skin" else coarse_eye()
        points, normals, colour = points[used], normals[used], colour[used]
    elif solid.material in SOFT or solid.name == "tongue":
        carry = np.concatenate([normals, colour], 1)
        points, corners, carry = coarsen(points, corners, carry, CELL / size)
        normals, colour = carry[:, :3], carry[:, 3:]
    count, faces = len(points), len(corners)
    mesh = mi.Mesh(solid.name, count, faces, props=properties, has_vertex_normals=True)
    mesh.add_attribute("vertex_color", 3, np.ascontiguousarray(colour, np.float32).ravel())
    values = mi.traverse(mesh)
    values["vertex_positions"] = np.ascontiguousarray(points, np.float32).ravel()
    values["vertex_normals"] = np.ascontiguousarray(normals, np.float32).ravel()
    values["faces"] = np.ascontiguousarray(corners, np.uint32).ravel()
    values.update()
    return mesh


def _write_curves(path: Path, points: Floats, radius: Floats, hidden: Floats) -> None:
    """Mitsuba's curve format: a control point a line, an empty line between curves.

    A hit at the very end of a file's last curve makes Mitsuba 3.9.1 read past its array and crash
    (mended after it, in its pull request 1928), so the last curve is one that no ray can reach.

    Args:
        path: of the file.
        points: (S, K, 3).
        radius: (S, K).
        hidden: (3,) a place inside the head.
    """
    steps = points.shape[1]
    last = hidden + 1e-3 * np.linspace(0, 1, steps)[:, None] * np.array([0.0, 1.0, 0.0])
    points = np.concatenate([points, last[None]])
    radius = np.concatenate([radius, np.full((1, steps), 1e-4)])
    table = np.concatenate([points, radius[..., None]], 2)
    # A cubic B-spline stops short of its ends: they are doubled.
    table = np.concatenate([table[:, :1], table, table[:, -1:]], 1)
    line = "%.4f %.4f %.4f %.4f\n" * table.shape[1] + "\n"
    path.write_text(line * len(table) % tuple(table.ravel().tolist()))


def _hair(hair: Hair, tone: int, kind: str) -> dict[str, Any]:
    """The material of strands: Chiang et al. 2016, by pigment or by the colour of a dye."""
    rough = {"longitudinal_roughness": 0.3, "azimuthal_roughness": 0.35}
    share = (1.0, 0.7, 1.0)[tone]
    if kind == "lash":
        return {"type": "hair", "eumelanin": max(1.5, hair.eumelanin), "pheomelanin": 0.1, **rough}
    if tone == 2:
        return {"type": "hair", "eumelanin": 0.05, "pheomelanin": 0.02, **rough}
    if hair.dye is not None and kind == "hair":
        b = rough["azimuthal_roughness"]
        width = 5.969 - 0.215 * b + 2.532 * b**2 - 10.73 * b**3 + 5.574 * b**4 + 0.245 * b**5
        absorbed = (np.log(np.clip(hair.dye, 0.01, 0.95)) / width) ** 2 * share
        return {"type": "hair", "sigma_a": {"type": "rgb", "value": absorbed.tolist()}, **rough}
    paler = 0.7 if kind == "brow" else 1.0
    return {
        "type": "hair",
        "eumelanin": float(hair.eumelanin * share * paler),
        "pheomelanin": float(hair.pheomelanin * share),
        **rough,
    }
