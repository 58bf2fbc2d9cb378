"""The published layout: every file, every column, every digest; resumed, and the same twice."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny import embedded_part, finish, finish_about, tree, unit

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
    "sha256",
    "has_landmarks",
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
        assert (row["seed"], row["psi"]) == (None, None)
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
    assert export(part, tmp_path / "out").written == 2
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


def test_a_photo_that_went_missing(part: Part, tmp_path: Path) -> None:
    part.image_path("images", "f0003").unlink()
    with pytest.raises(IntegrityError, match=r"f0003\.png: missing"):
        export(part, tmp_path / "out")


def test_a_photo_that_was_changed(part: Part, tmp_path: Path) -> None:
    part.image_path("images", "f0003").write_bytes(part.image_path("images", "f0002").read_bytes())
    with pytest.raises(IntegrityError, match=r"f0003\.png: not the file that was written"):
        export(part, tmp_path / "out")
