"""A model as a Mitsuba scene, and its linear picture."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sfhq.render.assets import Floats, need
from sfhq.render.light import sphere
from sfhq.render.model import Model, Solid
from sfhq.render.person import Hair

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


def render(model: Model, size: int, samples: int, threads: int = 1) -> Floats:
    """(size, size, 4) linear RGB radiance, premultiplied by coverage, and coverage.

    Args:
        model: what is seen.
        size: side in pixels.
        samples: paths a pixel.
        threads: of Mitsuba; they do not change the picture.
    """
    mi = mitsuba()
    import drjit

    drjit.set_thread_count(threads)
    rng = np.random.default_rng([model.person.seed, 20])
    look = mi.ScalarTransform4f().look_at
    x, y, z = model.camera.at
    tree: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": DEPTH, "hide_emitters": True},
        "light": {"type": "envmap", "bitmap": mi.Bitmap(sphere(model.person.setting, rng))},
        "sensor": {
            "type": "perspective",
            "fov": model.camera.fov,
            "to_world": look([x, y, z], [x, y, z - 1], [0, 1, 0]),
            "film": {
                "type": "hdrfilm",
                "width": size,
                "height": size,
                "pixel_format": "rgba",
                "rfilter": {"type": "box"},
            },
            "sampler": {"type": "independent", "sample_count": samples},
        },
    }
    for solid in model.solids:
        if solid.material == "clear":  # glass without tint: a label, and nothing to see
            continue
        tree[solid.name] = _mesh(solid, model.person.skin.oil)
    with tempfile.TemporaryDirectory() as folder:
        for i, (strands, curve) in enumerate(zip(model.strands, model.curves, strict=True)):
            for tone in np.unique(strands.tone):
                chosen = strands.tone == tone
                path = Path(folder) / f"{i}-{tone}.txt"
                _write_curves(path, curve[chosen], strands.radius[chosen])
                tree[f"strands-{i}-{tone}"] = {
                    "type": "bsplinecurve",
                    "filename": str(path),
                    "bsdf": _hair(model.person.hair, int(tone), strands.kind),
                }
        scene = mi.load_dict(tree, parallel=False)
    image: Floats = np.array(mi.render(scene, seed=model.person.seed & 0x7FFFFFFF))
    return image


def _mesh(solid: Solid, oil: float) -> Any:
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
    count, faces = len(solid.points), len(solid.triangles)
    mesh = mi.Mesh(solid.name, count, faces, props=properties, has_vertex_normals=True)
    mesh.add_attribute("vertex_color", 3, np.ascontiguousarray(solid.colour, np.float32).ravel())
    values = mi.traverse(mesh)
    values["vertex_positions"] = np.ascontiguousarray(solid.points, np.float32).ravel()
    values["vertex_normals"] = np.ascontiguousarray(solid.normals, np.float32).ravel()
    values["faces"] = np.ascontiguousarray(solid.triangles, np.uint32).ravel()
    values.update()
    return mesh


def _write_curves(path: Path, points: Floats, radius: Floats) -> None:
    """Mitsuba's curve format: a control point a line, an empty line between curves."""
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
    darker = 1.35 if kind == "brow" else 1.0
    return {
        "type": "hair",
        "eumelanin": float(hair.eumelanin * share * darker),
        "pheomelanin": float(hair.pheomelanin * share),
        **rough,
    }
