"""BiSeNet with a ResNet as its only path: 19 classes from a grid of an eighth of the picture.

Source: Yu et al. 2018, "BiSeNet: Bilateral Segmentation Network for Real-time Semantic
Segmentation", with the changes of the published face parsers: no spatial path (the ResNet's grid of
1/8 takes its place), and nearest-neighbour enlarging between levels. Layers carry the names of the
published file 79999_iter.pth, so its tensors need no other names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # layers of the ResNet -> blocks of each stage
CLASSES = 19


class ConvBnRelu(nn.Module):
    """A convolution without bias, normalised and rectified."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return functional.relu(self.bn(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        inner = functional.relu(self.bn1(self.conv1(x)))
        inner = self.bn2(self.conv2(inner))
        return functional.relu(inner + (x if self.downsample is None else self.downsample(x)))


def _level(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(ResidualBlock(inputs, outputs, stride), *rest)


class ResNet(nn.Module):
    """The trunk; gives its grids of 1/8, 1/16 and 1/32."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        one, two, three, four = DEPTHS[layers]
        self.layer1 = _level(64, 64, one, 1)
        self.layer2 = _level(64, 128, two, 2)
        self.layer3 = _level(128, 256, three, 2)
        self.layer4 = _level(256, 512, four, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) to (N, 128, H/8, W/8), (N, 256, H/16, W/16), (N, 512, H/32, W/32)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer1(functional.max_pool2d(x, 3, 2, 1))
        eighth = self.layer2(x)
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class Attention(nn.Module):
    """Attention refinement: each channel weighted by what it holds in the whole picture."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvBnRelu(inputs, outputs, 3)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        x = self.conv(x)
        weights: Tensor = self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True)))
        return x * weights.sigmoid()


class ContextPath(nn.Module):
    """Context from coarse to fine: (N, 128, H/8, W/8) of the trunk and of the context."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.resnet = ResNet(layers)
        self.arm16 = Attention(256, 128)
        self.arm32 = Attention(512, 128)
        self.conv_head32 = ConvBnRelu(128, 128, 3)
        self.conv_head16 = ConvBnRelu(128, 128, 3)
        self.conv_avg = ConvBnRelu(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) to the trunk's and the context's features."""
        eighth, sixteenth, coarse = self.resnet(x)
        whole = self.conv_avg(coarse.mean((2, 3), keepdim=True))  # (N, 128, 1, 1)
        context = self.arm32(coarse) + whole
        context = self.conv_head32(functional.interpolate(context, sixteenth.shape[2:]))
        context = self.arm16(sixteenth) + context
        return eighth, self.conv_head16(functional.interpolate(context, eighth.shape[2:]))


class Fusion(nn.Module):
    """Feature fusion of both paths, 128 channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.convblk = ConvBnRelu(256, 256, 1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, trunk: Tensor, context: Tensor) -> Tensor:
        """Two of (N, 128, H, W) to (N, 256, H, W)."""
        x: Tensor = self.convblk(torch.cat([trunk, context], 1))
        weights: Tensor = self.conv2(functional.relu(self.conv1(x.mean((2, 3), keepdim=True))))
        return x + x * weights.sigmoid()


class Head(nn.Module):
    """Features to logits."""

    def __init__(self, inputs: int, middle: int) -> None:
        super().__init__()
        self.conv = ConvBnRelu(inputs, middle, 3)
        self.conv_out = nn.Conv2d(middle, CLASSES, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 19, H, W)."""
        out: Tensor = self.conv_out(self.conv(x))
        return out


class BiSeNet(nn.Module):
    """The parser.

    Args:
        layers: of the ResNet, 18 or 34.
    """

    def __init__(self, layers: int = 18) -> None:
        super().__init__()
        self.cp = ContextPath(layers)
        self.ffm = Fusion()
        self.conv_out = Head(256, 256)
        self.conv_out16 = Head(128, 64)  # this one and the next guide training only
        self.conv_out32 = Head(128, 64)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a picture of any size from 32 pixels on.

        Args:
            x: (N, 3, H, W) RGB, normalised with `annotate.bisenet.published`'s MEAN and STD.

        Returns:
            (N, 19, H, W); enlarged from the grid of 1/8 with corners aligned, as in training.
        """
        logits = self.conv_out(self.ffm(*self.cp(x)))
        return functional.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=True)
