"""Sets that others made: each layout becomes a part whose labels are kept and joined."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from exporting import COUNT, export, mask_of, points_of, rich_part
from PIL import Image
from tiny import tiny_pixels, tree, unit

import cli
from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.classes import ID
from sfhq.imports.facesynthetics import THEIRS
from sfhq.imports.sheets import typed
from sfhq.imports.stage import Import, layout_of
from sfhq.imports.whole import Imported, import_set
from sfhq.parts.photos import read_mask, read_photo
from sfhq.parts.records import Pixels

SIZE, PHOTOS = 64, 8


def sfhq(*words: object) -> Result:
    result = CliRunner().invoke(cli.main, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    return result


def taken(source: Path, root: Path, **how: Any) -> Imported:
    return import_set(Import(str(source), layout_of(source), **how), root)


def write_photos(folder: Path, names: list[str], **save: Any) -> dict[str, Pixels]:
    folder.mkdir(parents=True, exist_ok=True)
    found = dict(zip(names, tiny_pixels(len(names), SIZE), strict=True))
    for name, pixels in found.items():
        Image.fromarray(pixels).save(folder / name, **save)
    return found


def write_released(root: Path, *, nested: bool = False, features: bool = True) -> list[str]:
    """A released part: gaps in its numbers, 110 points in no known order, pickled features."""

    def folder(name: str) -> Path:
        path = root / name / name if nested else root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    stems = [f"SFHQ_pt2_{i * 7 + 3:08d}" for i in range(PHOTOS)]
    write_photos(folder("images"), [f"{s}.jpg" for s in stems], quality=95)
    vectors = np.random.default_rng(0).standard_normal((PHOTOS, 768)).astype(np.float32)
    vectors[5] = vectors[4]
    for i, stem in enumerate(stems):
        points = points_of(i)[:, :2].astype(np.float64)
        np.savez(folder("landmarks") / f"{stem}.npz", landmarks=points)
        Image.fromarray(mask_of(i)).save(folder("segmentations") / f"{stem}.png")
        if features:
            found = {"CLIP_ViTL_14@336": vectors[i : i + 1] * 9, "DINO_ViTS_8": vectors[i : i + 1]}
            (folder("pretrained_features") / f"{stem}.pickle").write_bytes(pickle.dumps(found, 2))
    sample = root / "tiny sample (2 images)"
    sample.mkdir()
    for stem in stems[:2]:
        shutil.copy(folder("images") / f"{stem}.jpg", sample)
    return stems


@pytest.mark.parametrize("nested", [False, True])
def test_a_released_part(tmp_path: Path, nested: bool) -> None:
    stems = write_released(tmp_path / "SFHQ_part2", nested=nested)
    done = taken(tmp_path / "SFHQ_part2", tmp_path / "part", licence="CC0-1.0")
    part = done.part
    records = list(part.faces())
    assert [r.face_id for r in records] == stems  # samples are copies and do not count
    vectors = np.random.default_rng(0).standard_normal((PHOTOS, 768)).astype(np.float32)
    for i, record in enumerate(records):
        assert (record.licence, record.width) == ("CC0-1.0", SIZE)
        assert record.provenance == "imported from SFHQ_part2, a set in the layout sfhq"
        assert record.params == {
            "imported": "sfhq",
            "digital_source_type": "trainedAlgorithmicMedia",
        }
        image = tmp_path / "SFHQ_part2" / record.source
        assert (read_photo(part, record) == np.asarray(Image.open(image))).all()
        assert (read_mask(part, record, "segmentations") == mask_of(i)).all()
        # The order of the published points is written nowhere: they must not pass for ours.
        assert "landmarks_110" not in record.rows
        assert np.allclose(part.row("foreign_landmarks", record), points_of(i)[:, :2])
        if i != 5:
            assert np.allclose(
                part.row("embedding", record), unit(vectors[i : i + 1])[0], atol=1e-6
            )
        assert "features_dino-vits-8" in record.rows
    assert part.stage_info("embed")["settings"]["encoder"] == "clip"
    assert done.notes == []


def test_an_imported_part_works_with_the_other_commands(tmp_path: Path) -> None:
    stems = write_released(tmp_path / "set")
    part = tmp_path / "part"
    said = sfhq("import", tmp_path / "set", part, "--licence", "CC0-1.0").stdout
    assert said.splitlines()[0] == f"import     {PHOTOS:>7} in {PHOTOS:>7} out"
    assert f"import     {PHOTOS:>7} in" in sfhq("show", part).stdout
    lines = sfhq("table", part, "--columns", "face_id,licence").stdout.splitlines()
    assert lines[1] == f'"{stems[0]}","CC0-1.0"'
    assert f"{PHOTOS} in       {PHOTOS - 1} out" in sfhq("dedup", part).stdout  # two of one vector
    sfhq("export", part, tmp_path / "out")
    with np.load(tmp_path / "out" / "landmarks" / "part_00000000.npz") as found:
        assert np.allclose(found["landmarks"], points_of(0)[:, :2])
        assert "visibility" not in found.files
    sfhq("export", part, tmp_path / "tars", "--format", "webdataset", "--splits", "1,0,0")
    rows = pq.read_table(tmp_path / "tars" / "manifest.parquet").to_pylist()
    assert len(rows) == PHOTOS - 1
    source = tmp_path / "set" / rows[0]["source"]
    assert rows[0]["bytes"] == source.stat().st_size  # JPEG bytes as they were
    labels = tmp_path / "labels.csv"
    labels.write_text(f"face_id,label\n{stems[0]},keep\n")
    sfhq("labels", "import", part, labels)


def test_what_was_exported_comes_back(tmp_path: Path) -> None:
    """The layout of SFHQ with our manifest: points in our order, lineage as columns."""
    source = rich_part(tmp_path / "source", 8)
    sfhq("export", source.root, tmp_path / "out", "--name", "X", "--image-format", "png")
    done = taken(tmp_path / "out", tmp_path / "part")
    table = done.part.table().to_pylist()
    for i, (row, record, old) in enumerate(
        zip(table, done.part.faces(), source.faces(), strict=True)
    ):
        assert row["imported_face_id"] == old.face_id and row["imported_seed"] == old.seed
        assert row["imported_licence"] == old.licence == record.licence
        assert row["imported_caption"] == old.about["caption"]
        found = done.part.row("landmarks_110", record)
        assert np.allclose(found[:, :3], points_of(i)[:, :3])
        assert (read_photo(done.part, record) == read_photo(source, old)).all()
    assert done.part.stage_info("embed")["settings"]["encoder"] == "dlib-face"


@pytest.mark.parametrize("nested", [False, True])
def test_prompts_of_text_to_image(tmp_path: Path, nested: bool) -> None:
    folder = tmp_path / "t2i" / "images" / ("images" if nested else "")
    names = [f"FLUX1_dev_image_{i:07d}.jpg" for i in range(PHOTOS)]
    write_photos(folder, names)
    with open(tmp_path / "t2i" / "SFHQ_T2I_dataset.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_filename", "model_used", "text_prompt", "configs"])
        for i, name in enumerate(names):
            prompt = f'a face, "smiling",\nnumber {i}'
            writer.writerow([name, "FLUX1_dev", prompt, json.dumps({"seed": i, "steps": 4})])
    assert layout_of(tmp_path / "t2i") == "sfhq-t2i"
    part = taken(tmp_path / "t2i", tmp_path / "part").part
    for i, (record, row) in enumerate(zip(part.faces(), part.table().to_pylist(), strict=True)):
        assert record.face_id == f"FLUX1_dev_image_{i:07d}" and record.seed == i
        assert record.params["text"] == f'a face, "smiling",\nnumber {i}'
        assert row["model_used"] == "FLUX1_dev" and json.loads(row["configs"])["steps"] == 4
    export("coco", part, tmp_path / "out")
    (path, *_) = (tmp_path / "out" / "annotations").glob("captions_*.json")
    assert "smiling" in path.read_text()


def write_renders(root: Path) -> None:
    """FaceSynthetics: every class somewhere, facewear and ignore in one photo."""
    names = [f"{i:06d}.png" for i in range(4)]
    write_photos(root, names)
    for i in range(4):
        ids = np.zeros((SIZE, SIZE), np.uint8)
        for number in range(len(THEIRS) - 1):
            ids[2 * number : 2 * number + 2] = number
        if i == 2:
            ids[60], ids[61] = 18, 255
        Image.fromarray(ids).save(root / f"{i:06d}_seg.png")
        points = np.random.default_rng(i).uniform(0, SIZE, (70, 2))
        lines = "".join(f"{x:.4f} {y:.4f}\n" for x, y in points)
        (root / f"{i:06d}_ldmks.txt").write_text(lines)


def test_facesynthetics(tmp_path: Path) -> None:
    write_renders(tmp_path / "set")
    done = taken(tmp_path / "set", tmp_path / "part", licence="LicenseRef-FaceSynthetics")
    part = done.part
    wanted = {"left_eye": "l_eye", "right_eye": "r_eye", "hair": "hair", "headwear": "hat"}
    wanted |= {"beard": "skin", "glasses": "eye_g", "mouth_interior": "mouth", "nose": "nose"}
    for i, record in enumerate(part.faces()):
        mask = read_mask(part, record, "segmentations")
        for theirs, ours in wanted.items():
            assert (mask[2 * THEIRS.index(theirs)] == ID[ours]).all(), theirs
        points = np.random.default_rng(i).uniform(0, SIZE, (70, 2))
        assert np.allclose(part.row("landmarks_68", record), points[:68], atol=1e-3)
        assert record.params["digital_source_type"] == "algorithmicMedia"
        assert record.about["face_count"] == 1 and record.about["face_detector"] == "imported"
        assert np.allclose(record.about["pupils"], points[68:].reshape(-1), atol=1e-3)
    assert done.lost == {"beard": (4, 4 * 128), "facewear": (1, 64), "ignore": (1, 64)}
    said = sfhq("import", tmp_path / "set", part.root, "--licence", "LicenseRef-FaceSynthetics")
    assert "facewear has no class here: 64 pixels in 1 photos" in said.stderr
    sfhq("export", part.root, tmp_path / "out")


def write_folder(root: Path, kind: str, rows: list[dict[str, Any]]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"metadata.{kind}"
    if kind == "csv":
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_imagefolder(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "set"
    for split, first in (("train", 0), ("test", 4)):
        names = [f"{first + i}.png" for i in range(4)]
        write_photos(root / split / "images", names)
        rows = [
            {"file_name": f"images/{n}", "text": f"number {n}", "age": 20 + i, "score": i / 2}
            for i, n in enumerate(names)
        ]
        write_folder(root / split, kind, rows)
    (root / "train" / "images" / "unlisted.png").write_bytes(b"no image")
    Image.fromarray(tiny_pixels(1, SIZE, 9)[0]).save(root / "test" / "images" / "6.png")
    part = taken(root, tmp_path / "part", licence="CC-BY-4.0").part
    rows = part.table().to_pylist()
    records = list(part.faces(rejected=True))
    # Both splits begin with the same pictures, of which the first is kept.
    assert sorted(r.source for r in records) == sorted(
        [f"train/images/{i}.png" for i in range(4)] + [f"test/images/{i}.png" for i in range(4, 8)]
    )
    assert sum(r.reason == "exact duplicate" for r in records) == 3
    for row, record in zip(rows, records, strict=True):
        if record.alive:
            number = int(Path(record.source).stem)
            assert row["age"] == 20 + number % 4 and row["imported_score"] == (number % 4) / 2
            assert row["imported_split"] == record.source.split("/")[0]
            assert record.params["text"] == f"number {number}.png"


def test_our_own_imagefolder_comes_back(tmp_path: Path) -> None:
    source = rich_part(tmp_path / "source")
    export("imagefolder", source, tmp_path / "set")
    part = taken(tmp_path / "set", tmp_path / "part").part
    old = {f"T_{i:08d}": r for i, r in enumerate(source.faces())}
    for record in part.faces():
        was, index = old[record.face_id], int(record.face_id[-8:])
        assert (read_photo(part, record) == read_photo(source, was)).all()
        assert record.source_sha256 == was.hashes["images"]
        assert ("segmentations" in record.hashes) == (index < COUNT - 1)
        assert np.allclose(part.row("landmarks_110", record)[:, :3], points_of(index)[:, :3])
        assert record.params.get("text", None) == was.about["caption"]
        assert record.licence == was.licence
        assert record.params["digital_source_type"] == "trainedAlgorithmicMedia"
        assert record.about["imported_face_id"] == was.face_id
    again, _ = export("imagefolder", part, tmp_path / "again")
    assert again.images == COUNT


def test_an_import_goes_on_and_grows(tmp_path: Path) -> None:
    write_released(tmp_path / "set", features=False)
    some = taken(tmp_path / "set", tmp_path / "part", limit=4).part
    assert len(list(some.faces())) == 4
    whole = taken(tmp_path / "set", tmp_path / "whole").part
    before = tree(whole.root)
    assert tree(taken(tmp_path / "set", tmp_path / "whole").part.root) == before
    Image.fromarray(tiny_pixels(1, SIZE, 7)[0]).save(
        tmp_path / "set" / "images" / "SFHQ_pt2_00000999.jpg"
    )
    assert len(list(taken(tmp_path / "set", tmp_path / "whole").part.faces())) == PHOTOS + 1


class Bomb:
    """What a hostile pickle holds."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("touch canary",)


