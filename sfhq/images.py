"""Read images that may be hostile, and write images with their marks of synthetic media.

Every image file of the toolkit is encoded by `encode_image`, so that none can lack its mark. Where
several marks are asked for, it writes them in the order in which all of them hold: the watermark
into the pixels, the XMP packet into the file, and the signature, which covers both, at the end.
"""

from __future__ import annotations

import io
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from sfhq.colour import to_srgb
from sfhq.errors import SfhqError, apart, plain
from sfhq.formats import HEAD, jpeg_scans, kind_of, readable
from sfhq.marks import xmp
from sfhq.marks.signature import Signer
from sfhq.marks.xmp import COMPOSITE as COMPOSITE
from sfhq.marks.xmp import RENDERED as RENDERED
from sfhq.marks.xmp import SOURCE_TYPE_BASE as SOURCE_TYPE_BASE
from sfhq.marks.xmp import TRAINED as TRAINED

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) RGB, or (H, W) ids of classes

MAX_PIXELS = 64_000_000
MAX_SCANS = 100  # of a progressive JPEG; programs write about 10
MAX_DECODED = 2**30  # bytes of memory that one image may take while it is decoded
# Bytes a pixel at the peak, measured on images of 16 megapixels: what decoders hold beside the
# image, and images with the steps to RGB. Turning it upright adds no more than a decoder did.
DECODING = {"JPEG": 4, "MPO": 4, "WEBP": 13, "JPEG2000": 16, "AVIF": 6, "HEIF": 4}
CONVERTING = {
    **{"1": 5, "L": 5, "RGB": 4, "CMYK": 8, "YCbCr": 8, "P": 13, "LA": 13, "RGBA": 13},
    **{"PA": 13, "I;16": 13, "I": 17, "F": 17},
}
MARKS = {"images": TRAINED, "renders": RENDERED, "art": RENDERED}  # folder of a part -> mark
# Palette for maps of class ids: the 19 classes of face parsing, in the order of their ids.
CLASS_COLOURS = (
    *((0, 0, 0), (214, 164, 134), (134, 84, 34), (190, 120, 50), (70, 130, 255), (20, 60, 180)),
    *((230, 60, 230), (255, 150, 30), (190, 100, 20), (255, 240, 60), (250, 110, 110)),
    *((120, 10, 20), (250, 20, 90), (200, 20, 160), (150, 185, 125), (255, 255, 170)),
    *((80, 165, 85), (115, 75, 155), (30, 200, 200)),
)


class BadImage(SfhqError):
    """An image cannot be used; `reason` is a fixed phrase, the message has the details."""

    def __init__(self, reason: str, detail: str) -> None:
        detail = plain(detail)  # it names files, whose names others chose
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, str]]:
        # The default passes one argument only, so the error could not be sent from a worker.
        return type(self), (self.reason, self.detail)


def read_image(data: bytes) -> Image.Image:
    """Decode an image into upright 8-bit sRGB.

    EXIF rotation is applied, colours are converted by the image's ICC profile, transparent pixels
    are put on white, CMYK, 16-bit and floating point images are converted (`sfhq.colour` says how),
    and only the first frame of an animation is read.

    Args:
        data: the file's bytes.

    Returns:
        RGB image of at most 64 million pixels.

    Raises:
        BadImage: `data` is not an image, is damaged, or is beyond a limit: of pixels, of the memory
            that decoding would take, or of the scans of a progressive JPEG. Nothing has been
            decoded then.
    """
    return read_marked(data).image


@dataclass(frozen=True)
class Decoded:
    """An image that was read.

    Attributes:
        image: upright 8-bit sRGB, as `read_image` gives it.
        file_format: by Pillow's name, such as "JPEG".
        packet: its XMP packet; empty where it has none.
    """

    image: Image.Image
    file_format: str
    packet: bytes


def read_marked(data: bytes) -> Decoded:
    """Decode an image as `read_image` does, and take its XMP packet along.

    Raises:
        BadImage: as `read_image`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _opened(data)
        _refuse_costly(image, data)
        try:
            image.load()
            found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
            packet = found.encode(errors="replace") if isinstance(found, str) else bytes(found)
            file_format = image.format or ""
            ImageOps.exif_transpose(image, in_place=True)
            return Decoded(to_srgb(image), file_format, packet)
        except Exception as error:
            raise BadImage("damaged image", f"cannot decode its pixels: {error}") from None


def _opened(data: bytes) -> Image.Image:
    """The image of some bytes, of which only the header has been read."""
    try:
        return Image.open(io.BytesIO(data), formats=tuple(readable()))
    except UnidentifiedImageError:
        kind = kind_of(data[:HEAD])
        if kind in readable():
            raise BadImage(
                "damaged image",
                f"begins as {kind}, but its header is damaged, or of a kind that Pillow lacks",
            ) from None
        raise BadImage(
            "not an image", f"starts with {data[:8]!r}; wanted {', '.join(readable())}"
        ) from None
    except Image.DecompressionBombError:
        raise BadImage(
            "image too large", f"has more than {MAX_PIXELS:,} pixels; reduce it first"
        ) from None
    except Exception as error:
        raise BadImage("damaged image", f"cannot read its header: {error}") from None


def _refuse_costly(image: Image.Image, data: bytes) -> None:
    pixels = image.width * image.height
    size = f"has {image.width} x {image.height} pixels"
    if pixels > MAX_PIXELS:
        raise BadImage("image too large", f"{size}; wanted at most {MAX_PIXELS:,}; reduce it first")
    needed = pixels * (DECODING.get(image.format or "", 0) + CONVERTING.get(image.mode, 17))
    if needed > MAX_DECODED:
        found, most = apart(needed / 2**20, MAX_DECODED / 2**20)
        raise BadImage(
            "image too large",
            f"{size} in mode {image.mode}: decoding takes {found} MiB; wanted at most {most}; "
            "reduce it first",
        )
    scans = jpeg_scans(data, MAX_SCANS) if data[:2] == b"\xff\xd8" else 1
    if scans > MAX_SCANS:
        raise BadImage(
            "too many scans",
            f"{size} in more than {MAX_SCANS} scans, each as costly as the whole image; "
            "save it anew",
        )


def source_type_xmp(source_type: str) -> bytes:
    """The XMP packet that states an image's IPTC digital source type."""
    return xmp.packet(xmp.Origin(source_type))


