"""Render w_plus fast, without gradients: packed weights, one pass between two convolutions.

The style scales the activations, so each layer is one dense convolution with a constant weight,
which is packed once. The steps between two convolutions (filter, demodulation, noise, bias, leaky
ReLU, gain, clamp, colours, the next layer's style) are one pass of a compiled kernel. Without a
compiler, torch's operators do them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2_ops import cpu
from stylegan2_ops.bias_act import LRELU_GAIN, LRELU_SLOPE, bias_act, triton_available
from stylegan2_ops.build import WORTH_COMPILING, Impl, available, cpu_features
from stylegan2_ops.choice import fastest
from stylegan2_ops.finish import Finish
from stylegan2_ops.generator import SynthesisBlock, SynthesisNetwork
from stylegan2_ops.layers import FullyConnected, NoiseMode, SynthesisLayer, ToRGB
from stylegan2_ops.modulated_conv import DEMODULATION_EPS
from stylegan2_ops.packed import (
    Convolution,
    fits_winograd,
    layer_ways,
    pack_conv2d,
    pack_upsampling,
)
from stylegan2_ops.upfirdn2d import upfirdn2d, upsample2d

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
CHUNK_PIXELS = 512 * 512  # a larger batch leaves the caches sooner and takes more memory
CUDA_CHUNK_PIXELS = 8 * 1024 * 1024  # enough to fill a GPU; about 3 GB in float32
GRAPHS = 4  # recorded batches that are kept
SEPARABLE_TOLERANCE = 1e-6
WINOGRAD_FROM = 32  # pixels per side; below it, reading the larger weights costs more than it saves


def prepared(
    network: SynthesisNetwork, precision: Precision = "fp32", impl: Impl = "auto"
) -> PreparedSynthesis:
    """The `PreparedSynthesis` of a network, made once and cached as long as the network exists.

    Args:
        network, precision, impl: as in `PreparedSynthesis`. The network must not change any more.
    """
    ready = _ready.setdefault(network, {})
    if (precision, impl) not in ready:
        ready[precision, impl] = PreparedSynthesis(network, precision, impl)
    return ready[precision, impl]


_ready: WeakKeyDictionary[nn.Module, dict[tuple[str, str], PreparedSynthesis]] = WeakKeyDictionary()


def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    return takes_bf16() and _has_bf16_instructions()


def takes_bf16() -> bool:
    """Whether oneDNN computes in bfloat16 on this CPU, in hardware or with AVX-512.

    Elsewhere a convolution in bfloat16 falls back to a path 30 times slower.
    """
    flags = set(cpu_features().split())
    wide = {"avx512bw", "avx512vl", "avx512dq"} <= flags or "bf16" in flags
    return torch.backends.mkldnn.is_available() and wide


def _has_bf16_instructions() -> bool:
    flags = set(cpu_features().split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class _Affine:
    """Maps w (N, w_dim) to a style (N, C); the gains are already in the weights."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: FullyConnected, gain: float = 1.0) -> _Affine:
        weight = layer.weight.detach().float() * (layer.weight_gain * gain)
        return cls(weight, layer.bias.detach().float() * (layer.bias_gain * gain))

    def __call__(self, w: Tensor) -> Tensor:
        return F.linear(w, self.weight, self.bias)


@dataclass(frozen=True)
class _Layer:
    """A prepared synthesis layer."""

    convolve: Convolution | None  # None if `winograd` is given
    affine: _Affine
    energy: Tensor  # (in, out), squares of the kernel summed over its elements
    bias: Tensor
    noise_const: Tensor  # (R, R), multiplied by its strength
    noise_strength: float
    clamp: float | None
    up: int
    kernel: Tensor  # (4, 4)
    taps: Tensor | None  # (4,) if the filter is separable
    winograd: Tensor | None  # the transformed weight, if Winograd's method is faster here

    def demodulation(self, style: Tensor) -> Tensor:
        return torch.rsqrt(style.square() @ self.energy + DEMODULATION_EPS)


