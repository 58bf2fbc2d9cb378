"""dlib's convolutional face detector in PyTorch: as dlib says, and only from dlib's file."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dlib_files import needs_dlib_file
from PIL import Image

from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.dlib_models import CNN, cnn_detector, dlib_module, model_path
from sfhq.faces.mmod import (
    SMALLEST,
    START,
    STRIDE,
    Face,
    MmodDetector,
    MmodNetwork,
    Rectangle,
    tiled,
)
from sfhq.faces.mmod_file import LAYERS, read_mmod_file
from sfhq.parts.records import Pixels

SAMPLES = sorted((Path(__file__).parents[1] / "sfhq" / "samples").glob("*.jpg"))
HEAD = 0x87  # bytes before the first layer
FIRST_WEIGHT = 0x99
NORMALISATION = 0x13F0  # name of the first one


needs_dlib = needs_dlib_file(CNN)


@pytest.fixture(scope="module")
def original() -> bytes:
    return model_path(CNN).read_bytes()


def sample(path: Path, longer: int) -> Image.Image:
    with Image.open(path) as file:
        image = file.convert("RGB")
    scale = longer / max(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)))


def compare(pixels: Pixels) -> int:
    """Check against dlib, and count the faces."""
    judge = dlib_module().cnn_face_detection_model_v1(str(model_path(CNN)))
    wanted = [
        Face(Rectangle(r.left(), r.top(), r.right(), r.bottom()), d.confidence)
        for d in judge(pixels, 0)
        for r in (d.rect,)
    ]
    found = cnn_detector()(pixels)
    assert [face.rectangle for face in found] == [face.rectangle for face in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
    return len(found)


def refuse(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        read_mmod_file(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: not the weights of dlib's face detector: ")
    return message


def flipped(data: bytes, place: int, bits: int = 0xFF) -> bytes:
    changed = bytearray(data)
    changed[place] ^= bits
    return bytes(changed)


@needs_dlib
class TestFaces:
    @pytest.mark.parametrize("path", SAMPLES[::3], ids=lambda p: p.stem)
    def test_are_those_of_dlib(self, path: Path) -> None:
        assert compare(np.array(sample(path, 160))) == 1

    @pytest.mark.parametrize("size", [(64, 64), (64, 211), (233, 64), (97, 150), (151, 98)])
    def test_are_those_of_dlib_in_odd_sizes(self, size: tuple[int, int]) -> None:
        compare(np.array(sample(SAMPLES[0], 250).crop((15, 20, 15 + size[0], 20 + size[1]))))

    def test_that_overlap_or_reach_beyond_the_image(self) -> None:
        canvas = Image.new("RGB", (330, 200), (120, 130, 110))
        for index, left in enumerate((-60, 80, 140)):
            canvas.paste(sample(SAMPLES[index], 180), (left, 5))
        assert compare(np.array(canvas)) == 2
        outer, inner = sorted(cnn_detector()(np.array(canvas)), key=lambda face: face.box)
        assert outer.box[0] < 0 < outer.box[2] < inner.box[0]

    def test_are_each_found_once(self) -> None:
        pixels = np.array(sample(SAMPLES[0], 160))
        (face,) = cnn_detector()(pixels)
        first, *others = replace(cnn_detector(), overlap=0.9)(pixels)
        assert first == face
        assert others
        assert all(0.0 < other.confidence <= face.confidence for other in others)

    def test_none_in_noise(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (120, 140, 3), dtype=np.uint8)
        assert compare(noise) == 0

    @pytest.mark.parametrize("name", ["photos", "t2i", "portraits"])
    def test_are_those_of_dlib_in_photos(self, name: str, shared_data: Path) -> None:
        paths = sorted((shared_data / name).glob("*.jpg"))[::150][:3]
        assert paths
        for path in paths:
            compare(np.array(sample(path, 224)))

    @pytest.mark.parametrize("shape", [(1, 1), (5, 7), (6, 300), (300, 6), (8, 300)])
    def test_of_tiny_images_are_none(self, shape: tuple[int, int]) -> None:
        assert cnn_detector()(np.full((*shape, 3), 200, np.uint8)) == []  # dlib fails or crashes

    def test_do_not_depend_on_memory(self) -> None:
        pixels = np.array(sample(SAMPLES[0], 160))
        turned = np.rot90(np.rot90(pixels, -1).copy())
        turned.flags.writeable = False
        assert not turned.flags.c_contiguous
        before = pixels.copy()
        assert cnn_detector()(turned) == cnn_detector()(pixels)
        np.testing.assert_array_equal(pixels, before)

    def test_change_little_with_the_threads(self) -> None:
        pixels = np.array(sample(SAMPLES[0], 160))
        before = torch.get_num_threads()
        found = []
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                found.append(cnn_detector()(pixels))
        finally:
            torch.set_num_threads(before)
        ((one,), (other,)) = found
        assert one.rectangle == other.rectangle
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


class TestPyramid:
    def test_stands_where_dlib_puts_it(self) -> None:
        # Worked by hand: copies of 12, 10, 8, 6 and 5 rows; none finds room beside the first.
        places, size = tiled(12, 24)
        assert size == (103, 46)
        assert places == [
            Rectangle(11, 11, 34, 22),
            Rectangle(11, 33, 30, 42),
            Rectangle(11, 53, 26, 60),
            Rectangle(11, 71, 23, 76),
            Rectangle(11, 87, 20, 91),
        ]

    def test_turns_back_up_on_the_right(self) -> None:
        places, (_, width) = tiled(224, 200)
        right = [place for place in places if place.right == width - 12]
        assert places[0] in right
        assert len(right) > 3
        assert [place.top for place in right[1:]] == sorted(
            (place.top for place in right[1:]), reverse=True
        )

    @pytest.mark.parametrize("height", [5, 64, 97, 480])
    @pytest.mark.parametrize("width", [1, 64, 101, 640])
    def test_copies_do_not_touch(self, height: int, width: int) -> None:
        places, (tall, wide) = tiled(height, width)
        taken = np.zeros((tall, wide), int)
        for place in places:
            assert 0 < place.left <= place.right < wide
            assert 0 < place.top <= place.bottom < tall
            taken[place.top : place.bottom + 1, place.left : place.right + 1] += 1
        assert taken.max() == 1
        assert taken.sum() == sum(place.area for place in places)


class TestNetwork:
    def test_confidence_is_the_plain_convolution(self) -> None:
        torch.manual_seed(0)
        network = MmodNetwork()
        image = torch.randn(2, 3, 70, 95)
        x = image
        for layer in network.layers:
            x = layer(x).relu()
        assert torch.allclose(network(image), network.last(x), atol=1e-5)

    def test_values_lie_where_the_strides_say(self) -> None:
        place, step, least = 0, 1, 1
        for _, kernel, stride in LAYERS:
            place += step * (kernel // 2 if stride > 1 else 0)
            step *= stride
        for _, kernel, stride in reversed(LAYERS):
            least = (least - 1) * stride + (kernel if stride > 1 else 1)
        assert (place, step, least) == (START, STRIDE, SMALLEST)

    def test_nothing_waits_for_a_value(self) -> None:
        with torch.device("meta"):  # its tensors have no values: reading one is an error
            assert MmodNetwork()(torch.zeros(1, 3, 100, 60)).shape == (1, 1, 9, 4)

    @needs_dlib
    def test_loading_draws_no_random_numbers(self) -> None:
        before = torch.get_rng_state()
        detector = MmodDetector.load(model_path(CNN))
        assert torch.equal(torch.get_rng_state(), before)
        assert not any(weight.requires_grad for weight in detector.network.parameters())

    @needs_dlib
    def test_is_read_once(self) -> None:
        assert cnn_detector() is cnn_detector()


@needs_dlib
class TestFile:
    def test_says_how_far_faces_overlap(self) -> None:
        assert read_mmod_file(model_path(CNN)).overlap == pytest.approx(0.338276, abs=1e-6)

    @pytest.mark.parametrize("share", [0.0, 1e-5, 1e-4, 1e-2, 0.3, 0.99999])
    def test_truncated_is_refused(self, tmp_path: Path, original: bytes, share: float) -> None:
        message = refuse(tmp_path / "x.dat", original[: int(share * len(original))])
        assert "the end of the file" in message

    def test_with_a_byte_more_is_refused(self, tmp_path: Path, original: bytes) -> None:
        assert "wanted the end of the file" in refuse(tmp_path / "x.dat", original + b"0")

    def test_that_is_too_large_is_refused(self, tmp_path: Path, original: bytes) -> None:
        with (tmp_path / "x.dat").open("wb") as file:
            file.write(original)
            file.truncate(2**24)
        with pytest.raises(IntegrityError, match="wanted the end of the file"):
            read_mmod_file(tmp_path / "x.dat")

    @pytest.mark.parametrize(
        ("place", "named"),
        [
            (1, "wanted 1"),
            (4, "wanted loss_mmod_"),
            (0x11, "side of a face 175"),
            (0x6C, "wanted input_rgb_image_pyramid"),
            (0x8A, "wanted con_4"),
            (NORMALISATION + 2, "wanted bn_con2"),
            (-1, "size of a tensor"),
        ],
    )
    def test_with_a_flipped_byte_is_named(
        self, tmp_path: Path, original: bytes, place: int, named: str
    ) -> None:
        assert named in refuse(tmp_path / "x.dat", flipped(original, place))

    def test_with_any_flipped_bit_in_its_head_is_an_error_of_one_line(
        self, tmp_path: Path, original: bytes
    ) -> None:
        head = original[: HEAD + 1000]
        for place in range(HEAD):
            for bit in range(8):
                refuse(tmp_path / "x.dat", flipped(head, place, 1 << bit))

    def test_with_weights_that_are_not_finite_is_refused(
        self, tmp_path: Path, original: bytes
    ) -> None:
        nan = np.full(1, np.nan, "<f4").tobytes()
        changed = original[:FIRST_WEIGHT] + nan + original[FIRST_WEIGHT + 4 :]
        assert "not finite" in refuse(tmp_path / "x.dat", changed)

    def test_with_another_overlap_is_read(self, tmp_path: Path, original: bytes) -> None:
        place = original.index(bytes.fromhex("078c6a54f250a6158136"))
        half = original[:place] + bytes.fromhex("01108105") + original[place + 10 :]
        (tmp_path / "x.dat").write_bytes(half)
        assert read_mmod_file(tmp_path / "x.dat").overlap == 0.5
        whole = original[:place] + bytes.fromhex("01108104") + original[place + 10 :]
        assert "overlap 1.0 before" in refuse(tmp_path / "x.dat", whole)

    @pytest.mark.parametrize(
        "name",
        ["shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"],
    )
    def test_of_another_network_is_refused(self, tmp_path: Path, name: str) -> None:
        with model_path(name).open("rb") as file:
            refuse(tmp_path / "x.dat", file.read(2**21))


def test_noise_is_refused(tmp_path: Path) -> None:
    for seed in range(20):
        refuse(tmp_path / "x.dat", random.Random(seed).randbytes(400))


def test_no_file_is_an_error_of_use(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.dat"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_mmod_file(path)
