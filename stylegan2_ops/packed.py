"""Convolutions with constant weights, packed once for the machine they run on.

On the CPU the weight is packed into oneDNN's own layout by the operators that torch.compile uses.
These operators are not public, so if they fail torch's plain operators are used, with weights in
channels-last layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2_ops import cpu
from stylegan2_ops.finish import Finish

Convolution = Callable[[Tensor], Tensor]


def pack_conv2d(
    weight: Tensor,
    size: int,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    leaky: float | None = None,
    groups: int = 1,
    clamp: tuple[float, float] | None = None,
) -> Convolution:
    """A function that convolves its input, then applies a leaky ReLU or a clamp if one is given.

    Args:
        weight: (O, I / groups, k, k) in the dtype to compute in.
        size: height and width of the input for which the packing is tuned; other sizes work too.
        bias: (O,) in the same dtype, or None.
        stride, padding, groups: as in `torch.nn.functional.conv2d`.
        leaky: slope of the leaky ReLU, or None for no activation.
        clamp: least and largest result, instead of `leaky`; (0, 6) is ReLU6.
    """
    after: tuple[str, list[float], str] = ("none", [], "")
    if clamp is not None:
        after = ("hardtanh", list(clamp), "")
    elif leaky is not None:
        after = ("leaky_relu", [leaky], "")
    strides, pads, ones = [stride] * 2, [padding] * 2, [1, 1]
    inputs = [1, weight.shape[1] * groups, size, size]

    def pack() -> Convolution:
        ops = torch.ops.mkldnn
        packed = ops._reorder_convolution_weight(weight, pads, strides, ones, groups, inputs)
        run = ops._convolution_pointwise
        return lambda x: torch.as_tensor(run(x, packed, bias, pads, strides, ones, groups, *after))

    def fall_back() -> Convolution:
        plain = weight.contiguous(memory_format=torch.channels_last)

        def convolve(x: Tensor) -> Tensor:
            y = F.conv2d(x, plain, bias, stride, padding, groups=groups)
            if clamp is not None:
                return y.clamp(*clamp)
            return y if leaky is None else F.leaky_relu(y, leaky)

        return convolve

    return first_that_works(pack, fall_back, inputs, weight)


def first_that_works(
    pack: Callable[[], Callable[..., Tensor]],
    fall_back: Callable[[], Callable[..., Tensor]],
    inputs: list[int],
    weight: Tensor,
    *more: list[int],
) -> Callable[..., Tensor]:
    """`pack()` if oneDNN's operators work on inputs of these shapes, else `fall_back()`."""
    if weight.device.type == "cpu":
        try:
            convolve = pack()
            probes = [torch.zeros(shape, dtype=weight.dtype) for shape in (inputs, *more)]
            convolve(*(p.contiguous(memory_format=torch.channels_last) for p in probes))
            return convolve
        except (AttributeError, RuntimeError, NotImplementedError):
            pass
    return fall_back()


def fits_winograd(weight: Tensor) -> bool:
    """True if `pack_winograd` accepts the weight: 3x3, and multiples of 16 channels."""
    o, i, kh, kw = weight.shape
    return (kh, kw) == (3, 3) and o % cpu.WINOGRAD_LANES == 0 and i % cpu.WINOGRAD_LANES == 0


def pack_winograd(weight: Tensor, bias: Tensor | None = None) -> Convolution:
    """A function that convolves its input 3x3, stride 1, padding 1, by Winograd's F(4x4, 3x3).

    It needs 2.25 multiplications per output instead of 9; rounding errors are somewhat larger.
    It needs the compiled kernels (`stylegan2_ops.build.available`).

    Args:
        weight: (O, I, 3, 3) for which `fits_winograd` is true.
        bias: (O,), or None.
    """
    turned = cpu.winograd_weight(weight)
    shift = torch.zeros(len(weight)) if bias is None else bias.detach().float().contiguous()

    def convolve(x: Tensor) -> Tensor:
        finish = Finish(demodulation=torch.ones(len(x), len(shift)), bias=shift)
        y, _ = cpu.winograd_layer(x, turned, finish)
        assert y is not None
        return y

    return convolve