@dataclass(frozen=True)
class _Colours:
    """A prepared ToRGB layer."""

    weight: Tensor  # (3, C)
    affine: _Affine
    bias: Tensor
    clamp: float | None


@dataclass(frozen=True)
class _Step:
    """One layer with what one batch of latents makes of it."""

    layer: _Layer
    demodulation: Tensor  # (N, C)
    noise: Tensor | None  # (R, R) or (N, R, R)
    following: Tensor | None  # (N, C), the style of the next layer; None in the last one
    colours: _Colours | None  # None in the first layer of a block
    to_rgb: Tensor | None  # (N, 3, C), the modulated weight of `colours`

    @property
    def taps(self) -> Tensor | None:
        return self.layer.taps if self.layer.up == 2 else None

    @property
    def finish(self) -> Finish:
        """The arguments of the kernels."""
        return Finish(
            demodulation=self.demodulation,
            bias=self.layer.bias,
            noise=self.noise,
            following=self.following,
            to_rgb=self.to_rgb,
            slope=LRELU_SLOPE,
            gain=LRELU_GAIN,
            clamp=self.layer.clamp,
        )


@dataclass
class _Graph:
    """A recorded batch on a GPU: its input, and what was recorded at the second batch."""

    w_plus: Tensor
    graph: torch.cuda.CUDAGraph | None = None
    images: Tensor | None = None


