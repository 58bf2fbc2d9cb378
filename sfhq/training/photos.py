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
from sfhq.formats import suffixes
from sfhq.images import BadImage, read_image

HELD_OUT_ONE_IN = 10
MOST_OBLONG = 1.05  # longer side over shorter side of a photo whose middle is taken


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
        names: N file names, sorted; with folders where files of several folders share a name.
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

    def to(self, device: torch.device) -> Photos:
        """The same photos on a device."""
        return Photos(self.pixels.to(device), self.names)

    def batch(self, indices: Tensor, flipped: Tensor | None = None) -> Tensor:
        """(n, 3, R, R) float in [-1, 1], on the device of the photos.

        Args:
            indices: (n,) photos.
            flipped: (n,) bool, True to mirror a photo; None mirrors none.
        """
        device = self.pixels.device
        images = self.pixels[indices.to(device, non_blocking=True)].float() / 127.5 - 1.0
        if flipped is None:
            return images
        flipped = flipped.to(device, non_blocking=True)
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

    EXIF rotation is applied, 16-bit images are converted, and the middle square is cut from photos
    that are a little wider or higher. Photos of one name in several folders are all read; each is
    then named with as many of its folders as tell them apart.

    Args:
        folders: folders of aligned faces, for example the `images/` of a part.
        resolution: height and width to which images are reduced.

    Raises:
        UsageError: a folder is missing, no image was found, or an image is damaged, smaller than
            `resolution` or far from square.
    """
    paths: dict[Path, None] = {}  # each file once, however it was named
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; wanted a folder of aligned faces")
        for path in folder.iterdir():
            if path.suffix.lower() in suffixes() and path.is_file():
                paths[folder.resolve() / path.name] = None
    if not paths:
        raise UsageError("found no image to train on; wanted folders of aligned .png or .jpg faces")
    named = _distinct_names(paths)
    names = sorted(named)
    arrays = [np.asarray(_square(named[name], resolution)) for name in names]
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return Photos(pixels, tuple(names))


def _distinct_names(paths: Iterable[Path]) -> dict[str, Path]:
    """Name -> path: the file's name, with the folders above it where others have the same name."""
    alike: dict[str, list[Path]] = {}
    for path in paths:
        alike.setdefault(path.name, []).append(path)
    named = {}
    for group in alike.values():
        depth = 1
        while len({p.parts[-depth:] for p in group}) < len(group):
            depth += 1
        named.update({"/".join(p.parts[-depth:]): p for p in group})
    return named


def _square(path: Path, resolution: int) -> Image.Image:
    try:
        image = read_image(path.read_bytes())
    except BadImage as error:
        raise UsageError(f"{path}: {error.reason}: {error}; remove the file") from None
    short, long = min(image.size), max(image.size)
    if long > MOST_OBLONG * short:
        raise UsageError(
            f"{path}: has {image.width} x {image.height} pixels; wanted a square: an aligned "
            "face, as in the aligned/ of a part; remove the file, or align it with: sfhq align"
        )
    if short < resolution:
        raise UsageError(
            f"{path}: has {image.width} x {image.height} pixels; wanted at least "
            f"{resolution}; lower --resolution or remove the file"
        )
    left, top = (image.width - short) // 2, (image.height - short) // 2
    image = image.crop((left, top, left + short, top + short))
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS)
