"""FLIP: an image network and a text network whose vectors are close where both say the same.

`Flip` gives unit vectors of images and of texts, and whether an image and a text belong together
(ITM). `Momentum` is its slow copy for training. Parameters have the names of the published files.

Source: Dai et al. 2024, "15M Multimodal Facial Image-Text Dataset"; Li et al. 2021, "Align before
Fuse", for the momentum and both losses.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.flip.text import TextConfig, TextTower
from encoders.flip.vision import Kept, VisionConfig, VisionTower
from sfhq.errors import UsageError
from sfhq.networks.labels import LabelConfig, LabelNetwork
from sfhq.weights.checkpoints import (
    build_network,
    pack_path,
    read_checkpoint,
    save_checkpoint,
)

# Of CLIP's training images, Radford et al. 2021, for colours in [0, 1].
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
COLDEST, WARMEST = 0.001, 0.5  # limits of the temperature


@dataclass(frozen=True)
class FlipConfig:
    """Sizes of FLIP; the defaults are the published ones.

    Attributes:
        vision: the image network.
        text: the text network.
        embedding: length of the vectors.
        length: most tokens of a text, [CLS] and [SEP] included.
        norm_tokens: normalise the image tokens; better from random weights, but the published
            network does not.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embedding: int = 256
    length: int = 65
    norm_tokens: bool = False

    def __post_init__(self) -> None:
        if self.text.image_width != self.vision.width:
            raise ValueError(
                f"text.image_width is {self.text.image_width}; wanted the image network's width, "
                f"{self.vision.width}"
            )
        if self.embedding < 1 or not 3 <= self.length <= self.text.length:
            raise ValueError(
                f"embedding {self.embedding}, length {self.length}: wanted a positive embedding "
                f"and a length from 3 to {self.text.length}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FlipConfig:
        """The inverse of `to_dict`."""
        seen = dict(values["vision"])
        if seen.get("stem") is not None:
            seen["stem"] = LabelConfig.from_dict(seen["stem"])
        vision, text = VisionConfig(**seen), TextConfig(**values["text"])
        return cls(**{**values, "vision": vision, "text": text})


def flip_config(name: str, vocabulary: int) -> FlipConfig:
    """A configuration by name.

    Args:
        name: "tiny" (about 6 million parameters, 128 pixels), "hybrid" (about 10 million, 256
            pixels: what the label network sees, then a transformer; for few images), "small"
            (about 35 million, 160 pixels) or "paper" (ViT-B/16 and BERT-base at 224 pixels).
        vocabulary: number of tokens.

    Raises:
        UsageError: no configuration has that name.
    """
    if name == "tiny":
        return FlipConfig(
            VisionConfig(128, 16, 192, 6, 3, 768),
            TextConfig(vocabulary, 65, 192, 5, 3, 768, 192),
            norm_tokens=True,
        )
    if name == "hybrid":
        return FlipConfig(
            VisionConfig(256, 32, 192, 4, 3, 768, LabelConfig()),
            TextConfig(vocabulary, 65, 192, 4, 3, 768, 192),
            norm_tokens=True,
        )
    if name == "small":
        return FlipConfig(
            VisionConfig(160, 16, 384, 12, 6, 1536),
            TextConfig(vocabulary, 65, 384, 6, 6, 1536, 384),
            norm_tokens=True,
        )
    if name == "paper":
        return FlipConfig(VisionConfig(), TextConfig(vocabulary))
    raise UsageError(f"unknown configuration {name!r}; wanted tiny, hybrid, small or paper")


class Flip(nn.Module):
    """Images and texts to unit vectors, and pairs of them to a decision.

    Attributes:
        temp: the temperature of the contrastive loss, (), trained within [0.001, 0.5].

    Args:
        config: sizes.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: FlipConfig) -> None:
        super().__init__()
        self.config = config
        self.visual_encoder = VisionTower(config.vision, config.norm_tokens)
        self.text_encoder = TextTower(config.text)
        self.vision_proj = nn.Linear(config.vision.width, config.embedding)
        self.text_proj = nn.Linear(config.text.width, config.embedding)
        self.itm_head = nn.Linear(config.text.width, 2)
        self.temp = nn.Parameter(torch.tensor(0.07))
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    @property
    def stem(self) -> LabelNetwork:
        """The label network of a hybrid.

        Raises:
            UsageError: there is none.
        """
        found = self.visual_encoder.vision_model.embeddings.stem
        if found is None:
            raise UsageError("these sizes have no stem; wanted those of hybrid")
        return found

    def use_checkpointing(self, again: bool) -> None:
        """Compute layers again in the backward pass, to need less memory."""
        self.visual_encoder.checkpointing = self.text_encoder.checkpointing = again

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Bring the temperature back into its limits."""
        self.temp.clamp_(COLDEST, WARMEST)

    def image_tokens(self, images: Tensor, kept: Kept | None = None) -> Tensor:
        """(N, 1 + P, C) tokens of images (N, 3, S, S) in [-1, 1], or of a stem's features.

        `kept` as of `VisionTower.forward`.
        """
        tokens: Tensor = self.visual_encoder(standardised(self, images), kept)
        return tokens

    def image_vectors(self, tokens: Tensor) -> Tensor:
        """(N, D) unit vectors of image tokens."""
        return F.normalize(self.vision_proj(tokens[:, 0]).float(), dim=1)

    def text_vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, D) unit vectors of texts (N, L) that begin with [CLS]."""
        return F.normalize(self.text_proj(self.text_encoder.first(ids, mask)).float(), dim=1)

    def match(
        self, tokens: Tensor, ids: Tensor, mask: Tensor, which: Tensor | None = None
    ) -> Tensor:
        """Logits (N, 2) of "not a pair" and "a pair".

        Args:
            tokens: (K, 1 + P, C) of images.
            ids: (N, L) of texts that begin with [ENC].
            mask: (N, L) bool, False for padding.
            which: (N,) the image of each text; None where there are as many, in order.
        """
        seen = self.text_encoder.first(ids, mask, tokens, which)
        logits: Tensor = self.itm_head(seen).float()
        return logits


def standardised(network: Flip | Momentum, images: Tensor) -> Tensor:
    """Images in [-1, 1] with CLIP's mean and deviation taken out; a stem takes them as they are."""
    if network.visual_encoder.config.stem is not None:
        return images
    return ((images + 1) / 2 - network.mean) / network.deviation


