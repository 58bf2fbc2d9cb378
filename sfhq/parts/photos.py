"""The one reader of a part's photos: it checks the digest that was taken when a photo was made."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sfhq.errors import IntegrityError
from sfhq.images import BadImage
from sfhq.parts.files import read_file, require_plain, why
from sfhq.parts.folders import SYNTHETIC_FOLDER
from sfhq.parts.records import FaceRecord, Pixels

if TYPE_CHECKING:
    from torch import Tensor

    from sfhq.parts.part import Part

MOST_IMAGE = 256 * 2**20  # bytes of a file
PHOTO_FOLDERS = (SYNTHETIC_FOLDER, "aligned")  # the first that a face has is its photo


def image_bytes(part: Part, record: FaceRecord, folder: str) -> bytes:
    """The bytes of an image file that a stage wrote.

    Args:
        part: the part.
        record: the face.
        folder: of the part, such as "images".

    Raises:
        IntegrityError: the face has none there, or the file is missing or was changed.
    """
    path = part.image_path(folder, record.face_id)
    wanted = record.hashes.get(folder)
    if wanted is None:
        raise IntegrityError(f"{part.root}: face {record.face_id} has no image in {folder}/")
    try:
        data = read_file(path, MOST_IMAGE)
    except FileNotFoundError:
        raise IntegrityError(
            f"{path}: missing; run the stage that made it again with --redo"
        ) from None
    except OSError as error:
        raise IntegrityError(
            f"{path}: {why(error)}; put the image back, or run the stage that made it again with "
            "--redo"
        ) from None
    if hashlib.sha256(data).hexdigest() != wanted:
        raise IntegrityError(
            f"{path}: not the file that was written here (sha256 differs); put it back, or run the "
            "stage that made it again with --redo"
        )
    return data


def require_image(part: Part, record: FaceRecord, folder: str) -> None:
    """Refuse a face whose image is not there; does not read it.

    Raises:
        IntegrityError: missing, or no regular file.
    """
    path = part.image_path(folder, record.face_id)
    try:
        require_plain(path)
    except OSError as error:
        raise IntegrityError(
            f"{path}: {why(error)}; run the stage that made it again with --redo"
        ) from None


def read_pixels(part: Part, record: FaceRecord, folder: str) -> Pixels:
    """(H, W, 3) uint8 of an image that a stage wrote, verified.

    Raises:
        IntegrityError: as `image_bytes`, or it cannot be decoded.
    """
    global _last_pixels
    data, digest = image_bytes(part, record, folder), record.hashes[folder]
    last = _last_pixels  # another thread may replace it
    if last is None or last[0] != digest:
        last = digest, np.asarray(_decode(part, record, folder, data).convert("RGB"))
        _last_pixels = last
    return last[1]


_last_pixels: tuple[str, Pixels] | None = None  # read-only; stages in step read a photo in turn


def read_mask(part: Part, record: FaceRecord, folder: str) -> Pixels:
    """(H, W) uint8 ids of a map of classes that a stage wrote, verified.

    Raises:
        IntegrityError: as `image_bytes`, or it cannot be decoded.
    """
    return np.asarray(_decode(part, record, folder, image_bytes(part, record, folder)))


def _decode(part: Part, record: FaceRecord, folder: str, data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        image.load()
        return image
    except Exception as error:
        path = part.image_path(folder, record.face_id)
        raise IntegrityError(
            f"{path}: cannot be read ({type(error).__name__}); run the stage that made it "
            "again with --redo"
        ) from None


def photo_folder(record: FaceRecord) -> str | None:
    """Where the photo of a face lies: synthetic, else aligned; None where only the source is."""
    return next((f for f in PHOTO_FOLDERS if f in record.hashes), None)


def photo_digest(record: FaceRecord) -> str:
    """sha256 of the file that `read_photo` reads."""
    folder = photo_folder(record)
    return record.source_sha256 if folder is None else record.hashes[folder]


def read_photo(part: Part, record: FaceRecord) -> Pixels:
    """(H, W, 3) uint8 of what a record shows: its synthetic image, else aligned, else the source.

    Raises:
        IntegrityError: missing, changed or unreadable.
    """
    from sfhq.parts.source import source_of

    folder = photo_folder(record)
    if folder is not None:
        return read_pixels(part, record, folder)
    try:
        with source_of(part) as source:
            return np.asarray(source.image(record))
    except BadImage as error:
        raise IntegrityError(f"{error}; put it back, or run: sfhq ingest --redo") from None


def require_photos(part: Part) -> None:
    """Refuse a part whose photos lie in a source that is not there any more.

    Raises:
        UsageError: the source is not there.
    """
    from sfhq.parts.source import source_of

    written = {name for stage in part.stages() for name in part.stage_info(stage)["writes"]}
    if not written & {*PHOTO_FOLDERS}:
        with source_of(part):
            pass


def load_images(part: Part, records: Sequence[FaceRecord], folder: str, size: int) -> Tensor:
    """(N, 3, size, size) in [-1, 1] of the records' images, reduced with a Lanczos filter.

    Raises:
        IntegrityError: as `read_pixels`.
    """
    from sfhq.tensors import to_tensor

    arrays = []
    for record in records:
        image = Image.fromarray(read_pixels(part, record, folder))
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.LANCZOS)
        arrays.append(np.asarray(image))
    return to_tensor(np.stack(arrays))
