"""Photos to unit vectors: what is refused, and that no encoder reaches for the network."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import ToyEncoder, finish, tiny_pixels

import encoders.features.clip
from encoders.embed import DlibFaceEncoder, Embed
from encoders.features.clip import ClipEncoder
from encoders.features.encoder import ImageEncoder
from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.faces.detector import Detection
from sfhq.parts.join import history
from sfhq.parts.part import Part
from sfhq.parts.records import Array, FaceRecord, Pixels
from sfhq.pipeline.engine import run_stage

torch.set_num_threads(1)


@dataclass(frozen=True)
class Given:
    """An `ImageEncoder` that answers with given vectors, one an image."""

    vectors: tuple[tuple[float, ...], ...]
    name: str = "given"
    digest: str = "1" * 64
    reads_faces: bool = False

    def __call__(
        self, images: list[Pixels], faces: Sequence[Sequence[Detection]] | None = None
    ) -> Array:
        return np.array(self.vectors[: len(images)], np.float32)


def photos(root: Path, count: int) -> Part:
    part = Part.create(root)
    pixels = tiny_pixels(count)
    faces = [FaceRecord(f"f{i}").with_image("images", p) for i, p in enumerate(pixels)]
    finish(part, "synthesize", [faces])
    return part


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_vectors_become_unit_vectors(tmp_path: Path) -> None:
    part = photos(tmp_path / "part", 5)
    counts = run_stage(Embed(ToyEncoder(), batch=2), part)
    assert counts.alive == 5
    records = list(part.records("embed"))
    rows = np.stack([part.row("embedding", r) for r in records])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    raw = ToyEncoder()(tiny_pixels(5))
    np.testing.assert_allclose(rows, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
    assert part.stage_info("embed")["settings"]["encoder"] == "toy"
    assert part.stage_info("embed")["settings"]["digest"] == "0" * 64


@pytest.mark.parametrize(
    "bad", [(0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0), (1e-20, 0.0)], ids=str
)
def test_vectors_that_say_nothing_are_rejected(tmp_path: Path, bad: tuple[float, float]) -> None:
    part = photos(tmp_path / "part", 3)
    counts = run_stage(Embed(Given(((3.0, 4.0), bad, (0.0, -2.0)))), part)
    assert counts.rejected == {"no embedding": 1}
    good, gone, last = history(part, "embed")
    assert (gone.rejected_by, gone.reason) == ("embed", "no embedding")
    assert "the vector's length is" in gone.detail
    assert "embedding" not in gone.rows
    assert part.row("embedding", good).tolist() == pytest.approx([0.6, 0.8])
    assert part.row("embedding", last).tolist() == [0.0, -1.0]


def test_the_batch_changes_nothing(tmp_path: Path) -> None:
    found = []
    for batch in (1, 2, 16):
        part = photos(tmp_path / str(batch), 5)
        run_stage(Embed(ToyEncoder(), batch), part)
        found.append(np.array(part.array("embedding", 0)))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    with pytest.raises(UsageError, match="batch is 0"):
        Embed(ToyEncoder(), 0)


def test_another_encoder_on_the_same_part_is_refused(tmp_path: Path) -> None:
    part = photos(tmp_path / "part", 2)
    run_stage(Embed(ToyEncoder()), part)
    with pytest.raises(UsageError, match="--redo"):
        run_stage(Embed(ToyEncoder(digest="2" * 64)), part)


def test_a_photo_that_went_missing(tmp_path: Path) -> None:
    part = photos(tmp_path / "part", 2)
    part.image_path("images", "f1").unlink()
    with pytest.raises(IntegrityError, match=r"f1.png: missing"):
        run_stage(Embed(ToyEncoder()), part)


@pytest.mark.usefixtures("no_network")
def test_clip_without_weights_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for encoder in (ClipEncoder(), ClipEncoder(weights=tmp_path / "none.pt")):
        uses: tuple[Callable[[ClipEncoder], object], ...]
        uses = (lambda e: e.digest, lambda e: e(tiny_pixels(1)))
        for use in uses:
            with pytest.raises(SfhqError, match="no weights found") as caught:
                use(encoder)
            message = str(caught.value)
            assert "\n" not in message
            assert "--encoder-weights" in message
    part = photos(tmp_path / "part", 1)
    with pytest.raises(SfhqError, match="no weights found"):
        run_stage(Embed(ClipEncoder()), part)
    assert part.stages() == ["synthesize"]


@pytest.mark.parametrize(
    "place",
    ["hub/hub/models--timm--vit_l_14_336.openai/snapshots/0/open_clip_model.safetensors"],
)
def test_clip_weights_are_found_in_the_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert ClipEncoder().digest == hashlib.sha256(b"weights").hexdigest()
    assert encoders.features.clip._cached_weights("ViT-L-14-336") == path
    assert encoders.features.clip._cached_weights("RN50") is None


TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # open_clip's own
@pytest.mark.usefixtures("no_network")
def test_clip_is_open_clip_with_the_given_weights(tmp_path: Path) -> None:
    import open_clip

    (tmp_path / "sfhq-tiny-clip.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "sfhq-tiny-clip.json")
    torch.manual_seed(0)
    network, _, transform = open_clip.create_model_and_transforms("sfhq-tiny-clip")
    weights = tmp_path / "weights.pt"
    torch.save(network.state_dict(), weights)
    images = tiny_pixels(3, 48)
    with torch.inference_mode():
        batch = torch.stack([transform(Image.fromarray(i)) for i in images])
        wanted = network.eval().encode_image(batch).numpy()
    encoder = ClipEncoder("sfhq-tiny-clip", weights)
    found = encoder(images)
    assert found.dtype == np.float32
    assert found.shape == (3, 24)
    np.testing.assert_array_equal(found, wanted)
    assert len(encoder.digest) == 64
    part = photos(tmp_path / "part", 2)
    assert run_stage(Embed(encoder), part).alive == 2
    assert part.stage_info("embed")["settings"]["encoder"] == "clip"

    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(b"\x80 no weights")
    with pytest.raises(SfhqError, match="holds no weights of CLIP sfhq-tiny-clip") as caught:
        ClipEncoder("sfhq-tiny-clip", damaged)(images)
    assert "\n" not in str(caught.value)


def test_the_digest_of_clip_follows_the_file(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"one")
    before = ClipEncoder(weights=weights).digest
    weights.write_bytes(b"another")
    assert ClipEncoder(weights=weights).digest != before


@pytest.fixture
def dlib_encoder() -> DlibFaceEncoder:
    from sfhq.faces.dlib_models import PREDICTOR, RECOGNITION, dlib_module, model_path

    try:
        dlib_module()
        for name in (PREDICTOR, RECOGNITION):
            model_path(name)
    except SfhqError as error:
        pytest.skip(str(error))
    return DlibFaceEncoder()


def test_dlib_gives_every_image_a_vector(dlib_encoder: DlibFaceEncoder) -> None:
    images = tiny_pixels(2, 64)
    found = dlib_encoder(images)
    assert found.shape == (2, 128)
    assert found.dtype == np.float32
    assert (np.linalg.norm(found, axis=1) > 0.1).all()
    np.testing.assert_array_equal(found[1:], dlib_encoder(images[1:]))
    assert len(dlib_encoder.digest) == 64


def sample_pixels(name: str, size: int) -> Pixels:
    path = Path(__file__).parents[1] / "sfhq" / "samples" / f"{name}.jpg"
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("size", [128, 320, 700])
def test_given_points_lead_to_the_same_embedding(
    dlib_encoder: DlibFaceEncoder, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoders.features import recognition
    from sfhq.faces.detector import face_landmarks

    images = [sample_pixels(name, size) for name in ("clay_0033", "oil_0000")]
    searched, found = recognition.describe_faces(images)
    assert found.all()
    points = [face_landmarks(image) for image in images]
    monkeypatch.setattr(recognition, "FaceDetector", None)  # must not be asked again
    given, found = recognition.describe_faces(images, points)
    assert found.all()
    np.testing.assert_allclose(given, searched, atol=1e-6)
    # Rounded to float32, as a part keeps them; and with the points of another image.
    rounded = [p.astype(np.float32).astype(np.float64) for p in points if p is not None]
    again, _ = recognition.describe_faces(images, rounded)
    np.testing.assert_allclose(again, searched, atol=0.02)
    crossed, _ = recognition.describe_faces(images, points[::-1])
    assert np.linalg.norm(crossed - searched, axis=1).min() > 0.02


def test_the_chip_hardly_depends_on_the_size_of_the_image(dlib_encoder: DlibFaceEncoder) -> None:
    from encoders.features.recognition import face_chip
    from sfhq.faces.detector import face_landmarks

    small, large = sample_pixels("clay_0033", 320), sample_pixels("clay_0033", 960)
    points = face_landmarks(small)
    assert points is not None
    a = face_chip(small, points).astype(float)
    b = face_chip(large, (points + 0.5) * 3 - 0.5).astype(float)
    assert a.shape == (150, 150, 3)
    assert np.abs(a - b).mean() < 3.0


def test_without_points_the_usual_place_serves(dlib_encoder: DlibFaceEncoder) -> None:
    from encoders.features.recognition import describe_faces

    images = [sample_pixels("clay_0033", 256)] * 3
    vectors, found = describe_faces(images, [None, np.full((68, 2), np.nan), np.eye(68, 2) * 99])
    assert found.tolist() == [False, False, True]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert np.linalg.norm(vectors[0]) > 0.5
    nothing, found = describe_faces([np.full((64, 64, 3), 128, np.uint8)])
    assert not found.any() and np.isfinite(nothing).all()


def test_embeddings_are_those_of_dlib_itself(dlib_encoder: DlibFaceEncoder) -> None:
    from encoders.features.recognition import describe_faces, face_chip
    from sfhq.faces.detector import face_landmarks
    from sfhq.faces.dlib_models import RECOGNITION, dlib_module, model_path

    images = [sample_pixels(name, 256) for name in ("clay_0033", "oil_0000")]
    points = [face_landmarks(image) for image in images]
    judge = dlib_module().face_recognition_model_v1(str(model_path(RECOGNITION)))
    chips = [face_chip(i, p) for i, p in zip(images, points, strict=True) if p is not None]
    wanted = [np.asarray(judge.compute_face_descriptor(chip)) for chip in chips]
    given, _ = describe_faces(images, points)
    np.testing.assert_allclose(given, np.stack(wanted), atol=5e-6)
    alone, _ = describe_faces(images[1:], points[1:])
    np.testing.assert_array_equal(alone[0], given[1])  # its batch changes nothing


def test_points_are_checked(dlib_encoder: DlibFaceEncoder) -> None:
    from encoders.features.recognition import describe_faces

    image = sample_pixels("clay_0033", 128)
    with pytest.raises(ValueError, match="1 sets of points for 2 images"):
        describe_faces([image, image], [None])
    with pytest.raises(ValueError, match=r"wanted \(68, 2\)"):
        describe_faces([image], [np.ones((5, 2))])
    with pytest.raises(ValueError, match="in one place"):
        describe_faces([image], [np.ones((68, 2))])


def test_encoders_are_what_the_protocol_says() -> None:
    encoders: list[ImageEncoder] = [DlibFaceEncoder(), ClipEncoder(), ToyEncoder()]
    assert [e.name for e in encoders] == ["dlib-face", "clip", "toy"]
    assert replace(ClipEncoder(), name="clip-b").name == "clip-b"
