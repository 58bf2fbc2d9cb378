"""Layouts of SFHQ: the released parts, which `sfhq export` writes as well, and SFHQ-T2I."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sfhq.faces.classes import CLASSES
from sfhq.formats import suffixes
from sfhq.images import TRAINED
from sfhq.imports.foreign import (
    Came,
    damaged,
    inner,
    listed,
    points_of,
    read_classes,
    read_npz,
    read_pickle,
)
from sfhq.imports.sheets import read_sheet
from sfhq.parts.records import Array, Json

STEM = re.compile(r"SFHQ_pt\d+_\d{8}")
BESIDE = ("landmarks", "segmentations", "pretrained_features")
PROMPTS = ("image_filename", "text_prompt")  # columns of SFHQ-T2I


class Released:
    """images/ or images/images/, and beside it landmarks, maps of classes and features.

    The order of the 110 published points is written nowhere, so they do not pass for ours; points
    that come with `visibility` are of our own export, and their order is known.
    """

    mark = TRAINED

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = inner(root, "images")
        self._beside = {name: inner(root, name) for name in BESIDE}

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether a folder has this layout."""
        if any((root / name).is_dir() for name in BESIDE) and (root / "images").is_dir():
            return True
        first = next(listed(inner(root, "images"), suffixes()), "")
        return bool(STEM.fullmatch(first.rsplit(".", 1)[0]))

    def names(self) -> list[str]:
        """The photos; samples beside them are copies and do not count."""
        below = self._folder.relative_to(self.root).as_posix()
        return sorted(f"{below}/{name}" for name in listed(self._folder, suffixes()))

    def came(self, name: str) -> Came:
        """Points, map of classes and features by the same stem."""
        stem = Path(name).stem
        points: dict[str, Array] = {}
        path = self._beside["landmarks"] / f"{stem}.npz"
        if path.is_file():
            found = read_npz(path)
            if "landmarks" not in found:
                raise damaged(path, "points", ValueError("no array landmarks"))
            points = points_of(found["landmarks"], found.get("visibility"), path)
        mask = None
        path = self._beside["segmentations"] / f"{stem}.png"
        if path.is_file():
            mask = read_classes(path)
            if mask.max(initial=0) >= len(CLASSES):
                raise damaged(path, "a map of 19 classes", ValueError(f"class {mask.max()}"))
        return Came(
            mask=mask,
            points=points,
            features=self._features(stem),
            columns=self._rows.get(f"images/{Path(name).name}", {}),
        )

    def _features(self, stem: str) -> dict[str, Array]:
        folder = self._beside["pretrained_features"]
        found: dict[str, Array] = {}
        for path, read in (
            (folder / f"{stem}.npz", read_npz),
            (folder / f"{stem}.pickle", read_pickle),
        ):
            if path.is_file():
                found = read(path)
                break
        return {name: np.asarray(v, np.float32).reshape(-1) for name, v in found.items()}

    @cached_property
    def _rows(self) -> dict[str, dict[str, Json]]:
        """Rows of the manifest that our own exports have, by the photo's path."""
        path = self.root / "manifest.parquet"
        return read_sheet(path, "file_name") if path.is_file() else {}


class TextToImage:
    """SFHQ-T2I: images/ or images/images/, and a CSV of prompts, models and settings."""

    mark = TRAINED

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = inner(root, "images")

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether a folder has this layout."""
        return _prompts(root) is not None

    def names(self) -> list[str]:
        """The photos."""
        below = self._folder.relative_to(self.root).as_posix()
        return sorted(f"{below}/{name}" for name in listed(self._folder, suffixes()))

    def came(self, name: str) -> Came:
        """The prompt as text, the seed, and all columns."""
        row = self._rows.get(Path(name).name, {})
        return Came(
            text=str(row.get("text_prompt") or ""),
            seed=_seed(row.get("configs")),
            columns={k: v for k, v in row.items() if k != PROMPTS[0]},
        )

    @cached_property
    def _rows(self) -> dict[str, dict[str, Json]]:
        path = _prompts(self.root)
        return {} if path is None else read_sheet(path, PROMPTS[0])


def _prompts(root: Path) -> Path | None:
    """The CSV of prompts in a folder."""
    for path in sorted(root.glob("*.csv")):
        with open(path, encoding="utf-8", errors="replace") as file:
            head = file.readline(100_000)
        if all(name in head for name in PROMPTS):
            return path
    return None


def _seed(text: Any) -> int | None:
    """The seed among some settings."""
    try:
        value = json.loads(text)["seed"] if isinstance(text, str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if type(value) is int and 0 <= value < 2**63 else None
