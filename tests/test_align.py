from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from dlib_files import needs_dlib_file
from PIL import Image

from annotate.align import Align, Faces
from sfhq.errors import UsageError
from sfhq.faces.alignment import apply_transform, ffhq_quad, outside_share
from sfhq.faces.detector import Detection, FaceDetector, best_face
from sfhq.faces.dlib_models import PREDICTOR
from sfhq.faces.fit import Flaw
from sfhq.faces.turns import find_turned
from sfhq.ingest import Ingest
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.engine import run_stage

SAMPLE = Path(__file__).parents[1] / "sfhq" / "samples" / "clay_0033.jpg"
needs_dlib = needs_dlib_file(PREDICTOR)


def face_at(x: float, y: float, eyes: float = 60.0, score: float = 1.0) -> Detection:
    """A face whose eyes are `eyes` apart around (x, y); its crop is 4 x `eyes` wide."""
    landmarks = np.tile((x, y), (68, 1)).astype(np.float64)
    landmarks[36:42, 0] -= eyes / 2
    landmarks[42:48, 0] += eyes / 2
    landmarks[48], landmarks[54] = (x - eyes / 3, y + eyes), (x + eyes / 3, y + eyes)
    return Detection((x - eyes, y - eyes, x + eyes, y + 2 * eyes), score, landmarks)


@dataclass(frozen=True)
class FakeDetector:
    """Says what it was told."""

    found: tuple[Detection, ...] = ()

    def detect(self, image: Image.Image) -> list[Detection]:
        return list(self.found)

    def settings(self) -> dict[str, Json]:
        return {"detection": {"mode": "fake"}}


Ingested = Callable[..., Part]


@pytest.fixture
def ingested(tmp_path: Path) -> Ingested:
    """Makes a part with one ingested image of a size."""

    def make(width: int = 400, height: int = 300) -> Part:
        (tmp_path / "in").mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
        part = Part.create(tmp_path / "part")
        run_stage(Ingest(str(tmp_path / "in")), part)
        return part

    return make


def align(
    part: Part,
    *found: Detection,
    faces: Faces = "best",
    aligned: bool = False,
    max_padding: float = 0.35,
) -> FaceRecord:
    stage = Align(FakeDetector(found), 128, faces, aligned=aligned, max_padding=max_padding)
    run_stage(stage, part)
    (record,) = part.records("align")
    return record


def align_all(part: Part, *found: Detection) -> list[FaceRecord]:
    run_stage(Align(FakeDetector(found), 128, "all", min_face=48), part)
    return list(part.records("align"))


