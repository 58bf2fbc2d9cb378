"""What a run would do, said before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfhq.parts.part import Part
from sfhq.parts.records import Json
from sfhq.sources.ingest import Ingest
from sfhq.synthesis.candidates import check_names


@dataclass(frozen=True)
class Plan:
    """A run that has not begun, or not ended.

    Attributes:
        part: its folder.
        images: how many the source has.
        candidates: names of the ways to bring one to life.
        stages: name -> "done" or "to do", in their order.
    """

    part: Path
    images: int
    candidates: tuple[str, ...]
    stages: dict[str, str]

    @classmethod
    def of(
        cls, source: Ingest, part: Path, candidates: tuple[str, ...], stages: Sequence[str]
    ) -> Plan:
        """Look at the source, and at the part where there is one.

        Raises:
            UsageError: an unknown candidate, or a source without images.
        """
        check_names(candidates)
        images = len(source.names())
        done = set()
        if (part / "part.json").is_file():
            opened = Part.open(part)
            done = {name for name in opened.stages() if opened.stage_info(name)["complete"]}
        states = {name: "done" if name in done else "to do" for name in stages}
        return cls(part, images, candidates, states)

    @property
    def photos(self) -> int:
        """The most that it can make."""
        return self.images * len(self.candidates)

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