def layer_ways(weight: Tensor, size: int) -> dict[str, Callable[[], Callable[[], object]]]:
    """A 3x3 layer of the synthesis network by Winograd's method and directly, for `fastest`.

    Each way includes the steps that follow the convolution.

    Args:
        weight: (O, I, 3, 3) for which `fits_winograd` is true, in the dtype to compute in.
        size: height and width of the image.
    """
    out = len(weight)
    finish = Finish(
        demodulation=torch.ones(1, out),
        bias=torch.zeros(out),
        noise=torch.zeros(size, size),
        following=torch.ones(1, out),
        to_rgb=torch.ones(1, 3, out),
        slope=0.2,
    )

    def by_winograd() -> Callable[[], object]:
        x, turned = _image(weight, size), cpu.winograd_weight(weight)
        return lambda: cpu.winograd_layer(x, turned, finish)

    def directly() -> Callable[[], object]:
        x, convolve = _image(weight, size), pack_conv2d(weight, size, padding=1)
        return lambda: cpu.finish_layer(convolve(x), finish)

    return {"winograd": by_winograd, "direct": directly}


def convolution_ways(
    size: int, weight: Tensor, packers: Mapping[str, Callable[[], Convolution]]
) -> dict[str, Callable[[], Callable[[], object]]]:
    """Packed convolutions of one weight as ways for `fastest`.

    Args:
        size: height and width of the input.
        weight: (O, I, k, k) in the dtype to compute in.
        packers: by name, functions that return the packed convolution.
    """
    x = _image(weight, size)

    def way(pack: Callable[[], Convolution]) -> Callable[[], Callable[[], object]]:
        def prepare() -> Callable[[], object]:
            convolve = pack()
            return lambda: convolve(x)

        return prepare

    return {name: way(pack) for name, pack in packers.items()}


def _image(weight: Tensor, size: int) -> Tensor:
    x = torch.ones(1, weight.shape[1], size, size, dtype=weight.dtype)
    return x.contiguous(memory_format=torch.channels_last)


# F(4, 2) with the points 0, 1, -1, 2 and infinity: four outputs of two taps need five products.
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
    """A function for a 3x3 convolution of stride 2 and padding 1, then leaky ReLU, by F(4, 2).

    Along a row, the middle tap multiplies even columns and the two outer taps multiply odd
    columns. F(4, 2) computes four outputs of the outer taps with five products. That is nine
    products instead of twelve, and the weights take twice the memory. Columns are convolved as
    usual.

    Args:
        weight: (O, I, 3, 3) float32.
        size: height and width of the input, a multiple of 8; inputs of other sizes do not work.
        bias: (O,).
        leaky: slope of the leaky ReLU.

    Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"; the choice of
    points and the split into even and odd columns are our own.
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

    def pack() -> Convolution:
        ops = torch.ops.mkldnn
        packed = ops._reorder_convolution_weight(weight, pads, strides, ones, 1, inputs)
        run = ops._convolution_pointwise
        return lambda x: torch.as_tensor(
            run(x, packed, None, pads, strides, ones, 1, "none", [], "")
        )

    def fall_back() -> Convolution:
        plain = weight.contiguous(memory_format=torch.channels_last)
        return lambda x: F.conv2d(x, plain, stride=(2, 1), padding=(1, 0))

    return first_that_works(pack, fall_back, inputs, weight)


def pack_upsampling(weight: Tensor, size: int) -> Convolution:
    """A function for a transposed convolution of stride 2 without padding.

    Its output has 2 * size + k - 2 pixels per side.

    Args:
        weight: (O, I, k, k), as for a plain convolution.
        size: height and width of the input for which the packing is tuned; other sizes work too.
    """
    turned = weight.transpose(0, 1).contiguous()
    inputs = [1, weight.shape[1], size, size]
    zeros, ones, twos = [0, 0], [1, 1], [2, 2]

    def pack() -> Convolution:
        ops = torch.ops.mkldnn
        packed = ops._reorder_convolution_transpose_weight(
            turned, zeros, zeros, twos, ones, 1, inputs
        )
        run = ops._convolution_transpose_pointwise
        return lambda x: torch.as_tensor(
            run(x, packed, None, zeros, zeros, twos, ones, 1, "none", [], "")
        )

    def fall_back() -> Convolution:
        plain = turned.contiguous(memory_format=torch.channels_last)
        return lambda x: F.conv_transpose2d(x, plain, stride=2)

    return first_that_works(pack, fall_back, inputs, weight)
