"""Turn a model into a Mitsuba scene and render its linear picture."""

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
DEPTH = 3  # longest path
EYES = 4  # factor on the samples around the eyes
COARSE = (160, 320)  # largest sides in pixels for the coarsest and the next skin mesh
SOFT = ("cloth", "felt")  # materials whose meshes are coarsened at every size
CELL = 13.0  # cell for coarsening times the picture's side; a cell is four pixels
THIN = 4  # one in this many strands is traced, thicker


@lru_cache(maxsize=1)
def mitsuba() -> Any:
    """The module `mitsuba` in its variant for any CPU.

    Raises:
        UsageError: Mitsuba is not installed.
    """
    need("mitsuba")
    import mitsuba as mi

    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    return mi


def render(model: Model, size: int, samples: int) -> tuple[Floats, Floats]:
    """Render the picture of a model by path tracing.

    It uses one thread, because with more threads Mitsuba draws other random numbers.

    Args:
        model: the posed person.
        size: side of the picture in pixels.
        samples: paths per pixel; pixels around the eyes get `EYES` times as many.

    Returns:
        (size, size, 4), linear RGB radiance premultiplied by coverage, and coverage; and
        (size, size), 1 around the eyes, where no smoothing is needed, else 0.

    Raises:
        UsageError: Mitsuba is not installed.
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
        if solid.material == "clear":  # clear glass has a label but is invisible
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
    """Left, top, width, height and samples of the pixels around each eye in the picture."""
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
    """Curves of all strands by kind and tone; Mitsuba reads them from files in `folder`."""
    out: dict[str, Any] = {}
    hidden = posed(MIDDLE[None], 1.0, model.person.view)[0]
    for i, (strands, curve) in enumerate(zip(model.strands, model.curves, strict=True)):
        for tone in np.unique(strands.tone):
            chosen = np.flatnonzero(strands.tone == tone)
            points, radius = curve[chosen], strands.radius[chosen]
            if strands.kind in ("hair", "beard"):  # light does not need every single strand
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
    """Write curves in Mitsuba's format: one control point per line, an empty line between curves.

    A hit at the end of the last curve of a file makes Mitsuba 3.9.1 read past its array and crash;
    its pull request 1928 fixed that later. So a last curve is added that no ray can reach.

    Args:
        path: the file to write.
        points: (S, K, 3).
        radius: (S, K).
        hidden: (3,) a place inside the head.
    """
    steps = points.shape[1]
    last = hidden + 1e-3 * np.linspace(0, 1, steps)[:, None] * np.array([0.0, 1.0, 0.0])
    points = np.concatenate([points, last[None]])
    radius = np.concatenate([radius, np.full((1, steps), 1e-4)])
    table = np.concatenate([points, radius[..., None]], 2)
    # A cubic B-spline does not reach its end points, so they are doubled.
    table = np.concatenate([table[:, :1], table, table[:, -1:]], 1)
    line = "%.4f %.4f %.4f %.4f\n" * table.shape[1] + "\n"
    path.write_text(line * len(table) % tuple(table.ravel().tolist()))


def _hair(hair: Hair, tone: int, kind: str) -> dict[str, Any]:
    """Mitsuba's hair material (Chiang et al. 2016), by pigment or by the colour of a dye."""
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
