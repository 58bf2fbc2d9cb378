"""StyleGAN2's residual discriminator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stylegan2_ops.generator import channels_at
from stylegan2_ops.layers import EqualConv, FullyConnected


def minibatch_std(x: Tensor, group_size: int = 4) -> Tensor:
    """Append one channel with the mean standard deviation over the samples of a group.

    Args:
        x: (N, C, H, W).
        group_size: samples per group; reduced to the largest divisor of N that is not above it.

    Returns:
        (N, C + 1, H, W).

    Source: Karras et al. 2018, "Progressive Growing of GANs", section 3.
    """
    n, c, h, w = x.shape
    group = max(g for g in range(1, min(group_size, n) + 1) if n % g == 0)
    y = x.float().reshape(group, n // group, c, h, w)
    y = y - y.mean(dim=0)
    deviation = (y.square().mean(dim=0) + 1e-8).sqrt()  # (N/G, C, H, W)
    channel = deviation.mean(dim=(1, 2, 3)).repeat(group)  # (N,)
    return torch.cat([x, channel.to(x.dtype).reshape(n, 1, 1, 1).expand(n, 1, h, w)], dim=1)


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a skip, halving the resolution; the first block reads RGB."""

    def __init__(self, in_channels: int, out_channels: int, reads_rgb: bool) -> None:
        super().__init__()
        self.reads_rgb = reads_rgb
        if reads_rgb:
            self.fromrgb = EqualConv(3, in_channels, kernel_size=1)
        self.conv0 = EqualConv(in_channels, in_channels, kernel_size=3)
        self.conv1 = EqualConv(in_channels, out_channels, kernel_size=3, down=2)
        self.skip = EqualConv(
            in_channels, out_channels, kernel_size=1, activation="linear", bias=False, down=2
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in or 3, H, W) to (N, out, H/2, W/2)."""
        if self.reads_rgb:
            x = self.fromrgb(x)
        y: Tensor = self.skip(x, gain=math.sqrt(0.5))
        z: Tensor = self.conv1(self.conv0(x), gain=math.sqrt(0.5))
        return y + z


class DiscriminatorEpilogue(nn.Module):
    """The last block: minibatch statistics, one convolution, two fully connected layers."""

    def __init__(self, channels: int, resolution: int, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size
        self.conv = EqualConv(channels + 1, channels, kernel_size=3)
        self.fc = FullyConnected(channels * resolution**2, channels, activation="lrelu")
        self.out = FullyConnected(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 4, 4) to (N, 1)."""
        y = self.conv(minibatch_std(x, self.group_size))
        logits: Tensor = self.out(self.fc(y.flatten(1)))
        return logits


class Discriminator(nn.Module):
    """Images (N, 3, R, R) to logits (N, 1), positive for real.

    Args:
        resolution: height and width, a power of two from 8 to 1024.
        channel_base: a block has `channel_base // resolution` channels, if that is not above
            `channel_max`.
        channel_max: largest number of channels of a block.
        group_size: samples per group in the minibatch statistics.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".
    """

    def __init__(
        self,
        resolution: int = 1024,
        channel_base: int = 32768,
        channel_max: int = 512,
        group_size: int = 4,
    ) -> None:
        super().__init__()
        self.resolutions = [2**i for i in range(int(math.log2(resolution)), 2, -1)]
        for res in self.resolutions:
            width = channels_at(res, channel_base, channel_max)
            out = channels_at(res // 2, channel_base, channel_max)
            setattr(self, f"b{res}", DiscriminatorBlock(width, out, res == resolution))
        self.b4 = DiscriminatorEpilogue(channels_at(4, channel_base, channel_max), 4, group_size)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 1) of images (N, 3, R, R)."""
        x = images
        for res in self.resolutions:
            x = getattr(self, f"b{res}")(x)
        logits: Tensor = self.b4(x)
        return torch.as_tensor(logits)
