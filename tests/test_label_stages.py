"""parse, landmark and attribute: what they write and refuse, bad input, resume after kills."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from reading import ATTRIBUTES, TinyReader, face_points
from test_masks import as_map, face_map
from tiny import finish, finish_about, tiny_pixels, tree

import annotate
import cli
from annotate.attribute import COMPONENTS, Attribute
from annotate.detect import Detect
from annotate.labels.classes import CLASSES, ID, flip_ids
from annotate.labels.classifier import Classes
from annotate.labels.describe import described
from annotate.labels.looks import FACIAL_HAIR, HATS
from annotate.labels.points import REASONS
from annotate.labels.sides import assign_sides
from annotate.landmark import Landmark
from annotate.parse import HAIR, MASKS, PROBABILITIES, Parse
from sfhq import stages
from sfhq.errors import UsageError
from sfhq.faces.detector import Detection, FaceDetector
from sfhq.faces.found import POINTS
from sfhq.faces.points import ARRAY as LANDMARKS
from sfhq.faces.points import COUNT, MIRROR
from sfhq.parts.part import Part
from sfhq.parts.photos import read_mask, read_photo, read_pixels
from sfhq.parts.records import FaceRecord, Pixels
from sfhq.pipeline import load_recipe
from sfhq.pipeline.engine import run_stage
from sfhq.weights.checkpoints import pack_path

DIGEST = "0" * 64
KNOWN = (
    *(name for _, name in (*FACIAL_HAIR, *HATS)),
    *("Sunglasses", "Eyeglasses", "Wearing_Hat", "Headscarf", "Smiling", "Male"),
    "Wearing_Earrings",
)
NAMES = (*KNOWN, *(f"other_{i}" for i in range(ATTRIBUTES - len(KNOWN))))


def parse(size: int = 32, **more: Any) -> Parse:
    return Parse(Classes(TinyReader(size), DIGEST), **more)


def landmark(size: int = 32, **more: Any) -> Landmark:
    return Landmark(TinyReader(size), DIGEST, **more)


def attribute(size: int = 32, **more: Any) -> Attribute:
    return Attribute(TinyReader(size), DIGEST, NAMES, **more)


ALL: tuple[Callable[[], Any], ...] = (parse, landmark, attribute)


def aligned_part(root: Path, pixels: list[Pixels], shard: int = 3) -> Part:
    """Aligned photos, and nothing else."""
    part = Part.create(root, "toy")
    records = [FaceRecord(f"f{i:03d}").with_image("aligned", p) for i, p in enumerate(pixels)]
    finish(part, "align", [records[i : i + shard] for i in range(0, len(records), shard)])
    return part


def photo_part(root: Path, photos: dict[str, Pixels]) -> Part:
    """Photos as they came, not aligned."""
    folder = root / "photos"
    folder.mkdir(parents=True)
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    part = Part.create(root / "part")
    run_stage(load_recipe(None, {"ingest.source": folder}).build("ingest", part.root), part)
    return part


Face = tuple[float, float, float, str]  # x, y of the frame's corner, its side, the flaw


def detected(part: Part, faces: dict[str, list[Face]]) -> None:
    """What `detect` would have found: the first face with points, the others with boxes."""
    shards = []
    for shard in part.shards("ingest"):
        rows = []
        for record in part.read_shard("ingest", shard):
            here = faces.get(Path(record.source).stem, [])
            boxes, points = [], np.full((68, 2), np.nan)
            for place, (x, y, side, flaw) in enumerate(here):
                own = face_points()[:68] * side + (x, y)
                (x0, y0), (x1, y1) = own.min(0), own.max(0)
                boxes += [x0, y0, x1, y1]
                if place == 0 and not flaw:
                    points = own
            said = FaceRecord(record.face_id).with_columns(
                face_count=len(here),
                face_boxes=boxes,
                face_scores=[1.0] * len(here),
                face_detector="hog" if here else "",
                face_flaw=here[0][3] if here else "",
            )
            rows.append(said.with_array(POINTS, points.astype(np.float32)))
        shards.append(rows)
    finish_about(part, "detect", shards, Detect.columns)


def noise(seed: int, height: int, width: int, grey: bool = False) -> Pixels:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (9, 9, 1 if grey else 3), dtype=np.uint8).repeat(
        3 if grey else 1, 2
    )
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def by_name(part: Part) -> dict[str, FaceRecord]:
    return {Path(r.source).stem: r for r in part.faces()}


def test_an_aligned_part_gets_all_labels(tmp_path: Path) -> None:
    part = aligned_part(tmp_path, tiny_pixels(4, 48))
    for stage in (parse(alpha=True, probabilities=True), landmark(), attribute()):
        assert run_stage(stage, part).alive == 4
    for record in part.faces():
        mask = read_mask(part, record, MASKS)
        assert mask.shape == (48, 48) and mask.dtype == np.uint8 and mask.max() < len(CLASSES)
        with Image.open(part.image_path(MASKS, record.face_id)) as image:
            assert image.mode == "P", "a palette shows the classes, and its indices are the ids"
        hair = read_pixels(part, record, HAIR)
        assert (hair[..., 0] == hair[..., 1]).all() and hair.shape == (48, 48, 3)
        shares = record.about["class_shares"]
        assert shares == pytest.approx([(mask == i).mean() for i in range(19)], abs=1e-5)
        levels = part.row(PROBABILITIES, record)
        assert levels.shape == (19, 32, 32) and levels.dtype == np.uint8
        assert abs(levels.astype(int).sum(0) - 255).max() <= 10
        points = part.row(LANDMARKS, record)
        assert points.shape == (COUNT, 5) and points.dtype == np.float32
        assert np.isfinite(points).all() and {*points[:, 2]} <= {0, 1, 2}
        assert {*points[:, 4].astype(int)} <= {*range(len(REASONS))}
        unit = np.hypot(*(points[45, :2] - points[36, :2]))
        assert record.about["eye_distance"] == pytest.approx(unit, abs=1e-2)
        assert 0 <= record.about["quality"] <= 100
        parts = {name: record.about[f"quality_{name}"] for name in COMPONENTS}
        assert {n for n, v in parts.items() if v is None} <= {
            "natural_colour",
            "background_uniformity",
        }
        assert all(0 <= v <= 100 for v in parts.values() if v is not None)
        assert part.row("attribute_probabilities", record).shape == (ATTRIBUTES,)
        present = record.about["attributes_present"].split(", ")
        found = dict(zip(NAMES, part.row("attribute_probabilities", record).tolist(), strict=True))
        wanted = [n for n in NAMES[:40] if found[n] > 0.85]
        assert [name for name in present if name] == wanted
        assert record.about["attributes_valid"] == (len(wanted) >= 5)
    assert "quality_sharpness" in part.table().column_names


def test_labels_of_the_mirrored_photo_are_the_mirrored_labels(tmp_path: Path) -> None:
    photo = tiny_pixels(1, 51)[0]
    part = aligned_part(tmp_path, [photo, np.ascontiguousarray(photo[:, ::-1])])
    for stage in (parse(), landmark()):
        run_stage(stage, part)
    one, other = part.faces()
    assert (read_mask(part, other, MASKS) == flip_ids(read_mask(part, one, MASKS))).all()
    here, there = part.row(LANDMARKS, one), part.row(LANDMARKS, other)[list(MIRROR)]
    assert np.allclose(here[:, 0], 50 - there[:, 0], atol=1e-3)
    assert np.allclose(here[:, 1], there[:, 1], atol=1e-3) and (here[:, 2] == there[:, 2]).all()


def test_photos_of_all_kinds_are_labelled_or_say_why_not(tmp_path: Path) -> None:
    whole: Face = (20, 10, 120, "")
    photos = {
        "face": noise(1, 160, 180),
        "nobody": noise(2, 160, 180),
        "cat": noise(3, 160, 180),
        "profile": noise(4, 160, 180),
        "grey": noise(5, 160, 180, grey=True),
        "tiny": noise(6, 64, 64),
        "huge": noise(7, 300, 6000),
        "cut": noise(8, 160, 180),
    }
    part = photo_part(tmp_path, photos)
    detected(
        part,
        {
            "face": [whole],
            "cat": [(20, 10, 120, "landmarks disagree")],
            "profile": [(20, 10, 120, "profile")],
            "grey": [whole],
            "tiny": [(4, 2, 56, "")],
            "huge": [(2900, 20, 260, "")],
            "cut": [(-60, 10, 120, "")],
        },
    )
    for stage in (parse(), landmark(), attribute()):
        assert run_stage(stage, part).alive == len(photos), "no photo is rejected"
    said = by_name(part)
    for name in ("nobody", "cat"):
        about = said[name].about
        assert about["parse_flags"] == about["landmark_flags"] == "no face"
        assert MASKS not in said[name].hashes and about["class_shares"] == []
        points = part.row(LANDMARKS, said[name])
        assert np.isnan(points[:, :2]).all() and (points[:, 2] == 0).all()
        assert about["quality"] == 0 and about["hair_colour"] == "" and about["yaw"] is None
        assert np.isnan(part.row("attribute_probabilities", said[name])).all()
    for name in ("face", "profile", "grey", "tiny", "huge", "cut"):
        mask = read_mask(part, said[name], MASKS)
        assert mask.shape == photos[name].shape[:2], name
        assert mask.any()
    assert "rough frame" in said["profile"].about["parse_flags"]
    assert "rough frame" in said["profile"].about["landmark_flags"]
    assert "small photo" in said["tiny"].about["parse_flags"]
    assert "truncated" in said["cut"].about["landmark_flags"]
    outside = part.row(LANDMARKS, said["cut"])
    gone = outside[:, 0] < -0.5
    assert gone.any() and (outside[gone, 2] == 0).all()
    assert {REASONS[int(r)] for r in outside[gone, 4]} == {"outside"}
    unread = read_mask(part, said["huge"], MASKS)
    assert not unread[:, :2500].any() and not unread[:, 3500:].any()


def test_several_faces_share_a_map(tmp_path: Path) -> None:
    pair = noise(1, 160, 400), noise(1, 160, 400).copy()
    pair[1][-1, -1] ^= 255  # the same picture twice would be taken once
    part = photo_part(tmp_path, {"two": pair[0], "one": pair[1]})
    first, second = (10.0, 10.0, 130.0, ""), (240.0, 10.0, 130.0, "")
    detected(part, {"two": [first, second], "one": [first]})
    run_stage(parse(), part)
    said = by_name(part)
    both, alone = (read_mask(part, said[n], MASKS) for n in ("two", "one"))
    assert both[:, 260:340].any() and not alone[:, 260:340].any()
    assert (both[:, 20:130] == alone[:, 20:130]).all()
    assert "several faces" in said["two"].about["parse_flags"]
    run_stage(attribute(), part)
    said = by_name(part)
    assert said["one"].about["quality_single_face_present"] == 100
    assert said["two"].about["quality_single_face_present"] < 50


@pytest.mark.parametrize("make", ALL)
def test_photos_that_are_not_aligned_need_detect(tmp_path: Path, make: Callable[[], Any]) -> None:
    part = photo_part(tmp_path, {"a": noise(1, 64, 64)})
    with pytest.raises(UsageError, match="run: sfhq detect"):
        run_stage(make(), part)


def test_exact_maps_are_not_replaced(tmp_path: Path) -> None:
    part = Part.create(tmp_path)
    pixels = tiny_pixels(1)[0]
    head = FaceRecord("head").with_image("renders", pixels).with_image(MASKS, pixels[..., 0] % 19)
    finish(part, "render", [[head]])
    with pytest.raises(UsageError, match="render wrote exact maps"):
        run_stage(parse(), part)


def test_points_of_detect_take_the_place_of_the_networks(tmp_path: Path) -> None:
    part = photo_part(tmp_path, {"face": noise(1, 160, 180), "nobody": noise(2, 160, 180)})
    with pytest.raises(UsageError, match="run: sfhq detect"):
        run_stage(landmark(source="dlib"), part)
    detected(part, {"face": [(20, 10, 120, "")]})
    run_stage(landmark(source="dlib"), part)
    said = by_name(part)
    wanted = face_points()[:68] * 120 + (20, 10)
    assert np.allclose(part.row(LANDMARKS, said["face"])[:68, :2], wanted, atol=1e-3)
    with pytest.raises(UsageError, match="points='dlib', now points='network'"):
        run_stage(landmark(), part)


def test_an_aligned_photo_without_68_points_says_so(tmp_path: Path) -> None:
    part = aligned_part(tmp_path, tiny_pixels(2, 48))
    rows = [
        FaceRecord(r.face_id)
        .with_columns(face_count=0, face_boxes=[], face_scores=[], face_detector="", face_flaw="")
        .with_array(POINTS, np.full((68, 2), np.nan, np.float32))
        for r in part.faces()
    ]
    finish_about(part, "detect", [rows], Detect.columns)
    run_stage(landmark(source="dlib"), part)
    assert all("no 68 points" in r.about["landmark_flags"] for r in part.faces())


def test_settings_say_what_decides() -> None:
    assert parse().settings() != parse(alpha=True).settings() != parse(size=64).settings()
    assert landmark().settings() != landmark(hairline="fused").settings()
    assert attribute().settings() != attribute(two_sided=True).settings()
    assert {HAIR, PROBABILITIES} & {*parse().written()} == set()
    assert {HAIR, PROBABILITIES} <= {*parse(alpha=True, probabilities=True).written()}
    with pytest.raises(UsageError, match=r"threshold is 0\.4"):
        attribute(threshold=0.4)


def test_who_writes_a_map_is_a_stage_about_faces() -> None:
    from sfhq.parts.lineage import writer_of

    assert writer_of(MASKS) == "parse", "a part has a source already; it cannot be rendered anew"
    assert writer_of("renders") == "render"
    assert writer_of(LANDMARKS) == "landmark"


def test_weights_that_are_missing_name_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFHQ_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    part = aligned_part(tmp_path / "part", tiny_pixels(1))
    for words, said in (
        (["parse", "--network", "bisenet"], "sfhq models fetch bisenet"),
        (["parse", "--network", "bisenet", "--weights", "no.pth"], "no.pth: no such weights file"),
        (["parse", "--size", "256"], "--size is BiSeNet's"),
    ):
        result = CliRunner().invoke(cli.main, [words[0], str(part.root), *words[1:]])
        assert result.exit_code == 2 and said in result.stderr, result.output


def test_help_says_whose_looks_these_are() -> None:
    text = " ".join(CliRunner().invoke(cli.main, ["attribute", "--help"]).stdout.split())
    assert "predicted looks of synthetic faces, not facts about people" in text
    assert "ISO/IEC 29794-5" in text
    assert {"parse", "landmark", "attribute"} <= {*stages.names()}


DRIVER = """
import os, pathlib, random, sys, time
import numpy, pyarrow.parquet, PIL.PngImagePlugin, torch
torch.set_num_threads(1)
import test_label_stages as t
from sfhq.pipeline.engine import run_stage
from sfhq.parts.part import Part
root, kills = pathlib.Path(sys.argv[1]), int(sys.argv[2])

