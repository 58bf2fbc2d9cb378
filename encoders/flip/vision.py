"""A vision transformer with the parameter names of CLIP's image network in `transformers`.

Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision"; Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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
    """

    size: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072

    def __post_init__(self) -> None:
        if min(self.size, self.patch, self.width, self.depth, self.heads, self.hidden) < 1:
            raise ValueError(f"{self}: wanted positive sizes")
        if self.size % self.patch or self.width % self.heads:
            raise ValueError(
                f"size {self.size} and width {self.width}: wanted multiples of patch "
                f"{self.patch} and of heads {self.heads}"
            )

    @property
    def tokens(self) -> int:
        """Tokens of an image: one for the whole, then one per patch."""
        return 1 + (self.size // self.patch) ** 2


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
    """Patches to tokens with positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(config.width) * 0.02)
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, config.patch, bias=False)
        self.position_embedding = nn.Embedding(config.tokens, config.width)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) to (N, 1 + P, C)."""
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        whole = self.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
        return torch.cat([whole, patches], dim=1) + self.position_embedding.weight


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
        # The sum of 2 * depth branches keeps the size of the input.
        for layer in self.vision_model.encoder.layers:
            for part in (layer.self_attn.out_proj, layer.mlp.fc2):  # type: ignore[union-attr]
                part.weight.data.mul_((2 * config.depth) ** -0.5)  # type: ignore[union-attr,operator]

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1 + P, C)."""
        model = self.vision_model
        x: Tensor = model.pre_layrnorm(model.embeddings(images))
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
