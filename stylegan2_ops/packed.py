"""Convolutions whose weight never changes, laid out once for the machine they run on.

On the CPU the weight goes into oneDNN's own order through the operators that torch.compile uses.
They are not public, so wherever they fail the plain ones take over, with channels-last weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2_ops import cpu

Convolution = Callable[[Tensor], Tensor]


def pack_conv2d(
    weight: Tensor,
    size: int,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    leaky: float | None = None,
    groups: int = 1,
) -> Convolution:
    """A convolution, then leaky ReLU if wanted, as a function of its input.

    Args:
        weight: (O, I / groups, k, k) in the dtype to compute in.
        size: height and width of the input that the packing is tuned for; others work too.
        bias: (O,) in the same dtype.
        stride, padding, groups: as in `torch.nn.functional.conv2d`.
        leaky: slope of the leaky ReLU.
    """
    after = ("none", [], "") if leaky is None else ("leaky_relu", [leaky], "")
    strides, pads, ones = [stride] * 2, [padding] * 2, [1, 1]
    inputs = [1, weight.shape[1] * groups, size, size]
    if weight.device.type == "cpu":
        ops = torch.ops.mkldnn
        try:
            packed = ops._reorder_convolution_weight(weight, pads, strides, ones, groups, inputs)

            def convolve(x: Tensor) -> Tensor:
                y: Tensor = ops._convolution_pointwise(
                    x, packed, bias, pads, strides, ones, groups, *after
                )
                return y

            convolve(_probe(inputs, weight))
            return convolve
        except (AttributeError, RuntimeError, NotImplementedError):
            pass
    plain = weight.contiguous(memory_format=torch.channels_last)

    def fallback(x: Tensor) -> Tensor:
        y = F.conv2d(x, plain, bias, stride, padding, groups=groups)
        return y if leaky is None else F.leaky_relu(y, leaky)

    return fallback


def fits_winograd(weight: Tensor) -> bool:
    """Whether `pack_winograd` takes a weight: 3x3, and multiples of 16 channels."""
    o, i, kh, kw = weight.shape
    return (kh, kw) == (3, 3) and o % cpu.WINOGRAD_LANES == 0 and i % cpu.WINOGRAD_LANES == 0


def pack_winograd(weight: Tensor, bias: Tensor | None = None) -> Convolution:
    """A 3x3 convolution of stride 1 and padding 1 by F(4x4, 3x3), as a function of its input.

    It takes 2.25 multiplications an output instead of 9, and rounds somewhat more. Needs the
    compiled kernels (`stylegan2_ops.build.available`).

    Args:
        weight: (O, I, 3, 3) that `fits_winograd`.
        bias: (O,).
    """
    turned = cpu.winograd_weight(weight)
    shift = torch.zeros(len(weight)) if bias is None else bias.detach().float().contiguous()

    def convolve(x: Tensor) -> Tensor:
        scale = torch.ones(len(x), len(shift))
        y, _ = cpu.winograd_layer(x, turned, scale, None, shift, None, None, 1.0, 1.0, None)
        assert y is not None
        return y

    return convolve


# F(4, 2) with the points 0, 1, -1, 2 and infinity: four outputs of two taps by five products.
STRIDED_INPUT = (
    (1.0, -1 / 2, -1.0, 1 / 2, 0.0),
    (0.0, 1.0, 1 / 2, -1 / 2, 0.0),
    (0.0, -1 / 3, 1 / 2, -1 / 6, 0.0),
    (0.0, -1 / 6, 0.0, 1 / 6, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0),
)
STRIDED_WEIGHT = ((1.0, 0.0), (1.0, 1.0), (1.0, -1.0), (1.0, 2.0), (0.0, 1.0))
STRIDED_OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, 1.0),
)


def pack_strided_winograd(weight: Tensor, size: int, bias: Tensor, leaky: float) -> Convolution:
    """A 3x3 convolution of stride 2 and padding 1, then leaky ReLU, by fewer products.

    Along a row, even columns meet the middle tap alone and odd columns the outer two, which
    F(4, 2) does with five products for four outputs: nine instead of twelve, for twice the
    memory of weights. Along a column nothing changes.

    Args:
        weight: (O, I, 3, 3) float32.
        size: height and width of the input, a multiple of 8; others do not work.
        bias: (O,).
        leaky: slope of the leaky ReLU.

    Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"; the points
    and the split by parity are ours.
    """
    exact = weight.detach().double()
    middle = _pack_column(exact[..., 1:2], size, size // 2)
    outer = [
        _pack_column(exact[..., 0:1] * first + exact[..., 2:3] * last, size, size // 8)
        for first, last in STRIDED_WEIGHT
    ]
    before, after = torch.tensor(STRIDED_INPUT), torch.tensor(STRIDED_OUTPUT)

    def convolve(x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        out = middle(rows[:, :, 0::2].contiguous().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        odd = F.pad(rows[:, :, 1::2], (0, 0, 1, 0))  # column -1 is padding
        turned = torch.einsum("nhtck,jk->jnhtc", odd.unfold(2, 5, 4), before)
        products = [
            convolution(part.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            for convolution, part in zip(outer, turned, strict=True)
        ]
        sums = after @ torch.stack(products, dim=3)  # (N, H / 2, W / 8, 4, O)
        y = sums.reshape(out.shape).add_(out).add_(bias)
        return F.leaky_relu_(y, leaky).permute(0, 3, 1, 2)

    return convolve


def _pack_column(weight: Tensor, height: int, width: int) -> Convolution:
    """A (O, I, 3, 1) convolution of stride 2 along columns, in float32."""
    weight = weight.float().contiguous()
    inputs = [1, weight.shape[1], height, width]
    strides, pads, ones = [2, 1], [1, 0], [1, 1]
    ops = torch.ops.mkldnn
    try:
        packed = ops._reorder_convolution_weight(weight, pads, strides, ones, 1, inputs)

        def convolve(x: Tensor) -> Tensor:
            y: Tensor = ops._convolution_pointwise(
                x, packed, None, pads, strides, ones, 1, "none", [], ""
            )
            return y

        convolve(_probe(inputs, weight))
        return convolve
    except (AttributeError, RuntimeError, NotImplementedError):
        plain = weight.contiguous(memory_format=torch.channels_last)
        return lambda x: F.conv2d(x, plain, stride=(2, 1), padding=(1, 0))


def pack_upsampling(weight: Tensor, size: int) -> Convolution:
    """A transposed convolution of stride 2 without padding, as a function of its input.

    Args:
        weight: (O, I, k, k), as for a plain convolution.
        size: height and width of the input that the packing is tuned for; others work too.

    The output has 2 * size + k - 2 pixels a side.
    """
    turned = weight.transpose(0, 1).contiguous()
    inputs = [1, weight.shape[1], size, size]
    zeros, ones, twos = [0, 0], [1, 1], [2, 2]
    if weight.device.type == "cpu":
        ops = torch.ops.mkldnn
        try:
            packed = ops._reorder_convolution_transpose_weight(
                turned, zeros, zeros, twos, ones, 1, inputs
            )

            def convolve(x: Tensor) -> Tensor:
                y: Tensor = ops._convolution_transpose_pointwise(
                    x, packed, None, zeros, zeros, twos, ones, 1, "none", [], ""
                )
                return y

            convolve(_probe(inputs, weight))
            return convolve
        except (AttributeError, RuntimeError, NotImplementedError):
            pass
    plain = turned.contiguous(memory_format=torch.channels_last)
    return lambda x: F.conv_transpose2d(x, plain, stride=2)


def _probe(shape: list[int], like: Tensor) -> Tensor:
    return torch.zeros(shape, dtype=like.dtype).contiguous(memory_format=torch.channels_last)
