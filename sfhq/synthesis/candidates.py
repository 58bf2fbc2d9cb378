"""How an inverted inspiration is brought to life: named ways from a latent to a photograph.

Each way is a word on the command line and in the record:

    strict        pulled to the mean face but for its colour, and bounded: the most realistic
    low           refined until the picture is nearest to the art in colour, and no blurrier
    close         refined until the picture shows the person of the art; close-60: in 60 steps
    psi-0.6       the plain truncation ladder
    donor-11      fine layers from a realistic donor, crossing over at layer 11 (of 18)
    sefa-0+1.5    a step along one of the strongest directions of the weights: direction, units
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfhq.errors import UsageError
from sfhq.parts.records import Json, Pixels
from sfhq.synthesis.close import STEPS, refine
from sfhq.synthesis.latents import LatentPrior, layer_ladder, mix_fine_layers, sefa_directions
from sfhq.synthesis.likeness import Likeness
from sfhq.synthesis.low import LowRefinement
from sfhq.synthesis.names import DONORS, PATTERN
from sfhq.synthesis.tint import Tint
from sfhq.tensors import to_pixels
from stylegan2_ops.generator import Generator, truncate
from stylegan2_ops.inference import Precision, prepared

Encoder = Callable[[Tensor], Tensor]

STRICT_LADDER = (1.0, 1.0, 0.8)
STRICT_RADIUS = 0.8
DONOR_PSI = 0.4  # of donors; at 0.6 fine layers of some bring glassy eyes


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
        generator: renders the pictures that refinement looks at.
        encoder: images (N, 3, H, W) to w_plus (N, L, w_dim).
        prior: of the generator.
        seed: of the donors.
        precision: of the generator's convolutions.
        tint: of the generator: `strict` and donors keep the colour of the face; None lets it be
            pulled to the mean too.
    """

    generator: Generator
    encoder: Encoder
    prior: LatentPrior
    seed: int
    precision: Precision = "fp32"
    tint: Tint | None = None

    def make(
        self,
        name: str,
        inverted: Tensor,
        images: Tensor,
        face_ids: list[str],
        likeness: Likeness | None = None,
    ) -> Candidate:
        """One way on a batch.

        Args:
            name: see `sfhq.synthesis.names`.
            inverted: (N, L, w_dim) latents of the inspirations.
            images: (N, 3, H, W) the inspirations themselves.
            face_ids: their names, which seed what is random.
            likeness: what `likeness` gives for the images, where it was asked before.
        """
        match = PATTERN.fullmatch(name)
        assert match is not None
        if name == "strict":
            return self._strict(inverted)
        if name == "low":
            return self._low(inverted, likeness or self.likeness(images))
        if name.startswith("close"):
            wanted = (likeness or self.likeness(images)).vector
            return self._close(name, inverted, images, wanted, int(match["steps"] or STEPS))
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
        moved = self._tinted(inverted, self.prior.within(moved, STRICT_RADIUS))
        params: dict[str, Json] = {"ladder": list(STRICT_LADDER), "radius": STRICT_RADIUS}
        return Candidate("strict", moved, None, [params] * len(moved))

    def _tinted(self, before: Tensor, after: Tensor) -> Tensor:
        return after if self.tint is None else self.tint.keep(self.prior, before, after)

    def _low(self, inverted: Tensor, likeness: Likeness) -> Candidate:
        refinement = LowRefinement(
            self.generator, self.encoder, self.prior, likeness, self.precision
        )
        found = refinement.refine(inverted, self._strict(inverted).w_plus)
        params: list[dict[str, Json]] = [
            {"share": round(float(s), 2), "l1": round(float(e), 4), "lab": round(float(a), 2)}
            for s, e, a in zip(found.share, found.seen.l1, found.seen.apart, strict=True)
        ]
        return Candidate("low", found.w_plus, None, params)

    def likeness(self, images: Tensor) -> Likeness:
        """To inspirations (N, 3, H, W), whose people are seen as photographs would show them."""
        likeness = Likeness.to(images)
        as_photo = getattr(self.encoder, "as_photo", None)  # of encoders that keep the person
        if as_photo is None:
            return likeness
        seen = [as_photo(vector) for vector in likeness.vector.split(1)]
        return replace(likeness, vector=torch.cat(seen))

    def _close(
        self, name: str, inverted: Tensor, images: Tensor, wanted: Tensor, steps: int
    ) -> Candidate:
        # One by one, so that a face ends at the same place whatever its batch.
        lots = zip(inverted.split(1), images.split(1), wanted.split(1), strict=True)
        found = [refine(self.generator, self.prior, *lot, steps, self.precision) for lot in lots]
        params: list[dict[str, Json]] = [
            {"steps": steps, "lab": round(float(apart), 2)}
            for part in found
            for apart in part.apart
        ]
        return Candidate(name, torch.cat([part.w_plus for part in found]), None, params)

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
        moved = self._tinted(inverted, mix_fine_layers(base, donor, crossover * layers / 18))
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
