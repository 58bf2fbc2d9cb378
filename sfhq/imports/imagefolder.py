"""Hugging Face's imagefolder: photos, and metadata.csv, .jsonl or .parquet that names them."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from sfhq.errors import IntegrityError
from sfhq.faces.classes import CLASSES
from sfhq.formats import suffixes
from sfhq.imports.foreign import Came, points_of, read_classes
from sfhq.imports.sheets import read_sheet
from sfhq.parts.archive import is_unsafe
from sfhq.parts.records import Array, Json, Pixels

SHEETS = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
TEXTS = ("caption_text", "caption", "text", "prompt")  # the first that a row has
MASKS = ("mask_file_name", "segmentation_file_name")
OWN = ("landmarks", "visibility", *MASKS)
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


class ImageFolder:
    """See the module. Photos that no sheet names are passed over, as `datasets` does."""

    mark: str | None = None

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether a folder has this layout."""
        return next(iter(_sheets(root)), None) is not None

    def names(self) -> list[str]:
        """The photos that the sheets name.

        Raises:
            IntegrityError: a sheet is damaged, or photos are missing.
        """
        found = sorted(self._rows)
        gone = [name for name in found if not (self.root / name).is_file()]
        if gone:
            raise IntegrityError(
                f"{self.root}: {len(gone)} of {len(found)} photos that its sheets name are "
                f"missing, first {gone[0]}; put them back, or take their rows out"
            )
        return [name for name in found if name.lower().endswith(suffixes())]

    def came(self, name: str) -> Came:
        """Text, map of classes, points, and all columns."""
        row = self._rows[name]
        text = next((str(row[key]) for key in TEXTS if isinstance(row.get(key), str)), "")
        columns = {k: v for k, v in row.items() if k not in OWN}
        return Came(
            text=text, mask=self._mask(name, row), points=self._points(row), columns=columns
        )

    def _mask(self, name: str, row: dict[str, Json]) -> Pixels | None:
        given = next((row[key] for key in MASKS if isinstance(row.get(key), str)), None)
        if given is None:
            return None
        path = self.root / _safe(given, self._bases[name], self.root)
        ids = read_classes(path)
        return ids if ids.max(initial=0) < len(CLASSES) else None

    def _points(self, row: dict[str, Json]) -> dict[str, Array]:
        given, flags = row.get("landmarks"), row.get("visibility")
        try:
            points = np.asarray(given, np.float32)
            visibility = None if flags is None else np.asarray(flags, np.uint8)
        except (ValueError, TypeError):
            return {}
        if points.ndim != 2 or points.shape[1] != 2:
            return {}
        return points_of(points, visibility, self.root)

    @cached_property
    def _bases(self) -> dict[str, str]:
        return {name: base for name, (base, _) in self._found.items()}

    @cached_property
    def _rows(self) -> dict[str, dict[str, Json]]:
        return {name: row for name, (_, row) in self._found.items()}

    @cached_property
    def _found(self) -> dict[str, tuple[str, dict[str, Json]]]:
        """Path of a photo below the root -> folder of its sheet, and its row."""
        found: dict[str, tuple[str, dict[str, Json]]] = {}
        for path in _sheets(self.root):
            base = path.parent.relative_to(self.root).as_posix()
            split = SPLITS.get(path.parent.name) if base != "." else None
            for given, row in read_sheet(path, "file_name").items():
                name = _safe(given, base, path)
                if name in found:
                    raise IntegrityError(
                        f"{path}: {name} has a row in another sheet, too; keep one of them"
                    )
                found[name] = (base, {**({"split": split} if split else {}), **row})
        return found


def _sheets(root: Path) -> list[Path]:
    """The sheets of a folder and of the folders in it."""
    if not root.is_dir():
        return []
    folders = [root, *sorted(p for p in root.iterdir() if p.is_dir() and not p.is_symlink())]
    return [folder / name for folder in folders for name in SHEETS if (folder / name).is_file()]


def _safe(given: str, base: str, where: Path) -> str:
    """A path that a sheet names, below the root.

    Raises:
        IntegrityError: it leads out.
    """
    if is_unsafe(given):
        raise IntegrityError(
            f"{where}: names {given!r}, which leads out of the folder; wanted a path below it"
        )
    return PurePosixPath(os.path.normpath(f"{base}/{given}")).as_posix()
