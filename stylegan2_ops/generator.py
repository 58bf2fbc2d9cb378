"""StyleGAN2's generator: z -> w -> w_plus -> image.

Parameters have the names of the published files, so a state dict of the 1024-pixel network
(182 tensors) loads without renaming.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from stylegan2_ops.layers import NOISE_MODES, NoiseMode, SynthesisLayer, ToRGB, gaussian
from stylegan2_ops.mapping import MappingNetwork, MixtureMapping
from stylegan2_ops.upfirdn2d import make_filter, upsample2d


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Number of channels of a block: min(channel_base // resolution, channel_max)."""
    return min(channel_base // resolution, channel_max)


def count_ws(resolution: int) -> int:
    """Number of w vectors a synthesis network of this resolution takes: 18 at 1024."""
    return 2 * int(math.log2(resolution)) - 2


@dataclass(frozen=True)
class GeneratorConfig:
    """The numbers that define a generator; the defaults are config-f at 1024 pixels.

    Attributes:
        resolution: output height and width, a power of two from 32 to 1024.
        z_dim: length of z.
        w_dim: length of w.
        channel_base: a block has `channel_base // resolution` channels, if that is not above
            `channel_max`.
        channel_max: largest number of channels of a block.
        mapping_layers: fully connected layers between z and w.
        conv_clamp: largest magnitude after each convolution, or None for no limit.
        modes: if above 0, the mapping is a `MixtureMapping` of so many codes, and not of layers.
        code_dim: length of these codes.
        lead: see `MixtureMapping`.
    """

    resolution: int = 1024
    z_dim: int = 512
    w_dim: int = 512
    channel_base: int = 32768
    channel_max: int = 512
    mapping_layers: int = 8
    conv_clamp: float | None = None
    modes: int = 0
    code_dim: int = 0
    lead: float = 0.0

    def __post_init__(self) -> None:
        if self.resolution not in (32, 64, 128, 256, 512, 1024):
            raise ValueError(
                f"resolution is {self.resolution}; wanted a power of two from 32 to 1024"
            )
        for name in ("z_dim", "w_dim", "channel_base", "channel_max", "mapping_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; wanted a positive integer")
        if self.modes < 0 or self.code_dim < 0 or bool(self.modes) != bool(self.code_dim):
            raise ValueError(
                f"modes is {self.modes} with code_dim {self.code_dim}; wanted both or neither"
            )
        if not 0 <= self.lead < math.inf:
            raise ValueError(f"lead is {self.lead}; wanted 0 or a positive number")
        if self.channel_base < self.resolution:
            raise ValueError(
                f"channel_base is {self.channel_base}, which leaves no channel at "
                f"{self.resolution} pixels; wanted at least {self.resolution}"
            )

    @property
    def num_ws(self) -> int:
        """Number of w vectors in w_plus."""
        return count_ws(self.resolution)

    def to_dict(self) -> dict[str, int | float | None]:
        """The numbers by name, ready for JSON."""
        return asdict(self)

    @property
    def resolutions(self) -> list[int]:
        """Resolutions of the synthesis blocks, from 4 to `resolution`."""
        return [2**i for i in range(2, int(math.log2(self.resolution)) + 1)]

    def check_synthesis(self, w_plus: Tensor, noise_mode: NoiseMode, stop_at: int | None) -> None:
        """Check the arguments of a synthesis network.

        Raises:
            ValueError: `w_plus` is not (N, num_ws, w_dim), or `noise_mode` or `stop_at` is unknown.
        """
        wanted = (self.num_ws, self.w_dim)
        if w_plus.ndim != 3 or tuple(w_plus.shape[1:]) != wanted:
            raise ValueError(
                f"w_plus has shape {tuple(w_plus.shape)}; wanted (N, {wanted[0]}, {wanted[1]})"
            )
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode is {noise_mode!r}; wanted one of {NOISE_MODES}")
        if stop_at is not None and stop_at not in self.resolutions:
            raise ValueError(f"stop_at is {stop_at}; wanted one of {self.resolutions}")


class SynthesisBlock(nn.Module):
    """One resolution: two convolutions (one at 4 pixels) and an image skip."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int | None,  # None in the first block, which reads a learned constant
        out_channels: int,
        w_dim: int,
        resolution: int,
        clamp: float | None,
    ) -> None:
        super().__init__()
        self.first = in_channels is None
        self.register_buffer("resample_filter", make_filter())
        if in_channels is None:
            self.const = nn.Parameter(gaussian(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(
                in_channels, out_channels, w_dim, resolution, up=2, conv_clamp=clamp
            )
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, conv_clamp=clamp)
        self.torgb = ToRGB(out_channels, 3, w_dim, conv_clamp=clamp)

    @property
    def num_convs(self) -> int:
        """Number of convolutions, and of w vectors from this block's first to the next block's."""
        return 1 if self.first else 2

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise_mode: NoiseMode
    ) -> tuple[Tensor, Tensor]:
        """Features and image of this resolution.

        Args:
            x: (N, in, H/2, W/2) features, None in the first block.
            image: (N, 3, H/2, W/2), None in the first block.
            ws: (N, num_convs + 1, w_dim); the last one is for `torgb`.
            noise_mode: "const", "random" or "none".
        """
        if x is None:
            x = self.const[None].expand(ws.shape[0], -1, -1, -1)
        else:
            x = self.conv0(x, ws[:, 0], noise_mode)
        x = self.conv1(x, ws[:, self.num_convs - 1], noise_mode)
        rgb = self.torgb(x, ws[:, self.num_convs]).float()
        if image is not None:
            rgb = upsample2d(image, self.resample_filter) + rgb
        return x, rgb


class SynthesisNetwork(nn.Module):
    """w_plus (N, num_ws, w_dim) to an image (N, 3, R, R), nominally in [-1, 1]."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.resolutions = config.resolutions
        width: int | None = None
        for resolution in self.resolutions:
            out = channels_at(resolution, config.channel_base, config.channel_max)
            block = SynthesisBlock(width, out, config.w_dim, resolution, config.conv_clamp)
            setattr(self, f"b{resolution}", block)
            width = out

    def forward(
        self, w_plus: Tensor, noise_mode: NoiseMode = "const", stop_at: int | None = None
    ) -> Tensor:
        """Render images.

        Args:
            w_plus: (N, num_ws, w_dim).
            noise_mode: "const" (the stored noise, reproducible), "random" or "none".
            stop_at: stop after the block of this resolution and return its image, a small
                preview of the full one.

        Returns:
            (N, 3, R, R) float32, nominally in [-1, 1]; R is `stop_at` if given.

        Raises:
            ValueError: wrong shape of `w_plus`, unknown `noise_mode` or `stop_at`.
        """
        self.config.check_synthesis(w_plus, noise_mode, stop_at)
        x: Tensor | None = None
        image: Tensor | None = None
        index = 0
        for resolution in self.resolutions:
            block: SynthesisBlock = getattr(self, f"b{resolution}")
            ws = w_plus[:, index : index + block.num_convs + 1]
            x, image = block(x, image, ws, noise_mode)
            index += block.num_convs
            if resolution == stop_at:
                break
        assert image is not None
        return image


class Generator(nn.Module):
    """The mapping and the synthesis network; `generator(z)` gives images.

    Args:
        config: sizes of the network.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping: MappingNetwork | MixtureMapping = (
            MixtureMapping(config.z_dim, config.w_dim, config.modes, config.code_dim, config.lead)
            if config.modes
            else MappingNetwork(config.z_dim, config.w_dim, config.mapping_layers)
        )
        self.synthesis = SynthesisNetwork(config)

    @property
    def latent_avg(self) -> Tensor:
        """(w_dim,), the mean of w that truncation pulls towards."""
        return self.mapping.w_avg

    def broadcast(self, w: Tensor) -> Tensor:
        """One w (N, w_dim) for every layer: (N, num_ws, w_dim)."""
        return w[:, None].expand(-1, self.config.num_ws, -1)

    def forward(
        self,
        z: Tensor,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise_mode: NoiseMode = "const",
    ) -> Tensor:
        """Images (N, 3, R, R) from z (N, z_dim).

        Args:
            z: Gaussian latents; `seed_to_z` gives the latent of a published seed.
            psi: truncation strength; 1 does not truncate.
            cutoff: truncate only the first `cutoff` layers; None for all.
            noise_mode: "const", "random" or "none".
        """
        w_plus = self.broadcast(self.mapping(z))
        truncated = truncate(w_plus, self.latent_avg, psi, cutoff)
        images: Tensor = self.synthesis(truncated, noise_mode)
        return images


def truncate(
    w_plus: Tensor, latent_avg: Tensor, psi: float | Tensor, cutoff: int | None = None
) -> Tensor:
    """Pull latents towards the average face.

    Args:
        w_plus: (N, L, w_dim), one w per synthesis layer.
        latent_avg: (w_dim,) or (L, w_dim) or (N, L, w_dim), the point to pull towards.
        psi: 0 gives the average face, 1 changes nothing; above 1 exaggerates. A tensor of shape
            (L,) gives each layer its own strength.
        cutoff: truncate only the first `cutoff` layers; None for all.

    Returns:
        (N, L, w_dim), on the device and dtype of `w_plus`.

    Source: Karras et al. 2019, "A Style-Based Generator Architecture".
    """
    strength = torch.as_tensor(psi, dtype=w_plus.dtype, device=w_plus.device)
    strength = strength.expand(w_plus.shape[1]).clone()
    if cutoff is not None:
        strength[cutoff:] = 1.0
    return latent_avg + strength[None, :, None] * (w_plus - latent_avg)


def seed_to_z(seed: int, z_dim: int = 512) -> Tensor:
    """The latent z of a seed as the published tools draw it: `RandomState(seed).randn(1, z_dim)`.

    Returns:
        (1, z_dim) float32, equal bit by bit to the z of the published tools.
    """
    import numpy as np

    return torch.from_numpy(np.random.RandomState(seed).randn(1, z_dim)).float()
