"""FLIP's image vectors, which lie near those of captions that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfhq.errors import SfhqError
from sfhq.faces.detector import Detection
from sfhq.parts.records import Array, Pixels
from sfhq.weights.checkpoints import file_digest, pack_path

if TYPE_CHECKING:
    from encoders.flip.network import LoadedFlip


@dataclass(frozen=True)
class FlipEncoder:
    """FLIP's image network as an `ImageEncoder`.

    Attributes:
        weights: a file that `sfhq flip train` or `export` wrote; None for the embedded pack.
        name: name of the encoder, under which its threshold is stored.
    """

    weights: Path | None = None
    name: str = "flip"
    reads_faces: bool = False

    @property
    def path(self) -> Path:
        """The weights.

        Raises:
            SfhqError: they are missing.
        """
        path = self.weights or pack_path("flip")
        if not path.is_file():
            raise SfhqError(
                f"{path}: no FLIP weights; give --encoder-weights FILE, or train them: "
                "sfhq flip train"
            )
        return path

    @property
    def digest(self) -> str:
        """sha256 of the weights.

        Raises:
            SfhqError: they are missing.
        """
        return file_digest(self.path)

    def __call__(
        self, images: list[Pixels], faces: Sequence[Sequence[Detection]] | None = None
    ) -> Array:
        """(N, D) float32 unit vectors of N images; D is 256 unless trained otherwise.

        Raises:
            SfhqError: the weights are missing or damaged.
        """
        import torch
        from PIL import Image

        from encoders.flip.data import resized

        network = _network(self.path, self.digest).network
        size = network.config.vision.size
        small = np.stack([resized(Image.fromarray(image), size) for image in images])
        batch = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with torch.inference_mode():
            vectors: Array = network.image_vectors(network.image_tokens(batch)).numpy()
        return np.ascontiguousarray(vectors)


@lru_cache(maxsize=1)
def _network(path: Path, digest: str) -> LoadedFlip:
    from encoders.flip.network import load_flip

    del digest  # a file that was replaced is read again
    return load_flip(path)
