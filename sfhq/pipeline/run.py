"""A run: stages in a row, on one part, as a recipe describes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfhq import stages
from sfhq.errors import SfhqError, UsageError
from sfhq.parts.part import Part
from sfhq.pipeline.counts import Counts
from sfhq.pipeline.engine import OnShard, run_together
from sfhq.pipeline.recipe import Recipe
from sfhq.pipeline.stage import Stage
from sfhq.pipeline.workers import Engine, Local, workers_kept

# Called as each stage begins: its name, and how many faces it will read where that is known.
Progress = Callable[[str, int | None], AbstractContextManager[OnShard | None]]


def _silent(name: str, faces: int | None) -> AbstractContextManager[OnShard | None]:
    return nullcontext()


@dataclass(frozen=True)
class Ended:
    """A stage of a run that has ended, and its counts."""

    stage: str
    counts: Counts


@dataclass(frozen=True)
class Pipeline:
    """Stages that run one after the other.

    Attributes:
        names: of the stages, in their order.
        recipe: their settings.
    """

    names: tuple[str, ...]
    recipe: Recipe

    @classmethod
    def from_recipe(cls, recipe: Recipe, names: Sequence[str] | None = None) -> Pipeline:
        """The stages of `sfhq run`, or others.

        Args:
            recipe: settings of all stages.
            names: of stages, in any order; None for those of a whole run.

        Raises:
            UsageError: no stage has that name.
        """
        wanted = names or [row.name for row in stages.STAGES if row.in_run]
        for name in wanted:
            if name not in stages.names():
                raise UsageError(f"no stage {name!r}; known: {', '.join(stages.names())}")
        return cls(tuple(sorted(wanted, key=stages.position)), recipe)

    @workers_kept()
    def run(
        self,
        part: Part | Path | str,
        *,
        workers: int = 1,
        engine: Engine | None = None,
        redo: bool = False,
        progress: Progress = _silent,
        on_end: Callable[[Ended], None] = lambda ended: None,
        may_end_empty: bool = False,
    ) -> list[Ended]:
        """Bring every stage to its end; what an earlier run finished is kept.

        Args:
            part: the part, or its folder, which is made where the first stage starts a part.
            workers: processes that do shards at the same time.
            engine: what does them instead of processes of this machine.
            redo: do the first stage and all that read it again.
            progress: called as each stage begins.
            on_end: called as each stage ends.
            may_end_empty: whether a stage may leave no face.

        Raises:
            UsageError: a setting is not valid, or something that a stage reads is missing.
            SfhqError: no face was left.
        """
        root = part.root if isinstance(part, Part) else Path(part)
        built = [self.recipe.build(name, root) for name in self.names]
        for stage in built:  # checks settings and weights before a folder is made
            stage.settings()
        opened = Part.create(root) if built[0].kind == "source" else Part.open(root)
        ended: list[Ended] = []
        for _, group in itertools.groupby(built, key=lambda s: s.asks or s.name):
            row = list(group)
            names = "+".join(s.name for s in row)
            with progress(names, expected_faces(row[0], opened)) as on_shard:
                counted = run_together(
                    row,
                    opened,
                    engine=engine or Local(workers),
                    redo=redo and row[0] is built[0],
                    on_shard=on_shard,
                )
            for stage, counts in zip(row, counted, strict=True):
                ended.append(Ended(stage.name, counts))
                on_end(ended[-1])
                if not counts.alive and not may_end_empty:
                    why = ", ".join(f"{n} {reason}" for reason, n in counts.rejected.items())
                    raise SfhqError(
                        f"{root}: no face was left after {stage.name} ({why or 'none came in'}); "
                        f"see: sfhq show {root}"
                    )
        return ended


def expected_faces(stage: Stage[Any], part: Part) -> int | None:
    """How many faces a stage will read; None where nothing is counted before it."""
    if stage.kind == "source":
        count = getattr(stage, "count", None)
        return int(count) if isinstance(count, int) else None
    for name in reversed(part.stages()):
        info = part.stage_info(name)
        before = stages.position(name) < stages.position(stage.name)
        if before and info["kind"] != "about" and info["complete"]:
            return int(info["counts"].get("alive", 0)) or None
    return None
