"""How the colour of a face goes with its latent, so that a pull to the mean face leaves it alone.

The mean face has the skin of the mean photo. Whoever is pulled to it becomes darker or lighter,
those most who are rare among the photos. Along a few directions of w the colour goes nearly
linearly; what a pull took away along them is given back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfhq.synthesis.latents import LatentPrior
from sfhq.synthesis.likeness import to_lab
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import prepared

DRAWS, SEED = 256, 321
SIZE = 64  # pixels per side of the pictures whose colours are measured
RIDGE = 1.0  # of the draws' mean square; with 256 draws a smaller one makes the directions noise
CHUNK = 16


@dataclass(frozen=True)
class Tint:
    """The colour of the middle of a picture as a linear function of the whitened latent.

    Attributes:
        slope: (w_dim, 3), CIELAB a deviation of each axis.
        step: (3, w_dim), how latents differ whose colours differ by 1 in one of CIELAB's axes.
    """

    slope: Tensor
    step: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, generator: Generator, prior: LatentPrior, draws: int = DRAWS) -> Tint:
        """Measure the colours of `draws` seeded faces, in small.

        Args:
            generator: on the CPU.
            prior: of the generator.
            draws: more give finer directions.
        """
        rng = torch.Generator().manual_seed(SEED)
        w = generator.mapping(torch.randn(draws, generator.config.z_dim, generator=rng))
        render = prepared(generator.synthesis, "fp32")
        size = min(SIZE, generator.config.resolution)
        colours = [middle(render(generator.broadcast(c), stop_at=size)) for c in w.split(CHUNK)]
        x, y = (v.double() - v.double().mean(0) for v in (prior.whiten(w), torch.cat(colours)))
        damped = x.t() @ x + RIDGE * draws * torch.eye(x.shape[1], dtype=x.dtype)
        square = y.t() @ y
        square += 1e-6 * (square.diagonal().mean() + 1) * torch.eye(3, dtype=x.dtype)
        slope, step = torch.linalg.solve(damped, x.t() @ y), torch.linalg.solve(square, y.t() @ x)
        return cls(slope.float(), step.float())

    def to(self, device: torch.device) -> Tint:
        """The same on a device."""
        return Tint(self.slope.to(device), self.step.to(device))

    def keep(self, prior: LatentPrior, before: Tensor, after: Tensor) -> Tensor:
        """Latents `after` a move, with the colour that they had `before` it; differentiable.

        All layers move alike.

        Args:
            prior: of the generator.
            before: (N, L, w_dim).
            after: (N, L, w_dim).
        """
        x = prior.whiten(after)
        lost = (prior.whiten(before) - x).mean(dim=1, keepdim=True)  # (N, 1, w_dim)
        return prior.unwhiten(x + lost @ self.slope @ self.step)


def middle(images: Tensor) -> Tensor:
    """(N, 3) mean CIELAB of the middle half, each way, of images (N, 3, S, S) in [-1, 1]."""
    size = images.shape[-1]
    part = slice(size // 4, max(size * 3 // 4, size // 4 + 1))
    return to_lab(images[:, :, part, part]).mean(dim=(2, 3))
