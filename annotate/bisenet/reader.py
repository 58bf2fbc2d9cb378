"""BiSeNet as a reader of class probabilities, the same for a crop and for its mirror image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from annotate.bisenet.network import BiSeNet
from annotate.bisenet.published import MEAN, SIZE, STD, load_bisenet
from annotate.labels.classes import ID, SIDED
from sfhq.errors import UsageError
from sfhq.parts.records import Pixels
from sfhq.weights.store import status
from sfhq.weights.table import model_row


@dataclass(frozen=True, eq=False)
class BisenetReader:
    """Reads 19 classes; sides of brows, eyes and ears are not told apart.

    The published file was trained on pictures of which half were mirrored while their left and
    right ids were not exchanged. So which of a pair it says is arbitrary: both are added up under
    the left id, and `annotate.labels.sides` tells them apart by their place.

    Attributes:
        network: the parser.
        digest: sha256 of its file.
        size: side of the crops in pixels.
    """

    network: BiSeNet
    digest: str
    size: int = SIZE
    name: str = "bisenet"
    sided: bool = False  # whether it tells left from right

    @classmethod
    def load(cls, path: Path, size: int = SIZE) -> BisenetReader:
        """The reader of a published file; errors as `load_bisenet`."""
        network, digest = load_bisenet(path)
        return cls(network.to(memory_format=torch.channels_last), digest, size)

    @torch.no_grad()
    def probabilities(self, crops: Pixels) -> Tensor:
        """Shares of the classes, mean of each crop and its mirror image.

        One crop at a time: a batch is no faster on a CPU, and its sums have another order.

        Args:
            crops: (N, size, size, 3) uint8 RGB.

        Returns:
            (N, 19, size, size) float32 that sum to 1.
        """
        return torch.stack([self._one(crop) for crop in crops])

    def soft(self, crops: Pixels) -> tuple[Tensor, Tensor]:
        """The probabilities, and that of hair as its share in a pixel."""
        found = self.probabilities(crops)
        return found, found[:, ID["hair"]]

    def _one(self, crop: Pixels) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1).float() / 255
        x = ((pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])[None]
        x = x.contiguous(memory_format=torch.channels_last)  # an eighth faster on a CPU
        there = self._merged(x)
        back = self._merged(x.flip(3).contiguous(memory_format=torch.channels_last)).flip(3)
        return ((there + back) / 2)[0]  # a sum of two does not depend on their order

    def _merged(self, x: Tensor) -> Tensor:
        found: Tensor = self.network(x).softmax(1)
        for left, right in SIDED:
            found[:, left] += found[:, right]
            found[:, right] = 0
        return found


def installed() -> Path:
    """The published weights in the cache: 79999_iter.pth, else yakhyo's ResNet-34 or ResNet-18.

    Raises:
        UsageError: none is there; names the command that brings one.
    """
    for name in ("bisenet", "bisenet-resnet34", "bisenet-resnet18"):
        found = status(model_row(name))
        if found.usable:
            return found.path
    raise UsageError(
        "no weights of BiSeNet are installed; run: sfhq models fetch bisenet "
        "--accept-licence CelebAMask-NC (not for commercial use), or give --weights FILE"
    )
