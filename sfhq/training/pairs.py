"""Pairs of a picture in a style and the true photograph, aligned alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfhq.errors import UsageError
from sfhq.faces.alignment import align_crop
from sfhq.parts.part import Part
from sfhq.parts.photos import read_pixels
from sfhq.parts.records import Pixels
from sfhq.training.photos import Photos, is_held_out, load_photos


@dataclass(frozen=True)
class Pairs:
    """Pictures and the photographs that they show, row by row.

    Attributes:
        art: the pictures.
        truth: the photographs.
    """

    art: Photos
    truth: Photos

    def __len__(self) -> int:
        return len(self.art)

    def to(self, device: torch.device) -> Pairs:
        """The same pairs on a device."""
        return Pairs(self.art.to(device), self.truth.to(device))

    def batch(self, indices: Tensor, flipped: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures and photographs, (n, 3, R, R) in [-1, 1]; arguments as of `Photos.batch`."""
        return self.art.batch(indices, flipped), self.truth.batch(indices, flipped)


def joined_pairs(parts: Sequence[Pairs]) -> Pairs:
    """All pairs of several parts of one size."""

    def joined(lots: list[Photos]) -> Photos:
        names = tuple(name for lot in lots for name in lot.names)
        return Photos(torch.cat([lot.pixels for lot in lots]), names)

    return Pairs(joined([p.art for p in parts]), joined([p.truth for p in parts]))


def load_pairs(root: Path, resolution: int, *, held_out: bool = False) -> Pairs:
    """Read the people of a rendered part who have a picture in a style, or a folder of pairs.

    Of a part, both images are cut to the FFHQ frame of the exact landmarks. A part that is still
    being rendered gives the shards that it has. A folder of pairs has aligned pictures in `art/`
    and their photographs, under the same names, in `truth/`.

    Args:
        root: a part that `sfhq render` made, or a folder with `art/` and `truth/`.
        resolution: height and width of the crops.
        held_out: the people for validation instead of those to train on, by `is_held_out`.

    Raises:
        UsageError: the part has no such people, or the folders have other names or images that
            cannot be used.
    """
    if (root / "truth").is_dir() and not (root / "part.json").is_file():
        return _read_folders(root, resolution, held_out)
    part = Part.open(root)
    names: list[str] = []
    art: list[Pixels] = []
    truth: list[Pixels] = []
    for record in part.records("render"):
        drawn = record.alive and "art" in record.hashes
        if not drawn or is_held_out(record.face_id) != held_out:
            continue
        points = part.row("render_landmarks", record)[:68, :2].astype(np.float64)
        for rows, folder in ((art, "art"), (truth, "renders")):
            image = Image.fromarray(read_pixels(part, record, folder))
            rows.append(np.asarray(align_crop(image, points, resolution).image))
        names.append(record.face_id)
    if not names:
        raise UsageError(
            f"{root}: has no picture in a style; make some: sfhq render {root} --style oil,pencil"
        )
    return Pairs(_photos(art, names), _photos(truth, names))


def _read_folders(root: Path, resolution: int, held_out: bool) -> Pairs:
    art, truth = (load_photos([root / name], resolution) for name in ("art", "truth"))
    places: list[dict[str, int]] = []
    for side, folder in ((art, "art"), (truth, "truth")):
        places.append({Path(name).stem: i for i, name in enumerate(side.names)})
        if len(places[-1]) < len(side):
            raise UsageError(f"{root}: {folder} has two images of one name; remove one")
    alone = sorted(places[0].keys() ^ places[1].keys())
    if alone:
        there, missing = ("art", "truth") if alone[0] in places[0] else ("truth", "art")
        raise UsageError(
            f"{root}: {there} has {alone[0]}, {missing} does not; wanted the same names in both"
        )
    stems = [x for x, i in places[0].items() if is_held_out(art.names[i]) == held_out]
    if not stems:
        raise UsageError(f"{root}: has no pair left; every tenth is held out: give more pairs")
    # By name, not by place: other endings sort otherwise.
    pixels = [s.pixels[[at[x] for x in stems]] for s, at in zip((art, truth), places, strict=True)]
    names = tuple(art.names[places[0][x]] for x in stems)
    return Pairs(Photos(pixels[0], names), Photos(pixels[1], names))


def _photos(images: list[Pixels], names: list[str]) -> Photos:
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Photos(pixels, tuple(names))
