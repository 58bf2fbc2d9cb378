"""Stage: how much each face would be liked, and whether that settles it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from curation.faces import PREFIX
from curation.taste.model import TasteModel
from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import Array, FaceRecord, Json
from sfhq.pipeline.stage import Scope


@dataclass(frozen=True)
class Score:
    """Gives every face a score, and `params["taste"]`: accept, reject or unsure.

    Attributes:
        model: the taste.
        drop: reject the faces that the model rejects.
    """

    name: ClassVar[str] = "score"
    scope: ClassVar[Scope] = "face"

    model: TasteModel
    drop: bool = False

    @classmethod
    def load(cls, path: Path, drop: bool = False) -> Score:
        """The stage with a saved taste."""
        return cls(TasteModel.load(path), drop)

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
            scored = replace(record, score=value, params={**record.params, "taste": word})
            if self.drop and word == "reject":
                yield scored.reject(
                    self.name, "taste", f"score {value:.3f} is up to {self.model.reject:.3f}"
                )
            else:
                yield scored


def _column(part: Part, records: list[FaceRecord], name: str) -> Array:
    array = name if name == "embedding" else PREFIX + name
    missing = sum(array not in r.rows for r in records)
    if missing:
        raise UsageError(
            f"{part.root}: {missing} faces have no feature set {name}, which the taste was "
            f"learned from; run: sfhq embed --redo --features {name}"
        )
    rows = [part.row(array, r) for r in records]
    column: Array = np.stack(rows).astype(np.float32).reshape(len(rows), -1)
    return column
