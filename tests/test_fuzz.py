"""Files that people edit, as hypothesis writes them: an error of one line, or a result."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import embedded_part, unit

from sfhq.errors import SfhqError
from sfhq.parts.part import Part
from sfhq.parts.source import Source
from sfhq.pipeline.counts import funnel
from sfhq.pipeline.recipe import load_recipe, read_recipe_values

# The same examples in every run; no files beside the tests. SFHQ_EXAMPLES asks for more.
thorough = settings(
    max_examples=int(os.environ.get("SFHQ_EXAMPLES", "400")),
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TABLES = ("ingest", "align", "synthesize", "dedup", "models", "export", "sample", "render", "embed")
KEYS = ("seed", "size", "faces", "candidates", "keep", "threshold", "published", "way", "quality")
scalar = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([2**64, -(2**64), 1e999, "nan", "best", "strict"])
)
anything = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


def harmless(work: Callable[[], object]) -> None:
    """It works, or says in one line why not."""
    try:
        work()
    except SfhqError as error:
        assert str(error) and error.exit_code in (1, 2, 4)


@thorough
@given(
    st.dictionaries(
        st.sampled_from([*TABLES, *KEYS]) | st.text(max_size=6),
        st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), anything, max_size=3)
        | anything,
        max_size=3,
    )
)
def test_values_of_recipes(values: dict[str, Any]) -> None:
    harmless(lambda: read_recipe_values(values, "recipe.toml"))


piece = st.sampled_from(
    [
        *(f"[{t}]\n" for t in TABLES),
        *(f"{k} = " for k in KEYS),
        *("[" * 2000, "{a=" * 500, "a." * 2000, '"""', "'", "#", "\n", "=", "1e400", "inf", "nan"),
        *("1979-05-27T07:32:00Z\n", "0x", "9" * 5000, "true\n", "[1]\n", '"x"\n', "\ufeff", "\0"),
    ]
)


@thorough
@given(st.lists(piece | st.text(max_size=6), max_size=6))
def test_texts_of_recipes(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_bytes("".join(pieces).encode("utf-8", "surrogatepass"))
    harmless(lambda: load_recipe(path))


@thorough
@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace")))
def test_lists_of_files(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "list.txt"
    path.write_bytes(data)

    def work() -> None:
        with Source(path) as source:
            for name in source.names():
                source.read(name)

    harmless(work)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Part:
    root = tmp_path_factory.mktemp("fuzz") / "part"
    return embedded_part(root, unit(np.eye(4)), score=[0.1, 0.2, 0.3, 0.4])


def read_everything(root: Path) -> None:
    """What `show`, `table` and readers in Python go through."""
    part = Part.open(root)
    part.ended()
    funnel(part)
    list(part.faces(rejected=True))
    part.table()


FILES = ("part.json", "records/synthesize.json", "records/embed.json", "records/score.json")


@thorough
@given(st.sampled_from(FILES), st.binary(max_size=40))
def test_bytes_of_descriptions(part: Part, name: str, data: bytes) -> None:
    path = part.root / name
    kept = path.read_bytes()
    try:
        path.write_bytes(data)
        harmless(lambda: read_everything(part.root))
    finally:
        path.write_bytes(kept)


@thorough
@given(st.sampled_from(FILES), st.data())
def test_values_of_descriptions(part: Part, name: str, data: st.DataObject) -> None:
    """One value of a sound description is another."""
    path = part.root / name
    kept = path.read_bytes()
    values = json.loads(kept)
    table = values
    while isinstance(table, dict) and table:
        key = data.draw(st.sampled_from(sorted(table)))
        if isinstance(table[key], dict) and table[key] and data.draw(st.booleans()):
            table = table[key]
            continue
        if data.draw(st.booleans()):
            table[key] = data.draw(anything)
        else:
            del table[key]
        break
    try:
        path.write_text(json.dumps(values))
        harmless(lambda: read_everything(part.root))
    finally:
        path.write_bytes(kept)


def test_the_part_is_sound_before_it_is_damaged(part: Part, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(part.root, tmp_path / "part"))
    read_everything(copy)
