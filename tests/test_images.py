from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sfhq.images import (
    COMPOSITE,
    SOURCE_TYPE_BASE,
    TRAINED,
    BadImage,
    encode_image,
    read_image,
    write_atomic,
    write_image,
)
from sfhq.parts.records import Pixels


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def noise(height: int = 24, width: int = 32) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def black_png(width: int, height: int) -> bytes:
    """A 1-bit PNG that is small as a file, whatever its size in pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = bytes((width + 7) // 8 + 1) * height
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def rgb(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return tuple(int(v) for v in np.asarray(image)[y, x])


class TestBadInput:
    @pytest.mark.parametrize("data", [b"", b"hello, I am a text", b"%PDF-1.7\n", b"<svg></svg>"])
    def test_not_an_image(self, data: bytes) -> None:
        with pytest.raises(BadImage) as caught:
            read_image(data)
        assert caught.value.reason == "not an image"
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
    def test_truncated(self, file_format: str) -> None:
        data = saved(Image.fromarray(noise(200, 200)), file_format)
        with pytest.raises(BadImage) as caught:
            read_image(data[: len(data) // 2])
        assert caught.value.reason in ("damaged image", "not an image")

    def test_truncated_jpeg_is_damaged(self) -> None:
        data = saved(Image.fromarray(noise(200, 200)), "JPEG")
        with pytest.raises(BadImage) as caught:
            read_image(data[: len(data) // 2])
        assert caught.value.reason == "damaged image"

    @pytest.mark.parametrize("side", [9000, 20000])
    def test_bomb(self, side: int) -> None:
        data = black_png(side, side)
        assert len(data) < 100_000
        with pytest.raises(BadImage) as caught:
            read_image(data)
        assert caught.value.reason == "image too large"

    def test_formats_outside_the_list_are_refused(self) -> None:
        with pytest.raises(BadImage) as caught:
            read_image(saved(Image.fromarray(noise()), "PPM"))
        assert caught.value.reason == "not an image"

    def test_error_survives_a_worker(self) -> None:
        error = pickle.loads(pickle.dumps(BadImage("not an image", "a.jpg: text")))
        assert (error.reason, str(error)) == ("not an image", "a.jpg: text")


class TestModes:
    def test_cmyk(self) -> None:
        image = read_image(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
        assert np.abs(np.array(rgb(image, 4, 4)) - (255, 0, 0)).max() <= 3

    def test_sixteen_bits(self) -> None:
        values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
        image = read_image(saved(Image.fromarray(values), "PNG"))
        assert [rgb(image, x, 0) for x in range(3)] == [(0,) * 3, (100,) * 3, (255,) * 3]

    def test_grey(self) -> None:
        assert rgb(read_image(saved(Image.new("L", (2, 2), 7), "PNG")), 1, 1) == (7, 7, 7)

    def test_alpha_is_laid_on_white(self) -> None:
        pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], dtype=np.uint8)
        image = read_image(saved(Image.fromarray(pixels), "PNG"))
        assert [rgb(image, 0, 0), rgb(image, 1, 0)] == [(255, 255, 255), (10, 20, 30)]

    def test_palette_with_transparency(self) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([200, 0, 0, 0, 0, 200])
        image.putdata([0, 1])
        found = read_image(saved(image, "PNG", transparency=0))
        assert [rgb(found, 0, 0), rgb(found, 1, 0)] == [(255, 255, 255), (0, 0, 200)]

    def test_first_frame_of_an_animation(self) -> None:
        frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
        data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert rgb(read_image(data), 3, 3) == (255, 0, 0)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_rotation(self, orientation: int) -> None:
        pixels = np.zeros((20, 40, 3), dtype=np.uint8)
        pixels[:10, :10] = 255  # a white mark, top left of what is stored
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = read_image(saved(Image.fromarray(pixels), "PNG", exif=exif))
        assert image.size == ((40, 20) if orientation <= 4 else (20, 40))
        x, y = {
            1: (0, 0),
            2: (1, 0),
            3: (1, 1),
            4: (0, 1),
            5: (0, 0),
            6: (1, 0),
            7: (1, 1),
            8: (0, 1),
        }[orientation]
        corner = ((image.width - 1) * x, (image.height - 1) * y)
        assert rgb(image, *corner) == (255, 255, 255)

    def test_broken_exif_is_no_reason_to_refuse(self) -> None:
        data = saved(Image.fromarray(noise()), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12")
        assert read_image(data).size == (32, 24)


class TestWriting:
    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
    @pytest.mark.parametrize("source_type", [TRAINED, COMPOSITE])
    def test_marked(self, tmp_path: Path, suffix: str, source_type: str) -> None:
        path = tmp_path / f"face{suffix}"
        data = write_image(path, noise(), source_type)
        assert path.read_bytes() == data
        assert (SOURCE_TYPE_BASE + source_type).encode() in data
        with Image.open(path) as image:
            packet = image.info["xmp"]
        root = ElementTree.fromstring(packet)
        values = [v for node in root.iter() for v in node.attrib.values()]
        assert SOURCE_TYPE_BASE + source_type in values

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
    def test_unmarked(self, tmp_path: Path, suffix: str) -> None:
        data = write_image(tmp_path / f"face{suffix}", noise(), source_type=None)
        assert b"digitalsourcetype" not in data
        assert b"xmp" not in data.lower()

    def test_marked_unless_told_otherwise(self) -> None:
        assert TRAINED.encode() in encode_image(noise())

    def test_png_keeps_pixels_and_repeats_bytes(self) -> None:
        data = encode_image(noise())
        assert data == encode_image(noise())
        assert np.array_equal(np.asarray(read_image(data)), noise())

    def test_leaves_nothing_half_written(self, tmp_path: Path) -> None:
        write_atomic(tmp_path / "a", b"old")
        write_atomic(tmp_path / "a", b"new")
        assert [p.name for p in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_bytes() == b"new"

    def test_failure_keeps_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        write_atomic(tmp_path / "a", b"old")
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomic(tmp_path / "a", b"new")
        assert [p.name for p in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_bytes() == b"old"
