"""What a person types into the search box: words, words to avoid, and conditions on columns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curation.explore.facets import NUMBERS, Facet
from sfhq.errors import UsageError

TOKEN = re.compile(r'(-?)(?:([A-Za-z_]\w*):)?("[^"]*"?|\S+)')
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
RANGE = re.compile(rf"({NUMBER})(?:\.\.|-)({NUMBER})")
BOUND = re.compile(rf"(>=|<=|>|<|=)?({NUMBER})")
MOST_LETTERS = 500


@dataclass(frozen=True)
class Condition:
    """A column and what it is to hold.

    Attributes:
        column: its name.
        values: of a category or tags, any of them.
        low, high: of a number; None for no bound.
        strict: whether the bounds themselves are left out.
        text: part of a text.
        negated: wanted is the opposite.
    """

    column: str
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    strict: bool = False
    text: str = ""
    negated: bool = False


@dataclass(frozen=True)
class Words:
    """A search.

    Attributes:
        wanted: words and phrases, in order.
        avoided: the same behind a "-".
        conditions: `column:value`.
    """

    wanted: tuple[str, ...] = ()
    avoided: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()


def read_words(text: str, facets: Mapping[str, Facet], types: Mapping[str, str]) -> Words:
    """Take a search apart.

    `blond woman -glasses -"round face" hair_colour:black years:>60 yaw:-10..10 -hat:none`

    Args:
        text: as typed.
        facets: of the columns.
        types: SQL type by column.

    Raises:
        UsageError: too long, no such column, or a value that it cannot have.
    """
    if len(text) > MOST_LETTERS:
        raise UsageError(f"search: {len(text)} letters; wanted {MOST_LETTERS} at most")
    wanted, avoided, conditions = [], [], []
    for minus, column, value in TOKEN.findall(text):
        value = value.strip('"').strip()
        if not value:
            continue
        if column:
            conditions.append(_condition(column, value, bool(minus), facets, types))
        elif minus:
            avoided.append(value)
        else:
            wanted.append(value)
    return Words(tuple(wanted), tuple(avoided), tuple(conditions))


def _condition(
    column: str,
    value: str,
    negated: bool,
    facets: Mapping[str, Facet],
    types: Mapping[str, str],
) -> Condition:
    if column not in types:
        near = difflib.get_close_matches(column, types, 3, 0.5) or sorted(facets)[:8]
        raise UsageError(
            f"search: no column {column!r}; did you mean: {', '.join(near)}? Put words that hold "
            'a colon into quotes: "a:b"'
        )
    facet = facets.get(column)
    if facet is not None and facet.kind != "number":
        return Condition(column, _values(column, value, facet.values), negated=negated)
    if types[column] in NUMBERS:
        return _numbers(column, value, negated)
    return Condition(column, text=value, negated=negated)


def _values(column: str, value: str, known: Sequence[str]) -> tuple[str, ...]:
    """The values that are meant: the same but for case, else those that hold the text."""
    low = value.lower()
    found = [v for v in known if v.lower() == low] or [v for v in known if low in v.lower()]
    if not found:
        raise UsageError(
            f"search: {column} is never {value!r}; it is one of: {', '.join(known[:12])}"
        )
    return tuple(found)


def _numbers(column: str, value: str, negated: bool) -> Condition:
    between, bound = RANGE.fullmatch(value), BOUND.fullmatch(value)
    if between is not None:
        low, high = float(between[1]), float(between[2])
        return Condition(column, low=min(low, high), high=max(low, high), negated=negated)
    if bound is None:
        raise UsageError(
            f"search: {column} is a number, {value!r} is none; wanted such as {column}:>30 or "
            f"{column}:20..30"
        )
    sign, number = bound[1] or "=", float(bound[2])
    low_side = None if sign.startswith("<") else number
    high_side = None if sign.startswith(">") else number
    return Condition(column, (), low_side, high_side, sign in "<>", negated=negated)
