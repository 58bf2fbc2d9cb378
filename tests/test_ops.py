"""The operations against computations that share no code with them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.layers import EqualConv
from stylegan2_ops.modulated_conv import demodulation, modulated_conv2d
from stylegan2_ops.upfirdn2d import downsample2d, make_filter, upfirdn2d, upsample2d

Floats = npt.NDArray[np.float64]
DOUBLE = torch.float64


def rand(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=DOUBLE).requires_grad_(grad)


def checks_out(function: Callable[..., Tensor], *inputs: Tensor) -> bool:
    # Fast mode compares along random directions instead of element by element.
    return gradcheck(function, inputs, fast_mode=True) and gradgradcheck(
        function, inputs, fast_mode=True
    )


# bias_act


def loop_bias_act(
    x: Floats, bias: Floats | None, activation: str, gain: float | None, clamp: float | None
) -> Floats:
    out = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        value = float(x[index]) + (0.0 if bias is None else float(bias[index[1]]))
        if activation == "lrelu":
            value = value if value >= 0 else 0.2 * value
        if gain is None:
            value *= math.sqrt(2) if activation == "lrelu" else 1.0
        else:
            value *= gain
        if clamp is not None:
            value = min(max(value, -clamp), clamp)
        out[index] = value
    return out


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("activation", ["lrelu", "linear"])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("gain", "clamp"), [(None, None), (0.5, None), (None, 0.7), (3.0, 0.7)])
def test_bias_act_is_the_loop(
    shape: tuple[int, ...],
    activation: str,
    with_bias: bool,
    gain: float | None,
    clamp: float | None,
) -> None:
    x, bias = rand(*shape), rand(3, seed=1) if with_bias else None
    wanted = loop_bias_act(
        x.numpy(), None if bias is None else bias.numpy(), activation, gain, clamp
    )
    out = bias_act(x, bias, activation, gain, clamp)
    assert out.dtype == DOUBLE
    np.testing.assert_allclose(out.numpy(), wanted, rtol=1e-14, atol=1e-15)


def test_bias_act_leaves_its_input_alone() -> None:
    x = rand(2, 3, 4, 4)
    before = x.clone()
    bias_act(x, rand(3), clamp=0.1)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, DOUBLE])
def test_bias_act_keeps_the_dtype_of_x(dtype: torch.dtype) -> None:
    assert bias_act(rand(2, 3).to(dtype), torch.zeros(3)).dtype == dtype


def test_bias_act_names_an_unknown_activation() -> None:
    with pytest.raises(ValueError, match='activation is \'swish\'; wanted "lrelu" or "linear"'):
        bias_act(rand(2, 3), activation="swish")


@pytest.mark.parametrize("activation", ["lrelu", "linear"])
@pytest.mark.parametrize("clamp", [None, 0.9])
def test_bias_act_gradients(activation: str, clamp: float | None) -> None:
    x, bias = rand(2, 3, 2, 2, grad=True), rand(3, seed=1, grad=True)
    assert checks_out(lambda a, b: bias_act(a, b, activation, clamp=clamp), x, bias)


# upfirdn2d


def loop_upfirdn2d(
    x: Floats, kernel: Floats, up: int, down: int, padding: tuple[int, ...], gain: float
) -> Floats:
    """Every output pixel as a sum over the kernel, from the definition; no padding is built."""
    n, c, h, w = x.shape
    left, right, top, bottom = padding
    kh, kw = kernel.shape
    out_h = (h * up + top + bottom - kh) // down + 1
    out_w = (w * up + left + right - kw) // down + 1
    out = np.zeros((n, c, out_h, out_w))
    for b, f, i, j in np.ndindex(n, c, out_h, out_w):
        for u, v in np.ndindex(kh, kw):
            # position in the upsampled image; a convolution meets the kernel from its end
            y, z = i * down + u - top, j * down + v - left
            if 0 <= y < h * up and 0 <= z < w * up and y % up == 0 and z % up == 0:
                out[b, f, i, j] += gain * kernel[kh - 1 - u, kw - 1 - v] * x[b, f, y // up, z // up]
    return out


PADDINGS = [(0, 0, 0, 0), (1, 2, 3, 0), (2, 2, 2, 2), (-1, 0, 0, -2), (-2, 3, 1, -1), (5, 5, 5, 5)]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 3), (3, 2)])
def test_upfirdn2d_is_the_loop(padding: tuple[int, int, int, int], up: int, down: int) -> None:
    x, kernel = rand(2, 2, 6, 5), rand(3, 2, seed=1)  # not symmetric, not square
    wanted = loop_upfirdn2d(x.numpy(), kernel.numpy(), up, down, padding, 1.7)
    out = upfirdn2d(x, kernel, up, down, padding, 1.7)
    assert out.dtype == DOUBLE
    assert out.shape == wanted.shape
    np.testing.assert_allclose(out.numpy(), wanted, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (-1, 2, 0, 1)])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_upfirdn2d_gradients(padding: tuple[int, int, int, int], up: int, down: int) -> None:
    x, kernel = rand(1, 2, 3, 4, grad=True), rand(3, 2, seed=1)
    assert checks_out(lambda a: upfirdn2d(a, kernel, up, down, padding), x)


def test_make_filter() -> None:
    kernel = make_filter()
    taps = np.array([1.0, 3.0, 3.0, 1.0])
    np.testing.assert_allclose(kernel.numpy(), np.outer(taps, taps) / 64, rtol=1e-7)
    assert kernel.dtype == torch.float32
    assert make_filter([1.0, 2.0, 1.0]).shape == (3, 3)


def test_upsampling_then_downsampling_keeps_a_constant() -> None:
    kernel, x = make_filter(), torch.full((1, 3, 8, 6), 0.75, dtype=DOUBLE)
    large = upsample2d(x, kernel)
    assert large.shape == (1, 3, 16, 12)
    assert torch.allclose(large[..., 1:-1, 1:-1], x.new_tensor(0.75))  # away from the zero border
    small = downsample2d(large, kernel)
    assert small.shape == x.shape
    assert torch.allclose(small[..., 2:-2, 2:-2], x.new_tensor(0.75))


def test_resampling_does_not_shift_the_image() -> None:
    """A ramp stays a ramp: new pixel centres lie at (i + 1/2) / 2 - 1/2 of the old grid."""
    ramp = torch.arange(8, dtype=DOUBLE).expand(1, 1, 8, 8)
    large = upsample2d(ramp, make_filter())[0, 0, 8, 2:-2]
    wanted = (torch.arange(16, dtype=DOUBLE) + 0.5) / 2 - 0.5
    assert torch.allclose(large, wanted[2:-2])
    small = downsample2d(ramp, make_filter())[0, 0, 2, 1:-1]
    assert torch.allclose(small, (2 * torch.arange(4, dtype=DOUBLE) + 0.5)[1:-1])


def test_upsampling_keeps_the_sum_of_an_impulse_times_four() -> None:
    x = torch.zeros(1, 1, 8, 8, dtype=DOUBLE)
    x[0, 0, 4, 4] = 1.0
    assert upsample2d(x, make_filter()).sum().item() == pytest.approx(4.0)
    assert downsample2d(x, make_filter()).sum().item() == pytest.approx(0.25)


# modulated_conv2d


def fused(x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool) -> Tensor:
    """The paper's form: one weight a sample, the batch as groups of one convolution."""
    n, i, h, w = x.shape
    o, _, k, _ = weight.shape
    per_sample = weight[None] * styles[:, None, :, None, None]  # (N, O, I, k, k)
    if demodulate:
        norm = per_sample.square().sum(dim=(2, 3, 4), keepdim=True)
        per_sample = per_sample / (norm + 1e-8).sqrt()
    groups = per_sample.reshape(n * o, i, k, k)
    y = F.conv2d(x.reshape(1, n * i, h, w), groups, padding=k // 2, groups=n)
    return y.reshape(n, o, h, w)


def upsampled_by_definition(
    x: Tensor, weight: Tensor, styles: Tensor, kernel: Tensor, demodulate: bool
) -> Tensor:
    """Zeros between the pixels, a full true convolution a sample, then the low-pass filter."""
    n, _, h, w = x.shape
    k, taps = weight.shape[-1], kernel.shape[0]
    spread = x.new_zeros(n, x.shape[1], 2 * h - 1, 2 * w - 1)
    spread[:, :, ::2, ::2] = x
    samples = []
    for row, style in zip(spread, styles, strict=True):
        own = weight * style[None, :, None, None]
        if demodulate:
            own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        samples.append(F.conv2d(row[None], own.flip(2, 3), padding=k - 1))  # 2H + k - 2
    y = torch.cat(samples)
    total = taps + 1 - k
    pad = ((total + 1) // 2, total // 2) * 2
    return torch.from_numpy(loop_upfirdn2d(y.numpy(), kernel.double().numpy(), 1, 1, pad, 4.0))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_conv_is_the_fused_form(k: int, demodulate: bool) -> None:
    x, weight, styles = rand(3, 4, 5, 6), rand(2, 4, k, k, seed=1), rand(3, 4, seed=2)
    out = modulated_conv2d(x, weight, styles, demodulate=demodulate)
    assert out.shape == (3, 2, 5, 6)
    torch.testing.assert_close(out, fused(x, weight, styles, demodulate), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_enlarging_is_zeros_convolution_and_filter(k: int, demodulate: bool) -> None:
    x, weight, styles = rand(2, 3, 4, 3), rand(2, 3, k, k, seed=1), rand(2, 3, seed=2)
    kernel = make_filter()
    out = modulated_conv2d(x, weight, styles, 2, kernel, demodulate)
    assert out.shape == (2, 2, 8, 6)
    wanted = upsampled_by_definition(x, weight, styles, kernel, demodulate)
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-13)


def test_demodulation_gives_unit_variance() -> None:
    weight, styles = rand(5, 16, 3, 3), 3.0 * rand(2, 16, seed=1)
    x = rand(2, 16, 96, 96, seed=2)
    deviation = modulated_conv2d(x, weight, styles)[..., 1:-1, 1:-1].std(dim=(2, 3))
    assert torch.allclose(deviation, torch.ones_like(deviation), atol=0.05)


def test_demodulation_keeps_float64_and_lifts_half_types() -> None:
    weight, styles = rand(2, 3, 3, 3), rand(4, 3, seed=1)
    wanted = 1 / np.sqrt(np.einsum("oiyx,ni->no", weight.numpy() ** 2, styles.numpy() ** 2) + 1e-8)
    out = demodulation(weight, styles)
    assert out.dtype == DOUBLE
    np.testing.assert_allclose(out.numpy(), wanted, rtol=1e-13)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert demodulation(weight.to(dtype), styles.to(dtype)).dtype == torch.float32
    large = torch.full((1, 8, 3, 3), 300.0, dtype=torch.float16)  # squares overflow float16
    assert torch.isfinite(demodulation(large, torch.ones(1, 8, dtype=torch.float16))).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, DOUBLE])
