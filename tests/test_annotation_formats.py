"""Labels in other programs' formats, read back by those."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from annotated import SIDE, exact_points, heads
from command import sfhq
from PIL import Image
from test_label_stages import aligned_part
from tiny import tiny_pixels

from annotate.exchange.faces import labelled
from annotate.exchange.pts import from_pts, to_pts
from annotate.labels.names import DEFINITIONS, NAMES, SKELETON
from sfhq.errors import IntegrityError
from sfhq.faces.classes import CLASSES, HEAD, ID
from sfhq.faces.points import COUNT, mirror
from sfhq.images import CLASS_COLOURS


def test_every_point_has_a_name_and_a_definition() -> None:
    assert len({*NAMES}) == len(DEFINITIONS) == COUNT
    for i, name in enumerate(NAMES[:80]):
        other = NAMES[mirror(i)]
        swapped = name.replace("right", "#").replace("left", "right").replace("#", "left")
        assert other == swapped
    for word in ("trichion, tr", "vertex, v", "euryon, eu", "tragion, t", "pronasale, prn"):
        assert any(word in text for text in DEFINITIONS), word
    assert {i for line in SKELETON for i in line} == {*range(COUNT)}


def test_docs_list_the_points_as_they_are_named() -> None:
    text = (Path(__file__).parent.parent / "docs" / "landmarks.md").read_text(encoding="utf-8")
    for i, (name, words) in enumerate(zip(NAMES, DEFINITIONS, strict=True)):
        assert f"| {i} | `{name}` | {words} |" in text, "run: python -m benchmarks.landmark_picture"


def test_pts_count_from_one_and_lead_back() -> None:
    points = np.random.default_rng(0).uniform(-3, 500, (68, 2))
    text = to_pts(points)
    assert text.splitlines()[:3] == ["version: 1", "n_points: 68", "{"]
    first = [float(v) for v in text.splitlines()[3].split()]
    assert first == pytest.approx(points[0] + 1, abs=1e-3)
    assert np.allclose(from_pts(text), points, atol=1e-3)


@pytest.mark.parametrize(
    "text", ["", "version: 1\nn_points: 3\n{\n1 2\n}\n", "n_points: 1\n{\n1 x\n}", "{\n}\n", "}\n{"]
)
def test_damaged_pts_are_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match=r"no \.pts file"):
        from_pts(text)


# pycocotools 2.0 was written for numpy 1
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_is_read_back_by_its_own_library(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    part = heads(tmp_path / "heads")
    sfhq("annotations", "export", part.root, tmp_path / "coco", "--format", "coco")
    coco = COCO(tmp_path / "coco" / "annotations.coco.json")
    assert len(coco.getImgIds()) == 4
    (face_category,) = coco.loadCats(coco.getCatIds(catNms=["face"]))
    assert tuple(face_category["keypoints"]) == NAMES
    for number, face in enumerate(labelled(part), 1):
        (image,) = coco.loadImgs(number)
        with Image.open(tmp_path / "coco" / image["file_name"]) as photo:
            assert photo.size == (image["width"], image["height"])
            assert np.array_equal(np.asarray(photo), face.photo)
        mask, points = face.mask, face.points
        assert mask is not None and points is not None
        (whole,) = coco.loadAnns(coco.getAnnIds(imgIds=number, catIds=face_category["id"]))
        assert np.array_equal(coco.annToMask(whole), np.isin(mask, HEAD))
        keypoints = np.array(whole["keypoints"]).reshape(-1, 3)
        assert np.array_equal(keypoints[:, 2], points[:, 2])
        there = points[:, 2] > 0
        assert np.allclose(keypoints[there, :2], points[there, :2], atol=1e-3)
        assert (keypoints[~there] == 0).all() and whole["num_keypoints"] == there.sum()
        rest = coco.loadAnns(coco.getAnnIds(imgIds=number))
        names = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
        classes = {names[a["category_id"]]: coco.annToMask(a) for a in rest if a is not whole}
        classes.pop("face", None)
        assert {*classes} == {CLASSES[i] for i in np.unique(mask) if i}
        for name, found in classes.items():
            assert np.array_equal(found, mask == ID[name])


def test_label_studio_has_places_in_percent(tmp_path: Path) -> None:
    part = heads(tmp_path / "heads", 1)
    sfhq("annotations", "export", part.root, tmp_path / "out", "--format", "label-studio")
    (task,) = json.loads((tmp_path / "out" / "tasks.json").read_bytes())
    results = task["predictions"][0]["result"]
    assert len(results) == COUNT - 1, "a missing point is not drawn"
    labels = ElementTree.fromstring((tmp_path / "out" / "config.xml").read_text()).iter("Label")
    known = [label.get("value") for label in labels]
    assert tuple(known) == NAMES
    exact = exact_points()
    for result in results:
        (name,) = result["value"]["keypointlabels"]
        x, y, _ = exact[NAMES.index(name)]
        assert result["value"]["x"] / 100 * SIDE - 0.5 == pytest.approx(x, abs=1e-3)
        assert result["value"]["y"] / 100 * SIDE - 0.5 == pytest.approx(y, abs=1e-3)
    assert (tmp_path / "out" / task["data"]["image"]).is_file()


def test_cvat_maps_have_the_colours_of_their_list(tmp_path: Path) -> None:
    part = heads(tmp_path / "heads")
    sfhq("annotations", "export", part.root, tmp_path / "out", "--format", "cvat")
    lines = (tmp_path / "out" / "labelmap.txt").read_text().splitlines()[1:]
    colours = {}
    for line in lines:
        name, colour, _, _ = line.split(":")
        colours[name] = tuple(int(v) for v in colour.split(","))
    assert colours == dict(zip(CLASSES, CLASS_COLOURS, strict=True))
    names = (tmp_path / "out" / "ImageSets" / "Segmentation" / "default.txt").read_text().split()
    assert names == [face.name for face in labelled(part)]
    for face in labelled(part):
        with Image.open(tmp_path / "out" / "SegmentationClass" / f"{face.name}.png") as image:
            mask = face.mask
            assert mask is not None
            assert image.mode == "P" and np.array_equal(np.asarray(image), mask)
            shown = np.asarray(image.convert("RGB"))
        assert np.array_equal(shown, np.asarray(CLASS_COLOURS, np.uint8)[mask])
        assert (tmp_path / "out" / "JPEGImages" / f"{face.name}.png").is_file()


@pytest.mark.parametrize("points", [68, 110])
def test_npz_and_pts_hold_the_points(tmp_path: Path, points: int) -> None:
    part = heads(tmp_path / "heads", 2)
    sfhq(
        *("annotations", "export", part.root, tmp_path / "npz", "--format", "npz"),
        *("--points", points, "--no-images"),
    )
    sfhq("annotations", "export", part.root, tmp_path / "pts", "--format", "pts", "--no-images")
    for face in labelled(part):
        rows = face.points
        assert rows is not None
        with np.load(tmp_path / "npz" / f"{face.name}.npz") as archive:
            assert np.allclose(archive["landmarks"], rows[:points, :2], atol=1e-4)
            assert ("visibility" in archive) == (points == 110)
        text = (tmp_path / "pts" / f"{face.name}.pts").read_text()
        assert np.allclose(from_pts(text), rows[:68, :2], atol=1e-3)
    assert not (tmp_path / "npz" / "images").exists()


def test_an_export_goes_nowhere_else(tmp_path: Path) -> None:
    part = heads(tmp_path / "heads", 1)
    words = ("annotations", "export", part.root)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    said = sfhq(*words, tmp_path / "full", "--format", "cvat", code=2).stderr
    assert "holds something else; give a new folder" in said
    sfhq(*words, tmp_path / "cvat", "--format", "cvat")
    sfhq(*words, tmp_path / "cvat", "--format", "cvat")
    assert "holds cvat" in sfhq(*words, tmp_path / "cvat", "--format", "pts", code=2).stderr
    (tmp_path / "file").touch()
    assert "a file; give" in sfhq(*words, tmp_path / "file", "--format", "pts", code=2).stderr
    bare = aligned_part(tmp_path / "bare", tiny_pixels(1))
    said = sfhq(
        "annotations", "export", bare.root, tmp_path / "x", "--format", "pts", code=2
    ).stderr
    assert f"run: sfhq parse {bare.root}" in said


def test_missing_pycocotools_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    part = heads(tmp_path / "heads", 1)
    said = sfhq(
        "annotations", "export", part.root, tmp_path / "c", "--format", "coco", code=1
    ).stderr
    assert "pip install 'sfhq[coco]'" in said
