"""IR-SE-50, e4e's backbone: the improved residual network with squeeze and excitation.

Parameters have the names of the published encoder files.

Source: Deng et al. 2019, "ArcFace"; Hu et al. 2018, "Squeeze-and-Excitation Networks".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

SE_REDUCTION = 16


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes of the backbone; the defaults are IR-SE-50.

    Attributes:
        widths: channels of the four stages; the input layer has those of the first stage.
        depths: number of bottlenecks per stage.
    """

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    depths: tuple[int, int, int, int] = (3, 4, 14, 3)

    def to_dict(self) -> dict[str, list[int]]:
        """The numbers by name, ready for JSON."""
        return {name: list(value) for name, value in asdict(self).items()}


class SqueezeExcite(nn.Module):
    """Multiply each channel by a gate in (0, 1) that is computed from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // SE_REDUCTION, 1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        gate: Tensor = self.fc2(torch.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True))))
        scaled: Tensor = x * torch.sigmoid(gate)
        return scaled


class Bottleneck(nn.Module):
    """Batch norm, 3x3, PReLU, 3x3 with stride, batch norm, squeeze and excite, and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            SqueezeExcite(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, channels, H / stride, W / stride)."""
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


class Backbone(nn.Module):
    """Images to feature maps at 1/4, 1/8 and 1/16 of their size.

    Args:
        config: sizes of the backbone.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        first = config.widths[0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        blocks: list[nn.Module] = []
        self.taps: list[int] = []
        width = first
        for channels, depth in zip(config.widths, config.depths, strict=True):
            for index in range(depth):
                blocks.append(Bottleneck(width, channels, 2 if index == 0 else 1))
                width = channels
            self.taps.append(len(blocks) - 1)
        self.body = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] to features at H/4, H/8 and H/16."""
        x = self.input_layer(x)
        found: list[Tensor] = []
        for index, block in enumerate(self.body):
            x = block(x)
            if index in self.taps[1:]:
                found.append(x)
        return found[0], found[1], found[2]
