"""Read images that may be hostile, and write images with their mark of synthetic media.

Every image file of the toolkit is written by `write_image`, so that none can lack the mark.
"""

from __future__ import annotations

import io
import os
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from sfhq.errors import SfhqError

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) RGB, or (H, W) ids of classes

MAX_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SOURCE_TYPE_BASE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TRAINED = "trainedAlgorithmicMedia"
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
RENDERED = "algorithmicMedia"
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
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, str]]:
        # The default passes one argument only, so the error could not be sent from a worker.
        return type(self), (self.reason, self.detail)


def read_image(data: bytes) -> Image.Image:
    """Decode an image into upright 8-bit RGB.

    EXIF rotation is applied, transparent pixels are put on white, CMYK and 16-bit images are
    converted, and only the first frame of an animation is read.

    Args:
        data: the file's bytes.

    Returns:
        RGB image of at most 64 million pixels.

    Raises:
        BadImage: `data` is not an image, is damaged, or has more pixels than the limit.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise BadImage(
                "not an image",
                f"starts with {data[:8]!r}; wanted {', '.join(FORMATS)}",
            ) from None
        except Image.DecompressionBombError:
            raise BadImage(
                "image too large", f"has more than {MAX_PIXELS:,} pixels; reduce it first"
            ) from None
        except Exception as error:
            raise BadImage("damaged image", f"cannot read its header: {error}") from None
        if image.width * image.height > MAX_PIXELS:
            raise BadImage(
                "image too large",
                f"has {image.width} x {image.height} pixels; wanted at most {MAX_PIXELS:,}; "
                "reduce it first",
            )
        try:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
        except Exception as error:
            raise BadImage("damaged image", f"cannot decode its pixels: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image, dtype=np.float64)
        return Image.fromarray((values / 257.0).round().clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode == "F":
        return Image.fromarray(np.asarray(image).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def source_type_xmp(source_type: str) -> bytes:
    """The XMP packet that states an image's IPTC digital source type."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE_BASE}{source_type}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def encode_image(
    pixels: Pixels, file_format: str = "PNG", source_type: str | None = TRAINED, quality: int = 95
) -> bytes:
    """The bytes of an image file, by default marked as made by a trained algorithm.

    Args:
        pixels: (H, W, 3) uint8 RGB; or (H, W) uint8 class ids, which become a PNG with a palette
            whose indices are the ids.
        file_format: "PNG", "JPEG" or "WEBP"; class ids need "PNG".
        source_type: last part of the IPTC digital source type. None leaves the mark out, for crops
            of images that people made.
        quality: JPEG and WebP quality, 0 to 100.
    """
    from PIL.PngImagePlugin import PngInfo

    image = Image.fromarray(pixels)
    if pixels.ndim == 2:
        greys = [v for i in range(len(CLASS_COLOURS), 256) for v in (i, i, i)]
        image.putpalette([v for colour in CLASS_COLOURS for v in colour] + greys)
    buffer = io.BytesIO()
    xmp = None if source_type is None else source_type_xmp(source_type)
    if file_format == "PNG":
        info = PngInfo()
        if xmp is not None:
            info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        image.save(buffer, "PNG", pnginfo=info, compress_level=4)
    elif xmp is None:
        image.save(buffer, file_format, quality=quality)
    else:
        image.save(buffer, file_format, quality=quality, xmp=xmp)
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
    path: Path, pixels: Pixels, source_type: str | None = TRAINED, quality: int = 95
) -> bytes:
    """Write an image file atomically in the format of its suffix; returns the bytes written.

    Args:
        path: ends in .png, .jpg, .jpeg or .webp.
        pixels, source_type, quality: as in `encode_image`.
    """
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    data = encode_image(pixels, formats[path.suffix.lower()], source_type, quality)
    write_atomic(path, data)
    return data
