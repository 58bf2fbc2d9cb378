"""What a run would do, said before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfhq import stages
from sfhq.parts.part import Part
from sfhq.parts.records import Json
from sfhq.pipeline.run import Pipeline


@dataclass(frozen=True)
class Planned:
    """One stage of a run.

    Attributes:
        name: of the stage.
        done: whether an earlier run brought it to its end.
        faces: the most that it can leave; None where that is unknown.
    """

    name: str
    done: bool
    faces: int | None


@dataclass(frozen=True)
class Plan:
    """A run that has not begun, or not ended.

    Attributes:
        part: its folder.
        stages: in their order.
    """

    part: Path
    stages: tuple[Planned, ...]

    @classmethod
    def of(cls, pipeline: Pipeline, part: Path) -> Plan:
        """Look at the settings and the source, and at the part where there is one.

        Raises:
            UsageError: a setting is not valid, or the source has no images.
        """
        done: set[str] = set()
        if (part / "part.json").is_file():
            opened = Part.open(part)
            done = {name for name in opened.stages() if opened.stage_info(name)["complete"]}
        faces: int | None = None
        planned = []
        for name in pipeline.names:
            stage = stages.load_stage(name)
            faces = stage.forecast(pipeline.recipe.table(stage), faces)
            if name in done and stage.kind == "source" and faces is not None:
                entered = opened.stage_info(name)["counts"]["entered"]
                if faces > entered:  # the source has grown, so every stage has something to do
                    done = set()
            planned.append(Planned(name, name in done, faces))
        return cls(part, tuple(planned))

    def to_dict(self) -> dict[str, Json]:
        """For JSON."""
        return {
            "part": str(self.part),
            "images": self.stages[0].faces,
            "photos_at_most": self.stages[-1].faces,
            "stages": {s.name: "done" if s.done else "to do" for s in self.stages},
        }

    def __str__(self) -> str:
        head = f"{self.stages[0].faces} images, "
        most = self.stages[-1].faces
        head += "any number of photos" if most is None else f"at most {most} photos"
        lines = [
            f"{s.name:<10} {'done' if s.done else 'to do':<5} {s.faces or '':>8}"
            for s in self.stages
        ]
        return "\n".join([head, *(line.rstrip() for line in lines)])
