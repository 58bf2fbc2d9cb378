"""Labels are events: durable, never changed, the same again after an undo."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from curation.labels.agreement import (
    Share,
    cohen_kappa,
    krippendorff_alpha,
    overall_alpha,
    pairwise_kappa,
)
from curation.labels.database import sqlite_errors
from curation.labels.events import Action, LabelEvent
from curation.labels.exchange import Imported, export_labels, import_labels
from curation.labels.reading import read_rows
from curation.labels.store import LabelStore
from sfhq.errors import DiskFull, IntegrityError, SfhqError, UsageError


def event(
    face: str,
    action: Action = Action.KEEP,
    who: str = "ann",
    client: str = "",
    reason: str = "random",
    undoes: int | None = None,
) -> LabelEvent:
    name = client or f"{who}-{face}-{action}-{reason}-{undoes}"
    return LabelEvent(face, "", action, who, "s1", name, 1000.0, None, "", reason, 300, undoes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "labels.sqlite") as opened:
        yield opened


def test_what_is_appended_is_there(store: LabelStore) -> None:
    events = [event("a"), event("b", Action.REJECT), event("c", Action.SKIP)]
    assert store.append(events) == [1, 2, 3]
    assert [s.event for s in store.events()] == events
    assert [s.number for s in store.events(since=1)] == [2, 3]
    assert store.labels() == {"a": True, "b": False}


def test_the_same_client_id_is_one_event(store: LabelStore) -> None:
    assert store.append([event("a")]) == store.append([event("a")]) == [1]
    assert store.append([event("b"), event("b")]) == [2, 2]
    assert len(store.events()) == 2


def test_the_last_decision_counts(store: LabelStore) -> None:
    store.append([event("a"), event("a", Action.REJECT), event("a", Action.SKIP)])
    assert store.labels() == {"a": False}
    store.append([event("a", Action.FLAG)])
    assert store.labels() == {}  # looked at again, not labelled
    assert [s.event.action for s in store.current()] == [Action.FLAG]


def test_undo_takes_back_the_last_and_only_once(store: LabelStore) -> None:
    store.append([event("a"), event("a", Action.REJECT)])
    last = store.last_to_undo("ann")
    assert last is not None and last.number == 2
    store.append([event("a", Action.UNDO, undoes=2)])
    assert store.labels() == {"a": True}
    for undoes in (2, 3, 99):
        with pytest.raises(UsageError, match="cannot be"):
            store.append([event("a", Action.UNDO, undoes=undoes, client=f"x{undoes}")])
    with pytest.raises(UsageError, match="cannot be undone by bob"):
        store.append([event("a", Action.UNDO, who="bob", undoes=1)])
    assert len(store.events()) == 3


def test_all_or_none(store: LabelStore) -> None:
    with pytest.raises(UsageError):
        store.append([event("a"), event("b", Action.UNDO, undoes=7)])
    assert store.events() == []
    with pytest.raises(UsageError, match="cannot be"):
        store.append([event("a"), event("b", who="")])
    assert store.events() == []


def test_events_are_never_changed(store: LabelStore) -> None:
    store.append([event("a")])
    with sqlite3.connect(store.path) as other:
        for order in ("UPDATE events SET action = 'reject'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                other.execute(order)
    other.close()


def test_two_hundred_undone_and_done_again_export_the_same(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with LabelStore(path) as store:
        store.append([event(f"f{i:03d}", client=f"a{i}") for i in range(50)])
        export_labels(store, tmp_path / "before.csv")
        for i in range(200):
            action = (Action.KEEP, Action.REJECT, Action.FLAG, Action.SKIP)[i % 4]
            store.append([event(f"f{i % 70:03d}", action, client=f"b{i}")])
    for i in range(200):  # a new process may have begun at any place
        with LabelStore(path) as store:
            last = store.last_to_undo("ann")
            assert last is not None
            undo = event(last.event.face_id, Action.UNDO, client=f"u{i}", undoes=last.number)
            store.append([undo])
    with LabelStore(path, readonly=True) as store:
        export_labels(store, tmp_path / "after.csv")
    assert (tmp_path / "before.csv").read_bytes() == (tmp_path / "after.csv").read_bytes()


def test_repeats_measure_and_do_not_label(store: LabelStore) -> None:
    store.append([event("a"), event("b", Action.REJECT)])
    store.append(
        [event("a", Action.REJECT, reason="repeat"), event("b", Action.REJECT, reason="repeat")]
    )
    assert store.labels() == {"a": True, "b": False}
    assert [(r.face_id, r.first, r.again) for r in store.repeats("ann")] == [
        ("a", Action.KEEP, Action.REJECT),
        ("b", Action.REJECT, Action.REJECT),
    ]


def test_conflicts_are_settled_by_a_review(store: LabelStore) -> None:
    store.append([event("a"), event("b"), event("a", Action.REJECT, "bob"), event("b", who="bob")])
    assert [(c.face_id, c.labels) for c in store.conflicts()] == [
        ("a", {"ann": Action.KEEP, "bob": Action.REJECT})
    ]
    assert store.labels() == {"b": True}  # a tie is no label
    store.append([event("a", Action.REJECT, "eve", reason="review")])
    assert store.conflicts() == []
    assert store.labels() == {"a": False, "b": True}


def test_a_review_weighs_more_than_a_majority(store: LabelStore) -> None:
    store.append([event("a", who=w) for w in ("ann", "bob", "cyd")])
    store.append(
        [event("a", Action.REJECT, "dan"), event("a", Action.REJECT, "eve", reason="review")]
    )
    assert store.labels() == {"a": False}


def test_reading_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no labels yet; make some with: sfhq curate"):
        LabelStore(tmp_path / "labels.sqlite", readonly=True)


def test_a_damaged_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    for data in (b"not a database at all" * 100, os.urandom(5000)):
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match="damaged") as caught:
            LabelStore(path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == data


def test_a_torn_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with LabelStore(path) as store:
        store.append([event(f"f{i}") for i in range(3000)])
    data = bytearray(path.read_bytes())
    data[8192:40960] = os.urandom(32768)
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="damaged"):
        LabelStore(path)


def test_another_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(IntegrityError, match="format 0"):
        LabelStore(path)


def test_a_full_disk_says_so_and_keeps_what_is_there(store: LabelStore) -> None:
    store.append([event("a")])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull, match=r"disk is full .*what was acknowledged is kept"):
        store.append([event(f"f{i}", client="c" * 400 + str(i)) for i in range(500)])
    assert [s.event.face_id for s in store.events()] == ["a"]


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (sqlite3.SQLITE_FULL, DiskFull, "disk is full"),
        (sqlite3.SQLITE_IOERR_FSYNC, SfhqError, "disk fails"),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, UsageError, "cannot be opened for writing"),
        (sqlite3.SQLITE_READONLY_DBMOVED, UsageError, "cannot be opened for writing"),
        (sqlite3.SQLITE_PERM, UsageError, "cannot be opened for writing"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, SfhqError, "another process holds it"),
        (sqlite3.SQLITE_LOCKED, SfhqError, "another process holds it"),
        (sqlite3.SQLITE_CORRUPT, IntegrityError, "damaged"),
        (sqlite3.SQLITE_NOTADB, IntegrityError, "damaged"),
        (None, IntegrityError, "damaged"),
    ],
)
def test_the_code_of_an_error_decides_and_not_its_words(
    tmp_path: Path, code: int | None, kind: type[SfhqError], message: str
) -> None:
    error = sqlite3.OperationalError("full readonly locked\nin the words of a new version")
    if code is not None:
        error.sqlite_errorcode = code
    with pytest.raises(SfhqError, match=message) as caught, sqlite_errors(tmp_path / "labels"):
        raise error
    assert type(caught.value) is kind and "\n" not in str(caught.value)


def test_a_store_that_is_held_read_only_or_nowhere(tmp_path: Path, store: LabelStore) -> None:
    store.append([event("a")])
    reader = LabelStore(store.path, readonly=True)
    with reader, pytest.raises(UsageError, match="cannot be opened for writing"):
        reader.append([event("b")])
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._db.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(SfhqError, match="another process holds it"):
        store.append([event("b")])
    other.close()
    assert store.append([event("b")]) == [2]
    with pytest.raises(UsageError, match="cannot be opened for writing"):
        LabelStore(tmp_path / "none" / "labels.sqlite")


KILLED = """
import sys
from pathlib import Path
from curation.labels.events import *
from curation.labels.store import LabelStore
store = LabelStore(Path(sys.argv[1]))
start = int(sys.argv[2])
print("ready", flush=True)
for i in range(start, 10**9):
    store.append([LabelEvent(f"f{i}", "", Action.KEEP, "ann", "s", f"c{i}", 1.0)])
    print(i, flush=True)
