"""Rendered heads as arrays: pictures, and the exact labels of each."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.celeba import ATTRIBUTES as CELEBA
from sfhq.images import write_atomic
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.folders import ART_FOLDER, RENDER_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.photos import read_mask, read_pixels
from sfhq.parts.records import FaceRecord

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
ANGLES = ("yaw", "pitch", "roll", "gaze_yaw", "gaze_pitch")
HATS = {"Beanie": "beanie", "Cap": "cap", "Brimmed_Hat": "brim", "Headscarf": "headscarf"}
LONG = 1.3  # decimetres: hair that is longer reaches the shoulders
SHUT = 0.02  # eye_opening below which eyes are closed
ADULT = 13.0


@dataclass(frozen=True, eq=False)
class Heads:
    """N pictures of rendered heads of side S; a head in an art style gives two pictures.

    Attributes:
        pixels: (N, S, S, 3) uint8 RGB.
        classes: (N, S, S) uint8 ids.
        hair: (N, S, S) uint8, exact share of hair in each pixel times 255.
        points: (N, 110, 2) pixels.
        flags: (N, 110) 0 missing, 1 hidden, 2 visible.
        irises: (N, 2, 2) centres of the irises: the subject's right one, then the left one.
        angles: (N, 5) `ANGLES` in degrees.
        attributes: (N, K) 0 or 1, NaN where a renderer cannot judge.
        years: (N,).
        details: N mappings, the record's `params["details"]`.
        names: N face ids; the two pictures of one head share theirs.
    """

    pixels: Bytes
    classes: Bytes
    hair: Bytes
    points: Floats
    flags: Floats
    irises: Floats
    angles: Floats
    attributes: Floats
    years: Floats
    details: tuple[Mapping[str, Any], ...]
    names: tuple[str, ...]


def load_heads(folder: Path, size: int, kept: Path, styled: bool = True) -> Heads:
    """The heads of a part that `sfhq render` wrote; one that is being rendered may be read, too.

    Args:
        folder: the part.
        size: side that its pictures must have.
        kept: folder of soft hair and irises, which records do not hold; what it lacks is
            computed from the seeds, about a second a head, and written there.
        styled: pictures in art styles as well, beside the photographs.

    Raises:
        UsageError: no such part, or none of rendered heads of this size, or one whose seed does
            not give it again.
    """
    part = Part.open(folder)
    records = [r for r in part.records("render") if r.alive]
    if not records:
        raise UsageError(f"{folder}: holds no rendered head; make some with: sfhq render {folder}")
    if records[0].width != size:
        raise UsageError(
            f"{folder}: heads of {records[0].width} px; wanted {size}: sfhq render --size {size}"
        )
    recipe = part.stage_info("render")["settings"]["recipe"]
    rows: list[tuple[Any, ...]] = []
    for record in records:
        mask = read_mask(part, record, "segmentations")
        hair, irises = exact_extras(record, recipe, mask, kept)
        marks = part.row("render_landmarks", record)
        shown = [RENDER_FOLDER]
        if styled and record.params["style"] != "photo":
            shown.append(ART_FOLDER)
        for name in shown:
            pixels = read_pixels(part, record, name)
            rows.append((pixels, mask, hair, marks, irises, record))
    photos, masks, mattes, placed, eyes, of = (list(column) for column in zip(*rows, strict=True))
    details = tuple(r.params["details"] for r in of)
    points = np.stack(placed).astype(np.float32)
    return Heads(
        pixels=np.stack(photos),
        classes=np.stack(masks),
        hair=np.stack(mattes),
        points=np.ascontiguousarray(points[..., :2]),
        flags=np.ascontiguousarray(points[..., 2]),
        irises=np.stack(eyes),
        angles=np.array([[d[a] for a in ANGLES] for d in details], np.float32),
        attributes=np.stack([known_attributes(r.params) for r in of]),
        years=np.array([d["years"] for d in details], np.float32),
        details=details,
        names=tuple(r.face_id for r in of),
    )


def known_attributes(params: Mapping[str, Any]) -> Floats:
    """(K,) attributes of a rendered head by its record's `params`, in the order of `ATTRIBUTES`."""
    d, told = params["details"], params["attributes"]
    style, bald = d["hair_style"], bool(told["Bald"])
    natural = any(told[f"{c}_Hair"] for c in ("Black", "Blond", "Brown", "Gray"))
    red = d["hair_pheomelanin"] > 2 * d["hair_eumelanin"]
    values: dict[str, bool | None] = {
        **{name: told[name] for name in CELEBA},
        "Sunglasses": d["glasses"] == "sunglasses",
        **{name: d["hat"] == kind for name, kind in HATS.items()},
        "Full_Beard": d["beard"] == "full",
        "Long_Hair": d["hair_length"] > LONG and style != "tied",
        "Curly_Hair": style in ("curly", "afro"),
        "Red_Hair": red and not bald and d["hair_grey"] < 0.5,
        "Dyed_Hair": not natural and not bald,
        "Eyes_Closed": d["eye_opening"] < SHUT,
        "Child": d["years"] < ADULT,
    }
    if values["Red_Hair"]:  # CelebA has no red: the renderer calls it brown or blond
        values["Brown_Hair"] = values["Blond_Hair"] = None
    out = [np.nan if values[n] is None else float(bool(values[n])) for n in ATTRIBUTES]
    return np.array(out, np.float32)


