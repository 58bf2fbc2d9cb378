"""Files of labels that are anything: every one is imported, or refused in one line."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.labels.exchange import import_labels
from curation.labels.store import LabelStore
from sfhq.errors import SfhqError

FACES = {"f0": "a" * 64, "f1": "b" * 64}
SOURCES = {"f0": "a/1.jpg", "f1": "b/1.jpg"}
# For each of four kinds of files; SFHQ_EXAMPLES asks for more of all together.
EXAMPLES = int(os.environ.get("SFHQ_EXAMPLES", "400")) // 4
HEADINGS: tuple[str, ...] = (
    "face_id",
    "image_hash",
    "file",
    "label",
    "action",
    "annotator",
    "session",
    "client_id",
)
HEADINGS += ("at", "score", "model", "reason", "reaction_ms", "number", "undoes", "", "Label")

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
words = st.sampled_from(
    [
        *(
            "keep",
            "reject",
            "flag",
            "skip",
            "undo",
            "1",
            "0",
            "f0",
            "f1",
            "a" * 64,
            "1.jpg",
            "a/1.jpg",
        ),
        *(
            "2024-05-06",
            "2024-05-06T07:08:09Z",
            "nan",
            "inf",
            "-1",
            "1e400",
            "0,5",
            "",
            " ",
            "\x00",
        ),
        *("9" * 5000, '"', "'", ";", "\ufeff", "\ud800", "\n"),
    ]
)
texts = st.one_of(words, st.text(max_size=12))
plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts, st.integers(10**300, 10**301)
)
nested = st.one_of(plain, st.lists(plain, max_size=2), st.dictionaries(texts, plain, max_size=2))
rows = st.lists(st.dictionaries(st.sampled_from(HEADINGS), nested, max_size=6), max_size=4)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[LabelStore, Path]]:
    """In memory where there is some: a durable store would wait for the disk each time."""
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        LabelStore(Path(folder) / "labels.sqlite") as store,
    ):
        yield store, Path(folder)


def reads(place: tuple[LabelStore, Path], name: str, data: bytes) -> None:
    """Import a file; an error must be ours and of one line, and stores nothing."""
    store, folder = place
    (folder / name).write_bytes(data)
    before = len(store.events())
    try:
        done = import_labels(store, folder / name, FACES, "ann", SOURCES)
    except SfhqError as error:
        assert "\n" not in str(error)
        assert len(store.events()) == before
    else:
        assert len(store.events()) == before + done.new
        again = import_labels(store, folder / name, FACES, "ann", SOURCES)
        assert (again.new, again.unmatched) == (0, done.unmatched)


@fuzz
@given(
    st.lists(st.lists(texts, max_size=6), max_size=5),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    st.lists(st.sampled_from(HEADINGS), max_size=6),
)
def test_csv(
    place: tuple[LabelStore, Path],
    cells: list[list[str]],
    delimiter: str,
    encoding: str,
    headings: list[str],
) -> None:
    lines = [delimiter.join(headings), *(delimiter.join(row) for row in cells)]
    reads(place, "a.csv", "\n".join(lines).encode(encoding, "replace"))


@fuzz
@given(rows, st.booleans(), st.booleans())
def test_json(
    place: tuple[LabelStore, Path], found: list[dict[str, Any]], array: bool, escaped: bool
) -> None:
    if array:
        text = json.dumps(found, ensure_ascii=escaped)
    else:
        text = "\n".join(json.dumps(row, ensure_ascii=escaped) for row in found)
    reads(place, "a.jsonl", text.encode("utf-8", "replace"))


columns = st.one_of(
    st.lists(st.text("keprjct01f", max_size=6) | st.none(), min_size=2, max_size=2),
    st.lists(st.sampled_from(["keep", "reject", "f0", "f1"]), min_size=2, max_size=2),
    st.lists(st.booleans() | st.none(), min_size=2, max_size=2),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=2, max_size=2),
    st.lists(st.floats() | st.none(), min_size=2, max_size=2),
    st.lists(st.datetimes() | st.none(), min_size=2, max_size=2),
    st.lists(st.dates() | st.none(), min_size=2, max_size=2),
    st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=2, max_value=10**9,
                         min_value=-(10**9)), min_size=2, max_size=2),
    st.lists(st.binary(max_size=5), min_size=2, max_size=2),
    st.lists(st.lists(st.integers(0, 9), max_size=2), min_size=2, max_size=2),
)  # fmt: skip


@fuzz
@given(st.dictionaries(st.sampled_from(HEADINGS), columns, max_size=6))
def test_parquet(place: tuple[LabelStore, Path], found: dict[str, list[Any]]) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table(found), buffer)
    reads(place, "a.parquet", buffer.getvalue())


def sound() -> dict[str, bytes]:
    """A small sound file of each kind."""
    table = pa.table({"face_id": ["f0", "f1"], "label": ["keep", "reject"], "score": [0.5, None]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    lines = "\n".join(json.dumps(row) for row in table.to_pylist())
    return {
        "a.csv": b"face_id,label,score\nf0,keep,0.5\nf1,reject,\n",
        "a.jsonl": lines.encode(),
        "a.json": json.dumps(table.to_pylist()).encode(),
        "a.parquet": buffer.getvalue(),
    }


@fuzz
@given(
    st.sampled_from(sorted(sound())),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    st.integers(0, 2000),
)
def test_damaged_files(
    place: tuple[LabelStore, Path], name: str, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(sound()[name])
    for where, value in changes:
        data[where % len(data)] = value
    reads(place, name, bytes(data[: length % (len(data) + 1)] if length < 700 else data))