"""


def test_twenty_five_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    rng = np.random.default_rng(0)
    acknowledged: list[int] = []
    start = 0
    run = None
    for _ in range(25):
        run = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        some = int(rng.integers(1, 40))
        lines = [run.stdout.readline() for _ in range(some)]
        run.send_signal(signal.SIGKILL)
        lines += run.stdout.read().splitlines()
        run.wait()
        run.stdout.close()
        acknowledged += [int(line) for line in lines if line.strip().isdigit()]
        start = max(acknowledged) + 1
    with LabelStore(path, readonly=True) as store:
        stored = {s.event.face_id for s in store.events()}
        assert {f"f{i}" for i in acknowledged} <= stored
        assert len(acknowledged) >= 25


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_out_and_in_again(tmp_path: Path, kind: str) -> None:
    faces = {f"f{i}": f"{i:064x}" for i in range(6)}
    with LabelStore(tmp_path / "a.sqlite") as one, LabelStore(tmp_path / "b.sqlite") as two:
        events = [
            replace(
                event(f"f{i}", Action.REJECT if i % 2 else Action.KEEP),
                score=i / 7,
                image_hash=faces[f"f{i}"],
            )
            for i in range(5)
        ]
        one.append([*events, event('f5,"\n', Action.KEEP)])
        file = tmp_path / f"labels.{kind}"
        assert export_labels(one, file) == 6
        # One face is of another part.
        assert import_labels(two, file, faces, "bob") == Imported(5, 0, 1)
        assert import_labels(two, file, faces, "bob") == Imported(0, 5, 1)
        assert [s.event for s in two.events()] == events
        assert len(read_rows(file)) == 6


def test_folders_of_the_taste_approximator(tmp_path: Path) -> None:
    import hashlib

    faces = {}
    for folder, count in (("positively_labeled", 3), ("negatively_labeled", 2)):
        (tmp_path / "vta" / folder).mkdir(parents=True)
        for i in range(count):
            data = f"{folder}{i}".encode()
            (tmp_path / "vta" / folder / f"{i}_portrait_12345.jpg").write_bytes(data)
            faces[f"{folder[0]}{i}"] = hashlib.sha256(data).hexdigest()
    del faces["p2"]
    with LabelStore(tmp_path / "labels.sqlite") as store:
        assert import_labels(store, tmp_path / "vta", faces, "david") == Imported(4, 0, 1)
        assert store.labels() == {"p0": True, "p1": True, "n0": False, "n1": False}
    with LabelStore(tmp_path / "x.sqlite") as store, pytest.raises(UsageError, match="no folder"):
        import_labels(store, tmp_path, faces, "david")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "face_id,label\nf0,maybe\n", "row 1: says 'maybe'"),
        ("a.csv", "face_id,action\nf0,undo\n", "row 1: is an undo"),
        ("a.csv", "name,label\nf0,keep\n", "has the columns label, name; wanted one of face_id"),
        ("a.csv", "face_id,keep\nf0,1\n", "and action or label"),
        ("a.csv", "face_id,label\nf0,keep,x\n", "row 1 has more cells than the heading"),
        ("a.csv", "face_id,label,at\nf0,keep,yesterday\n", "row 1: at is 'yesterday'; wanted sec"),
        ("a.csv", "face_id,label,at\nf0,keep,1969-01-01\n", "wanted a time from 1970 to 9999"),
        ("a.csv", "face_id,label,at\nf0,keep,-5\n", "row 1: at is '-5'"),
        ("a.csv", "face_id,label,score\nf0,keep,7\n", "score is '7'; wanted a number from 0 to 1"),
        ("a.csv", "face_id,label,score\nf0,keep,inf\n", "score is 'inf'"),
        ("a.csv", "face_id,label,reaction_ms\nf0,keep,1e99\n", "reaction_ms is '1e99'"),
        ("a.jsonl", '{"face_id": "f0", "label": "keep", "model": "\\ud800"}', "model is not text"),
        ("a.jsonl", '[{"face_id": "f0", "label": "keep"}, 3]', "row 2 is 3; wanted an object"),
        ("a.jsonl", '"f0"', "row 1 is 'f0'; wanted an object"),
        ("a.jsonl", "{", "cannot be read as jsonl"),
        ("a.txt", "", "cannot tell the format"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with LabelStore(tmp_path / "labels.sqlite") as store:
        with pytest.raises(SfhqError, match=message):
            import_labels(store, tmp_path / name, {"f0": ""}, "ann")
        assert store.events() == []


FACES = {"f0": "a" * 64, "f1": "b" * 64}


def imported(store: LabelStore, path: Path, text: str, **how: Any) -> Imported:
    path.write_text(text)
    return import_labels(store, path, how.get("faces", FACES), "ann", how.get("sources"))


def test_a_change_of_mind_is_imported(tmp_path: Path, store: LabelStore) -> None:
    """The third file says the same as the first; between them something else counted."""
    path = tmp_path / "a.csv"
    for word in ("keep", "reject", "keep", "flag", "reject", "keep"):
        assert imported(store, path, f"face_id,label\nf0,{word}\n") == Imported(1, 0, 0)
        assert imported(store, path, f"face_id,label\nf0,{word}\n") == Imported(0, 1, 0)
        said = [s.event.action for s in store.current()]
        assert said == [word]
    assert len(store.events()) == 6


def test_an_old_export_counts_again(tmp_path: Path, store: LabelStore) -> None:
    store.append([event("f0"), event("f1")])
    export_labels(store, tmp_path / "old.csv")
    store.append([event("f0", Action.REJECT)])
    assert import_labels(store, tmp_path / "old.csv", FACES, "x") == Imported(1, 1, 0)
    assert store.labels("ann") == {"f0": True, "f1": True}
    assert import_labels(store, tmp_path / "old.csv", FACES, "x") == Imported(0, 2, 0)


def test_of_one_face_the_last_row_counts(tmp_path: Path, store: LabelStore) -> None:
    text = "face_id,label\nf0,keep\nf0,reject\nf0,keep\nf0,reject\nf1,skip\nf1,skip\n"
    assert imported(store, tmp_path / "a.csv", text) == Imported(5, 1, 0)
    assert store.labels() == {"f0": False}
    assert imported(store, tmp_path / "a.csv", text) == Imported(0, 6, 0)


def test_an_export_of_events_is_imported_whole(tmp_path: Path, store: LabelStore) -> None:
    events = [event("f0"), event("f0", Action.REJECT), event("f0", client="again", reason="repeat")]
    events += [event("f0", Action.REJECT, client="twice"), event("f1", Action.SKIP)]
    store.append(events)
    file = tmp_path / "events.parquet"
    export_labels(store, file, current=False)
    with LabelStore(tmp_path / "two.sqlite") as two:
        assert import_labels(two, file, FACES, "x") == Imported(5, 0, 0)
        assert [s.event.client_id for s in two.events()] == [e.client_id for e in events]
        assert import_labels(two, file, FACES, "x") == Imported(0, 5, 0)


def test_a_moved_file_takes_its_label_along(tmp_path: Path, store: LabelStore) -> None:
    """The face id holds the file's name; the digest of the image stays."""
    store.append([replace(event("f0", Action.REJECT), image_hash="a" * 64)])
    export_labels(store, tmp_path / "a.csv")
    moved = {"g0": "a" * 64, "f1": "b" * 64}
    assert import_labels(store, tmp_path / "a.csv", moved, "x") == Imported(1, 0, 0)
    assert store.labels()["g0"] is False
    assert import_labels(store, tmp_path / "a.csv", moved, "x") == Imported(0, 1, 0)
    swapped = {"f0": "b" * 64, "f1": "a" * 64}  # the ids are there, but show other images
    assert import_labels(store, tmp_path / "a.csv", swapped, "x") == Imported(1, 0, 0)
    assert store.labels()["f1"] is False


