"""An encoder that stands on the label network: what that reads of a face, to a latent.

The label network was taught on art and on photographs of the same rendered people, so it reads both
alike; an encoder that learns a backbone of its own must first learn that, from few images. Its
numbers about the whole face, and the picture reduced to a few pixels, which has the colours, go
through a small network to coordinates in the space of w before the mapping's last activation. So
the result lies where the mapping's own latents lie.

The label network is never trained here. On a CPU an image is read alone, so that a batch does not
change its bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhq.networks.labels import LabelConfig, LabelNetwork
from sfhq.synthesis.latents import LatentPrior, activate, unactivate
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import Precision

CLAMP = 6.0  # standard deviations beyond which a number says no more
DROPPED = (0.2, 0.2, 0.1)  # shares of numbers that a step of the training does not see


@dataclass(frozen=True)
class HybridConfig:
    """Sizes of an encoder.

    Attributes:
        num_ws: number of w vectors of the generator.
        w_dim: length of w.
        axes: coordinates that are predicted.
        reduced: side of the reduced picture in pixels.
        hidden: width of the layers between.
        stem: the label network.
    """

    num_ws: int
    w_dim: int
    axes: int
    reduced: int = 8
    hidden: int = 512
    stem: LabelConfig = field(default_factory=LabelConfig)

    def __post_init__(self) -> None:
        for name in ("num_ws", "w_dim", "axes", "reduced", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; wanted 1 or more")
        if self.axes > self.w_dim:
            raise ValueError(f"axes is {self.axes}; wanted at most w_dim, {self.w_dim}")

    @property
    def input_size(self) -> int:
        """Height and width of the images that it reads."""
        return self.stem.size

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; `from_dict` leads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HybridConfig:
        """Sizes that `to_dict` gave.

        Raises:
            TypeError, ValueError, KeyError: they are none.
        """
        return cls(**{**values, "stem": LabelConfig.from_dict(values["stem"])})


class HybridEncoder(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to w_plus (N, num_ws, w_dim), all layers alike.

    Buffers:
        centre, spread: of the numbers, over all that it was trained on.
        mean, axes: of w before its last activation; axes are scaled by their deviation, (K, w_dim).
    """

    centre: Tensor
    spread: Tensor
    mean: Tensor
    axes: Tensor
    latent_avg: Tensor

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = LabelNetwork(config.stem).fold().requires_grad_(False)
        count = self.stem.hidden.in_features + 3 * config.reduced**2
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        self.register_buffer("mean", torch.zeros(config.w_dim))
        self.register_buffer("axes", torch.zeros(config.axes, config.w_dim))
        self.register_buffer("latent_avg", torch.zeros(config.w_dim))
        first, second, third = DROPPED
        self.body = nn.Sequential(
            nn.Dropout(first),
            nn.Linear(count, config.hidden),
            nn.GELU(),
            nn.Dropout(second),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Dropout(third),
            nn.Linear(config.hidden, config.axes),
        )
        self.direct = nn.Linear(count, config.axes)

    def numbers(self, images: Tensor) -> Tensor:
        """(N, R) what is read of images (N, 3, H, W) in [-1, 1]."""
        size = self.config.input_size
        if images.shape[-2:] != (size, size):
            smaller = images.shape[-1] > size
            images = F.interpolate(
                images,
                (size, size),
                mode="area" if smaller else "bilinear",
                align_corners=None if smaller else False,
            )
        last = torch.channels_last
        lots = [images] if images.is_cuda else images.split(1)
        rows = [self.stem.read(lot.contiguous(memory_format=last)).float() for lot in lots]
        small = F.adaptive_avg_pool2d(images.float(), self.config.reduced)
        return torch.cat([torch.cat(rows), small.flatten(1)], 1)

    def coordinates(self, numbers: Tensor) -> Tensor:
        """(N, K) coordinates along `axes` of `numbers` (N, R)."""
        x = ((numbers - self.centre) / self.spread).clamp(-CLAMP, CLAMP)
        out: Tensor = self.body(x) + self.direct(x)
        return out

    def latents(self, coordinates: Tensor) -> Tensor:
        """(N, w_dim) of coordinates (N, K)."""
        return activate(self.mean + coordinates @ self.axes)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        w = self.latents(self.coordinates(self.numbers(images)))
        return w[:, None].expand(-1, self.config.num_ws, -1).contiguous()


class PreparedHybrid:
    """A hybrid as stages call it, like `PreparedE4e`.

    Args:
        network: in eval mode.
        precision: of the generator's convolutions; the hybrid itself computes in fp32.
    """

    def __init__(self, network: HybridEncoder, precision: Precision = "fp32") -> None:
        self.network, self.precision = network, precision
        self.config = network.config

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to w_plus (N, num_ws, w_dim)."""
        with torch.no_grad():
            out: Tensor = self.network(images)
        return out


def used_axes(generator: Generator) -> tuple[Tensor, Tensor]:
    """The mean (w_dim,) of w before its last activation, and the axes (K, w_dim) that it uses.

    They are those of `LatentPrior`, most used first, scaled by their deviation.
    """
    prior = LatentPrior.of(generator)
    scaled = prior.axes[prior.used] * prior.scale[prior.used, None]
    return prior.mean, scaled.flip(0).contiguous()


def coordinates_of(w: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """(N, K) coordinates of w (N, w_dim); what lies outside of the axes is left out."""
    return (unactivate(w) - mean) @ axes.t() / axes.square().sum(1)
