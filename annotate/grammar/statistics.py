"""Figures of a set of captions: length, variety, readability, repeats, balance of groups."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from annotate.grammar.facts import GROUP_OF, GROUPS
from annotate.grammar.parse import HARMLESS, Parser

WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")
FACTOR = 0.72  # of MTLD: the ratio of types to words at which a stretch ends
GROWTH = (0.1, 0.25, 0.5, 0.75, 1.0)  # shares of the captions at which unique 4-grams are counted


@dataclass(frozen=True)
class Statistics:
    """Figures of a set of captions.

    Attributes:
        captions: how many there are.
        words: mean number of words.
        sentences: mean number of sentences.
        types: number of different words.
        distinct_1, distinct_2, distinct_4: share of different n-grams among all n-grams.
        unique_4grams: share of the captions, in a random order -> number of different 4-grams.
        mtld: lexical diversity, the mean length of stretches of all captions in a row whose ratio
            of types to words stays above 0.72.
        flesch: reading ease; 60 to 80 is plain English, higher is easier.
        repeated: share of captions that are equal to an earlier one.
        groups: group of facts -> share of captions that state one of it, by our own lexicon.
    """

    captions: int
    words: float
    sentences: float
    types: int
    distinct_1: float
    distinct_2: float
    distinct_4: float
    unique_4grams: dict[str, int]
    mtld: float
    flesch: float
    repeated: float
    groups: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """All values by name, ready for JSON."""
        return asdict(self)


def words_of(text: str) -> list[str]:
    """The words of a text in small letters."""
    return WORD.findall(text.lower())


def statistics(captions: Sequence[str], seed: int = 0) -> Statistics:
    """Measure captions.

    Args:
        captions: texts; empty ones count as captions without words.
        seed: of the order in which 4-grams are counted.

    Raises:
        ValueError: there is no caption.
    """
    if not captions:
        raise ValueError("no captions; wanted at least one")
    split = [words_of(text) for text in captions]
    total = sum(map(len, split))
    order = list(range(len(split)))
    random.Random(seed).shuffle(order)
    seen: set[tuple[str, ...]] = set()
    growth = {}
    done = 0
    for share in GROWTH:
        until = math.ceil(share * len(order))
        for index in order[done:until]:
            seen.update(_grams(split[index], 4))
        done = until
        growth[f"{share:g}"] = len(seen)
    parser = Parser(HARMLESS)
    stated: Counter[str] = Counter()
    for text in captions:
        stated.update({GROUP_OF[name] for name in parser.read(text).facts})
    return Statistics(
        captions=len(captions),
        words=total / len(captions),
        sentences=sum(_sentences(text) for text in captions) / len(captions),
        types=len({word for words in split for word in words}),
        distinct_1=_distinct(split, 1),
        distinct_2=_distinct(split, 2),
        distinct_4=_distinct(split, 4),
        unique_4grams=growth,
        mtld=mtld([word for words in split for word in words]),
        flesch=flesch(captions),
        repeated=1.0 - len(set(captions)) / len(captions),
        groups={group: stated[group] / len(captions) for group in GROUPS},
    )


def mtld(words: Sequence[str]) -> float:
    """Lexical diversity, mean of both directions; 0 for no words.

    Source: McCarthy and Jarvis 2010, "MTLD, vocd-D, and HD-D".
    """
    if not words:
        return 0.0
    return (_stretches(words) + _stretches(words[::-1])) / 2


def _stretches(words: Sequence[str]) -> float:
    count, types, length = 0.0, set[str](), 0
    for word in words:
        types.add(word)
        length += 1
        if len(types) / length <= FACTOR:
            count, types, length = count + 1, set(), 0
    if length:
        count += (1 - len(types) / length) / (1 - FACTOR)
    return len(words) / count if count else float(len(words))


def flesch(texts: Iterable[str]) -> float:
    """Reading ease of texts together: 206.835 - 1.015 words/sentence - 84.6 syllables/word.

    Source: Flesch 1948, "A new readability yardstick". Syllables are counted by groups of vowels.
    """
    words = sentences = syllables = 0
    for text in texts:
        found = words_of(text)
        words += len(found)
        sentences += _sentences(text)
        syllables += sum(map(_syllables, found))
    if not words:
        return 0.0
    return 206.835 - 1.015 * words / max(sentences, 1) - 84.6 * syllables / words


def _syllables(word: str) -> int:
    groups = len(re.findall(r"[aeiouy]+", word))
    silent = word.endswith("e") and not word.endswith(("le", "ee")) and groups > 1
    return max(groups - silent, 1)


def _sentences(text: str) -> int:
    return max(len(SENTENCE_END.findall(text)), 1 if text.strip() else 0)


def _grams(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)


def _distinct(split: Sequence[Sequence[str]], n: int) -> float:
    grams = [gram for words in split for gram in _grams(words, n)]
    return len(set(grams)) / len(grams) if grams else 0.0
