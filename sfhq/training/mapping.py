"""Fit a mapping network to the distribution of the photos' codes."""

from __future__ import annotations

import torch
from torch import Tensor

from sfhq.training.codes import PhotoCodes
from stylegan2_ops.generator import MappingNetwork, normalize_second_moment


def fit_mapping(
    mapping: MappingNetwork,
    codes: PhotoCodes,
    *,
    steps: int = 3000,
    batch: int = 256,
    seed: int = 0,
    temperature: float = 1.0,
) -> float:
    """Teach z -> w the Gaussian of the codes, and measure `w_avg`.

    The target of z is mean + temperature * root * eps, eps being the first entries of the
    normalised z, turned into w by the codes' basis; so z -> w stays smooth and onto.

    Args:
        mapping: changed in place.
        codes: of a finished training.
        steps: Adam steps.
        batch: draws a step.
        seed: of the draws.
        temperature: spread of w relative to that of the codes.

    Returns:
        What is left of the target's variance, 0 for a perfect fit.
    """
    rng = torch.Generator().manual_seed(seed)
    width = mapping.fc0.weight.shape[1]  # type: ignore[union-attr, index]
    dim = len(codes.mean)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        z = torch.randn(count, width, generator=rng)  # type: ignore[call-overload]
        eps = normalize_second_moment(z)[:, :dim] * temperature
        return z, codes.to_w(codes.gaussian(eps))

    mapping.requires_grad_(True)
    optimiser = torch.optim.Adam(mapping.parameters(), lr=2e-3 * 10, betas=(0.9, 0.99))
    with torch.no_grad():
        variance = draw(4096)[1].var(dim=0).mean()
    for step in range(steps):
        share = step / steps
        for group in optimiser.param_groups:
            group["lr"] = 2e-2 * min(1.0, 20 * share + 0.05) * (1.0 - share) + 1e-4
        z, target = draw(batch)
        loss = (mapping(z) - target).square().mean() / variance
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        z, target = draw(4096)
        left = float((mapping(z) - target).square().mean() / variance)
        mapping.w_avg.copy_(torch.cat([mapping(draw(4096)[0]) for _ in range(4)]).mean(dim=0))
    mapping.requires_grad_(False)
    return left
