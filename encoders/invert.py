"""Stage: aligned faces to latents of the generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch

from encoders.e4e.inference import PreparedE4e
from encoders.e4e.network import E4e
from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.photos import load_images
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.stage import Scope


@dataclass(frozen=True)
class Invert:
    """e4e on every aligned face; the latent goes to `arrays/inverted/`, (num_ws, w_dim).

    Attributes:
        encoder: the network, in eval mode, or made ready by `PreparedE4e`.
        encoder_digest: sha256 of its weights, for the records.
        batch: faces at a time; bounds the memory.
    """

    name: ClassVar[str] = "invert"
    scope: ClassVar[Scope] = "face"

    encoder: E4e | PreparedE4e
    encoder_digest: str
    batch: int = 8

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}; wanted 1 or more faces at a time")

    def settings(self) -> dict[str, Json]:
        """The encoder's digest and precision; the batch does not change the result."""
        precision = self.encoder.precision if isinstance(self.encoder, PreparedE4e) else "fp32"
        return {"encoder": self.encoder_digest, "precision": precision}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Add `inverted` to every record."""
        waiting = iter(records)
        while chunk := list(islice(waiting, self.batch)):
            images = load_images(part, chunk, "aligned", self.encoder.config.input_size)
            with torch.inference_mode():
                latents = self.encoder(images).numpy()
            for record, latent in zip(chunk, latents, strict=True):
                yield record.with_array("inverted", latent)