def test_a_hostile_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stems = write_released(tmp_path / "set")
    path = tmp_path / "set" / "pretrained_features" / f"{stems[3]}.pickle"
    path.write_bytes(pickle.dumps({"CLIP_ViTL_14@336": Bomb()}))
    with pytest.raises(IntegrityError, match=path.name):
        taken(tmp_path / "set", tmp_path / "part")
    assert not (tmp_path / "canary").exists()


def broken(kind: str, root: Path, stems: list[str]) -> None:
    stem = stems[3]
    if kind == "npz":
        (root / "landmarks" / f"{stem}.npz").write_bytes(b"junk")
    elif kind == "points":
        np.savez(root / "landmarks" / f"{stem}.npz", landmarks=np.zeros(5))
    elif kind == "objects":
        np.savez(root / "landmarks" / f"{stem}.npz", landmarks=np.array([{}], object))
    elif kind == "mask":
        (root / "segmentations" / f"{stem}.png").write_bytes(b"junk")
    elif kind == "classes":
        Image.fromarray(np.full((SIZE, SIZE), 77, np.uint8)).save(
            root / "segmentations" / f"{stem}.png"
        )
    elif kind == "colours":
        Image.new("RGB", (SIZE, SIZE)).save(root / "segmentations" / f"{stem}.png")


