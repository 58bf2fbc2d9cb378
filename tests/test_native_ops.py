"""The compiled kernels against torch's operators, with derivatives of both orders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2_ops import cpu
from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.build import Impl, find_compiler
from stylegan2_ops.finish import Finish
from stylegan2_ops.upfirdn2d import upfirdn2d

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")

LAYOUTS = (torch.contiguous_format, torch.channels_last)
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12, torch.bfloat16: 0.04}
RESAMPLINGS = (
    (1, 1, (1, 1, 1, 1)),
    (2, 1, (2, 1, 2, 1)),
    (1, 2, (1, 1, 1, 1)),
    (2, 2, (3, 0, -1, 4)),
    (3, 2, (0, 2, 1, 1)),
    (1, 1, (-1, 2, 0, 3)),
)


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("activation", ["lrelu", "linear"])
@pytest.mark.parametrize("clamp", [None, 0.7])
def test_bias_act_equals_the_reference(
    dtype: torch.dtype, layout: torch.memory_format, activation: str, clamp: float | None
) -> None:
    x = draw(2, 5, 9, 7, dtype=dtype).contiguous(memory_format=layout)
    bias = draw(5, seed=1)
    ours = bias_act(x, bias, activation, clamp=clamp, impl="native")
    wanted = bias_act(x, bias, activation, clamp=clamp, impl="ref")
    assert ours.dtype == dtype and ours.stride() == wanted.stride()
    assert (ours - wanted).abs().max() <= TOLERANCE[dtype]


def test_bias_act_takes_rows_and_no_bias() -> None:
    x = draw(3, 8)
    assert torch.allclose(bias_act(x, None, impl="native"), bias_act(x, None, impl="ref"))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_what_was_clamped_passes_no_gradient(dtype: torch.dtype) -> None:
    slopes = []
    impls: tuple[Impl, ...] = ("ref", "native")
    for impl in impls:
        x = draw(2, 3, 20, 20, dtype=dtype).requires_grad_()
        bias_act(x, None, clamp=0.7, impl=impl).sum().backward()  # bfloat16 has no 0.7
        assert x.grad is not None
        slopes.append(x.grad)
    assert (slopes[0] - slopes[1]).abs().max() < TOLERANCE[dtype]


def test_bias_act_has_first_and_second_derivatives() -> None:
    x = draw(2, 3, 4, 5, dtype=torch.float64).requires_grad_()
    bias = draw(3, dtype=torch.float64, seed=1).requires_grad_()

    def run(x: Tensor, bias: Tensor) -> Tensor:
        return bias_act(x, bias, clamp=1.1, impl="native")

    assert torch.autograd.gradcheck(run, (x, bias))
    assert torch.autograd.gradgradcheck(run, (x, bias))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("up", "down", "padding"), RESAMPLINGS)
def test_upfirdn2d_equals_the_reference(
    dtype: torch.dtype,
    layout: torch.memory_format,
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
) -> None:
    x = draw(2, 5, 9, 7, dtype=dtype).contiguous(memory_format=layout)
    kernel = draw(4, 4, dtype=dtype, seed=2).abs()
    ours = upfirdn2d(x, kernel, up, down, padding, 1.5, impl="native")
    wanted = upfirdn2d(x, kernel, up, down, padding, 1.5, impl="ref")
    assert ours.shape == wanted.shape
    assert (ours - wanted).abs().max() <= TOLERANCE[dtype] * 4


def test_upfirdn2d_leaves_channels_last_filters_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch's convolution measured faster, "auto" takes it; "native" never does."""
    called: list[tuple[int, int]] = []
    kernel_of = cpu.upfirdn2d

    def count(x: Tensor, kernel: Tensor, up: int, down: int, *rest: Any) -> Tensor:
        called.append((up, down))
        return kernel_of(x, kernel, up, down, *rest)

    monkeypatch.setattr(cpu, "upfirdn2d", count)
    kernel, x = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8] * 2), draw(1, 4, 256, 256)
    last = x.contiguous(memory_format=torch.channels_last)
    first = upfirdn2d(x, kernel, padding=(2, 1, 2, 1))
    assert called == [(1, 1)]
    second = upfirdn2d(last, kernel, padding=(2, 1, 2, 1))
    assert called == [(1, 1)]
    torch.testing.assert_close(first, second)
    upfirdn2d(last, kernel, up=2, padding=(2, 1, 2, 1))
    upfirdn2d(last, kernel, padding=(2, 1, 2, 1), impl="native")
    assert called == [(1, 1), (2, 1), (1, 1)]


@pytest.mark.parametrize(("up", "down", "padding"), RESAMPLINGS)
def test_upfirdn2d_has_first_and_second_derivatives(
    up: int, down: int, padding: tuple[int, int, int, int]
) -> None:
    x = draw(1, 2, 6, 5, dtype=torch.float64).requires_grad_()
    kernel = draw(4, 3, dtype=torch.float64, seed=2)

    def run(x: Tensor) -> Tensor:
        return upfirdn2d(x, kernel, up, down, padding, 1.5, impl="native")

    assert torch.autograd.gradcheck(run, (x,))
    assert torch.autograd.gradgradcheck(run, (x,))


def test_the_filter_is_not_symmetric_by_accident() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0
    kernel = torch.arange(16.0).reshape(4, 4)
    ours = upfirdn2d(x, kernel, padding=(3, 3, 3, 3), impl="native")
    assert torch.equal(ours[0, 0, 2:6, 2:6], kernel)  # a convolution, not a correlation


