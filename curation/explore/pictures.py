"""What the page shows of a face as JPEG: small pictures, photos, labels over them, single parts."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from PIL import Image

from curation.explore.collection import Collection
from curation.explore.turns import Turns
from sfhq.errors import SfhqError, UsageError
from sfhq.faces.classes import FACE, ID
from sfhq.parts.photos import image_bytes, photo_folder, read_mask, read_photo, read_pixels
from sfhq.parts.records import Array, FaceRecord, Pixels
from sfhq.stages import reader

MASKS, POINTS = "segmentations", "landmarks_110"
DIM = 0.35  # what is left of the light outside a part, as in the original script
MOST_BYTES = 64 * 2**20  # of small pictures in memory
SIZES = (64, 96, 160, 256)  # of small pictures
SIDES = (512, 1024)  # of photos
LARGE = 24  # photos kept in memory
AT_ONCE = 2  # pictures made at a time, so that searches find a free core


def _ids(*names: str) -> tuple[int, ...]:
    return tuple(ID[n] for n in names)


# Parts of a face that can stand out, by the name that the page uses.
ISOLATIONS: Mapping[str, tuple[int, ...]] = {
    "face": FACE,
    "skin": _ids("skin"),
    "features": _ids("l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip"),
    "face and hair": (*FACE, *_ids("hair")),
    "hair and hat": _ids("hair", "hat"),
    "surroundings": _ids("background", "neck", "neck_l", "cloth"),
    "hair": _ids("hair"),
    "eyes": _ids("l_eye", "r_eye", "eye_g"),
    "brows": _ids("l_brow", "r_brow"),
    "nose": _ids("nose"),
    "mouth": _ids("mouth", "u_lip", "l_lip"),
    "ears": _ids("l_ear", "r_ear", "ear_r"),
    "glasses": _ids("eye_g"),
    "neck": _ids("neck", "neck_l"),
    "clothes": _ids("cloth"),
}


def isolated(photo: Pixels, mask: Pixels, classes: tuple[int, ...]) -> Pixels:
    """A photo whose other classes are darkened to `DIM`.

    Args:
        photo: (H, W, 3) uint8.
        mask: (h, w) uint8 ids; scaled to the photo where it is smaller.
        classes: ids that stay bright.
    """
    if mask.shape != photo.shape[:2]:
        size = photo.shape[1], photo.shape[0]
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    dark = (photo * DIM).astype(np.uint8)
    return np.where(np.isin(mask, classes)[..., None], photo, dark)


class Pictures:
    """Pictures of a collection, each read from its file and verified. Threads may share it.

    Args:
        faces: the faces.
        turns: when a picture may be made; None for a few at a time.
    """

    def __init__(self, faces: Collection, turns: Turns | None = None) -> None:
        self.faces, self.turns = faces, turns or Turns(AT_ONCE)
        self._small: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._large: OrderedDict[tuple[int, str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def small(self, i: int, size: int) -> bytes:
        """A JPEG of a face, `size` pixels at most; empty where its file is missing or damaged.

        Raises:
            UsageError: no face has that number.
        """
        size = next((s for s in SIZES if s >= size), SIZES[-1])
        with self._lock:
            if (i, size) in self._small:
                self._small.move_to_end((i, size))
                return self._small[i, size]
        record = self.faces.photo_record(i)
        try:
            with self.turns.drawing():
                data = _jpeg(_shrunk(self.faces, i, record, size), 84)
        except UsageError:
            raise
        except SfhqError:
            data = b""
        with self._lock:
            if (i, size) not in self._small:
                self._small[i, size] = data
                self._bytes += len(data)
            while self._bytes > MOST_BYTES:
                self._bytes -= len(self._small.popitem(last=False)[1])
        return data

    def layers(self, i: int) -> list[str]:
        """What there is to see of a face: "photo", "inspiration", "masks", "points", and parts."""
        record = self.faces.record(i)
        found = ["photo"]
        if self.inspiration(record) is not None:
            found.append("inspiration")
        if POINTS in record.rows:
            found.append("points")
        if MASKS in record.hashes:
            found.append("masks")
            found += [f"only {name}" for name in ISOLATIONS]
        return found

    @staticmethod
    def inspiration(record: FaceRecord) -> FaceRecord | None:
        """The record by which the crop that a face was inspired by is read; None without one."""
        if photo_folder(record) != "images" or "aligned" not in record.hashes:
            return None
        return replace(record, face_id=record.parent_id or record.face_id)

    def photo(self, i: int, layer: str, size: int) -> bytes:
        """A JPEG of a face with a layer of `layers`, `size` pixels at most.

        Raises:
            UsageError: no such face or layer.
            IntegrityError: a file is missing or was changed.
        """
        size = next((s for s in SIDES if s >= size), SIDES[-1])
        key = i, layer, size
        with self._lock:
            if key in self._large:
                self._large.move_to_end(key)
                return self._large[key]
        with self.turns.drawing():
            data = _jpeg(self._drawn(i, layer, size), 92)
        with self._lock:
            self._large[key] = data
            while len(self._large) > LARGE:
                self._large.popitem(last=False)
        return data

    def _drawn(self, i: int, layer: str, size: int) -> Image.Image:
        record, part = self.faces.record(i), self.faces.part(i)
        if layer not in self.layers(i):
            stage = {"points": "landmark", "inspiration": "synthesize"}.get(layer, "parse")
            raise UsageError(
                f"{layer[:40]!r}: face {record.face_id} has none; run: sfhq {stage} {part.root}"
            )
        if layer == "inspiration":
            found = self.inspiration(record)
            assert found is not None
            return _fitted(read_pixels(part, found, "aligned"), size)
        photo = read_photo(part, record)
        if layer == "photo":
            return _fitted(photo, size)
        mask = None if layer == "points" else read_mask(part, record, MASKS)
        if layer.startswith("only "):
            assert mask is not None
            return _fitted(isolated(photo, mask, ISOLATIONS[layer.removeprefix("only ")]), size)
        points: Array | None = part.row(POINTS, record) if layer == "points" else None
        if mask is not None and mask.shape != photo.shape[:2]:
            wide = photo.shape[1], photo.shape[0]
            mask = np.asarray(Image.fromarray(mask).resize(wide, Image.Resampling.NEAREST))
        drawn: Image.Image = reader("overlay")(photo, mask, points, min(size, 1024))
        return drawn


def _shrunk(faces: Collection, i: int, record: FaceRecord, size: int) -> Image.Image:
    """A small picture of a photo."""
    part, folder = faces.part(i), photo_folder(record)
    if folder is None:
        return _fitted(read_photo(part, record), size)
    data = image_bytes(part, record, folder)
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        return _fitted(np.asarray(image.convert("RGB")), size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SfhqError(str(error)) from None


def _fitted(pixels: Pixels, size: int) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
