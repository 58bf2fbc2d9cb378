"""Learn the vocabulary that `encoders/flip/vocabulary.txt` ships, from captions of the grammar.

    python benchmarks/flip_vocabulary.py encoders/flip/vocabulary.txt

Facts are drawn at random, so every phrase of the lexicon occurs; no picture is read.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from annotate.grammar.compose import Grammar
from annotate.grammar.facts import STATEMENTS, Value, contradictions, worth_saying
from encoders.flip.tokens import save_tokens, train_tokens

COUNT = 60_000
MOST = 1000


def captions(count: int) -> Iterator[str]:
    numbers = random.Random(16)
    grammars = [Grammar(), Grammar(negations=True, judgements=True)]
    statements = sorted(STATEMENTS, key=str)
    made = 0
    while made < count:
        facts: dict[str, Value] = {}
        for name, value in numbers.sample(statements, numbers.randint(2, 12)):
            if name not in facts:
                facts[name] = value
                if contradictions(facts):
                    del facts[name]
        grammar = grammars[made % 2]
        if worth_saying(facts, grammar.negations, grammar.judgements):
            yield grammar.caption(facts, made).text
            made += 1


if __name__ == "__main__":
    tokens = train_tokens(captions(COUNT), MOST)
    save_tokens(Path(sys.argv[1]), tokens)
    held = list(captions(COUNT + 500))[COUNT:]
    lengths = tokens(held)[1].sum(1)
    print(f"{len(tokens)} tokens; {sum(map(tokens.unknown, held))} unknown words in 500 captions")
    print(f"{lengths.float().mean():.1f} tokens a caption, at most {lengths.max()}")
