"""Call the compiled CPU kernels on tensors: check shapes, allocate results, pass pointers."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from stylegan2_ops.build import load
from stylegan2_ops.finish import Finish
from stylegan2_ops.shapes import filtered_size

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


def supported(x: Tensor) -> bool:
    """True if the kernels accept `x`: on the CPU, float32, float64 or bfloat16, not empty."""
    return x.device.type == "cpu" and x.dtype in DTYPES and x.numel() > 0


def _call(name: str, *arguments: object) -> None:
    if getattr(load(), name)(*arguments) != 0:
        raise TypeError(
            f"{name} has no kernel for this dtype or number of channels; use impl='ref'"
        )


def _pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(0 if x is None else x.data_ptr())


def _int(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


def _threads() -> ctypes.c_int:
    return ctypes.c_int(torch.get_num_threads())


def _limit(clamp: float | None) -> float:
    return -1.0 if clamp is None else float(clamp)


def is_channels_last(x: Tensor) -> bool:
    """True if a (N, C, H, W) tensor is stored as (N, H, W, C) only, not contiguous as well."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return last and not x.is_contiguous()


def _dense(x: Tensor) -> Tensor:
    if x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def bias_act(
    x: Tensor, bias: Tensor | None, slope: float, gain: float, clamp: float | None
) -> Tensor:
    """y = clamp(gain * leaky_relu(x + bias)); `x` is (N, C, ...), `bias` is (C,)."""
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
    """dx of `bias_act` from dy and its output y; all three have the same shape."""
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
    """The same as `stylegan2_ops.upfirdn2d.upfirdn2d`; `kernel` is read as float64."""
    x = _dense(x)
    n, c, h, w = x.shape
    kh, kw = kernel.shape
    left, _, top, _ = padding
    oh, ow = filtered_size(x, kernel, up, down, padding)
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
    x: Tensor, finish: Finish, taps: Tensor | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """All steps between two convolutions of the synthesis network, in one pass.

    Args:
        x: the output of a convolution, float32 or bfloat16, channels-last. Without `taps` it is
            (N, C, H, W) and is overwritten. With `taps` it is (N, C, H + 1, W + 1), the output of
            a transposed convolution, and is filtered first.
        finish: the steps.
        taps: (4,) float32, one axis of a separable filter, its gain included; or None.

    Returns:
        The next layer's input, (N, C, H, W) like `x`, or None without `finish.following`; and
        colours (N, 3, H, W) float32, or None without `finish.to_rgb`.

    Raises:
        ValueError: neither `following` nor `to_rgb` is given, or `to_rgb` is given with `taps`.
    """
    n, c = x.shape[:2]
    spare = 0 if taps is None else 1
    h, w = x.shape[2] - spare, x.shape[3] - spare
    if finish.following is None and finish.to_rgb is None:
        raise ValueError("following and to_rgb are both None; wanted one of them")
    if taps is not None and finish.to_rgb is not None:
        raise ValueError("to_rgb is given with taps; wanted to_rgb without taps")
    x = x.contiguous(memory_format=torch.channels_last)
    out = None
    if finish.following is not None:
        out = x
        if taps is not None:
            out = torch.empty((n, c, h, w), dtype=x.dtype, memory_format=torch.channels_last)
    return out, _call_finishing("sfhq_finish_layer", x, taps, finish, out, (n, c, h, w))


def _call_finishing(
    name: str,
    x: Tensor,
    weights: Tensor | None,
    finish: Finish,
    out: Tensor | None,
    sizes: Sequence[int],
) -> Tensor | None:
    """Call a kernel that fills `out` and return its colours; `sizes` end with (H, W)."""
    noise, to_rgb = finish.noise, finish.to_rgb
    rgb = None if to_rgb is None else torch.empty((len(x), 3, *sizes[-2:]))
    _call(
        name,
        ctypes.c_int(DTYPES[x.dtype]),
        _pointer(x),
        _pointer(weights),
        _pointer(finish.demodulation),
        _pointer(noise),
        ctypes.c_int(int(noise is not None and noise.ndim == 3)),
        _pointer(finish.bias),
        _pointer(finish.following),
        _pointer(to_rgb),
        _pointer(out),
        _pointer(rgb),
        *(_int(value) for value in sizes),
        ctypes.c_float(finish.slope),
        ctypes.c_float(finish.gain),
        ctypes.c_float(_limit(finish.clamp)),
        _threads(),
    )
    return rgb


WINOGRAD_LANES = 16
WINOGRAD_PANEL = 32


def winograd_weight(weight: Tensor) -> Tensor:
    """A 3x3 weight (O, I, 3, 3) transformed for `winograd_layer`: (36, panels, I, 32) float32.

    Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(4x4, 3x3).

    Raises:
        ValueError: the weight is not 3x3, or O or I is not a multiple of 16.
    """
    o, i, kh, kw = weight.shape
    if (kh, kw) != (3, 3) or o % WINOGRAD_LANES or i % WINOGRAD_LANES:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; wanted (O, I, 3, 3), O and I multiples of 16"
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
    x: Tensor, weight: Tensor, finish: Finish, keep: bool = True
) -> tuple[Tensor | None, Tensor | None]:
    """A 3x3 convolution with padding 1, and the steps of `finish_layer`, in one pass.

    Args:
        x: (N, I, H, W) channels-last float32 or bfloat16; sums are taken in float32.
        weight: from `winograd_weight`.
        finish: the steps after the convolution.
        keep: False if only the colours are wanted; the first result is then None.

    Returns:
        The output (N, C, H, W) like `x`, multiplied by `finish.following` if that is given, or
        None; and colours (N, 3, H, W) float32, or None without `finish.to_rgb`.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    n, i, h, w = x.shape
    c = finish.bias.shape[0]
    out = None
    if keep:
        out = torch.empty((n, c, h, w), dtype=x.dtype, memory_format=torch.channels_last)
    return out, _call_finishing("sfhq_winograd", x, weight, finish, out, (n, i, c, h, w))


def add_skip(
    image: Tensor, small: Tensor | None, taps: Tensor, bias: Tensor, clamp: float | None
) -> None:
    """Finish a block's image in place: clamp(image + bias) plus `small` upsampled by 2.

    Args:
        image: (N, 3, H, W) float32, contiguous; overwritten.
        small: (N, 3, H / 2, W / 2) float32, contiguous; None in the first block.
        taps: (4,) float32, one axis of the filter, its gain included.
        bias: (3,) float32.
        clamp: largest magnitude of image + bias, or None for no limit.
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
