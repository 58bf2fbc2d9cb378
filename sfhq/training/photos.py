"""Training photos in memory; a fixed tenth is held out by the hash of the file name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfhq.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
HELD_OUT_ONE_IN = 10


def is_held_out(name: str) -> bool:
    """True if a file belongs to the tenth that is never used for training.

    The choice depends only on the file's stem: it is held out if sha256(stem) modulo 10 is 0.
    """
    digest = hashlib.sha256(Path(name).stem.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True)
class Photos:
    """Square photos of one size.

    Attributes:
        pixels: (N, 3, R, R) uint8.
        names: N file names, sorted.
    """

    pixels: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def at(self, resolution: int) -> Photos:
        """The same photos at a lower resolution."""
        if self.pixels.shape[-1] == resolution:
            return self
        small = [
            F.interpolate(chunk.float(), (resolution, resolution), mode="bilinear", antialias=True)
            .round()
            .clamp(0, 255)
            .to(torch.uint8)
            for chunk in self.pixels.split(64)
        ]
        return Photos(torch.cat(small), self.names)

    def batch(self, indices: Tensor, flipped: Tensor | None = None) -> Tensor:
        """(n, 3, R, R) float in [-1, 1].

        Args:
            indices: (n,) photos.
            flipped: (n,) bool, True to mirror a photo; None mirrors none.
        """
        images = self.pixels[indices].float() / 127.5 - 1.0
        if flipped is None:
            return images
        return torch.where(flipped[:, None, None, None], images.flip(3), images)

    def select(self, keep: Iterable[bool]) -> Photos:
        """The photos whose flag is true."""
        chosen = [i for i, flag in enumerate(keep) if flag]
        return Photos(self.pixels[chosen], tuple(self.names[i] for i in chosen))

    def split(self) -> tuple[Photos, Photos]:
        """The photos to train on and the held-out photos, by `is_held_out`."""
        held = [is_held_out(name) for name in self.names]
        return self.select(not h for h in held), self.select(held)


def load_photos(folders: Iterable[Path], resolution: int) -> Photos:
    """Read all aligned faces of some folders as squares of one size.

    Args:
        folders: folders of aligned faces, for example the `images/` of a part.
        resolution: height and width to which images are reduced.

    Raises:
        UsageError: a folder is missing, no image was found, or an image is smaller than
            `resolution`.
    """
    paths: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; wanted a folder of aligned faces")
        for path in folder.iterdir():
            if path.suffix.lower() in SUFFIXES:
                paths[path.name] = path
    if not paths:
        raise UsageError("found no image to train on; wanted folders of aligned .png or .jpg faces")
    arrays = []
    for name in sorted(paths):
        with Image.open(paths[name]) as image:
            if min(image.size) < resolution:
                raise UsageError(
                    f"{paths[name]}: has {image.width} x {image.height} pixels; wanted at least "
                    f"{resolution}; lower --resolution or remove the file"
                )
            rgb = image.convert("RGB").resize((resolution, resolution), Image.Resampling.LANCZOS)
            arrays.append(np.asarray(rgb))
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return Photos(pixels, tuple(sorted(paths)))
