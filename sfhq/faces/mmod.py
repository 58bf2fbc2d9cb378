"""dlib's convolutional face detector in PyTorch, on a CPU about 20 times as fast as dlib's own.

The picture and ever smaller copies of it lie side by side in one image, so that one pass finds
faces of all sizes. Every 8 pixels the network says how sure it is of a face of 80 pixels there.

    for face in MmodDetector.load(path)(pixels):
        print(face.box, face.confidence)

Source: King 2015, "Max-Margin Object Detection", and Boost-licensed dlib 20.0, whose places, sizes
and rounding are kept: `dnn/input.h`, `dnn/loss.h`, `image_transforms/image_pyramid.h`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhq.faces.mmod_file import LAYERS, WINDOW, read_mmod_file
from sfhq.parts.records import Pixels

SHRINK, GROW = 5 / 6, 6 / 5  # of each copy against the one before, and back
SHIFT = 0.3  # pixels that dlib adds each time it goes back one level
LEAST = 5  # pixels, height of the smallest copy
GAP = 10  # pixels between copies
BORDER = 11  # pixels around all of them
# A value of the last layer lies every 8 pixels, the first one 14 pixels inside.
STRIDE = math.prod(stride for _, _, stride in LAYERS)
START = 14
SMALLEST = 29  # pixels of image and border that the strided layers bring down to one value


class Rectangle(NamedTuple):
    """Whole pixels; right and bottom are the last ones inside, as dlib counts them."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels from left to right; 0 if empty."""
        return max(self.right - self.left + 1, 0)

    @property
    def height(self) -> int:
        """Pixels from top to bottom; 0 if empty."""
        return max(self.bottom - self.top + 1, 0)

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self.width * self.height


