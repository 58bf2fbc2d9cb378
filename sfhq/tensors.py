"""Images as tensors, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from sfhq.images import Pixels


def to_tensor(pixels: Pixels) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def to_pixels(images: Tensor) -> Pixels:
    """(N, 3, H, W) in [-1, 1] to (N, H, W, 3) uint8: clamp(x * 127.5 + 128)."""
    scaled = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    pixels: Pixels = scaled.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels
