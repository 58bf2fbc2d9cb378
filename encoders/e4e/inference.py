"""Encode fast with e4e: batch norms folded, weights packed, first convolutions of heads joined.

A batch norm after a convolution is folded into it. The first convolutions of all style heads on one
feature map become one convolution. The result equals that of the network, except for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.e4e.irse import Bottleneck, SqueezeExcite
from encoders.e4e.network import COARSE_HEADS, MIDDLE_HEADS, E4e, StyleHead
from stylegan2_ops.build import WORTH_COMPILING, Impl, available
from stylegan2_ops.choice import fastest
from stylegan2_ops.inference import PRECISIONS, Precision
from stylegan2_ops.packed import (
    Convolution,
    convolution_ways,
    fits_winograd,
    pack_conv2d,
    pack_strided_winograd,
    pack_winograd,
)

Step = Callable[[Tensor], Tensor]
Pack = Callable[[], Convolution]
WINOGRAD_FROM = 16  # pixels per side, measured at full size
STRIDED_WINOGRAD_FROM = 32


class PreparedE4e:
    """An encoder prepared for fast inference; it ignores later changes of the network.

    Args:
        network: the encoder, in eval mode.
        precision: "fp32", or "bf16" for convolutions in bfloat16.
        impl: "native" computes large 3x3 convolutions by Winograd's method: those of the backbone
            by the compiled kernel, those of the heads along rows. "ref" computes all directly, by
            torch only. "auto" takes, for each convolution, what measured fastest on this machine
            (`stylegan2_ops.choice`), if the kernel is available and the encoder is large enough.

    Raises:
        ValueError: unknown `precision` or `impl`, or the network is in training mode.
        stylegan2_ops.build.BuildError: `impl` is "native" and the kernels cannot be built.
    """

    def __init__(self, network: E4e, precision: Precision = "fp32", impl: Impl = "auto") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; wanted one of {PRECISIONS}")
        if network.training:
            raise ValueError("network is in training mode; wanted network.eval()")
        self.network, self.precision, self.impl = network, precision, impl
        self.config = network.config
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        size = self.config.input_size
        worth = impl != "auto" or size >= WORTH_COMPILING
        self.winograd = precision == "fp32" and worth and available(impl)
        with torch.inference_mode():
            self._backbone(network, size)
            self.latent_avg = network.latent_avg.detach().float()
            reduce = network.reduce
            self.reduce: Step = nn.Identity()
            if isinstance(reduce, nn.Conv2d):
                self.reduce = self._conv(reduce, size // 16)
            self.lateral = (
                self._conv(network.latlayer1, size // 8),
                self._conv(network.latlayer2, size // 4),
            )
            heads = list(network.styles)
            ends = (COARSE_HEADS, MIDDLE_HEADS, len(heads))
            bounds = (1, *(min(end, len(heads)) for end in ends))
            self.first = _Heads(heads[:1], size // 16, self._pack_strided)
            self.groups = [
                _Heads(heads[a:b], size // shrink, self._pack_strided) if a < b else None
                for (a, b), shrink in zip(pairwise(bounds), (16, 8, 4), strict=True)
            ]

    def __reduce__(self) -> tuple[type[PreparedE4e], tuple[E4e, Precision, Impl]]:
        """Pickle the network only; each worker process prepares it again."""
        return PreparedE4e, (self.network, self.precision, self.impl)

    def _conv(self, conv: nn.Conv2d, size: int, norm: nn.BatchNorm2d | None = None) -> Convolution:
        weight = conv.weight.detach().float()
        bias = None if conv.bias is None else conv.bias.detach().float()
        if norm is not None:
            scale, shift = _affine(norm)
            weight = weight * scale[:, None, None, None]
            bias = shift if bias is None else bias * scale + shift
        direct = partial(
            pack_conv2d,
            weight.to(self.dtype),
            size,
            bias=None if bias is None else bias.to(self.dtype),
            stride=conv.stride[0],
            padding=int(conv.padding[0]),
        )
        plain = conv.stride[0] == 1 and conv.padding[0] == 1 and size >= WINOGRAD_FROM
        if not (self.winograd and plain and fits_winograd(weight)):
            return direct()
        return self._packed("e4e", weight, size, partial(pack_winograd, weight, bias), direct)

    def _pack_strided(self, weight: Tensor, size: int, bias: Tensor) -> Convolution:
        """A head's 3x3 convolution of stride 2 with its leaky ReLU."""
        slope, typed = nn.LeakyReLU().negative_slope, weight.to(self.dtype)
        direct = partial(
            pack_conv2d, typed, size, bias.to(self.dtype), stride=2, padding=1, leaky=slope
        )
        if not self.winograd or size < STRIDED_WINOGRAD_FROM:
            return direct()
        turned = partial(pack_strided_winograd, weight, size, bias, slope)
        return self._packed("e4e heads", weight, size, turned, direct)

    def _packed(
        self, what: str, weight: Tensor, size: int, turned: Pack, direct: Pack
    ) -> Convolution:
        """A convolution by Winograd's method or directly, as `impl` says."""
        if self.impl == "auto":
            name = f"{what} {weight.shape[1]} to {weight.shape[0]} at {size}"
            ways = convolution_ways(size, weight, {"winograd": turned, "direct": direct})
            return turned() if fastest(name, ways) == "winograd" else direct()
        return turned()

    def _backbone(self, network: E4e, size: int) -> None:
        backbone = network.encoder
        conv, norm, act = backbone.input_layer
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        self.input = self._conv(conv, size, norm)
        assert isinstance(act, nn.PReLU)
        self.input_slope = act.weight.detach().to(self.dtype)
        self.taps = backbone.taps[1:]
        self.blocks: list[Step] = []
        for block in backbone.body:
            assert isinstance(block, Bottleneck)
            self.blocks.append(self._bottleneck(block, size))
            stride = block.res_layer[3].stride
            assert isinstance(stride, tuple)
            size //= stride[0]

    def _bottleneck(self, block: Bottleneck, size: int) -> Step:
        before, conv1, act, conv2, after, gate = block.res_layer
        assert isinstance(before, nn.BatchNorm2d) and isinstance(after, nn.BatchNorm2d)
        assert isinstance(conv1, nn.Conv2d) and isinstance(conv2, nn.Conv2d)
        assert isinstance(gate, SqueezeExcite) and isinstance(act, nn.PReLU)
        scale, shift = (v.to(self.dtype)[:, None, None] for v in _affine(before))
        first, second = self._conv(conv1, size), self._conv(conv2, size, after)
        slope = act.weight.detach().to(self.dtype)
        squeeze = gate.fc1.weight.detach().float().flatten(1)
        excite = gate.fc2.weight.detach().float().flatten(1)
        stride = conv2.stride[0]
        shortcut: Step
        if isinstance(block.shortcut_layer, nn.Sequential):
            conv, norm = block.shortcut_layer
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            shortcut = self._conv(conv, size, norm)
        else:

            def shortcut(x: Tensor) -> Tensor:
                return x[:, :, ::stride, ::stride]

        def run(x: Tensor) -> Tensor:
            # A norm before a padded convolution cannot be folded: its shift would pad, too.
            y = second(F.prelu(first(torch.addcmul(shift, x, scale)), slope))
            mean = y.mean(dim=(2, 3), dtype=torch.float32)
            gates = torch.sigmoid(F.relu(mean @ squeeze.t()) @ excite.t())
            return torch.addcmul(shortcut(x), y, gates.to(y.dtype)[:, :, None, None])

        return run

    @torch.inference_mode()
    def __call__(self, images: Tensor, stage: int | None = None) -> Tensor:
        """Encode images; the result is that of `E4e`.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            stage: number of active deltas; 0 gives one w for all layers, a preview at less than
                half of the cost; None gives all.
        """
        config = self.config
        if images.shape[-1] != config.input_size or images.shape[-2] != config.input_size:
            images = F.interpolate(
                images, (config.input_size, config.input_size), mode="bilinear", antialias=True
            )
        x = images.to(self.dtype).contiguous(memory_format=torch.channels_last)
        x = F.prelu(self.input(x), self.input_slope)
        found: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                found.append(x)
        c1, c2, c3 = found
        c3 = self.reduce(c3)
        w = self.first(c3)[:, 0]
        active = config.num_ws - 1 if stage is None else min(stage, config.num_ws - 1)
        maps = [c3]
        if active >= COARSE_HEADS:
            maps.append(_enlarge(c3, c2) + self.lateral[0](c2))
        if active >= MIDDLE_HEADS:
            maps.append(_enlarge(maps[1], c1) + self.lateral[1](c1))
        deltas = [torch.zeros_like(w)[:, None]]
        deltas += [
            group(features)
            for group, features in zip(self.groups, maps, strict=False)
            if group is not None
        ]
        joined = torch.cat(deltas, dim=1)[:, : active + 1]  # a group may be active in part
        whole = F.pad(joined, (0, 0, 0, config.num_ws - joined.shape[1]))
        return w[:, None] + whole + self.latent_avg


