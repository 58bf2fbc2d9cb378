"""Bias, leaky ReLU, gain and clamp, the step that follows every StyleGAN2 layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2.0)


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    activation: str = "lrelu",
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Add a bias to each channel, activate, scale, clamp; in that order.

    Args:
        x: (N, C, ...) activations, any number of trailing dimensions.
        bias: (C,), or None for no bias.
        activation: "lrelu" (slope 0.2) or "linear".
        gain: factor after the activation; by default sqrt(2) for "lrelu", which keeps
            the second moment of a unit Gaussian, and 1 for "linear".
        clamp: largest magnitude that may leave, or None.

    Returns:
        A tensor like `x`.

    Raises:
        ValueError: `activation` is not one of the two names.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".
    """
    if activation not in ("lrelu", "linear"):
        raise ValueError(f'activation is {activation!r}; wanted "lrelu" or "linear"')
    if bias is not None:
        x = x + bias.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    if activation == "lrelu":
        x = torch.nn.functional.leaky_relu(x, LRELU_SLOPE)
        gain = LRELU_GAIN if gain is None else gain
    if gain is not None and gain != 1.0:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)
