"""The published layout: every file, every column, every digest; resumed, and the same twice."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import embedded_part, finish, finish_about, tiny_pixels, tree, unit

import cli
from curation.labels.events import Action, LabelEvent
from curation.labels.store import FILE, LabelStore
from curation.labels.verdict import part_labels
from sfhq.errors import IntegrityError, UsageError
from sfhq.export.sfhq_layout import Exported, export_sfhq
from sfhq.parts import lineage
from sfhq.parts.part import Part
from sfhq.parts.photos import read_pixels
from sfhq.parts.records import Array, FaceRecord, Pixels

COLUMNS = [
    "file_name",
    "name",
    "face_id",
    "parent_id",
    "source",
    "source_sha256",
    "licence",
    "provenance",
    "quad",
    "candidate",
    "seed",
    "psi",
    "params",
    "prior_distance",
    "score",
    "label",
    "sha256",
    "has_landmarks",
    "has_segmentation",
    "digital_source_type",
]


def landmarks(pixels: Pixels) -> Array:
    """68 points on every image but those with a dark corner, which get NaN."""
    if pixels[0, 0, 0] < 100:
        return np.full((68, 2), np.nan, np.float32)
    points: Array = np.arange(136, dtype=np.float32).reshape(68, 2) / pixels.shape[0]
    return points


@pytest.fixture
def part(tmp_path: Path) -> Part:
    rng = np.random.default_rng(0)
    part = embedded_part(
        tmp_path / "part", unit(rng.standard_normal((6, 8))), prior_distance=[0.5] * 6, images=True
    )
    shards = [part.read_shard("synthesize", 0), part.read_shard("synthesize", 1)]
    points = [
        [
            FaceRecord(r.face_id).with_array("landmarks_68", landmarks(pixels_of(part, r)))
            for r in shard
        ]
        for shard in shards
    ]
    finish_about(part, "detect", points)
    said = [[FaceRecord(r.face_id) for r in shard] for shard in shards]
    said[0][1] = said[0][1].reject("dedup", "near-duplicate")
    finish_about(part, "dedup", said, threshold=0.9)
    return part


def pixels_of(part: Part, record: FaceRecord) -> Pixels:
    return read_pixels(part, record, "images")


def export(part: Part, target: Path, **changes: Any) -> Exported:
    return export_sfhq(part, target, **{"name": "X_pt1", **changes})


def manifest(target: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(target / "manifest.parquet").to_pylist()
    return rows


def check_sums(target: Path) -> None:
    """SHA256SUMS names every file but itself and export.json, each with its digest."""
    lines = (target / "SHA256SUMS").read_text().splitlines()
    sums = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    assert list(sums) == sorted(sums)
    found = tree(target)
    assert sums == {p: d for p, d in found.items() if p not in ("SHA256SUMS", "export.json")}


@pytest.mark.parametrize("image_format", ["jpg", "png"])
def test_layout(part: Part, tmp_path: Path, image_format: str) -> None:
    done = export(part, tmp_path / "out", image_format=image_format)
    assert (done.root, done.images, done.written) == (tmp_path / "out", 5, 5)
    stems = [f"X_pt1_{i:08d}" for i in range(5)]
    with_points = [r["name"] for r in manifest(tmp_path / "out") if r["has_landmarks"]]
    assert 0 < len(with_points) < 5
    assert set(tree(tmp_path / "out")) == {
        "SHA256SUMS",
        "export.json",
        "manifest.csv",
        "manifest.parquet",
        *(f"images/{s}.{image_format}" for s in stems),
        *(f"landmarks/{s}.npz" for s in with_points),
        *(f"pretrained_features/{s}.npz" for s in stems),
        *(f"pretrained_features/{s}.pickle" for s in stems),
    }
    check_sums(tmp_path / "out")


def test_the_manifest_says_where_each_photo_came_from(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "out")
    rows = manifest(tmp_path / "out")
    assert list(rows[0]) == COLUMNS
    records = list(part.faces())
    assert [r["face_id"] for r in rows] == [r.face_id for r in records]
    for index, (row, record) in enumerate(zip(rows, records, strict=True)):
        assert row["file_name"] == f"images/X_pt1_{index:08d}.jpg"
        image = tmp_path / "out" / row["file_name"]
        assert row["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
        assert (row["parent_id"], row["source"]) == (record.parent_id, record.source)
        assert json.loads(row["params"]) == {"ladder": [0.85, 0.75, 0.5]}
        assert (row["candidate"], row["prior_distance"], row["score"]) == ("strict", 0.5, None)
        assert (row["seed"], row["psi"], row["label"]) == (None, None, "")
        assert row["digital_source_type"] == "trainedAlgorithmicMedia"
    with open(tmp_path / "out" / "manifest.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == COLUMNS
    for line, row in zip(lines, rows, strict=True):
        assert line == {k: "" if v is None else str(v) for k, v in row.items()}


@pytest.mark.parametrize("image_format", ["jpg", "png"])
def test_every_photo_is_marked_and_is_the_photo(
    part: Part, tmp_path: Path, image_format: str
) -> None:
    export(part, tmp_path / "out", image_format=image_format)
    records = {r.face_id: r for r in part.faces()}
    for row in manifest(tmp_path / "out"):
        path = tmp_path / "out" / row["file_name"]
        with Image.open(path) as image:
            assert image.format == {"jpg": "JPEG", "png": "PNG"}[image_format]
            xmp = image.info["xmp"]
            shown = np.asarray(image)
        assert b"digitalsourcetype/trainedAlgorithmicMedia" in xmp
        wanted = pixels_of(part, records[row["face_id"]])
        limit = 0 if image_format == "png" else 24
        assert np.abs(shown.astype(int) - wanted).max() <= limit


def test_landmarks_and_features(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "out")
    records = {r.face_id: r for r in part.faces()}
    for row in manifest(tmp_path / "out"):
        path = tmp_path / "out" / "landmarks" / f"{row['name']}.npz"
        points = landmarks(pixels_of(part, records[row["face_id"]]))
        there = bool(np.isfinite(points).all())
        assert row["has_landmarks"] == path.is_file() == there
        if there:
            with np.load(path) as archive:
                assert archive.files == ["landmarks"]
                assert archive["landmarks"].dtype == np.float32
                np.testing.assert_allclose(archive["landmarks"], points, rtol=1e-6)
        with np.load(tmp_path / "out" / "pretrained_features" / f"{row['name']}.npz") as archive:
            assert archive.files == ["toy"]
            wanted = part.row("embedding", records[row["face_id"]])
            assert np.array_equal(archive["toy"], wanted[None])


def test_two_runs_give_the_same_bytes(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "one")
    export(part, tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    done = export(part, tmp_path / "one")
    assert (done.images, done.written) == (5, 0)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.parametrize(
    "lost", ["images", "landmarks", "pretrained_features", "manifest.parquet", "SHA256SUMS"]
)
def test_what_was_deleted_is_written_again(part: Part, tmp_path: Path, lost: str) -> None:
    export(part, tmp_path / "out")
    before = tree(tmp_path / "out")
    path = tmp_path / "out" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    export(part, tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_what_was_damaged_is_written_again(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "out")
    before = tree(tmp_path / "out")
    damaged = sorted((tmp_path / "out" / "images").iterdir())[2]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert export(part, tmp_path / "out").written == 1
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("folder", ["images", "landmarks", "pretrained_features"])
def test_a_file_that_no_digest_vouches_for_is_compared_with_the_part(
    part: Part, tmp_path: Path, folder: str
) -> None:
    """Without SHA256SUMS, whatever lies there would be signed."""
    export(part, tmp_path / "out")
    before = tree(tmp_path / "out")
    damaged = sorted((tmp_path / "out" / folder).iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    (tmp_path / "out" / "SHA256SUMS").unlink()
    assert export(part, tmp_path / "out").written == 1
    assert tree(tmp_path / "out") == before


def test_an_export_that_was_stopped_goes_on(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "whole")
    left = 3

    def stop() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(part, tmp_path / "out", on_image=stop)
    assert not (tmp_path / "out" / "manifest.csv").exists()
    damaged = tmp_path / "out" / "images" / "X_pt1_00000001.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert export(part, tmp_path / "out").written == 3
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    "change", [{"name": "Y"}, {"image_format": "png"}, {"quality": 80}], ids=str
)
def test_other_settings_are_refused(part: Part, tmp_path: Path, change: dict[str, Any]) -> None:
    export(part, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(UsageError, match="holds an export of other settings"):
        export(part, tmp_path / "out", **change)
    assert tree(tmp_path / "out") == before


def test_the_quality_of_png_is_no_setting(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "out", image_format="png", quality=80)
    export(part, tmp_path / "out", image_format="png", quality=90)


def test_a_foreign_folder_is_left_alone(part: Part, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty and not an export"):
        export(part, target)
    assert [p.name for p in target.iterdir()] == ["precious.txt"]


def test_an_empty_folder_is_taken(part: Part, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert export(part, tmp_path / "out").images == 5


def test_a_damaged_description_is_refused(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "out")
    (tmp_path / "out" / "export.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"export\.json: damaged"):
        export(part, tmp_path / "out")


@pytest.mark.parametrize("settings", [{}, {"encoder": None}, {"encoder": ""}, [], "clip"])
def test_an_embedding_of_no_encoder_is_refused(part: Part, tmp_path: Path, settings: Any) -> None:
    path = part.root / "records" / "embed.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "settings": settings}))
    with pytest.raises(IntegrityError, match=r"embed\.json: damaged"):
        export(part, tmp_path / "out")


def test_no_path_of_this_machine_leaves_it(part: Part, tmp_path: Path) -> None:
    finish(part, "ingest", [[FaceRecord("a")]], source=str(tmp_path / "art"), files="0" * 64)
    export(part, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name ''"),
        ({"name": "a/b"}, "name 'a/b': wanted letters"),
        ({"name": "../up"}, "wanted letters"),
        ({"name": "two words"}, "wanted letters"),
        ({"name": "x\n"}, "wanted letters"),
        ({"image_format": "bmp"}, "image format 'bmp': wanted jpg or png"),
        ({"quality": 0}, "quality is 0; wanted 1 to 100"),
    ],
)
def test_settings_that_cannot_be(
    part: Part, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export(part, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_parts_with_nothing_to_export(part: Part, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no records yet; run: sfhq ingest"):
        export(Part.create(tmp_path / "empty"), tmp_path / "out")
    shards = [part.read_shard("synthesize", s) for s in (0, 1)]
    gone = [[FaceRecord(r.face_id).reject("dedup", "x") for r in shard] for shard in shards]
    shutil.rmtree(part.root / "records" / "dedup")
    finish_about(part, "dedup", gone)
    with pytest.raises(UsageError, match="no photo stayed"):
        export(part, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    lineage.drop(part, "dedup")
    lineage.drop(part, "detect")
    with pytest.raises(UsageError, match=r"export reads landmarks_68, .* run: sfhq detect"):
        export(part, tmp_path / "out")
    part.write_stage_info("synthesize", {**part.stage_info("synthesize"), "complete": False})
    with pytest.raises(UsageError, match="synthesize has not ended; run: sfhq synthesize"):
        export(part, tmp_path / "out")


def test_a_lost_shard_is_not_passed_over(part: Part, tmp_path: Path) -> None:
    """A part that has lost a shard would export fewer photos, or near-duplicates."""
    part.shard_path("dedup", 1).unlink()
    with pytest.raises(IntegrityError, match=r"1 of 2 shards in records/dedup; run: sfhq dedup"):
        export(part, tmp_path / "out")
    assert not (tmp_path / "out").exists()


ALL_SETTINGS: list[dict[str, Any]] = [
    {"name": "Y"},
    {"image_format": "png"},
    {"quality": 80},
    {"samples": (2,)},
]


@pytest.mark.parametrize("change", ALL_SETTINGS, ids=str)
@pytest.mark.parametrize("how", [{"replace": True}, {"by": "run"}], ids=str)
def test_an_export_is_replaced_whole_and_files_of_others_stay(
    part: Part, tmp_path: Path, change: dict[str, Any], how: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    export(part, out, by="run")
    export(part, tmp_path / "wanted", by="run", **change)
    for mine in ("notes.txt", "images/mine.jpg", "boards/a/b.txt"):
        (out / mine).parent.mkdir(parents=True, exist_ok=True)
        (out / mine).write_text(mine)
    export(part, out, **{"by": "run", **how}, **change)
    found = tree(out)
    for mine in ("notes.txt", "images/mine.jpg", "boards/a/b.txt"):
        assert (out / mine).read_text() == mine
        del found[mine]
    assert found == tree(tmp_path / "wanted")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "part", "wanted"]


def test_a_run_does_not_replace_what_export_wrote(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "export.json").read_text())["by"] == "export"
    with pytest.raises(UsageError, match="sfhq export --replace"):
        export(part, tmp_path / "out", by="run", quality=80)
    export(part, tmp_path / "out", by="run")  # of the same settings it is as good as its own


def test_a_run_replaces_what_a_run_of_an_older_version_wrote(part: Part, tmp_path: Path) -> None:
    """Those said neither who exported nor which faces."""
    export(part, tmp_path / "out")
    path = tmp_path / "out" / "export.json"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("by", "faces")}
    path.write_text(json.dumps(old))
    with pytest.raises(UsageError, match="holds an export of other settings"):
        export(part, tmp_path / "out")
    assert export(part, tmp_path / "out", by="run").images == 5
    assert json.loads(path.read_text())["by"] == "run"


def test_a_replacement_that_was_stopped_leaves_the_old_export(part: Part, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(part, out)
    before = tree(out)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(part, out, quality=80, replace=True, on_image=stop)
    assert tree(out) == before
    assert export(part, out, quality=80, replace=True).written == 4  # and goes on
    export(part, tmp_path / "wanted", quality=80)
    assert tree(out) == tree(tmp_path / "wanted")
    with pytest.raises(KeyboardInterrupt):
        export(part, out, quality=70, replace=True, on_image=stop)
    export(part, out, name="Z", replace=True)  # of yet other settings
    assert {p.name[:2] for p in (out / "images").iterdir()} == {"Z_"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "part", "wanted"]


def test_a_swap_that_was_stopped_half_way_goes_on(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "out")
    before = tree(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "out.old")
    assert export(part, tmp_path / "out").written == 0
    assert tree(tmp_path / "out") == before
    assert not (tmp_path / "out.old").exists()


def test_a_finished_export_beside_is_not_taken(part: Part, tmp_path: Path) -> None:
    export(part, tmp_path / "out")
    export(part, tmp_path / "out.new", name="Mine")
    before = tree(tmp_path / "out.new")
    with pytest.raises(UsageError, match="in the way"):
        export(part, tmp_path / "out", quality=80, replace=True)
    assert tree(tmp_path / "out.new") == before


def test_an_unfinished_export_claims_nothing(part: Part, tmp_path: Path) -> None:
    out = tmp_path / "out"
    part.image_path("images", "f0003").rename(tmp_path / "aside")
    with pytest.raises(IntegrityError, match=r"f0003\.png: missing"):
        export(part, out)
    assert len(list((out / "images").iterdir())) == 2
    (tmp_path / "aside").rename(part.image_path("images", "f0003"))
    export(part, out, name="Y")
    export(part, tmp_path / "wanted", name="Y")
    assert tree(out) == tree(tmp_path / "wanted")


def test_an_export_that_failed_at_once_leaves_nothing(part: Part, tmp_path: Path) -> None:
    part.image_path("images", "f0000").unlink()
    with pytest.raises(IntegrityError, match=r"f0000\.png: missing"):
        export(part, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(IntegrityError, match=r"f0000\.png: missing"):
        export(part, tmp_path / "empty")
    assert not list((tmp_path / "empty").iterdir())


def say(part: Part, *events: tuple[str, str, str]) -> None:
    """Store labels: face, action, person."""
    with LabelStore(part.root / FILE) as store:
        start = len(store.events())
        store.append(
            [
                LabelEvent(face, "", Action(action), who, "s", f"c{start + i}", 1.0)
                for i, (face, action, who) in enumerate(events)
            ]
        )


def test_what_people_rejected_stays_behind(part: Part, tmp_path: Path) -> None:
    say(part, ("f0000", "keep", "ann"), ("f0002", "reject", "ann"), ("f0003", "flag", "ann"))
    say(part, ("f0004", "reject", "ann"), ("f0004", "keep", "bob"))  # a tie is no label
    for who in ("ann", "bob", "cyd"):
        say(part, ("f0005", "keep" if who == "ann" else "reject", who))
    done = export(part, tmp_path / "out")
    assert (done.images, done.left_out) == (3, 2)
    labels = {"f0000": "keep", "f0003": "flag", "f0004": ""}
    assert {r["face_id"]: r["label"] for r in manifest(tmp_path / "out")} == labels
    assert [r["name"] for r in manifest(tmp_path / "out")] == [f"X_pt1_{i:08d}" for i in range(3)]
    check_sums(tmp_path / "out")
    done = export(part, tmp_path / "all", rejected=True)
    assert (done.images, done.left_out) == (5, 0)
    labels |= {"f0002": "reject", "f0005": "reject"}
    assert {r["face_id"]: r["label"] for r in manifest(tmp_path / "all")} == labels


def test_the_command_says_how_many_stayed_behind(part: Part, tmp_path: Path) -> None:
    say(part, ("f0002", "reject", "ann"))

    def line(*words: object) -> str:
        result = CliRunner().invoke(cli.main, ["export", *map(str, words)])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    out = tmp_path / "out"
    said = line(part.root, out)
    left = "left out: 1 that people rejected (--rejected exports them, too)"
    assert said == f"export 4 photos in {out} {left}"
    assert line(part.root, out, "--rejected", "--replace") == f"export 5 photos in {out}"


def test_other_labels_are_another_export(part: Part, tmp_path: Path) -> None:
    """A number in a file name would mean another face."""
    export(part, tmp_path / "out", by="run")
    say(part, ("f0000", "keep", "ann"))  # the same photos: only the manifest is new
    assert export(part, tmp_path / "out").written == 0
    assert manifest(tmp_path / "out")[0]["label"] == "keep"
    say(part, ("f0000", "reject", "ann"))
    with pytest.raises(UsageError, match="holds an export of other settings"):
        export(part, tmp_path / "out")
    assert export(part, tmp_path / "out", by="run").images == 4
    for row in manifest(tmp_path / "out"):
        with np.load(tmp_path / "out" / f"pretrained_features/{row['name']}.npz") as archive:
            record = next(r for r in part.faces() if r.face_id == row["face_id"])
            assert np.array_equal(archive["toy"], part.row("embedding", record)[None])


def test_everything_rejected(part: Part, tmp_path: Path) -> None:
    say(part, *((r.face_id, "reject", "ann") for r in part.faces()))
    with pytest.raises(UsageError, match="people rejected all 5 photos"):
        export(part, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_label_of_a_face_that_moved_goes_along(part: Part, tmp_path: Path) -> None:
    record = next(part.faces())
    event = LabelEvent("was", record.hashes["images"], Action.REJECT, "ann", "s", "c", 1.0)
    with LabelStore(part.root / FILE) as store:
        store.append([event])
    assert part_labels(part) == {record.face_id: "reject"}
    assert export(part, tmp_path / "out").left_out == 1


def test_samples(part: Part, tmp_path: Path) -> None:
    done = export(part, tmp_path / "out", samples=(2, 550))
    assert done.images == 5
    tiny = sorted(p.name for p in (tmp_path / "out" / "tiny sample (2 images)").iterdir())
    assert tiny == ["X_pt1_00000000.jpg", "X_pt1_00000002.jpg"]
    small = tmp_path / "out" / "small sample (5 images)"
    assert len(list(small.iterdir())) == 5
    for path in small.iterdir():
        assert path.read_bytes() == (tmp_path / "out" / "images" / path.name).read_bytes()
    check_sums(tmp_path / "out")
    assert export(part, tmp_path / "out", samples=(550, 2)).written == 0


class PlainUnpickler(pickle.Unpickler):
    """Builds arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        assert (module, name) in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
        return super().find_class(module, name)