SOURCES = {"f0": "a/1.jpg", "f1": "b/1.jpg", "f2": "2.jpg", "f3": "x/c/3.jpg", "f4": "y/c/3.jpg"}


@pytest.mark.parametrize(
    ("file", "face"),
    [
        ("a/1.jpg", "f0"),
        ("b/1.jpg", "f1"),
        ("b\\1.jpg", "f1"),
        ("./b/1.jpg", "f1"),
        ("/data/photos/b/1.jpg", "f1"),
        ("2.jpg", "f2"),
        ("anywhere/2.jpg", "f2"),
        ("x/c/3.jpg", "f3"),
        ("c/1.jpg", None),
        ("z/c/3.jpg", None),
        ("4.jpg", None),
    ],
)
def test_a_file_is_found_by_its_path(
    tmp_path: Path, store: LabelStore, file: str, face: str | None
) -> None:
    faces = {name: f"{name:0>64}" for name in SOURCES}
    text = f"file,label\n{file},keep\n"
    found = imported(store, tmp_path / "a.csv", text, faces=faces, sources=SOURCES)
    assert found == (Imported(1, 0, 0) if face else Imported(0, 0, 1))
    assert store.labels() == ({face: True} if face else {})


@pytest.mark.parametrize(
    ("file", "both"), [("1.jpg", ("a/1.jpg", "b/1.jpg")), ("c/3.jpg", ("x/c/3.jpg", "y/c/3.jpg"))]
)
def test_a_name_that_two_faces_have_is_an_error(
    tmp_path: Path, store: LabelStore, file: str, both: tuple[str, str]
) -> None:
    faces = {name: f"{name:0>64}" for name in SOURCES}
    text = f"file,label\n2.jpg,keep\n{file},keep\n"
    with pytest.raises(UsageError, match=r"row 2: .* fits 2 faces") as caught:
        imported(store, tmp_path / "a.csv", text, faces=faces, sources=SOURCES)
    assert all(path in str(caught.value) for path in both)
    assert store.events() == []


