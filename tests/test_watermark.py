from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfhq.marks import code, watermark
from sfhq.parts.records import Pixels

SAMPLES = sorted((Path(__file__).parents[1] / "sfhq" / "samples").glob("*.jpg"))
PAYLOAD = 0x5FA1C3E9


def picture(path: Path, side: int = 256) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def scaled(pixels: Pixels, width: float, height: float) -> Pixels:
    size = round(pixels.shape[1] * width), round(pixels.shape[0] * height)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def decibels(a: Pixels, b: Pixels) -> float:
    return float(20 * np.log10(255 / np.sqrt(np.mean((a.astype(float) - b) ** 2))))


class TestCode:
    def test_words_differ_in_eight_places(self) -> None:
        words = code.words()
        apart = (code.WORD - words @ words.T) / 2
        np.fill_diagonal(apart, code.WORD)
        assert apart.min() == 8

    @pytest.mark.parametrize("number", [0, 1, 2**36 - 1, 0x123456789])
    def test_numbers_come_back_with_three_wrong_bits_a_word(self, number: int) -> None:
        bits = code.encode(number, 3).astype(float)
        bits.reshape(3, 24)[:, [2, 9, 23]] *= -1
        found, apart = code.decode(bits, 3)
        assert found == number
        assert apart > 0


class TestMark:
    @pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
    def test_it_is_faint_and_found_after_jpeg_and_scaling(self, path: Path) -> None:
        pixels = picture(path)
        marked = watermark.embed(pixels, PAYLOAD)
        assert decibels(marked, pixels) >= 42
        assert not watermark.detect(pixels).there
        for changed in (
            marked,
            jpeg(marked, 80),
            scaled(marked, 0.75, 0.75),
            scaled(marked, 2.0, 2.0),
            scaled(marked, 0.9, 1.3),
        ):
            found = watermark.detect(changed)
            assert found.there
            assert not found.mirrored
            assert found.payload == PAYLOAD

    def test_a_mirrored_copy_is_found(self) -> None:
        marked = watermark.embed(picture(SAMPLES[0]), PAYLOAD)
        found = watermark.detect(np.ascontiguousarray(marked[:, ::-1]))
        assert found.there
        assert found.mirrored
        assert found.payload == PAYLOAD

    def test_another_number_comes_back_as_itself(self) -> None:
        for payload in (0, 1, 2**32 - 1):
            marked = watermark.embed(picture(SAMPLES[1]), payload)
            assert watermark.detect(marked).payload == payload

    def test_pictures_need_not_be_square(self) -> None:
        pixels = np.ascontiguousarray(picture(SAMPLES[2], 400)[:300])
        marked = watermark.embed(pixels, PAYLOAD)
        assert marked.shape == pixels.shape
        assert watermark.detect(jpeg(marked, 75)).payload == PAYLOAD

    def test_a_picture_without_detail_keeps_its_size_of_change(self) -> None:
        grey = np.full((256, 256, 3), 128, np.uint8)
        marked = watermark.embed(grey, PAYLOAD)
        assert decibels(marked, grey) >= 42
        assert watermark.detect(marked).payload == PAYLOAD
        assert not watermark.detect(grey).there

    def test_black_and_white_do_not_wrap_around(self) -> None:
        for level in (0, 255):
            flat = np.full((200, 200, 3), level, np.uint8)
            change = watermark.embed(flat, PAYLOAD).astype(int) - flat
            assert np.abs(change).max() < 20

    def test_the_same_input_gives_the_same_bytes(self) -> None:
        pixels = picture(SAMPLES[3])
        once, twice = (watermark.embed(pixels, PAYLOAD) for _ in range(2))
        assert np.array_equal(once, twice)
        assert np.array_equal(pixels, picture(SAMPLES[3]))  # the input is left alone

    def test_the_number_of_noise_is_never_read(self) -> None:
        generator = np.random.default_rng(5)
        highest = 0.0
        for _ in range(60):
            noise = generator.integers(0, 256, (160, 160, 3), dtype=np.uint8)
            found = watermark.detect(noise)
            assert found.payload is None
            highest = max(highest, found.deviations)
        assert highest < watermark.FOUND

    def test_chance_is_that_of_a_normal_distribution(self) -> None:
        # The larger of two looks: twice the upper tail.
        assert watermark.Found(1.959964, None).chance == pytest.approx(0.05, abs=1e-6)
        assert watermark.Found(watermark.FOUND, None).chance < 2.1e-9

    def test_unmarked_pictures_agree_with_the_key_as_coins_do(self) -> None:
        """Each picture against 200 keys made by shuffling signs: mean 0, deviation 1."""
        generator = np.random.default_rng(11)
        pixels = picture(SAMPLES[4])
        look = watermark._Look.at(watermark._table(watermark._luma(pixels)))
        weights = look.relative[watermark._plan().groups == 0]
        signs = generator.choice([-1.0, 1.0], (200, len(weights)))
        deviations = signs @ weights / np.sqrt((weights**2).sum())
        assert abs(deviations.mean()) < 0.25
        assert 0.85 < deviations.std() < 1.15

    @pytest.mark.parametrize(
        ("shape", "payload"),
        [((64, 300, 3), 1), ((300, 300, 3), -1), ((300, 300, 3), 2**32)],
    )
    def test_what_cannot_be_marked_is_refused(self, shape: tuple[int, ...], payload: int) -> None:
        with pytest.raises(ValueError, match="wanted"):
            watermark.embed(np.zeros(shape, np.uint8), payload)

    @pytest.mark.parametrize("side", [1, 2, 20, 130])
    def test_the_detector_takes_any_size(self, side: int) -> None:
        assert not watermark.detect(np.zeros((side, side + 1, 3), np.uint8)).there

    def test_the_key_does_not_change(self) -> None:
        """Marks that were written must be found for ever."""
        plan = watermark._plan()
        assert len(plan.u) == COSINES
        assert plan.signs[:8].tolist() == SIGNS
        assert plan.groups[:8].tolist() == PLACES


COSINES = 12438
SIGNS = [-1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0]
PLACES = [40, 0, 0, 59, 59, 43, 55, 42]
