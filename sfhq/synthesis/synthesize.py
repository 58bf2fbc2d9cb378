"""Stage: inverted faces brought to life as several candidate photographs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor

from sfhq.errors import UsageError
from sfhq.parts.part import SYNTHETIC_FOLDER, Part
from sfhq.parts.photos import load_images, to_pixels
from sfhq.parts.records import FaceRecord, Json, Pixels
from sfhq.pipeline.stage import Scope
from sfhq.synthesis.candidates import (
    DEFAULT_CANDIDATES,
    DONORS,
    Candidate,
    CandidateMaker,
    Encoder,
    check_names,
)
from sfhq.synthesis.latents import LatentPrior
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import Precision, prepared


@dataclass(frozen=True)
class Synthesize:
    """Renders candidates; each becomes a record whose parent is the inspiration.

    The image goes to `images/<parent>-<candidate>.png`, the latent to `arrays/w_plus/`
    (num_ws, w_dim), its distance from the prior to `realism`.

    Attributes:
        generator, generator_digest: the network and the sha256 of its weights.
        encoder, encoder_digest: the same of e4e.
        prior: of the generator.
        candidates: names of the ways, see `sfhq.synthesis.candidates`.
        keep: only so many candidates an inspiration, the most realistic; None for all.
        max_realism: refuse candidates further from the prior than this; None for no limit.
        seed: of donors.
        batch: faces at a time; bounds the memory.
        precision: of the generator's convolutions, "fp32" or "bf16".
    """

    name: ClassVar[str] = "synthesize"
    scope: ClassVar[Scope] = "face"

    generator: Generator
    generator_digest: str
    encoder: Encoder
    encoder_digest: str
    prior: LatentPrior
    candidates: tuple[str, ...] = DEFAULT_CANDIDATES
    keep: int | None = None
    max_realism: float | None = None
    seed: int = 0
    batch: int = 8
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        check_names(self.candidates)
        if not self.candidates:
            raise UsageError("no candidate named; wanted at least one, for example strict")
        if self.keep is not None and self.keep < 1:
            raise UsageError(f"keep is {self.keep}; wanted 1 or more candidates an inspiration")
        if not 0 <= self.seed <= 2**32 - DONORS:
            raise UsageError(f"seed is {self.seed}; wanted 0 to {2**32 - DONORS}")
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}; wanted 1 or more faces at a time")

    def settings(self) -> dict[str, Json]:
        """All that decides which bytes come out."""
        return {
            "generator": self.generator_digest,
            "encoder": self.encoder_digest,
            "candidates": list(self.candidates),
            "keep": self.keep,
            "max_realism": self.max_realism,
            "seed": self.seed,
            "precision": self.precision,
        }

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Yield every inspiration's candidates, in the order of `candidates`."""
        maker = CandidateMaker(self.generator, self.encoder, self.prior, self.seed, self.precision)
        waiting = iter(records)
        while chunk := list(islice(waiting, self.batch)):
            with torch.inference_mode():
                yield from self._do_batch(maker, chunk, part)

    def _do_batch(
        self, maker: CandidateMaker, chunk: list[FaceRecord], part: Part
    ) -> Iterator[FaceRecord]:
        images = load_images(part, chunk, "aligned", self.generator.config.resolution)
        inverted = torch.stack([torch.tensor(part.row("inverted", r)) for r in chunk])
        ids = [r.face_id for r in chunk]
        made = [maker.make(name, inverted, images, ids) for name in self.candidates]
        realism = torch.stack([self.prior.distance(c.w_plus) for c in made], dim=1)  # (N, K)
        for row, record in enumerate(chunk):
            order = realism[row].argsort(stable=True).tolist()
            chosen = set(order if self.keep is None else order[: self.keep])
            for index, candidate in enumerate(made):
                yield self._finish(
                    record, candidate, row, float(realism[row, index]), index in chosen
                )

    def _finish(
        self, parent: FaceRecord, candidate: Candidate, row: int, realism: float, chosen: bool
    ) -> FaceRecord:
        record = replace(
            parent,
            face_id=f"{parent.face_id}-{candidate.name}",
            parent_id=parent.face_id,
            candidate=candidate.name,
            psi=candidate.psi,
            seed=candidate.params[row].get("donor_seed"),
            params={**parent.params, **candidate.params[row]},
            realism=round(realism, 6),
        )
        if not chosen:
            return record.reject(
                self.name,
                "less realistic",
                f"realism {realism:.3f} is not among the best {self.keep} of its inspiration",
            )
        if self.max_realism is not None and realism > self.max_realism:
            return record.reject(
                self.name,
                "unrealistic",
                f"realism {realism:.3f}; wanted {self.max_realism} or less",
            )
        w_plus = candidate.w_plus[row : row + 1]
        pixels = render(self.generator, w_plus, self.precision)
        return record.with_array("w_plus", w_plus[0].numpy()).with_image(
            SYNTHETIC_FOLDER, pixels[0]
        )


def render(generator: Generator, w_plus: Tensor, precision: Precision = "fp32") -> Pixels:
    """(N, H, W, 3) uint8 images of (N, L, w_dim) latents with the stored noise."""
    return to_pixels(prepared(generator.synthesis, precision)(w_plus))