def test_a_kernel_that_learns_takes_the_reference() -> None:
    kernel = draw(4, 4).requires_grad_()
    upfirdn2d(draw(1, 1, 6, 6), kernel, impl="native").sum().backward()
    assert kernel.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("noise", ["none", "shared", "own"])
@pytest.mark.parametrize("size", [5, 8, 150])
def test_finish_layer_is_the_steps_one_after_the_other(
    dtype: torch.dtype, filtered: bool, noise: str, size: int
) -> None:
    n, c = 2, 16
    spare = 1 if filtered else 0
    x = draw(n, c, size + spare, size + spare, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    taps = torch.tensor([0.1, 0.5, 0.8, 0.6])
    demodulation, bias, following = draw(n, c, seed=1), draw(c, seed=2), draw(n, c, seed=3)
    to_rgb = None if filtered else draw(n, 3, c, seed=4)
    shapes = {"none": None, "shared": (size, size), "own": (n, size, size)}
    shape = shapes[noise]
    grain = None if shape is None else draw(*shape, seed=5)
    y = x.float()
    if filtered:
        kernel = torch.outer(taps, taps)
        y = upfirdn2d(y, kernel, padding=(1, 1, 1, 1), impl="ref")
    y = y * demodulation[:, :, None, None]
    if grain is not None:
        y = y + (grain if grain.ndim == 2 else grain[:, None])
    y = bias_act(y, bias, "lrelu", clamp=1.5, impl="ref")
    wanted = y * following[:, :, None, None]
    out, rgb = cpu.finish_layer(
        x.clone(memory_format=torch.preserve_format),
        Finish(
            demodulation=demodulation,
            bias=bias,
            noise=grain,
            following=following,
            to_rgb=to_rgb,
            slope=0.2,
            gain=2.0**0.5,
            clamp=1.5,
        ),
        taps if filtered else None,
    )
    assert out is not None
    limit = 1e-5 if dtype == torch.float32 else 0.05
    assert (out.float() - wanted).abs().max() < limit
    if to_rgb is not None:
        assert rgb is not None
        assert (rgb - torch.einsum("nkc,nchw->nkhw", to_rgb, y)).abs().max() < 1e-4


def test_finish_layer_refuses_what_would_give_nothing() -> None:
    x = draw(1, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    scale, bias = torch.ones(1, 16), torch.zeros(16)
    with pytest.raises(ValueError, match="following and to_rgb are both None"):
        cpu.finish_layer(x, Finish(scale, bias))
    with pytest.raises(ValueError, match="to_rgb is given with taps"):
        cpu.finish_layer(x, Finish(scale, bias, to_rgb=torch.ones(1, 3, 16)), torch.ones(4))


@pytest.mark.parametrize(
    ("n", "i", "o", "h", "w"),
    [(2, 32, 48, 13, 10), (1, 16, 32, 64, 64), (1, 64, 16, 4, 5), (1, 16, 16, 1, 1)],
)
def test_winograd_is_the_convolution(n: int, i: int, o: int, h: int, w: int) -> None:
    x = draw(n, i, h, w).contiguous(memory_format=torch.channels_last)
    weight = draw(o, i, 3, 3, seed=1)
    bias, scale = draw(o, seed=2), draw(n, o, seed=3)
    wanted = F.conv2d(x.double(), weight.double(), padding=1) * scale[:, :, None, None]
    wanted = bias_act(wanted, bias.double(), "lrelu", impl="ref")
    finish = Finish(scale, bias, slope=0.2, gain=2.0**0.5)
    ours, _ = cpu.winograd_layer(x, cpu.winograd_weight(weight), finish)
    assert ours is not None
    assert (ours - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_winograd_refuses_other_weights() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        cpu.winograd_weight(torch.zeros(16, 8, 3, 3))
    with pytest.raises(ValueError, match=r"\(O, I, 3, 3\)"):
        cpu.winograd_weight(torch.zeros(16, 16, 1, 1))


@pytest.mark.parametrize("clamp", [None, 0.5])
def test_add_skip_is_bias_clamp_and_the_enlarged_image(clamp: float | None) -> None:
    image, small = draw(2, 3, 8, 8), draw(2, 3, 4, 4, seed=1)
    bias, taps = draw(3, seed=2), torch.tensor([0.3, 0.7, 0.9, 0.1])
    own = image + bias[:, None, None]
    own = own if clamp is None else own.clamp(-clamp, clamp)
    kernel = torch.outer(taps, taps)
    wanted = own + upfirdn2d(small, kernel, up=2, padding=(2, 1, 2, 1), impl="ref")
    cpu.add_skip(image, small, taps, bias, clamp)
    assert (image - wanted).abs().max() < 1e-6


def test_the_result_does_not_depend_on_threads() -> None:
    x = draw(1, 32, 40, 40).contiguous(memory_format=torch.channels_last)
    weight = cpu.winograd_weight(draw(32, 32, 3, 3, seed=1))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        finish = Finish(torch.ones(1, 32), torch.zeros(32), slope=0.2)
        ours, _ = cpu.winograd_layer(x, weight, finish)
        results.append(ours)
    torch.set_num_threads(before)
    assert results[0] is not None and results[1] is not None and results[2] is not None
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