def start(folder):
    pid = os.fork()
    if pid == 0:
        try:
            part = Part.open(root / folder)
            for stage in (t.parse(alpha=True), t.landmark(), t.attribute()):
                run_stage(stage, part)
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

began = time.monotonic()
assert os.waitpid(start("whole"), 0)[1] == 0
whole = time.monotonic() - began
draw, killed = random.Random(1), 0
for _ in range(kills):
    pid = start("part")
    time.sleep(draw.uniform(0, 1.5 * whole / kills))
    os.kill(pid, 9)
    killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
assert os.waitpid(start("part"), 0)[1] == 0
print(killed)
"""


def test_killed_stages_end_with_the_same_bytes(tmp_path: Path) -> None:
    for name in ("whole", "part"):
        aligned_part(tmp_path / name, tiny_pixels(12, 48), shard=2)
    path = os.pathsep.join(str(p) for p in (Path(__file__).parent.parent, Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path), "8"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= 2, "the runs ended before they could be killed"
    whole, part = tree(tmp_path / "whole"), tree(tmp_path / "part")
    assert whole == part
    assert sum(name.startswith(f"{MASKS}/") for name in whole) == 12


def test_read_photo_is_what_the_stages_saw(tmp_path: Path) -> None:
    """The map lies on the photo that the part hands out."""
    part = aligned_part(tmp_path, tiny_pixels(1, 40))
    run_stage(parse(), part)
    (record,) = part.faces()
    assert read_mask(part, record, MASKS).shape == read_photo(part, record).shape[:2]


def test_an_export_has_the_labels_in_the_published_layout(tmp_path: Path) -> None:
    from sfhq.export.sfhq_layout import export_sfhq

    part = Part.create(tmp_path / "part")
    pixels = tiny_pixels(3, 48)
    faces = [FaceRecord(f"f{i}").with_image("images", p) for i, p in enumerate(pixels)]
    finish(part, "synthesize", [faces])
    with pytest.raises(UsageError, match="run: sfhq detect"):
        export_sfhq(part, tmp_path / "early", name="pt", labels={})
    run_stage(parse(), part)
    run_stage(landmark(), part)
    export_sfhq(part, tmp_path / "out", name="pt", labels={})
    for i, record in enumerate(part.faces()):
        with np.load(tmp_path / "out" / "landmarks" / f"pt_{i:08d}.npz") as archive:
            points, flags = archive["landmarks"], archive["visibility"]
        assert points.shape == (110, 2) and points.dtype == np.float32 and flags.shape == (110,)
        assert np.array_equal(points, part.row(LANDMARKS, record)[:, :2])
        with Image.open(tmp_path / "out" / "segmentations" / f"pt_{i:08d}.png") as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), read_mask(part, record, MASKS))


@dataclass(frozen=True)
class TwoFaces:
    """A detector that finds two faces in every picture."""

    def detect(self, image: Image.Image) -> list[Detection]:
        return [
            Detection((x, 20.0, x + side, 20.0 + side), 1.0, face_points()[:68] * side + (x, 20))
            for x, side in ((200.0, 60.0), (20.0, 120.0))
        ]

    def settings(self) -> dict[str, Any]:
        return {}


def test_one_picture_is_labelled_without_a_part() -> None:
    labeller = annotate.Labeller(TinyReader(), NAMES, TwoFaces())
    photo = noise(1, 160, 300)
    first, second = labeller(Image.fromarray(photo))
    assert first.points[30, 0] < 150 < second.points[30, 0], "the larger one first"
    for face in (first, second):
        assert face.mask.shape == face.hair.shape == (160, 300) and face.points.shape == (110, 5)
        assert set(face.attributes) == set(NAMES) and face.looks["quality"] > 0
        assert {*face.looks} == {*Attribute.columns}
    assert first.looks["quality_single_face_present"] == pytest.approx(75, abs=0.1)
    square = noise(2, 50, 50)
    (aligned,) = labeller(square, aligned=True)
    (mirrored,) = labeller(np.ascontiguousarray(square[:, ::-1]), aligned=True)
    assert (mirrored.mask == flip_ids(aligned.mask)).all()


def test_it_says_the_same_as_the_stages(tmp_path: Path) -> None:
    photo = tiny_pixels(1, 48)[0]
    part = aligned_part(tmp_path, [photo])
    for stage in (parse(), landmark(), attribute()):
        run_stage(stage, part)
    (record,) = part.faces()
    (face,) = annotate.Labeller(TinyReader(), NAMES, TwoFaces())(photo, aligned=True)
    assert (read_mask(part, record, MASKS) == face.mask).all()
    assert np.allclose(part.row(LANDMARKS, record), face.points, atol=1e-4)
    assert {k: record.about[k] for k in Attribute.columns} == {**face.looks}
    said = {*record.about["parse_flags"].split(", "), *record.about["landmark_flags"].split(", ")}
    assert {word for word in said if word} == {*face.flags}


@pytest.mark.skipif(not pack_path("labels").is_file(), reason="no embedded label network")
def test_the_embedded_network_labels_a_picture() -> None:
    """The three lines of the README, on the shipped sample art."""
    path = Path(cli.__file__).parent / "sfhq" / "samples" / "oil_0000.jpg"
    face = annotate.Labeller.load()(Image.open(path))[0]
    present = {CLASSES[i] for i in np.unique(face.mask)}
    assert {"skin", "hair", "nose", "l_brow", "r_brow", "l_eye", "r_eye"} <= present
    left, right = (np.nonzero(face.mask == ID[f"{side}_eye"])[1].mean() for side in "lr")
    assert right < left, "the subject's right eye lies on the picture's left"
    assert np.isfinite(face.points).all() and (face.points[:68, 2] > 0).mean() > 0.8
    found = FaceDetector().detect(Image.open(path).convert("RGB"))[0].landmarks
    unit = np.hypot(*(found[45] - found[36]))
    apart = np.hypot(*(face.points[17:68, :2] - found[17:]).T)
    assert np.median(apart) < 0.08 * unit, "dlib sees the same face"
    assert 0 < face.looks["quality"] <= 100 and len(face.attributes) >= 40


def test_glasses_need_the_map_and_the_attribute() -> None:
    reading = TinyReader(61).read(np.full((1, 61, 61, 3), 120, np.uint8))
    drawn = assign_sides(face_map())
    photo = np.full((61, 61, 3), 120, np.uint8)
    sure = {**dict.fromkeys(NAMES, 0.1), "Eyeglasses": 0.9}
    rows = np.zeros((COUNT, 5))
    rows[:, :2] = face_points() * 61
    plain = described(photo, reading, sure, as_map(drawn), rows)
    drawn[28:34, 12:48] = ID["eye_g"]
    worn = described(photo, reading, sure, as_map(drawn), rows)
    unsure = described(photo, reading, {**sure, "Eyeglasses": 0.3}, as_map(drawn), rows)
    assert (plain["glasses"], worn["glasses"], unsure["glasses"]) == ("none", "clear", "none")
