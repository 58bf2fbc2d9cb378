"""Teachers of the label network: their answers kept, believed where they are sure, and adapted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from annotate.teachers.adapt import TAUGHT, fit_adapter
from annotate.teachers.masks import ANY, FEATURES, OVAL, allowed, bits
from annotate.teachers.mediapipe import FILES, Mesh, Teachers, anchors
from annotate.teachers.photos import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE, teach
from annotate.training.samples import photo_samples
from sfhq.errors import IntegrityError, MissingExtra, UsageError
from sfhq.networks.names import ATTRIBUTES

SIZE = 128


def ring(x: float, y: float, wide: float, high: float, count: int) -> np.ndarray[Any, Any]:
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], 1)


def drawn_mesh() -> np.ndarray[Any, Any]:
    """478 points of a frontal face in a square of 128 px: an oval, eyes, brows, lips, a nose."""
    mesh = np.full((478, 3), 64.0)
    mesh[list(OVAL), :2] = ring(64, 66, 34, 44, len(OVAL))
    for name, (x, y, wide, high) in {
        "r_eye": (48, 56, 8, 4),
        "l_eye": (80, 56, 8, 4),
        "r_brow": (48, 46, 9, 3),
        "l_brow": (80, 46, 9, 3),
        "nose": (64, 68, 8, 12),
    }.items():
        outline = FEATURES[name]
        mesh[list(outline), :2] = ring(x, y, wide, high, len(outline))
    mesh[33, :2], mesh[263, :2] = (40, 56), (88, 56)
    mesh[133, :2], mesh[362, :2] = (56, 56), (72, 56)
    upper, lower = FEATURES["u_lip"], FEATURES["l_lip"]
    mesh[list(lower), :2] = ring(64, 95, 12, 5, len(lower))
    mesh[list(upper), :2] = ring(64, 87, 12, 3, len(upper))
    mesh[list(MOUTH_CORNERS), :2] = (52, 91), (76, 91)
    mesh[:, 2] = 0
    return mesh


def drawn_teachers() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Hair above the face and a person down to the lower edge, each times 255."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    near = np.hypot((columns - 64) / 44, (rows - 60) / 56) < 1
    hair = np.where(near & (rows < 36), 255, 0).astype(np.uint8)
    person = np.where(near | ((rows > 100) & (abs(columns - 64) < 50)), 255, 0).astype(np.uint8)
    return hair, person


def test_pixels_have_the_classes_that_teachers_are_sure_of() -> None:
    found = allowed(drawn_mesh(), *drawn_teachers(), glasses=False)
    assert found[20, 64] == bits(["hair"])
    assert found[2, 2] == bits(["background"])
    assert found[56, 48] == bits(["r_eye"]) and found[56, 80] == bits(["l_eye"])
    assert found[46, 48] == bits(["r_brow"])
    assert found[70, 64] == bits(["nose"])
    assert found[80, 44] == bits(["skin"])  # a cheek: neither a hat nor hair reaches it
    below = found[124, 64]
    assert below & bits(["cloth"]) and below & bits(["neck"])
    assert not below & bits(["background", "hair", "l_eye"])
    assert (found > 0).all()


def test_glasses_stay_possible_where_nothing_denies_them() -> None:
    found = allowed(drawn_mesh(), *drawn_teachers(), glasses=True)
    assert found[56, 48] == bits(["r_eye", "eye_g"])
    assert found[88, 42] == bits(["skin"])  # below where glasses reach
    assert found[62, 44] & bits(["eye_g"])


def test_teachers_that_disagree_are_not_believed() -> None:
    hair, person = drawn_teachers()
    person[:, :] = 0
    assert allowed(drawn_mesh(), hair, person, glasses=False)[20, 64] == ANY


def test_hair_in_the_middle_of_a_face_may_be_a_beard() -> None:
    hair, person = drawn_teachers()
    hair[76:84, 40:90] = 255
    found = allowed(drawn_mesh(), hair, person, glasses=False)
    assert found[80, 46] == bits(["skin", "hair"])


def test_the_adapter_finds_a_linear_map_in_any_place_and_size() -> None:
    rng = np.random.default_rng(0)
    shape = rng.normal(0, 1, (5, 478, 3)) * 2
    base = drawn_mesh()
    faces = base + np.einsum("nk,kpc->npc", rng.normal(0, 1, (200, 5)), shape)
    mix = rng.normal(0, 0.002, (112, 478))
    mix[:, [33, 263]] += 0.5
    mix /= mix.sum(1, keepdims=True)  # weights that sum to 1 move with the face
    points = np.einsum("pk,nkc->npc", mix, faces[..., :2])
    angles = np.zeros((200, 5))
    across = faces[:, 263, :2] - faces[:, 33, :2]
    angles[:, 2] = np.degrees(np.arctan2(-across[:, 1], across[:, 0]))
    adapter = fit_adapter(faces.astype(np.float32), points, angles)
    assert np.median(adapter.point_error) < 0.01 and adapter.point_error.max() < 0.1
    assert adapter.angle_error.max() < 0.5
    placed, told = adapter(faces[:3].astype(np.float32))
    unit = np.hypot(*across[:3].T)[:, None]
    off = np.linalg.norm(placed - points[:3, list(TAUGHT)], axis=-1) / unit
    assert off.max() < 0.08
    # The same face moved, enlarged and turned has its points moved, enlarged and turned.
    turn = np.radians(20)
    spin = 1.7 * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    moved = faces[:3].copy()
    moved[..., :2] = moved[..., :2] @ spin + np.array([30.0, -12.0])
    moved[..., 2] *= 1.7
    again, turned = adapter(moved.astype(np.float32))
    np.testing.assert_allclose(again, placed @ spin + np.array([30.0, -12.0]), atol=0.02)
    np.testing.assert_allclose(turned[:, 2], told[:, 2] - 20, atol=0.01)  # clockwise by 20


class Fake:
    """Teachers that see the drawn face in every picture that is not black."""

    def __init__(self) -> None:
        self.asked = 0

    def mesh(self, image: np.ndarray[Any, Any]) -> Mesh | None:
        self.asked += 1
        if not image.any():
            return None
        return Mesh(drawn_mesh() * (image.shape[0] / SIZE), 0.99)

    def hair(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.full(image.shape[:2], 0.25, np.float32)

    def person(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.full(image.shape[:2], 1.0, np.float32)


def as_teachers(fake: Fake) -> Teachers:
    return cast(Teachers, fake)


def test_answers_are_kept_and_faces_come_in_their_frame(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (300, 300), (90, 120, 40)).save(folder / "a.png")
    Image.new("RGB", (300, 300)).save(folder / "black.png")
    fake, lines = Fake(), list[str]()
    found = teach(folder, 64, lambda: as_teachers(fake), tmp_path / "k.npz", lines.append)
    assert found.names.tolist() == ["a.png"]
    assert lines == ["photos: the teachers see a face in 1 of 2 photos"]
    assert found.crops.shape == (1, 64, 64, 3) and found.hair[0, 0, 0] == 64
    # In FFHQ's frame the eyes lie on one line, left and right of the middle.
    eyes = [found.mesh[0, list(eye), :2].mean(0) for eye in (RIGHT_EYE, LEFT_EYE)]
    assert eyes[0][1] == pytest.approx(eyes[1][1], abs=0.1)
    assert (eyes[0][0] + eyes[1][0]) / 2 == pytest.approx(31.5, abs=0.6)
    again = teach(folder, 64, lambda: as_teachers(fake), tmp_path / "k.npz", lines.append)
    assert fake.asked == 2 and (again.crops == found.crops).all()
    with pytest.raises(IntegrityError, match="crops of 64 px; wanted 32"):
        teach(folder, 32, lambda: as_teachers(fake), tmp_path / "k.npz", lines.append)
    (tmp_path / "k.npz").write_bytes(b"no")
    with pytest.raises(IntegrityError, match="delete it"):
        teach(folder, 64, lambda: as_teachers(fake), tmp_path / "k.npz", lines.append)


def test_folders_without_a_face_or_a_photo_are_refused(tmp_path: Path) -> None:
    fake = Fake()
    with pytest.raises(UsageError, match="no such folder"):
        teach(tmp_path / "none", 64, lambda: as_teachers(fake), tmp_path / "k.npz", print)
    with pytest.raises(UsageError, match="holds no image"):
        teach(tmp_path, 64, lambda: as_teachers(fake), tmp_path / "k.npz", print)
    Image.new("RGB", (50, 50)).save(tmp_path / "black.png")
    with pytest.raises(UsageError, match="sees no face"):
        teach(tmp_path, 64, lambda: as_teachers(fake), tmp_path / "k.npz", lambda _: None)
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"bad\.png"):
        teach(tmp_path, 64, lambda: as_teachers(fake), tmp_path / "k.npz", lambda _: None)


def test_photos_become_samples_with_what_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "two.png"):
        Image.new("RGB", (300, 300), (90, 120, 40)).save(folder / name)
    taught = teach(folder, 64, lambda: as_teachers(Fake()), tmp_path / "k.npz", lambda _: None)
    rng = np.random.default_rng(0)
    faces = (drawn_mesh() + rng.normal(0, 0.5, (80, 478, 3))).astype(np.float32)
    adapter = fit_adapter(faces, faces[:, :112, :2].astype(np.float64), np.zeros((80, 5)))
    words = {"a.png": "smiling 30 year old woman", "two.png": "two people"}
    samples = photo_samples(taught, words, adapter)
    assert samples.names == ("a.png",)  # the other shows more than one face
    assert not samples.exact.any() and samples.years.tolist() == [30]
    told = dict(zip(ATTRIBUTES, samples.attributes[0].tolist(), strict=True))
    assert told["Smiling"] == 1 and told["Male"] == 0 and np.isnan(told["Eyeglasses"])
    assert samples.weights[0, 30] > 0 and samples.weights[0, 85] == 0  # no hairline by the mesh
    assert samples.seen.isnan().all()


def test_missing_files_of_the_teachers_are_named(tmp_path: Path) -> None:
    (tmp_path / FILES[0]).write_bytes(b"")
    with pytest.raises(UsageError, match=r"lacks hair_segmentation\.tflite, selfie"):
        Teachers(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import zipfile

    with zipfile.ZipFile(tmp_path / FILES[0], "w") as packed:
        packed.writestr("face_detector.tflite", b"x")
        packed.writestr("face_landmarks_detector.tflite", b"x")
    for name in FILES[1:]:
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtra, match="ai-edge-litert"):
        Teachers(tmp_path)


def test_anchors_cover_the_picture_in_two_grids() -> None:
    found = anchors()
    assert found.shape == (896, 2)
    np.testing.assert_allclose(found[:2], 4 / 128)
    np.testing.assert_allclose(found[512:518], 8 / 128)
    np.testing.assert_allclose(found.mean(0), 0.5)
