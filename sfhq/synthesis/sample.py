"""Stage: new faces from the mapping network, the recipe of SFHQ's third part.

A w is drawn at psi above 1, where faces are rare and flawed; rendered; encoded; and then
pulled towards the latent that the encoder saw rather than towards the mean face.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import torch

from sfhq.errors import UsageError
from sfhq.parts.part import SYNTHETIC_FOLDER, Part
from sfhq.parts.photos import to_pixels
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.stage import Scope
from sfhq.synthesis.candidates import Encoder
from sfhq.synthesis.latents import LatentPrior, pull_towards
from stylegan2_ops.generator import Generator, seed_to_z, truncate
from stylegan2_ops.inference import Precision, prepared


@dataclass(frozen=True)
class Sample:
    """Draws `count` faces with seeds from `seed` on.

    Attributes:
        generator, generator_digest: the network and the sha256 of its weights.
        encoder, encoder_digest: the same of e4e.
        prior: of the generator.
        count: how many faces.
        seed: first seed; face i uses `seed + i` exactly as published tools do.
        psi: strength of the draw, above 1 for rare faces.
        anchor_psi: how much of the way from the encoder's latent back to the draw; 0 gives
            the encoder's latent, 1 the draw itself.
        batch: faces at a time.
        precision: of the generator's convolutions, "fp32" or "bf16".
    """

    name: ClassVar[str] = "sample"
    scope: ClassVar[Scope] = "face"

    generator: Generator
    generator_digest: str
    encoder: Encoder
    encoder_digest: str
    prior: LatentPrior
    count: int
    seed: int = 0
    psi: float = 1.2
    anchor_psi: float = 0.5
    batch: int = 8
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"count is {self.count}; wanted 1 or more faces")
        if self.seed < 0 or self.seed + self.count > 2**32:
            raise UsageError(f"seed is {self.seed}; wanted 0 to {2**32 - self.count}")
        if not 0.0 <= self.psi <= 10.0:
            raise UsageError(f"psi is {self.psi}; wanted 0 to 10")
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}; wanted 1 or more faces at a time")
        if not 0.0 <= self.anchor_psi <= 1.0:
            raise UsageError(f"anchor_psi is {self.anchor_psi}; wanted 0 to 1")

    def settings(self) -> dict[str, Json]:
        """All that decides which bytes come out."""
        return {
            "generator": self.generator_digest,
            "encoder": self.encoder_digest,
            "count": self.count,
            "seed": self.seed,
            "psi": self.psi,
            "anchor_psi": self.anchor_psi,
            "precision": self.precision,
        }

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        """One record a seed."""
        for seed in range(self.seed, self.seed + self.count):
            yield FaceRecord(f"seed{seed:010d}", seed=seed, psi=self.psi, candidate="anchored")

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Render every seed; adds `w_plus`, the image and its realism."""
        render = prepared(self.generator.synthesis, self.precision)
        waiting = iter(records)
        while chunk := list(islice(waiting, self.batch)):
            with torch.inference_mode():
                width = self.generator.config.z_dim
                z = torch.cat([seed_to_z(r.seed or 0, width) for r in chunk])
                drawn = self.generator.broadcast(self.generator.mapping(z))
                drawn = truncate(drawn, self.generator.latent_avg, self.psi)
                seen = self.encoder(render(drawn).clamp(-1, 1))
                w_plus = pull_towards(drawn, seen, self.anchor_psi)
                pixels = to_pixels(render(w_plus))
                realism = self.prior.distance(w_plus).tolist()
            for record, latent, image, distance in zip(
                chunk, w_plus.numpy(), pixels, realism, strict=True
            ):
                done = replace(
                    record,
                    realism=round(distance, 6),
                    params={"anchor_psi": self.anchor_psi},
                    width=image.shape[1],
                    height=image.shape[0],
                )
                yield done.with_array("w_plus", latent).with_image(SYNTHETIC_FOLDER, image)
