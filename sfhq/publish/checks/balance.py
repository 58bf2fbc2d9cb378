"""Who the photos show: counts with intervals, small cells, and shares that were aimed at."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfhq.errors import UsageError
from sfhq.parts.records import FaceRecord, Json
from sfhq.parts.table import query
from sfhq.publish.checks.context import Context
from sfhq.publish.checks.result import Result, share, wilson

FEW = 30  # photos in a cell below which nothing can be said of it
AGES = ((0, "0-12"), (13, "13-19"), (20, "20-34"), (35, "35-54"), (55, "55-69"), (70, "70+"))
SEEN = 20  # degrees of yaw from which a head is turned
AT_CAMERA = 8.0  # degrees


def _age(about: Mapping[str, Any]) -> str:
    years = about.get("years")
    if years is None:
        return ""
    return [name for least, name in AGES if years >= least or least == 0][-1]


def _sex(about: Mapping[str, Any]) -> str:
    male = about.get("male")
    return "" if male is None else "looks male" if male >= 0.5 else "looks female"


def _yaw(about: Mapping[str, Any]) -> str:
    yaw = about.get("yaw")
    if yaw is None:
        return ""
    return "to the left" if yaw > SEEN else "to the right" if yaw < -SEEN else "frontal"


def _gaze(about: Mapping[str, Any]) -> str:
    yaw, pitch = about.get("gaze_yaw"), about.get("gaze_pitch")
    if yaw is None or pitch is None:
        return ""
    head, up = about.get("yaw") or 0.0, about.get("pitch") or 0.0
    away = ((head + yaw) ** 2 + (up + pitch) ** 2) ** 0.5
    return "at the camera" if away <= AT_CAMERA else "elsewhere"


def _column(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda about: str(about.get(name) or "")


GROUPS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "sex": _sex,
    "age": _age,
    "skin tone": _column("skin_tone"),
    "hair colour": _column("hair_colour"),
    "hair length": _column("hair_length"),
    "glasses": _column("glasses"),
    "hat": _column("hat"),
    "facial hair": _column("facial_hair"),
    "head": _yaw,
    "gaze": _gaze,
}
CROSSED = ("sex", "age", "skin tone")


def counts(records: list[FaceRecord]) -> dict[str, dict[str, dict[str, float | int]]]:
    """Group -> word -> count, share and its 95 % interval; ages in order, else the frequent first.

    Args:
        records: with the columns of `attribute`.
    """
    found = {}
    for name, word in GROUPS.items():
        words = [word(r.about) for r in records]
        known = Counter(w for w in words if w)
        if known:
            total = sum(known.values())
            rows = known.most_common()
            if name == "age":  # ages have an order of their own
                rows = [(word, known[word]) for _, word in AGES if word in known]
            found[name] = {w: share(n, total) for w, n in rows}
    return found


def small_cells(records: list[FaceRecord]) -> tuple[int, list[list[Json]]]:
    """Number of cells of sex, age and skin tone; and those with fewer than `FEW` photos."""
    cells = Counter(tuple(GROUPS[name](r.about) for name in CROSSED) for r in records)
    kinds = [sorted({cell[i] for cell in cells if cell[i]}) for i in range(len(CROSSED))]
    every = [(a, b, c) for a in kinds[0] for b in kinds[1] for c in kinds[2]]
    few = sorted((cells.get(cell, 0), cell) for cell in every if cells.get(cell, 0) < FEW)
    return len(every), [[*cell, count] for count, cell in few]


def balance(context: Context, result: Result) -> None:
    """How many photos look how, with 95 % intervals; cells too small to say anything of."""
    found = counts(context.alive)
    total, few = small_cells(context.alive)
    result.tell(
        {"photos": len(context.alive), "groups": found, "cells": total, "small_cells": few},
        f"{len(few)} of {total} cells of sex, age and skin tone have fewer than {FEW} photos",
    )


def targets(context: Context, result: Result) -> None:
    """Shares that were aimed at are reached."""
    path = context.options.targets
    if path is None:
        return result.skip("no targets; give --targets FILE")
    total = len(context.alive)
    rows = []
    for name, where, least, most in read_targets(path):
        hits = query(context.part, "count(*) AS n", f"alive AND ({where})").column("n")[0].as_py()
        low, high = wilson(hits, total)
        rows.append(
            {"name": name, "where": where, "least": least, "most": most, **share(hits, total)}
        )
        said = f"{hits} of {total} photos, {100 * hits / max(total, 1):.1f} %"
        if least is not None and hits < least * total:
            doubt = "; the difference may be chance" if high >= least else ""
            result.add(name, f"{said}; wanted at least {100 * least:g} %{doubt}")
        if most is not None and hits > most * total:
            doubt = "; the difference may be chance" if low <= most else ""
            result.add(name, f"{said}; wanted at most {100 * most:g} %{doubt}")
    result.tell({"targets": rows})
    return None


def read_targets(path: Path) -> list[tuple[str, str, float | None, float | None]]:
    """Name, SQL condition, least and largest share of each `[[target]]` in a TOML file.

    Raises:
        UsageError: it cannot be read, or a target says nothing that can be checked.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: cannot read targets: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    rows = values.get("target")
    if not isinstance(rows, list) or not rows or {*values} - {"target"}:
        raise UsageError(
            f'{path}: wanted tables [[target]] with where = "years >= 70", least = 0.2'
        )
    found = []
    for row in rows:
        unknown = (
            sorted({*row} - {"name", "where", "least", "most"}) if isinstance(row, dict) else []
        )
        if not isinstance(row, dict) or unknown or not isinstance(row.get("where"), str):
            raise UsageError(
                f"{path}: target {row!r:.60}: wanted where, and least or most"
                + (f"; unknown: {', '.join(unknown)}" if unknown else "")
            )
        limits = [row.get(key) for key in ("least", "most")]
        good = [v is None or (type(v) in (int, float) and 0 <= v <= 1) for v in limits]
        if not all(good) or limits == [None, None]:
            raise UsageError(f"{path}: target {row['where']!r}: wanted least or most, 0 to 1")
        found.append((str(row.get("name") or row["where"]), row["where"], *limits))
    return found
