"""The candidate `close`: a latent moved by gradient until the picture shows the person of the art.

dlib's recognition network sees the same person in a painting and in a photograph, so its vector of
the inspiration is what the picture's must come near. All layers move together, are pulled to the
mean face and stay within the prior: where each layer moves for itself the vectors come no nearer,
and the faces come apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfhq.faces.identity import recognition
from sfhq.synthesis.latents import LatentPrior
from sfhq.synthesis.likeness import SAME, reduce, to_lab
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import Precision

STEPS = 20
RATE = 0.09  # of Adam, in standard deviations of the prior
RADIUS = 0.9  # largest distance from the prior
COLOURS = 32  # pixels per side at which colours are compared
APART = 20.0  # distance in CIELAB that weighs as much as another person
COLOUR_WEIGHT, MEAN_WEIGHT = 0.3, 3.0


@dataclass(frozen=True)
class Close:
    """What refinement found for N faces.

    Attributes:
        w_plus: (N, L, w_dim).
        person: (N,) distance of dlib's vectors of inspiration and picture.
        apart: (N,) mean distance of the reduced pictures in CIELAB.
    """

    w_plus: Tensor
    person: Tensor
    apart: Tensor


def refine(
    generator: Generator,
    prior: LatentPrior,
    inverted: Tensor,
    images: Tensor,
    wanted: Tensor,
    steps: int = STEPS,
    precision: Precision = "fp32",
) -> Close:
    """Refine the latents of a few inspirations.

    Rounding grows from step to step: the same face in another batch ends a little elsewhere.

    Args:
        generator: frozen.
        prior: of the generator.
        inverted: (N, L, w_dim) latents to start from.
        images: (N, 3, H, W) inspirations in [-1, 1], FFHQ-aligned, for their colours.
        wanted: (N, 128) what dlib's recognition network shall see.
        steps: of gradient descent.
        precision: of the generator and the recognition network.
    """
    with torch.inference_mode(False), torch.enable_grad():
        inverted, images, wanted = inverted.clone(), images.clone(), wanted.clone()
        network = recognition(inverted.device)
        fast = torch.autocast(inverted.device.type, torch.bfloat16, enabled=precision == "bf16")
        with torch.no_grad():
            colours = to_lab(reduce(images, COLOURS))
            start = prior.whiten(prior.within(inverted, RADIUS))  # (N, L, w_dim)
        shift = torch.zeros_like(start[:, :1]).requires_grad_()
        optimiser = torch.optim.Adam([shift], lr=RATE, betas=(0.9, 0.99))

        def look(w_plus: Tensor) -> tuple[Tensor, Tensor]:
            with fast:
                pictures = generator.synthesis(w_plus)
                vectors = network(pictures.float())
            person = (vectors.float() - wanted).square().sum(dim=1)
            shown = to_lab(reduce(pictures.float(), COLOURS)) - colours
            apart = (shown.square().sum(dim=1) + 1e-6).sqrt().mean(dim=(1, 2))
            return person, apart

        for step in range(steps):
            optimiser.param_groups[0]["lr"] = RATE * min(1.0, 2.0 * (1.0 - step / steps))
            x = start + shift
            person, apart = look(prior.unwhiten(x))
            typical = x.square().sum(dim=2).mean(dim=1) / prior.rank
            loss = person / SAME**2 + COLOUR_WEIGHT * apart / APART + MEAN_WEIGHT * typical
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
        with torch.no_grad():
            w_plus = prior.within(prior.unwhiten(start + shift), RADIUS)
            person, apart = look(w_plus)
        return Close(w_plus, person.sqrt(), apart)