class Momentum(nn.Module):
    """The slow copy of a FLIP that makes the keys of the contrastive loss; it has no gradients.

    Args:
        network: what is copied.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: Flip) -> None:
        super().__init__()
        self.visual_encoder = copy.deepcopy(network.visual_encoder)
        self.text_encoder = copy.deepcopy(network.text_encoder)
        self.vision_proj = copy.deepcopy(network.vision_proj)
        self.text_proj = copy.deepcopy(network.text_proj)
        self.register_buffer("mean", network.mean.clone(), persistent=False)
        self.register_buffer("deviation", network.deviation.clone(), persistent=False)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def follow(self, network: Flip, momentum: float) -> None:
        """Move towards the network: keep `momentum` of what is here."""
        theirs = dict(network.named_parameters())
        mine = dict(self.named_parameters())
        torch._foreach_lerp_(list(mine.values()), [theirs[n] for n in mine], 1 - momentum)

    @torch.no_grad()
    def keys(self, images: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors (N, D) of images in [-1, 1] and of texts."""
        seen = self.visual_encoder(standardised(self, images))
        said = self.text_encoder.first(ids, mask)
        return (
            F.normalize(self.vision_proj(seen[:, 0]).float(), dim=1),
            F.normalize(self.text_proj(said).float(), dim=1),
        )


def save_flip(
    path: Path, network: Flip, notes: Mapping[str, str] | None = None, half: bool = False
) -> None:
    """Write a FLIP and its config as safetensors.

    Args:
        path: the file to write.
        network: the network.
        notes: more entries for the file's header; "vocabulary" is the text of the token list.
        half: store float16 instead of float32.
    """
    save_checkpoint(path, "flip", network.config.to_dict(), network.state_dict(), notes, half)


@dataclass(frozen=True)
class LoadedFlip:
    """A FLIP read from a file.

    Attributes:
        network: in eval mode, without gradients.
        digest: sha256 of the file.
        notes: other entries of the header.
    """

    network: Flip
    digest: str
    notes: dict[str, str]


def load_flip(path: Path | None = None) -> LoadedFlip:
    """Load a FLIP that `save_flip` wrote.

    Args:
        path: a safetensors file; None for the embedded pack.

    Raises:
        UsageError: there is no such file.
        IntegrityError: the file is damaged.
    """
    checkpoint = read_checkpoint(path or pack_path("flip"), "flip")
    network = build_network(checkpoint, lambda sizes: Flip(FlipConfig.from_dict(sizes)))
    return LoadedFlip(network, checkpoint.digest, checkpoint.notes)
