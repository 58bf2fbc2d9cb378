"""dlib's face recognition network: the embedding that every installation has.

128 numbers a face; faces of one person lie within a Euclidean distance of about 0.6. The network is
computed by PyTorch, eight times as fast as by dlib; its numbers differ from dlib's by 5e-7.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from sfhq.faces.alignment import FloatArray
from sfhq.faces.detector import FaceDetector, best_face
from sfhq.faces.dlib_models import RECOGNITION, dlib_module, model_digest
from sfhq.faces.fit import points_in
from sfhq.faces.identity import recognition
from sfhq.parts.records import Array, Pixels

CHIP_SIZE = 150
CHIP_PADDING = 0.25
SPAN = (
    200.0  # pixels that a face's points measure before the chip is cut: dlib rounds them to whole
)
MARGIN = 1.0  # spans kept around the points; the chip reaches half as far
PLACED_SIZE = 256


def recognition_digest() -> str:
    """sha256 of what decides an embedding: the weights, and how the face is found and cut.

    Raises:
        SfhqError: dlib or its weights are not installed.
    """
    decides = {
        "weights": model_digest(RECOGNITION),
        "chip": [CHIP_SIZE, CHIP_PADDING, SPAN, MARGIN, PLACED_SIZE],
        **FaceDetector().settings(),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def describe_faces(
    images: list[Pixels], points: Sequence[FloatArray | None] | None = None
) -> tuple[Array, Array]:
    """Embed aligned faces.

    Where no face is known, the place where alignment puts it serves instead, so that every
    image gets an embedding.

    Args:
        images: (H, W, 3) uint8 RGB, FFHQ-aligned, any size.
        points: what a detection found before, one an image: (68, 2) iBUG points in pixels of
            that image, or None (or NaN) where it found no face. The images are not searched
            again then. Without it each image is searched by `FaceDetector`.

    Returns:
        (N, 128) float32 embeddings, and (N,) bool whether a face was found.

    Raises:
        ValueError: not one entry of points an image, or not (68, 2).
        SfhqError: dlib or its weights are not installed.
    """
    if points is not None and len(points) != len(images):
        raise ValueError(f"{len(points)} sets of points for {len(images)} images; wanted one each")
    network = recognition(torch.device("cpu")).network
    embeddings = np.zeros((len(images), 128), dtype=np.float32)
    found = np.zeros(len(images), dtype=bool)
    for index, pixels in enumerate(images):
        known = _searched(pixels) if points is None else points[index]
        if known is not None and not np.isfinite(known).all():
            known = None
        found[index] = known is not None
        chip = face_chip(pixels, _usual_points(pixels) if known is None else known)
        with torch.inference_mode():  # one by one, so that a batch does not change the bits
            row = network(torch.from_numpy(chip).permute(2, 0, 1)[None].float())
        embeddings[index] = row[0].numpy()
    return embeddings, found


def face_chip(pixels: Pixels, points: FloatArray) -> Pixels:
    """The upright (150, 150, 3) uint8 cut of a face that the network looks at.

    The surroundings of the points are first brought to one size, so that the chip is the same
    whatever the size of the image, and dlib's whole pixels are small.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        points: (68, 2) iBUG points in pixels of the image.

    Raises:
        ValueError: another shape of points, or points that lie in one place.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.shape != (68, 2):
        raise ValueError(f"points have shape {points.shape}; wanted (68, 2)")
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).mean())
    if span < 1.0:
        raise ValueError("points lie in one place; wanted the landmarks of a face")
    height, width = pixels.shape[:2]
    limits = np.array([width, height])
    start = np.clip(np.floor(low - MARGIN * span), 0, limits - 1).astype(int)
    stop = np.clip(np.ceil(high + MARGIN * span) + 1, start + 1, limits).astype(int)
    size = np.maximum(np.round((stop - start) * SPAN / span), 1).astype(int)
    part = np.ascontiguousarray(pixels[start[1] : stop[1], start[0] : stop[0]])
    image = Image.fromarray(part).resize((int(size[0]), int(size[1])), Image.Resampling.BICUBIC)
    local = (points - start + 0.5) * (size / (stop - start)) - 0.5
    dlib = dlib_module()
    marks = [dlib.point(int(x), int(y)) for x, y in np.rint(local)]
    whole = dlib.rectangle(0, 0, int(size[0]) - 1, int(size[1]) - 1)
    shape = dlib.full_object_detection(whole, marks)
    return np.asarray(
        dlib.get_face_chip(np.asarray(image), shape, CHIP_SIZE, CHIP_PADDING), dtype=np.uint8
    )


def _searched(pixels: Pixels) -> FloatArray | None:
    face = best_face(FaceDetector().detect(Image.fromarray(pixels)))
    return None if face is None else face.landmarks


def _usual_points(pixels: Pixels) -> FloatArray:
    """Points where HOG's box lies in an FFHQ crop: the median over aligned photos, as shares."""
    square = Image.fromarray(pixels).resize((PLACED_SIZE, PLACED_SIZE), Image.Resampling.BICUBIC)
    low_x, low_y, high_x, high_y = (PLACED_SIZE * share for share in (0.20, 0.28, 0.80, 0.88))
    placed = points_in(np.asarray(square), (low_x, low_y, high_x, high_y))
    scale = np.array([pixels.shape[1], pixels.shape[0]]) / PLACED_SIZE
    points: FloatArray = (placed + 0.5) * scale - 0.5
    return points
