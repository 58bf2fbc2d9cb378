"""FFHQ alignment: 68 landmarks to an upright square crop, with the way back.

Convention: points are (x, y) pixels with the origin at the centre of the top left pixel, so
an image of width w reaches from -0.5 to w - 0.5; a crop is described by its quad, the four
corners in the source image in the order top left, bottom left, bottom right, top right.

Sources: Karras et al. 2018, "Progressive Growing of GANs", appendix C, gives the frame as formulas
(for CelebA-HQ); Karras et al. 2019, "A Style-Based Generator Architecture", appendix A, takes it
over for FFHQ. Written from these formulas, with points as complex numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

FloatArray = npt.NDArray[np.float64]

# Appendix C: the side of the frame is the larger of 4.0 eye distances and 3.6 times the way from
# the eyes to the mouth; here are the halves.
EYE_SCALE = 2.0
MOUTH_SCALE = 1.8
CENTRE_SHIFT = 0.1  # appendix C: of the way from the eyes to the mouth, towards the mouth

# Appendix C says that the image is extended by reflection, and the extension blurred. How wide and
# how strongly is not in the paper; these are the values that FFHQ was published with, which crops
# made here must share to look alike at their edges.
BORDER = 0.1  # of the side, kept around the frame for the warp's filter
LEAST_BORDER = 3  # pixels
SLACK = 4  # pixels of the border that may be missing before the image is extended
PAD_MARGIN = 0.3  # of the side, least width of an extension
PAD_BLUR = 0.02  # of the side, sigma
BLUR_RISE = 3.0  # the blur is full where an extension begins, and gone a third of it further in


def ffhq_quad(landmarks: FloatArray) -> FloatArray:
    """The oriented square that FFHQ would crop around a face.

    Args:
        landmarks: (68, 2) iBUG points in source pixels; eyes are 36-47, mouth corners 48, 54.

    Returns:
        (4, 2) corners in source pixels: top left, bottom left, bottom right, top right.

    Raises:
        ValueError: wrong shape, or eyes and mouth coincide so that no direction exists.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (68, 2):
        raise ValueError(f"landmarks have shape {points.shape}; wanted (68, 2)")
    flat = points[:, 0] + 1j * points[:, 1]  # y points down, so times 1j turns right to down
    left, right, mouth = flat[36:42].mean(), flat[42:48].mean(), (flat[48] + flat[54]) / 2
    eyes = (left + right) / 2
    across, down = right - left, mouth - eyes
    # Both say where right is: the eyes directly, the way to the mouth turned back by a quarter.
    direction = across - 1j * down
    half = max(EYE_SCALE * abs(across), MOUTH_SCALE * abs(down))
    if abs(direction) < 1e-6 or half < 1e-6:
        raise ValueError("eyes and mouth coincide; wanted the landmarks of a face")
    to_side = direction / abs(direction) * half
    corners = eyes + CENTRE_SHIFT * down + to_side * np.array([-1 - 1j, -1 + 1j, 1 + 1j, 1 - 1j])
    return np.stack([corners.real, corners.imag], axis=1)


def quad_size(quad: FloatArray) -> float:
    """Side length of the quad in source pixels."""
    return float(np.hypot(*(quad[3] - quad[0])))


def quad_transform(quad: FloatArray, size: int) -> FloatArray:
    """The 3x3 matrix that takes crop pixels to source pixels; `inverse_transform` leads back.

    Args:
        quad: (4, 2) as `ffhq_quad` gives it.
        size: height and width of the crop.

    Returns:
        (3, 3) float64; `apply_transform` multiplies points by it. Both sides use pixel
        centres, so the centre of the first pixel is (0, 0).
    """
    right = (quad[3] - quad[0]) / size
    down = (quad[1] - quad[0]) / size
    matrix = np.eye(3)
    matrix[:2, 0], matrix[:2, 1] = right, down
    matrix[:2, 2] = quad[0] + 0.5 * (right + down)
    return matrix


def apply_transform(matrix: FloatArray, points: FloatArray) -> FloatArray:
    """(N, 2) points through a 3x3 affine matrix."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def inverse_transform(matrix: FloatArray) -> FloatArray:
    """The way back: source pixels to crop pixels from `quad_transform`'s crop to source."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


@dataclass(frozen=True)
class Crop:
    """An aligned face.

    Attributes:
        image: RGB, square.
        quad: (4, 2) corners in source pixels.
        padded: share of the crop that lies outside the source, 0 to 1.
    """

    image: Image.Image
    quad: FloatArray
    padded: float