def test_the_published_script_finds_its_features(tmp_path: Path) -> None:
    """It reads pretrained_features/<name>.pickle, a dict, by the name of OpenAI's ViT-L/14@336."""
    vectors = unit(np.random.default_rng(1).standard_normal((3, 768)))
    part = embedded_part(tmp_path / "part", vectors, images=True, encoder="clip")
    nothing = np.full((68, 2), np.nan, np.float32)
    ids = [r.face_id for r in part.faces()]
    finish_about(part, "detect", [[FaceRecord(i).with_array("landmarks_68", nothing) for i in ids]])
    export(part, tmp_path / "out")
    for row, vector in zip(manifest(tmp_path / "out"), vectors, strict=True):
        data = (tmp_path / "out" / f"pretrained_features/{row['name']}.pickle").read_bytes()
        assert data[:2] == b"\x80\x02"  # protocol 2
        found = PlainUnpickler(io.BytesIO(data)).load()
        assert list(found) == ["CLIP_ViTL_14@336"]
        assert found["CLIP_ViTL_14@336"].shape == (1, 768)
        assert np.array_equal(found["CLIP_ViTL_14@336"][0], vector)


def test_rendered_heads_bring_exact_labels(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "heads")
    rng = np.random.default_rng(2)
    points = rng.uniform(0, 32, (3, 110, 3)).astype(np.float32)
    points[:, :, 2] = rng.integers(0, 3, (3, 110))
    masks = rng.integers(0, 19, (3, 32, 32)).astype(np.uint8)
    records = [
        FaceRecord(f"head{i}", seed=i, licence="CC0-1.0")
        .with_image("renders", pixels)
        .with_image("segmentations", masks[i])
        .with_array("render_landmarks", points[i])
        for i, pixels in enumerate(tiny_pixels(3))
    ]
    finish(part, "render", [records])
    export(part, tmp_path / "out", image_format="png")
    check_sums(tmp_path / "out")
    for i, row in enumerate(manifest(tmp_path / "out")):
        assert row["digital_source_type"] == "algorithmicMedia"
        assert row["has_landmarks"] and row["has_segmentation"]
        with np.load(tmp_path / "out" / f"landmarks/{row['name']}.npz") as archive:
            assert np.array_equal(archive["landmarks"], points[i, :, :2])
            assert np.array_equal(archive["visibility"], points[i, :, 2])
        with Image.open(tmp_path / "out" / f"segmentations/{row['name']}.png") as image:
            assert image.mode == "L"
            assert b"digitalsourcetype/algorithmicMedia" in image.info["xmp"]
            assert np.array_equal(np.asarray(image.convert("L")), masks[i])
        with Image.open(tmp_path / "out" / row["file_name"]) as image:
            assert np.array_equal(np.asarray(image), tiny_pixels(3)[i])


def test_faces_without_photos_are_not_said_to_have_gone(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    finish(part, "ingest", [[FaceRecord("a", source="a.png")]])
    with pytest.raises(UsageError, match="its faces have no photos yet"):
        export(part, tmp_path / "out")


def test_a_photo_that_went_missing(part: Part, tmp_path: Path) -> None:
    part.image_path("images", "f0003").unlink()
    with pytest.raises(IntegrityError, match=r"f0003\.png: missing"):
        export(part, tmp_path / "out")


def test_a_photo_that_was_changed(part: Part, tmp_path: Path) -> None:
    part.image_path("images", "f0003").write_bytes(part.image_path("images", "f0002").read_bytes())
    with pytest.raises(IntegrityError, match=r"f0003\.png: not the file that was written"):
        export(part, tmp_path / "out")
