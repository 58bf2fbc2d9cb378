"""What a foreign layout is to `import`: names of photos, and what came with each."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from sfhq.errors import IntegrityError
from sfhq.parts.files import MOST_JSON, read_file, why
from sfhq.parts.records import Array, Json, Pixels

MOST_MASK = 64 * 2**20  # bytes of a file
MOST_PIXELS = 64_000_000


@dataclass(frozen=True)
class Came:
    """What came with a photo.

    Attributes:
        text: what is said of it in words.
        seed: the number its randomness came from.
        mask: (H, W) uint8 ids of our classes.
        lost: class of the foreign map that we lack -> pixels of it.
        points: array of ours, or `FOREIGN_POINTS` -> points of the photo.
        features: feature set -> (D,) float32.
        columns: further labels.
    """

    text: str = ""
    seed: int | None = None
    mask: Pixels | None = None
    lost: Mapping[str, int] = field(default_factory=dict)
    points: Mapping[str, Array] = field(default_factory=dict)
    features: Mapping[str, Array] = field(default_factory=dict)
    columns: Mapping[str, Json] = field(default_factory=dict)


class Layout(Protocol):
    """One layout, opened on a folder."""

    @property
    def mark(self) -> str | None:
        """The digital source type of its photos; None where it is not known."""

    def names(self) -> list[str]:
        """The photos, sorted, as paths below the folder."""

    def came(self, name: str) -> Came:
        """What came with a photo.

        Raises:
            IntegrityError: a file is damaged.
        """


def inner(root: Path, name: str) -> Path:
    """The folder of a kind of files; archives of Kaggle nest it in one of the same name."""
    nested = root / name / name
    return nested if nested.is_dir() else root / name


def listed(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Names of the files of some suffixes in a folder, unsorted; none where it is missing."""
    if folder.is_dir():
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.lower().endswith(suffixes) and not entry.name.startswith("."):
                    yield entry.name


def read_classes(path: Path) -> Pixels:
    """(H, W) uint8 values of a map of classes, as greys or places in a palette.

    Raises:
        IntegrityError: no image, or one of colours.
    """
    try:
        data = read_file(path, MOST_MASK)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode not in ("L", "P", "1"):
                raise ValueError(f"its mode is {image.mode}, not one number a pixel")
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            return np.asarray(image.convert("L") if image.mode == "1" else image, np.uint8)
    except Exception as error:
        raise damaged(path, "a map of classes", error) from None


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz; objects are refused.

    Raises:
        IntegrityError: damaged.
    """
    try:
        with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        if any(array.dtype.kind not in "fiub" for array in arrays.values()):
            raise ValueError("it holds other things than numbers")
        return arrays
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise damaged(path, "arrays", error) from None


def read_pickle(path: Path) -> dict[str, Array]:
    """The arrays of a pickled table, read without running anything that is in it.

    Raises:
        IntegrityError: damaged, or it holds something else.
    """
    from stylegan2_ops.foreign.inert import BadCheckpoint, as_tensor
    from stylegan2_ops.foreign.unpickle import Unpickler

    try:
        found = Unpickler(read_file(path, MOST_JSON)).load()
        if not isinstance(found, dict) or not all(isinstance(k, str) for k in found):
            raise ValueError("wanted a table of arrays by name")
        return {name: np.asarray(as_tensor(value).float()) for name, value in found.items()}
    except (OSError, ValueError, BadCheckpoint) as error:
        raise damaged(path, "a pickle of features", error) from None


def damaged(path: Path, what: str, error: Exception) -> IntegrityError:
    """The error of a file that is not what it should be."""
    return IntegrityError(
        f"{path}: cannot be read as {what} ({why(error)}); put a sound file there, or move it away"
    )


def points_of(points: Array, visibility: Array | None, path: Path) -> dict[str, Array]:
    """Points as an array of ours, where their order is known; else by a name that says so.

    Args:
        points: (N, 2 or more) x, y in pixels.
        visibility: (110,) flags, which only our own exports have.
        path: their file, for errors.

    Raises:
        IntegrityError: no points.
    """
    from sfhq.faces.found import POINTS
    from sfhq.faces.points import ARRAY, COUNT
    from sfhq.parts.folders import FOREIGN_POINTS

    if points.ndim != 2 or points.shape[1] < 2 or not len(points) or len(points) > 2000:
        raise damaged(path, "points", ValueError(f"shape {points.shape}; wanted (N, 2)"))
    plain = points[:, :2].astype(np.float32)
    if len(plain) == COUNT and visibility is not None and visibility.shape == (COUNT,):
        whole = np.zeros((COUNT, 5), np.float32)
        whole[:, :2], whole[:, 2] = plain, visibility
        whole[:, 3] = np.nan  # nobody said how far off they may be
        return {ARRAY: whole}
    if len(plain) == 68:
        return {POINTS: plain}
    return {FOREIGN_POINTS: plain}
