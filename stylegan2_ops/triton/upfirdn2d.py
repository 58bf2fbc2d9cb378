"""Pad, upsample, filter and downsample as one Triton kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from stylegan2_ops.shapes import channels_last, filtered_size

BLOCK = 256


@triton.jit
def _upfirdn2d_kernel(
    x, kernel, y, count, channels, h, w, oh, ow, left, top, gain,
    UP: tl.constexpr, DOWN: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    WIDE: tl.constexpr, LAST: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    block = tl.program_id(0).to(tl.int64) if LONG else tl.program_id(0)
    index = block * BLOCK + tl.arange(0, BLOCK)
    real = index < count
    # A plane is one channel of one sample, or one sample where the channels lie together.
    inner = channels if LAST else 1
    channel = index % inner
    column = (index // inner) % ow
    row = (index // (inner * ow)) % oh
    plane = index // (inner * ow * oh)
    total = tl.zeros((BLOCK,), dtype=tl.float64 if WIDE else tl.float32)
    for i in tl.static_range(KH):
        at_y = row * DOWN + i - top  # in the upsampled image
        source_y = at_y // UP
        good_y = (at_y >= 0) & (at_y % UP == 0) & (source_y < h)
        for j in tl.static_range(KW):
            at_x = column * DOWN + j - left
            source_x = at_x // UP
            good = good_y & (at_x >= 0) & (at_x % UP == 0) & (source_x < w)
            at = ((plane * h + source_y) * w + source_x) * inner + channel
            v = tl.load(x + at, mask=real & good, other=0.0)
            f = tl.load(kernel + (KH - 1 - i) * KW + (KW - 1 - j))
            total += v.to(total.dtype) * f.to(total.dtype)
    total *= gain
    tl.store(y + index, total.to(y.dtype.element_ty), mask=real)


def upfirdn2d(
    x: Tensor, kernel: Tensor, up: int, down: int, padding: Sequence[int], gain: float
) -> Tensor:
    """The same as `stylegan2_ops.upfirdn2d.upfirdn2d`, for `x` in NCHW or NHWC layout."""
    last = channels_last(x)
    x = x if last else x.contiguous()
    n, c, h, w = x.shape
    kh, kw = kernel.shape
    left, _, top, _ = padding
    oh, ow = filtered_size(x, kernel, up, down, padding)
    layout = torch.channels_last if last else torch.contiguous_format
    y = torch.empty((n, c, oh, ow), dtype=x.dtype, device=x.device, memory_format=layout)
    _upfirdn2d_kernel[(triton.cdiv(y.numel(), BLOCK),)](
        x,
        kernel.detach().contiguous(),
        y,
        y.numel(),
        c,
        h,
        w,
        oh,
        ow,
        left,
        top,
        gain,
        UP=up,
        DOWN=down,
        KH=kh,
        KW=kw,
        WIDE=x.dtype == torch.float64,
        LAST=last,
        LONG=max(x.numel(), y.numel()) + BLOCK >= 2**31,
        BLOCK=BLOCK,
    )
    return y
