"""What each column can be filtered by, and how many faces have each value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curation.explore.collection import Collection
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Json

MOST_VALUES, MOST_TAGS, BINS = 60, 200, 40
CHUNK = 2**17  # faces whose tags are read at a time
EMPTY = "(none)"
PROSE = ("face_id", "parent_id", "source", "source_sha256", "caption", "detail", "params")
HIDDEN = ("i", "shard", "seed")
NUMBERS = ("DOUBLE", "FLOAT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "UBIGINT")


@dataclass(frozen=True)
class Facet:
    """One column.

    Attributes:
        name: of the column.
        kind: "category", one value of few; "tags", several values of few; "number".
        values: of categories and tags.
        low, high: smallest and largest number.
        faces: N, how many faces there are.
        codes: (N,) uint8, of a category the place of its value; of a number the bin, `BINS` where
            it is missing; of tags (T, N / 8) flags, eight faces a byte as `np.packbits` puts them.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    faces: int = 0
    codes: Array = field(default_factory=lambda: np.zeros(0, np.uint8), repr=False, compare=False)

    def counts(self, mask: Array) -> list[int]:
        """Faces of a selection by value, or by bin.

        Args:
            mask: (N,) which faces.
        """
        if self.kind == "tags":
            found = np.bitwise_count(self.codes & np.packbits(mask)).sum(axis=1, dtype=np.int64)
        elif self.kind == "number":
            found = np.bincount(self.codes[mask], minlength=BINS + 1)[:BINS]
        else:
            found = np.bincount(self.codes[mask], minlength=len(self.values))
        return [int(n) for n in found]

    def told(self) -> dict[str, Json]:
        """As JSON for the page."""
        return {
            "name": self.name,
            "kind": self.kind,
            "values": list(self.values),
            "low": self.low,
            "high": self.high,
        }

    def chosen(self, values: list[str]) -> Array:
        """(N,) which faces have one of these values, of a category or tags.

        Raises:
            UsageError: the column never has one of them.
        """
        for value in values:
            if value not in self.values:
                raise UsageError(
                    f"filter: {self.name} is never {value[:80]!r}; it is one of: "
                    f"{', '.join(self.values[:12])}"
                )
        places = [self.values.index(v) for v in values]
        if self.kind == "tags":
            packed = np.bitwise_or.reduce(self.codes[places], axis=0)
            return np.unpackbits(packed, count=self.faces).view(np.bool_)
        return np.asarray(np.isin(self.codes, places))

    def holding(self, place: int) -> Array:
        """(N,) which faces have the value of a place, of a category or tags."""
        if self.kind == "tags":
            return np.unpackbits(self.codes[place], count=self.faces).view(np.bool_)
        return np.asarray(self.codes == place)


def facets_of(faces: Collection) -> dict[str, Facet]:
    """The useful columns of a collection by name: those that tell faces apart."""
    found: dict[str, Facet] = {}
    for name, kind in faces.types.items():
        if name in HIDDEN or name in PROSE:
            continue
        facet: Facet | None = None
        if kind in NUMBERS:
            facet = _number(faces, name)
        elif kind == "BOOLEAN":
            facet = _category(faces, name, f"CASE WHEN {quoted(name)} THEN 'true' ELSE 'false' END")
        elif kind == "VARCHAR":
            facet = _category(faces, name, quoted(name)) or _tags(faces, name)
        if facet is not None:
            found[name] = facet
    return found


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def finite(name: str) -> str:
    """A column of numbers in SQL; what is not finite counts as missing."""
    number = f"{quoted(name)}::DOUBLE"
    return f"(CASE WHEN isfinite({number}) THEN {number} END)"


def _category(faces: Collection, name: str, sql: str) -> Facet | None:
    """A column of few values, the most frequent first; None for one value or too many."""
    text = f"coalesce(nullif({sql}, ''), '{EMPTY}')"
    rows = faces.rows(
        f"SELECT {text} AS v, count(*) FROM faces GROUP BY v ORDER BY 2 DESC, 1 "
        f"LIMIT {MOST_VALUES + 1}"
    )
    if not 1 < len(rows) <= MOST_VALUES:
        return None
    values = tuple(str(v) for v, _ in rows)
    if any(", " in v for v in values):  # a list of tags in one text
        return None
    codes = faces.column(
        f"SELECT (list_position(?, {text}) - 1)::UTINYINT FROM faces ORDER BY i", [list(values)]
    )
    return Facet(name, "category", values, faces=faces.count, codes=codes.astype(np.uint8))


def _tags(faces: Collection, name: str) -> Facet | None:
    """A column of lists such as "Smiling, Young"; None where it holds something else."""
    split = f"string_split({quoted(name)}, ', ')"
    rows = faces.rows(
        f"SELECT t, count(DISTINCT i) FROM (SELECT i, unnest({split}) AS t FROM faces) "
        f"WHERE t <> '' GROUP BY t ORDER BY 2 DESC, 1 LIMIT {MOST_TAGS + 1}"
    )
    if not 1 < len(rows) <= MOST_TAGS:
        return None
    values = tuple(str(v) for v, _ in rows)
    codes = np.zeros((len(values), (faces.count + 7) // 8), np.uint8)
    for first in range(0, faces.count, CHUNK):  # a multiple of 8
        flags = np.zeros((len(values), min(CHUNK, faces.count - first)), np.bool_)
        pairs = faces.cursor().execute(
            "SELECT i - ? AS face, list_position(?, t) - 1 AS place FROM "
            f"(SELECT i, unnest({split}) AS t FROM faces WHERE i >= ? AND i < ?) WHERE t <> ''",
            [first, list(values), first, first + CHUNK],
        )
        found = pairs.fetchnumpy()
        flags[np.ma.filled(found["place"]), np.ma.filled(found["face"])] = True
        packed = np.packbits(flags, axis=1)
        codes[:, first // 8 : first // 8 + packed.shape[1]] = packed
    return Facet(name, "tags", values, faces=faces.count, codes=codes)


def _number(faces: Collection, name: str) -> Facet | None:
    """A column of numbers that differ; numbers that are not finite count as missing."""
    column = finite(name)
    low, high = faces.rows(f"SELECT min({column}), max({column}) FROM faces")[0]
    if low is None or low == high:
        return None
    step = (high - low) / BINS
    if not 0 < step < np.inf:  # numbers at the ends of what a double holds
        return None
    codes = faces.column(
        f"SELECT (CASE WHEN {column} IS NULL THEN {BINS} "  # `least` would pass over it
        f"ELSE least(floor(({column} - ?) / ?), {BINS - 1}) END)::UTINYINT FROM faces ORDER BY i",
        [low, step],
    )
    codes = codes.astype(np.uint8)
    return Facet(name, "number", (), float(low), float(high), faces.count, codes)


def told(facet: Facet, mask: Array) -> dict[str, Any]:
    """A facet and its counts in a selection, as JSON."""
    return {**facet.told(), "counts": facet.counts(mask)}
