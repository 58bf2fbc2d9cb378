"""Differentiable augmentation that can be applied in the same way to real and generated images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of brightness, saturation, contrast and place, one value per sample.

    Attributes:
        brightness: (N, 1, 1, 1), added to the image.
        saturation: (N, 1, 1, 1), factor on the difference from grey.
        contrast: (N, 1, 1, 1), factor on the difference from the image's mean.
        shift: (N, 2), translation (x, y) as a share of the image's side.
    """

    brightness: Tensor
    saturation: Tensor
    contrast: Tensor
    shift: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """The augmented images, (N, 3, H, W); differentiable.

        Args:
            images: (N, 3, H, W) in [-1, 1].
        """
        luma = images.new_tensor(LUMA).reshape(1, 3, 1, 1)
        device = images.device
        x = images + self.brightness.to(device)
        grey = (x * luma).sum(dim=1, keepdim=True)
        x = grey + (x - grey) * self.saturation.to(device)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = mean + (x - mean) * self.contrast.to(device)
        size = x.shape[-1]
        margin = max(1, round(size * MAX_SHIFT))
        padded = F.pad(x, (margin, margin, margin, margin), mode="reflect")
        rows = []
        for index, (dx, dy) in enumerate((self.shift * size).round().long().tolist()):
            top, left = margin + dy, margin + dx
            rows.append(padded[index, :, top : top + size, left : left + size])
        return torch.stack(rows)


MAX_SHIFT = 0.08


def draw_augmentation(
    count: int, generator: torch.Generator, strength: float = 1.0
) -> Augmentation:
    """Draw the random changes for `count` images.

    Args:
        count: number of images.
        generator: random number generator.
        strength: 0 changes nothing; 1 is the usual amount.
    """

    def uniform(low: float, high: float) -> Tensor:
        draw = torch.rand(count, 1, 1, 1, generator=generator)
        return (low + (high - low) * draw) * strength

    return Augmentation(
        brightness=uniform(-0.2, 0.2),
        saturation=1.0 + uniform(-0.4, 0.4),
        contrast=1.0 + uniform(-0.25, 0.25),
        shift=(torch.rand(count, 2, generator=generator) * 2 - 1) * MAX_SHIFT * 0.99 * strength,
    )
