"""Named lists of feature sets for learning a taste: one, two, four or seven large networks.

They are those of the visual taste approximator, by their names in open_clip and timm. The user
provides the weights as files; nothing is downloaded or unpickled.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from encoders.features.clip import ClipEncoder
from encoders.features.encoder import ImageEncoder
from sfhq.errors import SfhqError, UsageError
from sfhq.faces.detector import Detection
from sfhq.parts.records import Array, Pixels
from sfhq.weights.checkpoints import file_digest

CLIP = {
    "clip": "ViT-L-14-336",
    "clip-rn50x64": "RN50x64",
    "clip-vit-l-14": "ViT-L-14",
}
TIMM = {
    "convnext-xl": "convnext_xlarge.fb_in22k",
    "dino-s8": "vit_small_patch8_224.dino",
    "dino-b8": "vit_base_patch8_224.dino",
    "beit-l-384": "beit_large_patch16_384.in22k_ft_in22k_in1k",
}
PRESETS = {
    "preset-1": ("clip",),
    "preset-2": ("clip", "convnext-xl"),
    "preset-4": ("clip", "clip-rn50x64", "clip-vit-l-14", "convnext-xl"),
    "preset-7": (
        "dino-s8",
        "dino-b8",
        "clip",
        "clip-rn50x64",
        "clip-vit-l-14",
        "convnext-xl",
        "beit-l-384",
    ),
}
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")


@dataclass(frozen=True)
class TimmEncoder:
    """A timm network without its head as an `ImageEncoder`.

    Attributes:
        name: name of the feature set.
        model: architecture and weights by their name in timm.
        weights: file with a state dict, as safetensors or a file of `torch.save`.
    """

    name: str
    model: str
    weights: Path
    reads_faces: bool = False

    @property
    def digest(self) -> str:
        """sha256 of the weights."""
        return file_digest(self.weights)

    def __call__(
        self, images: list[Pixels], faces: Sequence[Sequence[Detection]] | None = None
    ) -> Array:
        """(N, D) float32 unit vectors of N images.

        Raises:
            SfhqError: the weights are not those of the model.
        """
        import torch
        import torch.nn.functional as F
        from PIL import Image

        network, transform = _timm(self.model, str(self.weights))
        batch = torch.stack([transform(Image.fromarray(i)) for i in images])
        with torch.inference_mode():
            vectors: Array = F.normalize(network(batch).float(), dim=1).numpy()
        return np.ascontiguousarray(vectors)


@lru_cache(maxsize=2)
def _timm(model: str, weights: str) -> tuple[Any, Any]:
    import torch
    from safetensors.torch import load_file

    timm: Any = importlib.import_module("timm")  # its types are not exported
    try:
        network = timm.create_model(model, pretrained=False, num_classes=0)
        state: Any
        if weights.endswith(".safetensors"):
            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        state = state.get("model", state.get("state_dict", state))
        wanted = network.state_dict()
        missing = sorted(set(wanted) - set(state))
        if missing:
            raise ValueError(f"{len(missing)} tensors are missing, the first is {missing[0]}")
        network.load_state_dict({k: state[k] for k in wanted})
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise SfhqError(
            f"{weights}: holds no weights of {model} ({line}); wanted timm's file of that name"
        ) from None
    config = timm.data.resolve_model_data_config(network)
    return network.eval(), timm.data.create_transform(**config, is_training=False)


def preset(name: str, folder: Path | None) -> tuple[ImageEncoder, ...]:
    """The encoders of a preset, or of one feature set.

    Args:
        name: "preset-1", "preset-2", "preset-4", "preset-7" or the name of a feature set.
        folder: folder with `<set>.safetensors` (or .bin, .pth, .pt) for each set; for "clip" also
            the file itself, or None to use the caches.

    Raises:
        UsageError: the name is unknown.
        SfhqError: weights are missing; the message names all of them.
    """
    sets = PRESETS.get(name, (name,) if name in CLIP or name in TIMM else ())
    if not sets:
        known = ", ".join([*PRESETS, *CLIP, *TIMM])
        raise UsageError(f"unknown feature set {name!r}; wanted geometry, efficientnet, {known}")
    files = {s: _file(folder, s) for s in sets}
    missing = [s for s, file in files.items() if file is None and s != "clip"]
    if missing or ("clip" in files and folder is not None and files["clip"] is None):
        lost = missing or ["clip"]
        raise SfhqError(
            f"{name}: found no weights of {', '.join(lost)} in {folder or 'any folder'}; put "
            f"{lost[0]}.safetensors of {CLIP.get(lost[0], TIMM.get(lost[0]))} into a folder and "
            "give --encoder-weights FOLDER, or use --features geometry,efficientnet"
        )
    found: list[ImageEncoder] = []
    for name_of_set, file in files.items():
        if name_of_set in CLIP:
            found.append(ClipEncoder(CLIP[name_of_set], file, name_of_set))
        elif file is not None:
            found.append(TimmEncoder(name_of_set, TIMM[name_of_set], file))
    return tuple(found)


def _file(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    if folder.is_file():
        return folder if name == "clip" else None
    for suffix in SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    return None
