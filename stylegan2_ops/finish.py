"""The steps between two convolutions of the synthesis network, as the kernels take them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Finish:
    """The arguments of `finish_layer` and `winograd_layer`, on the CPU and in Triton.

    With x the output of a convolution, a layer computes

        y = clamp(gain * leaky_relu(demodulation * x + noise + bias))

    and from y two results: `following * y`, the input of the next layer's convolution, and
    `to_rgb @ y`, the colours of this resolution.

    Attributes:
        demodulation: (N, C) float32.
        bias: (C,) float32.
        noise: (H, W) or (N, H, W) float32, already multiplied by its strength; None for no noise.
        following: (N, C) float32, the style of the next layer; None if there is no next layer.
        to_rgb: (N, 3, C) float32, the modulated 1x1 convolution; None if no colours are wanted.
        slope: slope of the leaky ReLU for negative values; 1 for no activation.
        gain: factor after the leaky ReLU.
        clamp: largest magnitude of y, or None for no limit.
    """

    demodulation: Tensor
    bias: Tensor
    noise: Tensor | None = None
    following: Tensor | None = None
    to_rgb: Tensor | None = None
    slope: float = 1.0
    gain: float = 1.0
    clamp: float | None = None
