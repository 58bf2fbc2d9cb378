"""One pass over a face crop: classes, soft hair, points, pose, gaze, attributes and years.

A backbone of ImageNet gives features at five sizes. A decoder joins them from coarse to fine, as
a U-Net does (Ronneberger et al. 2015). Classes and hair are decided at half the side and spread to
the whole side by sub-pixel shuffle (Shi et al. 2016), with the image itself beside the features.
Points are the mean places of heat maps (Sun et al. 2018, "Integral Human Pose Regression").
Numbers about the whole face are read from pooled features, from features at the eyes, nose, mouth
and forehead, and from where the points and how large the classes are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhq.networks.backbone import Backbone, BackboneShape
from sfhq.networks.names import ADDED, CLASS_COUNT, LEARNED, POINTS, TRACKED

# Points whose mean is a place at which features are read: eyes, brows, nose, mouth, chin, cheeks.
PLACES = (
    *((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47), (27, 30), (51, 57), (8,)),
    *((19, 24), (84,), (2, 31), (14, 35), (0,), (16,), (99,)),
)
YEARS = 40.0  # years are predicted relative to this


@dataclass(frozen=True)
class LabelConfig:
    """Numbers that build a network.

    Attributes:
        size: side of the crops in pixels, a multiple of 32.
        backbone: its shape.
        widths: channels of the decoder at 1/32, 1/16, 1/8, 1/4 and 1/2 of the side.
        looks: channels of the features that are read at `PLACES`.
        hidden: width of the layer before the numbers about the whole face.
        added: how many of `names.ADDED` it was taught; the logits of the others are 0.
    """

    size: int = 256
    backbone: BackboneShape = field(default_factory=BackboneShape)
    widths: tuple[int, ...] = (128, 96, 64, 64, 32)
    looks: int = 32
    hidden: int = 256
    added: int = 0

    def __post_init__(self) -> None:
        if self.size < 64 or self.size % 32:
            raise ValueError(f"size is {self.size}; wanted a multiple of 32 from 64 on")
        if not 0 <= self.added <= len(ADDED):
            raise ValueError(f"added is {self.added}; wanted 0 to {len(ADDED)}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; `from_dict` leads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelConfig:
        """Numbers that `to_dict` gave.

        Raises:
            TypeError, ValueError, KeyError: they are none.
        """
        shape = BackboneShape.from_dict(values["backbone"])
        return cls(**{**values, "widths": tuple(values["widths"]), "backbone": shape})


@dataclass(frozen=True)
class Outputs:
    """What the network says of N crops, before anything is calibrated or mirrored.

    Attributes:
        classes: (N, 19, S, S) logits.
        hair: (N, S, S) logit of the share of hair in each pixel.
        heat: (N, 112, S / 4, S / 4) logits of the places of the points and the irises.
        places: (N, 112, 2) x, y in shares of half a side from the middle: -1 left, top; 1 right,
            bottom, at the outer edges of the crop.
        spread: (N, 112) logarithm of the expected error in pixels.
        seen: (N, 110) logits.
        pose: (N, 3) yaw, pitch and roll in units of 10 degrees.
        gaze: (N, 2) yaw and pitch in units of 10 degrees.
        attributes: (N, K) logits.
        years: (N,) in units of 10 years, relative to `YEARS`.
    """

    classes: Tensor
    hair: Tensor
    heat: Tensor
    places: Tensor
    spread: Tensor
    seen: Tensor
    pose: Tensor
    gaze: Tensor
    attributes: Tensor
    years: Tensor


@dataclass(frozen=True, eq=False)
class Maps:
    """What the network reads its numbers from.

    Attributes:
        sixteenth, deep: (N, C, S / 16, S / 16) and (N, C', S / 32, S / 32) of the backbone.
        d16, d4: of the decoder, at 1/16 and 1/4 of the side.
        pixels: (N, 20, S, S) logits of the classes and of hair.
        areas: the same of each 16th pixel.
        heat: see `Outputs`.
    """

    sixteenth: Tensor
    deep: Tensor
    d16: Tensor
    d4: Tensor
    pixels: Tensor
    areas: Tensor
    heat: Tensor


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution with the numbers of the norm behind it in its weights.

    On the meta device there are no numbers, and torch would import its compiler to multiply none.
    """
    if not conv.weight.is_meta:
        return nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
    made = copy.copy(conv)
    made._parameters = {**conv._parameters, "bias": nn.Parameter(torch.empty(conv.out_channels))}
    return made


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU; `fold` puts the norm's numbers into the convolution."""

    def __init__(self, width: int, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, channels, kernel, padding=kernel // 2, bias=True)
        self.norm: nn.Module = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, channels, H, W)."""
        return F.relu(self.norm(self.conv(x)))

    def fold(self) -> None:
        """Put the norm into the convolution; the results stay, up to rounding."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = folded(self.conv.eval(), self.norm.eval())
            self.norm = nn.Identity()


class LabelNetwork(nn.Module):
    """Crops (N, 3, S, S) in [-1, 1] to `Outputs`."""

    def __init__(self, config: LabelConfig) -> None:
        super().__init__()
        self.config = config
        fine, quarter, eighth, sixteenth, deep = config.backbone.taps
        w32, w16, w8, w4, w2 = config.widths
        self.backbone = Backbone(config.backbone)
        self.at32 = ConvNorm(deep, w32, 1)
        self.at16 = ConvNorm(w32 + sixteenth, w16)
        self.at8 = ConvNorm(w16 + eighth, w8)
        self.at4 = nn.Sequential(ConvNorm(w8 + quarter, w4), ConvNorm(w4, w4))
        self.narrow = ConvNorm(w4, w2, 1)
        self.at2 = nn.Sequential(ConvNorm(w2 + fine + 12, w2), ConvNorm(w2, w2))
        self.pixels = nn.Conv2d(w2, 4 * (CLASS_COUNT + 1), 1)
        self.heat = nn.Conv2d(w4, TRACKED, 1)
        self.look = nn.Conv2d(sixteenth + w16, config.looks, 1)
        pooled = deep + sixteenth + w16 + w4
        read = pooled + config.looks * len(PLACES) + 2 * TRACKED + CLASS_COUNT + 1
        self.hidden = nn.Linear(read, config.hidden)
        sizes = (TRACKED, POINTS, 3, 2, len(LEARNED), 1)
        self.sizes = sizes
        self.face = nn.Linear(config.hidden, sum(sizes))
        self.added = nn.Linear(read, config.added) if config.added else None

    def forward(self, images: Tensor, phase: int | None = None) -> Outputs:
        """See `Outputs`.

        Args:
            images: (N, 3, S, S) in [-1, 1].
            phase: 0 to 3: classes and hair of the pixels (phase // 2 :: 2, phase % 2 :: 2) only,
                in maps of half the side; None gives all pixels. For training: neighbours say
                nearly the same, and four in four take as long as the rest of the decoder.
        """
        return self._said(images, phase)[0]

    def said(self, images: Tensor) -> tuple[Outputs, Tensor]:
        """`Outputs`, and (N, hidden) what it sees of the whole face."""
        outputs, (_, _, whole), _ = self._said(images, None)
        return outputs, whole

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What it sees before it says anything, for networks that stand on it.

        Returns:
            (N, C, S / 16, S / 16) and (N, D, S / 32, S / 32) of the backbone, and (N, hidden) about
            the whole face, 0 or more.
        """
        return self._said(images, 0)[1]  # of the pixels only what areas need, and a quarter

    def read(self, images: Tensor) -> Tensor:
        """(N, R) what numbers about the whole face are read from: features, places, areas."""
        return self._said(images, 0)[2]

    def _said(
        self, images: Tensor, phase: int | None
    ) -> tuple[Outputs, tuple[Tensor, Tensor, Tensor], Tensor]:
        fine, quarter, eighth, sixteenth, deep = self.backbone(images)
        d32 = self.at32(deep)
        d16 = self.at16(torch.cat([_twice(d32), sixteenth], 1))
        d8 = self.at8(torch.cat([_twice(d16), eighth], 1))
        d4 = self.at4(torch.cat([_twice(d8), quarter], 1))
        cells = F.pixel_unshuffle(images, 2)
        d2 = self.at2(torch.cat([_twice(self.narrow(d4)), fine, cells], 1))
        pixels, areas = self._pixels(d2, phase)
        heat = self.heat(d4).float()
        said, whole, read = self.told(Maps(sixteenth, deep, d16, d4, pixels, areas, heat))
        return said, (sixteenth, deep, whole), read

    def told(self, maps: Maps) -> tuple[Outputs, Tensor, Tensor]:
        """What the maps say, (N, hidden) of the whole face, and (N, R) of `read`."""
        sixteenth, deep, d16, d4 = maps.sixteenth, maps.deep, maps.d16, maps.d4
        areas, heat = maps.areas, maps.heat
        classes, hair = maps.pixels[:, :CLASS_COUNT], maps.pixels[:, CLASS_COUNT]
        places = mean_places(heat)
        looks = self._looks(torch.cat([sixteenth, d16], 1), places.detach())
        # Whole-face numbers use shapes and areas but do not bend them.
        shares = torch.cat(
            [areas[:, :CLASS_COUNT].softmax(1), areas[:, CLASS_COUNT:].sigmoid()], 1
        ).mean((2, 3))
        pooled = [x.float().mean((2, 3)) for x in (deep, sixteenth, d16, d4)]
        read = torch.cat([*pooled, looks, places.detach().flatten(1), shares.sqrt()], 1)
        whole = F.relu(self.hidden(read))
        face = self.face(whole).float()
        spread, seen, pose, gaze, attributes, years = face.split(self.sizes, 1)
        more = attributes.new_zeros(len(attributes), len(ADDED))
        if self.added is not None:
            more[:, : self.config.added] = self.added(read).float()
        attributes = torch.cat([attributes, more], 1)
        said = Outputs(
            *(classes, hair, heat, places, spread, seen, pose, gaze, attributes),
            years=years[:, 0],
        )
        return said, whole, read

    def _pixels(self, d2: Tensor, phase: int | None) -> tuple[Tensor, Tensor]:
        """Logits of classes and hair, of all pixels or a quarter of them, and of each 16th pixel.

        The last ones carry no gradient.
        """
        if phase is None:
            pixels = F.pixel_shuffle(self.pixels(d2), 2).float()
            return pixels, pixels[..., ::4, ::4].detach()
        weight, bias = self.pixels.weight, self.pixels.bias
        assert bias is not None
        with torch.no_grad():  # the first of each four channels is that of the upper left pixel
            areas = F.conv2d(d2[..., ::2, ::2], weight[::4], bias[::4]).float()
        return F.conv2d(d2, weight[phase::4], bias[phase::4]).float(), areas

    def _looks(self, features: Tensor, places: Tensor) -> Tensor:
        """(N, looks * places) features of the middle scale at `PLACES`."""
        spots = torch.stack([places[:, list(group)].mean(1) for group in PLACES], 1)
        maps = self.look(features).float()
        read = F.grid_sample(maps, spots[:, None], "bilinear", "border", align_corners=False)
        return read.flatten(1)

    def fold(self) -> LabelNetwork:
        """This network in eval mode, its batch norms folded away."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        return self.eval()


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def mean_places(heat: Tensor) -> Tensor:
    """The mean place of each heat map's softmax.

    Args:
        heat: (N, P, h, h) logits.

    Returns:
        (N, P, 2) x, y: -1 and 1 are the outer edges of the map.
    """
    side = heat.shape[-1]
    shares = heat.flatten(2).softmax(2).view_as(heat)
    steps = (torch.arange(side, device=heat.device) + 0.5) * (2 / side) - 1
    x = (shares.sum(2) * steps).sum(2)
    y = (shares.sum(3) * steps).sum(2)
    return torch.stack([x, y], 2)
