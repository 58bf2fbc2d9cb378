"""Every format of exports, read back by the library that people read it with."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from exporting import COUNT, SIZE, export, mask_of, points_of, rich_part
from PIL import Image
from tiny import tree

from sfhq.errors import UsageError
from sfhq.export.formats.table import NAMES
from sfhq.export.formats.webdataset import header
from sfhq.export.item import Look, without_palette
from sfhq.export.splits import Shares
from sfhq.images import encode_image
from sfhq.parts.part import Part
from sfhq.parts.photos import image_bytes, read_mask, read_pixels
from sfhq.parts.records import FaceRecord, Pixels

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Part:
    return rich_part(tmp_path_factory.mktemp("formats") / "part")


@pytest.fixture(scope="module")
def faces(part: Part) -> dict[str, FaceRecord]:
    return {f"T_{i:08d}": record for i, record in enumerate(part.faces())}


@pytest.fixture(scope="module")
def written(part: Part, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each format, exported once."""
    top = tmp_path_factory.mktemp("written")
    for name in NAMES:
        done, _ = export(name, part, top / name)
        assert (done.images, done.written) == (COUNT, COUNT)
    return {name: top / name for name in NAMES}


@pytest.fixture
def quiet_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`datasets`, offline, with its cache in the test's folder."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ResourceWarning)
        yield datasets


def index_of(key: str) -> int:
    return int(key.rsplit("_", 1)[1])


def check_photo(part: Part, record: FaceRecord, image: Image.Image) -> None:
    assert (np.asarray(image) == read_pixels(part, record, "images")).all()


def check_mask(index: int, image: Image.Image | None) -> None:
    if index == COUNT - 1:
        assert image is None
    else:
        assert image is not None and image.mode == "L"
        assert (np.asarray(image) == mask_of(index)).all()


def check_labels(record: FaceRecord, row: dict[str, Any]) -> None:
    """Every column of the part's table is there."""
    for name in ("face_id", "parent_id", "source", "licence", "candidate", "seed", "psi"):
        assert row[name] == getattr(record, name)
    params = row["params"]
    assert (json.loads(params) if isinstance(params, str) else params) == dict(record.params)
    assert row["prior_distance"] == record.prior_distance
    assert row["digital_source_type"] == "trainedAlgorithmicMedia"
    assert (row["caption"] or None) == record.about["caption"]


@pytest.mark.parametrize("form", NAMES)
def test_every_file_is_listed_with_its_digest(written: dict[str, Path], form: str) -> None:
    target = written[form]
    lines = (target / "SHA256SUMS").read_text().splitlines()
    sums = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    assert len(lines) == len(sums)
    assert sums == {p: d for p, d in tree(target).items() if p not in ("SHA256SUMS", "export.json")}


