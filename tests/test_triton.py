"""The CUDA kernels, run on the CPU in Triton's interpreter, against torch's operators."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
CHECK = """
import torch
from stylegan2_ops import cpu
from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.upfirdn2d import upfirdn2d
from stylegan2_ops.triton import bias_act as acts, upfirdn2d as filters
from stylegan2_ops.finish import Finish
from stylegan2_ops.triton.finish import finish_layer

torch.manual_seed(0)
checks = 0
def close(ours, wanted, limit):
    global checks
    checks += 1
    assert ours.shape == wanted.shape and ours.dtype == wanted.dtype
    assert (ours - wanted).abs().max() <= limit, (ours - wanted).abs().max()

for dtype, limit in ((torch.float32, 2e-6), (torch.float64, 1e-6), (torch.bfloat16, 0.07)):
    x, bias = torch.randn(2, 5, 9, 7, dtype=dtype), torch.randn(5)
    for each in (x, x.contiguous(memory_format=torch.channels_last)):
        for clamp in (None, 0.75):  # a number that bfloat16 has
            y = acts.bias_act(each, bias, 0.2, 2**0.5, clamp)
            close(y, bias_act(each, bias, clamp=clamp, impl="ref"), limit)
            free = each.clone().requires_grad_()
            bias_act(free, bias, clamp=clamp, impl="ref").backward(torch.ones_like(each))
            ours = acts.bias_act_grad(torch.ones_like(y), y, 0.2, 2**0.5, clamp)
            if dtype == torch.bfloat16:  # rounding decides on which side of 0 and of the clamp
                near = torch.minimum(y.abs(), (y.abs() - (clamp or 0)).abs()) < 0.01
                ours = torch.where(near, free.grad, ours)
            close(ours, free.grad, limit)
    kernel = torch.rand(4, 3)
    for up, down, pads in ((1, 1, (1, 1, 1, 1)), (2, 1, (2, 1, 2, 1)), (1, 2, (1, 1, 1, 1)),
                           (2, 2, (3, 0, -1, 4)), (3, 2, (0, 2, 1, 1))):
        for layout in (torch.contiguous_format, torch.channels_last):
            each = x.contiguous(memory_format=layout)
            ours = filters.upfirdn2d(each, kernel, up, down, pads, 1.5)
            assert ours.is_contiguous(memory_format=layout)
            close(ours, upfirdn2d(x, kernel, up, down, pads, 1.5, impl="ref"), limit)

taps, demodulation = torch.rand(4), torch.rand(2, 16)
bias, following, to_rgb = torch.randn(16), torch.randn(2, 16), torch.randn(2, 3, 16)
for noise in (None, torch.randn(8, 8), torch.randn(2, 8, 8)):
    x = torch.randn(2, 16, 9, 9)
    for filtered, layout in ((True, torch.channels_last), (False, torch.channels_last),
                             (True, torch.contiguous_format), (False, torch.contiguous_format)):
        source = (x if filtered else x[:, :, 1:, 1:]).contiguous(memory_format=layout)
        rgb = None if filtered else to_rgb
        first = taps if filtered else None
        steps = Finish(demodulation, bias, noise, following, rgb, slope=0.2, gain=1.4, clamp=1.0)
        ours = finish_layer(source, steps, first)
        assert ours[0].is_contiguous(memory_format=layout)
        kernel = torch.outer(taps, taps)
        y = source
        if filtered:
            y = upfirdn2d(y, kernel, padding=(1, 1, 1, 1), impl="ref")
        y = y * demodulation[:, :, None, None]
        if noise is not None:
            y = y + (noise if noise.ndim == 2 else noise[:, None])
        y = bias_act(y, bias, gain=1.4, clamp=1.0, impl="ref")
        close(ours[0], y * following[:, :, None, None], 1e-5)
        if rgb is not None:
            close(ours[1], torch.einsum("nkc,nchw->nkhw", rgb, y), 1e-4)
print(checks)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
def test_triton_kernels_equal_the_reference() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHECK], capture_output=True, text=True, env=environment, cwd=REPO
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == 72
