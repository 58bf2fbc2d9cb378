"""How near pictures are to an inspiration, and how much detail they have, as a viewer would see it.

Pictures are compared after they were reduced, because a photograph has other fine structure than a
painting: what should agree is where which colour is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sfhq.colour import LAB_EDGE, TO_XYZ
from sfhq.faces.identity import recognition

REDUCED = 64
DETAILED = 128
SAME = 0.6  # distance of vectors below which dlib takes two faces for one person
FINE, COARSE = 1.0, 4.0  # standard deviations of the Gaussians between which detail is measured


class Seen(NamedTuple):
    """What is seen of pictures beside their inspirations.

    Attributes:
        lab: (N, 3, S, S) reduced pictures in CIELAB.
        l1: (N,) mean absolute difference of the reduced pictures, of values in [-1, 1].
        apart: (N,) mean distance of the reduced pictures in CIELAB.
        detail: (N,) mid-scale detail of the pictures.
        vector: (N, 128) what dlib's recognition network sees in the pictures.
        person: (N,) distance of these vectors from those of the inspirations.
    """

    lab: Tensor
    l1: Tensor
    apart: Tensor
    detail: Tensor
    vector: Tensor
    person: Tensor

    def of(self, rows: Tensor) -> Seen:
        """What is seen of some pictures; rows are indices or bools."""
        return Seen(*(value[rows] for value in self))

    def replaced(self, rows: Tensor, other: Seen) -> Seen:
        """The same with the pictures of `rows` (M,) replaced by M others."""
        parts = zip(self, other, strict=True)
        return Seen(*(ours.index_copy(0, rows, theirs) for ours, theirs in parts))


@dataclass(frozen=True)
class Likeness:
    """Compares pictures with inspirations.

    Attributes:
        art: (N, 3, S, S) reduced inspirations in [-1, 1].
        lab: the same in CIELAB.
        vector: (N, 128) what dlib's recognition network sees in them.
    """

    art: Tensor
    lab: Tensor
    vector: Tensor

    @classmethod
    def to(cls, images: Tensor) -> Likeness:
        """To inspirations (N, 3, H, W) in [-1, 1]."""
        art = reduce(images, REDUCED)
        # One by one: a batch may change the last bits, and refinement makes them grow.
        vectors = [_vectors(one) for one in images.split(1)]
        return cls(art, to_lab(art), torch.cat(vectors) if vectors else _vectors(images))

    def person(self, pictures: Tensor, rows: Tensor) -> Tensor:
        """(M,) distance of dlib's vectors of pictures (M, 3, H, W) from those of inspirations."""
        apart: Tensor = (_vectors(pictures) - self.vector[rows]).norm(dim=1)
        return apart

    def see(self, pictures: Tensor, rows: Tensor) -> Seen:
        """Look at pictures (M, 3, H, W) beside the inspirations of `rows`, (M,)."""
        small = reduce(pictures, REDUCED)
        lab = to_lab(small)
        vector = _vectors(pictures)
        return Seen(
            lab,
            (small - self.art[rows]).abs().mean(dim=(1, 2, 3)),
            (lab - self.lab[rows]).square().sum(dim=1).sqrt().mean(dim=(1, 2)),
            detail(pictures),
            vector,
            (vector - self.vector[rows]).norm(dim=1),
        )


def _vectors(images: Tensor) -> Tensor:
    """(N, 128) what dlib's network sees in images (N, 3, H, W)."""
    vectors: Tensor = recognition(images.device)(images.clamp(-1, 1))
    return vectors


def reduce(images: Tensor, size: int) -> Tensor:
    """(N, 3, H, W) averaged to at most `size` pixels per side, clamped to [-1, 1]."""
    images = images.clamp(-1, 1)
    if images.shape[-1] <= size:
        return images
    return F.interpolate(images, (size, size), mode="area")


def to_lab(images: Tensor) -> Tensor:
    """(N, 3, H, W) sRGB in [-1, 1] to CIELAB, as `sfhq.colour.to_lab`; differentiable."""
    xyz = torch.einsum("ij,njhw->nihw", _to_xyz(images.device), _linear(images))
    x, y, z = _root(xyz).unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def to_lightness(images: Tensor) -> Tensor:
    """(N, H, W) the first of `to_lab`'s axes alone, in a third of its time."""
    luminance = torch.einsum("j,njhw->nhw", _to_xyz(images.device)[1], _linear(images))
    return 116 * _root(luminance) - 16


@cache
def _to_xyz(device: torch.device) -> Tensor:
    """(3, 3) linear light to shares of the white; kept, as a recorded step must copy nothing."""
    with torch.inference_mode(False):
        matrix = torch.tensor(TO_XYZ, device=device)
        return matrix / matrix.sum(dim=1, keepdim=True)


def _linear(images: Tensor) -> Tensor:
    """sRGB in [-1, 1] to linear light in [0, 1]."""
    value = (images.clamp(-1, 1) + 1) / 2
    # By logarithms: three times as fast as a power, with the same digits but the last.
    bent = ((value + 0.055) / 1.055).log().mul(2.4).exp()
    return torch.where(value <= 0.04045, value / 12.92, bent)


def _root(xyz: Tensor) -> Tensor:
    """CIELAB's f, of shares of the white: a cube root with a straight beginning."""
    edge = LAB_EDGE
    root = (xyz.clamp(min=edge**3).log() / 3).exp()
    return torch.where(xyz > edge**3, root, xyz / (3 * edge**2) + 4 / 29)


def detail(images: Tensor) -> Tensor:
    """Mid-scale detail of pictures: root mean square of the lightness between two Gaussians.

    Args:
        images: (N, 3, H, W) in [-1, 1]; they are reduced to 128 pixels.

    Returns:
        (N,) in units of CIELAB's lightness.
    """
    light = to_lightness(reduce(images, DETAILED))
    band = _blurred(light, FINE) - _blurred(light, COARSE)
    return band.square().mean(dim=(1, 2)).sqrt()


def _blurred(x: Tensor, deviation: float) -> Tensor:
    """(N, H, W) blurred along both axes; pictures are mirrored at their edges."""
    height, width = x.shape[1:]
    down, across = (_gaussian(side, deviation).to(x.device) for side in (height, width))
    return down @ (x @ across.T)


@cache
def _gaussian(size: int, deviation: float) -> Tensor:
    """(size, size) weights of a line's pixels in each pixel of the blurred line."""
    reach = min(round(4 * deviation), size - 1)
    with torch.inference_mode(False):
        steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (steps / deviation) ** 2)
        mirrored = F.pad(torch.eye(size)[None], (reach, reach), mode="reflect")[0]  # rows: pixels
        return F.conv1d(mirrored[:, None], (kernel / kernel.sum())[None, None])[:, 0].T.clone()