def outside_share(quad: FloatArray, width: int, height: int) -> float:
    """Share of a quad that lies outside an image, measured on a 64 x 64 grid of points."""
    steps = (np.arange(64) + 0.5) / 64
    u, v = np.meshgrid(steps, steps)
    grid = quad[0] + u[..., None] * (quad[3] - quad[0]) + v[..., None] * (quad[1] - quad[0])
    inside = (grid >= -0.5) & (grid < np.array([width, height]) - 0.5)
    return float(1.0 - inside.all(axis=-1).mean())


def align_crop(image: Image.Image, landmarks: FloatArray, size: int = 1024) -> Crop:
    """Cut an upright FFHQ crop out of a photograph or painting.

    1. Find the quad from eyes and mouth.
    2. Shrink a much larger source first, so that the warp does not alias.
    3. Crop to the quad and a border; reflect where the quad leaves the image, fading the
       reflection into blur and then into the median colour.
    4. Warp at up to four times the size (bilinear), reduce with an antialias filter.

    Args:
        image: RGB of any size.
        landmarks: (68, 2) iBUG points in source pixels.
        size: height and width of the crop.

    Returns:
        The crop, its quad in the pixels of `image`, and the share that had to be invented.
    """
    quad = ffhq_quad(landmarks)
    padded = outside_share(quad, *image.size)
    working, local = image, quad + 0.5  # corners count from the image's edge from here on
    # To twice the crop, where the recipe's whole numbers leave up to four times: no less sharp
    # after the last reduction, and a quarter of the memory to pad and blur.
    shrink = quad_size(quad) / size * 0.5
    if shrink > 1:
        reduced = (
            max(1, round(working.width / shrink)),
            max(1, round(working.height / shrink)),
        )
        working = working.resize(reduced, Image.Resampling.LANCZOS)
        local = local * (np.array(reduced) / np.array(image.size))
    side = quad_size(local)
    working, local = _surroundings(working, local, side)
    oversize = min(size * 4, max(size, int(2 ** np.ceil(np.log2(max(side, 1.0))) * 2)))
    warped = working.transform(
        (oversize, oversize),
        Image.Transform.QUAD,
        tuple(local.flatten()),
        Image.Resampling.BILINEAR,
    )
    if oversize != size:
        warped = warped.resize((size, size), Image.Resampling.LANCZOS)
    return Crop(warped, quad, padded)


def _surroundings(
    image: Image.Image, quad: FloatArray, side: float
) -> tuple[Image.Image, FloatArray]:
    """The part of an image that the warp reads, extended where the frame leaves the image."""
    border = max(round(side * BORDER), LEAST_BORDER)
    low = np.floor(quad.min(axis=0)).astype(int) - border
    high = np.ceil(quad.max(axis=0)).astype(int) + border
    start, stop = np.maximum(low, 0), np.minimum(high, image.size)
    part = image.crop((int(start[0]), int(start[1]), int(stop[0]), int(stop[1])))
    missing = np.array([start - low, high - stop])  # (2, 2): before and after, x and y
    quad = quad - start
    if missing.max() <= border - SLACK:
        return part, quad
    missing = np.maximum(missing, round(side * PAD_MARGIN))
    return _extended(part, missing, side * PAD_BLUR), quad + missing[0]


def _extended(image: Image.Image, margins: npt.NDArray[np.int64], sigma: float) -> Image.Image:
    """Reflect an image outwards by (before, after) x (x, y) pixels; blurred, then of one colour."""
    (left, top), (right, bottom) = margins.tolist()
    source = np.asarray(image, dtype=np.float32)
    pixels = np.pad(source, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    height, width = pixels.shape[:2]
    # 1 at the new edge, 0 at the old one, below 0 further in.
    depth = np.maximum.outer(_rise(height, top, bottom), _rise(width, left, right))[..., None]
    blurred = np.asarray(
        _as_image(pixels).filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32
    )
    pixels += (blurred - pixels) * np.clip(1.0 + BLUR_RISE * depth, 0.0, 1.0)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(depth, 0.0, 1.0)
    return _as_image(pixels)


def _rise(length: int, before: int, after: int) -> npt.NDArray[np.float32]:
    place = np.arange(length)
    return np.maximum(1 - place / before, 1 - place[::-1] / after).astype(np.float32)


def _as_image(pixels: npt.NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
