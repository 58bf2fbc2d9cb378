"""Stage: aligned faces to latents of the generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfhq.parts.part import Part
from sfhq.parts.photos import load_images
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Kind, Stage, positive
from sfhq.synthesis.networks import recognition_of

if TYPE_CHECKING:
    from encoders.e4e.loading import Encoder, PreparedEncoder
    from sfhq.pipeline.recipe import Recipe


@dataclass(frozen=True)
class InvertSettings:
    """See `Invert`."""

    batch: Annotated[int, option("Faces at a time; bounds the memory.", least=1)] = 8


@dataclass(frozen=True)
class Invert(Stage[InvertSettings]):
    """e4e on every aligned face; the latent goes to `arrays/inverted/`, (num_ws, w_dim).

    Attributes:
        encoder: the network, in eval mode, or made ready by `prepare_encoder`.
        encoder_digest: sha256 of its weights, for the records.
        batch: faces at a time; bounds the memory.
    """

    name: ClassVar[str] = "invert"
    kind: ClassVar[Kind] = "faces"
    reads: ClassVar[tuple[str, ...]] = ("aligned",)
    arrays: ClassVar[tuple[str, ...]] = ("inverted",)
    Settings: ClassVar[type[Any]] = InvertSettings
    shares: ClassVar[tuple[str, ...]] = ("models",)
    examples: ClassVar[tuple[str, ...]] = ("sfhq invert part-05",)

    encoder: Encoder | PreparedEncoder
    encoder_digest: str
    batch: int = 8

    def __post_init__(self) -> None:
        positive("batch", self.batch, "faces at a time")

    @classmethod
    def build(cls, settings: InvertSettings, recipe: Recipe, part: Path) -> Invert:
        """The stage that a recipe describes, with its encoder."""
        from encoders.e4e.pair import load_pair

        pair = load_pair(recipe.models)
        return cls(pair.encoder, pair.encoder_digest, settings.batch)

    def settings(self) -> dict[str, Json]:
        """The encoder's digest and precision; the batch does not change the result."""
        precision = getattr(self.encoder, "precision", "fp32")
        digest = {"encoder": self.encoder_digest, "precision": precision}
        return {**digest, **recognition_of(self.encoder)}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Add `inverted` to every record."""
        import torch

        waiting = iter(records)
        while chunk := list(islice(waiting, self.batch)):
            images = load_images(part, chunk, "aligned", self.encoder.config.input_size)
            with torch.inference_mode():
                latents = self.encoder(images).numpy()
            for record, latent in zip(chunk, latents, strict=True):
                yield record.with_array("inverted", latent)
