"""Convolutions whose weight never changes, laid out once for the machine they run on.

On the CPU the weight goes into oneDNN's own order through the operators that torch.compile uses.
They are not public, so wherever they fail the plain ones take over, with channels-last weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

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