@dataclass(frozen=True)
class Marks:
    """What an image says of its origin beside its digital source type, and how it is marked.

    Attributes:
        system, version, prompt: of the AI, as in `sfhq.marks.xmp.Origin`.
        watermark: the number that the watermark carries; None for no watermark.
        signer: signs the file for C2PA; two signatures of the same file differ.
    """

    system: str = ""
    version: str = ""
    prompt: str = ""
    watermark: int | None = None
    signer: Signer | None = None


PLAIN = Marks()


def encode_image(
    pixels: Pixels,
    file_format: str = "PNG",
    source_type: str | None = TRAINED,
    quality: int = 95,
    marks: Marks = PLAIN,
) -> bytes:
    """The bytes of an image file, by default marked as made by a trained algorithm.

    Args:
        pixels: (H, W, 3) uint8 RGB; or (H, W) uint8 class ids, which become a PNG with a palette
            whose indices are the ids.
        file_format: "PNG", "JPEG" or "WEBP"; class ids need "PNG".
        source_type: last part of the IPTC digital source type. None leaves the mark out, for crops
            of images that people made, and with it all other marks.
        quality: JPEG and WebP quality, 0 to 100.
        marks: further marks; class ids are never watermarked.

    Raises:
        BadImage: too small for a watermark.
        UsageError: the signer's certificate is not one that C2PA allows.
    """
    if source_type is None:
        return _encoded(pixels, file_format, None, quality)
    if marks.watermark is not None and pixels.ndim == 3:
        pixels = _watermarked(pixels, marks.watermark)
    origin = xmp.Origin(source_type, marks.system, marks.version, marks.prompt)
    data = _encoded(pixels, file_format, xmp.packet(origin), quality)
    return data if marks.signer is None else marks.signer.sign(data, file_format, origin)


def _watermarked(pixels: Pixels, payload: int) -> Pixels:
    from sfhq.marks import watermark  # needs scipy, which takes a while

    if min(pixels.shape[:2]) < watermark.LEAST_SIDE:
        height, width = pixels.shape[:2]
        raise BadImage(
            "too small for a watermark",
            f"a photo of {width} x {height} pixels carries no watermark; wanted at least "
            f"{watermark.LEAST_SIDE} a side; leave the watermark out, or make larger photos",
        )
    return watermark.embed(pixels, payload)


def _encoded(pixels: Pixels, file_format: str, packet: bytes | None, quality: int) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    image = Image.fromarray(pixels)
    if pixels.ndim == 2:
        greys = [v for i in range(len(CLASS_COLOURS), 256) for v in (i, i, i)]
        image.putpalette([v for colour in CLASS_COLOURS for v in colour] + greys)
    buffer = io.BytesIO()
    if file_format == "PNG":
        info = PngInfo()
        if packet is not None:
            info.add_itxt("XML:com.adobe.xmp", packet.decode())
        image.save(buffer, "PNG", pnginfo=info, compress_level=4)
    elif packet is None:
        image.save(buffer, file_format, quality=quality)
    else:
        image.save(buffer, file_format, quality=quality, xmp=packet)
    return buffer.getvalue()


def mark_of(folder: str) -> str | None:
    """The digital source type of a part's image folder; None for crops of source images."""
    return MARKS.get(folder)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old or the complete new one, even after a crash.

    The bytes are written to `<name>.part` in the same folder and synced; then the file is renamed.
    That file is always a new one: what lies there by that name is removed, and no link followed.
    """
    partial = path.with_name(path.name + ".part")
    try:
        with suppress(FileNotFoundError):
            partial.unlink()
        with open(partial, "xb") as file:  # exclusive: fails at a link, even at a dangling one
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the error of a full disk does not name the file
        raise


def write_image(
    path: Path,
    pixels: Pixels,
    source_type: str | None = TRAINED,
    quality: int = 95,
    marks: Marks = PLAIN,
) -> bytes:
    """Write an image file atomically in the format of its suffix; returns the bytes written.

    Args:
        path: ends in .png, .jpg, .jpeg or .webp.
        pixels, source_type, quality, marks: as in `encode_image`.
    """
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    data = encode_image(pixels, formats[path.suffix.lower()], source_type, quality, marks)
    write_atomic(path, data)
    return data
