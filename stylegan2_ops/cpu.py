"""Calls of the compiled CPU kernels on tensors: shapes checked, pointers passed, nothing else."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from stylegan2_ops.build import load

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


def supported(x: Tensor) -> bool:
    """Whether the kernels take a tensor: on the CPU, of a known dtype, not empty."""
    return x.device.type == "cpu" and x.dtype in DTYPES and x.numel() > 0


def _call(name: str, *arguments: object) -> None:
    if getattr(load(), name)(*arguments) != 0:
        raise TypeError(f"{name} has no kernel for this dtype")


def _pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(0 if x is None else x.data_ptr())


def _int(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


def _threads() -> ctypes.c_int:
    return ctypes.c_int(torch.get_num_threads())


def _limit(clamp: float | None) -> float:
    return -1.0 if clamp is None else float(clamp)


def is_channels_last(x: Tensor) -> bool:
    """Whether a (N, C, H, W) tensor lies in memory as (N, H, W, C), and not as both."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return last and not x.is_contiguous()


def _dense(x: Tensor) -> Tensor:
    if x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def bias_act(
    x: Tensor, bias: Tensor | None, slope: float, gain: float, clamp: float | None
) -> Tensor:
    """y = clamp(gain * leaky_relu(x + bias)); `x` (N, C, ...), `bias` (C,)."""
    x = _dense(x)
    y = torch.empty_like(x)
    if bias is not None:
        bias = bias.detach().double().contiguous()
    inner = x[0, 0].numel() if x.ndim > 2 else 1
    outer, channels = x.shape[0], x.shape[1]
    if is_channels_last(x):
        outer, inner = outer * inner, 1
    _call(
        "sfhq_bias_act",
        ctypes.c_int(DTYPES[x.dtype]),
        _pointer(x),
        _pointer(bias),
        _pointer(y),
        _int(outer),
        _int(channels),
        _int(inner),
        ctypes.c_double(slope),
        ctypes.c_double(gain),
        ctypes.c_double(_limit(clamp)),
        _threads(),
    )
    return y


def bias_act_grad(dy: Tensor, y: Tensor, slope: float, gain: float, clamp: float | None) -> Tensor:
    """dx of `bias_act` from dy and what it gave."""
    if dy.stride() != y.stride() or dy.dtype != y.dtype:
        dy = torch.empty_like(y).copy_(dy)
    dx = torch.empty_like(y)
    _call(
        "sfhq_bias_act_grad",
        ctypes.c_int(DTYPES[y.dtype]),
        _pointer(dy),
        _pointer(y),
        _pointer(dx),
        _int(y.numel()),
        ctypes.c_double(slope),
        ctypes.c_double(gain),
        ctypes.c_double(_limit(clamp)),
        _threads(),
    )
    return dx


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    up: int,
    down: int,
    padding: Sequence[int],
    gain: float,
) -> Tensor:
    """As `stylegan2_ops.upfirdn2d.upfirdn2d`; the kernel's values are taken in float64."""
    x = _dense(x)
    n, c, h, w = x.shape
    kh, kw = kernel.shape
    left, right, top, bottom = padding
    oh = (h * up + top + bottom - kh) // down + 1
    ow = (w * up + left + right - kw) // down + 1
    if oh < 1 or ow < 1:
        raise ValueError(f"x has shape {tuple(x.shape)}; too small for the filter and padding")
    last = is_channels_last(x)
    layout = torch.channels_last if last else torch.contiguous_format
    y = torch.empty((n, c, oh, ow), dtype=x.dtype, memory_format=layout)
    weights = (kernel.detach().double() * gain).contiguous()
    _call(
        "sfhq_upfirdn2d",
        ctypes.c_int(DTYPES[x.dtype]),
        _pointer(x),
        _pointer(weights),
        _pointer(y),
        *(_int(value) for value in (n, c, h, w, oh, ow)),
        *(ctypes.c_int(value) for value in (kh, kw, up, down, left, top, int(last))),
        _threads(),
    )
    return y