@pytest.mark.parametrize("form", [n for n in NAMES if n not in ("csv", "jsonl")])
def test_the_manifest_has_sizes_digests_and_all_columns(
    written: dict[str, Path], part: Part, faces: dict[str, FaceRecord], form: str
) -> None:
    target = written[form]
    rows = pq.read_table(target / "manifest.parquet").to_pylist()
    assert sorted(r["key"] for r in rows) == sorted(faces)
    wanted = {*part.table().column_names} - {"alive", "shard"}
    assert wanted <= {*rows[0]}
    for row in rows:
        record = faces[row["key"]]
        data = image_bytes(part, record, "images")
        assert row["sha256"] == hashlib.sha256(data).hexdigest() == record.hashes["images"]
        assert (row["bytes"], row["image_width"], row["image_height"]) == (len(data), SIZE, SIZE)
        if form in ("kaggle", "croissant"):  # others hold the points themselves
            assert np.allclose(row["landmarks"], points_of(index_of(row["key"]))[:, :2])
        assert row["captions"] == record.about["captions"]
        check_labels(record, row)
        if row["file_name"].endswith(".png"):
            assert (target / row["file_name"]).read_bytes() == data
    with open(target / "manifest.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["key"] for line in lines] == [row["key"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert json.loads(line["captions"]) == row["captions"] and line["params"] == row["params"]


@pytest.mark.parametrize("form", NAMES)
def test_the_same_part_gives_the_same_bytes(
    written: dict[str, Path], part: Part, tmp_path: Path, form: str
) -> None:
    export(form, part, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(written[form])
    done, _ = export(form, part, tmp_path / "again")
    assert done.written == 0


def test_parquet_is_read_by_datasets(
    written: dict[str, Path],
    part: Part,
    faces: dict[str, FaceRecord],
    quiet_datasets: Any,
    tmp_path: Path,
) -> None:
    found = quiet_datasets.load_dataset(str(written["parquet"]), cache_dir=str(tmp_path))
    check_dataset(found, part, faces, "mask")
    assert found["train"].features["seed"].dtype == "int64"


def test_imagefolder_is_read_by_datasets(
    written: dict[str, Path],
    part: Part,
    faces: dict[str, FaceRecord],
    quiet_datasets: Any,
    tmp_path: Path,
) -> None:
    found = quiet_datasets.load_dataset(str(written["imagefolder"]), cache_dir=str(tmp_path))
    check_dataset(found, part, faces, "mask")


def check_dataset(found: Any, part: Part, faces: dict[str, FaceRecord], mask: str) -> None:
    assert {*found} <= {*SPLITS} and sum(len(d) for d in found.values()) == COUNT
    for rows in found.values():
        for row in rows:
            record, index = faces[row["key"]], index_of(row["key"])
            check_photo(part, record, row["image"])
            check_mask(index, row[mask])
            check_labels(record, row)
            assert np.allclose(row["landmarks"], points_of(index)[:, :2])
            assert row["visibility"] == points_of(index)[:, 2].astype(int).tolist()
            assert row["caption_text"] == record.about["caption"]


def test_tars_are_read_by_webdataset(
    written: dict[str, Path], part: Part, faces: dict[str, FaceRecord]
) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = sorted(str(p) for p in written["webdataset"].glob("*.tar"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ResourceWarning)
        rows = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert sorted(row["__key__"] for row in rows) == sorted(faces)
    for row in rows:
        key = row["__key__"]
        record, index = faces[key], index_of(key)
        assert row["png"] == image_bytes(part, record, "images")
        seg = row.get("seg.png")
        check_mask(index, Image.open(io.BytesIO(seg)) if seg else None)
        points = np.load(io.BytesIO(row["landmarks.npy"]))
        assert points.dtype == np.float32 and np.array_equal(points, points_of(index)[:, :2])
        assert (np.load(io.BytesIO(row["visibility.npy"])) == points_of(index)[:, 2]).all()
        labels = json.loads(row["json"])
        check_labels(record, labels)
        assert row.get("txt", b"").decode() == (record.about["caption"] or "")
    index_file = json.loads((written["webdataset"] / "index.json").read_bytes())
    assert sum(s["nsamples"] for s in index_file["shardlist"]) == COUNT


def test_tars_on_the_hub_are_read_by_datasets(
    written: dict[str, Path], quiet_datasets: Any, tmp_path: Path
) -> None:
    found = quiet_datasets.load_dataset(str(written["webdataset"]), cache_dir=str(tmp_path))
    assert sum(len(d) for d in found.values()) == COUNT


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_coco_is_read_by_pycocotools(
    written: dict[str, Path], part: Part, faces: dict[str, FaceRecord]
) -> None:
    module = pytest.importorskip("pycocotools.coco")
    seen = 0
    for path in sorted((written["coco"] / "annotations").glob("faces_*.json")):
        coco = module.COCO(str(path))
        captions = module.COCO(str(path.with_name(path.name.replace("faces", "captions"))))
        for image in coco.loadImgs(coco.getImgIds()):
            record, index = faces[image["sfhq"]["key"]], index_of(image["sfhq"]["key"])
            seen += 1
            check_photo(part, record, Image.open(written["coco"] / image["file_name"]))
            check_labels(record, image["sfhq"])
            (face,) = coco.loadAnns(coco.getAnnIds(image["id"], catIds=[1]))
            flags = points_of(index)[:, 2]
            rows = np.reshape(face["keypoints"], (110, 3))
            assert (rows[:, 2] == flags).all()
            there = flags > 0
            assert np.allclose(rows[there, :2], points_of(index)[there, :2], atol=1e-3)
            for each in coco.loadAnns(coco.getAnnIds(image["id"])):
                if each["category_id"] > 100:
                    ids = read_mask(part, record, "segmentations")
                    assert (coco.annToMask(each) == (ids == each["category_id"] - 100)).all()
            said = [a["caption"] for a in captions.loadAnns(captions.getAnnIds(image["id"]))]
            assert said == record.about["captions"]
    assert seen == COUNT


def test_croissant_is_read_by_mlcroissant(
    written: dict[str, Path], part: Part, faces: dict[str, FaceRecord]
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    path = written["croissant"] / "croissant.json"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mlcroissant|pandas|rdflib")
        found = mlcroissant.Dataset(jsonld=str(path))
        issues = found.metadata.ctx.issues
        assert not issues.errors and not issues.warnings
        rows = list(found.records("faces"))
        masks = list(found.records("masks"))
    assert sorted(row["faces/key"].decode() for row in rows) == sorted(faces)
    for row in rows:
        record = faces[row["faces/key"].decode()]
        check_photo(part, record, row["faces/image"])
        assert row["faces/face_id"].decode() == record.face_id
        assert row["faces/seed"] == record.seed
        assert json.loads(row["faces/params"]) == dict(record.params)
    for row in masks:
        ids = np.asarray(row["masks/image"])[..., 0]
        assert (ids == mask_of(index_of(Path(row["masks/file_name"].decode()).stem))).all()
    assert len(masks) == COUNT - 1
    said = json.loads(path.read_bytes())
    for name in ("dataLimitations", "dataBiases", "personalSensitiveInformation", "dataUseCases"):
        assert said[f"rai:{name}"]
    assert said["rai:hasSyntheticData"] is True and said["prov:wasDerivedFrom"]


def test_fiftyone_has_the_fields_of_its_format(
    written: dict[str, Path], part: Part, faces: dict[str, FaceRecord]
) -> None:
    """What its importer of the plain JSON form reads: paths, and labels by the names of classes."""
    root = written["fiftyone"]
    about = json.loads((root / "metadata.json").read_bytes())
    assert about["media_type"] == "image" and "version" not in about
    samples = json.loads((root / "samples.json").read_bytes())["samples"]
    assert sorted(s["key"] for s in samples) == sorted(faces)
    for sample in samples:
        record, index = faces[sample["key"]], index_of(sample["key"])
        check_photo(part, record, Image.open(root / sample["filepath"]))
        assert sample["tags"][0] == sample["split"]
        assert sample["metadata"] | {} == {
            "_cls": "ImageMetadata",
            "size_bytes": (root / sample["filepath"]).stat().st_size,
            "width": SIZE,
            "height": SIZE,
        }
        if index < COUNT - 1:
            assert sample["segmentation"]["_cls"] == "Segmentation"
            path = sample["segmentation"]["mask_path"]
            assert path.startswith("fields/segmentation/")
            check_mask(index, Image.open(root / path))
        (points,) = sample["landmarks"]["keypoints"]
        scaled = np.asarray(points["points"]) * SIZE - 0.5
        assert np.allclose(scaled, points_of(index)[:, :2], atol=1e-3)


def test_fiftyone_reads_it(written: dict[str, Path], faces: dict[str, FaceRecord]) -> None:
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    with importers.LegacyFiftyOneDatasetImporter(str(written["fiftyone"])) as found:
        samples = list(found)
    assert sorted(s["key"] for s in samples) == sorted(faces)
    assert all(Path(s.filepath).is_file() for s in samples)


def test_labels_alone(written: dict[str, Path], part: Part, faces: dict[str, FaceRecord]) -> None:
    with open(written["csv"] / "faces.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(li) for li in (written["jsonl"] / "faces.jsonl").read_text().splitlines()]
    assert [r["key"] for r in rows] == [r["key"] for r in lines]
    assert sorted(r["key"] for r in rows) == sorted(faces)
    for row, line in zip(rows, lines, strict=True):
        record = faces[line["key"]]
        check_labels(record, line)
        assert line["photo"] == f"images/{record.face_id}.png"
        assert (part.root / line["photo"]).is_file() and line["sha256"] == record.hashes["images"]
        assert json.loads(row["params"]) == line["params"]
        assert json.loads(row["landmarks"]) == line["landmarks"]
        assert row["seed"] == str(line["seed"]) and row["split"] == line["split"]


def test_kaggles_rules(written: dict[str, Path]) -> None:
    said = json.loads((written["kaggle"] / "dataset-metadata.json").read_bytes())
    assert said["id"] == "me/test-faces" and 6 <= len(said["title"]) <= 50
    assert 20 <= len(said["subtitle"]) <= 80
    assert said["licenses"] == [{"name": "CC0-1.0"}]
    (resource,) = said["resources"]
    with open(written["kaggle"] / resource["path"], newline="") as file:
        head = next(csv.reader(file))
    assert [f["name"] for f in resource["schema"]["fields"]] == head


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"id": ""}, "--id is missing"),
        ({"id": "me"}, "wanted owner/slug"),
        ({"title": "short"}, "5 characters; Kaggle wants 6 to 50"),
    ],
)
def test_what_kaggle_refuses(part: Part, tmp_path: Path, about: dict[str, str], words: str) -> None:
    from dataclasses import replace

    from exporting import ABOUT

    with pytest.raises(UsageError, match=words):
        export("kaggle", part, tmp_path / "out", about=replace(ABOUT, **about))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["parquet", "webdataset", "imagefolder"])
