"""Discriminators for small data sets, on frozen features and on images of few pixels.

Source: Sauer et al. 2021, "Projected GANs Converge Faster". The projection here is one fixed random
1x1 convolution per scale, and a fixed random mixing from coarse to fine scales.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from sfhq.training.features import TAP_CHANNELS
from stylegan2_ops.discriminator import minibatch_std


class ProjectedDiscriminator(nn.Module):
    """One small discriminator with spectral norm per feature scale.

    Args:
        width: channels after the random projection.
        mix: add each upsampled coarser scale to the next finer one.
    """

    def __init__(self, width: int = 64, mix: bool = True) -> None:
        super().__init__()
        self.mix = mix
        self.heads = nn.ModuleList()
        for index, channels in enumerate(TAP_CHANNELS):
            self.register_buffer(
                f"project{index}", torch.randn(width, channels, 1, 1) / channels**0.5
            )
            self.register_buffer(f"mix{index}", torch.randn(width, width, 1, 1) / width**0.5)
            self.heads.append(_head(width, strides=(3, 2, 1, 1)[index]))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Logits (N, h, w) per scale, from the features of `FeaturePyramid`."""
        projected = [F.conv2d(x, self.get_buffer(f"project{i}")) for i, x in enumerate(features)]
        if self.mix:
            for index in range(len(projected) - 2, -1, -1):
                coarse = F.conv2d(projected[index + 1], self.get_buffer(f"mix{index}"))
                size = projected[index].shape[-2:]
                projected[index] = projected[index] + F.interpolate(coarse, size, mode="bilinear")
        return [head(x).squeeze(1) for head, x in zip(self.heads, projected, strict=True)]


def _head(width: int, strides: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(strides):
        layers += [
            spectral_norm(nn.Conv2d(width, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
        ]
    layers += [
        spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, 1, 1)),
    ]
    return nn.Sequential(*layers)


class PixelDiscriminator(nn.Module):
    """A small discriminator with spectral norm on images reduced to `size` pixels.

    Args:
        size: height and width of its input; larger images are reduced first.
        width: channels of its first layer; they double at each downsampling, up to 4 times.
    """

    def __init__(self, size: int, width: int = 32) -> None:
        super().__init__()
        self.size = size
        layers: list[nn.Module] = []
        channels, resolution, out = 3, size, width
        while resolution > 4:
            layers += [
                spectral_norm(nn.Conv2d(channels, out, 4, stride=2, padding=1)),
                nn.LeakyReLU(0.2),
            ]
            channels, resolution, out = out, resolution // 2, min(out * 2, width * 4)
        self.body = nn.Sequential(*layers)
        self.last = nn.Sequential(
            spectral_norm(nn.Conv2d(channels + 1, channels, 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(channels, 1, 1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 4, 4) from images (N, 3, H, W)."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        x = minibatch_std(self.body(images), group_size=4)
        y: Tensor = self.last(x)
        return y.squeeze(1)


def hinge_discriminator(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Hinge loss of a discriminator on logits of real and generated images, mean over scales."""
    terms = [
        F.relu(1.0 - r).mean() + F.relu(1.0 + f).mean() for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def hinge_generator(fake: list[Tensor]) -> Tensor:
    """Hinge loss of the generator on logits of generated images, mean over scales."""
    return -torch.stack([f.mean() for f in fake]).mean()