class TestCrop:
    def test_writes_crop_landmarks_and_transform(self, ingested: Ingested) -> None:
        part = ingested()
        face = face_at(200, 140)
        record = align(part, face)
        assert record.alive
        assert record.params["faces"] == 1
        assert (record.params["detector"], record.params["detection"]) == ("hog", 1.0)
        assert len(record.quad) == 8
        with Image.open(part.image_path("aligned", record.face_id)) as image:
            assert image.size == (128, 128)
            assert "xmp" not in image.info  # a crop of what someone else made bears no mark
        landmarks, transform = part.row("landmarks", record), part.row("transform", record)
        assert landmarks.dtype == np.float32
        assert transform.dtype == np.float64
        assert apply_transform(transform, landmarks) == pytest.approx(face.landmarks, abs=1e-3)
        assert landmarks[36:48].mean(axis=0)[0] == pytest.approx(63.5, abs=1e-3)

    def test_best_is_the_largest_box_times_score(self, ingested: Ingested) -> None:
        small, large = face_at(100, 140, 30, score=2.0), face_at(250, 140, 55)
        record = align(ingested(), small, large)
        assert record.params["faces"] == 2
        assert np.mean(record.quad[::2]) == pytest.approx(250)

    def test_no_face(self, ingested: Ingested) -> None:
        record = align(ingested())
        assert (record.rejected_by, record.reason) == ("align", "no face")
        assert "a.png (400x300)" in record.detail

    def test_several_faces(self, ingested: Ingested) -> None:
        record = align(ingested(), face_at(100, 150), face_at(300, 150), faces="single")
        assert record.reason == "several faces"

    @pytest.mark.parametrize("flaw", ["profile", "landmarks disagree"])
    def test_points_that_do_not_hold_are_refused_by_name(
        self, ingested: Ingested, flaw: Flaw
    ) -> None:
        face = replace(face_at(200, 140), detector="cnn", spread=0.123, flaw=flaw)
        record = align(ingested(), face)
        assert (record.rejected_by, record.reason) == ("align", flaw)
        assert "cnn is 1.00 sure" in record.detail
        assert "spread 0.123" in record.detail

    def test_a_face_without_flaw_goes_before_a_larger_one_with(self, ingested: Ingested) -> None:
        flawed = replace(face_at(100, 140), flaw="landmarks disagree")
        part = ingested()
        record = align(part, flawed, face_at(250, 140, 40), faces="single")
        assert np.mean(record.quad[::2]) == pytest.approx(250)

    def test_a_profile_counts_as_a_face(self, ingested: Ingested) -> None:
        other = replace(face_at(100, 140), flaw="profile")
        assert align(ingested(), other, face_at(250, 140), faces="single").reason == (
            "several faces"
        )

    def test_too_small(self, ingested: Ingested) -> None:
        assert align(ingested(), face_at(200, 140, 12)).reason == "face too small"

    def test_cut_off(self, ingested: Ingested) -> None:
        assert align(ingested(), face_at(20, 20)).reason == "face cut off"

    def test_cut_off_if_allowed(self, ingested: Ingested) -> None:
        record = align(ingested(), face_at(20, 20), max_padding=1.0)
        assert record.alive
        assert record.params["padded"] > 0.35

    def test_landmarks_without_direction(self, ingested: Ingested) -> None:
        nothing = Detection((0, 0, 9, 9), 1.0, np.ones((68, 2)))
        assert align(ingested(), nothing).reason == "no face"

    def test_source_changed_since(self, ingested: Ingested, tmp_path: Path) -> None:
        part = ingested()
        Image.new("RGB", (400, 300)).save(tmp_path / "in" / "a.png")
        record = align(part, face_at(200, 140))
        assert record.reason == "source changed"
        assert not part.image_path("aligned", record.face_id).exists()

    def test_found_and_wanted_differ_in_messages(self, ingested: Ingested) -> None:
        part = ingested()
        stage = Align(FakeDetector((face_at(200, 140, 59.99),)), 128, min_face=240)
        run_stage(stage, part)
        (record,) = part.records("align")
        assert "crop of 239.96 px; wanted 240.00 or more" in record.detail
        share = outside_share(ffhq_quad(face_at(20, 20).landmarks), 400, 300)
        run_stage(
            replace(
                stage,
                detector=FakeDetector((face_at(20, 20),)),
                min_face=1,
                max_padding=share - 0.0004,
            ),
            part,
            redo=True,
        )
        (record,) = part.records("align")
        found, wanted = re.findall(r"([0-9.]+%)", record.detail)
        assert float(found[:-1]) > float(wanted[:-1])


class TestAll:
    def test_every_usable_face_becomes_a_face(self, ingested: Ingested) -> None:
        part = ingested()
        large, small = face_at(130, 140, 40), face_at(300, 140, 30)
        flawed = replace(face_at(200, 100, 80), flaw="profile")
        record, other = align_all(part, small, flawed, large)
        (image,) = part.records("ingest")
        assert (record.face_id, record.parent_id) == (image.face_id, "")
        assert "face" not in record.params
        assert (other.face_id, other.parent_id) == (f"{image.face_id}-f1", image.face_id)
        assert (other.params["face"], other.params["faces"]) == (1, 3)
        assert [np.mean(r.quad[::2]) for r in (record, other)] == pytest.approx([130, 300])
        for each, face in ((record, large), (other, small)):
            assert part.image_path("aligned", each.face_id).is_file()
            points = apply_transform(part.row("transform", each), part.row("landmarks", each))
            assert points == pytest.approx(face.landmarks, abs=1e-3)

    def test_a_face_that_cannot_be_cut_does_not_take_the_others_along(
        self, ingested: Ingested
    ) -> None:
        cut, good, tiny = face_at(20, 60, 60), face_at(300, 140, 30), face_at(200, 200, 8)
        found = align_all(ingested(), cut, good, tiny)
        assert [r.reason for r in found] == ["face cut off", "", "face too small"]
        assert [r.params.get("face") for r in found] == [None, 1, 2]

    def test_the_first_keeps_what_it_has_with_best(self, ingested: Ingested) -> None:
        part = ingested()
        faces = face_at(130, 140, 40), face_at(300, 140, 30)
        best = align(part, *faces)
        run_stage(Align(FakeDetector(faces), 128, "all"), part, redo=True)
        first, _ = part.records("align")
        assert first == best


@dataclass(frozen=True)
class Upright:
    """Sees a white spot as a face where it is in the upper left quarter of what it is given."""

    flaw: Flaw = ""

    def detect(self, image: Image.Image) -> list[Detection]:
        y, x = np.argwhere(np.asarray(image)[..., 0] == 255)[0]
        if x > image.width / 2 or y > image.height / 2:
            return [replace(face_at(x, y, 20), flaw=self.flaw)] if self.flaw else []
        return [face_at(x, y, 20)]

    def settings(self) -> dict[str, Json]:
        return {}


SPOTS = {0: (150, 120), 90: (150, 179), 180: (249, 179), 270: (249, 120)}


