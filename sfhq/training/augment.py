"""Differentiable changes that can be applied in the same way to real and generated images."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)


@cache
def _luma(device: torch.device) -> Tensor:
    return torch.tensor(LUMA, device=device).reshape(1, 3, 1, 1)


class Augmentation(NamedTuple):
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
        device = images.device
        luma = _luma(device)
        x = images + self.brightness.to(device)
        grey = (x * luma).sum(dim=1, keepdim=True)
        x = grey + (x - grey) * self.saturation.to(device)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = mean + (x - mean) * self.contrast.to(device)
        size = x.shape[-1]
        margin = max(1, round(size * MAX_SHIFT))
        padded = F.pad(x, (margin, margin, margin, margin), mode="reflect")
        return cut(padded, margin + (self.shift * size).round().long(), size)


MAX_SHIFT = 0.08


def cut(images: Tensor, corners: Tensor, size: int) -> Tensor:
    """A square of each image; differentiable.

    Args:
        images: (N, C, H, W).
        corners: (N, 2) int64, left and top of each square.
        size: height and width of the squares; they lie within the images.

    Returns:
        (N, C, size, size).
    """
    if images.device.type == "cpu":
        places = corners.tolist()
        rows = [images[i, :, y : y + size, x : x + size] for i, (x, y) in enumerate(places)]
        return torch.stack(rows)
    return gathered(images, corners.to(images.device), size)


def gathered(images: Tensor, corners: Tensor, size: int) -> Tensor:
    """`cut` by two gathers for all images, where a slice for each would be a kernel for each."""
    count, channels, _, width = images.shape
    along = torch.arange(size, device=images.device)
    x, y = (corners[:, i : i + 1] + along for i in (0, 1))  # (N, size)
    tall = images.gather(2, y[:, None, :, None].expand(count, channels, size, width))
    return tall.gather(3, x[:, None, None].expand(count, channels, size, size))


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


class Views(NamedTuple):
    """Images for a network of small input: some reduced as a whole, of others a part as it is.

    A close view shows detail that the reduced image no longer has.

    Attributes:
        size: height and width of a view.
        close: (N,) bool, whether a sample's view is a part.
        place: (N, 2) in 0..1, the place (x, y) of the part.
    """

    size: int
    close: Tensor
    place: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Views (n, 3, size, size) of the first n samples; differentiable.

        Args:
            images: (n, 3, R, R); where R is below twice `size`, all are reduced as a whole.
        """
        count, side = len(images), images.shape[-1]
        if side == self.size:
            return images
        smaller = side > self.size
        whole = F.interpolate(
            images, (self.size, self.size), mode="bilinear", antialias=smaller, align_corners=False
        )
        close = self.close[:count]
        on_cpu = images.device.type == "cpu"
        if side < 2 * self.size or (on_cpu and not close.any()):
            return whole
        corners = (self.place[:count] * (side - self.size)).round().long()
        close = close.to(images.device)[:, None, None, None]
        return torch.where(close, cut(images, corners, self.size), whole)


def draw_views(count: int, size: int, share: float, generator: torch.Generator) -> Views:
    """Draw which of `count` samples are seen close, and where.

    Args:
        count: number of samples.
        size: height and width of a view.
        share: probability of a close view.
        generator: random number generator.
    """
    close = torch.rand(count, generator=generator) < share
    return Views(size, close, torch.rand(count, 2, generator=generator))
