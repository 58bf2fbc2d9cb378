"""Whether a caption that is stored says what was noted with it, and what the attributes say."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from annotate.grammar.facts import Facts, without_contradictions
from annotate.grammar.known import from_looks, from_truth
from annotate.grammar.parse import Parser, differences
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.records import FaceRecord


@lru_cache(maxsize=1)
def _parser() -> Parser:
    return Parser()


def caption_problems(record: FaceRecord, probabilities: Any = None) -> list[str]:
    """What is wrong with the captions of a face; empty where there is none, or nothing wrong.

    Args:
        record: a face with the columns of `caption`, and of `attribute` where that has run.
        probabilities: (K,) of its attributes in the order of `ATTRIBUTES`; None where unknown.
    """
    text, facts = record.about.get("caption"), record.about.get("caption_facts")
    if not isinstance(text, str) or not text or not isinstance(facts, str):
        return []
    try:
        said = json.loads(facts or "{}")
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return [f"caption_facts cannot be read: {facts!r:.60}"]
    found = [f"the caption: {what}" for what in differences(said, _parser().read(text))]
    known = _known(record, probabilities)
    for name, value in said.items():
        if name in known and known[name] != value:
            found.append(f"the caption says {name} {value}, the attributes say {known[name]}")
    captions = record.about.get("captions")
    if captions and captions[0] != text:
        found.append("caption is not the first of captions")
    return found


def _known(record: FaceRecord, probabilities: Any) -> Facts:
    if isinstance(record.params.get("attributes"), dict):
        return without_contradictions(from_truth(record.params), {})[0]
    if probabilities is None or "years" not in record.about:
        return {}
    row = dict(zip(ATTRIBUTES, map(float, probabilities), strict=False))
    return without_contradictions(*from_looks(record.about, row))[0]
