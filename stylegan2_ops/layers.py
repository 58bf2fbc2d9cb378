"""The layers of StyleGAN2's networks, with the paper's initialisation and gains."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.modulated_conv import modulated_conv2d
from stylegan2_ops.upfirdn2d import downsample2d, make_filter, upfirdn2d

NoiseMode = Literal["const", "random", "none"]
NOISE_MODES: tuple[NoiseMode, ...] = ("const", "random", "none")


def gaussian(*shape: int, divisor: float = 1.0) -> Tensor:
    """Normal numbers as `torch.randn` draws them, divided by a number.

    On the meta device nothing is drawn: torch would import its compiler for it, which takes 2 s.
    """
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_().div_(divisor)


class FullyConnected(nn.Module):
    """A linear layer with equalised learning rate.

    The stored weight starts as N(0, 1) / lr_multiplier. It is multiplied by
    lr_multiplier / sqrt(in_features) at run time, so that Adam trains all layers at equal speed.

    Args:
        in_features: length of an input vector.
        out_features: length of an output vector.
        activation: "linear" or "lrelu".
        lr_multiplier: 0.01 in the mapping network, 1 elsewhere.
        bias_init: initial bias; 1 in the affine layers that make styles.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(gaussian(out_features, in_features, divisor=lr_multiplier))
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) to (N, out_features)."""
        y = F.linear(x, (self.weight * self.weight_gain).to(x.dtype))
        return bias_act(y, self.bias * self.bias_gain, self.activation)


class SynthesisLayer(nn.Module):
    """Style, modulated 3x3 convolution, noise, bias, leaky ReLU.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        w_dim: length of w.
        resolution: height and width of the output and of the constant noise.
        up: 1, or 2 to upsample by 2.
        conv_clamp: largest magnitude of the output, or None for no limit; 256 in mixed-precision
            files.
    """

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        up: int = 1,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.up = up
        self.conv_clamp = conv_clamp
        self.resolution = resolution
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(gaussian(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", gaussian(resolution, resolution))
        self.register_buffer("resample_filter", make_filter())

    def forward(self, x: Tensor, w: Tensor, noise_mode: NoiseMode = "const") -> Tensor:
        """(N, in, H, W) and w (N, w_dim) to (N, out, H * up, W * up)."""
        kernel = self.resample_filter if self.up == 2 else None
        y = modulated_conv2d(x, self.weight, self.affine(w), up=self.up, kernel=kernel)
        if noise_mode == "random":
            noise = torch.randn(
                y.shape[0], 1, self.resolution, self.resolution, device=y.device, dtype=y.dtype
            )
            y = y + noise * self.noise_strength.to(y.dtype)
        elif noise_mode == "const":
            y = y + (self.noise_const * self.noise_strength).to(y.dtype)
        return bias_act(y, self.bias, "lrelu", clamp=self.conv_clamp)


class ToRGB(nn.Module):
    """Style and modulated 1x1 convolution to image channels, without demodulation.

    Args:
        in_channels: channels in.
        out_channels: image channels, 3 for RGB.
        w_dim: length of w.
        conv_clamp: largest magnitude of the output, or None for no limit.
    """

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, conv_clamp: float | None = None
    ) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(gaussian(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1.0 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(N, in, H, W) and w (N, w_dim) to (N, out, H, W)."""
        styles = self.affine(w) * self.weight_gain
        y = modulated_conv2d(x, self.weight, styles, demodulate=False)
        return bias_act(y, self.bias, "linear", clamp=self.conv_clamp)


class EqualConv(nn.Module):
    """A plain convolution with equalised learning rate, optionally with downsampling by 2.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: height and width of the kernel, odd.
        activation: "linear" or "lrelu".
        bias: add a learned bias to each channel.
        down: 1, or 2 to low-pass filter and downsample by 2.
        conv_clamp: largest magnitude of the output, or None for no limit.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        activation: str = "lrelu",
        bias: bool = True,
        down: int = 1,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.down = down
        self.conv_clamp = conv_clamp
        self.weight = nn.Parameter(gaussian(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.weight_gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("resample_filter", make_filter())

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """(N, in, H, W) to (N, out, H / down, W / down), scaled by `gain`."""
        weight = (self.weight * self.weight_gain).to(x.dtype)
        pad = weight.shape[-1] // 2
        if self.down == 2 and pad:
            edge = pad + 1
            x = upfirdn2d(x, self.resample_filter, padding=(edge, edge, edge, edge))
            y = F.conv2d(x, weight, stride=2)
        else:
            x = downsample2d(x, self.resample_filter) if self.down == 2 else x
            y = F.conv2d(x, weight, padding=pad)
        act_gain = math.sqrt(2.0) if self.activation == "lrelu" else 1.0
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act(y, self.bias, self.activation, gain=act_gain * gain, clamp=clamp)
