"""The JSON files of a part, checked: `part.json`, and `records/<stage>.json` of each stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfhq.parts.files import read_file

Problem = (ValueError, KeyError, TypeError, RecursionError, OverflowError, OSError)


def read_table(path: Path) -> dict[str, Any]:
    """The table in a JSON file.

    Raises:
        OSError, ValueError, RecursionError: no regular file, no JSON, or no table.
    """
    found = json.loads(read_file(path))
    if not isinstance(found, dict):
        raise ValueError("wanted a table")
    return found


def read_part(path: Path) -> dict[str, Any]:
    """What `part.json` says: "format", "name" and, where it is known, "ended".

    Raises:
        OSError, ValueError, KeyError, RecursionError: missing or damaged.
    """
    info = read_table(path)
    found: dict[str, Any] = {
        "format": _typed(info["format"], int),
        "name": _typed(info["name"], str),
    }
    if "ended" in info:
        found["ended"] = [_typed(name, str) for name in _typed(info["ended"], list)]
    return found


def check_stage(info: Mapping[str, Any]) -> None:
    """Refuse a description of a stage that others could not work with.

    Raises:
        ValueError, KeyError: something is missing, or of another type.
    """
    _typed(info["settings"], dict), _typed(info["complete"], bool), _typed(info["kind"], str)
    for mark in _typed(info["inputs"], dict).values():
        _typed(mark, str)
    for name in _typed(info["writes"], list):
        _typed(name, str)
    if not info["complete"]:
        return
    counts = _typed(info["counts"], dict)
    numbers = [info["shards"], info.get("rows", 0), counts["entered"], counts["alive"]]
    for number in (*numbers, *_typed(counts["rejected"], dict).values()):
        if _typed(number, int) < 0:
            raise ValueError(f"{number}; wanted 0 or more")


def _typed(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r:.40}; wanted {kind.__name__}")
    return value
