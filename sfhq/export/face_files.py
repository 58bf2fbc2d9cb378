"""The files of one face in the published layout: photo, landmarks, classes, features."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfhq.errors import IntegrityError
from sfhq.faces.found import POINTS
from sfhq.faces.points import ARRAY as ALL_POINTS
from sfhq.images import Marks, encode_image, mark_of, source_type_xmp
from sfhq.marks import watermark
from sfhq.parts.folders import (
    FOREIGN_POINTS,
    IMPORTED,
    RENDER_FOLDER,
    SOURCE_TYPE,
    SYNTHETIC_FOLDER,
)
from sfhq.parts.lineage import faces_stage
from sfhq.parts.part import Part
from sfhq.parts.photos import read_mask, read_photo, read_pixels
from sfhq.parts.records import Array, FaceRecord, Pixels
from sfhq.synthesis.marking import marks_of

PHOTO_FOLDERS = (SYNTHETIC_FOLDER, RENDER_FOLDER)  # the first that a face has is exported
SOURCE = "source"  # stands for the source of an imported photo, which is not in the part
MASK_FOLDER = "segmentations"
RENDER_POINTS = "render_landmarks"  # array: (110, 3) x, y and a flag, known exactly
FEATURES = "features_"  # begins the names of arrays that hold a feature set
# What the published pickles call a feature set; others keep our name.
PUBLISHED_NAMES = {
    "clip": "CLIP_ViTL_14@336",
    "clip-vit-l-14": "CLIP_ViTL_14",
    "clip-rn50x64": "CLIP_ResNet50x64",
}
LAYOUT = ("images", "landmarks", MASK_FOLDER, "pretrained_features")

Row = Callable[[Part, str, FaceRecord], Array]  # reads the row of an array, as `Part.row`
Files = dict[str, Callable[[], bytes]]  # path below the export -> its bytes, made when asked for


def photo_folder(record: FaceRecord) -> str:
    """Where the photo of a face lies: a folder, or `SOURCE`; empty where it has none."""
    found = next((f for f in PHOTO_FOLDERS if f in record.hashes), "")
    if found or IMPORTED not in record.params:
        return found
    return "aligned" if "aligned" in record.hashes else SOURCE


def photo_mark(record: FaceRecord) -> str | None:
    """The digital source type of a face's photo; None where it is not known."""
    said = record.params.get(SOURCE_TYPE)
    known = mark_of(photo_folder(record))
    return known if known or not isinstance(said, str) else said


def photo_marks(part: Part, record: FaceRecord, size: tuple[int, int] | None = None) -> Marks:
    """What a generated photo says of the AI when it is encoded anew, as its stage marked it.

    A watermark survives JPEG, so it stays as it is in photos of the same size; of photos in
    another size it is written anew, where they can carry one.

    Args:
        part, record: the photo's.
        size: width and height to which it was resized; None where it was not.
    """
    if photo_folder(record) != SYNTHETIC_FOLDER:
        return Marks()
    settings = part.stage_info(faces_stage(part))["settings"]
    said = settings.get("marks")
    if not isinstance(said, dict):
        return Marks()
    version = ", ".join(f"{n} {str(settings.get(n, ''))[:16]}" for n in ("generator", "encoder"))
    payload = said.get("watermark")
    carried = None
    if isinstance(payload, str) and size is not None and min(size) >= watermark.LEAST_SIDE:
        carried = int(payload, 16)
    marks = Marks(str(said.get("system", "")), version, watermark=carried)
    return marks_of(record, marks) or marks


def photo_pixels(part: Part, record: FaceRecord) -> Pixels:
    """(H, W, 3) uint8 of the photo that is exported, verified.

    Raises:
        IntegrityError: missing, changed or unreadable.
    """
    folder = photo_folder(record)
    return read_photo(part, record) if folder == SOURCE else read_pixels(part, record, folder)