def test_folders_with_the_same_names_inside(tmp_path: Path, store: LabelStore) -> None:
    """The bytes differ from those of the part, so only paths are left."""
    for path in ("positive/a/1.jpg", "negative/b/1.jpg"):
        (tmp_path / "pair" / path).parent.mkdir(parents=True)
        (tmp_path / "pair" / path).write_bytes(path.encode())
    sources = {"f0": "a/1.jpg", "f1": "b/1.jpg"}
    assert import_labels(store, tmp_path / "pair", FACES, "ann", sources) == Imported(2, 0, 0)
    assert store.labels() == {"f0": True, "f1": False}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "face_id;label;score\nf0;keep;0,5\nf1;reject;0.25\n"),
        ("a.csv", "face_id\tlabel\tscore\nf0\tkeep\t0.5\nf1\treject\t0.25\n"),
        ("a.csv", " Face_ID , LABEL,Score\r\nf0, Keep ,0.5\r\nf1,REJECT,0.25\r\n"),
        ("a.csv", "\ufeffface id,label,score,\nf0,1.0,0.5,\nf1,0.0,0.25,\n"),
        ("a.json", '[{"face_id": "f0", "label": true, "score": 0.5},\n'
                   ' {"face_id": "f1", "label": false, "score": 0.25}]'),
        ("a.jsonl", '{"face_id": "f0", "label": 1, "score": 0.5}\n\n'
                    '{"face_id": "f1", "label": 0, "score": 0.25}'),
    ],
)  # fmt: skip
def test_files_of_spreadsheets_and_other_tools(
    tmp_path: Path, store: LabelStore, name: str, text: str
) -> None:
    assert imported(store, tmp_path / name, text) == Imported(2, 0, 0)
    assert store.labels() == {"f0": True, "f1": False}
    assert [s.event.score for s in store.events()] == [0.5, 0.25]
    (tmp_path / name).write_bytes(text.removeprefix("\ufeff").encode("utf-16"))
    assert import_labels(store, tmp_path / name, FACES, "ann") == Imported(0, 2, 0)


