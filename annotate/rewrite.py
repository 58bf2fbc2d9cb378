"""Stage: captions rewritten by a language model, where it keeps to the facts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfhq.errors import SfhqError
from sfhq.parts.part import Part
from sfhq.parts.records import ColumnType, FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage

if TYPE_CHECKING:
    from annotate.rewriting.rewrite import Ask, Rewritten
    from sfhq.pipeline.recipe import Recipe

CACHE = "audit/rewrite.sqlite"


@dataclass(frozen=True)
class RewriteSettings:
    """See `Rewrite`."""

    endpoint: Annotated[
        str, option("OpenAI-compatible address, such as http://localhost:8000/v1.")
    ] = "http://localhost:8000/v1"
    model: Annotated[str, option("Name of the model there.")] = "default"
    temperature: Annotated[float, option("Of its answers.", least=0, most=2)] = 0.7
    per_minute: Annotated[int, option("Most requests in a minute; 0 for no limit.", least=0)] = 0
    parallel: Annotated[int, option("Requests at a time.", least=1, most=256)] = 4
    seed: Annotated[int, option("Seed of the answers.", least=0, most=2**31 - 1)] = 0


@dataclass(frozen=True)
class Rewrite(Stage[RewriteSettings]):
    """Asks a language model to rewrite the first caption of every face.

    An answer that adds, loses or changes a fact is refused, and asked for again with other seeds;
    if all are refused, the grammar's caption stays. Answers are kept in `audit/rewrite.sqlite`, so
    a run that stopped asks nothing twice. The key of the endpoint is read from `SFHQ_LLM_KEY`.

    Attributes:
        ask: the model.
        model: its name, for the records.
        temperature: of its answers.
        parallel: requests at a time.
        seed: of the answers.
    """

    name: ClassVar[str] = "rewrite"
    reads: ClassVar[tuple[str, ...]] = ("caption", "caption_facts")
    columns: ClassVar[Mapping[str, ColumnType]] = {
        "caption_rewritten": "text",
        "caption_rewriter": "text",  # the model, or empty where the caption stayed
        "caption_refused": "texts",  # why answers were refused
    }
    Settings: ClassVar[type[Any]] = RewriteSettings
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq rewrite part-05 --endpoint http://localhost:8000/v1 --model qwen2.5-7b-instruct",
    )

    ask: Ask
    model: str
    temperature: float = 0.7
    parallel: int = 4
    seed: int = 0

    @classmethod
    def build(cls, settings: RewriteSettings, recipe: Recipe, part: Path) -> Rewrite:
        """The stage that a recipe describes."""
        from annotate.rewriting.endpoint import Endpoint

        endpoint = Endpoint(
            settings.endpoint,
            settings.model,
            settings.temperature,
            settings.per_minute,
            cache=part / CACHE if part.is_dir() else None,
        )
        return cls(
            endpoint.ask, settings.model, settings.temperature, settings.parallel, settings.seed
        )

    def settings(self) -> dict[str, Json]:
        """The model and its seed; the address does not change an answer."""
        return {"model": self.model, "temperature": self.temperature, "seed": self.seed}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Rewrite the captions of one shard, some at a time."""
        faces = list(records)
        ended = threading.Event()
        errors: list[Exception] = []

        def ask(messages: list[dict[str, str]], seed: int) -> str:
            if ended.is_set():
                raise errors[0] if errors else SfhqError("the run has ended")
            try:
                return self.ask(messages, seed)
            except Exception as error:
                errors.append(error)  # before its turn comes: faces are waited for in their order
                ended.set()
                raise

        # A run that ends early waits for the answers that are under way, and asks nothing more.
        with ThreadPoolExecutor(self.parallel) as pool, _set_at_end(ended):
            for record, done in zip(
                faces, pool.map(partial(self._rewrite, ask), faces), strict=True
            ):
                text = done.text if done else ""
                yield record.with_columns(
                    caption_rewritten=text,
                    caption_rewriter=self.model if done and done.changed else "",
                    caption_refused=list(done.refused) if done else [],
                )

    def _rewrite(self, ask: Ask, record: FaceRecord) -> Rewritten | None:
        from annotate.rewriting.rewrite import rewrite

        text = str(record.about.get("caption") or "")
        if not text:
            return None
        said = json.loads(str(record.about["caption_facts"]))
        return rewrite(text, said, ask, self.seed)


@contextmanager
def _set_at_end(ended: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        ended.set()
