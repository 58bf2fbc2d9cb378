"""What a run would do, said before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfhq import stages
from sfhq.parts.part import Part
from sfhq.parts.records import Json
from sfhq.pipeline.run import Pipeline


@dataclass(frozen=True)
class Plan:
    """A run that has not begun, or not ended.

    Attributes:
        part: its folder.
        images: how many the source has; None where no stage reads one.
        candidates: names of the ways to bring one to life.
        stages: name -> "done" or "to do", in their order.
    """

    part: Path
    images: int | None
    candidates: tuple[str, ...]
    stages: dict[str, str]

    @classmethod
    def of(cls, pipeline: Pipeline, part: Path) -> Plan:
        """Look at the source, and at the part where there is one.

        Raises:
            UsageError: a setting that cannot be, or a source without images.
        """
        images, candidates = None, tuple[str, ...]()
        for name in pipeline.names:
            settings = pipeline.recipe.table(stages.load_stage(name))
            if name == "ingest":
                from sfhq.ingest import Ingest

                images = len(Ingest.build(settings, pipeline.recipe, part).names())
            if name == "synthesize":
                from sfhq.synthesis.names import check_names

                candidates = settings.candidates
                check_names(candidates)
        done = set()
        if (part / "part.json").is_file():
            opened = Part.open(part)
            done = {name for name in opened.stages() if opened.stage_info(name)["complete"]}
        states = {name: "done" if name in done else "to do" for name in pipeline.names}
        return cls(part, images, candidates, states)

    @property
    def photos(self) -> int | None:
        """The most that it can make."""
        return None if self.images is None else self.images * len(self.candidates)

    def to_dict(self) -> dict[str, Json]:
        """For JSON."""
        return {
            "part": str(self.part),
            "images": self.images,
            "candidates": list(self.candidates),
            "photos_at_most": self.photos,
            "stages": dict(self.stages),
        }

    def __str__(self) -> str:
        ways = ", ".join(self.candidates)
        head = f"{self.images} images, at most {self.photos} photos ({ways})"
        return "\n".join([head, *(f"{name:<10} {state}" for name, state in self.stages.items())])
