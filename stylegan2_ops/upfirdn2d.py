"""Upsample, filter and downsample images in one step.

Convention: a filter is a (kh, kw) kernel that is *convolved* with the image (flipped, as in
signal processing). Padding is (left, right, top, bottom) in pixels of the upsampled image,
and may be negative, which crops.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

RESAMPLE_TAPS = (1, 3, 3, 1)


def make_filter(taps: Sequence[float] = RESAMPLE_TAPS) -> Tensor:
    """A separable low-pass filter as a (k, k) float32 kernel that sums to 1.

    Args:
        taps: one axis of the filter; its outer product with itself is normalised.
    """
    axis = torch.as_tensor(taps, dtype=torch.float32)
    kernel = torch.outer(axis, axis)
    return kernel / kernel.sum()


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Tensor:
    """Pad, upsample by zeros, convolve with a FIR kernel and keep every `down`-th pixel.

    1. Insert `up - 1` zeros after each pixel, along both axes.
    2. Pad by (left, right, top, bottom); negative numbers crop.
    3. Convolve each channel with `kernel`, scaled by `gain`, at valid positions only.
    4. Keep every `down`-th pixel, starting with the first.

    Args:
        x: (N, C, H, W).
        kernel: (kh, kw), as `make_filter` gives it.
        up: integer upsampling factor.
        down: integer downsampling factor.
        padding: (left, right, top, bottom) in upsampled pixels.
        gain: factor on the kernel; `up ** 2` keeps the brightness of an upsampled image.

    Returns:
        (N, C, (H * up + top + bottom - kh) // down + 1, likewise for the width).
    """
    n, c, h, w = x.shape
    if up > 1:
        x = x.reshape(n, c, h, 1, w, 1)
        x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    if any(padding):
        x = F.pad(x, padding)
    weight = (kernel * gain).flip(0, 1).to(x.dtype)
    weight = weight[None, None].expand(c, 1, *kernel.shape)  # (C, 1, kh, kw)
    return F.conv2d(x, weight, stride=down, groups=c)


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """(N, C, H, W) enlarged twice to (N, C, 2H, 2W) with the brightness kept."""
    k = kernel.shape[0]
    before, after = (k + 1) // 2, (k - 2) // 2
    return upfirdn2d(x, kernel, up=2, padding=(before, after, before, after), gain=4.0)


def downsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """(N, C, H, W) halved to (N, C, H/2, W/2), low-pass filtered first."""
    k = kernel.shape[0]
    before, after = (k - 1) // 2, (k - 2) // 2
    return upfirdn2d(x, kernel, down=2, padding=(before, after, before, after))
