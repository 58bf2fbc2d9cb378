"""The label network for reading only: packed weights, and activations inside the convolutions.

What it says differs from what `LabelNetwork.said` says by rounding alone. The network itself stays
as it is: it can be trained, saved and sent to workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhq.networks.backbone import TAPPED, Backbone, Block, SameConv
from sfhq.networks.labels import ConvNorm, LabelNetwork, Maps, Outputs
from stylegan2_ops.merged import Addition, pack_added_conv2d, pack_doubled_conv2d
from stylegan2_ops.packed import Convolution, pack_conv2d

RELU6 = (0.0, 6.0)
RELU = 0.0  # as the slope of a leaky one
ROWS = 8  # of logits that are computed and spread over the pixels at a time
WORTH_DOUBLING = 16  # pixels of a coarse map's side; smaller ones are faster enlarged first


def preparable(network: LabelNetwork) -> bool:
    """Whether `PreparedLabels` takes a network: folded, float32, on a CPU for which oneDNN is."""
    weight = network.pixels.weight
    folded = not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    right = weight.device.type == "cpu" and weight.dtype == torch.float32
    return folded and right and torch.backends.mkldnn.is_available()


class PreparedLabels:
    """A label network prepared for fast reading; it ignores later changes of the convolutions.

    Args:
        network: one that is `preparable`.
    """

    def __init__(self, network: LabelNetwork) -> None:
        side = network.config.size
        self.network = network
        self.backbone = _Backbone(network.backbone, side)
        _, quarter, eighth, sixteenth, _ = network.config.backbone.taps
        self.at32 = _pack(network.at32, side // 32)
        self.at16 = _Joined(network.at16, sixteenth, side // 32)
        self.at8 = _Joined(network.at8, eighth, side // 16)
        first, second = network.at4
        assert isinstance(first, ConvNorm) and isinstance(second, ConvNorm)
        self.at4 = _Joined(first, quarter, side // 8), _pack(second, side // 4)
        self.narrow = _pack(network.narrow, side // 4)
        first, second = network.at2
        assert isinstance(first, ConvNorm) and isinstance(second, ConvNorm)
        beside = first.conv.in_channels - network.narrow.conv.out_channels
        self.at2 = _Joined(first, beside, side // 4), _pack(second, side // 2)

    @torch.inference_mode()
    def said(self, image: Tensor) -> tuple[Outputs, Tensor]:
        """What `LabelNetwork.said` gives for one image; its maps are contiguous planes.

        Args:
            image: (1, 3, S, S) in [-1, 1], channels last.
        """
        fine, quarter, eighth, sixteenth, deep = self.backbone(image)
        d16 = self.at16(self.at32(deep), sixteenth)
        d8 = self.at8(d16, eighth)
        d4 = self.at4[1](self.at4[0](d8, quarter))
        beside = torch.cat([fine, F.pixel_unshuffle(image, 2)], 1)
        d2 = self.at2[1](self.at2[0](self.narrow(d4), beside))
        pixels = _pixels(self.network.pixels, d2)
        heat = _planes(self.network.heat, d4)
        areas = pixels[..., ::4, ::4]
        said, whole, _ = self.network.told(Maps(sixteenth, deep, d16, d4, pixels, areas, heat))
        return said, whole


class _Backbone:
    """A prepared `Backbone`."""

    def __init__(self, backbone: Backbone, side: int) -> None:
        self.stem, side = _pack_same(backbone.stem, side, RELU6)
        self.stages: list[list[_Inverted]] = []
        for stage in backbone.stages:
            assert isinstance(stage, nn.Sequential)
            blocks = []
            for block in stage:
                assert isinstance(block, Block)
                done, side = _Inverted.of(block, side)
                blocks.append(done)
            self.stages.append(blocks)

    def __call__(self, image: Tensor) -> list[Tensor]:
        x, taps = self.stem(image), []
        for index, stage in enumerate(self.stages):
            for block in stage:
                x = block(x)
            if index in TAPPED:
                taps.append(x)
        return taps


@dataclass(frozen=True, eq=False)
class _Inverted:
    """A prepared `Block`; one of `project` and `add` is there."""

    expand: Convolution | None
    depthwise: Convolution
    project: Convolution | None
    add: Addition | None

    @classmethod
    def of(cls, block: Block, side: int) -> tuple[_Inverted, int]:
        """The block, and the side of its output."""
        expand = None if block.expand is None else _pack_same(block.expand, side, RELU6)[0]
        depthwise, side = _pack_same(block.depthwise, side, RELU6)
        if block.residual:
            add = pack_added_conv2d(*_weights(block.project, side))
            return cls(expand, depthwise, None, add), side
        return cls(expand, depthwise, pack_conv2d(*_weights(block.project, side)), None), side

    def __call__(self, x: Tensor) -> Tensor:
        y = self.depthwise(x if self.expand is None else self.expand(x))
        if self.add is not None:
            return self.add(y, x)  # in place: no feature map that is used enters a residual block
        assert self.project is not None
        return self.project(y)


class _Joined:
    """A prepared `ConvNorm` of a coarse map, enlarged twice, and a finer one beside it.

    Args:
        layer: a 3x3 convolution, the coarse map's channels first.
        beside: channels of the finer map.
        side: of the coarse map.
    """

    def __init__(self, layer: ConvNorm, beside: int, side: int) -> None:
        weight, _, bias = _weights(layer.conv, side)
        self.up: Convolution | None = None
        if side < WORTH_DOUBLING:
            self.whole = pack_conv2d(weight, 2 * side, bias, padding=1, leaky=RELU)
            return
        self.up = pack_doubled_conv2d(weight[:, :-beside].contiguous(), side, bias)
        rest = weight[:, -beside:].contiguous()
        self.add = pack_added_conv2d(rest, 2 * side, padding=1, relu=True)

    def __call__(self, coarse: Tensor, fine: Tensor) -> Tensor:
        if self.up is not None:
            return self.add(fine, self.up(coarse))
        return self.whole(torch.cat([F.interpolate(coarse, scale_factor=2.0), fine], 1))


def _weights(conv: nn.Conv2d, side: int) -> tuple[Tensor, int, Tensor]:
    """Weight, side of the input, and bias, as the packing functions take them."""
    assert conv.bias is not None
    return conv.weight.detach(), side, conv.bias.detach()


def _pack(layer: ConvNorm, side: int) -> Convolution:
    padding = layer.conv.kernel_size[0] // 2
    return pack_conv2d(*_weights(layer.conv, side), padding=padding, leaky=RELU)


def _pack_same(conv: SameConv, side: int, clamp: tuple[float, float]) -> tuple[Convolution, int]:
    """A `SameConv` with its activation, and the side of its output."""
    weight, _, bias = _weights(conv, side)
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    done = -(-side // stride)
    total = max((done - 1) * stride + kernel - side, 0)
    if total % 2:  # one pixel more at the end: oneDNN pads alike, a kernel with a row of zeros
        weight = F.pad(weight, (1, 0, 1, 0))
    padding = (total + 1) // 2
    packed = pack_conv2d(*(weight, side, bias, stride, padding), groups=conv.groups, clamp=clamp)
    return packed, done


def _planes(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution of one channels-last map as contiguous planes, without a copy."""
    weight, _, bias = _weights(conv, 0)
    flat = torch.addmm(bias[:, None], weight.flatten(1), x[0].flatten(1))
    return flat.view(1, -1, *x.shape[2:])


def _pixels(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`pixel_shuffle` by 2 of `_planes`, a few rows at a time so that they stay in the cache."""
    weight, _, bias = _weights(conv, 0)
    height, width = x.shape[2:]
    out = torch.empty(1, len(weight) // 4, 2 * height, 2 * width)
    cells = out.view(-1, height, 2, width, 2).numpy()  # numpy copies strided values faster
    for row in range(0, height, ROWS):
        rows = x[0, :, row : row + ROWS]
        values = torch.addmm(bias[:, None], weight.flatten(1), rows.flatten(1))
        parts = values.view(-1, 2, 2, *rows.shape[1:]).numpy()
        for down in (0, 1):
            for right in (0, 1):
                cells[:, row : row + ROWS, down, :, right] = parts[:, down, right]
    return out
