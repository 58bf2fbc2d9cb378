"""Microsoft's FaceSynthetics: 000000.png, 000000_seg.png and 000000_ldmks.txt side by side.

Source: Wood et al. 2021, "Fake it till you make it"; classes and points as its README lists them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sfhq.faces.classes import ID
from sfhq.faces.found import POINTS
from sfhq.images import RENDERED
from sfhq.imports.foreign import Came, damaged, listed, read_classes
from sfhq.parts.files import read_file
from sfhq.parts.records import Array, Pixels

PHOTO = re.compile(r"\d{6}\.png")
THEIRS = (
    *("background", "skin", "nose", "right_eye", "left_eye", "right_brow", "left_brow"),
    *("right_ear", "left_ear", "mouth_interior", "top_lip", "bottom_lip", "neck", "hair"),
    *("beard", "clothing", "glasses", "headwear", "facewear"),
)
IGNORED = 255
OURS = {
    **{"background": "background", "skin": "skin", "nose": "nose", "right_eye": "r_eye"},
    **{"left_eye": "l_eye", "right_brow": "r_brow", "left_brow": "l_brow", "right_ear": "r_ear"},
    **{"left_ear": "l_ear", "mouth_interior": "mouth", "top_lip": "u_lip"},
    **{"bottom_lip": "l_lip", "neck": "neck", "hair": "hair", "clothing": "cloth"},
    **{"glasses": "eye_g", "headwear": "hat"},
}
INSTEAD = {"beard": "skin", "facewear": "background", "ignore": "background"}  # no class of ours
COUNT = 70  # points: iBUG's 68 and the pupils


class FaceSynthetics:
    """See the module."""

    mark = RENDERED

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether a folder has this layout."""
        ends = ("_seg.png", "_ldmks.txt")
        return any(re.match(r"\d{6}_", name) for name in listed(root, ends))

    def names(self) -> list[str]:
        """The photos."""
        return sorted(name for name in listed(self.root, (".png",)) if PHOTO.fullmatch(name))

    def came(self, name: str) -> Came:
        """Map of classes, 68 points, and the pupils as columns."""
        stem = name.removesuffix(".png")
        mask: Pixels | None = None
        lost: dict[str, int] = {}
        path = self.root / f"{stem}_seg.png"
        if path.is_file():
            mask, lost = _mapped(read_classes(path), path)
        points: dict[str, Array] = {}
        columns = {}
        path = self.root / f"{stem}_ldmks.txt"
        if path.is_file():
            found = _points(path)
            points = {POINTS: found[:68].astype(np.float32)}
            columns = {"pupils": [float(v) for v in found[68:].reshape(-1)]}
        return Came(mask=mask, lost=lost, points=points, columns=columns)


def _mapped(theirs: Pixels, path: Path) -> tuple[Pixels, dict[str, int]]:
    """Our ids, and class that we lack -> pixels."""
    counts = np.bincount(theirs.reshape(-1), minlength=256)
    unknown = np.flatnonzero(counts[len(THEIRS) : IGNORED])
    if len(unknown):
        said = f"class {len(THEIRS) + int(unknown[0])}"
        raise damaged(path, "a map of FaceSynthetics' classes", ValueError(said))
    table = np.zeros(256, np.uint8)
    lost: dict[str, int] = {}
    for number, name in (*enumerate(THEIRS), (IGNORED, "ignore")):
        table[number] = ID[OURS.get(name) or INSTEAD[name]]
        if name in INSTEAD and counts[number]:
            lost[name] = int(counts[number])
    return table[theirs], lost


def _points(path: Path) -> Array:
    """(70, 2) x, y in pixels."""
    try:
        lines = [line.split() for line in read_file(path).decode().splitlines() if line.strip()]
        found = np.array([[float(v) for v in line] for line in lines])
        if found.shape != (COUNT, 2) or not np.isfinite(found).all():
            raise ValueError(f"shape {found.shape}; wanted ({COUNT}, 2)")
        return found
    except (OSError, ValueError) as error:
        raise damaged(path, "points", error) from None