def exact_extras(
    record: FaceRecord, recipe: Mapping[str, Any], mask: Bytes, kept: Path
) -> tuple[Bytes, Floats]:
    """Soft hair (S, S) and irises (2, 2) of a rendered head, kept in a file.

    Args:
        record: of the stage `render`.
        recipe: the recipe in that stage's settings.
        mask: (S, S) classes of its picture, with which what is computed must agree.
        kept: folder of the files.

    Raises:
        IntegrityError: a file there is damaged.
        UsageError: the seed does not give this head.
    """
    path = kept / f"{record.face_id}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as stored:
                return stored["alpha"], stored["irises"]
        except Exception as error:
            raise IntegrityError(
                f"{path}: cannot be read ({type(error).__name__}); delete it to compute it again"
            ) from None
    hair, irises, classes = _computed(record.seed or 0, recipe, mask.shape[0])
    if (classes != mask).any():
        raise UsageError(
            f"{record.face_id}: its seed does not give its picture again: its part was rendered by "
            "another version, or by a recipe whose tables are in another order than in "
            "sfhq/render/people/recipe.py; render it again"
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, alpha=hair, irises=irises)
    kept.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return hair, irises


def _computed(seed: int, recipe: Mapping[str, Any], size: int) -> tuple[Bytes, Floats, Bytes]:
    """Soft hair, irises and classes of the head of a seed."""
    from sfhq.faces.classes import ID
    from sfhq.render.labels.classes import read
    from sfhq.render.people.recipe import check_recipe
    from sfhq.render.people.sampling import person
    from sfhq.render.render import one_thread
    from sfhq.render.scene.model import make

    with one_thread():
        model = make(person(seed, check_recipe(ordered(recipe), "recipe of the part")))
        labels = read(model, size)
    eyes = {s.name: s.points[0] for s in model.solids if s.name in ("l-eye", "r-eye")}
    # The first vertex of an eyeball is where its axis leaves the cornea.
    irises = [model.camera.project(eyes[f"{side}-eye"], size)[:2] - 0.5 for side in "rl"]
    hair = np.rint(labels.shares[ID["hair"]] * 255).astype(np.uint8)
    return hair, np.stack(irises).astype(np.float32), labels.classes


def ordered(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with its tables in the order of the default recipe's.

    A seed draws from a table in its order, and JSON has sorted it.
    """
    from sfhq.render.people.recipe import KNOWN, RenderRecipe

    default = RenderRecipe()
    out = dict(recipe)
    for name, table in recipe.items():
        if isinstance(table, dict):
            usual = [*getattr(default, name), *KNOWN.get(name, ())]
            if name == "age":
                usual = sorted(table, key=lambda band: int(band.partition("-")[0]))
            out[name] = dict(sorted(table.items(), key=lambda item: usual.index(item[0])))
    return out
