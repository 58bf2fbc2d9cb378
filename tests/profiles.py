"""ICC profiles, written here from the specification (ICC.1:2001-04), for tests of colours."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Columns are red, green and blue, adapted to D50, as the profiles of these spaces hold them.
COLORANTS = {
    "sRGB": ((0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410)),
    "Adobe RGB": (
        *((0.60974, 0.20528, 0.14919), (0.31111, 0.62567, 0.06322)),
        (0.01947, 0.06087, 0.74457),
    ),
    "Display P3": (
        *((0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657)),
        (-0.00105, 0.04189, 0.78407),
    ),
    "ProPhoto": ((0.79767, 0.13519, 0.03134), (0.28804, 0.71188, 0.00009), (0.0, 0.0, 0.82491)),
}
GAMMA = {"Adobe RGB": 563 / 256, "Display P3": 2.19921875, "ProPhoto": 1.80078125}
D50 = (0.9642, 1.0, 0.8249)


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """The bytes of a profile: header, table of tags, tags."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50), **tags}
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"\0\0\0\0", 0x02400000, kind, space, pcs)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(*D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def rgb_profile(name: str) -> bytes:
    """Of a space of `GAMMA`."""
    columns = np.array(COLORANTS[name]).T
    tags = {
        key: b"XYZ \0\0\0\0" + fixed(*column)
        for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    }
    tags |= {key: curve(GAMMA[name]) for key in (b"rTRC", b"gTRC", b"bTRC")}
    return profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    return profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """Inks without colour: each of C, M and Y takes 30 from the lightness, K all of it."""
    grid = [
        (round(2.55 * max(0, 100 - 30 * (c + m + y)) * (1 - k)), 128, 128)
        for c in (0, 1)
        for m in (0, 1)
        for y in (0, 1)
        for k in (0, 1)
    ]
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += bytes(range(256)) * 4 + bytes(v for row in grid for v in row) + bytes(range(256)) * 3
    return profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def encoded(linear: Floats) -> Floats:
    """Linear light, 0 to 1, as values of sRGB, 0 to 255 (IEC 61966-2-1)."""
    linear = linear.clip(0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curved


def as_srgb(pixels: npt.NDArray[np.uint8], name: str) -> Floats:
    """(..., 3) values of a space of `GAMMA` as values of sRGB, by matrices."""
    linear = (pixels / 255.0) ** GAMMA[name]
    way = np.linalg.inv(np.array(COLORANTS["sRGB"])) @ np.array(COLORANTS[name])
    return encoded(linear @ way.T)
