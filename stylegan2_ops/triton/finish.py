"""The steps between two convolutions of the synthesis network as one Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from stylegan2_ops.finish import Finish
from stylegan2_ops.shapes import channels_last

BLOCK = 256


@triton.jit
def _finish_kernel(
    x, taps, demodulation, noise, bias, following, y, features,
    count, channels, h, w, slope, gain, clamp,
    FILTER: tl.constexpr, NOISE: tl.constexpr, FOLLOWING: tl.constexpr, FEATURES: tl.constexpr,
    LAST: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    block = tl.program_id(0).to(tl.int64) if LONG else tl.program_id(0)
    index = block * BLOCK + tl.arange(0, BLOCK)
    real = index < count
    # An image is one channel of one sample, or one sample where the channels lie together.
    inner = channels if LAST else 1
    column = (index // inner) % w
    row = (index // (inner * w)) % h
    image = index // (inner * w * h)
    channel = index % channels if LAST else image % channels
    sample = image if LAST else image // channels
    plane = sample * channels + channel
    at_channel = channel if LAST else 0
    if FILTER:
        total = tl.zeros((BLOCK,), dtype=tl.float32)
        for i in tl.static_range(4):
            source_y = row - 1 + i
            good_y = (source_y >= 0) & (source_y < h + 1)
            a = tl.load(taps + 3 - i)
            for j in tl.static_range(4):
                source_x = column - 1 + j
                good = good_y & (source_x >= 0) & (source_x < w + 1)
                at = ((image * (h + 1) + source_y) * (w + 1) + source_x) * inner + at_channel
                v = tl.load(x + at, mask=real & good, other=0.0).to(tl.float32)
                total += v * a * tl.load(taps + 3 - j)
    else:
        total = tl.load(x + index, mask=real, other=0.0).to(tl.float32)
    total *= tl.load(demodulation + plane, mask=real, other=0.0)
    total += tl.load(bias + channel, mask=real, other=0.0)
    if NOISE == 1:
        total += tl.load(noise + row * w + column, mask=real, other=0.0)
    if NOISE == 2:
        total += tl.load(noise + (sample * h + row) * w + column, mask=real, other=0.0)
    total = tl.where(total > 0, total, total * slope) * gain
    if clamp >= 0:
        total = tl.where(total > clamp, clamp, tl.where(total < -clamp, -clamp, total))
    if FEATURES:
        tl.store(features + index, total.to(features.dtype.element_ty), mask=real)
    if FOLLOWING:
        total *= tl.load(following + plane, mask=real, other=0.0)
        tl.store(y + index, total.to(y.dtype.element_ty), mask=real)


def finish_layer(
    x: Tensor, finish: Finish, taps: Tensor | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """The same as `stylegan2_ops.cpu.finish_layer`, never in place, for NCHW or NHWC layout."""
    noise, following, to_rgb = finish.noise, finish.following, finish.to_rgb
    last = channels_last(x)
    x = x if last else x.contiguous()
    n, c = x.shape[:2]
    spare = 0 if taps is None else 1
    h, w = x.shape[2] - spare, x.shape[3] - spare
    layout = torch.channels_last if last else torch.contiguous_format
    out = torch.empty((n, c, h, w), dtype=x.dtype, device=x.device, memory_format=layout)
    features = torch.empty_like(out) if to_rgb is not None else None
    _finish_kernel[(triton.cdiv(out.numel(), BLOCK),)](
        x,
        x if taps is None else taps,
        finish.demodulation.contiguous(),
        x if noise is None else noise.contiguous(),
        finish.bias,
        x if following is None else following.contiguous(),
        out,
        out if features is None else features,
        out.numel(),
        c,
        h,
        w,
        finish.slope,
        finish.gain,
        -1.0 if finish.clamp is None else finish.clamp,
        FILTER=taps is not None,
        NOISE=0 if noise is None else noise.ndim - 1,
        FOLLOWING=following is not None,
        FEATURES=features is not None,
        LAST=last,
        LONG=x.numel() + BLOCK >= 2**31,
        BLOCK=BLOCK,
    )
    rgb = None
    if to_rgb is not None and features is not None:
        colours = to_rgb.to(x.dtype)
        if last:
            rows = features.permute(0, 2, 3, 1).flatten(1, 2)  # (N, H * W, C)
            rgb = (rows @ colours.transpose(1, 2)).float().unflatten(1, (h, w)).permute(0, 3, 1, 2)
        else:
            rgb = (colours @ features.flatten(2)).float().unflatten(2, (h, w))
    return (None if following is None else out), rgb