def finish_layer(
    x: Tensor,
    taps: Tensor | None,
    demodulation: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    following: Tensor | None,
    to_rgb: Tensor | None,
    slope: float,
    gain: float,
    clamp: float | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Everything between two convolutions of the synthesis network in one pass.

    out = following * clamp(gain * leaky_relu(demodulation * fir(x) + noise + bias)), and the
    colours of the activations before `following` by the 1x1 convolution `to_rgb`.

    Args:
        x: (N, C, H, W) channels-last float32 or bfloat16; with `taps`, (N, C, H + 1, W + 1), as
            a transposed convolution left it. Without `taps` it is overwritten.
        taps: (4,) float32, one axis of a separable filter, its gain included; or None.
        demodulation: (N, C) float32.
        noise: (H, W) or (N, H, W) float32, scaled already; or None.
        bias: (C,) float32.
        following: (N, C) float32, the style of the next layer; None when only colours are wanted.
        to_rgb: (N, 3, C) float32 or None.
        slope, gain, clamp: of the activation.

    Returns:
        The next layer's input, (N, C, H, W) like `x`, or None without `following`; and colours
        (N, 3, H, W) float32, or None without `to_rgb`.

    Raises:
        ValueError: both `following` and `to_rgb` are missing, or colours wanted with `taps`.
    """
    n, c = x.shape[:2]
    spare = 0 if taps is None else 1
    h, w = x.shape[2] - spare, x.shape[3] - spare
    if (following is None and to_rgb is None) or (taps is not None and to_rgb is not None):
        raise ValueError("finish_layer makes the next input, or colours after a plain convolution")
    x = x.contiguous(memory_format=torch.channels_last)
    rgb = None if to_rgb is None else torch.empty((n, 3, h, w))
    out = None
    if following is not None:
        out = x
        if taps is not None:
            out = torch.empty((n, c, h, w), dtype=x.dtype, memory_format=torch.channels_last)
    _call(
        "sfhq_finish_layer",
        ctypes.c_int(DTYPES[x.dtype]),
        _pointer(x),
        _pointer(taps),
        _pointer(demodulation),
        _pointer(noise),
        ctypes.c_int(int(noise is not None and noise.ndim == 3)),
        _pointer(bias),
        _pointer(following),
        _pointer(to_rgb),
        _pointer(out),
        _pointer(rgb),
        *(_int(value) for value in (n, c, h, w)),
        ctypes.c_float(slope),
        ctypes.c_float(gain),
        ctypes.c_float(_limit(clamp)),
        _threads(),
    )
    return out, rgb


WINOGRAD_LANES = 16
WINOGRAD_PANEL = 32


def winograd_weight(weight: Tensor) -> Tensor:
    """A 3x3 weight (O, I, 3, 3) as `winograd_layer` wants it: (36, panels, I, 32) float32.

    Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(4x4, 3x3).

    Raises:
        ValueError: not 3x3, or channels that are no multiples of 16.
    """
    o, i, kh, kw = weight.shape
    if (kh, kw) != (3, 3) or o % WINOGRAD_LANES or i % WINOGRAD_LANES:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; wanted 3x3 and multiples of 16 channels"
        )
    g = torch.tensor(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        dtype=torch.float64,
    )
    turned = torch.einsum("ay,oiyx,bx->abio", g, weight.detach().double(), g)  # (6, 6, I, O)
    panels = -(-o // WINOGRAD_PANEL)
    turned = torch.nn.functional.pad(turned, (0, panels * WINOGRAD_PANEL - o))
    turned = turned.reshape(36, i, panels, WINOGRAD_PANEL).permute(0, 2, 1, 3)
    return turned.float().contiguous()


def winograd_layer(
    x: Tensor,
    weight: Tensor,
    demodulation: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    following: Tensor | None,
    to_rgb: Tensor | None,
    slope: float,
    gain: float,
    clamp: float | None,
    keep: bool = True,
) -> tuple[Tensor | None, Tensor | None]:
    """A 3x3 convolution at padding 1 and what `finish_layer` does, in one go.

    Args:
        x: (N, I, H, W) channels-last float32 or bfloat16; sums are taken in float32.
        weight: of `winograd_weight`.
        demodulation, noise, bias, following, to_rgb, slope, gain, clamp: as in `finish_layer`.
        keep: False when only colours are wanted.

    Returns:
        The output (N, C, H, W) like `x`, times `following` where given, or None; and colours
        (N, 3, H, W) float32, or None.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    n, i, h, w = x.shape
    c = bias.shape[0]
    rgb = None if to_rgb is None else torch.empty((n, 3, h, w))
    out = None
    if keep:
        out = torch.empty((n, c, h, w), dtype=x.dtype, memory_format=torch.channels_last)
    _call(
        "sfhq_winograd",
        ctypes.c_int(DTYPES[x.dtype]),
        _pointer(x),
        _pointer(weight),
        _pointer(demodulation),
        _pointer(noise),
        ctypes.c_int(int(noise is not None and noise.ndim == 3)),
        _pointer(bias),
        _pointer(following),
        _pointer(to_rgb),
        _pointer(out),
        _pointer(rgb),
        *(_int(value) for value in (n, i, c, h, w)),
        ctypes.c_float(slope),
        ctypes.c_float(gain),
        ctypes.c_float(_limit(clamp)),
        _threads(),
    )
    return out, rgb


def add_skip(
    image: Tensor, small: Tensor | None, taps: Tensor, bias: Tensor, clamp: float | None
) -> None:
    """Finish a block's image in place: clamp(image + bias) + small enlarged twice.

    Args:
        image: (N, 3, H, W) float32, contiguous; changed.
        small: (N, 3, H / 2, W / 2) float32, contiguous; None in the first block.
        taps: (4,) float32, one axis of the filter, its gain included.
        bias: (3,) float32.
        clamp: of the block's own colours.
    """
    n, _, h, w = image.shape
    _call(
        "sfhq_add_skip",
        _pointer(small),
        _pointer(taps),
        _pointer(bias),
        ctypes.c_float(_limit(clamp)),
        _pointer(image),
        *(_int(value) for value in (n, h, w)),
        _threads(),
    )
