"""Stage: captions of every photo, by the grammar, from its attributes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import ColumnType, FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage

if TYPE_CHECKING:
    from annotate.grammar.compose import Grammar
    from annotate.grammar.facts import Facts
    from sfhq.pipeline.recipe import Recipe

PROBABILITIES = "attribute_probabilities"
REVISION = 1  # raised when the same facts and seed give another caption
FEW, NOTHING = "few attributes", "nothing to say"


@dataclass(frozen=True)
class CaptionSettings:
    """See `Caption`."""

    count: Annotated[int, option("Captions per face, no two alike.", least=1, most=1000)] = 1
    negations: Annotated[bool, option("Also say what a face does not have.")] = False
    judgements: Annotated[bool, option("Also say attributes that are opinions.")] = False
    rule: Annotated[
        bool, option("Leave out faces with too few attributes, by FaceCaption's rule.")
    ] = False
    most: Annotated[
        int | None, option("Facts per caption, drawn at random.", least=1, default="all")
    ] = None


@dataclass(frozen=True)
class Caption(Stage[CaptionSettings]):
    """Writes captions, the facts that they state, and the choices that made them.

    A face of which nothing is known gets no caption, and `caption_reason` says so; with `rule` also
    one that fails FaceCaption's. None is rejected. Rendered heads are described by their truth.

    Attributes:
        grammar: writes the captions.
        names: of the attributes, in the order of `attribute_probabilities`.
        count: captions per face.
        seed: of all choices, together with the face's id.
        rule: whether faces need as many valid attributes as `attribute` asked for.
    """

    name: ClassVar[str] = "caption"
    wants: ClassVar[tuple[str, ...]] = (PROBABILITIES,)
    columns: ClassVar[Mapping[str, ColumnType]] = {
        "caption": "text",  # the first one
        "captions": "texts",
        "caption_facts": "text",  # JSON: what the first one states
        "caption_derivations": "texts",  # choices, separated by spaces
        "caption_log_probabilities": "numbers",
        "caption_dropped": "text",  # attributes that contradicted surer ones
        "caption_reason": "text",  # why there is none
    }
    Settings: ClassVar[type[Any]] = CaptionSettings
    shares: ClassVar[tuple[str, ...]] = ("seed",)
    about: ClassVar[str] = (
        "Captions state what the attributes say, all of it and nothing else: a parser reads each "
        "one back before it is written. Of attributes that contradict each other the surest stays."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq caption part-05 --count 5",
        "sfhq table part-05 --columns face_id,caption",
    )

    grammar: Grammar
    names: tuple[str, ...]
    count: int = 1
    seed: int = 0
    rule: bool = False

    @classmethod
    def build(cls, settings: CaptionSettings, recipe: Recipe, part: Path) -> Caption:
        """The stage that a recipe describes."""
        from annotate.grammar.compose import Grammar
        from sfhq.networks.names import ATTRIBUTES

        grammar = Grammar(settings.negations, settings.judgements, settings.most)
        return cls(grammar, ATTRIBUTES, settings.count, recipe.seed, settings.rule)

    def check(self, part: Part) -> None:
        """Refuse a part of which nothing is known yet."""
        if not {"attribute", "render"} & set(part.stages()):
            raise UsageError(f"{part.root}: has no attributes yet; run: sfhq attribute {part.root}")

    def settings(self) -> dict[str, Json]:
        """All that decides which captions are written."""
        return {
            "count": self.count,
            "seed": self.seed,
            "negations": self.grammar.negations,
            "judgements": self.grammar.judgements,
            "most": self.grammar.most,
            "rule": self.rule,
            "revision": REVISION,
        }

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Describe every face."""
        from annotate.grammar.facts import worth_saying
        from annotate.grammar.parse import Parser, differences

        parser = Parser()
        for record in records:
            facts, dropped, reason = self._facts(record, part)
            said = worth_saying(facts, self.grammar.negations, self.grammar.judgements)
            if not reason and not said:
                reason = NOTHING
            if reason:
                yield record.with_columns(**_columns([], dropped, reason))
                continue
            made = self.grammar.captions(facts, f"{self.seed}:{record.face_id}", self.count)
            for caption in made:
                wrong = differences(caption.said, parser.read(caption.text))
                if wrong:
                    raise AssertionError(f"{caption.text!r} does not say its facts: {wrong}")
            yield record.with_columns(**_columns(made, dropped, ""))

    def _facts(self, record: FaceRecord, part: Part) -> tuple[Facts, list[str], str]:
        """What is known, the names that contradicted surer ones, and why there is nothing."""
        from annotate.grammar.facts import without_contradictions
        from annotate.grammar.known import from_looks, from_truth

        if isinstance(record.params.get("attributes"), dict):
            facts, dropped = without_contradictions(from_truth(record.params), {})
            return facts, dropped, ""
        if self.rule and not record.about.get("attributes_valid"):
            return {}, [], FEW
        if PROBABILITIES not in record.rows:
            return {}, [], NOTHING
        row = part.row(PROBABILITIES, record).tolist()
        found, certain = from_looks(record.about, dict(zip(self.names, row, strict=False)))
        facts, dropped = without_contradictions(found, certain)
        return facts, dropped, ""


def _columns(made: list[Any], dropped: list[str], reason: str) -> dict[str, Json]:
    first = made[0] if made else None
    return {
        "caption": first.text if first else "",
        "captions": [c.text for c in made],
        "caption_facts": json.dumps(first.said, sort_keys=True) if first else "",
        "caption_derivations": [" ".join(map(str, c.derivation)) for c in made],
        "caption_log_probabilities": [round(c.log_probability, 6) for c in made],
        "caption_dropped": ", ".join(dropped),
        "caption_reason": reason,
    }
