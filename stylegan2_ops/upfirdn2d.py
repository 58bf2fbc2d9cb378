"""Upsample, filter and downsample images in one step.

Convention: a filter is a (kh, kw) kernel that is *convolved* with the image (flipped, as in
signal processing). Padding is (left, right, top, bottom) in pixels of the upsampled image;
negative padding crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2_ops import cpu
from stylegan2_ops.bias_act import wants_kernel
from stylegan2_ops.build import Impl
from stylegan2_ops.shapes import channels_last

RESAMPLE_TAPS = (1, 3, 3, 1)


def make_filter(taps: Sequence[float] = RESAMPLE_TAPS) -> Tensor:
    """A separable low-pass filter as a (k, k) float32 kernel that sums to 1.

    Args:
        taps: one axis of the filter; its outer product with itself is normalised.
    """
    total = sum(taps) ** 2
    # In plain numbers: on the meta device a product of tensors imports torch's compiler, 2 s.
    return torch.tensor([[a * b / total for a in taps] for b in taps], dtype=torch.float32)


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
    impl: Impl = "auto",
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
        impl: "ref", "native" or "auto", as in `bias_act`. If `kernel` needs a gradient, "ref" is
            used in any case. On the CPU "auto" filters channels-last images without resampling by
            torch's depthwise convolution, which measured faster with AVX2 and with AVX-512.

    Returns:
        (N, C, (H * up + top + bottom - kh) // down + 1, likewise for the width), with
        derivatives of any order.

    Raises:
        ValueError: no output pixel is left ("native" only; torch raises its own error for "ref").
    """
    n, c, h, w = x.shape
    slower = impl == "auto" and up == down == 1 and not x.is_cuda and channels_last(x)
    if not (kernel.requires_grad or slower) and wants_kernel(x, impl):
        result: Tensor = _UpFirDn2d.apply(x, kernel, up, down, tuple(padding), gain)
        return result
    if up > 1:
        x = x.reshape(n, c, h, 1, w, 1)
        x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    if any(padding):
        x = F.pad(x, padding)
    weight = (kernel * gain).flip(0, 1).to(x.dtype)
    weight = weight[None, None].expand(c, 1, *kernel.shape)  # (C, 1, kh, kw)
    return F.conv2d(x, weight, stride=down, groups=c)


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """(N, C, H, W) upsampled by 2 to (N, C, 2H, 2W); the brightness stays the same."""
    k = kernel.shape[0]
    before, after = (k + 1) // 2, (k - 2) // 2
    return upfirdn2d(x, kernel, up=2, padding=(before, after, before, after), gain=4.0)


def downsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """(N, C, H, W) low-pass filtered and downsampled by 2 to (N, C, H/2, W/2)."""
    k = kernel.shape[0]
    before, after = (k - 1) // 2, (k - 2) // 2
    return upfirdn2d(x, kernel, down=2, padding=(before, after, before, after))


class _UpFirDn2d(torch.autograd.Function):
    """The kernel with its derivative: the same kernel, `up` and `down` swapped, filter flipped."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel: Tensor,
        up: int,
        down: int,
        padding: tuple[int, int, int, int],
        gain: float,
    ) -> Tensor:
        if x.is_cuda:
            from stylegan2_ops.triton import upfirdn2d as kernels

            y = kernels.upfirdn2d(x, kernel, up, down, padding, gain)
        else:
            y = cpu.upfirdn2d(x, kernel, up, down, padding, gain)
        ctx.save_for_backward(kernel)
        ctx.settings = (up, down, padding, gain, tuple(x.shape[2:]), tuple(y.shape[2:]))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (kernel,) = ctx.saved_tensors
        up, down, (left, _, top, _), gain, (h, w), (oh, ow) = ctx.settings
        kh, kw = kernel.shape
        # Input i is at i * up + pad on the padded axis; output o covers it from o * down on.
        before_x, before_y = kw - 1 - left, kh - 1 - top
        after_x = w * up - ow * down + left - up + 1
        after_y = h * up - oh * down + top - up + 1
        padding = (before_x, after_x, before_y, after_y)
        dx = _UpFirDn2d.apply(dy, kernel.flip(0, 1), down, up, padding, gain)
        return dx, None, None, None, None, None
