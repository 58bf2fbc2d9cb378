"""Pad, upsample, filter and downsample as one Triton kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from stylegan2_ops.shapes import filtered_size

BLOCK = 256


@triton.jit
def _upfirdn2d_kernel(
    x, kernel, y, count, h, w, oh, ow, left, top,
    UP: tl.constexpr, DOWN: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = index < count
    column = index % ow
    row = (index // ow) % oh
    plane = index // (ow * oh)
    total = tl.zeros((BLOCK,), dtype=tl.float64 if WIDE else tl.float32)
    for i in tl.static_range(KH):
        at_y = row * DOWN + i - top  # in the upsampled image
        source_y = at_y // UP
        good_y = (at_y >= 0) & (at_y % UP == 0) & (source_y < h)
        for j in tl.static_range(KW):
            at_x = column * DOWN + j - left
            source_x = at_x // UP
            good = good_y & (at_x >= 0) & (at_x % UP == 0) & (source_x < w)
            v = tl.load(x + (plane * h + source_y) * w + source_x, mask=real & good, other=0.0)
            f = tl.load(kernel + (KH - 1 - i) * KW + (KW - 1 - j))
            total += v.to(total.dtype) * f.to(total.dtype)
    tl.store(y + index, total.to(y.dtype.element_ty), mask=real)


def upfirdn2d(
    x: Tensor, kernel: Tensor, up: int, down: int, padding: Sequence[int], gain: float
) -> Tensor:
    """The same as `stylegan2_ops.upfirdn2d.upfirdn2d`."""
    x = x.contiguous()
    n, c, h, w = x.shape
    kh, kw = kernel.shape
    left, _, top, _ = padding
    oh, ow = filtered_size(x, kernel, up, down, padding)
    y = torch.empty((n, c, oh, ow), dtype=x.dtype, device=x.device)
    weights = (kernel.detach().double() * gain).to(
        torch.float64 if x.dtype == torch.float64 else torch.float32
    )
    _upfirdn2d_kernel[(triton.cdiv(y.numel(), BLOCK),)](
        x,
        weights.contiguous(),
        y,
        y.numel(),
        h,
        w,
        oh,
        ow,
        left,
        top,
        UP=up,
        DOWN=down,
        KH=kh,
        KW=kw,
        WIDE=x.dtype == torch.float64,
        BLOCK=BLOCK,
    )
    return y
