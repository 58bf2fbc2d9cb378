"""A vision transformer with the parameter names of CLIP's image network in `transformers`.

Its tokens are patches of the image or, as in the hybrid form, what the label network sees: places
of its feature maps, and in the token of the whole image what it knows of the whole face. That needs
far fewer images to learn from.

Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision"; Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1 for the hybrid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfhq.networks.labels import LabelConfig, LabelNetwork

STEP = 32  # pixels from one place of the label network's coarsest features to the next
EPS = 1e-5  # of every layer norm of CLIP


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the image network; the defaults are those of ViT-B/16 at 224 pixels.

    Attributes:
        size: height and width of the input, a multiple of `patch`.
        patch: height and width of a patch.
        width: length of a token.
        depth: number of layers.
        heads: attention heads; they divide `width`.
        hidden: width inside the MLPs.
        stem: sizes of the label network whose features are the tokens, instead of patches; `patch`
            is 32 then.
    """

    size: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    stem: LabelConfig | None = None

    def __post_init__(self) -> None:
        if self.stem is not None and self.patch != STEP:
            raise ValueError(f"patch {self.patch} with a stem; wanted {STEP}")
        if min(self.size, self.patch, self.width, self.depth, self.heads, self.hidden) < 1:
            raise ValueError(f"{self}: wanted positive sizes")
        if self.size % self.patch or self.width % self.heads:
            raise ValueError(
                f"size {self.size} and width {self.width}: wanted multiples of patch "
                f"{self.patch} and of heads {self.heads}"
            )

    @property
    def places(self) -> int:
        """Patches of an image, or places of a stem's features."""
        return (self.size // self.patch) ** 2

    @property
    def tokens(self) -> int:
        """Tokens of an image: one for the whole, then one per place."""
        return 1 + self.places


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(N, L, C) to (N, heads, L, C / heads)."""
    split: Tensor = x.unflatten(2, (heads, -1)).transpose(1, 2)
    return split


def merge_heads(x: Tensor) -> Tensor:
    """The inverse of `split_heads`."""
    merged: Tensor = x.transpose(1, 2).flatten(2)
    return merged


class Attention(nn.Module):
    """Self-attention."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, L, C)."""
        q, k, v = (split_heads(p(x), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))
        return out


class Mlp(nn.Module):
    """Two linear layers with OpenAI's fast approximation of GELU, x * sigmoid(1.702 x)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, L, C)."""
        x = self.fc1(x)
        out: Tensor = self.fc2(x * torch.sigmoid(1.702 * x))
        return out


class Layer(nn.Module):
    """A transformer layer, normalised before its parts."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.layer_norm1 = nn.LayerNorm(config.width, eps=EPS)
        self.mlp = Mlp(config)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, L, C)."""
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class Embeddings(nn.Module):
    """Patches, or what a stem sees, to tokens with positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(config.width) * 0.02)
        self.stem = None if config.stem is None else LabelNetwork(config.stem).fold()
        shape = (3, config.width, config.patch, config.patch)
        if config.stem is not None:
            *_, middle, deep = config.stem.backbone.taps
            self.widths = (config.stem.hidden, deep + 4 * middle)
            self.face_norm = nn.LayerNorm(self.widths[0], eps=EPS)
            self.face_embedding = nn.Linear(self.widths[0], config.width, bias=False)
            self.norm = nn.LayerNorm(self.widths[1], eps=EPS)
            shape = (self.widths[1], config.width, 1, 1)
        self.patch_embedding = nn.Conv2d(*shape, bias=False)
        self.position_embedding = nn.Embedding(config.tokens, config.width)

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) to (N, 1 + P, F): what the stem sees.

        First the whole face, then the places in two sizes, joined. The shorter ones end in zeros.
        """
        assert self.stem is not None
        middle, deep, face = self.stem.features(images)
        places = torch.cat([deep, F.pixel_unshuffle(middle, 2)], 1).flatten(2).transpose(1, 2)
        most = max(self.widths)
        face, places = (F.pad(x.float(), (0, most - x.shape[-1])) for x in (face, places))
        return torch.cat([face[:, None], places], 1)

    def forward(self, images: Tensor, numbers: Tensor | None = None) -> Tensor:
        """(N, 3, S, S), or a stem's (N, 1 + P, F) `features`, to (N, 1 + P, C).

        `numbers`: (N, hidden) bool, which of the whole face's numbers are looked at; None for all.
        """
        if self.stem is not None:
            seen = self.features(images) if images.ndim == 4 else images
            width, deep = self.widths
            face = self.face_norm(seen[:, 0, :width])
            if numbers is not None:
                face = face * numbers * (numbers.shape[1] / numbers.sum(1, keepdim=True).clamp(1))
            whole = (self.class_embedding + self.face_embedding(face))[:, None]
            weight = self.patch_embedding.weight.flatten(1)
            patches = F.linear(self.norm(seen[:, 1:, :deep]), weight)
        else:
            patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
            whole = self.class_embedding.expand(len(images), 1, -1)
        tokens = torch.cat([whole.to(patches.dtype), patches], dim=1)
        return tokens + self.position_embedding.weight


class Encoder(nn.Module):
    """The layers."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))


class VisionModel(nn.Module):
    """What the published names call `vision_model`."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.width, eps=EPS)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.width, eps=EPS)


@dataclass(frozen=True)
class Kept:
    """What of N images is looked at in a training step.

    Source: Li et al. 2023, "Scaling Language-Image Pre-training via Masking", for places.

    Attributes:
        places: (N, K) int64, 0 to `VisionConfig.places` - 1.
        numbers: (N, hidden) bool, of a stem's features of the whole face; None for all.
    """

    places: Tensor
    numbers: Tensor | None = None

    def rows(self, rows: Tensor, device: torch.device) -> Kept:
        """Of some of the images."""
        numbers = None if self.numbers is None else self.numbers[rows].to(device)
        return Kept(self.places[rows].to(device), numbers)


class VisionTower(nn.Module):
    """Images (N, 3, S, S) to tokens (N, 1 + P, C), the one of the whole image first.

    Colours are standardised by CLIP's mean and deviation; see `encoders.flip.network.Flip`.

    Attributes:
        checkpointing: compute layers again in the backward pass instead of keeping what they made;
            less memory, the same gradients.

    Args:
        config: sizes.
        norm_tokens: apply `post_layernorm` to all tokens. The published FLIP does not.
    """

    def __init__(self, config: VisionConfig, norm_tokens: bool = False) -> None:
        super().__init__()
        self.config = config
        self.norm_tokens = norm_tokens
        self.checkpointing = False
        self.vision_model = VisionModel(config)
        self.vision_model.apply(start)
        if (stem := self.vision_model.embeddings.stem) is not None:
            stem.apply(start_stem)
        # The sum of 2 * depth branches keeps the size of the input.
        for layer in self.vision_model.encoder.layers:
            for part in (layer.self_attn.out_proj, layer.mlp.fc2):  # type: ignore[union-attr]
                part.weight.data.mul_((2 * config.depth) ** -0.5)  # type: ignore[union-attr,operator]

    def forward(self, images: Tensor, kept: Kept | None = None) -> Tensor:
        """(N, 1 + P, C), or (N, 1 + K, C) where only some places are kept.

        Args:
            images: (N, 3, S, S), or a stem's features of them.
            kept: what of each image is looked at; None for all.
        """
        model = self.vision_model
        x: Tensor = model.embeddings(images, None if kept is None else kept.numbers)
        if kept is not None:
            first = torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
            places = torch.cat([first, kept.places + 1], 1)
            x = x.gather(1, places[..., None].expand(-1, -1, x.shape[2]))
        x = model.pre_layrnorm(x)
        for layer in model.encoder.layers:
            x = run_layer(layer, self.checkpointing and self.training, x)
        return model.post_layernorm(x) if self.norm_tokens else x

    def pool(self, tokens: Tensor) -> Tensor:
        """(N, C), what CLIP projects of `forward`'s tokens without `norm_tokens`."""
        pooled: Tensor = self.vision_model.post_layernorm(tokens[:, 0])
        return pooled


def run_layer(layer: nn.Module, again: bool, *inputs: Any) -> Tensor:
    """A layer's output; `again` computes it a second time in the backward pass."""
    if again:
        result: Tensor = checkpoint(layer, *inputs, use_reentrant=False)
        return result
    made: Tensor = layer(*inputs)
    return made


def start(module: nn.Module) -> None:
    """Random weights to start from: small normal numbers, biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def start_stem(module: nn.Module) -> None:
    """Random weights of a stem to start from: variances that ReLUs keep."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
