"""The encoder e4e: an image to a w_plus that is close to w, so that it stays editable.

The first style head gives w. Each other head gives a small delta for one synthesis layer, which is
added to w. The generator's mean latent is added to all. Parameters have the names of the published
files.

Source: Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation"; Richardson et al.
2021, "Encoding in Style", for the pyramid and the heads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.e4e.irse import Backbone, BackboneConfig
from sfhq.errors import IntegrityError, UsageError
from sfhq.weights.checkpoints import (
    build_network,
    file_digest,
    pack_path,
    read_checkpoint,
    read_header,
    require_fit,
    save_checkpoint,
)
from stylegan2_ops.foreign.safetensors_files import write_safetensors
from stylegan2_ops.layers import FullyConnected

COARSE_HEADS = 3
MIDDLE_HEADS = 7


@dataclass(frozen=True)
class E4eConfig:
    """Sizes of an encoder; the defaults are those of the published 1024-pixel encoder.

    Attributes:
        num_ws: number of style heads, one per w vector of the generator.
        input_size: height and width of the input, a power of two, 64 or more.
        w_dim: length of w.
        head_width: channels of the pyramid and of the style heads.
        backbone: sizes of the backbone.
    """

    num_ws: int = 18
    input_size: int = 256
    w_dim: int = 512
    head_width: int = 512
    backbone: BackboneConfig = field(default_factory=BackboneConfig)

    def __post_init__(self) -> None:
        if self.input_size < 64 or self.input_size & (self.input_size - 1):
            raise ValueError(f"input_size is {self.input_size}; wanted a power of two, 64 or more")
        if self.num_ws < 1:
            raise ValueError(f"num_ws is {self.num_ws}; wanted a positive integer")

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name, ready for JSON."""
        return {
            "num_ws": self.num_ws,
            "input_size": self.input_size,
            "w_dim": self.w_dim,
            "head_width": self.head_width,
            "backbone": self.backbone.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> E4eConfig:
        """The inverse of `to_dict`."""
        backbone = BackboneConfig(
            widths=tuple(values["backbone"]["widths"]),
            depths=tuple(values["backbone"]["depths"]),
        )
        return cls(**{**values, "backbone": backbone})


class StyleHead(nn.Module):
    """Stride-2 convolutions down to one pixel, then a linear layer: features to a w.

    Args:
        in_channels: channels of the feature map.
        width: channels of the convolutions.
        w_dim: length of w.
        spatial: height and width of the feature map, a power of two.
    """

    def __init__(self, in_channels: int, width: int, w_dim: int, spatial: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(int(math.log2(spatial))):
            channels = in_channels if index == 0 else width
            layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = FullyConnected(width, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) to (N, w_dim)."""
        w: Tensor = self.linear(self.convs(x).flatten(1))
        return w


class E4e(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to w_plus (N, num_ws, w_dim).

    The buffer `latent_avg`, (num_ws, w_dim), is the generator's mean latent. It is added to every
    output.

    Args:
        config: sizes of the encoder.
    """

    latent_avg: Tensor

    def __init__(self, config: E4eConfig) -> None:
        super().__init__()
        self.config = config
        widths, head = config.backbone.widths, config.head_width
        self.encoder = Backbone(config.backbone)
        self.reduce = nn.Identity() if widths[3] == head else nn.Conv2d(widths[3], head, 1)
        self.latlayer1 = nn.Conv2d(widths[2], head, 1)
        self.latlayer2 = nn.Conv2d(widths[1], head, 1)
        self.styles = nn.ModuleList()
        for index in range(config.num_ws):
            shrink = 16 if index < COARSE_HEADS else 8 if index < MIDDLE_HEADS else 4
            spatial = config.input_size // shrink
            self.styles.append(StyleHead(head, head, config.w_dim, spatial))
        self.register_buffer("latent_avg", torch.zeros(config.num_ws, config.w_dim))

    def forward(self, images: Tensor, stage: int | None = None) -> Tensor:
        """Encode images.

        Args:
            images: (N, 3, H, W) in [-1, 1]; other sizes are resized to `input_size` (bilinear,
                antialiased).
            stage: number of active deltas. 0 gives one w for all layers, as at the start of
                training and for a fast preview; None gives all.

        Returns:
            (N, num_ws, w_dim).
        """
        config = self.config
        if images.shape[-1] != config.input_size or images.shape[-2] != config.input_size:
            images = F.interpolate(
                images, (config.input_size, config.input_size), mode="bilinear", antialias=True
            )
        c1, c2, c3 = self.encoder(images)
        c3 = self.reduce(c3)
        w = self.styles[0](c3)
        active = config.num_ws - 1 if stage is None else min(stage, config.num_ws - 1)
        layers = [w]
        p2 = _enlarge(c3, c2) + self.latlayer1(c2) if active >= COARSE_HEADS else c3
        p1 = _enlarge(p2, c1) + self.latlayer2(c1) if active >= MIDDLE_HEADS else p2
        for index in range(1, config.num_ws):
            if index > active:
                layers.append(w)
                continue
            features = c3 if index < COARSE_HEADS else p2 if index < MIDDLE_HEADS else p1
            layers.append(w + self.styles[index](features))
        return torch.stack(layers, dim=1) + self.latent_avg


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


def count_macs(config: E4eConfig) -> int:
    """Number of multiply-adds to encode one image, in convolutions and linear layers."""
    total = 0

    def hook(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, FullyConnected):
            total += output.numel() * module.weight.shape[1]

    with torch.device("meta"):
        network = E4e(config)
        for module in network.modules():
            module.register_forward_hook(hook)
        network(torch.empty(1, 3, config.input_size, config.input_size))
    return total


def save_e4e(
    path: Path, network: E4e, notes: Mapping[str, str] | None = None, half: bool = False
) -> None:
    """Write an encoder and its config as safetensors.

    Args:
        path: the file to write.
        network: the encoder.
        notes: more entries for the file's header.
        half: store float16 instead of float32.
    """
    save_checkpoint(path, "e4e", network.config.to_dict(), network.state_dict(), notes, half)


def save_e4e_state(
    path: Path, config: E4eConfig, state: Mapping[str, Tensor], notes: Mapping[str, str]
) -> None:
    """Write the tensors of an encoder and its config as safetensors, without copies of them.

    Args:
        path: the file to write.
        config: sizes of the encoder.
        state: the tensors of `E4e(config)`, in the network's dtypes.
        notes: more entries for the file's header.

    Raises:
        IntegrityError: the tensors are not those of `E4e(config)`.
    """
    with torch.device("meta"):
        network = E4e(config)
    require_fit(network, state)
    architecture = json.dumps(config.to_dict(), sort_keys=True)
    write_safetensors(path, state, {"kind": "e4e", "architecture": architecture, **notes})


def require_pair(generator: Path | None = None, e4e: Path | None = None) -> None:
    """Check that an encoder was made for a generator.

    The headers are compared: by the fingerprint of the generator's weights, which is the same in
    all formats of a published generator, or by the sha256 of the generator's file. If the encoder's
    header has neither, the check passes.

    Args:
        generator: a safetensors file; None for the embedded pack.
        e4e: a safetensors file; None for the embedded pack.

    Raises:
        IntegrityError: the encoder was made for another generator.
    """
    generator, e4e = generator or pack_path("generator"), e4e or pack_path("e4e")
    ours = read_header(generator, "generator").get("fingerprint")
    notes = read_header(e4e, "e4e")
    wanted, what = notes.get("fingerprint"), "fingerprint"
    if not (ours and wanted):
        if "generator" not in notes:
            return
        ours, wanted, what = file_digest(generator), notes["generator"], "sha256"
    if ours != wanted:
        raise IntegrityError(
            f"{e4e}: was made for the generator with {what} {wanted[:16]}, but {generator} has "
            f"{ours[:16]}; give --generator and --e4e that belong together"
        )


def load_e4e(path: Path | None = None, num_ws: int | None = None) -> tuple[E4e, str]:
    """Load an encoder in eval mode, and the sha256 of its file.

    Args:
        path: a safetensors file; None for the embedded pack.
        num_ws: number of w vectors of the generator, to be checked; None skips the check.

    Raises:
        UsageError: the file has an encoder of another kind; `load_encoder` and `load_base` take it.
        IntegrityError: the file is damaged, or was made for a generator of another resolution.
    """
    checkpoint = read_checkpoint(path or pack_path("e4e"), "e4e")
    if {"base", "stem"} & set(checkpoint.architecture):
        raise UsageError(f"{checkpoint.path}: is no plain e4e; wanted one of sfhq train e4e")
    network = build_network(checkpoint, lambda sizes: E4e(E4eConfig.from_dict(sizes)))
    require_layers(checkpoint.path, network.config.num_ws, num_ws)
    return network, checkpoint.digest


def require_layers(path: Path, found: int, wanted: int | None) -> None:
    """Check that an encoder has as many layers as the generator; None skips the check.

    Raises:
        IntegrityError: it has another number.
    """
    if wanted is not None and found != wanted:
        raise IntegrityError(
            f"{path}: has {found} layers, but the generator has {wanted}; give the encoder that "
            "was trained for this generator"
        )