class TestTurned:
    @staticmethod
    def spot(turn: int) -> Image.Image:
        image = Image.new("RGB", (400, 300))
        image.putpixel(SPOTS[turn], (255, 255, 255))
        return image

    @pytest.mark.parametrize("turn", SPOTS)
    def test_a_face_of_a_turned_scan_is_told_as_it_lies(self, turn: int) -> None:
        found_turn, (face,) = find_turned(Upright(), self.spot(turn))
        assert found_turn == turn
        assert face.landmarks[0] == pytest.approx(SPOTS[turn])
        eyes = face.landmarks[42] - face.landmarks[36]  # from the left one to the right one
        assert eyes == pytest.approx({0: (20, 0), 90: (0, -20), 180: (-20, 0), 270: (0, 20)}[turn])
        (x0, y0, x1, y1), (x, y) = face.box, SPOTS[turn]
        assert x0 < x < x1 and y0 < y < y1

    def test_a_profile_is_not_searched_again(self) -> None:
        turn, (face,) = find_turned(Upright("profile"), self.spot(90))
        assert (turn, face.flaw) == (0, "profile")
        assert find_turned(Upright("landmarks disagree"), self.spot(90))[0] == 90

    @needs_dlib
    @pytest.mark.parametrize("turn", [90, 180, 270])
    def test_the_crop_of_a_turned_scan_is_that_of_the_upright_one(
        self, ingested: Ingested, tmp_path: Path, turn: int
    ) -> None:
        crops = []
        for name, degrees in (("upright", 0), ("turned", turn)):
            root = tmp_path / name
            (root / "in").mkdir(parents=True)
            with Image.open(SAMPLE) as file:
                # Turned against the clock, so that as much clockwise brings it back.
                file.rotate(degrees, expand=True).save(root / "in" / "a.png")
            part = Part.create(root / "part")
            run_stage(Ingest(str(root / "in")), part)
            run_stage(Align.load(size=128), part)
            (record,) = part.records("align")
            assert record.params.get("turn", 0) == degrees
            crops.append(read_photo(part, record).astype(float))
        assert np.abs(crops[0] - crops[1]).mean() < 2.0

    @needs_dlib
    def test_what_the_cnn_sees_on_its_side_is_asked_of_hog(self, shared_data: Path) -> None:
        """Upside down, HOG is 0.66 sure of this photo; as it is, 1 or more."""
        with Image.open(shared_data / "portraits" / "reject_2677775038.jpg") as file:
            image = file.convert("RGB").resize((400, 400))
        assert find_turned(FaceDetector(), image)[0] == 0
        assert find_turned(FaceDetector(), image.rotate(180))[0] == 180

    @needs_dlib
    def test_a_face_among_other_things_in_a_large_photo(self, shared_data: Path) -> None:
        portraits = sorted((shared_data / "portraits").glob("keep_*.jpg"))
        with Image.open(portraits[1]) as file:
            below = file.convert("RGB").crop((0, 400, 512, 512))
        with Image.open(portraits[0]) as file:
            small = file.convert("RGB").resize((900, 900))
        canvas = below.resize((4000, 3000), Image.Resampling.BICUBIC)
        canvas.paste(small, (2900, 1900))
        face = best_face(FaceDetector().detect(canvas))
        assert face is not None
        assert 2900 < face.box[0] < face.box[2] < 3800
        assert 1900 < face.box[1] < face.box[3] < 2800
        assert face.box[2] - face.box[0] < 300

    @needs_dlib
    def test_a_group_of_near_and_far_faces(self, shared_data: Path, tmp_path: Path) -> None:
        portraits = sorted((shared_data / "portraits").glob("keep_*.jpg"))
        canvas = Image.new("RGB", (2400, 1400), (120, 130, 140))
        places = ((100, 100, 1200), (1500, 100, 300), (1950, 100, 300))
        for path, (x, y, size) in zip(portraits, places, strict=False):
            with Image.open(path) as file:
                canvas.paste(file.convert("RGB").resize((size, size)), (x, y))
        (tmp_path / "in").mkdir()
        canvas.save(tmp_path / "in" / "group.png")
        part = Part.create(tmp_path / "part")
        run_stage(Ingest(str(tmp_path / "in")), part)
        stage = Align.load(size=64, faces="all", detector="hog")
        assert stage.settings()["detection"]["thorough"] is True
        run_stage(stage, part)
        middles = sorted(np.mean(r.quad[::2]) for r in part.records("align") if r.alive)
        assert len(middles) == 3
        for middle, (x, _, size) in zip(middles, places, strict=True):
            assert x < middle < x + size

    def test_upright_pictures_only(self, ingested: Ingested, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        self.spot(90).save(tmp_path / "in" / "a.png")
        part = Part.create(tmp_path / "part")
        run_stage(Ingest(str(tmp_path / "in")), part)
        run_stage(Align(Upright(), 64, upright=True), part)
        assert [r.reason for r in part.records("align")] == ["no face"]
        run_stage(Align(Upright(), 64), part, redo=True)
        assert [r.params["turn"] for r in part.records("align")] == [90]


class TestAligned:
    def test_takes_the_whole_square(self, ingested: Ingested) -> None:
        part = ingested(256, 256)
        record = align(part, face_at(127.5, 120), aligned=True)
        assert record.quad == (-0.5, -0.5, -0.5, 255.5, 255.5, 255.5, 255.5, -0.5)
        expected = (face_at(127.5, 120).landmarks + 0.5) / 2 - 0.5
        assert part.row("landmarks", record) == pytest.approx(expected, abs=1e-4)

    def test_needs_no_face(self, ingested: Ingested) -> None:
        part = ingested(256, 256)
        record = align(part, aligned=True)
        assert record.alive
        assert record.params["faces"] == 0
        assert np.isnan(part.row("landmarks", record)).all()

    def test_keeps_no_points_that_do_not_hold(self, ingested: Ingested) -> None:
        part = ingested(256, 256)
        record = align(part, replace(face_at(127, 120), flaw="profile"), aligned=True)
        assert record.alive
        assert "detector" not in record.params
        assert np.isnan(part.row("landmarks", record)).all()

    def test_a_pixel_off_is_square_enough(self, ingested: Ingested) -> None:
        assert align(ingested(267, 266), aligned=True).alive

    def test_not_square(self, ingested: Ingested) -> None:
        assert align(ingested(), aligned=True).reason == "not square"

    def test_too_small(self, ingested: Ingested) -> None:
        assert align(ingested(32, 32), aligned=True).reason == "face too small"


class TestStage:
    def test_settings_name_every_parameter(self) -> None:
        assert Align(FakeDetector(), 256).settings() == {
            "detection": {"mode": "fake"},
            "size": 256,
            "faces": "best",
            "min_face": 64,
            "max_padding": 0.35,
            "aligned": False,
            "turns": [90, 270, 180],
        }
        assert Align(FakeDetector(), 256, upright=True).settings()["turns"] == []

    @needs_dlib
    def test_load(self) -> None:
        stage = Align.load(size=256)
        assert pickle.loads(pickle.dumps(stage)) == stage
        assert len(stage.settings()["detection"]["predictor_sha256"]) == 64
        assert stage.settings()["detection"]["mode"] == "auto"
        assert Align.load(detector="hog").settings()["detection"]["mode"] == "hog"

    def test_load_refuses(self) -> None:
        with pytest.raises(UsageError, match="--size 0"):
            Align.load(size=0)
        with pytest.raises(UsageError, match="--max-padding 2"):
            Align.load(max_padding=2)
        with pytest.raises(UsageError, match="--detector eyes: wanted auto, hog, cnn"):
            Align.load(detector="eyes")


@needs_dlib
class TestDlib:
    @pytest.mark.parametrize("size", [(512, 512), (700, 500), (90, 70), (3000, 2)])
    def test_nothing_in_grey(self, size: tuple[int, int]) -> None:
        assert FaceDetector().detect(Image.new("RGB", size, "grey")) == []

    def test_finds_the_same_points_at_any_size(self, shared_data: Path) -> None:
        with Image.open(shared_data / "photos" / "sfhq_0000.jpg") as file:
            image = file.convert("RGB").resize((256, 256))
        (face,) = FaceDetector().detect(image)
        assert face.landmarks.shape == (68, 2)
        assert face.landmarks.dtype == np.float64
        assert face.landmarks[42:48].mean(0)[0] > face.landmarks[36:42].mean(0)[0]
        for factor in (4.0, 0.45):
            side = round(256 * factor)
            (other,) = FaceDetector().detect(image.resize((side, side), Image.Resampling.LANCZOS))
            scaled = (other.landmarks + 0.5) * (256 / side) - 0.5
            assert np.abs(scaled - face.landmarks).mean() < 3.0
            assert np.allclose(np.array(other.box) * 256 / side, face.box, atol=30)

    def test_crops_of_ffhq_crops_are_what_they_were(
        self, shared_data: Path, tmp_path: Path
    ) -> None:
        """A photo that is aligned already gives about itself back."""
        part = Part.create(tmp_path / "part")
        run_stage(Ingest(str(shared_data / "photos"), only="sfhq_000*"), part)
        run_stage(Align.load(size=256), part)
        alive = [r for r in part.records("align") if r.alive]
        assert len(alive) >= 8
        for record in alive:
            quad = np.reshape(record.quad, (4, 2)) / record.width
            expected = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])
            assert np.abs(quad - expected).max() < 0.12
