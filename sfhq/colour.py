"""Any image that Pillow decodes as upright 8-bit sRGB, and sRGB as CIELAB.

Colours are converted by their ICC profile, relative colorimetric with black point compensation, by
littleCMS. A profile that is damaged, or made for another kind of image, is ignored: the values are
taken as sRGB, as they are where there is no profile.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

STEPS = 9  # grid of colours that tells whether a profile changes anything
FLOAT_WHITE = 4.0  # floating point values up to this are of a scale where white is 1
WHITES = (255.0, 65535.0)  # the scales of larger values
STRIP = 1 << 22  # values converted at a time, so that no copy in float64 is large
Change = ImageCms.ImageCmsTransform | tuple[int, ...]  # of grey images: a table of 256 values
# IEC 61966-2-1's matrix from linear sRGB to X, Y, Z; its rows sum to the white, D65.
TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
LAB_EDGE = 6 / 29
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC colour space -> Pillow's mode


def to_srgb(image: Image.Image) -> Image.Image:
    """A decoded image as RGB of 8 bits a channel in the colours of sRGB.

    Transparent pixels are laid on white. Values of 16 bits are divided by 257. Floating point and
    32-bit values have no fixed scale, so the largest one decides which it is: up to 4 (floating
    point only) white is 1 and brighter values are clipped; up to 255 white is 255; up to 65535
    white is 65535; above, white is the largest value. Negative values and those that are no number
    are black.

    Args:
        image: in any mode; it may be changed.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        grey = image.mode in ("L", "LA", "La")
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
        if grey:
            image = image.getchannel("R")
    image.info.pop("transparency", None)
    image = _converted(image, profile) if profile else image
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha is None:
        return image
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=alpha)
    return white


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 or 32 bits, or floating point, as 8 bits."""
    values = np.asarray(image)
    white = 65535.0 if image.mode.startswith("I;16") else _white(values)
    found = np.empty(values.shape, np.uint8)
    rows = max(1, STRIP // max(1, values.shape[1]))
    for start in range(0, len(values), rows):
        part = np.nan_to_num(values[start : start + rows].astype(np.float64), posinf=white)
        found[start : start + rows] = (part * (255.0 / white)).round().clip(0, 255)
    return Image.fromarray(found)


def _white(values: npt.NDArray[Any]) -> float:
    """The value of white in an image without a fixed scale."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    most = float(finite.max(initial=0))
    if values.dtype.kind == "f" and most <= FLOAT_WHITE:
        return 1.0
    return next((white for white in WHITES if most <= white), most)


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """An image through its profile; as it is where the profile cannot be used."""
    try:
        transform = _transform(profile)
        if transform is None:
            return image
        mode, change = transform
        if mode == "CMYK" and image.mode != "CMYK":
            return image  # made for printing, left behind by a program that converted the image
        if mode == "L" and image.mode not in ("L", "1"):
            return image
        if mode == "RGB" and image.mode in ("CMYK", "LAB"):
            return image
        if image.mode != mode:
            image = image.convert(mode)
        if isinstance(change, tuple):
            return image.point(change)
        if mode == "RGB":
            ImageCms.applyTransform(image, change, inPlace=True)
            return image
        done = ImageCms.applyTransform(image, change)
        return image if done is None else done
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


@lru_cache(maxsize=8)
def _transform(profile: bytes) -> tuple[str, Change] | None:
    """The mode that a profile is for, and the way to sRGB; None where there is none to go.

    None is the answer for sRGB itself, too: where no colour moves by more than one step of 255,
    pixels are left alone instead of being rounded once more.

    Raises:
        PyCMSError, OSError: the profile is damaged.
    """
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = _MODES.get(opened.profile.xcolor_space)
    if mode is None:
        return None
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode == "L":  # littleCMS would take the curve through few points, too coarse near black
        flags |= ImageCms.Flags.NOOPTIMIZE
    transform = ImageCms.buildTransform(
        opened,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags,
    )
    if mode == "CMYK":
        return mode, transform
    steps = np.linspace(0, 255, STEPS if mode == "RGB" else 256).round().astype(np.uint8)
    grid = steps[None]
    if mode == "RGB":
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), transform)).astype(int)
    plain = grid if mode == "RGB" else grid[..., None]
    if np.abs(moved - plain).max() <= 1:
        return None
    return mode, transform if mode == "RGB" else tuple(moved[0, :, 1].tolist())


def to_lab(rgb: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(..., 3) sRGB from 0 to 255 as (..., 3) CIELAB with white D65.

    Values v from 0 to 1 become linear by ((v + 0.055) / 1.055)^2.4, or v / 12.92 up to 0.04045. X,
    Y and Z are divided by the white's. With f(t) = t^(1/3), or t / (3 d^2) + 4 / 29 up to t = d^3
    for d = 6 / 29: L* = 116 f(Y) - 16, a* = 500 (f(X) - f(Y)), b* = 200 (f(Y) - f(Z)).

    Source: IEC 61966-2-1 for sRGB, CIE 15 for CIELAB.
    """
    given = np.asarray(rgb)
    levels = np.arange(256.0) if given.dtype == np.uint8 else given.astype(np.float64)
    value = levels / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    linear = linear[given] if given.dtype == np.uint8 else linear  # 256 powers do for all pixels
    matrix = np.array(TO_XYZ)
    xyz = linear @ matrix.T / matrix.sum(axis=1)
    low = xyz / (3 * LAB_EDGE**2) + 4 / 29
    x, y, z = np.moveaxis(np.where(xyz > LAB_EDGE**3, np.cbrt(xyz), low), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