def test_the_card_says_what_is_in_it(written: dict[str, Path], form: str) -> None:
    text = (written[form] / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    head = {k: json.loads(v) for k, v in (line.split(": ", 1) for line in front.splitlines())}
    assert head["license"] == "cc0-1.0" and "synthetic" in head["tags"]
    assert head["size_categories"] == ["n<1K"]
    (config,) = head["configs"]
    rows = pq.read_table(written[form] / "manifest.parquet").column("split").to_pylist()
    assert [f["split"] for f in config["data_files"]] == [s for s in SPLITS if s in rows]
    for split in {*rows}:
        assert f"| {split} | {rows.count(split)} |" in body
    assert "cosine above 0.985" in body
    with Image.open(written[form] / "faces.jpg") as picture:
        assert picture.size == (8 * 128, 3 * 128)
    if form == "parquet":
        counts = {s["name"]: s["num_examples"] for s in head["dataset_info"]["splits"]}
        assert counts == {s: rows.count(s) for s in {*rows}}


def test_a_mirror_is_smaller_in_everything(part: Part, tmp_path: Path) -> None:
    """Photos, maps and points are reduced together."""
    big = rich_part(tmp_path / "big", 4)
    export("imagefolder", big, tmp_path / "out", look=Look(size=64))
    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert all(r["image_width"] == 64 for r in rows)  # not larger than asked for: as they are
    wide = Part.create(tmp_path / "wide")
    from tiny import finish, finish_about, tiny_pixels

    face = FaceRecord("a", source="a.png", licence="CC0-1.0")
    finish(wide, "synthesize", [[face.with_image("images", tiny_pixels(1, 128)[0])]])
    mask = np.repeat(np.repeat(mask_of(0), 2, 0), 2, 1)
    finish_about(wide, "parse", [[FaceRecord("a").with_image("segmentations", mask)]])
    points = points_of(0)
    finish_about(wide, "landmark", [[FaceRecord("a").with_array("landmarks_110", points)]])
    export("imagefolder", wide, tmp_path / "mirror", look=Look(size=64), shares=Shares((1, 0, 0)))
    (row,) = pq.read_table(tmp_path / "mirror" / "manifest.parquet").to_pylist()
    with Image.open(tmp_path / "mirror" / row["file_name"]) as image:
        assert image.size == (64, 64) and "xmp" in image.info
    with Image.open(tmp_path / "mirror" / row["mask_file_name"]) as image:
        assert (np.asarray(image) == mask_of(0)).all()
    (line,) = (tmp_path / "mirror" / "train" / "metadata.jsonl").read_text().splitlines()
    assert np.allclose(json.loads(line)["landmarks"], (points[:, :2] + 0.5) / 2 - 0.5, atol=1e-4)


def test_shards_are_cut_by_size(part: Part, tmp_path: Path) -> None:
    for form, place in (("webdataset", ""), ("parquet", "data")):
        target = tmp_path / form
        export(form, part, target, shard=30_000)
        shards = sorted(p for p in (target / place).iterdir() if p.name.startswith("train-"))
        assert len(shards) > 1
        assert all(p.stat().st_size < 80_000 for p in shards)
        assert [p.name.split(".")[0][-5:] for p in shards] == [
            f"{i:05d}" for i in range(len(shards))
        ]


def test_samples_are_copies(part: Part, tmp_path: Path) -> None:
    export("webdataset", part, tmp_path / "out", samples=(3, 100))
    for folder, count in (("tiny sample (3 images)", 3), (f"tiny sample ({COUNT} images)", COUNT)):
        assert len(list((tmp_path / "out" / folder).iterdir())) == count
    path = tmp_path / "out" / "tiny sample (3 images)" / "T_00000000.png"
    assert path.read_bytes() == (part.root / "images" / "f0000.png").read_bytes()


def test_no_folder_gets_too_many_files(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfhq.export.files.MOST_FILES", 5)
    export("imagefolder", part, tmp_path / "out")
    images = [p for p in (tmp_path / "out").rglob("*") if p.is_dir() and p.name.isdecimal()]
    assert len(images) > 4 and all(len(list(p.iterdir())) <= 5 for p in images)


def test_photos_can_be_made_jpeg(part: Part, tmp_path: Path) -> None:
    export("webdataset", part, tmp_path / "out", look=Look("jpg", 90))
    with tarfile.open(tmp_path / "out" / "train-00000.tar") as tar:
        name = next(n for n in tar.getnames() if n.endswith(".jpg"))
        file = tar.extractfile(name)
        assert file is not None
        with Image.open(io.BytesIO(file.read())) as image:
            assert image.format == "JPEG" and b"trainedAlgorithmicMedia" in image.info["xmp"]


@pytest.mark.parametrize("name", ["a.png", "T_00000007.landmarks.npy", "x" * 100])
@pytest.mark.parametrize("size", [0, 511, 512, 10**9])
def test_the_head_of_a_member_is_that_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    assert header(name.encode(), size) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("size", [(5, 7), (64, 64)])
def test_a_palette_is_taken_away_without_decoding(size: tuple[int, int]) -> None:
    ids: Pixels = np.random.default_rng(0).integers(0, 19, size).astype(np.uint8)
    coloured = encode_image(ids)
    plain = without_palette(coloured)
    assert plain is not None
    with Image.open(io.BytesIO(plain)) as image:
        image.load()
        assert image.mode == "L" and (np.asarray(image) == ids).all()
        assert "XML:com.adobe.xmp" in image.info  # the mark stays
    assert without_palette(plain) is None


def test_the_picture_of_the_card_has_the_mark_of_its_photos(
    written: dict[str, Path], tmp_path: Path
) -> None:
    from tiny import finish, tiny_pixels

    part = Part.create(tmp_path / "part")
    finish(part, "render", [[FaceRecord("a").with_image("renders", tiny_pixels(1)[0])]])
    export("parquet", part, tmp_path / "out")
    with Image.open(tmp_path / "out" / "faces.jpg") as image:
        assert b"/algorithmicMedia" in image.info["xmp"]
    with Image.open(written["parquet"] / "faces.jpg") as image:
        assert b"/trainedAlgorithmicMedia" in image.info["xmp"]
