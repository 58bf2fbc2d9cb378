"""A view: what is looked for, as the page and its address name it; and which faces it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from sfhq.errors import UsageError
from sfhq.parts.records import Json

MOST_LETTERS, MOST_POINTS, MOST_PICKED, MOST_CHOSEN = 2000, 400, 20_000, 200
NAMES = ("q", "f", "r", "where", "like", "image", "lasso", "picked", "sort", "down", "seed")


@dataclass(frozen=True)
class Lasso:
    """A polygon in a map.

    Attributes:
        x, y: columns of the map; both "" for the map of the embeddings.
        points: corners in units of the map, 0 to 1.
    """

    x: str
    y: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class View:
    """What is looked for. All of it must hold.

    Attributes:
        q: what was typed, see `read_words`.
        f: column -> values, any of them.
        r: column -> smallest and largest number.
        where: an SQL condition.
        like: a face, (part, face id); the nearest come first.
        image: key of an uploaded picture; the nearest come first.
        lasso: a polygon in a map.
        picked: numbers of faces; empty for all.
        sort: a column of numbers or texts; "" for the best first, else the parts' order; "random".
        down: the largest first.
        seed: of the random order.
    """

    q: str = ""
    f: tuple[tuple[str, tuple[str, ...]], ...] = ()
    r: tuple[tuple[str, float, float], ...] = ()
    where: str = ""
    like: tuple[str, str] | None = None
    image: str = ""
    lasso: Lasso | None = None
    picked: tuple[int, ...] = field(default=(), repr=False)
    sort: str = ""
    down: bool = True
    seed: int = 0


def read_view(told: Json) -> View:
    """A view of a JSON object; every key may be missing.

    Raises:
        UsageError: an unknown key, or a value of another kind.
    """
    if not isinstance(told, dict):
        raise UsageError("view: wanted a JSON object")
    unknown = sorted({*told} - {*NAMES})
    if unknown:
        raise UsageError(f"view: {unknown[0][:40]!r} is unknown; wanted: {', '.join(NAMES)}")
    seed = told.get("seed", 0)
    if not _whole(seed) or not 0 <= seed < 2**32:
        raise UsageError("view: seed: wanted a whole number from 0")
    return View(
        _text(told, "q"),
        tuple(sorted(_values(told.get("f", {})))),
        tuple(sorted(_ranges(told.get("r", {})))),
        _text(told, "where").strip(),
        _like(told.get("like")),
        _text(told, "image"),
        _lasso(told.get("lasso")),
        _picked(told.get("picked", [])),
        _text(told, "sort"),
        bool(told.get("down", True)),
        seed,
    )


def _whole(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Json) -> bool:
    """A number that single steps to a float keep: whole ones of any length are no such."""
    if _whole(value):
        return -(2**53) <= int(value) <= 2**53
    return isinstance(value, float) and math.isfinite(value)


def _plain(value: Json) -> bool:
    """A text without halves of surrogates, which no database and no file takes."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _text(told: dict[str, Any], name: str) -> str:
    value: Json = told.get(name, "")
    if not isinstance(value, str) or not _plain(value) or len(value) > MOST_LETTERS:
        raise UsageError(f"view: {name}: wanted a text of up to {MOST_LETTERS} letters")
    return value


def _table(value: Json, name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > 100 or not all(map(_plain, value)):
        raise UsageError(f"view: {name}: wanted an object of columns")
    return value


def _values(value: Json) -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for column, values in _table(value, "f").items():
        if not isinstance(values, list) or not all(map(_plain, values)):
            raise UsageError(f"view: f: {column[:40]!r}: wanted a list of texts")
        if len(values) > MOST_CHOSEN:
            raise UsageError(f"view: f: {column[:40]!r}: wanted {MOST_CHOSEN} values at most")
        found.append((column, tuple(values)))
    return found


def _ranges(value: Json) -> list[tuple[str, float, float]]:
    found = []
    for column, pair in _table(value, "r").items():
        if not isinstance(pair, list) or len(pair) != 2 or not all(_finite(v) for v in pair):
            raise UsageError(f"view: r: {column[:40]!r}: wanted two numbers")
        found.append((column, float(pair[0]), float(pair[1])))
    return found


def _like(value: Json) -> tuple[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(map(_plain, value)):
        raise UsageError("view: like: wanted a part's name and a face id")
    return value[0], value[1]


def _lasso(value: Json) -> Lasso | None:
    if value is None:
        return None
    points = value.get("points") if isinstance(value, dict) else None
    if (
        not isinstance(points, list)
        or not 3 <= len(points) <= MOST_POINTS
        or not all(isinstance(p, list) and len(p) == 2 for p in points)
        or not all(_finite(v) for p in points for v in p)
    ):
        raise UsageError(f"view: lasso: wanted 3 to {MOST_POINTS} points of two numbers")
    axes = value.get("x", ""), value.get("y", "")
    if not all(map(_plain, axes)):
        raise UsageError("view: lasso: x and y: wanted names of columns")
    return Lasso(*axes, tuple((float(x), float(y)) for x, y in points))


def _picked(value: Json) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MOST_PICKED or not all(map(_whole, value)):
        raise UsageError(f"view: picked: wanted up to {MOST_PICKED} numbers of faces")
    return tuple(value)
