"""dlib's face recognition network in PyTorch: as dlib says, and only from dlib's file."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dlib_files import needs_dlib_file
from PIL import Image
from torch import Tensor

from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.dlib_models import RECOGNITION, dlib_module, model_path
from sfhq.faces.identity import (
    CHIP_CENTRE,
    CHIP_SIDE,
    RecognitionNetwork,
    fixed_chips,
    load_recognition_network,
)
from sfhq.faces.recognition_file import read_recognition_weights
from sfhq.tensors import to_tensor

SAMPLES = Path(__file__).parents[1] / "sfhq" / "samples"
HEAD = 0x15B  # bytes before the first weights


needs_dlib = needs_dlib_file(RECOGNITION)


@pytest.fixture(scope="module")
def network() -> RecognitionNetwork:
    return load_recognition_network()


@pytest.fixture(scope="module")
def original() -> bytes:
    return model_path(RECOGNITION).read_bytes()


@pytest.fixture(scope="module")
def samples() -> Tensor:
    """(12, 3, 256, 256) in [-1, 1]."""
    images = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.jpg"))]
    return to_tensor(np.stack([np.asarray(image.resize((256, 256))) for image in images]))


@pytest.fixture(scope="module")
def chips(samples: Tensor) -> Tensor:
    """(20, 3, 150, 150), whole numbers in [0, 255]: faces, then smooth noise."""
    noise = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 255
    smooth = F.interpolate(noise, size=150, mode="bicubic").clamp(0, 255)
    return torch.cat([fixed_chips(samples), smooth]).round().clamp(0, 255)


def refuse(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        read_recognition_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: not the weights of dlib's face recognition network: ")
    return message


def flipped(data: bytes, place: int, bits: int = 0xFF) -> bytes:
    changed = bytearray(data)
    changed[place] ^= bits
    return bytes(changed)


@needs_dlib
def test_vectors_are_those_of_dlib(network: RecognitionNetwork, chips: Tensor) -> None:
    pixels = chips.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    judge = dlib_module().face_recognition_model_v1(str(model_path(RECOGNITION)))
    wanted = [list(judge.compute_face_descriptor(chip)) for chip in pixels]
    assert torch.allclose(network(chips), torch.tensor(wanted), rtol=0, atol=1e-5)


@needs_dlib
def test_layout_and_autocast_change_little(network: RecognitionNetwork, chips: Tensor) -> None:
    wanted = network(chips[:4])
    last = chips[:4].contiguous(memory_format=torch.channels_last)
    assert torch.allclose(network(last), wanted, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(chips[:4])
    assert half.dtype == torch.bfloat16
    assert (half.float() - wanted).norm(dim=1).max() < 0.05


@needs_dlib
def test_gradient_reaches_the_images_and_not_the_weights(
    network: RecognitionNetwork, samples: Tensor
) -> None:
    images = samples[:2].clone().requires_grad_()
    loss = network(fixed_chips(images)).square().sum()
    (gradient,) = torch.autograd.grad(loss, images)
    step = 1e-3 * gradient / gradient.norm() / gradient.norm()
    changed = network(fixed_chips(samples[:2] + step)).square().sum()
    assert (changed - loss).item() == pytest.approx(1e-3, rel=0.1)
    assert not any(weight.requires_grad for weight in network.parameters())
    assert (gradient[:, :, 60:240, 60:200].abs().amax(1) > 0).float().mean() > 0.8


@needs_dlib
def test_loading_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    load_recognition_network()
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_waits_for_a_value() -> None:
    with torch.device("meta"):  # its tensors have no values: reading one is an error
        network = RecognitionNetwork()
        vectors = network(torch.zeros(2, 3, 150, 150))
    assert vectors.shape == (2, 128)


def test_another_size_of_chip_is_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"\(1, 3, 128, 128\); wanted"):
        RecognitionNetwork()(torch.zeros(1, 3, 128, 128))


@needs_dlib
@pytest.mark.parametrize("share", [0.0, 1e-6, 1e-5, 2e-4, 0.3, 0.999999])
def test_truncated_file_is_refused(tmp_path: Path, original: bytes, share: float) -> None:
    message = refuse(tmp_path / "x.dat", original[: int(share * len(original))])
    assert "the end of the file" in message


@needs_dlib
def test_appended_byte_is_refused(tmp_path: Path, original: bytes) -> None:
    assert "wanted the end of the file" in refuse(tmp_path / "x.dat", original + b"0")


@needs_dlib
@pytest.mark.parametrize(
    ("place", "named"),
    [
        (1, "wanted 1"),
        (4, "wanted loss_metric_2"),
        (39, "control byte 0xfe"),
        (0x123, "wanted input_rgb_image_sized"),
        (-1, "a tensor"),
    ],
)
def test_flipped_byte_is_named(tmp_path: Path, original: bytes, place: int, named: str) -> None:
    assert named in refuse(tmp_path / "x.dat", flipped(original, place))


@needs_dlib
def test_any_flipped_bit_of_the_head_is_an_error_of_one_line(
    tmp_path: Path, original: bytes
) -> None:
    head = original[: HEAD + 1000]
    for place in range(HEAD):
        for bit in range(8):
            refuse(tmp_path / "x.dat", flipped(head, place, 1 << bit))


@needs_dlib
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, original: bytes) -> None:
    place = HEAD + 5 + 64
    changed = original[:place] + np.full(4, np.nan, "<f4").tobytes() + original[place + 16 :]
    assert "not finite" in refuse(tmp_path / "x.dat", changed)


@needs_dlib
@pytest.mark.parametrize(
    "name", ["shape_predictor_5_face_landmarks.dat", "mmod_human_face_detector.dat"]
)
def test_another_network_is_refused(tmp_path: Path, name: str) -> None:
    refuse(tmp_path / "x.dat", model_path(name).read_bytes())


def test_noise_is_refused(tmp_path: Path) -> None:
    for seed in range(20):
        refuse(tmp_path / "x.dat", random.Random(seed).randbytes(400))


def test_no_file_is_an_error_of_use(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.dat"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_recognition_weights(path)


@pytest.mark.parametrize("size", [32, 128, 256, 600])
def test_chips_have_one_shape_and_range(size: int) -> None:
    for value in (-1.0, 0.2, 1.0):
        chips = fixed_chips(torch.full((2, 3, size, size), value))
        assert chips.shape == (2, 3, 150, 150)
        assert chips.dtype == torch.float32
        assert torch.allclose(chips, torch.tensor((value + 1) * 127.5), atol=1e-3)


@pytest.mark.parametrize("size", [64, 256, 700])
def test_chips_lie_where_the_frame_says(size: int) -> None:
    ramp = (torch.arange(size) + 0.5) / size  # a linear image is kept by any symmetric filter
    images = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)])
    across, down = fixed_chips(images[:, None].expand(2, 3, size, size))[:, 0] / 127.5 - 1
    share = (torch.arange(150) + 0.5) / 150 - 0.5
    for found, centre in ((across[75], CHIP_CENTRE[0]), (down[:, 75], CHIP_CENTRE[1])):
        assert torch.allclose(found, centre + share * CHIP_SIDE, atol=1e-3)


def test_chips_do_not_alias() -> None:
    stripes = torch.ones(1, 3, 1024, 1024)
    stripes[..., ::2] = -1
    assert (fixed_chips(stripes) - 127.5).abs().max() < 8


def test_chips_stay_float32_under_autocast(samples: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        chips = fixed_chips(samples[:1])
    assert torch.equal(chips, fixed_chips(samples[:1]))


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 64, 32\); wanted"):
        fixed_chips(torch.zeros(1, 3, 64, 32))
