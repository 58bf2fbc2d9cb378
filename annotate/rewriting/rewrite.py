"""Rewrite captions fluently; what adds, loses or changes a fact is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from annotate.grammar.facts import Value
from annotate.grammar.parse import HARMLESS, Parser, differences

MOST_WORDS = 65  # FLIP reads no more
PROMPT = (
    "Rewrite the description of a face as one fluent English paragraph of at most 65 words. Keep "
    "every fact, add none, and keep the words for features and accessories as they are. Answer "
    "with the paragraph alone."
)
Ask = Callable[[list[dict[str, str]], int], str]  # messages and a seed to an answer
ASKED = 3  # times, with other seeds, before the grammar's own caption stays


@dataclass(frozen=True)
class Rewritten:
    """What a model made of a caption.

    Attributes:
        text: the new caption, or the old one where all answers were refused.
        refused: why each refused answer was refused.
        changed: whether `text` is the model's.
    """

    text: str
    refused: tuple[str, ...]
    changed: bool


def messages_for(text: str) -> list[dict[str, str]]:
    """The chat that asks for a rewriting."""
    return [{"role": "system", "content": PROMPT}, {"role": "user", "content": text}]


def rewrite(text: str, said: Mapping[str, Value], ask: Ask, seed: int = 0) -> Rewritten:
    """Rewrite a caption.

    Args:
        text: the caption.
        said: the facts that it states.
        ask: the model.
        seed: of the first answer.
    """
    refused: list[str] = []
    for attempt in range(ASKED):
        answer = " ".join(ask(messages_for(text), seed + attempt).split()).strip('"')
        wrong = faults(answer, said)
        if not wrong:
            return Rewritten(answer, tuple(refused), answer != text)
        refused.append(wrong[0])
    return Rewritten(text, tuple(refused), False)


def faults(answer: str, said: Mapping[str, Value]) -> list[str]:
    """Why a text may not stand for a caption; empty if it may."""
    words = len(answer.split())
    if not words:
        return ["empty"]
    if words > MOST_WORDS:
        return [f"{words} words"]
    return differences(said, Parser(HARMLESS).read(answer))
