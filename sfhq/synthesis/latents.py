"""What the latent space of a generator is like: its prior, its directions, moves within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stylegan2_ops.generator import Generator, truncate

INVERSE_SLOPE = 5.0  # undoes the leaky ReLU (slope 0.2) that ends the mapping network
PRIOR_SAMPLES = 8192
PRIOR_SEED = 123
VARIANCE_FLOOR = 0.02  # of the mean variance; thinner directions are treated as this thick
UNUSED = 1e-4  # of the mean variance: below it, the mapping does not use a direction at all


@dataclass(frozen=True)
class LatentPrior:
    """The distribution of w as a Gaussian, in the space before the mapping's last activation.

    There w is close to Gaussian; whitened by PCA, a typical w has root mean square 1. The middle is
    the face that truncation pulls to, not the mean before the activation: its face is another one,
    in the embedded generator blurred and much darker.

    Attributes:
        mean: (w_dim,), `latent_avg` before the activation.
        axes: (w_dim, w_dim), principal axes of the draws about it as rows.
        scale: (w_dim,), standard deviation along each axis, least used first. An axis that the
            mapping never uses has no deviation to measure by; it is given the mean of the others.
        rank: how many axes the mapping uses, those thinner than the floor counted in part.
        used: (w_dim,) bool, the axes that it uses.

    Source: Zhu et al. 2020, "Improved StyleGAN Embedding: Where are the Good Latents?".
    """

    mean: Tensor
    axes: Tensor
    scale: Tensor
    rank: float
    used: Tensor

    @classmethod
    def of(cls, generator: Generator, samples: int = PRIOR_SAMPLES) -> LatentPrior:
        """Measure the prior of a generator on `samples` seeded draws."""
        rng = torch.Generator().manual_seed(PRIOR_SEED)
        z = torch.randn(samples, generator.config.z_dim, generator=rng)
        with torch.inference_mode():
            x = torch.cat([unactivate(generator.mapping(c)) for c in z.split(1024)]).double()
            mean = unactivate(generator.latent_avg).double().reshape(-1)
            covariance = (x - mean).t() @ (x - mean) / len(x)
            values, axes = torch.linalg.eigh(covariance)
            mean_variance = float(values.clamp(min=0).mean())
            used = values > mean_variance * UNUSED
            scale = values.clamp(min=mean_variance * VARIANCE_FLOOR).sqrt()
            scale[~used] = values[used].mean().sqrt()
            rank = float((values.clamp(min=0) / scale.square()).sum())
        mean, axes, scale = mean.float().clone(), axes.t().float().clone(), scale.float().clone()
        return cls(mean, axes, scale, rank, used.clone())

    def to(self, device: torch.device) -> LatentPrior:
        """The same prior on a device."""
        return LatentPrior(
            self.mean.to(device),
            self.axes.to(device),
            self.scale.to(device),
            self.rank,
            self.used.to(device),
        )

    def whiten(self, w: Tensor) -> Tensor:
        """(..., w_dim) latents in units of standard deviations."""
        return (unactivate(w) - self.mean) @ self.axes.t() / self.scale

    def unwhiten(self, x: Tensor) -> Tensor:
        """The inverse of `whiten`."""
        return activate((x * self.scale) @ self.axes + self.mean)

    def distance(self, w_plus: Tensor) -> Tensor:
        """How far latents are from what the mapping gives: about 1 for its own draws.

        Args:
            w_plus: (N, L, w_dim).

        Returns:
            (N,) root mean square over layers and whitened axes; smaller is more realistic.
        """
        return self._length(self.whiten(w_plus)).square().mean(dim=(1, 2)).sqrt()

    def _length(self, x: Tensor) -> Tensor:
        """(N, L, w_dim) whitened to (N, L, 1): about 1 for draws of the mapping."""
        return (x.square().sum(dim=2, keepdim=True) / self.rank).sqrt()

    def within(self, w_plus: Tensor, radius: float) -> Tensor:
        """Latents moved along the ray to the mean until no layer's distance exceeds `radius`.

        Args:
            w_plus: (N, L, w_dim).
            radius: largest distance, in the units of `distance`.
        """
        x = self.whiten(w_plus)
        length = self._length(x)
        return self.unwhiten(x * (radius / length.clamp(min=radius)))


def unactivate(w: Tensor) -> Tensor:
    """w before the last activation of the mapping."""
    return torch.where(w < 0, w * INVERSE_SLOPE, w)


def activate(x: Tensor) -> Tensor:
    """The inverse of `unactivate`."""
    return torch.where(x < 0, x / INVERSE_SLOPE, x)


def layer_ladder(num_ws: int, coarse: float, middle: float, fine: float) -> Tensor:
    """A strength a layer: coarse for the first 4, middle for the next 4, fine for the rest.

    Args:
        num_ws: layers of the generator; below 18 the three bands shrink in proportion.
        coarse, middle, fine: values of the bands.

    Returns:
        (num_ws,) float32.
    """
    first, second = round(num_ws * 4 / 18), round(num_ws * 8 / 18)
    ladder = torch.full((num_ws,), float(fine))
    ladder[:second] = middle
    ladder[:first] = coarse
    return ladder


def mix_fine_layers(w_plus: Tensor, donor: Tensor, crossover: float, width: float = 1.0) -> Tensor:
    """Coarse layers of one latent with the fine layers of another, blended smoothly.

    Args:
        w_plus: (N, L, w_dim), gives shape and pose.
        donor: (N, L, w_dim) or (1, L, w_dim), gives texture and palette.
        crossover: layer at which both weigh the same.
        width: softness of the logistic crossover, in layers.
    """
    layers = torch.arange(w_plus.shape[1], dtype=w_plus.dtype)
    share = torch.sigmoid((layers - crossover) / width)[None, :, None]
    return w_plus + share * (donor - w_plus)


def sefa_directions(generator: Generator, layers: Sequence[int] | None = None) -> Tensor:
    """Directions of w that move the image most, from the weights alone.

    Eigenvectors of A'A, A being the stacked affine weights of the convolutions' styles with
    each row scaled to length 1.

    Args:
        generator: whose styles to look at.
        layers: which convolutions count, 0 being the one at 4 pixels; None for all.

    Returns:
        (w_dim, w_dim), unit rows, strongest first; signs fixed so that the largest entry
        of each is positive.

    Source: Shen and Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs".
    """
    weights: list[Tensor] = []
    for resolution in generator.synthesis.resolutions:
        block = getattr(generator.synthesis, f"b{resolution}")
        if not block.first:
            weights.append(block.conv0.affine.weight)
        weights.append(block.conv1.affine.weight)
    chosen = weights if layers is None else [weights[i] for i in layers]
    stacked = torch.cat([w.detach().double() for w in chosen])
    stacked = stacked / stacked.norm(dim=1, keepdim=True)
    _, axes = torch.linalg.eigh(stacked.t() @ stacked)
    rows = axes.t().flip(0)
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    directions: Tensor = (rows * largest.sign()).float()
    return directions


def pull_towards(w_plus: Tensor, anchor: Tensor, psi: float | Tensor) -> Tensor:
    """Truncation with an anchor of one's own: anchor + psi (w - anchor).

    With the encoder's latent of the rendered face as anchor, artefacts leave and rare
    attributes stay, which a pull towards the mean face would take away; this is how SFHQ
    part 3 was made.

    Args:
        w_plus: (N, L, w_dim).
        anchor: (N, L, w_dim).
        psi: strength, a number or (L,).
    """
    return truncate(w_plus, anchor, psi)
