"""Packed convolutions that take in what stands around them: an addition, an enlargement.

As in `packed`, oneDNN's operators do the work, and torch's own ones where these fail.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2_ops.packed import Convolution, first_that_works

Addition = Callable[[Tensor, Tensor], Tensor]
# Rows or columns of a transposed convolution's four taps: the sums of the three taps of a plain one
# that see the same value of an image enlarged twice.
DOUBLED = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def pack_added_conv2d(
    weight: Tensor, size: int, bias: Tensor | None = None, padding: int = 0, relu: bool = False
) -> Addition:
    """A function that adds the convolution of its first argument to the second one, in place.

    Args:
        weight, size, bias, padding: as in `pack_conv2d`.
        relu: apply a ReLU to the sum.

    Returns:
        A function of (N, I, H, W) and (N, O, H', W') in channels-last layout; it returns the sum.
    """
    ones, pads, inputs = [1, 1], [padding] * 2, [1, weight.shape[1], size, size]
    after: tuple[str | None, list[float], None] = ("relu" if relu else None, [], None)

    def pack() -> Addition:
        ops = torch.ops.mkldnn
        packed = ops._reorder_convolution_weight(weight, pads, ones, ones, 1, inputs)
        run = ops._convolution_pointwise_.binary
        return lambda x, to: torch.as_tensor(
            run(to, x, packed, bias, pads, ones, ones, 1, "add", 1.0, *after)
        )

    def fall_back() -> Addition:
        plain = weight.contiguous(memory_format=torch.channels_last)

        def add(x: Tensor, to: Tensor) -> Tensor:
            to.add_(F.conv2d(x, plain, bias, padding=padding))
            return to.relu_() if relu else to

        return add

    side = size + 2 * padding - weight.shape[-1] + 1
    return first_that_works(pack, fall_back, inputs, weight, [1, len(weight), side, side])


def pack_doubled_conv2d(weight: Tensor, size: int, bias: Tensor | None = None) -> Convolution:
    """A function for a 3x3 convolution, padding 1, of its input enlarged to twice the side.

    The input is enlarged by the nearest neighbour, so neighbouring taps see the same value: it is
    a transposed convolution of four taps, whose results have four products instead of nine.

    Args:
        weight: (O, I, 3, 3).
        size: height and width of the input, before it is enlarged.
        bias: (O,), or None.
    """
    taps = torch.tensor(DOUBLED, dtype=torch.float64)
    sums = torch.einsum("ak,oikl,bl->ioab", taps, weight.detach().double(), taps)
    turned = sums.to(weight.dtype).contiguous()
    inputs = [1, weight.shape[1], size, size]
    zeros, ones, twos = [0, 0], [1, 1], [2, 2]

    def pack() -> Convolution:
        ops = torch.ops.mkldnn
        packed = ops._reorder_convolution_transpose_weight(
            turned, ones, zeros, twos, ones, 1, inputs
        )
        run = ops._convolution_transpose_pointwise
        return lambda x: torch.as_tensor(
            run(x, packed, bias, ones, zeros, twos, ones, 1, "none", [], "")
        )

    def fall_back() -> Convolution:
        plain = turned.contiguous(memory_format=torch.channels_last)
        return lambda x: F.conv_transpose2d(x, plain, bias, stride=2, padding=1)

    return first_that_works(pack, fall_back, inputs, weight)
