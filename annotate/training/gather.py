"""Gathers what the label network is trained on: rendered heads, and photos as teachers see them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np

from annotate.teachers.adapt import Adapter, fit_adapter
from annotate.teachers.mediapipe import Teachers
from annotate.teachers.photos import teach
from annotate.training.heads import Floats, Heads, load_heads
from annotate.training.samples import (
    LEAST_PRESENCE,
    Samples,
    head_samples,
    joined,
    part_of,
    photo_samples,
)
from annotate.training.words import read_words
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic

LEAST_HEADS = 64  # on which the teacher's mesh can be fitted to our points
Say = Callable[[str], None]


def gather(
    heads: Iterable[Path],
    photos: Iterable[Path],
    words: Iterable[Path],
    teachers: Path | None,
    size: int,
    kept: Path,
    say: Say = print,
) -> Samples:
    """All samples; `part_of` tells which are for training.

    Args:
        heads: parts of rendered heads.
        photos: folders of photos, aligned or not.
        words: tables of words about the photos, see `read_words`.
        teachers: folder of the teachers' networks; needed where there are photos.
        size: side of the crops in pixels.
        kept: folder in which the teachers' answers are kept.
        say: takes lines about what was found.

    Raises:
        UsageError: a folder is missing or empty, or photos come without teachers or heads.
    """
    photo_folders = list(photos)
    loaded = [load_heads(folder, size, kept / f"{folder.resolve().name}-exact") for folder in heads]
    for part in loaded:
        say(f"{len(set(part.names))} heads, {len(part.names)} pictures of them")
    lots = [head_samples(part) for part in loaded]
    if photo_folders:
        if teachers is None:
            raise UsageError("photos need teachers; give --teachers, the folder of their networks")
        folder = teachers

        @cache
        def networks() -> Teachers:
            return Teachers(folder)

        adapter = _adapter(loaded, networks, kept)
        say(
            "the teacher's points are off by "
            f"{100 * float(np.median(adapter.point_error)):.1f} % of the eye distance, "
            "its angles by "
            + ", ".join(f"{e:.1f}" for e in adapter.angle_error)
            + " degrees (yaw, pitch, roll, gaze)"
        )
        told = {name: text for table in words for name, text in read_words(table).items()}
        for source in photo_folders:
            taught = teach(source, size, networks, kept / f"{source.resolve().name}.npz", say)
            lots.append(photo_samples(taught, told, adapter))
    if not lots:
        raise UsageError("nothing to train on; wanted rendered heads: sfhq render heads")
    return joined(lots)


def _adapter(loaded: list[Heads], networks: Callable[[], Teachers], kept: Path) -> Adapter:
    found = []
    for part in loaded:
        mesh, presence = _mesh(part, networks, kept)
        sure = presence > LEAST_PRESENCE
        sure &= np.array([part_of(name) == "train" for name in part.names])
        points = np.concatenate([part.points, part.irises], 1)
        found.append((mesh[sure], points[sure].astype(np.float64), part.angles[sure]))
    count = sum(len(mesh) for mesh, _, _ in found)
    if count < LEAST_HEADS:
        raise UsageError(
            f"the teachers see a face in {count} heads; wanted {LEAST_HEADS} or more, to fit their "
            "points to ours: sfhq render heads --count 500"
        )
    mesh, points, angles = (np.concatenate(column) for column in zip(*found, strict=True))
    return fit_adapter(mesh, points, angles.astype(np.float64))


def _mesh(part: Heads, networks: Callable[[], Teachers], kept: Path) -> tuple[Floats, Floats]:
    """The teacher's points on each picture, and how sure it is; kept by face in one file."""
    path = kept / f"mesh-{part.names[0]}.npz"
    known: dict[str, tuple[Floats, float]] = {}
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as stored:
                rows = zip(stored["keys"].tolist(), stored["mesh"], stored["presence"], strict=True)
                known = {key: (mesh, float(sure)) for key, mesh, sure in rows}
        except Exception as error:
            raise IntegrityError(
                f"{path}: cannot be read ({type(error).__name__}); delete it to ask again"
            ) from None
    keys: list[str] = []
    before = len(known)
    for name, pixels in zip(part.names, part.pixels, strict=True):
        keys.append(f"{name} art" if keys and keys[-1] == f"{name} photo" else f"{name} photo")
        if keys[-1] not in known:
            seen = networks().mesh(pixels)
            if seen is None:
                known[keys[-1]] = (np.zeros((478, 3), np.float32), 0.0)
            else:
                known[keys[-1]] = (seen.points.astype(np.float32), seen.presence)
    mesh = np.stack([known[key][0] for key in keys])
    presence = np.array([known[key][1] for key in keys], np.float32)
    if len(known) > before:
        buffer = io.BytesIO()
        np.savez(buffer, keys=np.array(keys), mesh=mesh, presence=presence)
        kept.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
    return mesh, presence
