"""How an inverted inspiration is brought to life: named ways from a latent to a photograph.

Each way is a word on the command line and in the record:

    strict        pulled to the mean face, fine layers most, and bounded: the most realistic
    low           refined by feedback of the encoder: closest in colour, gaze and expression
    psi-0.6       the plain truncation ladder
    donor-7       fine layers from a realistic donor, crossing over at layer 7 (of 18)
    sefa-0+1.5    a step along one of the strongest directions of the weights: direction, units
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfhq.errors import UsageError
from sfhq.parts.records import Json, Pixels
from sfhq.synthesis.latents import LatentPrior, layer_ladder, mix_fine_layers, sefa_directions
from sfhq.synthesis.names import DONORS, PATTERN
from sfhq.tensors import to_pixels
from stylegan2_ops.generator import Generator, truncate
from stylegan2_ops.inference import Precision, prepared

Encoder = Callable[[Tensor], Tensor]

STRICT_LADDER = (1.0, 1.0, 0.8)
STRICT_RADIUS = 0.8
LOW_ROUNDS = 8
LOW_STEP = 1.5
LOW_RADIUS = 0.9
DONOR_PSI = 0.6
PREVIEW = 64


@dataclass(frozen=True)
class Candidate:
    """One way's result for a batch.

    Attributes:
        name: the way.
        w_plus: (N, L, w_dim).
        psi: strength, where one number says it.
        params: what else made it, one mapping a face.
    """

    name: str
    w_plus: Tensor
    psi: float | None
    params: list[dict[str, Json]]


@dataclass(frozen=True)
class CandidateMaker:
    """Makes candidates of inverted faces with one generator.

    Attributes:
        generator: renders previews for refinement.
        encoder: images (N, 3, H, W) to w_plus (N, L, w_dim).
        prior: of the generator.
        seed: of the donors.
    """

    generator: Generator
    encoder: Encoder
    prior: LatentPrior
    seed: int
    precision: Precision = "fp32"

    def _render(self, w_plus: Tensor, stop_at: int | None = None) -> Tensor:
        network = self.generator.synthesis
        return prepared(network, self.precision)(w_plus, stop_at=stop_at)

    def make(self, name: str, inverted: Tensor, images: Tensor, face_ids: list[str]) -> Candidate:
        """One way on a batch.

        Args:
            name: see `sfhq.synthesis.names`.
            inverted: (N, L, w_dim) latents of the inspirations.
            images: (N, 3, H, W) the inspirations themselves.
            face_ids: their names, which seed what is random.
        """
        match = PATTERN.fullmatch(name)
        assert match is not None
        if name == "strict":
            return self._strict(inverted)
        if name == "low":
            return self._low(inverted, images)
        if match["psi"]:
            psi = float(match["psi"])
            moved = truncate(inverted, self.generator.latent_avg, psi)
            return Candidate(name, moved, psi, [{} for _ in face_ids])
        if match["donor"]:
            return self._donor(name, inverted, float(match["donor"]), face_ids)
        return self._sefa(name, inverted, int(match["axis"]), float(match["step"]))

    def _strict(self, inverted: Tensor) -> Candidate:
        ladder = layer_ladder(inverted.shape[1], *STRICT_LADDER)
        moved = truncate(inverted, self.generator.latent_avg, ladder)
        moved = self.prior.within(moved, STRICT_RADIUS)
        params: dict[str, Json] = {"ladder": list(STRICT_LADDER), "radius": STRICT_RADIUS}
        return Candidate("strict", moved, None, [params] * len(moved))

    def _low(self, inverted: Tensor, images: Tensor) -> Candidate:
        """Feedback: what the encoder sees in the result is compared with what it saw in the
        inspiration, and the latent moves by the difference, while the picture gets closer."""
        size = min(PREVIEW, self.generator.config.resolution)
        target = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        best = self.prior.within(inverted, LOW_RADIUS)
        error = self._error(best, target)
        rounds = torch.zeros(len(best), dtype=torch.long)
        current = best
        for _ in range(LOW_ROUNDS):
            seen = self.encoder(self._render(current))
            current = self.prior.within(current + LOW_STEP * (inverted - seen), LOW_RADIUS)
            now = self._error(current, target)
            better = now < error
            best = torch.where(better[:, None, None], current, best)
            error = torch.where(better, now, error)
            rounds += better
        params: list[dict[str, Json]] = [
            {"rounds": int(r), "l1": round(float(e), 4)} for r, e in zip(rounds, error, strict=True)
        ]
        return Candidate("low", best, None, params)

    def _error(self, w_plus: Tensor, target: Tensor) -> Tensor:
        size = target.shape[-1]
        preview = self._render(w_plus, stop_at=size).clamp(-1, 1)
        error: Tensor = (preview - target).abs().mean(dim=(1, 2, 3))
        return error

    def _donor(
        self, name: str, inverted: Tensor, crossover: float, face_ids: list[str]
    ) -> Candidate:
        """Fine layers of the seeded face, out of a few, that is nearest in the middle layers."""
        layers = inverted.shape[1]
        donors, seeds = self._donor_pool()
        middle = slice(round(layers * 4 / 18), round(layers * 8 / 18) + 1)
        ours = self.prior.whiten(inverted[:, middle].mean(dim=1))
        nearest = torch.cdist(ours, self.prior.whiten(donors)).argmin(dim=1)
        donor = donors[nearest][:, None].expand(-1, layers, -1)
        base = truncate(inverted, self.generator.latent_avg, layer_ladder(layers, 0.9, 0.9, 1.0))
        moved = mix_fine_layers(base, donor, crossover * layers / 18)
        return Candidate(
            name, moved, None, [{"donor_seed": int(seeds[i])} for i in nearest.tolist()]
        )

    def _donor_pool(self) -> tuple[Tensor, list[int]]:
        import numpy as np

        seeds = [self.seed + i for i in range(DONORS)]
        width = self.generator.config.z_dim
        z = np.concatenate([np.random.RandomState(s).randn(1, width) for s in seeds])
        w = self.generator.mapping(torch.from_numpy(z).float())
        return truncate(w[:, None], self.generator.latent_avg, DONOR_PSI)[:, 0], seeds

    def _sefa(self, name: str, inverted: Tensor, axis: int, step: float) -> Candidate:
        directions = sefa_directions(self.generator)
        if axis >= len(directions):
            raise UsageError(f"{name}: direction {axis}; wanted 0 to {len(directions) - 1}")
        strict = self._strict(inverted).w_plus
        spread = self.prior.scale.norm() / self.prior.scale.numel() ** 0.5
        moved = strict + step * spread * directions[axis]
        return Candidate(name, moved, None, [{"step": step} for _ in range(len(moved))])


def render(generator: Generator, w_plus: Tensor, precision: Precision = "fp32") -> Pixels:
    """(N, H, W, 3) uint8 images of (N, L, w_dim) latents with the stored noise."""
    return to_pixels(prepared(generator.synthesis, precision)(w_plus))
