"""How the explorer reads parts and keeps vectors, and how a selection becomes a part."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exploring import COUNT, explorer_of, faces_to_see
from tiny import finish_about

from cli import main
from curation.explore import loading
from curation.explore.codes import Codes
from curation.explore.export import new_part
from curation.explore.facets import BINS
from curation.explore.kept import Kept
from curation.explore.newpart import write_part
from curation.explore.views import View, read_view
from curation.labels.events import Action, LabelEvent
from curation.labels.store import FILE, LabelStore
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.lineage import about_stages, faces_stage, outdated
from sfhq.parts.part import Part
from sfhq.parts.photos import read_mask, read_photo
from sfhq.parts.records import Array, FaceRecord, record_schema
from sfhq.parts.table import about_types, part_table
from sfhq.pipeline.counts import count_stage


def clustered(count: int, width: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((5, width))[rng.integers(0, 5, count)] * 2
    rows = rows + rng.standard_normal((count, width))
    found: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def test_one_byte_a_number_leaves_out_no_face_that_is_near() -> None:
    rows = clustered(6000, 64)
    codes = Codes(len(rows), 64)
    for begin in range(0, len(rows), 999):
        codes.put(np.arange(begin, min(begin + 999, len(rows))), rows[begin : begin + 999])
    assert codes.high.nbytes + codes.low.nbytes == 2 * rows.size
    for vector in (rows[17], rows[5] - 0.7 * rows[4000]):
        rough, exact = codes.rough(vector), rows @ vector
        off = np.abs(rough - exact)
        assert (off <= codes.slack * np.linalg.norm(vector)).all() and off.max() > 1e-3
        mask = np.arange(len(rows)) % 3 > 0
        at = np.flatnonzero(mask)
        places, values = codes.nearest(vector, rough, mask, 100)
        wanted = at[np.argsort(-exact[at], kind="stable")[:100]]
        assert {*places.tolist()} == {*wanted.tolist()}
        np.testing.assert_allclose(values, exact[places], atol=2e-5)
        assert (np.diff(values) <= 0).all()
    places, values = codes.nearest(rows[0], codes.rough(rows[0]), np.zeros(len(rows), np.bool_), 5)
    assert len(places) == len(values) == 0


def test_equal_vectors_come_in_their_order() -> None:
    rows = np.repeat(clustered(3, 16), 700, axis=0)
    codes = Codes(len(rows), 16)
    codes.put(np.arange(len(rows)), rows)
    places, _ = codes.nearest(rows[800], codes.rough(rows[800]), np.ones(len(rows), np.bool_), 50)
    assert len(places) == 50 and all(700 <= p < 1400 for p in places)


def test_columns_are_what_the_records_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = faces_to_see(tmp_path / "part", 23)
    rows = [FaceRecord(r.face_id) for r in part.records("synthesize")]
    some = [r.reject("dedup", "near", "0.99") if i % 5 == 0 else r for i, r in enumerate(rows)]
    # Stages may know fewer faces, and in another order.
    shuffled = [some[0:10][::-1], some[12:20], some[20:23]]
    finish_about(part, "dedup", shuffled)
    faces = faces_stage(part)
    about, types = about_stages(part, faces), about_types(part)
    wanted = [n for n in record_schema().names if n not in ("rows", "hashes")]
    slow = {s: loading._slowly(part, faces, about, s, wanted, types) for s in part.shards(faces)}
    monkeypatch.setattr(loading, "_slowly", None)  # the fast way is the one that is taken
    for shard, known in slow.items():
        found = loading.read_columns(part, faces, about, shard, wanted, types)
        assert found.columns.keys() == known.columns.keys()
        for name, values in known.columns.items():
            assert found.columns[name].equals(values), name
        assert (found.rows == known.rows).all() and (found.photos == known.photos).all()
        assert (found.digests == known.digests).all()
    alive = [bool(v) for s in slow.values() for v in s.columns["alive"].to_pylist()]
    assert alive.count(False) == 4


def test_damaged_records_are_named(tmp_path: Path) -> None:
    part = faces_to_see(tmp_path / "part", 12)
    path = part.shard_path("attribute", 1)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(IntegrityError, match="damaged records"):
        explorer_of(part)


def test_numbers_that_are_none_are_missing(tmp_path: Path) -> None:
    part = faces_to_see(tmp_path / "part", 10)
    rows = [FaceRecord(r.face_id) for r in part.records("synthesize")]
    numbers = [1.0, 2.0, float("nan"), float("inf"), 3.0, None, 1e300, -float("inf"), 4.0, 5.0]
    said = [r.with_columns(size=v, huge=v) for r, v in zip(rows, numbers, strict=True)]
    finish_about(part, "score", [said], {"size": "number"})
    explorer = explorer_of(part)
    assert list(explorer.order(read_view({"r": {"size": [2, 4]}}))) == [1, 4, 8]
    assert list(explorer.order(read_view({"q": "size:>4"}))) == [6, 9]
    assert list(explorer.order(read_view({"sort": "size"})))[:3] == [6, 9, 8]
    (facet,) = explorer.counts(View(), ["size"])
    assert facet["high"] == 1e300 and sum(facet["counts"]) == 6
    assert (explorer.facets["size"].codes == BINS).sum() == 4
    assert explorer.maps.points("size", "years").shape == (10, 2)
    with pytest.raises(UsageError, match="hair_colour is never 'green'; it is one of: black"):
        explorer.order(read_view({"f": {"hair_colour": ["green"]}}))


def test_a_value_is_made_once_and_errors_are_not_kept() -> None:
    kept: Kept[int] = Kept(2)
    made: list[int] = []

    def slow() -> int:
        made.append(1)
        time.sleep(0.2)
        return len(made)

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(kept.get("a", slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1, 1, 1, 1]

    def fails() -> int:
        raise UsageError("no")

    for _ in range(2):
        with pytest.raises(UsageError):
            kept.get("b", fails)
    assert kept.get("b", lambda: 7) == 7
    kept.get("c", lambda: 8)
    assert kept.get("a", slow) == 2, "only the last two are kept"


def run(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_selection_is_a_part_like_any_other(tmp_path: Path) -> None:
    source = faces_to_see(tmp_path / "source")

    def event(face: str, action: Action, undoes: int | None = None) -> LabelEvent:
        client = f"{face}{action}"
        return LabelEvent(face, "", action, "ann", "s", client, at=1.0, undoes=undoes)

    with LabelStore(source.root / FILE) as store:
        (first, *_) = store.append([event("f0001", Action.KEEP), event("f0013", Action.KEEP)])
        store.append([event("f0013", Action.UNDO, undoes=first + 1)])
        store.append([event("f0013", Action.REJECT)])
    before = {p: p.read_bytes() for p in source.root.rglob("*") if p.is_file()}
    ids = ["f0013", "f0002", "f0021"]
    part = write_part(source, ids, tmp_path / "chosen")
    after = {p: p.read_bytes() for p in source.root.rglob("*") if p.is_file()}
    assert {p: data for p, data in after.items() if ".sqlite-" not in p.name} == before
    assert part.name == "chosen" and part.stages() == source.stages()
    assert [outdated(part, s) for s in part.stages()] == [[]] * len(part.stages())
    known = {r.face_id: r for r in source.faces()}
    for record in part.faces():
        old = known[record.face_id]
        assert dict(record.about) == dict(old.about) and dict(record.hashes) == dict(old.hashes)
        assert record.params == old.params and record.parent_id == old.parent_id
        assert (part.row("embedding", record) == source.row("embedding", old)).all()
        assert (read_photo(part, record) == read_photo(source, old)).all()
        mask = read_mask(part, record, "segmentations")
        assert (mask == read_mask(source, old, "segmentations")).all()
    assert [r.face_id for r in part.faces()] == sorted(ids)
    with LabelStore(part.root / FILE, readonly=True) as store:
        assert [str(s.event.action) for s in store.events()] == ["keep", "undo", "reject"]
        assert store.labels() == {"f0013": False}
    for stage in part.stages():
        info = part.stage_info(stage)
        assert info["rows"] == 3 and info["settings"] == source.stage_info(stage)["settings"]
        assert info["counts"] == count_stage(part, stage).to_dict()
    assert len(part.array("embedding", 0)) == 1
    assert part_table(part).num_rows == 3
    table = run("table", part.root, "--where", "years > 5", "--format", "jsonl")
    assert table.count("\n") == 2
    said = run("export", part.root, tmp_path / "exported")
    assert "2 photos" in said, "the rejected one is left out"
    again = explorer_of(part)
    assert again.faces.count == 3 and len(again.order(read_view({"like": ["chosen", ids[0]]}))) == 2


def test_a_new_part_is_whole_or_not_there(tmp_path: Path) -> None:
    source = faces_to_see(tmp_path / "source", 12)
    source.image_path("segmentations", "f0007").write_bytes(b"other")
    with pytest.raises(IntegrityError, match=r"segmentations/f0007.png: .*sha256 differs"):
        write_part(source, ["f0001", "f0007"], tmp_path / "new" / "one")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(UsageError, match="no face 'nobody'"):
        write_part(source, ["f0001", "nobody"], tmp_path / "new" / "one")
    with pytest.raises(UsageError, match="no face is chosen"):
        write_part(source, [], tmp_path / "new" / "one")
    (tmp_path / "new" / "taken").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        write_part(source, ["f0001"], tmp_path / "new" / "taken")
    with pytest.raises(UsageError, match="is no name for one"):
        write_part(source, ["f0001"], tmp_path / "new" / "a b")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["taken"]
    if os.geteuid() != 0:
        (tmp_path / "new").chmod(0o500)
        with pytest.raises(UsageError, match="cannot write here"):
            write_part(source, ["f0001"], tmp_path / "new" / "one")


def test_a_new_part_holds_faces_of_one(tmp_path: Path) -> None:
    first, second = faces_to_see(tmp_path / "a" / "x", 12), faces_to_see(tmp_path / "b" / "y", 8)
    both = explorer_of(first, second)
    with pytest.raises(UsageError, match="the faces are of x and y"):
        new_part(both, View(), tmp_path, "new")
    view = read_view({"f": {"part": ["y"]}, "r": {"years": [2, 3]}})
    made = new_part(both, view, tmp_path, "new")
    assert made == {"part": str(tmp_path / "new"), "faces": 2}
    assert [r.face_id for r in Part.open(tmp_path / "new").faces()] == ["f0002", "f0003"]
    assert COUNT > 12