def face_files(part: Part, record: FaceRecord, stem: str, image_format: str, quality: int) -> Files:
    """The files that a face has, the photo last.

    Args:
        part: where it is read from.
        record: a face with a photo.
        stem: of the files' names.
        image_format: "jpg" or "png".
        quality: of JPEG.

    Raises:
        IntegrityError: when bytes are asked for that are missing or damaged in the part.
    """
    files: Files = {}
    points = landmark_arrays(part, record)
    if points:
        files[f"landmarks/{stem}.npz"] = lambda: npz(points)
    if MASK_FOLDER in record.hashes:
        files[f"{MASK_FOLDER}/{stem}.png"] = lambda: _classes(part, record)
    vectors = feature_arrays(part, record)
    if vectors:
        files[f"pretrained_features/{stem}.npz"] = lambda: npz(vectors)
        files[f"pretrained_features/{stem}.pickle"] = lambda: plain_pickle(vectors)
    kind = "JPEG" if image_format == "jpg" else "PNG"

    def photo() -> bytes:
        pixels, mark = photo_pixels(part, record), photo_mark(record)
        return encode_image(pixels, kind, mark, quality, photo_marks(part, record))

    files[f"images/{stem}.{image_format}"] = photo
    return files


def landmark_arrays(part: Part, record: FaceRecord, row: Row = Part.row) -> dict[str, Array]:
    """The landmarks of a face by their names in the .npz; empty where it has none.

    Args:
        part, record: the face.
        row: reads a row of an array; one that keeps the arrays of a shard saves time.

    Returns:
        `landmarks`, float32 pixels of the photo: (110, 2) of rendered heads and where the stage
        `landmark` placed them, and (68, 2) of `detect` else; of imported photos without any of
        these the points that came with them. With 110 comes `visibility`, (110,) uint8: 0 missing
        or outside, 1 hidden or inferred, 2 visible.
    """
    if RENDER_POINTS in record.rows and photo_folder(record) == RENDER_FOLDER:
        exact = np.asarray(row(part, RENDER_POINTS, record), np.float32)
        return {"landmarks": exact[:, :2], "visibility": exact[:, 2].astype(np.uint8)}
    if ALL_POINTS in record.rows:
        read = np.asarray(row(part, ALL_POINTS, record), np.float32)
        if np.isfinite(read[:, :2]).all():
            return {"landmarks": read[:, :2], "visibility": read[:, 2].astype(np.uint8)}
    name = POINTS if POINTS in record.rows else FOREIGN_POINTS
    if name not in record.rows:
        return {}
    points = np.asarray(row(part, name, record), np.float32)
    return {"landmarks": points} if np.isfinite(points).all() else {}


def feature_arrays(part: Part, record: FaceRecord) -> dict[str, Array]:
    """(1, D) of each feature set of a face, by its name in the published pickles."""
    found: dict[str, Array] = {}
    for array in sorted(record.rows):
        if array == "embedding":
            name = _encoder(part)
        elif array.startswith(FEATURES):
            name = array.removeprefix(FEATURES)
        else:
            continue
        vector = np.asarray(part.row(array, record), np.float32).reshape(1, -1)
        found.setdefault(PUBLISHED_NAMES.get(name, name), vector)
    return found


def _encoder(part: Part) -> str:
    settings = part.stage_info("embed").get("settings")
    name = settings.get("encoder") if isinstance(settings, dict) else None
    if not isinstance(name, str) or not name:
        raise IntegrityError(
            f"{part.root / 'records' / 'embed.json'}: damaged, names no encoder; "
            f"run: sfhq embed {part.root} --redo"
        )
    return name


def _classes(part: Part, record: FaceRecord) -> bytes:
    """The map of classes as greys that are the ids: the published files have no palette."""
    info = PngInfo()
    mark = photo_mark(record)
    if mark is not None:
        info.add_itxt("XML:com.adobe.xmp", source_type_xmp(mark).decode())
    buffer = io.BytesIO()
    ids = np.ascontiguousarray(read_mask(part, record, MASK_FOLDER), np.uint8)
    Image.fromarray(ids).save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()


def npz(arrays: dict[str, Array]) -> bytes:
    """An .npz whose bytes depend on its arrays alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in sorted(arrays.items()):
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), data.getvalue())
    return buffer.getvalue()


def plain_pickle(arrays: dict[str, Array]) -> bytes:
    """Arrays as the published pickles hold them: a dict, in protocol 2.

    It names numpy's arrays and dtypes and nothing else, so a reader that runs no code accepts it;
    and it names them as all versions of numpy since 1.0 know them.
    """
    data = pickle.dumps({k: np.ascontiguousarray(v) for k, v in arrays.items()}, 2)
    return data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)
