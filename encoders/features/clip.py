"""CLIP image embeddings through open_clip, when its weights are on the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sfhq.errors import SfhqError
from sfhq.faces.found import FoundFaces
from sfhq.parts.records import Array, Pixels
from sfhq.weights.checkpoints import file_digest
from sfhq.weights.store import status
from sfhq.weights.table import model_row

MODEL = "ViT-L-14-336"
TAG = "openai"
ROW = "clip-vit-l-14-336"  # of the table of models


@dataclass(frozen=True)
class ClipEncoder:
    """open_clip's image tower as an `ImageEncoder`; the default is the one SFHQ used.

    Attributes:
        model: architecture, as open_clip names it.
        weights: file of the weights; None looks in open_clip's and the hub's caches. Nothing
            is ever downloaded.
        name: under which thresholds are kept.
    """

    model: str = MODEL
    weights: Path | None = None
    name: str = "clip"
    reads_faces: bool = False

    @property
    def digest(self) -> str:
        """sha256 of the weights."""
        return file_digest(self._path())

    def _path(self) -> Path:
        path = self.weights or _cached_weights(self.model)
        if path is None or not path.is_file():
            raise SfhqError(
                f"CLIP {self.model}: no weights found ({path or 'not in the cache'}); give "
                "--encoder-weights FILE, run sfhq models fetch clip-vit-l-14-336, or use "
                "--encoder dlib-face"
            )
        return path

    def __call__(self, images: list[Pixels], faces: Sequence[FoundFaces] | None = None) -> Array:
        """(N, D) float32; D is 768 for ViT-L-14-336."""
        import torch
        from PIL import Image

        network, transform = _network(self.model, str(self._path()))
        batch = torch.stack([transform(Image.fromarray(i)) for i in images])
        with torch.inference_mode():
            vectors: Array = network.encode_image(batch).float().numpy()
        return np.ascontiguousarray(vectors)


def _cached_weights(model: str) -> Path | None:
    """The weights in our cache, or in those where open_clip would have put them."""
    known = status(model_row(ROW))
    if model == MODEL and known.usable:
        return known.path
    home = Path.home() / ".cache"
    hub = Path(os.environ.get("HF_HOME", home / "huggingface")) / "hub"
    named = f"models--timm--{model.lower().replace('-', '_')}*/snapshots/*/open_clip*.safetensors"
    for pattern in (named, f"models--*{model}*/snapshots/*/open_clip_*.safetensors"):
        for path in sorted(hub.glob(pattern)):
            return path
    return None


@lru_cache(maxsize=1)
def _network(model: str, weights: str) -> tuple[Any, Any]:
    import open_clip

    # "-quickgelu" is how open_clip spells the activation that OpenAI's weights were trained with.
    architecture = (
        f"{model}-quickgelu" if f"{model}-quickgelu" in open_clip.list_models() else model
    )
    try:
        network, _, transform = open_clip.create_model_and_transforms(
            architecture, pretrained=weights
        )
    except Exception as error:
        raise SfhqError(
            f"{weights}: not weights of CLIP {model} ({type(error).__name__}); wanted a file that "
            "open_clip can load"
        ) from None
    return network.eval(), transform
