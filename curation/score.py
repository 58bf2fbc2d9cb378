"""Stage: how much each face would be liked, and whether that settles it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from curation.faces import PREFIX
from sfhq.errors import UsageError, apart
from sfhq.parts.part import Part
from sfhq.parts.records import Array, ColumnType, FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage

if TYPE_CHECKING:
    from curation.taste.model import TasteModel
    from sfhq.pipeline.recipe import Recipe

TASTE = "curation/taste.safetensors"  # in a part: what `sfhq taste fit` writes


@dataclass(frozen=True)
class ScoreSettings:
    """See `Score`."""

    model: Annotated[Path | None, option("The taste.", default=f"PART/{TASTE}")] = None
    drop: Annotated[bool, option("Reject faces that the taste rejects.")] = False


@dataclass(frozen=True)
class Score(Stage[ScoreSettings]):
    """Gives every face a score, and says of it "accept", "reject" or "unsure".

    Attributes:
        model: the taste.
        drop: reject the faces that the taste rejects.
    """

    name: ClassVar[str] = "score"
    columns: ClassVar[Mapping[str, ColumnType]] = {"score": "number", "taste": "text"}
    Settings: ClassVar[type[Any]] = ScoreSettings
    examples: ClassVar[tuple[str, ...]] = ("sfhq score part-05 --drop",)
    packages: ClassVar[tuple[str, ...]] = ("scikit-learn",)

    model: TasteModel
    drop: bool = False

    @classmethod
    def build(cls, settings: ScoreSettings, recipe: Recipe, part: Path) -> Score:
        """The stage that a recipe describes, with its taste."""
        return cls.load(settings.model or part / TASTE, settings.drop)

    @classmethod
    def load(cls, path: Path, drop: bool = False) -> Score:
        """The stage with a saved taste."""
        from curation.taste.model import TasteModel

        return cls(TasteModel.load(path), drop)

    def needed(self) -> tuple[str, ...]:
        """The feature sets that the taste was learned from."""
        return tuple(_array(name) for name in self.model.features)

    def settings(self) -> dict[str, Json]:
        """Version of the taste and what becomes of rejected faces."""
        return {"model": self.model.version, "drop": self.drop}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Score a shard at once."""
        waiting = list(records)
        if not waiting:
            return
        blocks = {name: _column(part, waiting, name) for name in self.model.features}
        scores = self.model.score(blocks)
        for record, score, word in zip(waiting, scores, self.model.decide(scores), strict=True):
            value = round(float(score), 6)
            scored = record.with_columns(score=value, taste=word)
            if self.drop and word == "reject":
                said, limit = apart(value, self.model.reject, least=3)
                yield scored.reject(
                    self.name, "taste", f"score {said}; the taste rejects up to {limit}"
                )
            else:
                yield scored


def _array(name: str) -> str:
    """Array of a feature set."""
    return name if name == "embedding" else PREFIX + name


def _column(part: Part, records: list[FaceRecord], name: str) -> Array:
    array = _array(name)
    missing = sum(array not in r.rows for r in records)
    if missing:
        raise UsageError(
            f"{part.root}: {missing} faces have no feature set {name}, which the taste was "
            f"learned from; run: sfhq embed {part.root} --redo --features {name}"
        )
    rows = [part.row(array, r) for r in records]
    column: Array = np.stack(rows).astype(np.float32).reshape(len(rows), -1)
    return column