class Face(NamedTuple):
    """A face that the network saw.

    Attributes:
        rectangle: where, in pixels of the image; may reach beyond it.
        confidence: above 0; 0.5 is doubtful, 1 sure.
    """

    rectangle: Rectangle
    confidence: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of its edges, in pixels of the image."""
        left, top, right, bottom = self.rectangle
        return float(left), float(top), float(right + 1), float(bottom + 1)


class MmodNetwork(nn.Module):
    """How sure the network is of a face, at every eighth pixel; the weights are frozen.

    Input is (N, 3, H, W), less `mean` and divided by 256, output (N, 1, h, w).
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        widths = [3, *(width for width, _, _ in LAYERS)]
        *layers, self.last = (
            nn.Conv2d(before, width, kernel, stride, kernel // 2 if stride == 1 else 0)
            for before, (width, kernel, stride) in zip(widths, LAYERS, strict=False)
        )
        self.layers = nn.ModuleList(layers)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Confidences (N, 1, h, w) of an image (N, 3, H, W)."""
        for layer in self.layers:
            x = F.relu(layer(x), inplace=True)
        # One output channel would leave the CPU's vectors nearly empty. The rows of the kernel are
        # computed as channels and then added where they belong.
        kernel, height = self.last.kernel_size[0], x.shape[2]
        x = F.pad(x, (0, 0, kernel // 2, kernel // 2))
        weight = self.last.weight.permute(2, 1, 0, 3)  # (9, 45, 1, 9)
        rows = F.conv2d(x, weight, padding=(0, kernel // 2))  # (N, 9, h + 8, w)
        parts = [rows[:, k : k + 1, k : k + height] for k in range(kernel)]
        assert self.last.bias is not None
        return torch.cat(parts, 1).sum(1, keepdim=True) + self.last.bias.view(1, 1, 1, 1)


@dataclass(frozen=True, eq=False)
class MmodDetector:
    """Finds faces; called with (H, W, 3) uint8 RGB, gives them, the surest first.

    Attributes:
        network: with weights.
        overlap: as in `MmodFile`.
    """

    network: MmodNetwork
    overlap: float

    @classmethod
    def load(cls, path: Path) -> MmodDetector:
        """The detector of `mmod_human_face_detector.dat`, on the CPU.

        Raises:
            UsageError: the file cannot be opened.
            IntegrityError: it is damaged, or another file.
        """
        file = read_mmod_file(path)
        with torch.device("meta"):  # draws no random numbers
            network = MmodNetwork()
        network.load_state_dict(file.weights, assign=True)
        return cls(network.to(memory_format=torch.channels_last).eval(), file.overlap)

    @torch.inference_mode()
    def __call__(self, pixels: Pixels) -> list[Face]:
        """The faces of (H, W, 3) uint8 RGB of at least 80 pixels or so, the surest first."""
        places, size = tiled(*pixels.shape[:2])
        if min(size) < SMALLEST:
            return []
        confidence = self.network(self._pyramid(pixels, places, size))[0, 0]
        rows, columns = (confidence > 0.0).nonzero(as_tuple=True)
        faces = [
            Face(_rectangle(places, column, row), score)
            for row, column, score in zip(
                rows.tolist(), columns.tolist(), confidence[rows, columns].tolist(), strict=True
            )
        ]
        kept: list[Face] = []
        for face in sorted(faces, key=lambda f: -f.confidence):
            if not any(_same(face.rectangle, other.rectangle, self.overlap) for other in kept):
                kept.append(face)
        return kept

    def _pyramid(self, pixels: Pixels, places: list[Rectangle], size: tuple[int, int]) -> Tensor:
        """(1, 3, H, W) with an image and its smaller copies; the rest is 0, the mean colour."""
        level = torch.from_numpy(pixels.astype(np.float32, order="C"))
        level.sub_(self.network.mean.flatten()).div_(256.0)
        level = level.permute(2, 0, 1)[None]  # (1, 3, H, W), channels last in memory
        pyramid = torch.empty(1, 3, *size, memory_format=torch.channels_last).zero_()
        for number, place in enumerate(places):
            if number:
                shape = (place.height, place.width)
                level = F.interpolate(level, shape, mode="bilinear", align_corners=True)
            pyramid[:, :, place.top : place.bottom + 1, place.left : place.right + 1] = level
        return pyramid


def tiled(height: int, width: int) -> tuple[list[Rectangle], tuple[int, int]]:
    """Where the copies of an image lie, largest first, and (height, width) of all of them.

    They stand in a column on the left; the small ones go back up on the right, as far as there
    is room beside the image itself.
    """
    sizes = [(height, width)]
    while True:
        height, width = (math.floor(SHRINK * side) for side in sizes[-1])
        if height < LEAST or width == 0:
            break
        sizes.append((height, width))
    height, width = sizes[0]
    total = sum(side + GAP for side, _ in sizes) - 2 * GAP
    column, before = 0, 0
    for tall, wide in sizes:
        halfway = 2 * (column - height) >= total - height
        if halfway and wide <= width - before - GAP:
            break
        column += tall + GAP
        before = wide
    column -= GAP
    places: list[Rectangle] = []
    bottom = BORDER
    for tall, wide in sizes:
        if bottom >= column + BORDER:
            break
        places.append(Rectangle(BORDER, bottom, BORDER + wide - 1, bottom + tall - 1))
        bottom += tall + GAP
    bottom -= GAP + 1
    right = BORDER + width - 1
    for tall, wide in sizes[len(places) :]:
        place = Rectangle(right - wide + 1, bottom - tall + 1, right, bottom)
        if _common(places[0], place).area:
            break
        places.append(place)
        bottom -= tall + GAP
    return places, (column + 2 * BORDER, width + 2 * BORDER)


def _rectangle(places: list[Rectangle], column: int, row: int) -> Rectangle:
    """From a value of the last layer to pixels of the image."""
    x, y = START + STRIDE * column, START + STRIDE * row
    level = min(range(len(places)), key=lambda i: _distance(places[i], x, y))
    edges = []
    for middle, start in ((x, places[level].left), (y, places[level].top)):
        for edge in (middle - (WINDOW - 1) / 2 - start, middle + (WINDOW - 1) / 2 - start):
            for _ in range(level):
                edge = edge * GROW + SHIFT
            edges.append(_whole(edge))
    left, right, top, bottom = edges
    return Rectangle(left, top, right, bottom)


def _distance(place: Rectangle, x: int, y: int) -> int:
    """Squared distance of a point from a rectangle; 0 inside."""
    aside = max(place.left - x, 0, x - place.right)
    above = max(place.top - y, 0, y - place.bottom)
    return aside**2 + above**2


def _whole(value: float) -> int:
    """The nearest whole number; halves go away from 0."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _common(one: Rectangle, other: Rectangle) -> Rectangle:
    low = (max(one.left, other.left), max(one.top, other.top))
    return Rectangle(*low, min(one.right, other.right), min(one.bottom, other.bottom))


def _same(one: Rectangle, other: Rectangle, overlap: float) -> bool:
    """Whether two rectangles are of one face: they share more than `overlap` of the box of both."""
    low = (min(one.left, other.left), min(one.top, other.top))
    around = Rectangle(*low, max(one.right, other.right), max(one.bottom, other.bottom))
    return _common(one, other).area > overlap * around.area
