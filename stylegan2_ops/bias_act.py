"""Bias, leaky ReLU, gain and clamp: the step after every StyleGAN2 convolution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stylegan2_ops import cpu
from stylegan2_ops.build import WORTH_COMPILING, Impl, available

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2.0)


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    activation: str = "lrelu",
    gain: float | None = None,
    clamp: float | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Add a bias to each channel, then activate, scale and clamp.

    Args:
        x: (N, C, ...) activations, any number of trailing dimensions.
        bias: (C,), or None for no bias.
        activation: "lrelu" (slope 0.2) or "linear".
        gain: factor after the activation; by default sqrt(2) for "lrelu", which keeps
            the second moment of a unit Gaussian, and 1 for "linear".
        clamp: largest magnitude of the result, or None for no limit.
        impl: "ref" uses torch's operators. "native" uses a kernel: compiled C++ on the CPU, Triton
            on CUDA. "auto" uses the kernel if images are large and the kernel is available.

    Returns:
        A tensor of the shape and dtype of `x`, with first and second derivatives.

    Raises:
        ValueError: unknown `activation` or `impl`.
        stylegan2_ops.build.BuildError: `impl` is "native" and the CPU kernel cannot be built.
        ImportError: `impl` is "native", `x` is on CUDA and Triton is not installed.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".
    """
    if activation not in ("lrelu", "linear"):
        raise ValueError(f'activation is {activation!r}; wanted "lrelu" or "linear"')
    slope = LRELU_SLOPE if activation == "lrelu" else 1.0
    if gain is None:
        gain = LRELU_GAIN if activation == "lrelu" else 1.0
    if wants_kernel(x, impl):
        result: Tensor = _BiasAct.apply(x, bias, slope, gain, clamp)
        return result
    if bias is not None:
        x = x + bias.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    if slope != 1.0:
        x = torch.nn.functional.leaky_relu(x, slope)
    if gain != 1.0:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def wants_kernel(x: Tensor, impl: Impl) -> bool:
    """True if an operator on `x` runs as a kernel; `bias_act` explains `impl`."""
    if impl == "auto" and (x.ndim != 4 or x.shape[2] * x.shape[3] < WORTH_COMPILING**2):
        return False
    if x.is_cuda:
        return impl != "ref" and triton_available(impl)
    return cpu.supported(x) and available(impl)


def triton_available(impl: Impl) -> bool:
    """True if Triton can be imported; torch's builds for CUDA install it.

    Raises:
        ImportError: `impl` is "native" and Triton cannot be imported.
    """
    try:
        import triton  # noqa: F401
    except ImportError:
        if impl == "native":
            raise
        return False
    return True


def _forward(
    x: Tensor, bias: Tensor | None, slope: float, gain: float, clamp: float | None
) -> Tensor:
    if x.is_cuda:
        from stylegan2_ops.triton import bias_act as kernels

        made: Tensor = kernels.bias_act(x, bias, slope, gain, clamp)
        return made
    return cpu.bias_act(x, bias, slope, gain, clamp)


def _slope(dy: Tensor, y: Tensor, slope: float, gain: float, clamp: float | None) -> Tensor:
    if y.is_cuda:
        from stylegan2_ops.triton import bias_act as kernels

        made: Tensor = kernels.bias_act_grad(dy, y, slope, gain, clamp)
        return made
    return cpu.bias_act_grad(dy, y, slope, gain, clamp)


class _BiasAct(torch.autograd.Function):
    """The kernel with its derivative. It is piecewise linear, and y tells which piece applies."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor | None,
        slope: float,
        gain: float,
        clamp: float | None,
    ) -> Tensor:
        if clamp is not None:  # rounded to y's dtype, so that the derivative finds clamped values
            clamp = float(torch.tensor(clamp, dtype=x.dtype))
        y = _forward(x, bias, slope, gain, clamp)
        ctx.save_for_backward(y)
        ctx.settings = (slope, gain, clamp)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        dx: Tensor = _BiasActGrad.apply(dy, y, *ctx.settings)
        db = None
        if ctx.needs_input_grad[1]:
            others = [d for d in range(dx.ndim) if d != 1]
            db = dx.sum(dim=others).to(ctx.bias_dtype)
        return dx, db, None, None, None


class _BiasActGrad(torch.autograd.Function):
    """dx from dy. It is linear in dy and depends on y by its sign only, so y gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, y: Tensor, slope: float, gain: float, clamp: float | None
    ) -> Tensor:
        ctx.save_for_backward(y)
        ctx.settings = (slope, gain, clamp)
        return _slope(dy, y, slope, gain, clamp)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return _BiasActGrad.apply(ddx, y, *ctx.settings), None, None, None, None
