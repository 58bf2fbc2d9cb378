"""Stage: inverted faces brought to life as several candidate photographs."""

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
from sfhq.parts.photos import load_images
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Kind, Stage, positive
from sfhq.synthesis.marking import as_settings, marks_of, photo_marks
from sfhq.synthesis.names import DEFAULT_CANDIDATES, DONORS, check_directions, check_names
from sfhq.synthesis.networks import photo_networks

if TYPE_CHECKING:
    from torch import Tensor

    from sfhq.pipeline.recipe import Recipe
    from sfhq.synthesis.candidates import Candidate, CandidateMaker, Encoder
    from sfhq.synthesis.latents import LatentPrior
    from sfhq.synthesis.likeness import Likeness
    from sfhq.synthesis.tint import Tint
    from stylegan2_ops.generator import Generator
    from stylegan2_ops.inference import Precision


REVISION = 7  # raised when the same latents and seed give other candidates


@dataclass(frozen=True)
class SynthesizeSettings:
    """See `Synthesize`."""

    candidates: Annotated[
        tuple[str, ...],
        option(
            "Ways to a photo: strict, low, close, psi-0.6, donor-11, sefa-0+1.5.", metavar="NAMES"
        ),
    ] = DEFAULT_CANDIDATES
    keep: Annotated[
        int | None,
        option("Keep only this many candidates per face, those that keep the person.", least=1),
    ] = None
    max_prior_distance: Annotated[
        float | None, option("Reject candidates farther from the prior.", least=0)
    ] = None
    batch: Annotated[int, option("Faces at a time; bounds the memory.", least=1)] = 8


