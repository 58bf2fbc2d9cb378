"""Which files are images that can be read: told by suffix, or by the first bytes.

HEIF, the format of phones, needs pillow-heif, which is optional (the extra `heif`). AVIF and JPEG
2000 are read where this Pillow was built with them; its wheels are.
"""

from __future__ import annotations

import re
from functools import lru_cache

from PIL import features

HEAD = 32  # bytes that `kind_of` looks at
BASIC = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
BY_FEATURE = {  # format -> the feature of Pillow that it needs, suffixes
    "JPEG2000": ("jpg_2000", (".jp2", ".j2k", ".jpf", ".jpx")),
    "AVIF": ("avif", (".avif",)),
}
HEIF = (".heic", ".heif", ".hif")
BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIF": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
}
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes: the known kinds of header
START = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
}
# A marker inside coded data: 0xFF before neither a stuffed zero, nor a restart, nor a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@lru_cache(maxsize=1)
def heif() -> bool:
    """Whether pillow-heif is installed; registers it with Pillow."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


@lru_cache(maxsize=1)
def readable() -> dict[str, tuple[str, ...]]:
    """Format, by Pillow's name -> suffixes in small letters, of all that can be read here."""
    found = dict(BASIC)
    for name, (feature, suffixes) in BY_FEATURE.items():
        if features.check(feature):
            found[name] = suffixes
    if heif():
        found["HEIF"] = HEIF
    return found


def suffixes() -> tuple[str, ...]:
    """All suffixes of images that can be read here, such as ".jpg"."""
    return tuple(s for found in readable().values() for s in found)


def kind_of(head: bytes) -> str:
    """The format of an image file by Pillow's name, or "" where the bytes are of no image.

    Args:
        head: the first `HEAD` bytes of the file, or all of a shorter one.
    """
    for name, starts in START.items():
        if head.startswith(starts):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, length - 3, 4))]
        for name, known in BRANDS.items():
            if any(brand in known for brand in brands):
                return name
    return ""


def jpeg_scans(data: bytes, most: int) -> int:
    """How many scans a JPEG holds, without decoding any; counting ends one above `most`.

    A plain file has 1 scan, a progressive one about 10. Each costs as much time as decoding the
    whole image once, so that a small file of thousands takes minutes.

    Args:
        data: the file's bytes; damaged ones are counted as far as they make sense.
        most: where counting may end.
    """
    scans, at = 0, 2
    while at + 4 <= len(data) and scans <= most:
        if data[at] != 0xFF:
            break
        kind = data[at + 1]
        if kind == 0xFF:  # fill
            at += 1
            continue
        if kind == 0xD9:  # end of the image; what follows is not decoded
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xDA:
            scans += 1
            marker = _MARKER.search(data, at)
            if marker is None:
                break
            at = marker.start()
    return scans