def test_modulated_conv_keeps_the_dtype_of_x(dtype: torch.dtype) -> None:
    out = modulated_conv2d(rand(1, 2, 4, 4).to(dtype), torch.ones(3, 2, 3, 3), torch.ones(1, 2))
    assert out.dtype == dtype


@pytest.mark.parametrize(("up", "kernel"), [(2, None), (3, make_filter()), (0, None)])
def test_modulated_conv_refuses_other_factors(up: int, kernel: Tensor | None) -> None:
    with pytest.raises(ValueError, match=f"up is {up} .*wanted 1, or 2 and a kernel"):
        modulated_conv2d(rand(1, 2, 4, 4), rand(3, 2, 3, 3), rand(1, 2), up, kernel)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_conv_gradients(up: int, demodulate: bool) -> None:
    x, weight = rand(2, 2, 3, 3, grad=True), rand(2, 2, 3, 3, seed=1, grad=True)
    styles = rand(2, 2, seed=2, grad=True)
    kernel = make_filter() if up == 2 else None
    assert checks_out(
        lambda a, b, c: modulated_conv2d(a, b, c, up, kernel, demodulate), x, weight, styles
    )


# EqualConv, the discriminator's convolution


@pytest.mark.parametrize("k", [1, 3])
def test_equal_conv_halves_after_filtering(k: int) -> None:
    layer = EqualConv(2, 3, k, down=2).double()
    layer.bias.data.uniform_(-1, 1)  # type: ignore[union-attr]
    x = rand(1, 2, 8, 8)
    kernel = make_filter().double().numpy()
    weight = (layer.weight / math.sqrt(2 * k * k)).detach()
    edge = k // 2 + 1
    # filter at full size, then convolve and keep every second pixel
    blurred = loop_upfirdn2d(x.numpy(), kernel, 1, 1, (edge,) * 4, 1.0)
    y = F.conv2d(torch.from_numpy(blurred), weight)[:, :, ::2, ::2]
    bias = layer.bias.detach().numpy()  # type: ignore[union-attr]
    wanted = loop_bias_act(y.numpy(), bias, "lrelu", math.sqrt(2) * 0.5, None)
    out = layer(x, gain=0.5)
    assert out.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(out.detach().numpy(), wanted, rtol=1e-12, atol=1e-13)