@dataclass(frozen=True)
class Synthesize(Stage[SynthesizeSettings]):
    """Renders candidates; each becomes a record whose parent is the inspiration.

    The image goes to `images/<parent>-<candidate>.png`, the latent to `arrays/w_plus/`
    (num_ws, w_dim), its distance from the prior to `prior_distance`. `params["person"]` says how
    far what dlib's recognition network sees in the photo lies from what the encoder expects it to
    see in a photograph of the art's person; below 0.6 dlib takes two faces for one person.

    Attributes:
        generator, generator_digest: the network and the sha256 of its weights.
        encoder, encoder_digest: the same of e4e.
        prior: of the generator.
        tint: of the generator, see `CandidateMaker`.
        candidates: names of the ways, see `sfhq.synthesis.candidates`.
        keep: number of candidates to keep per face, those with the smallest `params["person"]`;
            None for all.
        max_prior_distance: reject candidates farther from the prior; None for no limit.
        seed: of donors.
        batch: faces at a time; bounds the memory.
        precision: of the generator's convolutions, "fp32" or "bf16".
        marks: what the photos say of the AI, and their watermark; None for neither.
    """

    name: ClassVar[str] = "synthesize"
    kind: ClassVar[Kind] = "faces"
    reads: ClassVar[tuple[str, ...]] = ("aligned", "inverted")
    arrays: ClassVar[tuple[str, ...]] = ("w_plus",)
    images: ClassVar[tuple[str, ...]] = (SYNTHETIC_FOLDER,)
    Settings: ClassVar[type[Any]] = SynthesizeSettings
    shares: ClassVar[tuple[str, ...]] = ("seed", "models", "marks")
    about: ClassVar[str] = (
        "strict stays near the prior and is the most realistic; low is refined until its picture "
        "is the closest to the art and no blurrier; close until it shows the same person; psi-P "
        "pulls to the mean face; donor-L takes fine layers from a drawn face; sefa-D+S moves "
        "along a direction of the weights."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq synthesize part-05 --candidates strict,low,sefa-0+1.5 --keep 2",
    )

    generator: Generator
    generator_digest: str
    encoder: Encoder
    encoder_digest: str
    prior: LatentPrior
    tint: Tint | None = None
    candidates: tuple[str, ...] = DEFAULT_CANDIDATES
    keep: int | None = None
    max_prior_distance: float | None = None
    seed: int = 0
    batch: int = 8
    precision: Precision = "fp32"
    marks: Marks | None = None

    def __post_init__(self) -> None:
        check_names(self.candidates)
        if not self.candidates:
            raise UsageError("no candidate named; wanted at least one, for example strict")
        if self.keep is not None:
            positive("keep", self.keep, "candidates per face")
        if not 0 <= self.seed <= 2**32 - DONORS:
            raise UsageError(f"seed is {self.seed}; wanted 0 to {2**32 - DONORS}")
        positive("batch", self.batch, "faces at a time")

    @classmethod
    def build(cls, settings: SynthesizeSettings, recipe: Recipe, part: Path) -> Synthesize:
        """The stage that a recipe describes, with its networks."""
        from sfhq.synthesis.tint import Tint

        check_names(settings.candidates)  # before networks are read
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
            tint=Tint.of(networks["generator"], networks["prior"]),
            marks=marks,
            candidates=settings.candidates,
            keep=settings.keep,
            max_prior_distance=settings.max_prior_distance,
            seed=recipe.seed,
            batch=settings.batch,
        )

    @classmethod
    def forecast(cls, settings: SynthesizeSettings, faces: int | None) -> int | None:
        """Every candidate of every face, or those that are kept."""
        check_names(settings.candidates)
        count = len(settings.candidates)
        return None if faces is None else faces * min(count, settings.keep or count)

    def check(self, part: Part) -> None:
        """Refuse directions that the generator does not have."""
        check_directions(self.candidates, self.generator.config.w_dim)

    def settings(self) -> dict[str, Json]:
        """All that decides which bytes come out.

        Raises:
            SfhqError: dlib's recognition weights are not installed.
        """
        from sfhq.faces.dlib_models import RECOGNITION, model_digest

        return {
            "generator": self.generator_digest,
            "encoder": self.encoder_digest,
            "candidates": list(self.candidates),
            "keep": self.keep,
            "max_prior_distance": self.max_prior_distance,
            "seed": self.seed,
            "precision": self.precision,
            "revision": REVISION,
            "recognition": model_digest(RECOGNITION),
            **as_settings(self.marks),
        }

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Yield every inspiration's candidates, in the order of `candidates`."""
        import torch

        from sfhq.synthesis.candidates import CandidateMaker

        maker = CandidateMaker(
            self.generator, self.encoder, self.prior, self.seed, self.precision, self.tint
        )
        waiting = iter(records)
        while chunk := list(islice(waiting, self.batch)):
            with torch.inference_mode():
                yield from self._do_batch(maker, chunk, part)

    def _do_batch(
        self, maker: CandidateMaker, chunk: list[FaceRecord], part: Part
    ) -> Iterator[FaceRecord]:
        import torch

        images = load_images(part, chunk, "aligned", self.generator.config.resolution)
        inverted = torch.stack([torch.tensor(part.row("inverted", r)) for r in chunk])
        ids = [r.face_id for r in chunk]
        likeness = maker.likeness(images)
        made = [maker.make(name, inverted, images, ids, likeness) for name in self.candidates]
        distances = torch.stack([self.prior.distance(c.w_plus) for c in made], dim=1)  # (N, K)
        for row, record in enumerate(chunk):
            family = [
                self._child(record, candidate, row, float(distances[row, index]))
                for index, candidate in enumerate(made)
            ]
            latents = torch.stack([c.w_plus[row] for c in made])
            yield from self._rendered(family, latents, likeness, row)

    def _child(
        self, parent: FaceRecord, candidate: Candidate, row: int, distance: float
    ) -> FaceRecord:
        record = replace(
            parent,
            face_id=f"{parent.face_id}-{candidate.name}",
            parent_id=parent.face_id,
            candidate=candidate.name,
            psi=candidate.psi,
            seed=candidate.params[row].get("donor_seed"),
            params={**parent.params, **candidate.params[row]},
            prior_distance=round(distance, 6),
        )
        if self.max_prior_distance is not None and distance > self.max_prior_distance:
            return record.reject(
                self.name,
                "too far from the prior",
                f"prior distance {distance:.6f}; wanted {self.max_prior_distance} or less",
            )
        return record

    def _rendered(
        self, family: list[FaceRecord], latents: Tensor, likeness: Likeness, row: int
    ) -> Iterator[FaceRecord]:
        """The candidates of a face with their pictures, those that stay.

        They are rendered together; one by one takes half as long again. A batch may change the last
        bits, so it is a face's own candidates, however many faces are done at a time.

        Args:
            family: the records, in the order of the candidates.
            latents: (K, L, w_dim) theirs.
            likeness: to the inspirations of a batch of faces.
            row: of this face in it.
        """
        import torch

        from sfhq.synthesis.candidates import render
        from sfhq.tensors import to_tensor

        alive = [index for index, record in enumerate(family) if record.alive]
        if not alive:
            yield from family
            return
        pixels = render(self.generator, latents[alive], self.precision)
        person = likeness.person(to_tensor(pixels), torch.full((len(alive),), row)).tolist()
        order = sorted(range(len(alive)), key=lambda i: (person[i], i))
        kept = order if self.keep is None else order[: self.keep]
        found = {index: (pixels[i], person[i], i in kept) for i, index in enumerate(alive)}
        for index, record in enumerate(family):
            if index not in found:
                yield record
                continue
            photo, distance, stays = found[index]
            params = {**record.params, "person": round(distance, 4)}
            record = replace(record, params=params)
            if not stays:
                yield record.reject(
                    self.name,
                    "keeps less of the person",
                    f"distance {distance:.3f} from the person of the art is not among the smallest "
                    f"{self.keep} of its face",
                )
                continue
            yield record.with_array("w_plus", latents[index].numpy()).with_image(
                SYNTHETIC_FOLDER, photo, marks_of(record, self.marks)
            )
