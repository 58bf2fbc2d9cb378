"""docs/format.md names everything that stages write, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sfhq import stages
from sfhq.parts.records import COLUMNS

PAGE = (Path(__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")


def rows(mark: str) -> list[list[str]]:
    """Cells of each row of the table between two marks, without its head."""
    table = re.search(rf"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", PAGE, re.S)
    assert table, f"docs/format.md has no table {mark}"
    lines = [line for line in table[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named(mark: str, kind: str = "") -> dict[str, set[str]]:
    """Stage -> names in the second cell of its rows, of those that begin with `kind`."""
    found: dict[str, set[str]] = {}
    for who, what, *_ in rows(mark):
        if what.startswith(kind):
            for stage in CODE.findall(who):
                found.setdefault(stage, set()).update(CODE.findall(what))
    return found


def declared(attribute: str) -> dict[str, set[str]]:
    """Stage -> what its class declares, of stages that declare any."""
    found = {n: set(getattr(stages.load_stage(n), attribute)) for n in stages.names()}
    return {name: names for name, names in found.items() if names}


def test_the_page_names_the_columns_of_every_stage() -> None:
    assert named("columns") == declared("columns")


@pytest.mark.parametrize(("kind", "attribute"), [("array", "arrays"), ("images", "images")])
def test_the_page_names_what_every_stage_writes(kind: str, attribute: str) -> None:
    assert named("files", kind) == declared(attribute)


def test_the_page_gives_the_type_of_every_column() -> None:
    """A type stands behind the names that have it: "`a`, `b` number; `c` text"."""
    said: dict[str, Any] = {}
    for _, what, *_ in rows("columns"):
        for group in what.split(";"):
            said |= dict.fromkeys(CODE.findall(group), group.split()[-1])
    wanted = {k: v for n in stages.names() for k, v in stages.load_stage(n).columns.items()}
    assert said == wanted


def test_the_page_names_the_columns_of_whole_records() -> None:
    said = [name for what, *_ in rows("record") for name in CODE.findall(what)]
    assert said == list(COLUMNS)
