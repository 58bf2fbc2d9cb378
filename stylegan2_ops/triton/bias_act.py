"""Bias, leaky ReLU, gain and clamp as one Triton kernel, and its derivative."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def _bias_act_kernel(
    x, bias, y, count, channels, inner, slope, gain, clamp,
    HAS_BIAS: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = index < count
    v = tl.load(x + index, mask=real, other=0.0)
    v = v.to(tl.float64) if WIDE else v.to(tl.float32)
    if HAS_BIAS:
        b = tl.load(bias + (index // inner) % channels, mask=real, other=0.0)
        v += b.to(tl.float64) if WIDE else b.to(tl.float32)
    v = tl.where(v > 0, v, v * slope) * gain
    if clamp >= 0:
        v = tl.where(v > clamp, clamp, tl.where(v < -clamp, -clamp, v))
    tl.store(y + index, v.to(y.dtype.element_ty), mask=real)


@triton.jit
def _bias_act_grad_kernel(
    dy, y, dx, count, slope, gain, clamp, WIDE: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = index < count
    d = tl.load(dy + index, mask=real, other=0.0)
    out = tl.load(y + index, mask=real, other=0.0)
    d = d.to(tl.float64) if WIDE else d.to(tl.float32)
    out = out.to(tl.float64) if WIDE else out.to(tl.float32)
    d = tl.where(out > 0, d, d * slope) * gain
    if clamp >= 0:
        d = tl.where((out < clamp) & (out > -clamp), d, 0.0)
    tl.store(dx + index, d.to(dx.dtype.element_ty), mask=real)


def _launch(kernel: Any, count: int, *arguments: Any, **constants: Any) -> None:
    kernel[(triton.cdiv(count, BLOCK),)](*arguments, BLOCK=BLOCK, **constants)


def bias_act(
    x: Tensor, bias: Tensor | None, slope: float, gain: float, clamp: float | None
) -> Tensor:
    """The same as `stylegan2_ops.cpu.bias_act`, for `x` in NCHW or NHWC layout."""
    last = x.ndim == 4 and not x.is_contiguous()
    x = x.contiguous(memory_format=torch.channels_last) if last else x.contiguous()
    y = torch.empty_like(x)
    inner = 1 if last or x.ndim == 2 else x[0, 0].numel()
    _launch(
        _bias_act_kernel,
        x.numel(),
        x,
        x if bias is None else bias.detach().contiguous(),
        y,
        x.numel(),
        x.shape[1],
        inner,
        slope,
        gain,
        -1.0 if clamp is None else clamp,
        HAS_BIAS=bias is not None,
        WIDE=x.dtype == torch.float64,
    )
    return y


def bias_act_grad(dy: Tensor, y: Tensor, slope: float, gain: float, clamp: float | None) -> Tensor:
    """dx of `bias_act` from dy and its output y; all three have the same shape."""
    if dy.stride() != y.stride():
        dy = torch.empty_like(y).copy_(dy)
    dx = torch.empty_like(y)
    limit = -1.0 if clamp is None else clamp
    wide = y.dtype == torch.float64
    _launch(_bias_act_grad_kernel, y.numel(), dy, y, dx, y.numel(), slope, gain, limit, WIDE=wide)
    return dx
