"""CLIP image embeddings through open_clip, if its weights are on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sfhq.errors import SfhqError
from sfhq.faces.detector import Detection
from sfhq.parts.records import Array, Pixels
from sfhq.weights.checkpoints import file_digest
from sfhq.weights.places import hugging_face_hub
from sfhq.weights.store import status
from sfhq.weights.table import model_row

MODEL = "ViT-L-14-336"
TAG = "openai"
ROW = "clip-vit-l-14-336"  # name in the table of models


@dataclass(frozen=True)
class ClipEncoder:
    """open_clip's image network as an `ImageEncoder`; the default is the one that SFHQ used.

    Attributes:
        model: architecture by its name in open_clip.
        weights: file with the weights; None looks in the cache of sfhq and that of the Hugging Face
            hub. Nothing is downloaded.
        name: name of the encoder, under which its threshold is stored.
    """

    model: str = MODEL
    weights: Path | None = None
    name: str = "clip"
    reads_faces: bool = False

    @property
    def digest(self) -> str:
        """sha256 of the weights.

        Raises:
            SfhqError: the weights are missing.
        """
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

    def __call__(
        self, images: list[Pixels], faces: Sequence[Sequence[Detection]] | None = None
    ) -> Array:
        """(N, D) float32 vectors of N images; D is 768 for ViT-L-14-336.

        Raises:
            SfhqError: the weights are missing or are not those of the model.
        """
        import torch
        from PIL import Image

        network, transform = _network(self.model, str(self._path()))
        batch = torch.stack([transform(Image.fromarray(i)) for i in images])
        with torch.inference_mode():
            vectors: Array = network.encode_image(batch).float().numpy()
        return np.ascontiguousarray(vectors)


@dataclass(frozen=True)
class ClipWords:
    """The text network of a `ClipEncoder`: unit vectors of texts beside those of images.

    Attributes:
        encoder: whose weights are read.
    """

    encoder: ClipEncoder = field(default_factory=ClipEncoder)

    @property
    def digest(self) -> str:
        """sha256 of the weights."""
        return self.encoder.digest

    @property
    def sharpness(self) -> float:
        """What a difference of cosines is multiplied by before it is a logit; trained."""
        network, _ = _network(self.encoder.model, str(self.encoder._path()))
        return float(network.logit_scale.exp())

    def __call__(self, texts: Sequence[str]) -> Array:
        """(N, D) float32 unit vectors.

        Raises:
            SfhqError: the weights are missing or are not those of the model.
        """
        import open_clip
        import torch

        network, _ = _network(self.encoder.model, str(self.encoder._path()))
        tokens = open_clip.get_tokenizer(self.encoder.model)(list(texts))
        with torch.inference_mode():
            vectors: Array = network.encode_text(tokens, normalize=True).float().numpy()
        return np.ascontiguousarray(vectors)


def clip_words(weights: Path | None = None) -> ClipWords:
    """The text network of CLIP ViT-L-14-336; None looks for the weights in the caches."""
    return ClipWords(ClipEncoder(weights=weights))


def _cached_weights(model: str) -> Path | None:
    """The weights in the cache of sfhq or that of the Hugging Face hub, which open_clip uses."""
    known = status(model_row(ROW))
    if model == MODEL and known.usable:
        return known.path
    hub = hugging_face_hub()
    named = f"models--timm--{model.lower().replace('-', '_')}*/snapshots/*/open_clip*.safetensors"
    for pattern in (named, f"models--*{model}*/snapshots/*/open_clip_*.safetensors"):
        for path in sorted(hub.glob(pattern)):
            return path
    return None


@lru_cache(maxsize=1)
def _network(model: str, weights: str) -> tuple[Any, Any]:
    import open_clip

    # OpenAI's weights were trained with the activation that open_clip calls "-quickgelu".
    architecture = (
        f"{model}-quickgelu" if f"{model}-quickgelu" in open_clip.list_models() else model
    )
    try:
        network, _, transform = open_clip.create_model_and_transforms(
            architecture, pretrained=weights
        )
    except Exception as error:
        raise SfhqError(
            f"{weights}: holds no weights of CLIP {model} ({type(error).__name__}); wanted a file "
            "that open_clip can load"
        ) from None
    return network.eval(), transform
