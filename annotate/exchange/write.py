"""Write the labels of a part into a folder, in the format of another program."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from annotate.exchange.coco import to_coco
from annotate.exchange.faces import Labelled, labelled
from annotate.exchange.label_studio import CONFIG, to_tasks
from annotate.exchange.pts import to_pts
from sfhq.errors import UsageError
from sfhq.export.face_files import npz
from sfhq.faces.classes import CLASSES
from sfhq.images import CLASS_COLOURS, encode_image, write_atomic
from sfhq.parts.part import Part

Format = Literal["coco", "pts", "npz", "label-studio", "cvat"]
FORMATS: tuple[Format, ...] = ("coco", "pts", "npz", "label-studio", "cvat")
MARK = "annotations.json"  # says which export a folder holds


def export_annotations(
    part: Part,
    target: Path,
    file_format: Format,
    *,
    points: Literal[68, 110] = 110,
    images: bool = True,
) -> int:
    """Write the labels of a part.

    "coco" writes annotations.coco.json; "pts" <name>.pts with 68 points; "npz" <name>.npz with the
    array `landmarks`, (68 or 110, 2), and of 110 `visibility`; "label-studio" tasks.json and
    config.xml; "cvat" the folders of CVAT's "Segmentation mask 1.1", which are those of Pascal VOC.

    Args:
        part: with labels.
        target: a folder that is new, empty, or holds an export of the same format.
        file_format: one of `FORMATS`.
        points: how many of "npz".
        images: also write the photos, as PNG.

    Returns:
        The number of photos with labels.

    Raises:
        UsageError: no labels, or something else lies in the target.
        MissingExtra: "coco" without pycocotools.
        IntegrityError: something in the part is damaged.
    """
    faces = list(labelled(part))
    _claim(target, file_format)
    folder = {"cvat": "JPEGImages"}.get(file_format, "images")
    for face in faces if images else ():
        _write(target / folder / f"{face.name}.png", face.png())
    writers: dict[str, Callable[[], None]] = {
        "coco": lambda: _json(target / "annotations.coco.json", to_coco(faces, folder)),
        "pts": lambda: _pts(faces, target),
        "npz": lambda: _npz(faces, target, points),
        "label-studio": lambda: _studio(faces, target),
        "cvat": lambda: _cvat(faces, target),
    }
    writers[file_format]()
    return len(faces)


def _claim(target: Path, file_format: Format) -> None:
    mark = target / MARK
    if target.is_dir() and any(target.iterdir()):
        try:
            said = json.loads(mark.read_bytes())["format"]
        except (OSError, ValueError, KeyError, TypeError):
            said = "something else"
        if said != file_format:
            raise UsageError(f"{target}: holds {said}; give a new folder")
    elif target.exists() and not target.is_dir():
        raise UsageError(f"{target}: a file; give a folder")
    target.mkdir(parents=True, exist_ok=True)
    _json(mark, {"format": file_format})


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)


def _json(path: Path, value: object) -> None:
    _write(path, (json.dumps(value, sort_keys=True) + "\n").encode())


def _pts(faces: list[Labelled], target: Path) -> None:
    for face in faces:
        rows = face.points
        if rows is not None:
            _write(target / f"{face.name}.pts", to_pts(rows[:68, :2]).encode())


def _npz(faces: list[Labelled], target: Path, points: int) -> None:
    for face in faces:
        rows = face.points
        if rows is None:
            continue
        arrays = {"landmarks": rows[:points, :2].astype(np.float32)}
        if points == 110:
            arrays["visibility"] = rows[:, 2].astype(np.uint8)
        _write(target / f"{face.name}.npz", npz(arrays))


def _studio(faces: list[Labelled], target: Path) -> None:
    _json(target / "tasks.json", to_tasks(faces))
    _write(target / "config.xml", CONFIG.encode())


def _cvat(faces: list[Labelled], target: Path) -> None:
    lines = ["# label:color_rgb:parts:actions"]
    lines += [
        f"{name}:{r},{g},{b}::" for name, (r, g, b) in zip(CLASSES, CLASS_COLOURS, strict=True)
    ]
    _write(target / "labelmap.txt", ("\n".join(lines) + "\n").encode())
    names = []
    for face in faces:
        mask = face.mask
        if mask is not None:
            names.append(face.name)
            data = encode_image(mask, "PNG", None)
            _write(target / "SegmentationClass" / f"{face.name}.png", data)
    _write(target / "ImageSets" / "Segmentation" / "default.txt", "\n".join([*names, ""]).encode())
