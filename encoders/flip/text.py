"""BERT with cross-attention in every layer, under the published parameter names.

Without an image it is BERT as an encoder. With an image's tokens, each layer also attends to them.

Source: Devlin et al. 2019, "BERT"; Li et al. 2022, "BLIP", for the cross-attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.flip.vision import merge_heads, run_layer, split_heads, start

EPS = 1e-12  # of every layer norm of BERT


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the text network; the defaults are those of bert-base-uncased and FLIP.

    Attributes:
        vocabulary: number of tokens, with [DEC] and [ENC].
        length: most tokens of a text.
        width: length of a token's vector.
        depth: number of layers.
        heads: attention heads; they divide `width`.
        hidden: width inside the MLPs.
        image_width: length of the image tokens that are attended to.
    """

    vocabulary: int = 30524
    length: int = 512
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    image_width: int = 768

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.length, self.width, self.depth, self.heads, self.hidden)
        if min(*sizes, self.image_width) < 1:
            raise ValueError(f"{self}: wanted positive sizes")
        if self.width % self.heads:
            raise ValueError(f"width {self.width}: wanted a multiple of heads {self.heads}")


class Embeddings(nn.Module):
    """Ids to vectors with positions."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.length, config.width)
        self.token_type_embeddings = nn.Embedding(2, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=EPS)

    def forward(self, ids: Tensor) -> Tensor:
        """(N, L) to (N, L, C)."""
        places = self.position_embeddings.weight[: ids.shape[1]]
        kind = self.token_type_embeddings.weight[0]
        x: Tensor = self.LayerNorm(self.word_embeddings(ids) + places + kind)
        return x


class Heads(nn.Module):
    """Attention before its output layer; what the published names call `self`."""

    def __init__(self, config: TextConfig, attended: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(attended, config.width)
        self.value = nn.Linear(attended, config.width)

    def forward(
        self, x: Tensor, attended: Tensor, mask: Tensor | None, which: Tensor | None = None
    ) -> Tensor:
        """(N, L, C) and (N, M, D) to (N, L, C); `which` as of `TextTower.first`."""
        q, k, v = (
            split_heads(p, self.heads)
            for p in (self.query(x), self.key(attended), self.value(attended))
        )
        if which is not None:
            k, v = k.index_select(0, which), v.index_select(0, which)
        return merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


class Output(nn.Module):
    """A linear layer whose result is added to the input and normalised."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """(N, L, D) and (N, L, C) to (N, L, C)."""
        out: Tensor = self.LayerNorm(self.dense(x) + before)
        return out


class Attention(nn.Module):
    """Attention to the text itself, or to an image."""

    def __init__(self, config: TextConfig, attended: int) -> None:
        super().__init__()
        self.self = Heads(config, attended)
        self.output = Output(config.width, config.width)

    def forward(
        self, x: Tensor, attended: Tensor, mask: Tensor | None, which: Tensor | None = None
    ) -> Tensor:
        """(N, L, C) and (N, M, D) to (N, L, C); `which` as of `TextTower.first`."""
        out: Tensor = self.output(self.self(x, attended, mask, which), x)
        return out


class Intermediate(nn.Module):
    """The first half of an MLP."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, L, hidden)."""
        return F.gelu(self.dense(x))


class Layer(nn.Module):
    """A transformer layer, normalised after its parts."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.attention = Attention(config, config.width)
        self.crossattention = Attention(config, config.image_width)
        self.intermediate = Intermediate(config)
        self.output = Output(config.hidden, config.width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        image: Tensor | None,
        which: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        """(N, L, C) to (N, L, C), or to (N, count, C) of the first tokens only."""
        x = self.attention(x[:, :count], x, mask)
        if image is not None:
            x = self.crossattention(x, image, None, which)
        out: Tensor = self.output(self.intermediate(x), x)
        return out


class Encoder(nn.Module):
    """The layers."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.depth))


class TextTower(nn.Module):
    """Texts to vectors of their tokens, alone or looking at an image.

    There is no dropout, so the same batch gives the same numbers however it is split.

    Attributes:
        checkpointing: as of `VisionTower`.

    Args:
        config: sizes.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.apply(start)

    def forward(self, ids: Tensor, mask: Tensor, image: Tensor | None = None) -> Tensor:
        """Vectors of tokens.

        Args:
            ids: (N, L) int64, at most `config.length` long.
            mask: (N, L) bool, False for padding.
            image: (N, M, D) tokens of an image for each text, or None.

        Returns:
            (N, L, C).
        """
        x: Tensor = self.embeddings(ids)
        seen = mask.to(torch.bool)[:, None, None, :]  # (N, 1, 1, L)
        for layer in self.encoder.layer:
            x = run_layer(layer, self.checkpointing and self.training, x, seen, image)
        return x

    def first(
        self, ids: Tensor, mask: Tensor, image: Tensor | None = None, which: Tensor | None = None
    ) -> Tensor:
        """(N, C) vector of each text's first token: that of `forward`, with less work.

        Args:
            ids, mask: as of `forward`.
            image: (K, M, D) tokens of K images, or None.
            which: (N,) the image of each text; None where there are as many, in order.
        """
        x: Tensor = self.embeddings(ids)
        seen = mask.to(torch.bool)[:, None, None, :]  # (N, 1, 1, L)
        last = len(self.encoder.layer) - 1
        for number, layer in enumerate(self.encoder.layer):
            # Of the last layer only the first token is wanted.
            count = 1 if number == last else None
            again = self.checkpointing and self.training
            x = run_layer(layer, again, x, seen, image, which, count)
        return x[:, 0]