@pytest.mark.parametrize("kind", ["npz", "points", "objects", "mask", "classes", "colours"])
def test_a_damaged_file_is_named_and_the_rest_is_kept(tmp_path: Path, kind: str) -> None:
    stems = write_released(tmp_path / "set", features=False)
    shutil.copytree(tmp_path / "set", tmp_path / "sound")
    broken(kind, tmp_path / "set", stems)
    with pytest.raises(IntegrityError, match=stems[3]) as error:
        taken(tmp_path / "set", tmp_path / "part")
    assert "\n" not in str(error.value) and "put a sound file there" in str(error.value)


def test_a_photo_that_is_none_is_rejected(tmp_path: Path) -> None:
    stems = write_released(tmp_path / "set", features=False)
    (tmp_path / "set" / "images" / f"{stems[0]}.jpg").write_bytes(b"junk")
    Image.new("L", (32, 32)).save(tmp_path / "set" / "segmentations" / f"{stems[1]}.png")
    records = list(taken(tmp_path / "set", tmp_path / "part").part.faces(rejected=True))
    assert [r.reason for r in records[:3]] == ["not an image", "mask of another size", ""]


def test_features_of_some_are_named(tmp_path: Path) -> None:
    stems = write_released(tmp_path / "set")
    (tmp_path / "set" / "pretrained_features" / f"{stems[0]}.pickle").unlink()
    done = taken(tmp_path / "set", tmp_path / "part")
    assert "embed" not in done.part.stages()
    assert any(f"CLIP_ViTL_14@336 ({PHOTOS - 1} of {PHOTOS})" in note for note in done.notes)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"file_name": "../out.png"}], "leads out of the folder"),
        ([{"file_name": "/etc/passwd"}], "leads out of the folder"),
        ([{"file_name": "gone.png"}], "1 of 1 photos that its sheets name are missing"),
        ([{"file_name": "a.png"}, {"file_name": "a.png"}], "two rows for a.png"),
        ([{"name": "a.png"}], "row 1 has no file_name"),
    ],
)
def test_sheets_that_are_wrong(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    write_photos(tmp_path / "set", ["a.png"])
    write_folder(tmp_path / "set", "jsonl", rows)
    result = CliRunner().invoke(cli.main, ["import", str(tmp_path / "set"), str(tmp_path / "p")])
    assert result.exit_code == 4 and result.stderr.count("\n") == 1 and words in result.stderr
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_sheets_that_are_damaged(tmp_path: Path, kind: str) -> None:
    write_photos(tmp_path / "set", ["a.png"])
    (tmp_path / "set" / f"metadata.{kind}").write_bytes(b"\xff\xfe\x00junk,{")
    with pytest.raises(IntegrityError, match=rf"metadata\.{kind}: cannot be read as a sheet"):
        taken(tmp_path / "set", tmp_path / "part")


def test_a_folder_like_nothing_known(tmp_path: Path) -> None:
    write_photos(tmp_path / "set", ["a.png"])
    with pytest.raises(UsageError, match="sfhq ingest"):
        layout_of(tmp_path / "set")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(UsageError, match=r"a file; wanted the folder.*sfhq ingest"):
        layout_of(tmp_path / "foreign.parquet")
    with pytest.raises(UsageError, match="no such folder"):
        layout_of(tmp_path / "nowhere")


def test_types_of_columns() -> None:
    rows = [
        {"a": "1", "b": "1.5", "c": "x", "d": True, "e": [1, 2.0], "f": ["x"], "g": None, "h": {}},
        {"a": "2", "b": "3", "c": "7", "d": False, "e": [3], "f": [], "g": None, "h": 5},
    ]
    kinds = typed(rows)
    assert kinds["a"] == "integer" and kinds["b"] == "number" and kinds["c"] == "text"
    assert kinds["d"] == "flag" and kinds["e"] == "numbers" and kinds["h"] == "text"
    assert "g" not in kinds
