"""Stand-ins for the label network that several test files build on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sfhq.faces.classes import FLIPPED
from sfhq.faces.points import MIRROR
from sfhq.parts.records import Pixels

ATTRIBUTES = 51


@dataclass(frozen=True, eq=False)
class TinyReading:
    """What `annotate.network.reader.Reading` holds."""

    parsing: Tensor
    alpha: Tensor
    points: Tensor
    sigma: Tensor
    seen: Tensor
    irises: Tensor
    pose: Tensor
    gaze: Tensor
    attributes: Tensor
    years: Tensor
    whole: Tensor


# Where the 110 points of a drawn face lie, in shares of the crop's side: rough, but in order.
def face_points() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(110, 2) of a symmetric frontal face."""
    out = np.zeros((110, 2))
    turn = np.linspace(np.pi, 0, 17)
    out[:17] = np.stack([0.5 + 0.27 * np.cos(turn), 0.5 + 0.33 * np.sin(turn)], 1)
    out[17:27, 0] = np.concatenate([np.linspace(0.30, 0.45, 5), np.linspace(0.55, 0.70, 5)])
    out[17:27, 1] = 0.40
    out[27:31] = np.stack([np.full(4, 0.5), np.linspace(0.47, 0.60, 4)], 1)
    out[31:36] = np.stack([np.linspace(0.45, 0.55, 5), np.full(5, 0.63)], 1)
    eye = np.array(
        [(-0.06, 0), (-0.02, -0.02), (0.02, -0.02), (0.06, 0), (0.02, 0.02), (-0.02, 0.02)]
    )
    out[36:42], out[42:48] = eye + np.array([0.375, 0.47]), eye + np.array([0.625, 0.47])
    across = np.linspace(np.pi, 0, 7)
    out[48:55] = np.stack([0.5 + 0.1 * np.cos(across), 0.74 - 0.02 * np.sin(across)], 1)
    across = np.linspace(0, np.pi, 7)[1:-1]
    out[55:60] = np.stack([0.5 + 0.1 * np.cos(across), 0.74 + 0.04 * np.sin(across)], 1)
    out[60:65] = np.stack([np.linspace(0.42, 0.58, 5), np.full(5, 0.74)], 1)
    out[65:68] = np.stack([np.linspace(0.54, 0.46, 3), np.full(3, 0.75)], 1)
    out[68:72] = [(0.44, 0.58), (0.43, 0.61), (0.56, 0.58), (0.57, 0.61)]
    out[72:76] = np.stack([np.array([0.433, 0.446, 0.554, 0.567]), np.full(4, 0.74)], 1)
    out[76:80] = np.stack([np.array([0.567, 0.554, 0.446, 0.433]), np.full(4, 0.75)], 1)
    for first, angles, radius in (
        (80, np.linspace(140, 40, 9), 0.25),
        (89, np.linspace(225, -45, 21), 0.38),
    ):
        turn = np.radians(angles)
        ray = np.stack([np.cos(turn), -np.sin(turn)], 1)
        out[first : first + len(angles)] = (0.5, 0.53) + radius * ray
    return out


@dataclass(frozen=True, eq=False)
class TinyReader:
    """A random network of one layer whose readings mirror with the crop, bit by bit.

    `read` is the mean of a crop's and of its mirror image's reading, as the real one's.
    """

    size: int = 32
    seed: int = 0

    def read(self, crops: Pixels) -> TinyReading:
        """Labels of crops: random classes, and a face's points moved by the crop's brightness."""
        one = [self._one(torch.from_numpy(np.ascontiguousarray(c))) for c in crops]
        return TinyReading(*(torch.stack(list(column)) for column in zip(*one, strict=True)))

    def _one(self, crop: Tensor) -> tuple[Tensor, ...]:
        there, back = self._raw(crop), self._raw(crop.flip(1))
        flipped, mirror = list(FLIPPED), list(MIRROR)
        width = self.size - 1
        points = back[2][mirror] * torch.tensor([-1.0, 1.0])
        mirrored = (
            back[0].flip(2)[flipped],
            back[1].flip(1),
            points,
            back[3][mirror],
            back[4][mirror],
            back[5].flip(0) * torch.tensor([-1.0, 1.0]),
            back[6] * torch.tensor([-1.0, 1.0, -1.0]),
            back[7] * torch.tensor([-1.0, 1.0]),
            back[8],
            back[9],
            back[10],
        )
        out = [(a + b) / 2 for a, b in zip(there, mirrored, strict=True)]
        out[2], out[5] = out[2] + width / 2, out[5] + width / 2
        return tuple(out)

    def _raw(self, crop: Tensor) -> tuple[Tensor, ...]:
        rng = torch.Generator().manual_seed(self.seed)
        x = crop.permute(2, 0, 1).float() / 127.5 - 1  # (3, S, S)
        weight = torch.randn(19, 3, 5, 5, generator=rng)
        logits = functional.conv2d(x[None], weight, padding=2)[0]
        points = torch.from_numpy((face_points() - 0.5) * self.size).float()
        points = torch.round((points + x.mean()) * 64) / 64  # sums of such numbers are exact
        mean = x.mean()
        return (
            logits.softmax(0),
            logits[17].sigmoid(),
            points,
            torch.full((110,), 0.02 * self.size),
            torch.full((110,), 0.9),
            torch.stack([points[36:42].mean(0), points[42:48].mean(0)]),
            torch.tensor([4.0, -3.0, 2.0]) * mean,
            torch.tensor([1.0, 2.0]) * mean,
            (torch.randn(ATTRIBUTES, generator=rng) + mean).sigmoid(),
            30 + 10 * mean,
            x[:, :: self.size // 8, :: self.size // 8].relu().mean(2).flatten(),
        )
