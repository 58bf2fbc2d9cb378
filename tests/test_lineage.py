"""Stages depend on what they read: what a redo drops, what is joined, what stays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import sfhq
from curating import faces_to_judge
from tiny import embedded_part, finish, finish_about, tree, unit, write_squares
from toy_halo import Halo

from curation.dedup import Dedup
from sfhq import stages
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.join import count_left, history
from sfhq.parts.lineage import drop, outdated, readers
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.counts import funnel
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.stage import Stage

Networks = tuple[Path, Path]
COUNT = 20


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage about photos that reads no other stage, after dedup: as parse will be."""
    halo = stages.StageRow("halo", "toy_halo:Halo", "Measure the rim of every photo.")
    monkeypatch.setattr(stages, "STAGES", (*stages.STAGES, halo))


@pytest.fixture(scope="module")
def run_part(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sfhq run` makes of squares with tiny networks; take a copy to change it."""
    folder = tmp_path_factory.mktemp("lineage")
    generator, e4e = networks
    art = write_squares(folder / "art", COUNT)
    flags = ("--generator", generator, "--e4e", e4e, "--aligned", "--candidates", "strict,low")
    sfhq("run", art, folder / "part", *flags, "--threshold", 0.999, "--no-export")
    return folder / "part"


@pytest.fixture
def part(run_part: Path, tmp_path: Path) -> Part:
    import shutil

    return Part.open(Path(shutil.copytree(run_part, tmp_path / "part")))


@pytest.fixture
def judged(tmp_path: Path) -> Part:
    """Photos with vectors, points and near-duplicates, and a taste for them."""
    part = faces_to_judge(tmp_path / "judged", 120)
    rng = np.random.default_rng(5)
    points = [
        [
            FaceRecord(r.face_id).with_array("landmarks_68", rng.random((68, 2), np.float32))
            for r in part.read_shard("synthesize", shard)
        ]
        for shard in part.shards("synthesize")
    ]
    finish_about(part, "detect", points)
    run_stage(Dedup(0.6), part)
    lines = [f"{i},{'keep' if kept else 'reject'}" for i, kept in sorted(everybody(part).items())]
    (tmp_path / "labels.csv").write_text("\n".join(["face_id,label", *lines]) + "\n")
    sfhq("labels", "import", part.root, tmp_path / "labels.csv")
    sfhq("taste", "fit", part.root, "--precision", 0.9)
    return part


def everybody(part: Part) -> dict[str, bool]:
    """Who is liked: those whose first coordinate is positive."""
    faces = part.faces(rejected=True)
    return {r.face_id: bool(part.row("embedding", r)[0] > 0) for r in faces}


def test_the_order_of_the_readme(judged: Part, tmp_path: Path) -> None:
    """run, labels, taste, score --drop, export: what the taste rejects does not leave."""
    left = {r.face_id for r in judged.faces()}
    assert 0 < len(left) < 120
    sfhq("score", judged.root, "--drop")
    liked = {r.face_id for r in history(judged, "score") if r.alive}
    assert 0 < len(liked & left) < len(left)
    sfhq("export", judged.root, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert {r["face_id"] for r in rows} == liked & left
    said = {r.face_id: r.about["score"] for r in history(judged, "score")}
    assert {r["face_id"]: r["score"] for r in rows} == {i: said[i] for i in liked & left}
    assert len(list((tmp_path / "out" / "images").iterdir())) == len(rows)


def test_near_duplicates_are_chosen_again_when_scores_have_come(judged: Part) -> None:
    sfhq("score", judged.root)
    assert "score" not in judged.stage_info("dedup")["inputs"]
    before = {r.face_id for r in judged.faces()}
    sfhq("dedup", judged.root, "--threshold", 0.6)
    assert "score" in judged.stage_info("dedup")["inputs"]
    assert judged.stage_info("dedup")["counts"]["entered"] == 120
    assert {r.face_id for r in judged.faces()} != before
    scores = {r.face_id: r.about["score"] for r in judged.faces(rejected=True)}
    gone = [r for r in history(judged, "dedup") if not r.alive]
    assert gone
    for record in gone:
        assert scores[record.about["duplicate_of"]] >= scores[record.face_id]


def test_redo_drops_what_read_it_and_nothing_else(part: Part) -> None:
    sfhq("halo", part.root)
    halos = tree(part.root / "records" / "halo")
    assert readers(part, "embed") == ["dedup"]
    made = ["detect", "embed", "dedup", "parse", "landmark", "attribute", "caption", "halo"]
    assert sorted(readers(part, "synthesize")) == sorted(made)
    sfhq("embed", part.root, "--redo")
    assert part.stages() == [
        *("ingest", "align", "invert", "synthesize", "detect", "embed"),
        *("parse", "landmark", "attribute", "caption", "halo"),
    ]
    assert tree(part.root / "records" / "halo") == halos
    sfhq("detect", part.root, "--redo")
    assert part.stages() == ["ingest", "align", "invert", "synthesize", "detect", "halo"]


def test_faces_that_come_back_are_done_and_the_others_are_not_done_again(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    sfhq("dedup", part.root, "--threshold", 0.9, "--redo")
    some = {r.face_id for r in part.faces()}
    sfhq("halo", part.root)
    assert {r.face_id for r in history(part, "halo")} == some
    sfhq("dedup", part.root, "--threshold", 1, "--redo")
    everything = {r.face_id for r in part.faces()}
    assert len(everything) > len(some) > 0
    seen: list[str] = []
    call = Halo.__call__

    def watched(self: Halo, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        records = list(records)
        seen.extend(r.face_id for r in records)
        return call(self, records, part)

    monkeypatch.setattr(Halo, "__call__", watched)
    sfhq("halo", part.root)
    assert set(seen) == everything - some and len(seen) == len(set(seen))
    assert {r.face_id for r in history(part, "halo")} == everything
    assert all(r.about["halo"] >= 0 for r in part.faces())
    seen.clear()
    sfhq("halo", part.root)
    assert seen == []


def test_what_has_changed_is_shown(part: Part, tmp_path: Path) -> None:
    sfhq("halo", part.root)
    info = part.stage_info("detect")
    part.write_stage_info("detect", {**info, "settings": {**info["settings"], "other": 1}})
    assert outdated(part, "embed") == ["detect"]
    said = sfhq("show", part.root).stdout
    assert f"detect has changed since embed read it; run: sfhq embed {part.root} --redo" in said
    late = [r["stage"] for r in funnel(part) if r["outdated"]]
    assert late == ["embed", "parse", "landmark", "attribute"]
    said = sfhq("embed", part.root, code=2).stderr
    assert "embed read detect as it was before; run: sfhq embed" in said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("embed", "--encoder", "clip", "--encoder-weights", "{gone}"), 1),
        (("dedup", "--published", "{gone}"), 2),
        (("dedup", "--published", "{part}"), 2),
        (("synthesize", "--candidates", "sefa-999+1"), 2),
        (("synthesize", "--generator", "{gone}"), 2),
        (("align",), 2),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_everything_is_checked_before_anything_is_deleted(
    part: Part, networks: Networks, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    if words[0] == "align":  # the source is not there any more
        info = part.stage_info("ingest")
        settings = {**info["settings"], "source": str(tmp_path / "unmounted")}
        part.write_stage_info("ingest", {**info, "settings": settings})
    given = [w.format(gone=tmp_path / "gone", part=part.root) for w in words]
    flags = ["--generator", str(networks[0]), "--e4e", str(networks[1])]
    if words[0] == "synthesize" and "--generator" not in words:
        given += flags
    before = tree(part.root)
    said = sfhq(given[0], part.root, *given[1:], "--redo", code=code).stderr
    assert said.startswith("sfhq: ") and said.count("\n") == 1
    assert tree(part.root) == before


@dataclass(frozen=True)
class Wrong(Stage[Any]):
    """A stage that breaks a promise."""

    name: ClassVar[str] = "halo"
    columns: ClassVar[dict[str, Any]] = {"halo": "number"}
    how: str

    def settings(self) -> dict[str, Json]:
        return {}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for number, record in enumerate(records):
            if self.how == "undeclared":
                yield record.with_columns(halo=1.0, glow=2.0)
            elif self.how == "array":
                yield record.with_array("w_plus", np.zeros(3))
            elif self.how == "another":
                yield replace(record, face_id="somebody")
            elif number:
                yield record


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("undeclared", "halo wrote glow, undeclared"),
        ("array", "halo wrote w_plus, undeclared"),
        ("another", "halo must yield each face that it got once"),
        ("one less", "halo must yield each face that it got once"),
    ],
)
def test_a_stage_writes_its_own_columns_only(part: Part, how: str, says: str) -> None:
    before = tree(part.root / "records" / "synthesize")
    with pytest.raises(ValueError, match=says):
        run_stage(Wrong(how), part)
    assert tree(part.root / "records" / "synthesize") == before
    assert part.shards("halo") == []


def test_rows_of_arrays_stay_true_when_faces_are_added(tmp_path: Path) -> None:
    """Also when a kill comes between the array and the records."""
    part = embedded_part(tmp_path / "part", unit(np.eye(6)), shard_size=6)
    records = part.read_shard("synthesize", 0)
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)

    def said(numbers: Iterable[int]) -> list[FaceRecord]:
        return [FaceRecord(records[i].face_id).with_array("glow", vectors[i]) for i in numbers]

    def check(numbers: Iterable[int]) -> None:
        rows = {r.face_id: r for r in part.read_about("halo", 0)}
        for i in numbers:
            found = replace(records[i], rows=rows[records[i].face_id].rows, shard=0)
            assert part.row("glow", found).tolist() == vectors[i].tolist()

    part.write_about("halo", 0, said([1, 4]), {})
    check([1, 4])
    old = part.shard_path("halo", 0).read_bytes()
    part.write_about("halo", 0, said([0, 2]), {})
    check([0, 1, 2, 4])
    part.shard_path("halo", 0).write_bytes(old)  # killed before the records were written
    check([1, 4])
    part.write_about("halo", 0, said([3, 5]), {})
    check([1, 3, 4, 5])
    assert len(part.array("glow", 0)) == 4


def test_a_stage_on_older_faces_asks_to_be_redone(tmp_path: Path) -> None:
    """Embedded as ingested, then synthesized: the vectors are of other pictures."""
    part = Part.create(tmp_path / "part")
    white = np.full((8, 8, 3), 255, np.uint8)
    finish(part, "align", [[FaceRecord("a").with_image("aligned", white)]])
    run_stage(Halo(), part)
    made = replace(part.read_shard("align", 0)[0], face_id="a-1", parent_id="a")
    finish(part, "synthesize", [[made.with_image("images", white)]])
    assert "halo" not in next(iter(part.faces())).about
    with pytest.raises(UsageError, match=r"halo read align as it was before; .* --redo"):
        run_stage(Halo(), part)
    run_stage(Halo(), part, redo=True)
    assert next(iter(part.faces())).about["halo"] == 255.0


def test_rows_of_faces_that_are_not_there_are_named(part: Part) -> None:
    sfhq("halo", part.root)
    part.write_about("halo", 0, [FaceRecord("nobody").with_columns(halo=1.0)], Halo.columns)
    info = part.stage_info("halo")
    with pytest.raises(IntegrityError, match=f"{info['rows'] + 1} of {info['rows']} rows"):
        list(history(part, "halo"))
    part.write_stage_info("halo", {**info, "rows": info["rows"] + 1})
    with pytest.raises(IntegrityError, match="no face nobody in records/synthesize; run: sfhq"):
        list(history(part, "halo"))


def test_drop_says_what_went(part: Part) -> None:
    labels = ["parse", "landmark", "attribute", "caption"]
    assert drop(part, "detect") == ["detect", "embed", "dedup", *labels]
    assert drop(part, "detect") == []


def test_dedup_of_a_grown_part_is_done_again(tmp_path: Path) -> None:
    """Near-duplicates are a matter of all faces together."""
    part = embedded_part(tmp_path / "part", unit(np.ones((3, 4))), score=[0.1, 0.9, 0.5])
    run_stage(Dedup(0.9), part)
    assert [r.face_id for r in part.faces()] == ["f0001"]
    info = part.stage_info("score")
    info["settings"] = {"model": "another"}
    part.write_stage_info("score", info)
    rows = [FaceRecord(f"f000{i}").with_columns(score=s) for i, s in enumerate((0.7, 0.2, 0.1))]
    part.shard_path("score", 0).unlink()
    part.write_about("score", 0, rows, {"score": "number"})
    assert json.loads(sfhq("dedup", part.root, "--threshold", 0.9, "--json").stdout)["alive"] == 1
    assert [r.face_id for r in part.faces()] == ["f0000"]


def test_the_number_of_faces_left_is_that_of_the_join(judged: Part) -> None:
    """One stage that rejects, then two that reject some of the same faces."""
    assert count_left(judged) == len(list(judged.faces())) < 120
    sfhq("score", judged.root, "--drop")
    both = [r for r in history(judged, "score") if not r.alive]
    assert {r.face_id for r in both} & {r.face_id for r in history(judged, "dedup") if not r.alive}
    assert count_left(judged) == len(list(judged.faces()))
    assert f"left       {count_left(judged):>7} faces" in sfhq("show", judged.root).stdout
