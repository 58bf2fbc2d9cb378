"""Stage: new faces from the mapping network, the recipe of SFHQ's third part.

A w is drawn at psi above 1, where faces are rare and flawed; rendered; encoded; and then
pulled towards the latent that the encoder saw rather than towards the mean face.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfhq.errors import UsageError
from sfhq.images import Marks
from sfhq.parts.folders import SYNTHETIC_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import SourceStage, positive
from sfhq.synthesis.marking import as_settings, marks_of, photo_marks
from sfhq.synthesis.networks import photo_networks, recognition_of

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe
    from sfhq.synthesis.candidates import Encoder
    from sfhq.synthesis.latents import LatentPrior
    from stylegan2_ops.generator import Generator
    from stylegan2_ops.inference import Precision


@dataclass(frozen=True)
class SampleSettings:
    """See `Sample`."""

    count: Annotated[int, option("How many faces.", least=1)]
    seed: Annotated[int, option("First seed.", least=0, most=2**32 - 1)] = 0
    psi: Annotated[float, option("Strength of the draw.", least=0, most=10)] = 1.2
    anchor_psi: Annotated[
        float,
        option("Way back from the encoder's latent (0) to the draw (1).", least=0, most=1),
    ] = 0.5
    batch: Annotated[int, option("Faces at a time; bounds the memory.", least=1)] = 8


@dataclass(frozen=True)
class Sample(SourceStage[SampleSettings]):
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
        marks: what the photos say of the AI, and their watermark; None for neither.
    """

    name: ClassVar[str] = "sample"
    arrays: ClassVar[tuple[str, ...]] = ("w_plus",)
    images: ClassVar[tuple[str, ...]] = (SYNTHETIC_FOLDER,)
    Settings: ClassVar[type[Any]] = SampleSettings
    shares: ClassVar[tuple[str, ...]] = ("models", "marks")
    examples: ClassVar[tuple[str, ...]] = ("sfhq sample part-06 --count 1000 --psi 1.3",)

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
    marks: Marks | None = None

    def __post_init__(self) -> None:
        positive("count", self.count, "faces")
        if self.seed < 0 or self.seed + self.count > 2**32:
            raise UsageError(f"seed is {self.seed}; wanted 0 to {2**32 - self.count}")
        if not 0.0 <= self.psi <= 10.0:
            raise UsageError(f"psi is {self.psi}; wanted 0 to 10")
        positive("batch", self.batch, "faces at a time")
        if not 0.0 <= self.anchor_psi <= 1.0:
            raise UsageError(f"anchor_psi is {self.anchor_psi}; wanted 0 to 1")

    @classmethod
    def build(cls, settings: SampleSettings, recipe: Recipe, part: Path) -> Sample:
        """The stage that a recipe describes, with its networks."""
        networks = photo_networks(recipe.models)
        marks = photo_marks(
            recipe.marks,
            cls.name,
            part,
            networks["generator"].config.resolution,
            networks["generator_digest"],
            networks["encoder_digest"],
        )
        return cls(
            **networks,
            marks=marks,
            count=settings.count,
            seed=settings.seed,
            psi=settings.psi,
            anchor_psi=settings.anchor_psi,
            batch=settings.batch,
        )

    @classmethod
    def forecast(cls, settings: SampleSettings, faces: int | None) -> int | None:
        """As many as are asked for."""
        return settings.count

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
            **recognition_of(self.encoder),
            **as_settings(self.marks),
        }

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        """One record a seed."""
        for seed in range(self.seed, self.seed + self.count):
            yield FaceRecord(f"seed{seed:010d}", seed=seed, psi=self.psi, candidate="anchored")

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Render every seed; adds `w_plus`, the image and its distance from the prior."""
        import torch

        from sfhq.synthesis.latents import pull_towards
        from sfhq.tensors import to_pixels
        from stylegan2_ops.generator import seed_to_z, truncate
        from stylegan2_ops.inference import prepared

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
                distances = self.prior.distance(w_plus).tolist()
            for record, latent, image, distance in zip(
                chunk, w_plus.numpy(), pixels, distances, strict=True
            ):
                done = replace(
                    record,
                    prior_distance=round(distance, 6),
                    params={"anchor_psi": self.anchor_psi},
                    width=image.shape[1],
                    height=image.shape[0],
                )
                done = done.with_array("w_plus", latent)
                yield done.with_image(SYNTHETIC_FOLDER, image, marks_of(record, self.marks))