class PreparedSynthesis:
    """A synthesis network prepared for fast rendering; it ignores later changes of the network.

    Args:
        network: the network to render with.
        precision: "fp32", or "bf16" for convolutions in bfloat16 and all other steps in float32.
        impl: "native" for the compiled kernels, "ref" for torch's operators. "auto" takes the
            kernels if images have 256 pixels per side or more and a compiler is available.
        winograd: whether the kernels compute plain 3x3 convolutions by F(4x4, 3x3); rounding errors
            are several times larger, but stay in the last digits of float32. None takes, for each
            layer, what measured fastest on this machine (`stylegan2_ops.choice`).

    Raises:
        ValueError: unknown `precision` or `impl`.
        stylegan2_ops.build.BuildError: `impl` is "native" and the kernels cannot be built.
    """

    def __init__(
        self,
        network: SynthesisNetwork,
        precision: Precision = "fp32",
        impl: Impl = "auto",
        winograd: bool | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; wanted one of {PRECISIONS}")
        self.config = network.config
        self.resolutions = list(network.resolutions)
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.device = self._device(network)
        worth = impl != "auto" or self.config.resolution >= WORTH_COMPILING
        on_cpu = self.device.type == "cpu"
        blocks: list[SynthesisBlock] = [getattr(network, f"b{r}") for r in self.resolutions]
        self.skip_kernel = blocks[0].resample_filter.detach().clone()
        self.skip_taps = _axis(self.skip_kernel)
        upsampling = [block.conv0.resample_filter for block in blocks if not block.first]
        separable = all(_axis(kernel) is not None for kernel in [self.skip_kernel, *upsampling])
        self.native = worth and on_cpu and separable and available(impl)
        self.winograd = winograd if self.native else False
        wants_triton = self.device.type == "cuda" and impl != "ref" and separable
        self.triton = wants_triton and triton_available(impl)
        self.graphs: dict[tuple[Any, ...], _Graph] = {}
        self.const = blocks[0].const.detach().float()[None]
        self.layers: list[_Layer] = []
        self.colours: list[_Colours] = []
        for block in blocks:
            if not block.first:
                self.layers.append(self._layer(block.conv0))
            self.layers.append(self._layer(block.conv1))
            self.colours.append(self._to_rgb(block.torgb))

    @staticmethod
    def _device(network: SynthesisNetwork) -> torch.device:
        return next(network.parameters()).device

    def _layer(self, layer: SynthesisLayer) -> _Layer:
        weight = layer.weight.detach().float()
        size = layer.resolution // layer.up
        strength = float(layer.noise_strength)
        kernel = layer.resample_filter.detach().float()
        typed = weight.to(self.dtype)
        transformed, convolve = None, None
        if layer.up == 2:
            convolve = pack_upsampling(typed, size)
        elif self._takes_winograd(weight, size):
            transformed = cpu.winograd_weight(weight)
        else:
            convolve = pack_conv2d(typed, size, padding=weight.shape[-1] // 2)
        return _Layer(
            convolve=convolve,
            affine=_Affine.of(layer.affine),
            energy=weight.square().sum(dim=(2, 3)).t().contiguous(),
            bias=layer.bias.detach().float().contiguous(),
            noise_const=(layer.noise_const.detach().float() * strength).contiguous(),
            noise_strength=strength,
            clamp=layer.conv_clamp,
            up=layer.up,
            kernel=kernel,
            taps=_axis(kernel),
            winograd=transformed,
        )

    def _takes_winograd(self, weight: Tensor, size: int) -> bool:
        if self.winograd is False or size < WINOGRAD_FROM or not fits_winograd(weight):
            return False
        if self.winograd is None:
            kind = "bf16" if self.dtype == torch.bfloat16 else "fp32"
            name = f"synthesis {weight.shape[1]} to {weight.shape[0]} at {size}, {kind}"
            return fastest(name, layer_ways(weight.to(self.dtype), size)) == "winograd"
        return True

    def _to_rgb(self, layer: ToRGB) -> _Colours:
        weight = layer.weight.detach().float()[:, :, 0, 0].contiguous()
        affine = _Affine.of(layer.affine, layer.weight_gain)
        return _Colours(weight, affine, layer.bias.detach().float(), layer.conv_clamp)

    @torch.inference_mode()
    def __call__(
        self, w_plus: Tensor, noise_mode: NoiseMode = "const", stop_at: int | None = None
    ) -> Tensor:
        """Render images; result and errors are those of `SynthesisNetwork`.

        Args:
            w_plus: (N, num_ws, w_dim).
            noise_mode: "const", "random" or "none".
            stop_at: stop after this resolution and return a small preview at a fraction of the
                cost.
        """
        self.config.check_synthesis(w_plus, noise_mode, stop_at)
        pixels = CUDA_CHUNK_PIXELS if self.device.type == "cuda" else CHUNK_PIXELS
        chunk = max(1, pixels // self.config.resolution**2)
        if len(w_plus) > chunk:
            return torch.cat([self(part, noise_mode, stop_at) for part in w_plus.split(chunk)])
        if self.device.type == "cuda" and len(w_plus):
            return self._replay(w_plus, noise_mode, stop_at)
        return self._render(w_plus, noise_mode, stop_at)

    def _replay(self, w_plus: Tensor, noise_mode: NoiseMode, stop_at: int | None) -> Tensor:
        """The same as `_render`; from the second batch of a size on, one launch instead of 100."""
        key = (len(w_plus), noise_mode, stop_at)
        if key not in self.graphs:
            if len(self.graphs) == GRAPHS:
                del self.graphs[next(iter(self.graphs))]
            self.graphs[key] = _Graph(torch.empty_like(w_plus, device=self.device).float())
            return self._render(w_plus, noise_mode, stop_at)
        found = self.graphs[key]
        found.w_plus.copy_(w_plus)
        if found.graph is None:
            found.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(found.graph):
                found.images = self._render(found.w_plus, noise_mode, stop_at)
        found.graph.replay()
        assert found.images is not None
        return found.images.clone()

    def _render(self, w_plus: Tensor, noise_mode: NoiseMode, stop_at: int | None) -> Tensor:
        ws = w_plus.to(self.device, torch.float32).unbind(dim=1)
        last = self.resolutions.index(stop_at or self.resolutions[-1])
        count = 2 * last + 1
        # Layer i reads w number i; the colours of a block read the w of the layer that follows.
        styles = [layer.affine(ws[i]) for i, layer in enumerate(self.layers[:count])]
        finish = self._finish_torch
        if self.native:
            finish = self._finish_native
        elif self.triton:
            finish = self._finish_triton
        x = self.const * styles[0][:, :, None, None]
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        for index in range(count):
            layer = self.layers[index]
            colours = self.colours[index // 2] if index % 2 == 0 else None
            to_rgb = None
            if colours is not None:
                style = colours.affine(ws[index + 1])
                to_rgb = (colours.weight * style[:, None]).contiguous()  # (N, 3, C)
            step = _Step(
                layer=layer,
                demodulation=layer.demodulation(styles[index]),
                noise=self._noise(layer, len(w_plus), noise_mode),
                following=styles[index + 1] if index + 1 < count else None,
                colours=colours,
                to_rgb=to_rgb,
            )
            x, image = finish(step, x, image)
        assert image is not None
        return image

    def _noise(self, layer: _Layer, count: int, mode: NoiseMode) -> Tensor | None:
        if mode == "none" or layer.noise_strength == 0.0:
            return None
        if mode == "const":
            return layer.noise_const
        shape = layer.noise_const.shape
        return torch.randn(count, *shape, device=self.device) * layer.noise_strength

    def _finish_native(
        self, step: _Step, x: Tensor, image: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        layer, colours = step.layer, step.colours
        if layer.winograd is not None:
            keep = step.following is not None
            out, rgb = cpu.winograd_layer(x, layer.winograd, step.finish, keep=keep)
        else:
            assert layer.convolve is not None
            out, rgb = cpu.finish_layer(layer.convolve(x), step.finish, step.taps)
        if colours is not None and rgb is not None:
            assert self.skip_taps is not None
            cpu.add_skip(rgb, image, self.skip_taps, colours.bias, colours.clamp)
            image = rgb
        return (x if out is None else out), image

    def _finish_triton(
        self, step: _Step, x: Tensor, image: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        from stylegan2_ops.triton.finish import finish_layer

        assert step.layer.convolve is not None
        out, rgb = finish_layer(step.layer.convolve(x), step.finish, step.taps)
        if rgb is not None:
            image = self._add_colours(step, rgb, image)
        return (x if out is None else out), image

    def _finish_torch(
        self, step: _Step, x: Tensor, image: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        layer, noise = step.layer, step.noise
        assert layer.convolve is not None
        y = layer.convolve(x)
        if layer.up == 2:
            y = upfirdn2d(y, layer.kernel, padding=(1, 1, 1, 1), gain=4.0)
        y = y * step.demodulation.to(y.dtype)[:, :, None, None]
        if noise is not None:
            y = y + (noise[:, None] if noise.ndim == 3 else noise).to(y.dtype)
        y = bias_act(y, layer.bias, "lrelu", clamp=layer.clamp, impl="ref")
        if step.to_rgb is not None:
            flat = step.to_rgb.to(y.dtype) @ y.flatten(2)  # (N, 3, H * W)
            image = self._add_colours(step, flat.float().unflatten(2, y.shape[2:]), image)
        if step.following is not None:
            y = y * step.following.to(y.dtype)[:, :, None, None]
        return y, image

    def _add_colours(self, step: _Step, rgb: Tensor, image: Tensor | None) -> Tensor:
        """The image of a block: its colours (N, 3, R, R) plus the upsampled smaller image."""
        assert step.colours is not None
        rgb = bias_act(rgb, step.colours.bias, "linear", clamp=step.colours.clamp, impl="ref")
        return rgb if image is None else upsample2d(image, self.skip_kernel) + rgb


def _axis(kernel: Tensor) -> Tensor | None:
    """One axis of a 4x4 filter that is the outer product of one axis with itself, else None.

    Returns:
        (4,) float32; it includes its share, 2, of the gain 4 of upsampling.
    """
    if tuple(kernel.shape) != (4, 4):
        return None
    exact = kernel.detach().double()
    total = float(exact.sum())
    if total <= 0:
        return None
    axis = exact.sum(dim=1) / math.sqrt(total)
    if float((torch.outer(axis, axis) - exact).abs().max()) > SEPARABLE_TOLERANCE * total:
        return None
    return (axis * 2.0).float().contiguous()
