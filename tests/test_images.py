from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms, JpegImagePlugin, features
from profiles import GAMMA, as_srgb, cmyk_profile, encoded, grey_profile, rgb_profile

from sfhq import images
from sfhq.formats import HEAD, jpeg_scans, kind_of
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


def middling() -> Pixels:
    """Colours that every space of the tests holds."""
    return np.random.default_rng(1).integers(90, 160, (24, 32, 3), dtype=np.uint8)


class TestProfiles:
    @pytest.mark.parametrize("name", GAMMA)
    def test_colours_of_other_spaces_become_those_of_srgb(self, name: str) -> None:
        data = saved(Image.fromarray(middling()), "PNG", icc_profile=rgb_profile(name))
        found = np.asarray(read_image(data)).astype(float)
        assert np.abs(found - as_srgb(middling(), name)).max() < 2.0
        assert np.abs(found - middling()).mean() > 3.0

    def test_a_profile_of_srgb_leaves_pixels_alone(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        data = saved(Image.fromarray(noise()), "PNG", icc_profile=profile)
        assert np.array_equal(np.asarray(read_image(data)), noise())

    @pytest.mark.parametrize(
        "profile",
        [b"junk", rgb_profile("ProPhoto")[:200], grey_profile(1.0), cmyk_profile(), b"\0" * 4000],
        ids=["junk", "cut", "of grey images", "of printing", "zeros"],
    )
    def test_a_profile_that_cannot_be_used_is_ignored(self, profile: bytes) -> None:
        data = saved(Image.fromarray(noise()), "PNG", icc_profile=profile)
        assert np.array_equal(np.asarray(read_image(data)), noise())

    def test_a_profile_of_grey_images(self) -> None:
        grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
        image = Image.fromarray(grey)
        found = read_image(saved(image, "PNG", icc_profile=grey_profile(1.0)))
        expected = encoded(grey / 255.0)
        assert np.abs(np.asarray(found) - expected[..., None]).max() < 2.0
        deep = Image.fromarray(grey.astype(np.uint16) * 257)
        again = read_image(saved(deep, "PNG", icc_profile=grey_profile(1.0)))
        assert np.array_equal(np.asarray(again), np.asarray(found))

    def test_a_profile_of_inks(self) -> None:
        image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
        found = rgb(read_image(saved(image, "TIFF", icc_profile=cmyk_profile())), 4, 4)
        light = ((70 + 16) / 116) ** 3  # the luminance of the lightness 70
        assert np.abs(np.array(found) - encoded(np.array(light))).max() < 3
        assert rgb(read_image(saved(image, "TIFF")), 4, 4)[0] == 0  # cyan without it

    def test_transparent_pixels_are_white_in_any_space(self) -> None:
        pixels = np.dstack([middling(), np.full((24, 32), 255, np.uint8)])
        pixels[0, 0, 3] = 0
        data = saved(Image.fromarray(pixels), "PNG", icc_profile=rgb_profile("ProPhoto"))
        found = read_image(data)
        assert rgb(found, 0, 0) == (255, 255, 255)
        expected = as_srgb(middling(), "ProPhoto")
        assert np.abs(np.asarray(found)[1:] - expected[1:]).max() < 2.0

    def test_palettes_and_grey_in_a_space_of_colours(self) -> None:
        wide = rgb_profile("ProPhoto")
        flat = Image.new("RGB", (4, 4), (100, 150, 120))
        expected = rgb(read_image(saved(flat, "PNG", icc_profile=wide)), 0, 0)
        palette = flat.convert("P", palette=Image.Palette.ADAPTIVE)
        assert rgb(read_image(saved(palette, "PNG", icc_profile=wide)), 0, 0) == expected
        grey = rgb(read_image(saved(Image.new("L", (4, 4), 100), "PNG", icc_profile=wide)), 0, 0)
        assert max(grey) - min(grey) <= 1
        assert abs(grey[0] - as_srgb(np.full(3, 100, np.uint8), "ProPhoto")[0]) < 2


class TestDepth:
    @staticmethod
    def greys(values: npt.NDArray[Any]) -> list[int]:
        found = read_image(saved(Image.fromarray(values[None]), "TIFF"))
        return [rgb(found, x, 0)[0] for x in range(len(values))]

    def test_floats_from_0_to_1_are_not_black(self) -> None:
        assert self.greys(np.array([0, 0.2, 0.5, 1.0], np.float32)) == [0, 51, 128, 255]

    def test_floats_a_little_above_1_are_clipped(self) -> None:
        assert self.greys(np.array([-0.5, 0.2, 1.0, 1.6], np.float32)) == [0, 51, 255, 255]

    def test_floats_of_larger_scales(self) -> None:
        assert self.greys(np.array([0, 51.0, 255.0], np.float32)) == [0, 51, 255]
        assert self.greys(np.array([0, 13107.0, 60000.0], np.float32)) == [0, 51, 233]
        assert self.greys(np.array([0, 200_000, 1e6], np.float32)) == [0, 51, 255]

    def test_what_is_no_number_is_black(self) -> None:
        found = self.greys(np.array([np.nan, -np.inf, 0.2, np.inf], np.float32))
        assert found == [0, 0, 51, 255]

    def test_whole_numbers_of_32_bits(self) -> None:
        assert self.greys(np.array([0, 1, 51, 255], np.int32)) == [0, 1, 51, 255]
        assert self.greys(np.array([0, 13107, 65535], np.int32)) == [0, 51, 255]
        assert self.greys(np.array([0, 20_000_000, 100_000_000], np.int32)) == [0, 51, 255]


def scans_of(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `count`."""
    data = saved(Image.fromarray(noise()), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    again = data[last:-2]
    return data[:-2] + again * (count - jpeg_scans(data, 1000)) + b"\xff\xd9"


class TestLimits:
    def test_thousands_of_scans_are_refused_before_decoding(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(self: Any) -> None:
            raise AssertionError("decoded")

        data = scans_of(5000)
        monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", never)
        with pytest.raises(BadImage, match="more than 100 scans") as caught:
            read_image(data)
        assert caught.value.reason == "too many scans"

    def test_the_memory_of_decoding_is_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wide = saved(Image.new("F", (32, 24)), "TIFF")
        monkeypatch.setattr(images, "MAX_DECODED", 10_000)  # bytes, for 768 pixels
        assert read_image(saved(Image.fromarray(noise()), "JPEG")).size == (32, 24)
        monkeypatch.setattr(Image.Image, "load", None)
        with pytest.raises(BadImage, match="mode F: decoding takes") as caught:
            read_image(wide)
        assert caught.value.reason == "image too large"

    def test_usual_numbers_of_scans_are_read(self) -> None:
        assert jpeg_scans(saved(Image.fromarray(noise()), "JPEG"), 1000) == 1
        assert 5 < jpeg_scans(saved(Image.fromarray(noise()), "JPEG", progressive=True), 1000) < 15
        assert jpeg_scans(scans_of(60), 1000) == 60
        assert read_image(scans_of(60)).size == (32, 24)

    def test_scans_of_a_preview_and_behind_the_image_do_not_count(self) -> None:
        scan = b"\xff\xda\0\x02"
        preview = saved(Image.fromarray(noise()), "JPEG", exif=b"Exif\0\0" + scan * 500)
        video = preview + scan * 5000
        assert jpeg_scans(video, 1000) == 1
        assert read_image(video).size == (32, 24)

    @pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8\xff", b"\xff\xd8" + b"\xff" * 99])
    def test_damaged_files_are_counted_to_their_end(self, data: bytes) -> None:
        assert jpeg_scans(data, 1000) == 0


class TestFormats:
    @pytest.mark.parametrize("file_format", ["AVIF", "JPEG2000"])
    def test_newer_formats_are_read(self, file_format: str) -> None:
        if not features.check({"AVIF": "avif", "JPEG2000": "jpg_2000"}[file_format]):
            pytest.skip(f"this Pillow lacks {file_format}")
        flat = Image.new("RGB", (48, 40), (200, 100, 50))
        image = read_image(saved(flat, file_format))
        assert image.size == (48, 40)
        assert np.abs(np.array(rgb(image, 20, 20)) - (200, 100, 50)).max() < 6

    def test_pictures_of_phones_are_read(self) -> None:
        heif = pytest.importorskip("pillow_heif")
        heif.register_heif_opener()
        flat = Image.new("RGB", (64, 64), (200, 100, 50))
        image = read_image(saved(flat, "HEIF"))
        assert image.size == (64, 64)
        assert np.abs(np.array(rgb(image, 20, 20)) - (200, 100, 50)).max() < 6

    @pytest.mark.parametrize(
        "file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "AVIF"]
    )
    def test_each_is_known_by_its_first_bytes(self, file_format: str) -> None:
        if file_format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow lacks AVIF")
        assert kind_of(saved(Image.fromarray(noise()), file_format)[:HEAD]) == file_format

    @pytest.mark.parametrize(
        "head", [b"", b"BM", b"BMW is a maker of cars, and this a text", b"RIFF\0\0\0\0WAVE", b"II"]
    )
    def test_other_bytes_are_no_image(self, head: bytes) -> None:
        assert kind_of(head) == ""

    def test_brands_of_phones(self) -> None:
        assert kind_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "HEIF"
        assert kind_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "AVIF"
        assert kind_of(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom") == ""

    def test_an_image_of_a_kind_that_pillow_lacks_is_not_called_no_image(self) -> None:
        with pytest.raises(BadImage) as caught:
            read_image(b"II*\0\x08\0\0\0" + bytes(40))
        assert caught.value.reason == "damaged image"


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