class _Heads:
    """Style heads on one feature map; their first convolutions are joined into one."""

    def __init__(
        self, heads: list[nn.Module], size: int, pack: Callable[[Tensor, int, Tensor], Convolution]
    ) -> None:
        self.count = len(heads)
        convolutions: list[list[nn.Conv2d]] = []
        weights, biases = [], []
        for head in heads:
            assert isinstance(head, StyleHead)
            convolutions.append([m for m in head.convs if isinstance(m, nn.Conv2d)])
            weights.append(head.linear.weight.detach().float() * head.linear.weight_gain)
            biases.append(head.linear.bias.detach().float() * head.linear.bias_gain)
        self.weight, self.bias = torch.stack(weights), torch.stack(biases)

        def joined(members: list[nn.Conv2d], at: int) -> Convolution:
            weight = torch.cat([m.weight.detach().float() for m in members])
            return pack(weight, at, torch.cat([_bias(m) for m in members]))

        self.shared = joined([own[0] for own in convolutions], size)
        self.rest: list[list[Convolution]] = []
        for own in convolutions:
            at, steps = size, []
            for conv in own[1:]:
                at //= 2
                steps.append(joined([conv], at))
            self.rest.append(steps)

    def __call__(self, features: Tensor) -> Tensor:
        """(N, C, S, S) to (N, heads, w_dim)."""
        parts = self.shared(features).chunk(self.count, dim=1)
        ends = []
        for part, steps in zip(parts, self.rest, strict=True):
            x = part.contiguous(memory_format=torch.channels_last)
            for step in steps:
                x = step(x)
            ends.append(x.flatten(1).float())
        stacked = torch.stack(ends)  # (heads, N, width)
        w = torch.baddbmm(self.bias[:, None], stacked, self.weight.transpose(1, 2))
        return w.transpose(0, 1)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in eval mode, (C,) each."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.detach().float() * torch.rsqrt(norm.running_var.float() + norm.eps)
    return scale, norm.bias.detach().float() - norm.running_mean.float() * scale


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias.detach().float()


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
