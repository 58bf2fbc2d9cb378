"""Sizes and layouts, in one place for every implementation of an operation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def filtered_size(
    x: Tensor, kernel: Tensor, up: int, down: int, padding: Sequence[int]
) -> tuple[int, int]:
    """Height and width of what `upfirdn2d` returns.

    Args:
        x: (N, C, H, W).
        kernel: (kh, kw).
        up: integer upsampling factor.
        down: integer downsampling factor.
        padding: (left, right, top, bottom) in upsampled pixels.

    Raises:
        ValueError: no output pixel is left.
    """
    h, w = x.shape[2:]
    left, right, top, bottom = padding
    height = (h * up + top + bottom - kernel.shape[0]) // down + 1
    width = (w * up + left + right - kernel.shape[1]) // down + 1
    if height < 1 or width < 1:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, too small for a filter of shape "
            f"{tuple(kernel.shape)}; wanted a larger x or more padding"
        )
    return height, width


def channels_last(x: Tensor) -> bool:
    """Whether the channels of (N, C, H, W) lie together in memory, and only so."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
