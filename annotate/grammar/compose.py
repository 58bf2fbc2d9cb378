"""The grammar: facts about a face become a few short sentences.

A caption opens with the person as a noun phrase; every later sentence says what is left of one
group of facts, with a pronoun or "the" and the noun. Each choice has a weight, so each derivation
has an exact probability, and the choices alone bring the same caption back.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from annotate.grammar.choices import Chooser, Draw, Repeat, Table, shuffled, table
from annotate.grammar.facts import (
    GROUP_OF,
    Facts,
    Statement,
    Value,
    check_facts,
    contradictions,
    worth_saying,
)
from annotate.grammar.lexicon import NOUNS, PICTURES, PRONOUNS, RANK, THINGS, WAYS, Way
from sfhq.errors import UsageError

BEFORE_NOUN = table((0.7, 0.3))  # an adjective of the person: before the noun, or after "is"
MOST_BEFORE = 2
AS_OBJECT = table((0.7, 0.3))  # "she has wavy hair", or "her hair is wavy"
OPENINGS = table((0.5, 0.25, 0.25))  # "A man has ...", "This is a photo of ...", "The photo shows"
OF_PICTURE = table((0.5, 0.5))  # the last two alone
PRONOUN = table((0.75, 0.25))  # or "the man"
WEARING = table((0.6, 0.4))  # "wears", or "is wearing"
JOINED = table((0.5, 0.5))  # "her hair is black, and she has ...", or two sentences
VOWELS = "aeiou"

WAY_TABLES: dict[Statement, Table] = {
    s: table([w.weight for w in ways]) for s, ways in WAYS.items()
}
NOUN_TABLES = {row: table([w for _, w in nouns]) for row, nouns in NOUNS.items()}
NAME_TABLES = {key: table([w for _, w, _ in thing.names]) for key, thing in THINGS.items()}
PICTURE_TABLE = table([w for _, w in PICTURES])


@dataclass(frozen=True)
class Caption:
    """A caption and where it came from.

    Attributes:
        text: one paragraph.
        said: the facts that it states.
        log_probability: natural logarithm of the derivation's probability, given the facts.
        derivation: the choices that were made; `Grammar.repeat` gives the caption again.
    """

    text: str
    said: Facts
    log_probability: float
    derivation: tuple[int, ...]


@dataclass(slots=True)
class _Group:
    """What is left to say of one group of facts."""

    have: list[str] = field(default_factory=list)
    be: list[str] = field(default_factory=list)
    wear: list[str] = field(default_factory=list)
    verbs: list[Way] = field(default_factory=list)
    own: list[tuple[str, str]] = field(default_factory=list)  # name of a thing, "is ..."

    def __bool__(self) -> bool:
        return bool(self.have or self.be or self.wear or self.verbs or self.own)


@dataclass(frozen=True)
class Grammar:
    """Writes captions.

    Attributes:
        negations: also say what a face does not have.
        judgements: also say attributes that are opinions.
        most: at most this many facts per caption, drawn at random; None for all.
    """

    negations: bool = False
    judgements: bool = False
    most: int | None = None

    def caption(self, facts: Mapping[str, Value], seed: int | str) -> Caption:
        """A caption of some facts; the same facts and seed give the same caption.

        Raises:
            UsageError: unknown names or values, facts that contradict each other, nothing to say.
        """
        return self._compose(facts, Draw(_random(seed).random))

    def captions(self, facts: Mapping[str, Value], seed: int | str, count: int) -> list[Caption]:
        """Captions of some facts, no two alike; fewer than `count` if there are no more.

        Raises:
            UsageError: as of `caption`.
        """
        found: dict[str, Caption] = {}
        numbers = _random(seed)
        for _ in range(20 * count):
            if len(found) == count:
                break
            made = self._compose(facts, Draw(numbers.random))
            found.setdefault(made.text, made)
        return list(found.values())

    def repeat(self, facts: Mapping[str, Value], derivation: Sequence[int]) -> Caption:
        """The caption of a derivation again.

        Raises:
            UsageError: the derivation is not one of these facts.
        """
        made = self._compose(facts, Repeat(derivation))
        if len(made.derivation) != len(derivation):
            raise UsageError(
                "derivation: has choices left over; give the facts that it was made of"
            )
        return made

    def _compose(self, facts: Mapping[str, Value], chooser: Chooser) -> Caption:
        check_facts(facts)
        for (a, x), (b, y) in contradictions(facts):
            raise UsageError(f"{a} is {x} and {b} is {y}; they contradict each other: drop one")
        said = worth_saying(facts, self.negations, self.judgements)
        if not said:
            raise UsageError("nothing to say; give at least one attribute that is true")
        if self.most is not None and len(said) > self.most:
            names = shuffled(chooser, sorted(said))[: self.most]
            said = {name: said[name] for name in said if name in names}
        text = _Writer(said, chooser).text()
        return Caption(text, said, chooser.log_probability, tuple(chooser.made))


def _random(seed: int | str) -> random.Random:
    digest = hashlib.sha256(str(seed).encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))


class _Writer:
    """Writes one caption."""

    def __init__(self, said: Facts, chooser: Chooser) -> None:
        self.chooser = chooser
        self.groups: dict[str, _Group] = {}
        self.picture = ""  # adjective of the picture
        sex = said.get("Male")
        self.sex = sex if isinstance(sex, bool) else None
        age = str(said.get("age", ""))
        row = (self.sex, age) if (self.sex, age) in NOUNS else (self.sex, "")
        self.noun = NOUNS[row][chooser.pick(NOUN_TABLES[row])][0]
        self.adjectives: list[str] = []
        self.plural = self.sex is None  # of the pronoun
        self._sort({n: v for n, v in said.items() if n != "Male" and not (n == "age" and row[1])})

    def _sort(self, said: Facts) -> None:
        """Choose a way for each statement and put it where it will be said."""
        things: dict[str, tuple[str, list[str]]] = {}
        for name, value in said.items():
            ways = WAYS[name, value]
            way = ways[self.chooser.pick(WAY_TABLES[name, value])] if len(ways) > 1 else ways[0]
            group = self.groups.setdefault(GROUP_OF[name], _Group())
            if way.form == "of":
                things.setdefault(way.thing, (GROUP_OF[name], []))[1].append(way.words)
            elif way.form == "adj":
                room = len(self.adjectives) < MOST_BEFORE
                aged = name in ("age", "Young")  # "he is older" would compare
                if aged or (room and self.chooser.pick(BEFORE_NOUN) == 0):
                    self.adjectives.append(way.words)
                else:
                    group.be.append(way.words)
            elif way.form == "photo":
                self.picture = way.words
            elif way.form == "verb":
                group.verbs.append(way)
            else:
                {"be": group.be, "have": group.have, "wear": group.wear}[way.form].append(way.words)
        for key, (group_name, adjectives) in things.items():
            thing = THINGS[key]
            place = self.chooser.pick(NAME_TABLES[key]) if len(thing.names) > 1 else 0
            name, _, article = thing.names[place]
            adjectives.sort(key=RANK.__getitem__)
            if self.chooser.pick(AS_OBJECT) == 0:
                words = f"{' '.join(adjectives)} {name}"
                self.groups[group_name].have.append(with_article(words) if article else words)
            else:
                verb = "are" if thing.plural else "is"
                self.groups[group_name].own.append((name, f"{verb} {listed(adjectives)}"))

    def text(self) -> str:
        """The caption."""
        order = shuffled(self.chooser, [name for name, group in self.groups.items() if group])
        left = [self.groups[name] for name in order]
        sentences = [self._opening(left)]
        for group in left:
            sentences += self._sentences(group)
        return " ".join(f"{s[0].upper()}{s[1:]}." for s in sentences)

    def _opening(self, left: list[_Group]) -> str:
        """The first sentence; takes what it says out of the first group."""
        self.adjectives.sort(key=RANK.__getitem__)
        person = with_article(" ".join([*self.adjectives, self.noun]))
        first = left[0] if left else _Group()
        predicates = bool(first.have or first.be or first.wear or first.verbs)
        if self.picture or not predicates:
            layout = 1 + self.chooser.pick(OF_PICTURE)
        else:
            layout = self.chooser.pick(OPENINGS)
        if layout == 0:
            return f"{person} {self._predicates(first, plural=False)}"
        picture = PICTURES[self.chooser.pick(PICTURE_TABLE)][0]
        picture = f"{self.picture} {picture}" if self.picture else picture
        shown = f"this is {with_article(picture)} of {person}"
        if layout == 2:
            shown = f"the {picture} shows {person}"
        if first.have:
            shown += f" with {self._all(first.have)}"
        if first.wear:
            shown += f" wearing {self._all(first.wear)}"
        first.have, first.wear = [], []
        return shown

    def _sentences(self, group: _Group) -> Iterator[str]:
        """All that a group has left."""
        owner = PRONOUNS[self.sex][1]
        sentences = [f"{owner} {name} {rest}" for name, rest in group.own]
        if group.have or group.be or group.wear or group.verbs:
            pronoun = self.chooser.pick(PRONOUN) == 0
            who = PRONOUNS[self.sex][0] if pronoun else f"the {self.noun}"
            rest = f"{who} {self._predicates(group, plural=self.plural and pronoun)}"
            if sentences and self.chooser.pick(JOINED) == 0:
                sentences[-1] += f", and {rest}"
            else:
                sentences.append(rest)
        yield from sentences

    def _predicates(self, group: _Group, plural: bool) -> str:
        """All predicates of a group as one, and none is left."""
        parts = []
        if group.have:
            parts.append(f"{'have' if plural else 'has'} {self._all(group.have)}")
        be = list(group.be)
        wearing = ""
        if group.wear:
            wearing = self._all(group.wear)
            if self.chooser.pick(WEARING) == 0:
                parts.append(f"{'wear' if plural else 'wears'} {wearing}")
            else:
                parts.append(f"{'are' if plural else 'is'} wearing {wearing}")
        if be:
            parts.append(f"{'are' if plural else 'is'} {self._all(be)}")
        parts += [way.plural if plural else way.words for way in group.verbs]
        group.have, group.be, group.wear, group.verbs = [], [], [], []
        return clauses(shuffled(self.chooser, parts))

    def _all(self, items: list[str]) -> str:
        """The items in a random order, but for what `_place` says."""
        if len(items) > 1:
            items = shuffled(self.chooser, items)
            items.sort(key=_place)
        return listed(items)


def _place(words: str) -> int:
    """What is there, then what somebody does, then what is missing."""
    return 2 if words.startswith(("no ", "not ")) else int(words.startswith("looking "))


def with_article(words: str) -> str:
    """The words with "a" or "an"; all words of the lexicon sound as they are written."""
    return f"an {words}" if words[0] in VOWELS else f"a {words}"


def listed(items: Sequence[str]) -> str:
    """Items as in a sentence: "a", "a and b", "a, b and c"."""
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])} and {items[-1]}"


def clauses(parts: Sequence[str]) -> str:
    """Predicates as one: with commas where a part has an "and" of its own."""
    if len(parts) > 1 and any(" and " in part for part in parts):
        return f"{', '.join(parts[:-1])}, and {parts[-1]}"
    return listed(parts)
