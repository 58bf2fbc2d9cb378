"""Read a caption back: which facts it states, and which words it has that state nothing known.

Every content word of the grammar belongs to a statement; all others are function words from a short
list. So a caption whose words are all used up says the facts that were found, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from annotate.grammar.facts import Facts, Statement, Value
from annotate.grammar.lexicon import NOUNS, PICTURES, THINGS, WAYS

TOKENS = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*|[^\sa-z0-9]")
APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
PERSON, PICTURE = "person", "picture"
COPULAS = frozenset(("is", "are"))
VERBS = frozenset(("has", "have", "wears", "wear", "wearing", "with", "shows"))
FUNCTION = frozenset(("a", "an", "the", "of", "and", ",", "."))
# Words that a rewriter may add without saying anything of the face.
HARMLESS = frozenset(
    (
        *("who", "that", "which", "in", "it", "also", "while", "as", "well", "both", "there"),
        *("can", "be", "seen", "features", "depicts", "displays", "along", "appears", "to"),
        *("image", ";"),
    )
)
SEXES = {"he": True, "his": True, "him": True, "she": False, "her": False, "hers": False}
NOBODY = frozenset(("they", "their", "them"))


@dataclass
class Reading:
    """What a caption says.

    Attributes:
        facts: the statements, in order.
        problems: words without a statement, statements that contradict, and the like; empty for a
            caption that is understood completely.
    """

    facts: Facts = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Parser:
    """Reads captions of the lexicon.

    Args:
        harmless: further words to pass over; `HARMLESS` is for texts that a model rewrote.
    """

    def __init__(self, harmless: frozenset[str] = frozenset()) -> None:
        self._passed = FUNCTION | harmless
        self._phrases: dict[str, list[tuple[tuple[str, ...], Statement | str]]] = {}
        self._of: dict[str, dict[str, Statement]] = {}
        self._things = {name: key for key, thing in THINGS.items() for name, _, _ in thing.names}
        self._things |= {name: PICTURE for name, _ in PICTURES}
        for statement, ways in WAYS.items():
            for way in ways:
                if way.form in ("of", "adj", "photo"):
                    thing = {"of": way.thing, "adj": PERSON, "photo": PICTURE}[way.form]
                    self._of.setdefault(way.words, {})[thing] = statement
                else:
                    self._phrase(way.words, statement)
                    if way.plural:
                        self._phrase(way.plural, statement)
        self._nouns: dict[str, tuple[bool | None, str]] = {}
        for row, nouns in NOUNS.items():
            for noun, _ in nouns:
                self._nouns[noun] = row
                self._phrase(noun, noun)
        for entries in self._phrases.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def _phrase(self, words: str, meaning: Statement | str) -> None:
        tokens = tuple(TOKENS.findall(words))
        self._phrases.setdefault(tokens[0], []).append((tokens, meaning))

    def read(self, text: str) -> Reading:
        """The facts that a caption states."""
        tokens = TOKENS.findall(text.lower().replace(APOSTROPHE, "'"))
        state = _State()
        place = 0
        while place < len(tokens):
            place += self._step(tokens, place, state)
        state.end()
        return state.reading

    def _step(self, tokens: list[str], place: int, state: _State) -> int:
        """Use the token at a place and maybe some after it; how many."""
        token = tokens[place]
        for words, meaning in self._phrases.get(token, ()):
            if len(words) == 1 or tuple(tokens[place : place + len(words)]) == words:
                if isinstance(meaning, str):
                    state.person(*self._nouns[meaning])
                else:
                    state.say(meaning)
                    state.last = ""
                return len(words)
        if token in self._of:
            state.adjective(token, self._of[token])
        elif token in self._things:
            state.thing(self._things[token], token)
        elif token == "this":
            state.last = PICTURE
        elif token in COPULAS:
            state.copula()
        elif token in VERBS:
            state.verb()
        elif token in SEXES:
            state.sex(SEXES[token])
        elif token == ".":
            state.end()
        elif token in ("and", ","):
            state.next()
        elif token not in self._passed and token not in NOBODY:
            state.reading.problems.append(f"{token!r} says nothing that is known")
        return 1


class _State:
    """Where the parser is in a sentence."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.waiting: list[tuple[str, Mapping[str, Statement]]] = []  # adjectives before a noun
        self.target = ""  # what adjectives after "is" describe
        self.last = ""  # the thing that was just named

    def say(self, statement: Statement) -> None:
        name, value = statement
        known = self.reading.facts.setdefault(name, value)
        if known != value:
            self.reading.problems.append(f"{name} is said to be {known} and {value}")

    def sex(self, male: bool) -> None:
        self.say(("Male", male))
        self.target = self.last = ""

    def person(self, male: bool | None, age: str) -> None:
        self._resolve(PERSON)
        if male is not None:
            self.say(("Male", male))
        if age:
            self.say(("age", age))
        self.target, self.last = "", PERSON

    def adjective(self, word: str, meanings: Mapping[str, Statement]) -> None:
        if self.target:
            self._describe(self.target, word, meanings)
        else:
            self.waiting.append((word, meanings))
        self.last = ""

    def thing(self, key: str, word: str) -> None:
        described = bool(self.waiting)
        self._resolve(key)
        self.target, self.last = "", key
        if not described and key != PICTURE:
            self.last = f"{key}?"  # it must be described after "is"

    def copula(self) -> None:
        self._resolve("")
        self.target = self.last.rstrip("?") or PERSON
        if self.target == PICTURE:
            self.target = ""  # "this is a photo", "the photo is": nothing is described so far
        self.last = ""

    def next(self) -> None:
        if not self.last.endswith("?"):
            self.last = ""  # what comes now does not describe it

    def verb(self) -> None:
        self._resolve("")
        self._named_only()
        self.target = self.last = ""

    def end(self) -> None:
        self._resolve("")
        self._named_only()
        self.target = self.last = ""

    def _named_only(self) -> None:
        if self.last.endswith("?"):
            self.reading.problems.append(f"{self.last[:-1]!r} is named and not described")

    def _resolve(self, key: str) -> None:
        """Adjectives that waited for a noun describe it."""
        for word, meanings in self.waiting:
            self._describe(key, word, meanings)
        self.waiting = []

    def _describe(self, key: str, word: str, meanings: Mapping[str, Statement]) -> None:
        statement = meanings.get(key)
        if statement is None:
            self.reading.problems.append(f"{word!r} describes {key or 'nothing'}")
        else:
            self.say(statement)


def differences(said: Mapping[str, Value], read: Reading) -> list[str]:
    """What is wrong with a caption: facts it lost, facts it added, words nobody knows."""
    found = list(read.problems)
    for name, value in said.items():
        if read.facts.get(name) != value:
            found.append(f"{name} {value} is missing")
    found += [f"{n} {v} is added" for n, v in read.facts.items() if said.get(n) != v]
    return found
