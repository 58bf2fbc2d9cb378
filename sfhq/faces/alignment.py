"""FFHQ alignment: 68 landmarks to an upright square crop, with the way back.

Convention: points are (x, y) pixels with the origin at the centre of the top left pixel, so
an image of width w reaches from -0.5 to w - 0.5; a crop is described by its quad, the four
corners in the source image in the order top left, bottom left, bottom right, top right.

Source: the recipe of Karras et al. 2019, "A Style-Based Generator Architecture", appendix A
(the FFHQ dataset), restated here as mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

FloatArray = npt.NDArray[np.float64]

EYE_SCALE = 2.0
MOUTH_SCALE = 1.8
CENTRE_SHIFT = 0.1
BORDER = 0.1
PAD_MARGIN = 0.3
PAD_BLUR = 0.02


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
    left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    eyes = (left + right) / 2
    eye_to_eye = right - left
    eye_to_mouth = (points[48] + points[54]) / 2 - eyes
    axis = eye_to_eye + np.array([eye_to_mouth[1], -eye_to_mouth[0]])
    length = float(np.hypot(*axis))
    side = max(
        EYE_SCALE * float(np.hypot(*eye_to_eye)), MOUTH_SCALE * float(np.hypot(*eye_to_mouth))
    )
    if length < 1e-6 or side < 1e-6:
        raise ValueError("eyes and mouth coincide; wanted the landmarks of a face")
    x = axis / length * side
    y = np.array([-x[1], x[0]])
    centre = eyes + CENTRE_SHIFT * eye_to_mouth
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


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
    working, local = _crop_to(working, local, side)
    working, local = _pad_to(working, local, side)
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


def _bounds(quad: FloatArray) -> tuple[int, int, int, int]:
    low, high = np.floor(quad.min(axis=0)), np.ceil(quad.max(axis=0))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _crop_to(image: Image.Image, quad: FloatArray, side: float) -> tuple[Image.Image, FloatArray]:
    border = max(round(side * BORDER), 3)
    x0, y0, x1, y1 = _bounds(quad)
    box = (
        max(x0 - border, 0),
        max(y0 - border, 0),
        min(x1 + border, image.width),
        min(y1 + border, image.height),
    )
    if box[2] - box[0] < image.width or box[3] - box[1] < image.height:
        return image.crop(box), quad - np.array(box[:2])
    return image, quad


def _pad_to(image: Image.Image, quad: FloatArray, side: float) -> tuple[Image.Image, FloatArray]:
    border = max(round(side * BORDER), 3)
    x0, y0, x1, y1 = _bounds(quad)
    needed = (
        max(-x0 + border, 0),
        max(-y0 + border, 0),
        max(x1 - image.width + border, 0),
        max(y1 - image.height + border, 0),
    )
    if max(needed) <= border - 4:
        return image, quad
    margin = round(side * PAD_MARGIN)
    left, top, right, bottom = (max(n, margin) for n in needed)
    pixels = np.asarray(image, dtype=np.float32)
    pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    h, w = pixels.shape[:2]
    rows, columns = np.arange(h)[:, None], np.arange(w)[None, :]
    fade = np.maximum(
        1.0 - np.minimum(columns / left, (w - 1 - columns) / right),
        1.0 - np.minimum(rows / top, (h - 1 - rows) / bottom),
    )[..., None].astype(np.float32)
    blur_radius = side * PAD_BLUR
    blurred = np.asarray(
        Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(blur_radius)
        ),
        dtype=np.float32,
    )
    pixels += (blurred - pixels) * np.clip(fade * 3.0 + 1.0, 0.0, 1.0)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(fade, 0.0, 1.0)
    padded = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    return padded, quad + np.array([left, top])
