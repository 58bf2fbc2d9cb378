"""Say the same in other words: read the facts of a text, and write them anew."""

from __future__ import annotations

from annotate.grammar.compose import Caption, Grammar
from annotate.grammar.parse import HARMLESS, Parser, differences
from sfhq.errors import UsageError

TRIES = 20


def paraphrase(text: str, seed: int | str) -> Caption:
    """Another caption that states what a text states.

    Args:
        text: a caption in the words of the lexicon, for example of the grammar.
        seed: of the choices; the same seed gives the same paraphrase.

    Raises:
        UsageError: the text has words that the lexicon lacks, contradicts itself, or says nothing.
    """
    reading = Parser(HARMLESS).read(text)
    if reading.problems:
        raise UsageError(f"cannot be read: {'; '.join(reading.problems)}")
    grammar = Grammar(negations=True, judgements=True)
    made = grammar.captions(reading.facts, f"{seed}:{text}", TRIES)
    for caption in made:
        if caption.text != text and not differences(reading.facts, Parser().read(caption.text)):
            return caption
    raise UsageError("there is no other way to say it")
