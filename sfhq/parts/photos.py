"""Between files and tensors: images of records as batches, tensors as uint8 images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfhq.errors import IntegrityError
from sfhq.images import BadImage
from sfhq.parts.part import SYNTHETIC_FOLDER, Part
from sfhq.parts.records import FaceRecord, Pixels
from sfhq.sources.ingest import source_of


def load_pixels(part: Part, folder: str, face_id: str) -> Pixels:
    """(H, W, 3) uint8 of an image that a stage wrote.

    Raises:
        IntegrityError: missing or unreadable.
    """
    path = part.image_path(folder, face_id)
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:
        raise IntegrityError(
            f"{path}: cannot be read ({type(error).__name__}); run the stage that made it "
            "again with --redo"
        ) from None


def photo_pixels(part: Part, record: FaceRecord) -> Pixels:
    """(H, W, 3) uint8 of what a record shows: its synthetic image, else aligned, else the source.

    Raises:
        IntegrityError: missing or unreadable.
    """
    for folder in (SYNTHETIC_FOLDER, "aligned"):
        if folder in record.hashes:
            return load_pixels(part, folder, record.face_id)
    try:
        with source_of(part) as source:
            return np.asarray(source.image(record))
    except BadImage as error:
        raise IntegrityError(f"{error}; put it back, or run: sfhq ingest --redo") from None


def load_images(part: Part, records: Sequence[FaceRecord], folder: str, size: int) -> Tensor:
    """(N, 3, size, size) in [-1, 1] of the records' images, reduced with a Lanczos filter."""
    arrays = []
    for record in records:
        image = Image.fromarray(load_pixels(part, folder, record.face_id))
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.LANCZOS)
        arrays.append(np.asarray(image))
    return to_tensor(np.stack(arrays))


def to_tensor(pixels: Pixels) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def to_pixels(images: Tensor) -> Pixels:
    """(N, 3, H, W) in [-1, 1] to (N, H, W, 3) uint8: clamp(x * 127.5 + 128)."""
    scaled = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    pixels: Pixels = scaled.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels
