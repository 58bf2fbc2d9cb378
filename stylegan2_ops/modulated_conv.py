"""StyleGAN2's modulated convolution: a style scales the input channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2_ops.upfirdn2d import upfirdn2d

DEMODULATION_EPS = 1e-8


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """The factor that restores unit variance to each output channel.

    d[n, o] = rsqrt(sum over i, y, x of (weight[o, i, y, x] * styles[n, i])^2 + 1e-8). The sum
    over the kernel is computed first, so this is one small matrix product without a tensor of
    shape (N, O, I, k, k).

    Args:
        weight: (O, I, kh, kw).
        styles: (N, I).

    Returns:
        (N, O), float64 if an argument is float64, else float32; a sum of squares would overflow
        in a half-precision type.
    """
    dtype = torch.promote_types(torch.promote_types(weight.dtype, styles.dtype), torch.float32)
    energy = weight.to(dtype).square().sum(dim=(2, 3))  # (O, I)
    with torch.autocast(weight.device.type, enabled=False):
        power = styles.to(dtype).square() @ energy.t()  # (N, O)
    return torch.rsqrt(power + DEMODULATION_EPS)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    up: int = 1,
    kernel: Tensor | None = None,
    demodulate: bool = True,
) -> Tensor:
    """Scale the input by a style, convolve, and normalise the output.

    This is the un-fused form: the style scales the activations, and the whole batch shares one
    weight, so one dense convolution is enough. The paper's fused form has one weight per sample
    and computes the same function.

    Args:
        x: (N, I, H, W).
        weight: (O, I, k, k), k odd.
        styles: (N, I).
        up: 1, or 2 to upsample by 2 with a transposed convolution followed by `kernel`.
        kernel: low-pass filter from `upfirdn2d.make_filter`; needed when `up` is 2.
        demodulate: multiply each output channel by `demodulation`.

    Returns:
        (N, O, H * up, W * up).

    Raises:
        ValueError: `up` is neither 1 nor 2, or `up` is 2 and `kernel` is None.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN",
    section 2.2 and appendix B.
    """
    k = weight.shape[-1]
    x = x * styles.to(x.dtype)[:, :, None, None]
    if up == 1:
        y = F.conv2d(x, weight.to(x.dtype), padding=k // 2)
    elif up == 2 and kernel is not None:
        y = F.conv_transpose2d(x, weight.to(x.dtype).transpose(0, 1), stride=2)  # 2H + k - 2
        spare = kernel.shape[0] + 1 - k  # pixels to add so that the filter leaves exactly 2H
        before, after = (spare + 1) // 2, spare // 2
        y = upfirdn2d(y, kernel, padding=(before, after, before, after), gain=4.0)
    else:
        given = "no kernel" if kernel is None else "a kernel"
        raise ValueError(f"up is {up} with {given}; wanted 1, or 2 and a kernel")
    if demodulate:
        y = y * demodulation(weight, styles).to(y.dtype)[:, :, None, None]
    return y