@pytest.mark.parametrize(
    ("at", "seconds"),
    [
        ("2024-05-06T07:08:09Z", 1714979289.0),
        ("2024-05-06T09:08:09.250+02:00", 1714979289.25),
        ("2024-05-06 07:08:09", 1714979289.0),
        ("2024-05-06", 1714953600.0),
        ("1714979289.5", 1714979289.5),
    ],
)
def test_dates(tmp_path: Path, store: LabelStore, at: str, seconds: float) -> None:
    assert imported(store, tmp_path / "a.csv", f"face_id,label,at\nf0,keep,{at}\n").new == 1
    assert store.events()[0].event.at == seconds


def test_timestamps_of_parquet(tmp_path: Path, store: LabelStore) -> None:
    import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    moment = datetime.datetime(2024, 5, 6, 7, 8, 9)
    rows = {"face_id": ["f0"], "label": [True], "at": [moment], "score": [float("nan")]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    assert import_labels(store, tmp_path / "a.parquet", FACES, "ann") == Imported(1, 0, 0)
    assert (store.events()[0].event.at, store.events()[0].event.score) == (1714979289.0, None)


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for bias in (0.1, 0.5, 0.9):
        a = rng.random(300) < bias
        b = np.where(rng.random(300) < 0.8, a, rng.random(300) < bias)
        assert cohen_kappa(a.tolist(), b.tolist()) == pytest.approx(
            cohen_kappa_score(a, b), abs=1e-12
        )
        labels = {
            "a": {str(i): bool(v) for i, v in enumerate(a)},
            "b": {str(i): bool(v) for i, v in enumerate(b)},
        }
        found = pairwise_kappa(labels, "a", "b")
        assert found.count == 300
        assert found.low < found.value < found.high
        assert found.high - found.low < 0.4
    assert math.isnan(cohen_kappa([], []))
    assert math.isnan(cohen_kappa([True], [True]))


def test_alpha_of_a_published_example() -> None:
    """Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section A: .095."""
    a = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    b = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    units = [[bool(x), bool(y)] for x, y in zip(a, b, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.095, abs=5e-4)
    assert krippendorff_alpha([*units, [True], []]) == pytest.approx(0.095, abs=5e-4)
    assert krippendorff_alpha([[True, True], [False, False]]) == 1.0
    assert math.isnan(krippendorff_alpha([[True, True]]))
    labels = {
        "a": {str(i): bool(v) for i, v in enumerate(a)},
        "b": {str(i): bool(v) for i, v in enumerate(b)},
    }
    found = overall_alpha(labels)
    assert found.count == 10
    assert found.low <= found.value <= found.high


def test_shares() -> None:
    share = Share.of(97, 100)
    assert (round(share.low, 4), round(share.high, 4)) == (0.9155, 0.9897)
    assert Share.of(0, 0).low == 0.0 and math.isnan(Share.of(0, 0).value)
    assert Share.of(5, 5).high == pytest.approx(1.0)
    assert Share.of(0, 100).high == pytest.approx(0.03699, abs=1e-4)
    assert Share.of(0, 10**6).low == 0.0 and Share.of(0, 10**6).high < 1e-5


def test_kappa_of_people_who_always_say_the_same() -> None:
    assert math.isnan(cohen_kappa([True] * 5, [True] * 5))
    assert cohen_kappa([True] * 4, [True, False] * 2) == 0.0
    with pytest.raises(ValueError, match="3 and 2 labels"):
        cohen_kappa([True] * 3, [True] * 2)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A part from elsewhere would let labels be written outside of it."""
    with LabelStore(tmp_path / "mine.sqlite") as mine:
        mine.append([event("a")])
    before = (tmp_path / "mine.sqlite").read_bytes()
    for name in ("mine.sqlite", "nowhere.sqlite"):
        path = tmp_path / "labels.sqlite"
        path.symlink_to(tmp_path / name)
        for readonly in (False, True)[: 1 + path.exists()]:
            with pytest.raises(IntegrityError, match=r"labels\.sqlite: not a regular file"):
                LabelStore(path, readonly=readonly)
        path.unlink()
    assert (tmp_path / "mine.sqlite").read_bytes() == before
    assert not (tmp_path / "nowhere.sqlite").exists()
